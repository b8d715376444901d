"""What an earlier run recorded of a session, as the journal reads it.

Made by the run of a session from its rows, and asked by everything here that replays. It knows the rows, and which of
them code has asked for. In which order outcomes are handed over, `turns` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define, field

from railtracks.durable._store.schema import ROOT, CallRow, RowStatus
from railtracks.exceptions import StoreError

_OUTCOMES: Final = frozenset([RowStatus.COMPLETED, RowStatus.FAILED, RowStatus.CANCELLED])
# The rows that are about calls.
CALLS: Final = _OUTCOMES | {RowStatus.OPENED, RowStatus.RETRIED}


def outcome_of(row: CallRow) -> bytes:
    """Return the outcome of a row, which must have one: only openings and cancelled calls have none.

    Raises:
        StoreError: If it has none, as in a damaged store.
    """
    if row.outcome is None:
        raise StoreError(f"the recorded call {row.key} of node {row.node!r} has no outcome in the store")
    return row.outcome


@define(eq=False)
class RecordedCall:
    """One attempt of a call as earlier runs recorded it, and whether code has asked for it in this run.

    Attributes:
        key: The key of the call.
        row: The row of its outcome, or else that of its beginning.
        began_after: The number of the last commit whose outcome had been handed over when the call first began.
        began_at: The wall time when it first began.
        is_claimed: Whether code has asked for it in this run.
        is_aside: Whether it belongs to a later attempt of a call that a person had run again. The call begins with its
            first attempt, so code may never come here. Until it does, nothing waits for this.
        told: The row that tells what became of it last, before a person had it run again.
    """

    key: str
    row: CallRow
    began_after: int
    began_at: float
    is_claimed: bool = False
    is_aside: bool = False
    told: CallRow = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.told = self.row

    @property
    def has_beginning(self) -> bool:
        """Whether its last row says that it began or ended, and not that it is to begin again."""
        return self.row.status != RowStatus.RETRIED

    @property
    def is_under_way(self) -> bool:
        """Whether it runs in this run, or would if code asked for it, and the record tells of no earlier end."""
        return not self.has_outcome and (self.is_claimed or self.has_beginning)

    @property
    def has_outcome(self) -> bool:
        """Whether the record says how it ended."""
        return self.row.status in _OUTCOMES

    @property
    def is_cancelled(self) -> bool:
        """Whether it ended by being cancelled, and so has no outcome that code could miss."""
        return self.row.status == RowStatus.CANCELLED

    def update(self, row: CallRow) -> None:
        """Take a later row of the same call."""
        self.row = row
        if self.has_beginning:
            self.told = row

    def set_aside(self, retried: int) -> None:
        """Set the call aside, unless it has begun again since a row that had an attempt around it begin again.

        Args:
            retried: The number of that row.
        """
        if self.row.seq > retried and self.has_beginning:
            self.began_after = self.row.began_after
        else:
            self.is_aside = True

    def claim(self) -> None:
        """Note that code has asked for this attempt in this run."""
        self.is_claimed = True


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
        self._by_position[_position_of(row)] = row
        self._by_parent.setdefault(row.parent, []).append(row)

    def claim(self, key: str) -> CallRow | None:
        """Note that code has asked for a start; return its row, `None` if it is not recorded."""
        self._claimed.add(key)
        return self._rows.get(key)

    def of(self, row: CallRow) -> CallRow | None:
        """Return the start of the call that a row is about, `None` if it is not in the background."""
        # Most sessions have no background calls, and need not make a tuple for each row.
        return self._by_position.get(_position_of(row)) if self._by_position else None

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

    Attributes:
        calls: The recorded calls by their keys, in the order of their first rows.
        starts: The starts of background calls.
        broadcasts: The broadcasts.
        outcomes: The rows of outcomes, in the order of the commits.
        last_seq: The number of the last row.
    """

    def __init__(self, rows: Iterable[CallRow]) -> None:
        self.calls: dict[str, RecordedCall] = {}
        self.starts = RecordedStarts()
        self.broadcasts = RecordedBroadcasts()
        self.outcomes: list[CallRow] = []
        self.last_seq = 0
        self._children: dict[str, list[RecordedCall]] = {}
        # Of those, by parent record and node, what `left_first_calls` has found last.
        self._left: dict[tuple[str, str], list[RecordedCall]] = {}
        self._by_number: dict[tuple[str, int], RecordedCall] = {}
        self._lengths: dict[str, int] = {}
        self._fan_outs: dict[tuple[str, int], list[RecordedCall]] = {}
        # The numbers of the last rows by which calls began again.
        self._retried: dict[str, int] = {}
        for row in rows:
            self.last_seq = row.seq
            self._add(row)
        if self._retried:
            self._forget_ends()
        # The positions of background calls that have ended well. Their attempts share a position.
        self._ended = {
            _position_of(each.row)
            for each in self.calls.values()
            if each.row.status in {RowStatus.COMPLETED, RowStatus.CANCELLED} and self.starts.of(each.row) is not None
        }

    def _add(self, row: CallRow) -> None:
        if row.status == RowStatus.STARTED:
            self.starts.add(row)
        elif row.status in {RowStatus.BROADCAST, RowStatus.DELIVERED}:
            self.broadcasts.add(row)
        else:
            self._add_call(row)
            if row.status in _OUTCOMES:
                self.outcomes.append(row)
            elif row.status == RowStatus.RETRIED:
                self._retried[row.key] = row.seq

    def _forget_ends(self) -> None:
        """Forget the outcomes of calls that began again since; set the later attempts of these aside."""
        self.outcomes = [row for row in self.outcomes if row.seq > self._retried.get(row.key, 0)]
        for call in self.calls.values():
            around: RecordedCall | None = call
            while around is not None:
                retried = self._retried.get(around.key, 0)
                if retried and around.row.attempt > 1:
                    call.set_aside(retried)
                    break
                around = self.calls.get(around.row.parent)

    def _add_call(self, row: CallRow) -> None:
        known = self.calls.get(row.key)
        if known is not None:
            # The outcome of a call whose beginning is recorded. It keeps the `began_after` of its first beginning.
            known.update(row)
            return
        recorded = self.calls[row.key] = RecordedCall(row.key, row, row.began_after, row.began_at)
        self._children.setdefault(row.parent, []).append(recorded)
        # Further attempts have the position of the first one.
        if row.attempt == 1:
            number = (row.strand, row.position)
            self._by_number.setdefault(number, recorded)
            if row.place >= 0:
                self._fan_outs.setdefault(number, []).append(recorded)
            self._lengths[row.strand] = max(self._lengths.get(row.strand, 0), row.position + 1)

    def is_closed(self, key: str) -> bool:
        """Return whether a call is recorded with its outcome: then no code runs again in it."""
        recorded = self.calls.get(key)
        return recorded is not None and recorded.has_outcome

    def is_repeated(self, row: CallRow) -> bool:
        """Return whether the code that asked for a call runs again."""
        return not self.is_closed(row.parent) and self._is_started_again(row)

    def _is_started_again(self, row: CallRow) -> bool:
        """Return whether a background call is started again, by its starter or the journal; `True` for other calls."""
        # If its starter runs again, the starter starts it. If not, the journal starts it, unless it has ended well
        # (test_durable_resume.py::test_a_background_call_that_failed_fails_the_resumed_session_too).
        start = self.starts.of(row)
        return start is None or not self.is_closed(start.parent) or _position_of(row) not in self._ended

    def comes_early(self, row: CallRow) -> bool:
        """Return whether code asks for a call before the replay is over, every time it runs."""
        if row.status != RowStatus.CANCELLED:
            return True
        # Which calls of a fan-out still begin when it is cancelled is a race that no run can repeat, and need not. A
        # cancelled call whose parent is not in the record is asked for after everything that is.
        return row.place < 0 and (row.parent == ROOT or row.parent in self.calls)

    def children(self, key: str) -> Iterable[RecordedCall]:
        """Return the recorded calls with a parent record."""
        return self._children.get(key, ())

    def left_first_calls(self, key: str, node: str) -> list[CallRow]:
        """Return the rows of calls of a node that no code has asked for, and that were the first of a strand in a call.

        Args:
            key: The key of the call.
            node: The name of the node.
        """
        left = self._left.setdefault((key, node), [*self.children(key)])
        left[:] = [
            each
            for each in left
            if not each.is_claimed
            and (each.row.node, each.row.position, each.row.place, each.row.attempt) == (node, 0, -1, 1)
        ]
        return [each.row for each in left]

    def at(self, strand: str, number: int) -> RecordedCall | None:
        """Return the first recorded call that has a number in a strand, `None` if there is none."""
        return self._by_number.get((strand, number))

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
        for each in self._fan_outs.get((strand, number), ()):
            if each.row.place >= count and not each.is_cancelled:
                return each
        return None

    def unclaimed(self, key: str) -> CallRow | None:
        """Return the row of a call, or of a start, that is recorded in a call and that no code has asked for.

        A cancelled call does not count. A background call is asked for by its start.
        """
        for recorded in self.children(key):
            is_missed = not (recorded.is_claimed or recorded.is_cancelled or recorded.is_aside)
            if is_missed and self.starts.of(recorded.row) is None:
                return recorded.row
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


def _position_of(row: CallRow) -> tuple[str, int, int]:
    """Return the position of a call, which all its attempts have in common."""
    return row.strand, row.position, row.place
