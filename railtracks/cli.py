"""The command line: parse the arguments, run a command, and return an exit code.

Called by the script `railtracks` and by `python -m railtracks`.
"""

import argparse
import sys
import sysconfig
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import railtracks as rt
from railtracks import demo

_EXAMPLES = """\
examples:
  railtracks demo                        the standard library of the running Python
  railtracks demo src --limit 4          a folder of yours, four files at a time
  railtracks demo --timeout 0.5          stop everything after half a second

The run is saved under $RAILTRACKS_HOME (the nearest .railtracks if it is not set).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments, ``sys.argv[1:]`` if not given.

    Returns:
        The exit code: 0; 1 after a timeout; 2 for a folder without Python files; 130 after Ctrl-C.

    Raises:
        SystemExit: If the arguments are wrong, with code 2.
    """
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except KeyboardInterrupt:
        return _complain("interrupted", code=130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="railtracks", description="Agentic workflows on Trio.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = commands.add_parser(
        "demo",
        help="survey the Python source files of a folder",
        description="Find the Python files below a folder, parse them in worker threads, and sum up what they hold.",
        epilog=_EXAMPLES,
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
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    # Parsing a file can raise warnings about that file, for example about a wrong escape: hide them. Done outside of
    # the flow, because the filters belong to the whole process, and the nodes run in several threads at once.
    with warnings.catch_warnings(), demo.open_progress() as show:
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        flow = rt.Flow("survey", entry_point=demo.survey_folder, timeout=arguments.timeout, broadcast_callback=show)
        try:
            report = flow.invoke(arguments.folder, arguments.limit)
        except rt.SessionTimeoutError as error:
            return _complain(str(error), code=1)
    if not report.files:
        return _complain(f"no Python files in {report.folder}", code=2)
    print(demo.table(report))
    return 0


def _complain(text: str, code: int) -> int:
    print(f"railtracks: {text}", file=sys.stderr)
    return code


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
