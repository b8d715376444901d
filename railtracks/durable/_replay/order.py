"""The order in which a resumed session gets its recorded outcomes back, and the patience that it has with it."""

from __future__ import annotations

from collections.abc import Callable

import trio

from railtracks.durable._replay.recorded import Past, Recorded, Turn
from railtracks.durable._store.patience import Patience


class Order:
    """The order of one session's outcomes, recorded ones first."""

    def __init__(self, past: Past, warn: Callable[[str], None], patience: Patience) -> None:
        self.turns = past.turns
        # The last commit whose outcome was handed over.
        self.handed = 0
        self._past = past
        self._warn = warn
        self._patience = patience
        self._live = trio.Event()

    @property
    def is_replaying(self) -> bool:
        """Whether there is a recorded outcome that was not handed over yet."""
        return self.turns.recorded > 0

    async def until_live(self) -> None:
        """Wait until every recorded outcome was handed over. A checkpoint if it has to wait."""
        while self.is_replaying:
            await self._patiently(self._live)
            self._live = trio.Event()

    async def turn_of(self, turn: Turn) -> None:
        """Wait until an outcome may be handed over."""
        while not self.turns.is_next(turn) and not turn.is_over:
            event = trio.Event()
            turn.wake = event.set
            await self._patiently(event)

    async def _patiently(self, event: trio.Event) -> None:
        while not event.is_set():
            progress = self.turns.progress
            with trio.move_on_after(self._patience.order):
                await event.wait()
            if not event.is_set() and self.turns.progress == progress:
                self._give_up_order()

    def _give_up_order(self) -> None:
        missing = self.turns.dismiss_all()
        if missing is not None:
            self._warn(
                f"nobody has asked for the recorded call of {missing.row.node!r} for {self._patience.order:g} seconds:"
                " going on without the recorded order"
            )
            self.look()

    def abandon(self) -> None:
        """Wait for nobody any more: the session ends."""
        self.turns.dismiss_all()
        self.look()

    def hand_over(self, turn: Turn, seq: int) -> None:
        """Say that the outcome of this commit is handed over now."""
        self.handed = max(self.handed, seq)
        self.over(turn)

    def over(self, turn: Turn) -> None:
        """Say that an outcome was handed over, or that nobody will ask for it."""
        self.turns.over(turn)
        self.look()

    def claimed(self, recorded: Recorded) -> None:
        """Say that somebody has asked for a recorded call."""
        self.turns.claimed(recorded)
        self.look()

    def pass_over(self, key: str) -> None:
        """Wait for nothing more that is recorded in a call which has ended otherwise."""
        self._past.pass_over(key)
        self.look()

    def look(self) -> None:
        """Let those go on who wait for the end of the replay, if it is there."""
        if not self.turns.recorded:
            self._live.set()
