"""The order in which outcomes may be handed to their callers: in a resume the same as in the run that was recorded.

`order` waits by it, and `commits` queues new outcomes here. A recorded outcome may be handed over when both is true:

- Every earlier outcome was handed over, each in a step of the scheduler of its own.
- Every call that had begun at that moment in the first run has begun in this run, too (`began_after` of its row says
  when it had begun).

So what races in the recorded run races in the resumed one with the same winner, and the loser has begun in both. New
outcomes queue behind the recorded ones, in the order of their commits.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from railtracks._records.slices import Pauses
from railtracks.durable._replay.recorded import RecordedSession
from railtracks.durable._replay.recorded_calls import RecordedCall
from railtracks.durable._store.schema import CallRow, RowStatus

# What is noted of a recorded call: that its outcome has a turn, that this turn is over, and that code is going to ask
# for the call and has not.
_HAS_TURN: Final = 1
_OVER: Final = 2
_AWAITED: Final = 4


class Turn:
    """The moment at which one outcome may be handed over.

    Args:
        seq: The number of the row with the recorded outcome.
        number: The number of the recorded call.
        before: The value of `before`.
        is_over: The value of `is_over`.
        wake: Called when the turn has come.

    Attributes:
        seq: The number of the row with the recorded outcome; `None` of a new outcome.
        number: The number of the recorded call; -1 of a new outcome.
        before: Outcomes just before it that are not asked for again and have written to the context: the call around
            them is itself replayed. Also those of cancelled calls, until these are cancelled again: `Turns.before_cut`
            takes them out.
        is_ready: Whether its caller waits for it, or of a new outcome, whether it is committed.
        is_over: Whether it was handed over, or never will be.
    """

    __slots__ = ("_wake", "before", "is_over", "is_ready", "number", "seq")

    def __init__(
        self,
        seq: int | None = None,
        number: int = -1,
        *,
        before: list[CallRow] | None = None,
        is_over: bool = False,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self.seq = seq
        self.number = number
        self.before = [] if before is None else before
        self.is_ready = False
        self.is_over = is_over
        self._wake = wake

    def call_when_next(self, wake: Callable[[], None]) -> None:
        """Have a function called when this turn has come."""
        self._wake = wake

    def come(self) -> None:
        """Wake the caller, if it sleeps until its turn."""
        if self._wake is not None:
            self._wake()


def _taken(rows: list[CallRow], seq: int) -> list[CallRow]:
    """Take the rows up to a number out of a list, and return them."""
    count = bisect_right(rows, seq, key=attrgetter("seq"))
    taken = rows[:count]
    del rows[:count]
    return taken


class Turns:
    """The queue of one session's outcomes: only the one at its head may be handed over.

    A recorded outcome is a number here until code asks for its call: then it gets a `Turn`, which is dropped when it is
    over.

    Args:
        record: What an earlier run recorded.
        pauses: Lets other threads run meanwhile, if this is made in a thread.

    Attributes:
        progress: Counts what has happened, so that a task that waits can see whether anything has.
        recorded: How many recorded outcomes were not handed over yet, those included that never will be.
        rest: The turn of the recorded outcomes after the last other turn that have written to the context, see
            `Turn.before`: of background calls whose starter no code repeats, or of a call that goes on. `None` if there
            are none.
    """

    def __init__(self, record: RecordedSession, pauses: Pauses | None = None) -> None:
        pauses = pauses or Pauses()
        self.progress = 0
        self._record = record
        self._notes = bytearray(len(record.rows.calls))
        # The rows with the recorded outcomes that have turns, the next of these, and by row what comes before it.
        self._queue = array("i")
        self._head = 0
        self._before: dict[int, list[CallRow]] = {}
        # The turns of recorded calls that code has asked for, and the new ones, which come after all recorded ones.
        self._asked: dict[int, Turn] = {}
        self._new: deque[Turn] = deque()
        rest = self._queue_recorded(pauses)
        self.rest = Turn(rest[-1].seq, before=rest) if rest else None
        self.recorded = len(self._queue) + bool(rest)
        # The recorded calls that code is going to ask for, in the order in which they first began.
        calls = record.calls
        early = [
            each
            for each in pauses.between(calls.numbers())
            if record.is_repeated(each) and record.comes_early(each) and not calls.is_aside(each)
        ]
        self._expected = array("i", sorted(early, key=calls.began_after.__getitem__))
        self._next_expected = 0
        # What is called when recorded calls may begin without a slot, by the numbers after which they began.
        self._beginnings: list[tuple[int, Callable[[], object]]] = []
        for each in pauses.between(early):
            self._notes[each] |= _AWAITED

    def _queue_recorded(self, pauses: Pauses) -> list[CallRow]:
        """Queue a turn for each recorded outcome that code asks for; return the outcomes after the last of them."""
        record, rows = self._record, self._record.rows
        before: list[CallRow] = []
        for index in pauses.between(record.outcomes):
            number = rows.about[index]
            if record.calls.is_aside(number) or number in record.late_ends:
                continue
            # No task waits for the turn of a cancelled call. What was written in it is applied when it is cancelled
            # again (test_durable_written_in_cuts.py), or with the next outcome if no code asks for it
            # (test_durable_resume.py::test_what_was_written_in_a_call_that_was_cancelled_is_there_again).
            if rows.statuses[index] == RowStatus.CANCELLED or not record.is_repeated(number):
                # For the context alone.
                if rows.has_context(index):
                    before.append(rows[index])
            else:
                self._queue.append(index)
                self._notes[number] |= _HAS_TURN
                if before:
                    self._before[index] = before
                    before = []
        return before

    def before_cut(self, seq: int) -> list[CallRow]:
        """Return the outcomes without a turn up to the row of a cancelled call; no turn brings these any more.

        Args:
            seq: The number of that row. What was committed before the cancel has a lower one.
        """
        found: list[CallRow] = []
        for place in range(self._head, len(self._queue)):
            index = self._queue[place]
            found += _taken(self._before.get(index, []), seq)
            if self._record.rows.seq(index) > seq:
                return found
        return found if self.rest is None else found + _taken(self.rest.before, seq)

    def handed_before_cut(self, seq: int) -> int:
        """Return the number of the last outcome before the row of a cancelled call.

        Returns:
            0 if there is none, or if an earlier outcome is still to be handed over.
        """
        rows, outcomes = self._record.rows, self._record.outcomes
        if self._head < len(self._queue) and rows.seq(self._queue[self._head]) < seq:
            return 0
        place = bisect_left(outcomes, seq, key=rows.seq)
        # The rows of other calls that were cancelled then have numbers of the next commit.
        while place > 0 and rows.statuses[outcomes[place - 1]] == RowStatus.CANCELLED:
            place -= 1
        return rows.seq(outcomes[place - 1]) if place > 0 else 0

    def add(self, turn: Turn) -> None:
        """Add the turn of a new outcome at the end of the queue."""
        self._new.append(turn)

    def of(self, recorded: RecordedCall) -> Turn | None:
        """Return the turn of a recorded call; `None` if it has none: no outcome, or no code asks for it."""
        number = recorded.number
        notes, turn = self._notes[number], self._asked.get(number)
        if turn is not None or not notes & _HAS_TURN:
            return turn
        index, is_over = self._record.calls.last[number], bool(notes & _OVER)
        before = self._before.get(index)
        turn = Turn(self._record.rows.seq(index), number, before=before, is_over=is_over)
        if not is_over:
            self._asked[number] = turn
        return turn

    def is_next(self, turn: Turn) -> bool:
        """Return whether an outcome may be handed over now."""
        if not turn.is_ready:
            return False
        if not self.recorded and turn.seq is None:
            # After the replay, which is where calls spend their time.
            return bool(self._new) and turn is self._new[0]
        return turn is self._first() and self._is_reached(turn)

    def _first(self) -> Turn | None:
        """Return the turn at the head of the queue; `None` if there is none, or no code has asked for its call yet."""
        if self._head < len(self._queue):
            return self._asked.get(self._record.rows.about[self._queue[self._head]])
        if self.rest is not None and not self.rest.is_over:
            return self.rest
        return self._new[0] if self._new else None

    def _is_reached(self, turn: Turn) -> bool:
        """Return whether every call has begun that had begun when this outcome was handed over first."""
        if turn.seq is None:
            # A new outcome waits for no beginning: its call began after the replay, or the order was given up.
            return True
        self._pass_begun()
        if self._next_expected == len(self._expected):
            return True
        return self._record.calls.began_after[self._expected[self._next_expected]] >= turn.seq

    def _pass_begun(self) -> None:
        """Pass the expected calls that code has asked for: it asks in any order, so there may be others behind."""
        expected, notes = self._expected, self._notes
        while self._next_expected < len(expected) and not notes[expected[self._next_expected]] & _AWAITED:
            self._next_expected += 1

    def call_when_begun(self, recorded: RecordedCall, wake: Callable[[], object]) -> bool:
        """Have a function called once a recorded call had begun at this moment of the recorded run. Return `True`.

        That is when all outcomes were handed over that came before its beginning, and the one has its turn next that
        may wait for this beginning. After the last turn the function is not called.
        """
        self._beginnings.append((self._record.calls.began_after[recorded.number], wake))
        self._wake_beginnings()
        return True

    def _wake_beginnings(self) -> None:
        # After the last turn none comes.
        rest = 0 if self.rest is None or self.rest.is_over else self.rest.seq or 0
        seq = self._record.rows.seq(self._queue[self._head]) if self._head < len(self._queue) else rest
        come = [wake for began_after, wake in self._beginnings if began_after < seq]
        self._beginnings = [each for each in self._beginnings if each[0] >= seq]
        for wake in come:
            wake()

    def claimed(self, recorded: RecordedCall) -> None:
        """Note that code has asked for a recorded call."""
        recorded.claim()
        turn = self.of(recorded)
        if turn is not None:
            turn.is_ready = True
        self.dismiss(recorded.number)

    def dismiss(self, number: int) -> None:
        """Expect a recorded call no longer; if no code has asked for its outcome, that has no turn any more."""
        self._forget(number)
        self._wake_next()

    def _forget(self, number: int) -> None:
        """Expect a recorded call no longer, and wake nobody yet."""
        notes, turn = self._notes[number], self._asked.get(number)
        if notes & _AWAITED:
            notes &= ~_AWAITED
            self.progress += 1
        # The turn of a claimed call stays: its task is on the way to it.
        if notes & _HAS_TURN and not notes & _OVER and (turn is None or not turn.is_ready):
            notes |= _OVER
            self.progress += 1
        self._notes[number] = notes

    def dismiss_all(self) -> RecordedCall | None:
        """Expect no call any more; return the first one that was expected, `None` if none was."""
        missing = [each for each in self._expected[self._next_expected :] if self._notes[each] & _AWAITED]
        for each in missing:
            self._forget(each)
        self._wake_next()
        return RecordedCall(self._record.calls, missing[0]) if missing else None

    def dismiss_inside(self, key: str) -> None:
        """Dismiss all recorded calls that were made in a call; the same in each of them that has no outcome itself."""
        self._pass_begun()
        # After a replay nothing is expected, and a call may have had very many inside.
        keys = [key] if self.recorded or self._next_expected < len(self._expected) else []
        while keys:
            for recorded in self._record.children(keys.pop()):
                self._forget(recorded.number)
                # What is inside a call with an outcome was never expected: no code runs there again.
                if not recorded.has_outcome:
                    keys.append(recorded.key)
        self._wake_next()

    def ready(self, turn: Turn) -> None:
        """Note that a new outcome is committed."""
        turn.is_ready = True
        self._wake_next()

    def over(self, turn: Turn) -> None:
        """Note that an outcome was handed over, or that no code will ask for it."""
        if not turn.is_over:
            turn.is_over = True
            if turn.number >= 0:
                self._notes[turn.number] |= _OVER
                self._asked.pop(turn.number, None)
            elif turn is self.rest:
                self.recorded -= 1
            self.progress += 1
            self._wake_next()

    def _wake_next(self) -> None:
        """Let the task go on whose turn it is, if it waits for that."""
        queue, new = self._queue, self._new
        while new and new[0].is_over:
            new.popleft()
        if not self.recorded and not new:
            # After the replay: nobody waits.
            return
        about = self._record.rows.about
        while self._head < len(queue) and self._notes[about[queue[self._head]]] & _OVER:
            self._head += 1
            self.recorded -= 1
        if self._beginnings:
            self._wake_beginnings()
        # Only the head can be next, and it is woken, not handed over here. So its task gets a step of its own, and what
        # the task before it did is done by then.
        first = self._first()
        if first is not None and first.is_ready and self._is_reached(first):
            first.come()
