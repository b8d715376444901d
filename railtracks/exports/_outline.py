"""The calls of a session as a tree on a time axis, and which of them are shown where not all can be.

Called by every export.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import define, evolve

from railtracks._records.data import CallRecord, ExecutionInfo, Status
from railtracks.exports._words import call_name, calls_in_words, word

# How many calls of one node, with one status and one parent, are shown where not all calls can be.
_ALIKE: Final = 20
# How many rows stand for calls alike under one parent; one more stands for all the others.
_MOST_FOLDS: Final = 4
_MICROSECOND: Final = timedelta(microseconds=1)


class Outline:
    """The calls of a session as a tree.

    Attributes:
        info: The session.
        status: Its status: a value of `Status`, or what the archive says of one without an end, such as `died`.
        start: When it began.
        end: When it ended; of a running one the last moment that is known of.
        children: The calls in each call, in the order of their start; those under `None` are in no call.
    """

    def __init__(self, info: ExecutionInfo, now: datetime | None = None, status: str | None = None) -> None:
        """Look at a session.

        Args:
            info: The session.
            now: The present, if the session runs in this process.
            status: What the archive says of it. Of one that runs as far as its record tells, that counts.
        """
        self.info: ExecutionInfo = info
        self.status: str = status if status is not None and info.status is Status.RUNNING else info.status
        moments = [call.started_at for call in info.calls]
        moments += [call.ended_at for call in info.calls if call.ended_at is not None]
        moments += [moment for moment in (info.started_at, info.ended_at, now) if moment is not None]
        self.start: datetime = min(moments, default=datetime.fromtimestamp(0, UTC))
        self.end: datetime = max(moments, default=self.start)
        known = {call.id for call in info.calls}
        self.children: dict[int | None, list[CallRecord]] = {}
        for call in info.calls:
            # A file of events may have lost the call that this one was made in.
            parent_id = call.parent_id if call.parent_id in known else None
            self.children.setdefault(parent_id, []).append(call)

    def ended_at(self, call: CallRecord) -> datetime:
        """Return when a call ended; of a running one the end of the axis. Never before it began."""
        return max(call.started_at, self.end if call.ended_at is None else call.ended_at)

    def began_us(self, call: CallRecord) -> int:
        """Return when a call began, in microseconds since the start."""
        return (call.started_at - self.start) // _MICROSECOND

    def ended_us(self, call: CallRecord) -> int:
        """Return when a call ended, in microseconds since the start."""
        return (self.ended_at(call) - self.start) // _MICROSECOND

    def walk(self) -> Iterator[tuple[int, CallRecord]]:
        """Return each call with its depth, 0 for a top-level call: a call before the calls in it."""
        # A stack in place of a recursion: calls may be nested deeper than Python's stack.
        stack = [(0, call) for call in reversed(self.children.get(None, ()))]
        while stack:
            depth, call = stack.pop()
            yield depth, call
            stack += [(depth + 1, inner) for inner in reversed(self.children.get(call.id, ()))]

    def rows(self, most: int, deepest: int) -> Iterator[Row]:
        """Return the rows of a tree: a call before the calls in it, and after these what is folded.

        Args:
            most: How many calls have rows of their own at most. Failed and running calls go first.
            deepest: The depth below which none has.
        """
        shown, sizes = self._shown(most, deepest), self._sizes()
        stack = list(reversed(self._rows_in(None, 0, shown, sizes)))
        while stack:
            row = stack.pop()
            yield row
            if not row.folded:
                stack += reversed(self._rows_in(row.call.id, row.depth + 1, shown, sizes))

    def _rows_in(self, parent_id: int | None, depth: int, shown: set[int], sizes: dict[int, int]) -> list[Row]:
        """Return the rows directly under a call, or under the session."""
        children = self.children.get(parent_id, ())
        rows = [Row(depth, call, is_parent=call.id in self.children) for call in children if call.id in shown]
        folds: dict[tuple[str, Status], list[CallRecord]] = {}
        for call in children:
            if call.id not in shown:
                folds.setdefault((call.node, call.status), []).append(call)
        # What failed first, then the most. Nodes with names of their own could be as many as there are calls.
        kinds = sorted(folds.values(), key=lambda calls: (calls[0].status is Status.COMPLETED, -len(calls)))
        others = [call for calls in kinds[_MOST_FOLDS:] for call in calls]
        for calls in [*kinds[:_MOST_FOLDS], *([others] if others else [])]:
            inside = sum(sizes[call.id] for call in calls) - len(calls)
            rows.append(Row(depth, calls[0], folded=len(calls), inside=inside, is_mixed=calls is others))
        if rows:
            rows[-1] = evolve(rows[-1], is_last=True)
        return rows

    def _sizes(self) -> dict[int, int]:
        """Return how many calls each call is made of, itself counted in."""
        sizes = {call.id: 1 for call in self.info.calls}
        for _, call in reversed(list(self.walk())):
            for inner in self.children.get(call.id, ()):
                sizes[call.id] += sizes[inner.id]
        return sizes

    def _shown(self, most: int, deepest: int) -> set[int]:
        """Return the calls that have rows of their own; with each call those around it."""
        walked = list(self.walk())
        if len(walked) <= most:
            return {call.id for depth, call in walked if depth <= deepest}
        parents = {inner.id: parent_id for parent_id, inside in self.children.items() for inner in inside}
        alike = Counter[tuple[int | None, str, Status]]()
        wanted: list[tuple[bool, int, int]] = []
        for depth, call in walked:
            kind = (parents[call.id], call.node, call.status)
            alike[kind] += 1
            if depth <= deepest and alike[kind] <= _ALIKE:
                wanted.append((call.status is Status.COMPLETED, depth, call.id))
        shown: set[int] = set()
        for _, _, call_id in sorted(wanted):
            around: set[int] = set()
            each: int | None = call_id
            while each is not None and each not in shown:
                around.add(each)
                each = parents[each]
            if len(shown) + len(around) <= most:
                shown |= around
        return shown


@define(frozen=True)
class Row:
    """One row of a tree.

    Attributes:
        depth: How many calls it is in.
        call: The call; of a row that stands for several calls the first of them.
        is_parent: Whether rows of calls in it follow.
        folded: For how many calls alike the row stands; 0 for the row of one call.
        inside: How many calls are in those.
        is_mixed: Whether those are calls of several nodes.
        is_last: Whether it is the last row in its parent.
    """

    depth: int
    call: CallRecord
    is_parent: bool = False
    folded: int = 0
    inside: int = 0
    is_mixed: bool = False
    is_last: bool = False


def fold_text(row: Row) -> str:
    """Return what a row says that stands for several calls."""
    of = "calls of other nodes" if row.is_mixed else f"of {call_name(row.call)} {word(row.call.status)}"
    inside = f", with {calls_in_words(row.inside)} inside" if row.inside else ""
    return f"{row.folded:,} more {of}{inside}"
