"""Which recorded calls of a session that has ended run again when a person asks for it.

`DurableStore.retry` calls this. A failed call runs again if nothing is recorded after it in its strand, and if every
call around it runs again, too. So does a cancelled one, because what cancelled it may not come again. A failure that
the code went on from is past: what came after it was built on it. The code around a nursery went on from all that had
ended in its tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, takewhile
from typing import Final, TypeAlias

from attrs import define, field

from railtracks.durable._replay.identities import Identities
from railtracks.durable._replay.strands import block_label
from railtracks.durable._store.schema import ROOT, WAIT, CallRow, RowStatus
from railtracks.durable._store.table import CALLS

_UNSUCCESSFUL: Final = frozenset([RowStatus.FAILED, RowStatus.CANCELLED])
# How many numbers a strand may have taken for what is in no row, before a session block that was opened there.
_UNRECORDED: Final = 16


@define(frozen=True)
class InnerSession:
    """A session inside that has ended and not completed.

    Attributes:
        name: What a session block is called in its place.
        ended_at: When it has ended.
        is_possible: Whether it can be opened again and end otherwise.
    """

    name: str
    ended_at: float
    is_possible: bool


# By identifier.
InnerSessions: TypeAlias = Mapping[str, InnerSession]


@define(eq=False)
class EndedCall:
    """One call of an ended session with all its attempts.

    Attributes:
        attempts: The last row of each attempt, by its key.
        row: The last row of all: how the call ended.
        call_id: Its number in the views: that of its first row, or of its first row since it last began again.
        is_last: Whether the code did not go on after it: nothing is recorded after it in its strand, and nothing began
            after its end in the code of the call around it.
        may_run: Whether it runs again if every call around it does.
        inside: The calls that were made in it.
        sessions: The sessions that failed last in it, or that it ran as a flow.
    """

    attempts: dict[str, CallRow]
    row: CallRow
    call_id: int
    is_last: bool = True
    may_run: bool = False
    inside: list[EndedCall] = field(factory=list["EndedCall"])
    sessions: list[str] = field(factory=list[str])

    @property
    def has_failed(self) -> bool:
        """Whether it ended by a failure."""
        return self.row.status == RowStatus.FAILED

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


@define(eq=False)
class Strip:
    """What is recorded of one strand.

    Attributes:
        end: The number of what was recorded last.
        begun_after: How many rows there were when the last thing in it first began.
        begun_at: The wall time then.
    """

    end: int = -1
    begun_after: int = -1
    begun_at: float = -math.inf

    def add(self, row: CallRow, *, is_first: bool) -> None:
        """Take up a row of the strand, which may be the first one of its call."""
        self.end = max(self.end, row.position)
        if is_first:
            # What is no call has a row at once, and ends with it.
            self.begun_after = max(self.begun_after, row.began_after if row.status in CALLS else row.seq)
            self.begun_at = max(self.begun_at, row.began_at)

    def went_on_after(self, row: CallRow) -> bool:
        """Return whether something began in this strand after a call of another strand had ended.

        Args:
            row: The row of its end.
        """
        if row.status == RowStatus.FAILED:
            return self.begun_after >= row.seq
        # The row of a cancelled call is committed some time after the cancel. So the clock has to tell.
        return self.begun_at >= (row.ended_at or 0.0)


def _strip_of(row: CallRow) -> Strip:
    """Return a strand with this row alone."""
    strip = Strip()
    strip.add(row, is_first=True)
    return strip


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
        inner: The sessions inside it that have ended and not completed.
        inside: The identifiers of all sessions inside it.

    Attributes:
        is_possible: Whether the session may end otherwise than it did.
    """

    def __init__(
        self, identities: Identities, rows: list[CallRow], inner: InnerSessions, inside: frozenset[str]
    ) -> None:
        self._identities = identities
        self._rows = rows
        self._inside = inside
        self._calls: dict[tuple[str, int, int], EndedCall] = {}
        self._by_key: dict[str, EndedCall] = {}
        # By strand.
        self._strips: dict[str, Strip] = {}
        starts = set[tuple[str, int, int]]()
        for row in rows:
            position = row.strand, row.position, row.place
            strip = self._strips.setdefault(row.strand, Strip())
            strip.add(row, is_first=position not in self._calls and position not in starts)
            if row.status == RowStatus.STARTED:
                starts.add(position)
            elif row.status in CALLS:
                self._add(position, row)
        self._top: list[EndedCall] = []
        for (strand, number, place), call in self._calls.items():
            # A background call has a strand of its own: its starter has gone on at once.
            call.is_last = (strand, number, place) in starts or (
                number == self._strips[strand].end and not self._is_left(call.row)
            )
            around = self._by_key.get(call.row.parent)
            (self._top if around is None else around.inside).append(call)
        for call in self._calls.values() if inner else ():
            flow, _ = identities.of_flow(next(iter(call.attempts)))
            call.sessions = [flow] if flow in inner else self._blocks_in(call.attempts, call.inside, inner)
        self._sessions = self._blocks_in([ROOT], self._top, inner)
        # What is inside is decided first.
        for call in reversed(list(self._walk(only_again=False))):
            call.decide(inner)
        self.is_possible = _may_end_otherwise(self._top, self._sessions, inner)

    def _add(self, position: tuple[str, int, int], row: CallRow) -> None:
        known = self._calls.get(position)
        if known is None:
            known = self._calls[position] = EndedCall({row.key: row}, row, row.seq)
        else:
            known.add(row)
        self._by_key[row.key] = known

    def _is_left(self, row: CallRow) -> bool:
        """Return whether the code around a nursery went on after a call of one of its tasks.

        The task has a strand of its own, and the code of the call around it another one. What other tasks did then says
        nothing: they may not have heard of the end.
        """
        around = None if row.strand == row.parent else self._strips.get(row.parent)
        return around is not None and around.went_on_after(row)

    def _blocks_in(self, keys: Iterable[str], inside: list[EndedCall], inner: InnerSessions) -> list[str]:
        """Return the sessions of blocks that were opened last in a strand of a call, or of the session."""
        if not inner:
            return []
        found = [each for key in keys for each in self._blocks_of_tasks(key, inner)]
        for strand in {*keys, *(each.row.strand for each in inside)}:
            end = self._strips.get(strand, Strip()).end + 1
            places = (self._identities.of_place(strand, number)[0] for number in range(end, end + _UNRECORDED))
            found.extend(each for each in places if each in inner)
        return found

    def _blocks_of_tasks(self, key: str, inner: InnerSessions) -> Iterator[str]:
        """Return the sessions of blocks that tasks of a call opened before their first call, and that are not past."""
        around = self._strips.get(key, Strip())
        for name in sorted({each.name for each in inner.values()}):
            places = (self._identities.of_place(block_label(key, name), number)[0] for number in count())
            opened = [*takewhile(self._inside.__contains__, places)]
            # Such a block has no row here that would tell by its number what came after it.
            if opened and opened[-1] in inner and around.begun_at < inner[opened[-1]].ended_at:
                yield opened[-1]

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

    def past(self) -> tuple[EndedCall, CallRow] | None:
        """Return the last failed call that the code went on from, and the row of what came next."""
        failed = [each for each in self._calls.values() if each.has_failed and not each.is_last]
        if not failed:
            return None
        last = max(failed, key=lambda each: each.row.seq)
        strand = last.row.strand
        later = [row for row in self._rows if row.strand == strand and row.position > last.row.position]
        return last, min(later or self._after_nursery(last.row), key=lambda row: row.position)

    def _after_nursery(self, row: CallRow) -> list[CallRow]:
        """Return the rows of what began after a call of a nursery's task in the code of the call around it."""
        around = (each for each in self._rows if each.strand == row.parent)
        return [each for each in around if _strip_of(each).went_on_after(row)]
