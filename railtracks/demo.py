"""The example to read first: a survey of the Python source files of a folder.

Called by the command `railtracks demo`. The upper half is a flow as a user writes one: two nodes and an entry point.
The lower half prints progress and result. This module uses only the public names of the package.
"""

import ast
import contextlib
import functools
import heapq
import os
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import attrs
import trio

import railtracks as rt

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LONGEST = 10
_FILES_PER_LINE = 250
# Caches, and installed packages, which are below the folder of Python's standard library.
_SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages"})


@attrs.frozen
class Function:
    """A function definition, and the number of lines from its ``def`` to its end."""

    name: str
    line: int
    lines: int


@attrs.frozen
class FileSurvey:
    """The counts of one file, or the problem why it could not be parsed."""

    path: str
    lines: int = 0
    functions: int = 0
    classes: int = 0
    longest: tuple[Function, ...] = ()
    problem: str | None = None


@attrs.frozen
class Found:
    """The message that tells how many files will be surveyed."""

    files: int


@attrs.frozen
class Report:
    """The sums over all files of a folder.

    Attributes:
        longest: The longest functions, each with the path of its file.
        failures: The path and the problem of each file that could not be parsed; it is in none of the sums.
    """

    folder: str
    files: int
    lines: int
    functions: int
    classes: int
    longest: tuple[tuple[str, Function], ...]
    failures: tuple[tuple[str, str], ...]


Message: TypeAlias = Found | FileSurvey
Show: TypeAlias = Callable[[Message], None]


@rt.function_node
def find_files() -> list[str]:
    """Find the Python files below the session's folder, as sorted paths relative to it."""
    top: str = rt.context.get("folder")
    found: list[str] = []
    for folder, subfolders, names in os.walk(top):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED and not name.startswith(".")]
        found += [Path(folder, name).relative_to(top).as_posix() for name in names if name.endswith(".py")]
    return sorted(found)


@rt.function_node(timeout=60)
def survey_file(path: str) -> FileSurvey:
    """Read and parse one file, and broadcast its survey.

    A plain function, so it runs in a worker thread. It returns a summary, not the text or the syntax tree, because the
    session keeps and saves all results of its nodes.
    """
    folder: str = rt.context.get("folder")
    try:
        survey = summarise(path, Path(folder, path).read_bytes())
    # A file that cannot be read, decoded or parsed is part of the result and not a failure of the survey. Deeply nested
    # code exceeds the parser's stack: `RecursionError` or `MemoryError`.
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        survey = FileSurvey(path, problem=_reason(error))
    trio.from_thread.run(rt.broadcast, survey)
    return survey


async def survey_folder(folder: str, limit: int) -> Report:
    """Survey every Python file below a folder: the flow's entry point.

    Args:
        folder: The folder. The nodes read it from the session's context; as an argument it would be in every record.
        limit: How many files are read and parsed at the same time.
    """
    rt.context.put("folder", folder)
    paths = await rt.call(find_files)
    await rt.broadcast(Found(len(paths)))
    # By default a batch returns exceptions as results: an unexpected error of one file does not stop the others.
    outcomes = await rt.call_batch(survey_file, paths, limit=limit)
    surveys = [
        outcome if isinstance(outcome, FileSurvey) else FileSurvey(path, problem=_reason(outcome))
        for path, outcome in zip(paths, outcomes, strict=True)
    ]
    return sum_up(folder, surveys)


def summarise(path: str, source: bytes) -> FileSurvey:
    """Count lines, functions and classes of a Python source text, in the encoding that the text declares.

    Raises:
        SyntaxError: If the text is not Python, or not in its encoding.
    """
    functions: list[Function] = []
    classes = 0
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions.append(Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1))
        elif isinstance(node, ast.ClassDef):
            classes += 1
    return FileSurvey(
        path,
        lines=len(source.splitlines()),
        functions=len(functions),
        classes=classes,
        longest=tuple(heapq.nlargest(_LONGEST, functions, key=lambda function: function.lines)),
    )


def sum_up(folder: str, surveys: Iterable[FileSurvey]) -> Report:
    """Add up the surveys of a folder's files."""
    surveys = list(surveys)
    parsed = [survey for survey in surveys if survey.problem is None]
    functions = ((survey.path, function) for survey in parsed for function in survey.longest)
    return Report(
        folder=folder,
        files=len(surveys),
        lines=sum(survey.lines for survey in parsed),
        functions=sum(survey.functions for survey in parsed),
        classes=sum(survey.classes for survey in parsed),
        longest=tuple(heapq.nlargest(_LONGEST, functions, key=lambda place: place[1].lines)),
        failures=tuple((survey.path, survey.problem) for survey in surveys if survey.problem is not None),
    )


def _reason(error: BaseException) -> str:
    match error:
        case SyntaxError(msg=message, lineno=int(line)) if line > 0:
            text = f"{message} (line {line})"
        case SyntaxError(msg=message):
            text = message
        case OSError(strerror=str(message)):
            text = message
        case _:
            text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def table(report: Report) -> str:
    """Return a report as text for the terminal."""
    longest = [(f"{_printable(path)}:{function.line}", function) for path, function in report.longest]
    failures = [(_printable(path), problem) for path, problem in report.failures]
    rows = [
        _printable(report.folder),
        "",
        f"  files      {report.files:>11,}",
        f"  lines      {report.lines:>11,}",
        f"  functions  {report.functions:>11,}",
        f"  classes    {report.classes:>11,}",
        f"  failed     {len(report.failures):>11,}",
    ]
    if longest:
        width = max(len(function.name) for _, function in longest)
        rows += ["", "The longest functions", "", f"  {'lines':>6}  {'function':<{width}}  place"]
        rows += [f"  {function.lines:>6,}  {function.name:<{width}}  {place}" for place, function in longest]
    if failures:
        width = max(len(path) for path, _ in failures)
        rows += ["", "Files that failed, and why", ""]
        rows += [f"  {path:<{width}}  {problem}" for path, problem in failures]
    return "\n".join(rows)


def state_line(path: Path | None) -> str:
    """Return the line that tells where the state of a run was saved."""
    return "Saved state: none" if path is None else f"Saved state: {_printable(str(path))}"


def _printable(path: str) -> str:
    # A file name may contain control characters of the terminal, or bytes that are no text and that print() refuses.
    return path if path.isprintable() else ascii(path)


@contextlib.contextmanager
def open_progress() -> Generator[Show]:
    """Show the progress on stderr while the block runs. Gives the `broadcast_callback` for the flow.

    Shows a bar if stdout and stderr are terminals and rich is installed, else a line after every 250 files.
    """
    # A stream is `None` if the program was started without it.
    bar = _progress_bar() if all(stream and stream.isatty() for stream in (sys.stdout, sys.stderr)) else None
    if bar is None:
        yield _Lines().show
    else:
        with bar:
            yield functools.partial(_advance, bar, bar.add_task("Surveying", total=None))


def _progress_bar() -> "Progress | None":
    try:
        # Needs the extra `cli`. Imported here because it is slow to import, and only a terminal needs it.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import Progress  # noqa: PLC0415
    except ImportError:
        return None
    return Progress(console=Console(stderr=True), transient=True)


def _advance(bar: "Progress", task: "TaskID", message: Message) -> None:
    if isinstance(message, Found):
        bar.update(task, total=message.files)
    else:
        bar.advance(task)


class _Lines:
    """Progress as lines, for a pipe or a log file. Needs no lock: a session calls its callback once at a time."""

    def __init__(self) -> None:
        self._files = 0
        self._done = 0

    def show(self, message: Message) -> None:
        if isinstance(message, Found):
            self._files = message.files
        else:
            self._done += 1
            if self._done % _FILES_PER_LINE == 0 or self._done == self._files:
                self._print(f"surveyed {self._done:,} of {self._files:,} files")

    def _print(self, line: str) -> None:
        # Without stderr `print` would write to stdout.
        if sys.stderr is not None:
            # A survey does not fail because nobody reads its progress any more.
            with contextlib.suppress(OSError):
                print(line, file=sys.stderr, flush=True)
