"""The picture on a terminal: drawn over the one before, with what was printed meanwhile above it.

Called by the thread that draws. The cursor stays below the picture and visible, so that nothing has to be put right
where the program is killed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from os import terminal_size
from typing import Final

from rich.console import Console
from rich.text import Text

from railtracks._foreign_text import plain
from railtracks._watch._picture import Line

_END_OF_LINE: Final = "\x1b[K\n"
_ALL_BELOW: Final = "\x1b[J"
_MORE, _ASCII_MORE = "…", "~"
# A picture is no higher than this, however high the terminal is.
_HIGHEST: Final = 40


class Screen:
    """What stands on the terminal.

    Args:
        encoding: The encoding of the terminal. Characters that it has not are shown as escapes.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self._more = _MORE if self._shown(_MORE) == _MORE else _ASCII_MORE
        # It decides about colours: by TERM, COLORTERM and NO_COLOR. It writes nothing itself.
        self._console = Console(file=io.StringIO(), force_terminal=True, markup=False, emoji=False, highlight=False)
        # The cells that each row of the picture takes.
        self._widths: list[int] = []
        self._rows = ""
        # What was printed of a line that has no end yet.
        self._unfinished = ""

    def rows(self, size: terminal_size) -> int:
        """Return how many rows a picture may have. The cursor needs one row, and so does an unfinished line."""
        return max(1, min(size.lines - 1 - bool(self._unfinished), _HIGHEST))

    def frame(self, lines: Sequence[Line], printed: str, size: terminal_size, *, is_last: bool = False) -> str:
        """Return the text that draws a picture over the one before, empty if nothing has changed.

        Args:
            lines: The rows of the picture.
            printed: What was printed since the last one.
            size: How many columns and lines the terminal has.
            is_last: Whether no other picture follows: then a printed line without an end is left below it, as it is.
        """
        whole, _, self._unfinished = (self._unfinished + printed).rpartition("\n")
        # A progress bar writes its line anew again and again.
        self._unfinished = self._unfinished[max(self._unfinished.rfind("\r", 0, -1), 0) :]
        texts = [Text.assemble(*((self._shown(text), style) for text, style in line)) for line in lines]
        if self._unfinished and not is_last:
            texts.insert(0, Text(self._shown(plain(self._unfinished.strip("\r")))))
        for text in texts:
            self._crop(text, size.columns - 1)
        rows = "".join(self._drawn(text) + _END_OF_LINE for text in texts)
        below = self._unfinished if is_last else ""
        if rows == self._rows and not whole:
            return below
        # A terminal that became narrower has broken the rows of the last picture into several.
        height = sum(max(1, -(-width // size.columns)) for width in self._widths)
        start = f"\r\x1b[{height}A" if height else "\r"
        self._rows, self._widths = rows, [text.cell_len for text in texts]
        above = f"{_ALL_BELOW}{whole}\n" if whole else ""
        return f"{start}{above}{rows}{_ALL_BELOW}{below}"

    def _shown(self, text: str) -> str:
        """Return a text as the terminal shows it: escapes are wider than what they stand for."""
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def _crop(self, text: Text, width: int) -> None:
        if text.cell_len > width:
            text.truncate(max(width - 1, 0), overflow="crop")
            text.append(self._more[:width])

    def _drawn(self, text: Text) -> str:
        with self._console.capture() as capture:
            self._console.print(text, soft_wrap=True, end="")
        return capture.get()
