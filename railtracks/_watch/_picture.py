"""The picture of the live view: rows of styled text, made of what is known of sessions.

Called by the thread that draws. Nothing here knows of terminals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from textwrap import wrap
from typing import Final, TypeAlias

from attrs import define
from rich.cells import cell_len

from railtracks._records.data import CallRecord, Status
from railtracks._watch._watched import WatchedSession
from railtracks.exports import MARKS, calls_in_words, lasted, short, word

# A row: pieces of text, each with its style.
Line: TypeAlias = list[tuple[str, str]]

STYLES: Final = {
    Status.RUNNING: "cyan",
    Status.COMPLETED: "green",
    Status.FAILED: "bold red",
    Status.TIMED_OUT: "bold red",
    Status.CANCELLED: "yellow",
    Status.WAITING: "magenta",
    Status.INTERRUPTED: "magenta",
    Status.LOST: "bold red",
}
_DIM: Final = "bright_black"
# Before each row of a session that was opened in another one.
_MARGIN: Final = "  "
# How many running calls of one node in one call have rows, and how many warnings of one session.
_ALIKE: Final = 3
_TROUBLES: Final = 3
# Rows of one warning whose text is wider than the terminal.
_WRAPPED: Final = 4
# How many nodes are counted by name.
_NODES: Final = 6
# So many rows each session has at least where there are more than can be shown.
_FEWEST: Final = 3


def picture(
    sessions: Sequence[WatchedSession],
    forgotten: Mapping[Status, int],
    now: datetime,
    height: int,
    *,
    width: int,
    is_ascii: bool = False,
) -> list[Line]:
    """Return the rows that show some sessions, from top to bottom.

    Args:
        sessions: The sessions, in the order of their beginnings.
        forgotten: How many others have ended, by status.
        now: The present.
        height: How many rows there may be.
        width: How many columns a row has. Only the texts of warnings are broken into several rows.
        is_ascii: Whether marks are ASCII characters.
    """
    lines: list[Line] = []
    if forgotten:
        count = sum(forgotten.values())
        lines.append([(f"{count:,} other session{'' if count == 1 else 's'}: {_told(forgotten)}", _DIM)])
    # The last ones are those that run.
    shown = sessions[-max(1, (height - len(lines)) // _FEWEST) :]
    if len(shown) < len(sessions):
        lines.append([(f"{len(sessions) - len(shown):,} more sessions", _DIM)])
    parts = [
        (depth, _Part.of(session, now, width - len(_MARGIN) * depth, is_ascii=is_ascii))
        for depth, session in _tree(shown)
    ]
    shares = _shares([part.height for _, part in parts], height - len(lines))
    for (depth, part), share in zip(parts, shares, strict=True):
        margin = [(_MARGIN * depth, "")] if depth else []
        lines += [[*margin, *line] for line in part.lines(share)]
    return lines[:height]


def _tree(sessions: Sequence[WatchedSession]) -> Iterator[tuple[int, WatchedSession]]:
    """Return each session with its depth, those that were opened in it behind it."""
    known = {session.identifier for session in sessions}
    inside: dict[str | None, list[WatchedSession]] = {}
    for session in sessions:
        inside.setdefault(session.parent_id if session.parent_id in known else None, []).append(session)
    stack = [(0, session) for session in reversed(inside.get(None, ()))]
    while stack:
        depth, session = stack.pop()
        yield depth, session
        stack += [(depth + 1, inner) for inner in reversed(inside.get(session.identifier, ()))]


def _shares(wanted: Sequence[int], height: int) -> list[int]:
    """Return how many of some rows each gets: what it wants, or as many as the others that get less than they want."""
    shares = [0] * len(wanted)
    left = height
    smallest_first = sorted(range(len(wanted)), key=wanted.__getitem__)
    for done, place in enumerate(smallest_first):
        shares[place] = min(wanted[place], left // (len(wanted) - done))
        left -= shares[place]
    return shares


@define
class _Part:
    """The rows of one session.

    Attributes:
        head: The session itself.
        running: Its running calls.
        below: Its nodes and warnings, one row each.
        wrapped: The same, with the whole texts of the warnings.
    """

    head: Line
    running: list[Line]
    below: list[Line]
    wrapped: list[Line]

    @classmethod
    def of(cls, session: WatchedSession, now: datetime, width: int, *, is_ascii: bool) -> _Part:
        """Return all rows of a session."""
        status, until = session.status, session.ended_at or now
        head: Line = [(f"{MARKS[status][is_ascii]} ", STYLES[status]), (short(session.name, 30), "bold")]
        head.append((f"  {word(status)}", STYLES[status]))
        head.append((f"  {lasted(session.began_at, until)}  {calls_in_words(session.calls)}", ""))
        if told := _told(session.counts.by_status):
            head.append((f": {told}", _DIM))
        running = list(_running(session, now, is_ascii=is_ascii))
        nodes = list(_nodes(session.counts.by_node))
        below, wrapped = ([*nodes, *_troubles(session, each, is_ascii=is_ascii)] for each in (None, width))
        return cls(head, running, below, wrapped)

    @property
    def height(self) -> int:
        """How many rows there are."""
        return 1 + len(self.running) + len(self.wrapped)

    def lines(self, most: int) -> list[Line]:
        """Return the rows, `most` at most: of more running calls only the first have rows.

        Whole warnings take the rows that running calls leave, and up to half of them all.
        """
        is_roomy = len(self.wrapped) <= max(most - 1 - len(self.running), most // 2)
        below = self.wrapped if is_roomy else self.below
        room = max(0, most - 1 - len(below))
        running = self.running
        if len(running) > room:
            more: Line = [("  ...", _DIM)]
            running = [*running[: max(0, room - 1)], more][:room]
        return [self.head, *running, *below][:most]


def _told(counts: Mapping[Status, int]) -> str:
    """Return counts by status in words; `completed` comes last, since a narrow terminal cuts it off."""
    last = sorted(counts.items(), key=lambda each: each[0] is Status.COMPLETED)
    return ", ".join(f"{count:,} {word(status)}" for status, count in last if count)


def _nodes(by_node: Mapping[str, int]) -> Iterator[Line]:
    """Return one row with how many calls there were of each node, the most first."""
    if len(by_node) > 1:
        first = sorted(by_node.items(), key=lambda each: -each[1])
        told = "   ".join(f"{short(name, 30)} {count:,}" for name, count in first[:_NODES])
        more = f"   and {len(first) - _NODES} more nodes" if len(first) > _NODES else ""
        yield [(f"  {told}{more}", _DIM)]


def _troubles(session: WatchedSession, width: int | None, *, is_ascii: bool) -> Iterator[Line]:
    """Return the rows of the last warnings and errors of a session; without a width each has one row."""
    last = list(session.troubles)[-_TROUBLES:]
    for trouble in last:
        status = Status.FAILED if trouble.is_error else Status.CANCELLED
        mark = f"  {MARKS[Status.FAILED][is_ascii] if trouble.is_error else '!'} "
        text = short(trouble.text, 300)
        rows = [text] if width is None else _rows(text, width - len(mark))
        yield [(mark, STYLES[status]), (rows[0], "")]
        yield from ([(" " * len(mark), ""), (row, "")] for row in rows[1:])
    if session.trouble_count > len(last):
        yield [(f"    {session.trouble_count - len(last):,} more before", _DIM)]


def _rows(text: str, width: int) -> list[str]:
    """Return a text as rows, the last one with all that is left: the screen crops it. It is not empty."""
    # Characters of East Asia take two columns. A row that is mixed is shorter than it could be.
    rows = wrap(text, max(width if cell_len(text) == len(text) else width // 2, 1)) or [""]
    return [*rows[: _WRAPPED - 1], " ".join(rows[_WRAPPED - 1 :])] if len(rows) > _WRAPPED else rows


def _running(session: WatchedSession, now: datetime, *, is_ascii: bool) -> Iterator[Line]:
    """Return the rows of the running calls of a session, as a tree. Calls alike are counted."""
    running = session.counts.running
    children: dict[int | None, list[CallRecord]] = {}
    for call in running:
        children.setdefault(call.parent_id, []).append(call)
    mark = f"{MARKS[Status.RUNNING][is_ascii]} "
    # A stack in place of a recursion: calls may be nested deeper than Python's stack.
    stack = _branches(children.get(None, ()), 1)
    while stack:
        depth, call, more = stack.pop()
        margin = "  " * min(depth, 12)
        if more:
            yield [(f"{margin}  {more:,} more of {short(call.node, 40)}", _DIM)]
            continue
        attempt = f", attempt {call.attempt}" if call.attempt > 1 else ""
        yield [
            (f"{margin}{mark}", STYLES[Status.RUNNING]),
            (short(call.node, 40), ""),
            (f" ({call.id}{attempt})  {lasted(call.started_at, now)}", _DIM),
        ]
        stack += _branches(children.get(call.id, ()), depth + 1)
    unseen = session.counts.by_status.get(Status.RUNNING, 0) - len(running)
    if unseen > 0:
        yield [(f"  {unseen:,} more calls run", _DIM)]


def _branches(calls: Sequence[CallRecord], depth: int) -> list[tuple[int, CallRecord, int]]:
    """Return the rows under one call, the first one last: a depth, a call, and for how many others it stands."""
    alike: dict[str, list[CallRecord]] = {}
    for call in calls:
        alike.setdefault(call.node, []).append(call)
    rows: list[tuple[int, CallRecord, int]] = []
    for each in alike.values():
        rows += [(depth, call, 0) for call in each[:_ALIKE]]
        if len(each) > _ALIKE:
            rows.append((depth, each[_ALIKE], len(each) - _ALIKE))
    return rows[::-1]
