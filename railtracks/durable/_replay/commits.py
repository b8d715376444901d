"""The ledger of one session: its rows, numbered in the order of their commits, and the waiting for a commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio
from sqlalchemy.engine import Connection

from railtracks.durable._replay.order import Order
from railtracks.durable._replay.recorded import Turn
from railtracks.durable._store.writer import Commit, CommitWaiter, Writer
from railtracks.exceptions import ContextError

# How many commits may wait for one that somebody waits for.
_MUCH: Final = 100


class Ledger:
    """What is written of one session."""

    def __init__(self, session_id: str, fence: int | None, last: int, order: Order, writer: Writer) -> None:
        self.session_id = session_id
        # Whether the session was over before it was opened here, and only hands over what is recorded.
        self.is_over = fence is None
        self.fence = fence or 0
        # Rows of calls that were cancelled: with a `Cancelled` in flight nobody can wait for a commit.
        self.late: list[dict[str, Any]] = []
        self._seq = last
        self._order = order
        self._writer = writer
        self.signal_polling = writer.signal_polling

    def numbered(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give rows their numbers, in the order of their commits."""
        for row in rows:
            self._seq += 1
            row["seq"] = self._seq
        return rows

    @trio.lowlevel.enable_ki_protection
    async def commit(self, rows: list[dict[str, Any]], work: Callable[[Connection], Any] | None = None) -> Any:
        """Write rows, do some work in the same transaction, and wait until it is its turn to be handed over; shielded.

        Raises:
            StoreError: If it cannot be written.
            SessionLostError: If another owner has the session.
        """
        waiter, turn, order = CommitWaiter(), Turn(), self._order
        turn.wake = waiter.wake
        order.turns.add(turn)

        def done() -> None:
            order.turns.ready(turn)
            if order.is_replaying:
                # It may not be its turn for long: that wait is another one.
                waiter.wake()

        # What was cancelled is recorded with whatever comes next: before anything that began after it.
        late, self.late = self.late, []
        numbered = self.numbered([*late, *rows])
        seq = self._seq
        commit = Commit(
            self.session_id,
            self.fence,
            numbered,
            work=work,
            on_done=done,
            waiter=waiter,
        )
        writer = self._writer
        writer.submit(commit)
        try:
            while not order.turns.is_next(turn):
                if not commit.is_done:
                    await writer.step(waiter)
                elif order.is_replaying:
                    with trio.CancelScope(shield=True):
                        await order.turn_of(turn)
                else:
                    await waiter.wait()
        finally:
            order.hand_over(turn, seq)
        if commit.error is not None:
            raise commit.error
        return commit.result

    def submit(self, rows: list[dict[str, Any]]) -> None:
        """Have rows written with whatever is committed next.

        Raises:
            ContextError: If the session was over before it was opened here.
        """
        if self.is_over:
            raise ContextError(f"session {self.session_id} is over: what it does now is not in its record")
        self._writer.submit(Commit(self.session_id, self.fence, self.numbered(rows)))

    async def keep_short(self) -> None:
        """Have what waits written if it is much, as when a call broadcasts all day; the next commit tells of errors."""
        if self._writer.backlog > _MUCH:
            commit = Commit(self.session_id, self.fence)
            self._writer.submit(commit)
            await self._writer.lead(commit)

    async def settle(self, work: Callable[[Connection], Any]) -> Any:
        """Do something with the session's own row, after everything that was committed before.

        Raises:
            StoreError: If it cannot be done.
            SessionLostError: If another owner has the session.
        """
        commit = Commit(self.session_id, self.fence, work=work, is_end=True)
        self._writer.submit(commit)
        await self._writer.lead(commit)
        if commit.error is not None:
            raise commit.error
        return commit.result

    async def peek(self, look: Callable[[Connection], Any]) -> Any:
        """Read something of the store; a checkpoint."""
        return await self._writer.peek(look)
