"""The main job, and the example to read first: a survey of the Python source files of a folder.

The upper half is a flow as a user writes one: two nodes and an entry point. The lower half shows it to people. This
room uses the public names of the package and nothing else.
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
# Caches, and other people's code where the folder is a Python's standard library.
_SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages"})


@attrs.frozen
class Function:
    """A function definition, and the number of lines from its ``def`` to its end."""

    name: str
    line: int
    lines: int


@attrs.frozen
class FileSurvey:
    """What one file holds, or the problem that kept it from being parsed."""

    path: str
    lines: int = 0
    functions: int = 0
    classes: int = 0
    longest: tuple[Function, ...] = ()
    problem: str | None = None


@attrs.frozen
class Found:
    """The message that so many files are about to be surveyed."""

    files: int


@attrs.frozen
class Report:
    """What the files of a folder hold together.

    Attributes:
        longest: The longest functions, each with the path of its file.
        failures: The path and the problem of each file that is in no sum.
        state_path: Where the session that made this report is saved, ``None`` if it is not.
    """

    folder: str
    files: int
    lines: int
    functions: int
    classes: int
    longest: tuple[tuple[str, Function], ...]
    failures: tuple[tuple[str, str], ...]
    state_path: str | None


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
    """Read and parse one file, and tell the session's audience.

    A plain function, so as a node it runs in a worker thread. Text and syntax tree stay here: what a node returns is
    kept in the saved state, and a summary is all that anyone needs.
    """
    folder: str = rt.context.get("folder")
    try:
        survey = summarise(path, Path(folder, path).read_bytes())
    # A file that cannot be read, decoded, parsed, or parsed within the stack is a finding, not a failure of the survey.
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        survey = FileSurvey(path, problem=_reason(error))
    trio.from_thread.run(rt.broadcast, survey)
    return survey


async def survey_folder(folder: str, limit: int) -> Report:
    """Survey every Python file below a folder: the flow's entry point.

    Args:
        folder: The folder; the nodes find it in the session's context, which keeps the records of their calls short.
        limit: How many files are read and parsed at a time.
    """
    rt.context.put("folder", folder)
    paths = await rt.call(find_files)
    await rt.broadcast(Found(len(paths)))
    # An unforeseen error of one file stands in that file's place and costs only that file.
    outcomes = await rt.call_batch(survey_file, paths, limit=limit)
    surveys = [
        outcome if isinstance(outcome, FileSurvey) else FileSurvey(path, problem=_reason(outcome))
        for path, outcome in zip(paths, outcomes, strict=True)
    ]
    state_path = rt.current_session().state_path
    return sum_up(folder, surveys, None if state_path is None else str(state_path))


def summarise(path: str, source: bytes) -> FileSurvey:
    """Count what a source text holds; the encoding is the one that it declares.

    Raises:
        SyntaxError: If it is not Python, or not in its encoding.
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


def sum_up(folder: str, surveys: Iterable[FileSurvey], state_path: str | None = None) -> Report:
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
        state_path=state_path,
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
    """Lay a report out as text."""
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
    rows += ["", f"Saved state: {report.state_path or 'none'}"]
    return "\n".join(rows)


def _printable(path: str) -> str:
    # A file name may hold anything: a terminal's control characters, or bytes that are no text and no print() takes.
    return path if path.isprintable() else ascii(path)


@contextlib.contextmanager
def open_progress() -> Generator[Show]:
    """Show the progress on stderr while the block runs, and hand out the callback that is told of it.

    A bar if stdout is a terminal and rich is installed, else a line every so many files.
    """
    bar = _progress_bar() if sys.stdout.isatty() else None
    if bar is None:
        yield _Lines().show
    else:
        with bar:
            yield functools.partial(_advance, bar, bar.add_task("Surveying", total=None))


def _progress_bar() -> "Progress | None":
    try:
        # The extra "cli" brings it, and no other command waits for its import.
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
    """Progress for a pipe or a log file. Needs no lock: the callback is called for one message at a time."""

    def __init__(self) -> None:
        self._files = 0
        self._done = 0

    def show(self, message: Message) -> None:
        if isinstance(message, Found):
            self._files = message.files
        else:
            self._done += 1
            if self._done % _FILES_PER_LINE == 0 or self._done == self._files:
                print(f"surveyed {self._done:,} of {self._files:,} files", file=sys.stderr, flush=True)
