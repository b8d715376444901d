"""The command line: parse the arguments, run a command, and return an exit code.

Called by the script `railtracks` and by `python -m railtracks`. Each command has a module, whose `add` tells the parser
of it and whose function does it.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final

import railtracks as rt
from railtracks._archive import NoSessionError, SessionSummary
from railtracks._foreign_text import plain
from railtracks.cli import (
    _backup,
    _completion,
    _delete,
    _demo,
    _diff,
    _export,
    _list,
    _recover,
    _resume,
    _run,
    _show,
    _signal,
    _store_sessions,
    _tail,
    _viz,
)
from railtracks.cli._arguments import Parser
from railtracks.cli._output import (
    FAILED,
    INTERRUPTED,
    NO_SESSION,
    TERMINATED,
    WRONG_USE,
    CommandError,
    complain,
    die_by,
    put,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments. If none are given, these are those of the program, which then dies by SIGINT after
            Ctrl-C, and by SIGTERM after that.

    Returns:
        The exit code: 0; 1 after a failure, if there is a difference or damage, or if stdout cannot be written; 2 for
        wrong use, if a store that is named cannot be looked at, or if the user's code cannot be imported; 3 if there is
        no such session, or there are several; 4 if the session waits or was interrupted, and can go on; 5 if another
        process runs it; 124 after a timeout; 130 after Ctrl-C; 141 if the program that reads stdout has ended; 143
        after SIGTERM.

    Raises:
        SystemExit: From argparse, if the arguments are wrong, with code 2; and after `--help` and `--version`.
    """
    code = _code(list(sys.argv[1:] if argv is None else argv))
    if argv is None and code in _SIGNALS:
        die_by(_SIGNALS[code])
    return code


_SIGNALS: Final = {INTERRUPTED: signal.SIGINT, TERMINATED: signal.SIGTERM}


def _code(words: list[str]) -> int:
    parser = _parser()
    if words[:2] == ["demo", "agents"]:
        words[:2] = [_demo.AGENTS]
    try:
        arguments = parser.parse_args(words)
    except SystemExit:
        # What argparse has printed may still be in the buffer.
        if code := put(""):
            return code
        raise
    command: Callable[[argparse.Namespace], int] | None = arguments.command
    if command is None:
        complain(parser.format_help())
        return WRONG_USE
    try:
        return command(arguments)
    except KeyboardInterrupt:
        text, code = "railtracks: interrupted", INTERRUPTED
    except CommandError as error:
        text, code = str(error) if error.has_name else f"railtracks: {error}", error.code
    except NoSessionError as error:
        text, code = f"railtracks: {plain(str(error))}{''.join(map(_candidate, error.candidates))}", NO_SESSION
    except (rt.StateError, rt.StoreError, rt.SessionUnavailableError) as error:
        text, code = f"railtracks: {plain(str(error))}", FAILED
    complain(text)
    return code


def _candidate(session: SessionSummary) -> str:
    return f"\n  {plain(session.session_id)}  {session.status}  {plain(session.name or session.flow_name or '')}"


def _parser() -> Parser:
    parser = Parser(
        prog="railtracks",
        description="Agentic workflows on Trio.",
        epilog=f"{_demo.EXAMPLES}\n`railtracks COMMAND --help` has the options of a command, and examples.\n",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"railtracks-trio {rt.__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (_demo, _run, _list, _show, _tail, _diff, _export, _viz):
        module.add(commands)
    for module in (_resume, _recover, _signal, _store_sessions, _delete, _backup):
        module.add(commands)
    _completion.add(commands, parser)
    return parser
