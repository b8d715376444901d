"""The command `run`: a flow of the user's, with arguments from the command line.

`add` is called by the command line as it makes its parser.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import railtracks as rt
from railtracks._nodes.making import made_node
from railtracks._options import DecoratorOptions, FlowOptions
from railtracks._records.scrubbing import Scrubber
from railtracks._sessions.decorator import store_option_of, with_options
from railtracks._sessions.flow import flow_like
from railtracks.cli._arguments import Commands, add_settings, add_target, seconds
from railtracks.cli._going_on import GoOn
from railtracks.cli._inputs import Inputs, context_from, inputs_from_json, inputs_from_words, setting_words
from railtracks.cli._output import WRONG_USE, CommandError, typed
from railtracks.cli._places import store_url
from railtracks.cli._runs import Run, SessionRun, add_telling, run_to_end
from railtracks.cli._targets import TARGET_HELP, SessionFunction, load

_EXAMPLES: Final = """\
examples:
  railtracks run flows.py                              the only flow of a file
  railtracks run flows.py:report Ada count=3           arguments, in order and by name
  railtracks run shop.flows:nightly --input @in.json   arguments from a file; the module is found from here
  railtracks run --timeout 60 --json flows.py:report Ada | jq .result
  railtracks run --watch --set user=ada flows.py       with a picture of its calls, and a value in the context
  railtracks run flows.py:login password=env:PASSWORD  a secret, which no argument may hold
  railtracks run --session-id order-17 flows.py:order  of a durable flow: begins this session, or goes on with it

Options stand before TARGET; all words behind it are the flow's. A word NAME=VALUE is an argument by name if the flow
has such a parameter. A value is read as its annotation says: str as it is, int, float, bool (true, false), Path,
datetime, the name of an Enum; everything else is JSON. stdout has the result only: what the flow prints, its log and
what it broadcasts go to stderr.

exit codes: 0 completed, 1 failed or cancelled, 2 wrong use or the import failed, 4 waiting or interrupted (it can go
on), 5 owned by another process, 124 timed out; Ctrl-C and SIGTERM end the process by that signal, after the cleanup.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "run",
        help="run a flow of yours",
        description="Run a flow, a node or a function with @rt.session in a new session, and print its result.",
        usage="railtracks run [OPTION ...] TARGET [VALUE | NAME=VALUE ...]",
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Everything from the first word on that is no option, as for a subcommand. With a REMAINDER behind another argument
    # argparse would take a `--` for its own.
    add_target(command, f"{TARGET_HELP}; and the arguments of the flow", nargs=argparse.PARSER)
    command.add_argument(
        "--input", metavar="JSON|@FILE|@-", help="all arguments as a JSON object or array, in place of the words"
    )
    command.add_argument("--json", action="store_true", help="print a JSON object that tells of the run and its result")
    command.add_argument("--timeout", metavar="SECONDS", type=seconds, help="stop everything after this time")
    command.add_argument("--name", metavar="NAME", help="the name of the session, and of its saved state")
    add_settings(command, "a value of the context")
    command.add_argument(
        "--durable", metavar="URL", type=store_url, help="keep the session in this store, so that it can be resumed"
    )
    command.add_argument(
        "--session-id", metavar="ID", help="the identifier of a durable session; if there is one, it is resumed"
    )
    add_telling(command)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    arguments.target, *arguments.words = arguments.target
    if arguments.input is not None and arguments.words:
        raise CommandError(WRONG_USE, "give the arguments either as words or by --input, not both")
    context = context_from(arguments.settings)
    found = load(arguments.target)
    if found.flow is not None:
        run, begin, go_on = _flow_run(found.flow, arguments, context)
    else:
        assert found.session_function is not None  # noqa: S101 - it is one of the two
        run, begin, go_on = _session_run(found.session_function, arguments, context)
    return run_to_end(run, begin, go_on, arguments)


def _flow_run(
    flow: rt.Flow[..., object], arguments: argparse.Namespace, context: dict[str, object]
) -> tuple[Run, Callable[[], object], GoOn]:
    args, kwargs = _inputs(made_node(flow.entry_point).fn, arguments)
    options: FlowOptions = {}
    if arguments.timeout is not None:
        options["timeout"] = arguments.timeout
    if arguments.durable is not None:
        options["durable"] = arguments.durable
    try:
        changed = flow_like(flow.update_context(context), arguments.name, options)
        run = changed.connect(session_id=arguments.session_id)
    except (ValueError, ImportError) as error:
        raise CommandError(WRONG_USE, str(error)) from error
    return run, partial(run.invoke, *args, **kwargs), GoOn(partial(_resume, arguments), changed.store)


def _session_run(
    function: SessionFunction, arguments: argparse.Namespace, context: dict[str, object]
) -> tuple[Run, Callable[[], object], GoOn]:
    args, kwargs = _inputs(function, arguments)
    given = {
        "timeout": arguments.timeout,
        "durable": arguments.durable,
        "name": arguments.name,
        "session_id": arguments.session_id,
    }
    options = cast("DecoratorOptions", {name: value for name, value in given.items() if value is not None})
    try:
        changed = with_options(function, context, options)
    except (ValueError, ImportError) as error:
        raise CommandError(WRONG_USE, str(error)) from error
    run = SessionRun(changed)
    return run, partial(run.invoke, *args, **kwargs), GoOn(partial(_again, arguments), store_option_of(changed))


def _inputs(fn: Callable[..., object], arguments: argparse.Namespace) -> Inputs:
    if arguments.input is not None:
        return inputs_from_json(fn, arguments.input)
    return inputs_from_words(fn, arguments.words)


def _resume(arguments: argparse.Namespace, session_id: str) -> str:
    store = [] if arguments.durable is None else ["--store", Scrubber().text(arguments.durable)]
    return typed("resume", *store, *setting_words(arguments), arguments.target, session_id=session_id)


def _again(arguments: argparse.Namespace, session_id: str) -> str:
    """Return the command that runs the target again, with all that no store has, so that it goes on with a session."""
    store = None if arguments.durable is None else Scrubber().text(arguments.durable)
    given = [("--durable", store), ("--input", arguments.input), ("--name", arguments.name)]
    options = [word for option, value in given if value is not None for word in (option, value)]
    options += setting_words(arguments)
    return shlex.join(["railtracks", "run", *options, f"--session-id={session_id}", arguments.target, *arguments.words])
