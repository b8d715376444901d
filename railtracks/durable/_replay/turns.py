"""The order in which outcomes may be handed to their callers: in a resume the same as in the run that was recorded.

`order` waits by it, and `commits` queues new outcomes here. A recorded outcome may be handed over when both is true:

- Every earlier outcome was handed over, each in a step of the scheduler of its own.
- Every call that had begun at that moment in the first run has begun in this run, too (`began_after` of its row says
  when it had begun).

So what races in the recorded run races in the resumed one with the same winner, and the loser has begun in both. New
outcomes queue behind the recorded ones, in the order of their commits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from railtracks._records.slices import Pauses
from railtracks.durable._replay.recorded import RecordedCall, RecordedSession
from railtracks.durable._store.schema import CallRow, RowStatus


class Turn:
    """The moment at which one outcome may be handed over.

    Attributes:
        row: The recorded outcome; `None` of a new one.
        before: Outcomes just before it that are not asked for again and have written to the context: the call around
            them is itself replayed. Also those of cancelled calls.
        is_ready: Whether its caller waits for it, or of a new outcome, whether it is committed.
        is_over: Whether it was handed over, or never will be.
    """

    __slots__ = ("_wake", "before", "is_over", "is_ready", "row")

    def __init__(
        self,
        row: CallRow | None = None,
        *,
        before: Sequence[CallRow] = (),
        wake: Callable[[], None] | None = None,
    ) -> None:
        self.row = row
        self.before = before
        self.is_ready = False
        self.is_over = False
        self._wake = wake

    def call_when_next(self, wake: Callable[[], None]) -> None:
        """Have a function called when this turn has come."""
        self._wake = wake

    def come(self) -> None:
        """Wake the caller, if it sleeps until its turn."""
        if self._wake is not None:
            self._wake()

    def get_ready(self) -> None:
        """Note that the outcome can be handed over, as far as this turn alone is concerned."""
        self.is_ready = True

    def end(self) -> None:
        """Note that the outcome was handed over, or never will be."""
        self.is_over = True


class Turns:
    """The queue of one session's outcomes: only the one at its head may be handed over.

    Args:
        record: What an earlier run recorded.
        pauses: Lets other threads run meanwhile, if this is made in a thread.

    Attributes:
        recorded: How many recorded outcomes were not handed over yet.
        progress: Counts what has happened, so that a task that waits can see whether anything has.
        rest: The recorded outcomes after the last turn that have written to the context: of background calls whose
            starter no code repeats, or of a call that goes on.
    """

    def __init__(self, record: RecordedSession, pauses: Pauses | None = None) -> None:
        pauses = pauses or Pauses()
        self.recorded = 0
        self.progress = 0
        self._record = record
        self._queue: deque[Turn] = deque()
        self._by_key: dict[str, Turn] = {}
        self.rest = self._queue_recorded(pauses)
        # The recorded calls that code is going to ask for and has not, in the order in which they first began.
        early = [
            each
            for each in pauses.between(record.calls.values())
            if record.is_repeated(each.row) and record.comes_early(each.row) and not each.is_aside
        ]
        self._expected = deque(sorted(early, key=lambda each: each.began_after))
        self._awaited = {each.key for each in early}

    def _queue_recorded(self, pauses: Pauses) -> list[CallRow]:
        """Queue a turn for each recorded outcome that code asks for; return the outcomes after the last of them."""
        before: list[CallRow] = []
        for row in pauses.between(self._record.outcomes):
            if self._record.calls[row.key].is_aside:
                continue
            # No task waits for the turn of a cancelled call. What was written in it is applied with the next outcome
            # (test_durable_resume.py::test_what_was_written_in_a_call_that_was_cancelled_is_there_again).
            if row.status == RowStatus.CANCELLED or not self._record.is_repeated(row):
                # For the context alone.
                if row.context is not None:
                    before.append(row)
            else:
                # Most have nothing before them: a list for each would make the garbage collector stop the loop longer.
                self._by_key[row.key] = turn = Turn(row, before=before or ())
                self.add(turn)
                before = []
        return before

    def add(self, turn: Turn) -> None:
        """Add a turn at the end of the queue."""
        self._queue.append(turn)
        self.recorded += turn.row is not None

    def of(self, recorded: RecordedCall) -> Turn | None:
        """Return the turn of a recorded call; `None` if it has none: no outcome, or no code asks for it."""
        return self._by_key.get(recorded.key)

    def is_next(self, turn: Turn) -> bool:
        """Return whether an outcome may be handed over now."""
        return bool(self._queue) and self._queue[0] is turn and turn.is_ready and self._is_reached(turn)

    def _is_reached(self, turn: Turn) -> bool:
        """Return whether every call has begun that had begun when this outcome was handed over first."""
        # Code asks for calls in any order. Those at the head that it has asked for are dropped here, the others later.
        expected = self._expected
        while expected and expected[0].key not in self._awaited:
            expected.popleft()
        # A new outcome waits for no beginning: its call began after the replay, or the order was given up.
        return turn.row is None or not expected or expected[0].began_after >= turn.row.seq

    def claimed(self, recorded: RecordedCall) -> None:
        """Note that code has asked for a recorded call."""
        recorded.claim()
        turn = self.of(recorded)
        if turn is not None:
            turn.get_ready()
        self.dismiss(recorded)

    def dismiss(self, recorded: RecordedCall) -> None:
        """Expect a recorded call no longer; if no code has asked for its outcome, that has no turn any more."""
        if recorded.key in self._awaited:
            self._awaited.discard(recorded.key)
            self.progress += 1
        # The turn of a claimed call stays: its task is on the way to it.
        turn = self.of(recorded)
        if turn is not None and not turn.is_ready:
            self.over(turn)
        self._wake_next()

    def dismiss_all(self) -> RecordedCall | None:
        """Expect no call any more; return the first one that was expected, `None` if none was."""
        missing = [each for each in self._expected if each.key in self._awaited]
        for each in missing:
            self.dismiss(each)
        return missing[0] if missing else None

    def dismiss_inside(self, key: str) -> None:
        """Dismiss all recorded calls that were made in a call; the same in each of them that has no outcome itself."""
        keys = [key]
        while keys:
            for recorded in self._record.children(keys.pop()):
                self.dismiss(recorded)
                # What is inside a call with an outcome was never expected: no code runs there again.
                if not recorded.has_outcome:
                    keys.append(recorded.key)

    def ready(self, turn: Turn) -> None:
        """Note that a new outcome is committed."""
        turn.get_ready()
        self._wake_next()

    def over(self, turn: Turn) -> None:
        """Note that an outcome was handed over, or that no code will ask for it."""
        if not turn.is_over:
            turn.end()
            self.progress += 1
            self._wake_next()

    def _wake_next(self) -> None:
        """Let the task go on whose turn it is, if it waits for that."""
        queue = self._queue
        while queue and queue[0].is_over:
            self.recorded -= queue.popleft().row is not None
        # Only the head can be next, and it is woken, not handed over here. So its task gets a step of its own, and what
        # the task before it did is done by then.
        if queue and self.is_next(queue[0]):
            queue[0].come()
