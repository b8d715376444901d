"""The command line: parse the arguments, run a command, and return an exit code.

Called by the script `railtracks` and by `python -m railtracks`.
"""

import argparse
import os
import signal
import sys
import sysconfig
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import railtracks as rt
from railtracks import demo

if TYPE_CHECKING:
    from railtracks.demo_agents import Research

_EXAMPLES: Final = """\
examples:
  railtracks demo                        the standard library of the running Python
  railtracks demo src --limit 4          a folder of yours, four files at a time
  railtracks demo --timeout 0.5          stop everything after half a second
  railtracks demo agents                 agents that research a question, from a script or with your key
"""
_AGENTS_EXAMPLES: Final = """\
examples:
  railtracks demo agents                           the question of the example
  railtracks demo agents --scripted                from a script, also where there is a key
  railtracks demo agents "How are files locked?"   a question of yours, for a real model
  railtracks demo agents --resume ID --approve     go on with a session that waits for a decision

With a key in $OPENAI_API_KEY or $ANTHROPIC_API_KEY the agents ask that provider, and the run costs some cents; a budget
of 60 requests and 200,000 tokens stops it. Without a key they play a script. The session is kept in the store of home
($RAILTRACKS_HOME, or the nearest folder .railtracks). Needs: pip install 'railtracks-trio[agents,durable]', and the
extra openai or anthropic for a real model.
"""
_DEMO_NOTES: Final = f"""\
{_EXAMPLES}
The run is saved in $RAILTRACKS_HOME, or if that is not set in the nearest folder .railtracks. On a terminal a progress
bar is shown if the extra cli is installed: pip install 'railtracks-trio[cli]'.
"""

# How the parser knows `demo agents`: a folder of that name is `./agents`.
_AGENTS: Final = "demo-agents"

_FAILED: Final = 1
_WRONG_USE: Final = 2
# The session waits for a person.
_WAITING: Final = 4
# What a shell reports of a program that a signal has ended.
_INTERRUPTED: Final = 128 + signal.SIGINT
_READER_IS_GONE: Final = 141
_TERMINATED: Final = 128 + signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments, ``sys.argv[1:]`` if not given.

    Returns:
        The exit code: 0; 1 after a failure, or if stdout cannot be written; 2 for wrong use; 4 if the session waits;
        130 after Ctrl-C; 141 if the program that reads stdout has ended; 143 after SIGTERM.

    Raises:
        SystemExit: From argparse, if the arguments are wrong, with code 2; and after `--help` and `--version`.
    """
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:2] == ["demo", "agents"]:
        words[:2] = [_AGENTS]
    try:
        arguments = parser.parse_args(words)
    except SystemExit:
        # What argparse has printed may still be in the buffer.
        if code := _put(""):
            return code
        raise
    command: Callable[[argparse.Namespace], int] | None = arguments.command
    if command is None:
        _complain(parser.format_help())
        return _WRONG_USE
    try:
        return command(arguments)
    except KeyboardInterrupt:
        _complain("railtracks: interrupted")
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="railtracks",
        description="Agentic workflows on Trio.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"railtracks-trio {rt.__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    command = commands.add_parser(
        "demo",
        help="survey the Python source files of a folder",
        description="Find the Python files below a folder, parse them in worker threads, and sum up what they hold.",
        epilog=_DEMO_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=_folder,
        default=sysconfig.get_path("stdlib"),
        help="the folder (default: %(default)s)",
    )
    command.add_argument(
        "--limit", metavar="N", type=_count, default=8, help="files surveyed at a time (default: %(default)s)"
    )
    command.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="stop everything after this time (default: none)"
    )
    command.set_defaults(command=_demo)
    agents = commands.add_parser(
        _AGENTS,
        prog="railtracks demo agents",
        description="A planner, workers with tools, a writer and a checker research a question, and wait for you.",
        epilog=_AGENTS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    agents.add_argument("question", metavar="QUESTION", nargs="?", help="the question")
    agents.add_argument("--scripted", action="store_true", help="play the script, also where there is a key")
    agents.add_argument("--resume", metavar="ID", help="go on with a session that waits")
    agents.add_argument(
        "--approve", action=argparse.BooleanOptionalAction, help="what you decide (default: ask, on a terminal)"
    )
    agents.set_defaults(command=_demo_agents)
    return parser


def _demo_agents(arguments: argparse.Namespace) -> int:
    from railtracks import demo_agents  # noqa: PLC0415 - it imports `rt.llm`, which no other command needs

    models = demo_agents.scripted if arguments.scripted else demo_agents.models_here()
    if models is demo_agents.scripted and arguments.question is not None:
        _complain(
            "railtracks: the script answers one question only: leave yours out, or set $OPENAI_API_KEY or"
            " $ANTHROPIC_API_KEY"
        )
        return _WRONG_USE
    try:
        research = demo_agents.Research(models, _put)
        session_id = arguments.resume or research.begin(arguments.question or demo_agents.QUESTION)
        return _decide(research, session_id, decision=arguments.approve)
    except (ImportError, rt.LLMError, rt.SessionUnavailableError, rt.SessionOwnedError) as problem:
        _complain(f"railtracks: {problem}")
        return _FAILED
    except rt.SessionCancelledError:
        _complain("railtracks: stopped by SIGTERM")
        return _TERMINATED


def _decide(research: "Research", session_id: str, *, decision: bool | None) -> int:
    if decision is None and sys.stdin is not None and sys.stdin.isatty():
        decision = input("\n\nIs this good enough to publish? [y/N] ").strip().lower() in {"y", "yes"}
    if decision is None:
        _complain(f"\n\nThe session waits for your decision: railtracks demo agents --resume {session_id} --approve")
        return _WAITING
    return _put(research.decide(session_id, is_approved=decision))


def _demo(arguments: argparse.Namespace) -> int:
    report: demo.Report | None = None
    # Parsing a file can raise warnings about that file, for example about a wrong escape: hide them. Done outside of
    # the flow, because the filters belong to the whole process, and the nodes run in several threads at once.
    with warnings.catch_warnings(), demo.open_progress() as show:
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        flow = rt.Flow(
            "survey",
            entry_point=demo.survey_folder,
            timeout=arguments.timeout,
            broadcast_callback=show,
            # Half a survey is of no use, so nothing is to be finished.
            stop_on_sigterm=0,
        )
        run = flow.connect()
        try:
            report = run.invoke(arguments.folder, arguments.limit)
        except KeyboardInterrupt:
            problem, code = "interrupted", _INTERRUPTED
        except rt.SessionTimeoutError as error:
            problem, code = str(error), _FAILED
        except rt.SessionCancelledError:
            problem, code = "stopped by SIGTERM", _TERMINATED
        else:
            problem, code = f"no Python files in {report.folder}", _WRONG_USE
    # Only now: a path stands for a file that is there.
    saved = demo.state_line(run.state_path)
    if report is not None and report.files:
        return _put(f"{demo.table(report)}\n\n{saved}\n")
    _complain(f"railtracks: {problem}\n{saved}")
    return code


def _put(text: str) -> int:
    """Write a text to stdout, and return the exit code: 0 if it was written, or if there is no stdout."""
    if sys.stdout is None:
        return 0
    try:
        # Names in source files may have characters that the terminal has not.
        sys.stdout.write(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        return _READER_IS_GONE
    except OSError as error:
        _discard(sys.stdout)
        _complain(f"railtracks: cannot write to stdout: {error.strerror}")
        return _FAILED
    return 0


def _complain(text: str) -> None:
    """Write a line to stderr, if anybody reads that."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Have what is left in the buffer of a stream go nowhere: as Python exits it would try to write it once more."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"not a folder: {text!r}")
    return text


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"not a number from 1 up: {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    # Not `seconds <= 0`, which would let NaN pass.
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"not a time above 0: {text!r}")
    return seconds
