"""Lines for people: as wide as the terminal, with colours where it has them; in a pipe whole lines without colours.

Called by the commands that show sessions.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.util import find_spec
from io import StringIO
from itertools import accumulate
from typing import Final

from attrs import define

from railtracks._archive import DIED, Elsewhere
from railtracks._foreign_text import plain
from railtracks._records.data import Status
from railtracks.cli._output import encoding_of, put
from railtracks.exports import MARKS, looks_like

_GAP: Final = "  "
_MORE: Final = "…"
_ASCII_MORE: Final = "~"
# What terminals draw over the character before: marks, and characters that join others.
_NO_WIDTH: Final = frozenset(("Mn", "Me", "Cf"))
_WIDE: Final = frozenset("WF")
_STYLES: Final = {
    Status.RUNNING: "cyan",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.TIMED_OUT: "yellow",
    Status.CANCELLED: "magenta",
    Status.WAITING: "blue",
    Status.INTERRUPTED: "yellow",
    Status.LOST: "red",
    DIED: "red",
}


@define(frozen=True)
class Screen:
    """Where lines are shown.

    Attributes:
        is_terminal: Whether stdout is a terminal.
        width: How many columns it has, `None` if lines may be of any length.
        is_ascii: Whether it has no characters for our marks.
        encoding: Its encoding. Characters that it has not are shown as escapes, which are wider.
    """

    is_terminal: bool
    width: int | None
    is_ascii: bool
    encoding: str = "utf-8"

    def escaped(self, text: str) -> str:
        """Return a text as it is shown here."""
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def cropped(self, text: str, width: int | None) -> str:
        """Return the beginning of a text in one line that is no wider than this."""
        text = self.escaped(text)
        if width is None or width_of(text) <= width:
            return text
        more = _ASCII_MORE if self.is_ascii else _MORE
        kept = [char for char, reached in zip(text, accumulate(map(width_of, text)), strict=True) if reached < width]
        return f"{''.join(kept)}{more}"[: max(width, 0)]

    def mark(self, status: str) -> str:
        """Return the mark of a status; of `died` and what only stores say, that of a failure."""
        return MARKS[looks_like(status)][self.is_ascii]


@define(frozen=True)
class Line:
    """One line.

    Attributes:
        text: The text.
        style: The status in whose colour it is shown, or the name of a style; empty for none.
    """

    text: str
    style: str = ""


def place_text(place: Elsewhere) -> str:
    """Return where a session runs of which this machine cannot know whether its process is gone."""
    return f"on {plain(place.host)}{'' if place.heard_at is None else f', last event {local(place.heard_at)}'}"


def screen() -> Screen:
    """Return what stdout is."""
    encoding = encoding_of(sys.stdout)
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = max(shutil.get_terminal_size().columns, 1) if is_terminal else None
    return Screen(is_terminal, width, not _has_marks(encoding), encoding)


def _has_marks(encoding: str) -> bool:
    try:
        "".join(mark for mark, _ in MARKS.values()).encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: characters of East Asia take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(char) in _NO_WIDTH else 2 if unicodedata.east_asian_width(char) in _WIDE else 1
        for char in text
    )


@define(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its title.
        rank: On a narrow terminal columns are left out, the ones with the highest rank first; those with 0 never.
        widest: How wide it may be on a terminal.
        is_number: Whether it is aligned at its right side.
    """

    title: str
    rank: int = 0
    widest: int = 40
    is_number: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], shown: Screen) -> list[str]:
    """Return the lines of a table, its titles first. On a terminal the last column takes what is left of the width.

    Args:
        columns: The columns.
        rows: The cells of each row.
        shown: Where it is shown.
    """
    rows = [[shown.escaped(cell) for cell in row] for row in rows]
    if shown.width is None:
        whole = [max(map(width_of, cells)) for cells in zip([each.title for each in columns], *rows, strict=True)]
        return _lines(columns, rows, whole, shown)
    kept = list(range(len(columns)))
    while True:
        widths = [_width(columns[place], [row[place] for row in rows]) for place in kept]
        spare = shown.width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
        droppable = [place for place in kept if columns[place].rank]
        if spare >= min(widths[-1], _LEAST) or not droppable:
            break
        kept.remove(max(droppable, key=lambda place: columns[place].rank))
    widths[-1] = max(spare, 0)
    lines = _lines([columns[place] for place in kept], [[row[place] for place in kept] for row in rows], widths, shown)
    return [shown.cropped(line, shown.width) for line in lines]


# Columns that the last column should have.
_LEAST: Final = 12


def _width(column: Column, cells: Iterable[str]) -> int:
    return min(column.widest, max(map(width_of, (column.title, *cells))))


def _lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int], shown: Screen) -> list[str]:
    texts = [[column.title for column in columns], *rows]
    return [
        _GAP.join(
            _padded(shown.cropped(cell, width), width, is_number=column.is_number)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        ).rstrip()
        for cells in texts
    ]


def _padded(text: str, width: int, *, is_number: bool) -> str:
    blanks = " " * (width - width_of(text))
    return f"{blanks}{text}" if is_number else f"{text}{blanks}"


def local(moment: datetime | None) -> str:
    """Return a time as people read it: local, with its zone."""
    return "" if moment is None else f"{in_zone(moment):%Y-%m-%d %H:%M:%S %Z}"


def in_zone(moment: datetime) -> datetime:
    """Return a time in the zone of this machine; as it is where that would be before the year 1 or after 9999."""
    try:
        return moment.astimezone()
    except OverflowError:
        return moment


def put_lines(lines: Iterable[Line], shown: Screen) -> int:
    """Write lines to stdout, in colours on a terminal that has them, and return the exit code as `put` does."""
    return put(painted(lines, shown))


def painted(lines: Iterable[Line], shown: Screen) -> str:
    """Return lines as one text, with escape codes for colours on a terminal that has them, if rich is installed."""
    if not shown.is_terminal or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not find_spec("rich"):
        return "".join(f"{line.text}\n" for line in lines)
    from rich.console import Console  # noqa: PLC0415 - of an extra
    from rich.text import Text  # noqa: PLC0415 - of an extra

    written = StringIO()
    console = Console(file=written, force_terminal=True, width=10**6, legacy_windows=False, highlight=False)
    for line in lines:
        # A `Text`, since rich would look for its markup in a string. It is plain already, and one line.
        console.print(Text(line.text, _STYLES.get(line.style, line.style)), soft_wrap=True)
    return written.getvalue()
