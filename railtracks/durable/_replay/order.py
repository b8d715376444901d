"""The wait for a turn, and for the end of the replay.

Calls and commits wait here, with patience. If nothing moves for some seconds, the code has not asked for a recorded
call. Then the recorded order is given up, once and with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from railtracks.durable._replay.recorded_calls import RecordedCall
from railtracks.durable._replay.turns import Turn, Turns
from railtracks.durable._store.patience import Patience


class Order:
    """Hands over the outcomes of one session in their order, and gives up the recorded order if nothing moves.

    Attributes:
        turns: The turns.
        handed: The number of the last commit whose outcome was handed over.
    """

    def __init__(self, turns: Turns, warn: Callable[[str], None], patience: Patience) -> None:
        self.turns = turns
        self.handed = 0
        self._warn = warn
        self._patience = patience
        # What calls wait for that come after the replay; `None` if none does.
        self._live: trio.Event | None = None
        # What `is_moving` has seen last of the progress, and when that had changed.
        self._seen = -1
        self._moved_at = -math.inf

    @property
    def is_replaying(self) -> bool:
        """Whether there is a recorded outcome that was not handed over yet."""
        return self.turns.recorded > 0

    def is_moving(self) -> bool:
        """Whether the session is being replayed, and something has moved while the patience for that lasts."""
        if not self.is_replaying:
            return False
        if self._seen != self.turns.progress:
            self._seen, self._moved_at = self.turns.progress, trio.current_time()
        return trio.current_time() < self._moved_at + self._patience.order

    async def until_live(self) -> None:
        """Wait until every recorded outcome was handed over. A checkpoint if it has to wait.

        A call that is not recorded begins after this: code that has changed is found out before it does anything. The
        last outcome may have had the effect that the waiting call is cancelled. Then it does not begin.
        """
        while self.is_replaying:
            if self._live is None:
                self._live = trio.Event()
            await self._patiently(self._live)
            await trio.lowlevel.checkpoint_if_cancelled()

    async def turn_of(self, turn: Turn) -> None:
        """Wait until an outcome may be handed over."""
        while not self.turns.is_next(turn) and not turn.is_over:
            event = trio.Event()
            turn.call_when_next(event.set)
            await self._patiently(event)

    async def _patiently(self, event: trio.Event) -> None:
        while not event.is_set():
            # Whatever moves anywhere in the session makes the patience begin anew. Only if nothing moves at all, the
            # code has left the recorded order
            # (test_durable_cancellation.py::test_a_call_that_nobody_asks_for_holds_up_no_commit_for_ever).
            progress = self.turns.progress
            with trio.move_on_after(self._patience.order):
                await event.wait()
            if not event.is_set() and self.turns.progress == progress:
                self._give_up_order()

    def _give_up_order(self) -> None:
        missing = self.turns.dismiss_all()
        # Without a missing call the record is not to blame: a caller is busy before it takes its turn
        # (test_durable_replay.py::test_a_call_that_is_asked_for_just_now_is_not_gone_on_without).
        if missing is not None:
            self._warn(
                f"the code has not asked for the recorded call of {missing.node!r} for {self._patience.order:g}"
                " seconds: going on without the recorded order"
            )
            self._look()

    def abandon(self) -> None:
        """Wait no longer for recorded calls that no code has asked for: the session ends."""
        self.turns.dismiss_all()
        self._look()

    def hand_over(self, turn: Turn, seq: int) -> None:
        """Note that the outcome of a commit is handed over now.

        Args:
            turn: Its turn, which has come.
            seq: The number of the last row of the commit.
        """
        self.handed = max(self.handed, seq)
        self.over(turn)

    def over(self, turn: Turn) -> None:
        """Note that an outcome was handed over, or that no code will ask for it."""
        self.turns.over(turn)
        self._look()

    def claimed(self, recorded: RecordedCall) -> None:
        """Note that code has asked for a recorded call."""
        self.turns.claimed(recorded)
        self._look()

    def pass_over(self, key: str) -> None:
        """Wait for nothing that is recorded in a call: it has ended in another way than in the record."""
        self.turns.dismiss_inside(key)
        self._look()

    def _look(self) -> None:
        """Let the tasks go on that wait for the end of the replay, if it has come."""
        if self._live is not None and not self.is_replaying:
            self._live.set()
            self._live = None
