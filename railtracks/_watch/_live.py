"""The live view as a picture on a terminal.

Made by `watch`, and called by the thread that draws.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from os import get_terminal_size, terminal_size
from typing import Final

from railtracks._watch._outlet import Outlet
from railtracks._watch._picture import picture
from railtracks._watch._printed import Printed
from railtracks._watch._screen import Screen
from railtracks._watch._watched import Watched, WatchedSession

# Columns and lines of a terminal that does not say how large it is, as in some containers.
_USUAL: Final = (80, 24)


class LiveView:
    """A picture on a terminal, with what is printed above it."""

    def __init__(
        self, watched: Watched, outlet: Outlet, descriptor: int, printed: Printed, encoding: str, *, is_ascii: bool
    ) -> None:
        self._watched = watched
        self._outlet = outlet
        self._descriptor = descriptor
        self._printed = printed
        self._is_ascii = is_ascii
        self._screen = Screen(encoding)

    def step(self) -> bool:
        """Draw the picture anew, unless the last one is not written yet."""
        sessions = self._watched.look()
        self._watched.forget()
        if not self._outlet.offer(""):
            return False
        return self._draw(sessions)

    def close(self) -> None:
        """Leave the last picture where it is. What is printed from now on comes below it."""
        self._printed.close()
        with suppress(OSError):
            self._draw(self._watched.look(), is_last=True)
        self._outlet.close()

    def _draw(self, sessions: list[WatchedSession], *, is_last: bool = False) -> bool:
        size = _size_of(self._descriptor)
        printed = self._printed.take()
        rows = self._screen.rows(size)
        for session in sessions[-rows:]:
            session.look()
        lines = picture(
            sessions,
            self._watched.forgotten,
            datetime.now(UTC),
            rows,
            width=size.columns - 1,
            is_ascii=self._is_ascii,
        )
        return self._outlet.offer(self._screen.frame(lines, printed, size, is_last=is_last))


def _size_of(descriptor: int) -> terminal_size:
    size = get_terminal_size(descriptor)
    return terminal_size(told or usual for told, usual in zip(size, _USUAL, strict=True))
