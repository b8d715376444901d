"""What is recorded of a session that is resumed, and the order in which its outcomes come back.

An outcome is handed over when every earlier one was, each in a step of the scheduler of its own: in the run that was
recorded as in the one that repeats it. What races in the one races in the other with the same winner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import define, field

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
    """The order in which outcomes are handed over."""

    def __init__(self) -> None:
        self._queue: deque[Turn] = deque()
        self.recorded = 0
        self.progress = 0

    def add(self, turn: Turn) -> None:
        """Add one at the end."""
        self._queue.append(turn)
        self.recorded += turn.row is not None

    def is_next(self, turn: Turn) -> bool:
        """Whether it may be handed over now."""
        return bool(self._queue) and self._queue[0] is turn and turn.is_ready

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

    def first_recorded(self) -> Turn | None:
        """Return the recorded one that all others wait for."""
        return self._queue[0] if self._queue and self._queue[0].row is not None else None

    def _wake(self) -> None:
        queue = self._queue
        while queue and queue[0].is_over:
            self.recorded -= queue.popleft().row is not None
        if queue and queue[0].is_ready and queue[0].wake is not None:
            queue[0].wake()


@define(eq=False)
class Recorded:
    """One call of the record.

    Attributes:
        row: Its outcome, else what is known of its beginning.
        turn: Its place in the order, if somebody is to ask for it.
        is_claimed: Whether somebody has.
    """

    row: Any
    turn: Turn | None = None
    is_claimed: bool = False

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
        delivered: set[str] = set()
        outcomes: list[Any] = []
        for row in rows:
            self.last_seq = row.seq
            if row.status == STARTED:
                self.started[row.key] = row
            elif row.status == BROADCAST:
                self.broadcasts[row.key] = row
            elif row.status == DELIVERED:
                delivered.add(row.key)
            else:
                self._add(row)
                if row.status != OPENED:
                    outcomes.append(row)
        self.delivered = frozenset(delivered)
        self._put_in_order(outcomes)

    def _add(self, row: Any) -> None:
        known = self.calls.get(row.key)
        if known is not None:
            known.row = row
            return
        recorded = self.calls[row.key] = Recorded(row)
        self._children.setdefault(row.parent, []).append(recorded)
        if row.attempt == 1:
            self._places.setdefault((row.strand, row.position), recorded)
            if row.place >= 0:
                self._fans.setdefault((row.strand, row.position), []).append(recorded)
            self._lengths[row.strand] = max(self._lengths.get(row.strand, 0), row.position + 1)

    def _put_in_order(self, outcomes: list[Any]) -> None:
        before: list[Any] = []
        for row in outcomes:
            if self.is_within(row.parent) or (row.key in self.started and self.is_within(self.started[row.key].parent)):
                before.append(row)
            elif row.status != CANCELLED:
                turn = self.calls[row.key].turn = Turn(row, before=before)
                self.turns.add(turn)
                before = []
        # What is left belongs to background calls whose starter nobody repeats.
        self.rest = before

    def is_within(self, key: str) -> bool:
        """Say whether a call, or one around it, is recorded with its outcome: then nobody repeats what is in it."""
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
        return next((each for each in self._fans.get((strand, position), ()) if each.row.place >= count), None)

    def unclaimed(self, key: str) -> Recorded | None:
        """Return a recorded call made in a call that nobody has asked for."""
        for recorded in self._children.get(key, ()):
            if not recorded.is_claimed and recorded.row.key not in self.started:
                return recorded
        return None

    def pass_over(self, key: str) -> None:
        """Wait for nothing more that was made in a call, or in a call inside it."""
        waiting = [key]
        while waiting:
            for recorded in self._children.get(waiting.pop(), ()):
                if recorded.turn is not None and not recorded.turn.is_ready:
                    self.turns.over(recorded.turn)
                if not recorded.has_outcome:
                    waiting.append(recorded.row.key)

    def to_restart(self) -> list[Any]:
        """Return the background calls that have not ended and that nobody will start again."""
        return [
            row
            for key, row in self.started.items()
            if self.is_within(row.parent) and not (key in self.calls and self.calls[key].has_outcome)
        ]

    def to_send_again(self) -> list[Any]:
        """Return what was broadcast and not delivered by calls that nobody repeats."""
        return [row for key, row in self.broadcasts.items() if key not in self.delivered and self.is_within(row.parent)]
