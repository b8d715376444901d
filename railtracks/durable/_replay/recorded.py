"""What is recorded of a session that is resumed, and the order in which its outcomes come back.

An outcome is handed over when every earlier one was, each in a step of the scheduler of its own, and when every call
has begun that had begun by then: in the run that was recorded as in the one that repeats it. What races in the one
races in the other with the same winner, and who loses has begun in both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import define, field

from railtracks.durable._replay.strands import ROOT

OPENED: Final = "opened"
STARTED: Final = "started"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
BROADCAST: Final = "broadcast"
DELIVERED: Final = "delivered"
_OUTCOMES: Final = frozenset([COMPLETED, FAILED, CANCELLED])
# The rows that are about calls.
CALLS: Final = _OUTCOMES | {OPENED}


@define(eq=False)
class Turn:
    """The place of one outcome in the order of all.

    Attributes:
        row: The recorded outcome, `None` of a new one.
        is_ready: Whether somebody waits for it, or it is written.
        is_over: Whether it was handed over, or nobody will ask.
        before: Recorded outcomes that nobody asks for, because the call around them is recorded: they come just before.
        wake: Called when it is its turn.
    """

    row: Any = None
    is_ready: bool = False
    is_over: bool = False
    before: list[Any] = field(factory=list[Any])
    wake: Callable[[], None] | None = None


class Turns:
    """The order in which outcomes are handed over.

    Attributes:
        recorded: How many recorded ones were not handed over yet.
        progress: Counts what has happened.
    """

    def __init__(self) -> None:
        self.recorded = 0
        self.progress = 0
        self._queue: deque[Turn] = deque()
        # The recorded calls that somebody is to ask for, as they began.
        self._begun: deque[Recorded] = deque()

    def add(self, turn: Turn) -> None:
        """Add one at the end."""
        self._queue.append(turn)
        self.recorded += turn.row is not None

    def expect(self, begun: Iterable[Recorded]) -> None:
        """Wait for these calls to be asked for, each before the first outcome that was handed over after it began."""
        self._begun.extend(begun)

    def is_next(self, turn: Turn) -> bool:
        """Whether it may be handed over now."""
        return bool(self._queue) and self._queue[0] is turn and turn.is_ready and self._is_reached(turn)

    def _is_reached(self, turn: Turn) -> bool:
        begun = self._begun
        while begun and not begun[0].is_awaited:
            begun.popleft()
        return turn.row is None or not begun or begun[0].began_after >= turn.row.seq

    def claimed(self, recorded: Recorded) -> None:
        """Say that somebody has asked for a recorded call."""
        recorded.is_claimed = True
        if recorded.turn is not None:
            recorded.turn.is_ready = True
        self.dismiss(recorded)

    def dismiss(self, recorded: Recorded) -> None:
        """Wait for a recorded call no longer; an outcome of it that nobody has asked for has no turn any more."""
        if recorded.is_awaited:
            recorded.is_awaited = False
            self.progress += 1
        if recorded.turn is not None and not recorded.turn.is_ready:
            self.over(recorded.turn)
        self._wake()

    def dismiss_all(self) -> Recorded | None:
        """Wait for nobody any more; return the first call that was waited for."""
        missing = [each for each in self._begun if each.is_awaited]
        for each in missing:
            self.dismiss(each)
        return missing[0] if missing else None

    def ready(self, turn: Turn) -> None:
        """Say that it can be handed over."""
        turn.is_ready = True
        self._wake()

    def over(self, turn: Turn) -> None:
        """Say that it was, or never will be."""
        if not turn.is_over:
            turn.is_over = True
            self.progress += 1
            self._wake()

    def _wake(self) -> None:
        queue = self._queue
        while queue and queue[0].is_over:
            self.recorded -= queue.popleft().row is not None
        if queue and queue[0].wake is not None and self.is_next(queue[0]):
            queue[0].wake()


@define(eq=False)
class Recorded:
    """One call of the record.

    Attributes:
        row: Its outcome, else what is known of its beginning.
        began_after: The last commit whose outcome had been handed over when it began first.
        turn: Its place in the order, if somebody is to ask for it.
        is_claimed: Whether somebody has.
        is_awaited: Whether that is waited for.
    """

    row: Any
    began_after: int
    turn: Turn | None = None
    is_claimed: bool = False
    is_awaited: bool = False

    @property
    def has_outcome(self) -> bool:
        """Whether it is known how it ended."""
        return self.row.status in _OUTCOMES


class Past:
    """The record of one session."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self.calls: dict[str, Recorded] = {}
        self.started: dict[str, Any] = {}
        self.broadcasts: dict[str, Any] = {}
        self.turns = Turns()
        self.last_seq = 0
        self._children: dict[str, list[Recorded]] = {}
        self._places: dict[tuple[str, int], Recorded] = {}
        self._lengths: dict[str, int] = {}
        self._fans: dict[tuple[str, int], list[Recorded]] = {}
        # Where background calls stand: their attempts share a place.
        self._started_at: dict[tuple[str, int, int], Any] = {}
        self._starts_in: dict[str, list[Any]] = {}
        self._claimed_starts: set[str] = set()
        delivered: set[str] = set()
        outcomes: list[Any] = []
        for row in rows:
            self.last_seq = row.seq
            if row.status == STARTED:
                self.started[row.key] = row
                self._started_at[_place_of(row)] = row
                self._starts_in.setdefault(row.parent, []).append(row)
            elif row.status == BROADCAST:
                self.broadcasts[row.key] = row
            elif row.status == DELIVERED:
                delivered.add(row.key)
            else:
                self._add(row)
                if row.status != OPENED:
                    outcomes.append(row)
        self.delivered = frozenset(delivered)
        # Only background calls are looked up here.
        ended = (each.row for each in self.calls.values() if self.started and each.row.status in {COMPLETED, CANCELLED})
        self._ended = set(map(_place_of, ended))
        self._put_in_order(outcomes)

    def _add(self, row: Any) -> None:
        known = self.calls.get(row.key)
        if known is not None:
            known.row = row
            return
        recorded = self.calls[row.key] = Recorded(row, row.began_after)
        self._children.setdefault(row.parent, []).append(recorded)
        if row.attempt == 1:
            self._places.setdefault((row.strand, row.position), recorded)
            if row.place >= 0:
                self._fans.setdefault((row.strand, row.position), []).append(recorded)
            self._lengths[row.strand] = max(self._lengths.get(row.strand, 0), row.position + 1)

    def _put_in_order(self, outcomes: list[Any]) -> None:
        before: list[Any] = []
        for row in outcomes:
            # Nobody waits for the turn of what was cancelled: what was written in it is there with the next outcome.
            if row.status == CANCELLED or not self._is_repeated(row):
                before.append(row)
            else:
                turn = self.calls[row.key].turn = Turn(row, before=before)
                self.turns.add(turn)
                before = []
        # What is left belongs to background calls whose starter nobody repeats, or comes from a call that goes on.
        self.rest = before
        awaited = [each for each in self.calls.values() if self._is_repeated(each.row) and self._comes_early(each.row)]
        for each in awaited:
            each.is_awaited = True
        self.turns.expect(sorted(awaited, key=lambda each: each.began_after))

    def _comes_early(self, row: Any) -> bool:
        """Say whether the code asks for a call before it has come through the record."""
        if row.status != CANCELLED:
            return True
        # Which calls of a fan-out still begin when that is cancelled is a race that nobody can repeat, and need not.
        # Without the call around it being recorded, that begins after all that is.
        return row.place < 0 and (row.parent == ROOT or row.parent in self.calls)

    def _is_repeated(self, row: Any) -> bool:
        """Say whether the code that asked for a call runs again."""
        return not self.is_within(row.parent) and self._is_started_again(row)

    def _is_started_again(self, row: Any) -> bool:
        """Say whether a call, if it is one in the background, is started again: by its starter, or without it."""
        if not self._started_at:
            return True
        place = _place_of(row)
        if place not in self._started_at:
            return True
        return not self.is_within(self._started_at[place].parent) or place not in self._ended

    def is_within(self, key: str) -> bool:
        """Say whether a call is recorded with its outcome: then nobody repeats what is in it."""
        seen = self.calls.get(key)
        return seen is not None and seen.has_outcome

    def at(self, strand: str, position: int) -> Recorded | None:
        """Return what is recorded at a place, if anything."""
        return self._places.get((strand, position))

    def goes_on(self, strand: str, position: int) -> bool:
        """Say whether anything is recorded in a strand after a place."""
        return self._lengths.get(strand, 0) > position + 1

    def beyond(self, strand: str, position: int, count: int) -> Recorded | None:
        """Return a recorded call of a fan-out whose number is not among the first so many."""
        more = (each for each in self._fans.get((strand, position), ()) if each.row.place >= count)
        return next((each for each in more if each.row.status != CANCELLED), None)

    def claim_start(self, key: str) -> Any:
        """Return what is recorded of the start of a background call, `None` if nothing is."""
        self._claimed_starts.add(key)
        return self.started.get(key)

    def unclaimed(self, key: str) -> Any:
        """Return the row of a recorded call, or start of one, that was made in a call and that nobody has asked for.

        One that was cancelled had no outcome that somebody could miss.
        """
        for recorded in self._children.get(key, ()):
            row = recorded.row
            if not recorded.is_claimed and row.status != CANCELLED and _place_of(row) not in self._started_at:
                return row
        return next((row for row in self._starts_in.get(key, ()) if row.key not in self._claimed_starts), None)

    def pass_over(self, key: str) -> None:
        """Wait for nothing more that was made in a call, or in a call inside it."""
        waiting = [key]
        while waiting:
            for recorded in self._children.get(waiting.pop(), ()):
                self.turns.dismiss(recorded)
                if not recorded.has_outcome:
                    waiting.append(recorded.row.key)

    def to_restart(self) -> list[Any]:
        """Return the background calls that have not ended well, and that nobody will start again.

        One that failed raises its failure once more, or goes on with its next attempt.
        """
        return [row for row in self.started.values() if self.is_within(row.parent) and self._is_started_again(row)]

    def to_send_again(self) -> list[Any]:
        """Return what was broadcast and not delivered by calls that nobody repeats."""
        return [row for key, row in self.broadcasts.items() if key not in self.delivered and self.is_within(row.parent)]


def _place_of(row: Any) -> tuple[str, int, int]:
    """Return where a call stands, which its attempts have in common."""
    return row.strand, row.position, row.place
