"""A session as a tree of text: a line for the session, and one for each call.

Called by users of `railtracks show`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from railtracks._records.data import ExecutionInfo, Status
from railtracks.exports._outline import Outline, Row, fold_text
from railtracks.exports._words import MARKS, call_name, calls_in_words, error_text, lasted, session_name, word

_BRANCHES: Final = ("├─ ", "└─ ", "│  ")
_ASCII_BRANCHES: Final = ("|- ", "`- ", "|  ")
_DEEPEST: Final = 200


def tree_text(info: ExecutionInfo, *, most: int = 1_000, is_ascii: bool = False) -> Iterator[str]:
    """Return a session as lines of text, without ends of lines: the session itself first, and then its calls.

    All that comes from elsewhere is plain text in one line.

    Args:
        info: The session.
        most: How many calls have lines of their own, at most; the others are counted. Failed and running calls go
            first.
        is_ascii: Whether marks and branches are ASCII characters.
    """
    outline = Outline(info)
    yield _session_line(outline, is_ascii=is_ascii)
    inner, last, through = _ASCII_BRANCHES if is_ascii else _BRANCHES
    # For each depth, what stands there in the lines below.
    margins: list[str] = []
    for row in outline.rows(most, _DEEPEST):
        del margins[row.depth :]
        yield f"{''.join(margins)}{last if row.is_last else inner}{_row_text(outline, row, is_ascii=is_ascii)}"
        margins.append("   " if row.is_last else through)
    if info.dropped_calls:
        yield f"{calls_in_words(info.dropped_calls)} more had no record any more"


def _session_line(outline: Outline, *, is_ascii: bool) -> str:
    info = outline.info
    line = f"{MARKS[info.status][is_ascii]} {session_name(info)}  {word(info.status)}"
    line += f"  {lasted(outline.start, outline.end)}  {calls_in_words(len(info.calls) + info.dropped_calls)}"
    return line if info.error is None else f"{line}: {error_text(info.error)}"


def _row_text(outline: Outline, row: Row, *, is_ascii: bool) -> str:
    call = row.call
    mark = MARKS[call.status][is_ascii]
    if row.folded:
        return f"{mark} {fold_text(row)}"
    text = f"{mark} {call_name(call)} ({call.id})"
    if call.status is not Status.COMPLETED:
        text += f"  {word(call.status)}"
    text += f"  {lasted(call.started_at, outline.ended_at(call))}"
    if call.is_replayed:
        text += "  replayed"
    return text if call.error is None else f"{text}: {error_text(call.error)}"
