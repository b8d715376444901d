"""Which recorded calls of a session that has ended run again when a person asks for it.

`DurableStore.retry` calls this. A failed call runs again if the code did not go on from it (`going_on`), and if every
call around it runs again, too. So does a cancelled one, because what cancelled it may not come again. A failure that
the code went on from is past: what came after it was built on it. Where the record does not tell, a failure is past.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Final, TypeAlias

from attrs import define, field

from railtracks.durable._replay.going_on import NEVER, Begun, End, GoingOn, since
from railtracks.durable._replay.identities import Identities
from railtracks.durable._replay.inner_blocks import InnerBlocks, Place
from railtracks.durable._store.schema import FLOW, ROOT, WAIT, CallRow, RowStatus
from railtracks.durable._store.table import CALLS

_UNSUCCESSFUL: Final = frozenset([RowStatus.FAILED, RowStatus.CANCELLED])
_OUTCOMES: Final = frozenset([RowStatus.COMPLETED, RowStatus.FAILED])


@define(frozen=True)
class InnerSession:
    """A session inside.

    Attributes:
        name: What a session block is called in its place.
        began_at: When it began.
        ended_at: When it has ended, if it has.
        has_failed: Whether it has ended and not completed.
        is_possible: Whether it can be opened again and end otherwise.
    """

    name: str
    began_at: float
    ended_at: float | None
    has_failed: bool = False
    is_possible: bool = False


# By identifier.
InnerSessions: TypeAlias = Mapping[str, InnerSession]


@define(eq=False)
class EndedCall:
    """One call of an ended session with all its attempts.

    Attributes:
        attempts: The last row of each attempt, by its key.
        row: The last row of all: how the call ended.
        call_id: Its number in the views: that of its first row, or of its first row since it last began again.
        began: Its first row.
        is_last: Whether the code did not go on after it.
        outcome: The number of the row of its first outcome; infinity if it has none.
        has_inside: Whether any call was made in it.
        may_run: Whether it runs again if every call around it does.
        inside: The calls that were made in it.
        sessions: The sessions that failed last in it, or that it ran as a flow.
    """

    attempts: dict[str, CallRow]
    row: CallRow
    call_id: int
    began: CallRow
    is_last: bool = True
    outcome: float = math.inf
    has_inside: bool = False
    may_run: bool = False
    inside: list[EndedCall] = field(factory=list["EndedCall"])
    sessions: list[str] = field(factory=list[str])

    @property
    def has_failed(self) -> bool:
        """Whether it ended by a failure."""
        return self.row.status == RowStatus.FAILED

    @property
    def ended_at(self) -> float:
        """When it ended."""
        return self.row.ended_at or 0.0

    @property
    def is_open(self) -> bool:
        """Whether it has no outcome, so that it runs again in any case."""
        return self.row.status in {RowStatus.OPENED, RowStatus.RETRIED}

    def add(self, row: CallRow) -> None:
        """Add a later row."""
        if self.row.status == RowStatus.RETRIED:
            self.call_id = row.seq
        self.attempts[row.key] = self.row = row

    def decide(self, inner: InnerSessions) -> None:
        """Find out whether it may run again, once that is known of the calls inside."""
        if self.is_open:
            self.may_run = True
        elif self.row.status in _UNSUCCESSFUL and self.is_last:
            self.may_run = not self.has_failed or _may_end_otherwise(self.inside, self.sessions, inner)

    def begin_again(self) -> Iterator[CallRow]:
        """Return the last rows of the attempts that have to begin again."""
        # An attempt that was open goes on by itself. A further one does not, because attempts begin anew; and a wait
        # gets its whole timeout once more.
        is_as_it_is = self.is_open and len(self.attempts) == 1 and not self.row.node.startswith(WAIT)
        return iter(() if is_as_it_is else self.attempts.values())


def _end_of(row: CallRow) -> End:
    """Return the end of a call, given its last row."""
    seq = row.seq if row.status == RowStatus.FAILED else None
    return End(row.parent, row.strand, row.position, seq, row.ended_at or 0.0)


class _Outcomes:
    """How many rows there were at a time, by the clocks of those that wrote them."""

    def __init__(self, rows: list[CallRow]) -> None:
        ended = sorted((row.ended_at or 0.0, row.seq) for row in rows if row.status in _OUTCOMES)
        self._times = [at for at, _ in ended]
        self._last = [0, *accumulate((seq for _, seq in ended), max)]

    def until(self, at: float) -> int:
        """Return the number of the last outcome at a time."""
        return self._last[bisect_right(self._times, at)]


def _may_end_otherwise(inside: list[EndedCall], sessions: list[str], inner: InnerSessions) -> bool:
    """Return whether code that has failed may end otherwise: by itself, or by what runs again in it.

    Code in which calls have failed, and none of them runs again, would only fail once more.
    """
    failed = [each.may_run for each in inside if each.has_failed] + [inner[each].is_possible for each in sessions]
    return not failed or any(failed) or any(each.may_run for each in inside)


class Reopening:
    """The calls of one ended session, and which of them run again.

    Args:
        identities: What the session and its calls are known by outside.
        rows: Its rows, in the order of the commits.
        inner: The sessions inside it.

    Attributes:
        is_possible: Whether the session may end otherwise than it did.
    """

    def __init__(self, identities: Identities, rows: list[CallRow], inner: InnerSessions) -> None:
        self._rows = rows
        self._inner = inner
        self._calls: dict[tuple[str, int, int], EndedCall] = {}
        self._by_key: dict[str, EndedCall] = {}
        self._going_on = GoingOn()
        # A background call has a strand of its own: its starter has gone on at once.
        starts = {(row.strand, row.position, row.place) for row in rows if row.status == RowStatus.STARTED}
        for row in rows:
            if row.status in CALLS:
                self._add((row.strand, row.position, row.place), row)
        self._take_up_rows(starts)
        self._top: list[EndedCall] = []
        for call in self._calls.values():
            around = self._by_key.get(call.row.parent)
            (self._top if around is None else around.inside).append(call)
        flows = self._flows(identities) if inner else {}
        blocks = self._find_blocks(identities, {key: each for key, each in inner.items() if key not in flows})
        self._going_on.close()
        for position, call in self._calls.items():
            call.is_last = position in starts or not self._going_on.is_past(_end_of(call.row))
        self._sessions: list[str] = []
        self._place_sessions(flows, blocks)
        # What is inside is decided first.
        for call in reversed(list(self._walk(only_again=False))):
            call.decide(inner)
        self.is_possible = _may_end_otherwise(self._top, self._sessions, inner)

    def _take_up_rows(self, starts: set[tuple[str, int, int]]) -> None:
        """Tell what began: each call by its first row, and what is no call."""
        with_calls = {(row.parent, row.strand) for row in self._rows if row.status in CALLS}
        for position, call in self._calls.items():
            if position not in starts:
                began, row = call.began, call.row
                is_void = row.status == RowStatus.CANCELLED and not (call.has_inside or self._inner)
                at = began.began_after, began.began_at
                ended = since(call.ended_at) if row.status == RowStatus.CANCELLED else NEVER
                passed = call.outcome, ended[1]
                self._going_on.add(Begun(row.parent, row.strand, row.position, at, passed, is_void))
        for row in self._rows:
            if row.status in {RowStatus.STARTED, RowStatus.BROADCAST}:
                # In tasks that have made no call yet, numbers count equal things, in no order.
                is_ordered = row.strand == row.parent or (row.parent, row.strand) in with_calls
                strand = row.strand if is_ordered else f"{row.strand} {row.position}"
                number = row.position if is_ordered else 0
                # Nothing waits for its row.
                passed = since(row.began_at)
                self._going_on.add(Begun(row.parent, strand, number, (row.seq, row.began_at), passed))

    def _flows(self, identities: Identities) -> dict[str, EndedCall]:
        """Return the calls of inner flows, by the identifiers of the sessions that these ran."""
        calls = (each for each in self._calls.values() if each.row.node.startswith(FLOW))
        return {identities.of_flow(next(iter(each.attempts)))[0]: each for each in calls}

    def _find_blocks(self, identities: Identities, inner: InnerSessions) -> dict[str, Place | None]:
        """Return where session blocks stand, as far as that is found, and tell when they began."""
        blocks = InnerBlocks(identities, {key: each.name for key, each in inner.items()})
        # In a completed call no block is opened again.
        open_ = [each for each in self._calls.values() if each.row.status != RowStatus.COMPLETED]
        bodies = [ROOT, *(key for each in open_ for key in each.attempts)] if inner else []
        blocks.find({key: self._going_on.strands(key) for key in bodies})
        outcomes = _Outcomes(self._rows if blocks.places else [])
        for key, place in blocks.places.items():
            each = inner[key]
            at = outcomes.until(each.began_at), each.began_at
            passed = NEVER if each.ended_at is None else since(each.ended_at)
            self._going_on.add(Begun(place.body, place.strand, place.number, at, passed))
        return {key: blocks.places.get(key) for key in inner}

    def _place_sessions(self, flows: dict[str, EndedCall], blocks: dict[str, Place | None]) -> None:
        """Note of each failed session inside in which call it may be opened again, unless it is past."""
        for key, each in self._inner.items():
            if not each.has_failed:
                continue
            if key in flows:
                flows[key].sessions.append(key)
            elif self._is_last_block(each, blocks[key]):
                place = blocks[key]
                around = None if place is None else self._by_key.get(place.body)
                (self._sessions if around is None else around.sessions).append(key)

    def _is_last_block(self, block: InnerSession, place: Place | None) -> bool:
        """Return whether the code did not go on after a session block."""
        ended_at = block.ended_at or 0.0
        if place is not None:
            return not self._going_on.is_past(End(place.body, place.strand, place.number, None, ended_at))
        # Nobody knows which call is around it. It may be any that was open then.
        others = (each.began_at for each in self._inner.values())
        return max(self._going_on.last_at, *others) < ended_at and not any(
            each.row.status == RowStatus.COMPLETED
            and each.began.began_at <= block.began_at
            and each.ended_at >= ended_at
            for each in self._calls.values()
        )

    def _add(self, position: tuple[str, int, int], row: CallRow) -> None:
        known = self._calls.get(position)
        if known is None:
            known = self._calls[position] = EndedCall({row.key: row}, row, row.seq, row)
        else:
            known.add(row)
        if row.status in _OUTCOMES:
            known.outcome = min(known.outcome, row.seq)
        self._by_key[row.key] = known
        around = self._by_key.get(row.parent)
        if around is not None:
            around.has_inside = True

    def _walk(self, *, only_again: bool) -> Iterator[EndedCall]:
        """Return all calls, or those that run again: each after the call around it."""
        # Calls may be nested deeper than Python's stack.
        left = self._top[:]
        while left:
            call = left.pop()
            if call.may_run or not only_again:
                yield call
                left.extend(call.inside)

    def rows(self, now: float, wait_until: Callable[[CallRow], bytes | None]) -> Iterator[CallRow]:
        """Return the new rows by which calls begin again, without their numbers.

        Args:
            now: The time by the clock of the store.
            wait_until: Returns the deadline of a wait that begins now, as it is stored.
        """
        for call in self._walk(only_again=True):
            for row in call.begin_again():
                # Nothing waits in a later attempt until code comes there (`set_aside`), and the wait begins only then.
                until = wait_until(row) if row.node.startswith(WAIT) and not self._is_in_later_attempt(row) else None
                yield row._replace(status=RowStatus.RETRIED, outcome=until, context=None, began_at=now, ended_at=None)

    def _is_in_later_attempt(self, row: CallRow) -> bool:
        """Return whether a call was made in a further attempt of a call, at any depth."""
        around = self._by_key.get(row.parent)
        while around is not None:
            row = around.attempts[row.parent]
            if row.attempt > 1:
                return True
            around = self._by_key.get(row.parent)
        return False

    def sessions(self) -> Iterator[str]:
        """Return the sessions inside that are opened again."""
        yield from self._sessions
        for call in self._walk(only_again=True):
            yield from call.sessions

    def past(self) -> tuple[EndedCall, str] | None:
        """Return the last failed call that the code went on from, and what an error calls what came next."""
        failed = [each for each in self._calls.values() if each.has_failed and not each.is_last]
        if not failed:
            return None
        last = max(failed, key=lambda each: each.row.seq)
        end = last.row
        begun = [row for row in self._rows if row.parent == end.parent and row.status != RowStatus.DELIVERED]
        later = [row for row in begun if row.strand == end.strand and row.position > end.position]
        if later:
            return last, _named(min(later, key=lambda row: row.position))
        later = [row for row in begun if (row.began_after if row.status in CALLS else row.seq) >= end.seq]
        return last, _named(later[0]) if later else "a session block"


def _named(row: CallRow) -> str:
    return repr(row.node or "a broadcast")
