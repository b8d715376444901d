"""Tracebacks without the stack frames of this package that only lead from code of the user's to code of the user's.

Called by `_runs` and `_show`, with the texts that the record of a session has.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import railtracks as rt

_OWN: Final = f'File "{Path(rt.__file__).parent}{os.sep}'
# One traceback in the text: its indentation, and its frames. The members of a group are indented.
_BLOCK: Final = re.compile(r"^( *)Traceback \(most recent call last\):\n((?:\1  .*\n)+)", re.MULTILINE)


def users_frames(told: str, *, is_refusal: bool = False) -> str:
    """Return the text of an error without the frames of this package behind which one of other code follows.

    Args:
        told: The text, with the tracebacks of causes and of members of a group.
        is_refusal: Whether the error is known to be one of this package. Then its own traceback has no other frame of
            this package either: they would tell nobody anything. The text is empty if no frame is left.
    """
    told = f"{told.rstrip()}\n"
    # Causes stand before the error.
    last = max((block.start() for block in _BLOCK.finditer(told) if not block[1]), default=None)

    def shortened(block: re.Match[str]) -> str:
        frames = re.split(rf'^(?={block[1]}  File ")', block[2], flags=re.MULTILINE)[1:]
        is_own = [frame.lstrip().startswith(_OWN) for frame in frames]
        end = len(frames) if is_refusal and block.start() == last else _end_of_others(is_own)
        kept = [frame for place, frame in enumerate(frames) if place >= end or not is_own[place]]
        return "".join([f"{block[1]}Traceback (most recent call last):\n", *kept]) if kept else ""

    short = _BLOCK.sub(shortened, told)
    return "" if is_refusal and not _BLOCK.search(short) else short


def _end_of_others(is_own: list[bool]) -> int:
    """Return the place behind the last frame of other code."""
    return len(is_own) - [*reversed(is_own), False].index(False)
