"""The commands `resume` and `retry`: a session of a store goes on, with the user's code.

`add` is called by the command line as it makes its parser. `retry` imports code of users only with `--run`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import railtracks as rt
from railtracks._archive import SessionSummary
from railtracks._foreign_text import plain
from railtracks._sessions.flow import flow_like
from railtracks.cli._arguments import Commands, add_session, add_settings, add_target, seconds
from railtracks.cli._going_on import GoOn
from railtracks.cli._inputs import SETTINGS_HELP, context_from, setting_words
from railtracks.cli._output import WRONG_USE, CommandError, complain, put, put_json, typed
from railtracks.cli._runs import add_telling, run_to_end
from railtracks.cli._stores import KEY_NOTE, add_command, go_on_line, place_of, refusals, stored
from railtracks.cli._targets import TARGET_HELP, load_flow

if TYPE_CHECKING:
    from railtracks.durable import DurableStore

_RESUME_EXAMPLES: Final = f"""\
examples:
  railtracks resume flows.py:orders order-17        the session goes on from its record
  railtracks resume shop.flows order-17 --wait 60   wait for a process that runs it
  railtracks resume flows.py:orders order-17 --set user=ada

The store is that of the flow, or the one that --store, $RAILTRACKS_STORE or --home names. Of a session that is over the
recorded result is printed. stdout and exit codes are those of `railtracks run`.
{KEY_NOTE}"""
_RETRY_EXAMPLES: Final = f"""\
examples:
  railtracks retry order-17                        open it again; recover or resume runs it
  railtracks retry order-17 --run flows.py:orders  and run it here

The calls that failed last run again, with their idempotency keys. All else that is recorded stays.
{KEY_NOTE}"""


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    resume = add_command(
        commands,
        "resume",
        "go on with a session in a store",
        "Resume a session of a durable flow, and print its result.",
        _RESUME_EXAMPLES,
    )
    add_target(resume, TARGET_HELP)
    add_session(resume, "id")
    resume.add_argument(
        "--wait", metavar="SECONDS", type=seconds, default=0.0, help="how long to wait for a process that runs it"
    )
    add_settings(resume, SETTINGS_HELP)
    add_telling(resume)
    resume.set_defaults(command=_resume)
    retry = add_command(
        commands,
        "retry",
        "open a failed session again",
        "Open a session again that has failed or timed out.",
        _RETRY_EXAMPLES,
    )
    add_session(retry, "id")
    retry.add_argument("--run", metavar="TARGET", help=f"resume it at once: {TARGET_HELP}")
    add_settings(retry, f"with --run: {SETTINGS_HELP}")
    add_telling(retry)
    retry.set_defaults(command=_retry)


def _resume(arguments: argparse.Namespace) -> int:
    context = context_from(arguments.settings)
    flow = load_flow(arguments.target).update_context(context)
    summary, store = stored(arguments, arguments.id, flow.store)
    run = _like_begun(flow, summary, store).connect()
    begin = partial(run.resume, summary.session_id, wait=arguments.wait)
    go_on = GoOn(_resuming(arguments, arguments.target), store)
    return run_to_end(run, begin, go_on, arguments)


def _retry(arguments: argparse.Namespace) -> int:
    # First: code that cannot be imported must not leave the session opened again.
    target: str = arguments.run or ""
    context = context_from(arguments.settings)
    if not target and (context or arguments.watch or arguments.full_traceback):
        raise CommandError(WRONG_USE, "--set, --watch and --full-traceback are for the flow of --run")
    flow = load_flow(target).update_context(context) if target else None
    summary, store = stored(arguments, arguments.id, None if flow is None else flow.store)
    with refusals():
        store.retry(summary.session_id)
    if flow is not None:
        run = _like_begun(flow, summary, store).connect()
        begin = partial(run.resume, summary.session_id)
        go_on = GoOn(_resuming(arguments, target), store)
        return run_to_end(run, begin, go_on, arguments)
    if arguments.json:
        return put_json({"session_id": summary.session_id, "status": "interrupted"})
    written = put(f"session {plain(summary.session_id)} is open again\n")
    complain(f"go on with it:  {go_on_line(summary.session_id, place_of(summary))}")
    return written


def _like_begun(flow: rt.Flow[..., object], summary: SessionSummary, store: DurableStore) -> rt.Flow[..., object]:
    """Return a flow whose sessions are in a store and have the name of one there: its state is saved under that."""
    return flow_like(flow, summary.name, {"durable": store})


def _resuming(arguments: argparse.Namespace, target: str) -> Callable[[str], str]:
    """Return a function from the identifier of a session to the command that resumes it."""
    stores = [word for each in arguments.store for word in ("--store", each)]
    words = [*stores, *setting_words(arguments), target]
    return lambda session_id: typed("resume", *words, session_id=session_id)
