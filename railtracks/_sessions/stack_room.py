"""Whether Python's stack has room for a session. Called as one is opened, before anything has to be closed again."""

from __future__ import annotations

import sys
from typing import Final

# How many levels of the stack a session needs at most, to be opened and closed.
_ROOM: Final = 50


def check_room() -> None:
    """Raise `RecursionError` if the stack has no room for a session: in the midst of closing it would harm Trio."""
    try:
        # A stack that is not even this deep has room, and need not be filled to see it. In CPython 3.11 calls of C code
        # take room, too: hardly more than one or two for each level of Python code.
        sys._getframe(sys.getrecursionlimit() // 4)  # noqa: SLF001 - nothing else tells this as quickly
    except ValueError:
        return
    _go_down(_ROOM)


def _go_down(levels: int) -> None:
    if levels:
        _go_down(levels - 1)
