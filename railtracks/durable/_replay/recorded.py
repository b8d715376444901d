"""What an earlier run recorded of a session, as the journal reads it.

Made by the run of a session from its rows, and asked by everything here that replays. It knows the rows, and which of
them code has asked for. In which order outcomes are handed over, `turns` decides.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from railtracks._records.slices import Pauses
from railtracks.durable._replay.recorded_calls import OUTCOMES, RecordedCall, RecordedCalls
from railtracks.durable._replay.strands import key_of
from railtracks.durable._store.schema import ROOT, CallRow, RowStatus
from railtracks.durable._store.table import CALLS, RowTable
from railtracks.exceptions import StoreError


def outcome_of(row: CallRow) -> bytes:
    """Return the outcome of a row, which must have one: only openings and cancelled calls have none.

    Raises:
        StoreError: If it has none, as in a damaged store.
    """
    if row.outcome is None:
        raise StoreError(f"the recorded call {row.key} of node {row.node!r} has no outcome in the store")
    return row.outcome


class RecordedStarts:
    """The recorded starts of background calls, and which of them code has asked for in this run."""

    def __init__(self) -> None:
        self._rows: dict[str, CallRow] = {}
        self._by_position: dict[tuple[str, int, int], CallRow] = {}
        self._by_parent: dict[str, list[CallRow]] = {}
        self._claimed: set[str] = set()

    def __iter__(self) -> Iterator[CallRow]:
        return iter(self._rows.values())

    def add(self, row: CallRow) -> None:
        """Take up the row of a start, by its key, its position and its parent record."""
        self._rows[row.key] = row
        self._by_position[row.strand, row.position, row.place] = row
        self._by_parent.setdefault(row.parent, []).append(row)

    def claim(self, key: str) -> CallRow | None:
        """Note that code has asked for a start; return its row, `None` if it is not recorded."""
        self._claimed.add(key)
        return self._rows.get(key)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def at(self, position: tuple[str, int, int]) -> CallRow | None:
        """Return the start of the call at a position, `None` if it is not in the background."""
        return self._by_position.get(position)

    def unclaimed(self, parent: str) -> CallRow | None:
        """Return a start in a call that no code has asked for."""
        return next((row for row in self._by_parent.get(parent, ()) if row.key not in self._claimed), None)


class RecordedBroadcasts:
    """The recorded broadcasts, and which of them an earlier run delivered."""

    def __init__(self) -> None:
        self._rows: dict[str, CallRow] = {}
        self._delivered: set[str] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[CallRow]:
        return iter(self._rows.values())

    def add(self, row: CallRow) -> None:
        """Take the row of a broadcast, or of its delivery."""
        if row.status == RowStatus.DELIVERED:
            self._delivered.add(row.key)
        else:
            self._rows[row.key] = row

    def is_delivered(self, key: str) -> bool:
        """Return whether a broadcast has reached the callback."""
        return key in self._delivered


class RecordedSession:
    """The rows of one session as earlier runs left them, indexed for the questions that a replay asks.

    Args:
        rows: The rows.
        pauses: Lets other threads run meanwhile, if this is made in a thread.

    Attributes:
        rows: The rows.
        calls: The recorded calls, in the order of their first rows.
        starts: The starts of background calls.
        broadcasts: The broadcasts.
        outcomes: The indexes of the rows with outcomes, in the order of the commits.
        late_ends: The numbers of the attempts whose outcomes have no place in this order, see `_find_late_ends`.
    """

    def __init__(self, rows: RowTable, pauses: Pauses | None = None) -> None:
        pauses = pauses or Pauses()
        self.rows = rows
        self.calls = RecordedCalls(rows)
        self.starts = RecordedStarts()
        self.broadcasts = RecordedBroadcasts()
        self.outcomes = array("i")
        self.late_ends: set[int] = set()
        # Of the calls in which code runs again, those that `is_closed` has seen.
        self._open = bytearray(len(rows.calls))
        # By strand, the number behind the last one.
        self._lengths: dict[str, int] = {}
        # By strand and number, a call of a fan-out: of those that were not cancelled the one with the highest place.
        self._fan_outs: dict[tuple[str, int], int] = {}
        # Of the calls in a parent record, by parent record and node, what `left_first_calls` has found last.
        self._left: dict[tuple[str, str], list[int]] = {}
        # By the numbers of calls, the indexes of the last rows by which they began again.
        self._retried: dict[int, int] = {}
        for index in pauses.between(range(len(rows))):
            self._add(index)
        # The first call in each parent record, and by the numbers of calls the next one in the same parent record.
        self._first_inside: dict[str, int] = {}
        self._next = array("i", [-1]) * len(rows.calls)
        for number in pauses.between(range(len(rows.calls) - 1, -1, -1)):
            if self.calls.first[number] >= 0:
                self._find_place(number)
        if self._retried:
            self._forget_ends()
        if any(attempt > 1 for attempt in rows.calls.attempts):
            self._find_late_ends(pauses)
        # The positions of background calls that have ended well. Their attempts share a position.
        self._ended = {
            rows.calls.position(number)
            for number in (self.calls.numbers() if self.starts else ())
            if self.calls.status(number) in {RowStatus.COMPLETED, RowStatus.CANCELLED} and self._start_of(number)
        }

    def _add(self, index: int) -> None:
        status = self.rows.statuses[index]
        if status == RowStatus.STARTED:
            self.starts.add(self.rows[index])
        elif status not in CALLS:
            self.broadcasts.add(self.rows[index])
        else:
            number = self.calls.add(index)
            if status in OUTCOMES:
                self.outcomes.append(index)
            elif status == RowStatus.RETRIED:
                self._retried[number] = index

    def _find_place(self, number: int) -> None:
        """Note where a call stands. Called for the last call first."""
        self.calls.expect(number)
        table = self.rows.calls
        parent = table.parents[number]
        self._next[number] = self._first_inside.get(parent, -1)
        self._first_inside[parent] = number
        # Further attempts have the position of the first one.
        if table.attempts[number] == 1:
            strand, position, place = table.position(number)
            self._lengths[strand] = max(self._lengths.get(strand, 0), position + 1)
            if place >= 0:
                widest = self._fan_outs.setdefault((strand, position), number)
                if self._width(number) > self._width(widest):
                    self._fan_outs[strand, position] = number

    def _width(self, number: int) -> tuple[bool, int]:
        return self.calls.status(number) != RowStatus.CANCELLED, self.rows.calls.places[number]

    def _forget_ends(self) -> None:
        """Forget the outcomes of calls that began again since; set the later attempts of these aside."""
        about, retried = self.rows.about, self._retried
        self.outcomes = array("i", (each for each in self.outcomes if each > retried.get(about[each], -1)))
        table = self.rows.calls
        for number in self.calls.numbers():
            around: int | None = number
            while around is not None:
                if around in retried and table.attempts[around] > 1:
                    self.calls.set_aside(number, retried[around])
                    break
                around = table.numbers.get(table.parents[around])

    def _find_late_ends(self, pauses: Pauses) -> None:
        """Find the attempts of calls that were recorded with their outcomes when the next attempt had long begun.

        The outcomes of an agent that is read as a stream are recorded at the end of the stream, behind the record of
        it. Waiting for a turn there, the outcome would hold up the next attempt, which all other outcomes wait for.
        """
        calls, rows = self.calls, self.rows
        before: dict[tuple[str, int, int], int] = {}
        for number in pauses.between(calls.numbers()):
            position = rows.calls.position(number)
            last = before.get(position)
            has_late_end = last is not None and rows.seq(calls.last[last]) > calls.began_after[number]
            if last is not None and has_late_end and calls.status(last) in OUTCOMES and not calls.is_aside(number):
                self.late_ends.add(last)
            before[position] = number

    def is_closed(self, key: str) -> bool:
        """Return whether a call, or one around it, is recorded with its outcome: then no code runs again in it.

        A call that was cancelled may have none itself: see `LeftWork` and `CancelCause`.
        """
        calls, number = self.calls, self.rows.calls.numbers.get(key)
        passed: list[int] = []
        while number is not None and not self._open[number] and calls.status(number) not in OUTCOMES:
            passed.append(number)
            number = calls.around(number)
        if number is not None and not self._open[number]:
            return True
        # No call is looked at twice, however deep the calls are nested.
        for each in passed:
            self._open[each] = True
        return False

    def is_repeated(self, number: int) -> bool:
        """Return whether the code that asked for a call runs again."""
        if self.is_closed(self.rows.calls.parents[number]):
            return False
        start = self._start_of(number)
        return start is None or self._is_started_again(start)

    def _start_of(self, number: int) -> CallRow | None:
        """Return the start of a call, `None` if it is not in the background."""
        # Most sessions have no background calls, and need not make a tuple for each call.
        return self.starts.at(self.rows.calls.position(number)) if self.starts else None

    def _is_started_again(self, start: CallRow) -> bool:
        """Return whether a background call is started again, by its starter or the journal."""
        # If its starter runs again, the starter starts it. If not, the journal starts it, unless it has ended well
        # (test_durable_resume.py::test_a_background_call_that_failed_fails_the_resumed_session_too).
        return not self.is_closed(start.parent) or (start.strand, start.position, start.place) not in self._ended

    def comes_early(self, number: int) -> bool:
        """Return whether code asks for a call before the replay is over, every time it runs."""
        if self.calls.status(number) != RowStatus.CANCELLED:
            return True
        # Which calls of a fan-out still begin when it is cancelled is a race that no run can repeat, and need not. A
        # cancelled call whose parent is not in the record is asked for after everything that is.
        table = self.rows.calls
        parent = table.parents[number]
        return table.places[number] < 0 and (parent == ROOT or parent in table.numbers)

    def inside(self, key: str) -> Iterator[int]:
        """Return the numbers of the recorded calls with a parent record."""
        number = self._first_inside.get(key, -1)
        while number >= 0:
            yield number
            number = self._next[number]

    def children(self, key: str) -> Iterator[RecordedCall]:
        """Return the recorded calls with a parent record."""
        return (RecordedCall(self.calls, number) for number in self.inside(key))

    def left_first_calls(self, key: str, node: str) -> list[CallRow]:
        """Return the rows of calls of a node that no code has asked for, and that were the first of a strand in a call.

        Args:
            key: The key of the call.
            node: The name of the node.
        """
        table, calls = self.rows.calls, self.calls
        left = self._left.setdefault((key, node), [*self.inside(key)])
        left[:] = [
            each
            for each in left
            if not calls.is_claimed(each)
            and (table.nodes[each], table.positions[each], table.places[each], table.attempts[each]) == (node, 0, -1, 1)
        ]
        return [self.rows[calls.last[each]] for each in left]

    def at(self, strand: str, number: int) -> RecordedCall | None:
        """Return a recorded call that has a number in a strand, `None` if there is none."""
        if number >= self._lengths.get(strand, 0):
            # Quick, for all that is new.
            return None
        found = self._fan_outs.get((strand, number))
        return self.calls.get(key_of(strand, "call", number)) if found is None else RecordedCall(self.calls, found)

    def goes_on(self, strand: str, number: int) -> bool:
        """Return whether anything is recorded in a strand after a number."""
        return self._lengths.get(strand, 0) > number + 1

    def beyond(self, strand: str, number: int, count: int) -> RecordedCall | None:
        """Return a recorded call of a fan-out whose slot is not among the first ones, and that was not cancelled.

        Args:
            strand: The key of the strand that the fan-out is in.
            number: The number of the fan-out there.
            count: How many slots are the first ones.
        """
        # How many calls of a cancelled fan-out had begun is a race, see `comes_early`.
        widest = self._fan_outs.get((strand, number))
        if widest is None or self._width(widest) < (True, count):
            return None
        return RecordedCall(self.calls, widest)

    def unclaimed(self, key: str) -> CallRow | None:
        """Return the row of a call, or of a start, that is recorded in a call and that no code has asked for.

        A cancelled call does not count. A background call is asked for by its start.
        """
        calls = self.calls
        # At the end of a replay there is none, and a call may have had very many inside.
        for number in self.inside(key) if calls.are_missed else ():
            if calls.is_missed(number) and self._start_of(number) is None:
                return self.rows[calls.last[number]]
        return self.starts.unclaimed(key)

    def to_restart(self) -> list[CallRow]:
        """Return the starts of the background calls that have not ended well, and that no starter starts again.

        One that failed raises its failure once more, or goes on with its next attempt.
        """
        return [row for row in self.starts if self.is_closed(row.parent) and self._is_started_again(row)]

    def to_broadcast_again(self) -> list[CallRow]:
        """Return the broadcasts that were not delivered, and that no code repeats."""
        known = self.broadcasts
        return [row for row in known if not known.is_delivered(row.key) and self.is_closed(row.parent)]
