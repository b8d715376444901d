"""The commits of one session: its rows, numbered in the order of their commits, and the wait for a commit.

Everything here that writes calls this. The writer of the store groups the commits of all its sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio
from sqlalchemy.engine import Connection

from railtracks.durable._replay.order import Order
from railtracks.durable._replay.rows import NewRow
from railtracks.durable._replay.turns import Turn
from railtracks.durable._store.commit import Commit, CommitWaiter
from railtracks.durable._store.signal_polling import SignalPolling
from railtracks.durable._store.writer import Writer
from railtracks.exceptions import ContextError, RailtracksError, SessionLostError, StoreError

T = TypeVar("T")

# How many commits may lie in the writer's queue while no task waits for one.
_MOST_UNWRITTEN: Final = 100


class Commits:
    """Numbers the rows of one session, and commits them while this process owns the session.

    Attributes:
        session_id: The session.
        is_over: Whether the session was over before it was opened here, and only hands recorded outcomes over.
        is_cut: Whether nothing is recorded any more, because the session is being ended.
        fence: The fencing number of the session's owner; 0 if the session is over and has none.
        failure: The error that has ended a session that is over, if its body has dealt with that.
    """

    def __init__(  # noqa: PLR0917 - what commits are made of
        self,
        session_id: str,
        fence: int | None,
        last_seq: int,
        order: Order,
        writer: Writer,
        failure: bytes | None,
    ) -> None:
        self.session_id = session_id
        self.is_over = fence is None
        self.failure = failure
        self.is_cut = False
        self.fence = fence or 0
        # Rows of calls that were cancelled: with a `Cancelled` in flight no task can wait for a commit.
        self._late: list[NewRow] = []
        self._seq = last_seq
        self._order = order
        self._writer = writer
        self._end_error: RailtracksError | None = None

    @property
    def signal_polling(self) -> SignalPolling:
        """The polling for signals that all sessions of this Trio run share in this store."""
        return self._writer.signal_polling

    def cut(self) -> None:
        """Record nothing any more: what calls do from now on comes from the end of the session only."""
        self.is_cut = True
        self._order.abandon()

    def end_error(self, error: RailtracksError) -> RailtracksError:
        """Return the one error that ends this run, which can record nothing more: the first that was found.

        The task that keeps the lease finds out that the session is lost, and so does each commit. An `except` for that
        would miss a group of what they say.
        """
        if self._end_error is None:
            self._end_error = error
        return self._end_error

    def numbered(self, rows: list[NewRow]) -> list[NewRow]:
        """Give rows their numbers, in the order of their commits."""
        for row in rows:
            self._seq += 1
            row["seq"] = self._seq
        return rows

    def add_late(self, row: NewRow) -> None:
        """Have a row written with the next commit. Does not wait: a `Cancelled` can be in flight."""
        self._late.append(row)

    @trio.lowlevel.enable_ki_protection
    async def commit(self, rows: list[NewRow], work: Callable[[Connection], object] | None = None) -> object:
        """Write rows, and return the result of some work in the same transaction, when its turn has come. Shielded.

        Raises:
            StoreError: If it cannot be written.
            SessionLostError: If another owner has the session.
        """
        waiter, order = CommitWaiter(), self._order
        turn = Turn(wake=waiter.wake)
        # Queued in the same step as the commit below: turns come in the order of the commits.
        order.turns.add(turn)

        def done() -> None:
            order.turns.ready(turn)
            if order.is_replaying:
                # Its turn may not come for long. The task that waits for the commit goes on to wait for the turn.
                waiter.wake()

        numbered = self._numbered_after_late(rows)
        seq = self._seq
        commit = Commit(self.session_id, self.fence, numbered, seq, work=work, on_done=done, waiter=waiter)
        writer = self._writer
        writer.submit(commit)
        writer.write_soon()
        try:
            while not order.turns.is_next(turn):
                if commit.is_done and order.is_replaying:
                    # A recorded outcome comes before this one, and its caller may take its time.
                    with trio.CancelScope(shield=True):
                        await order.turn_of(turn)
                else:
                    await waiter.wait()
        finally:
            # After an error, too: the turns behind this one must not wait for it.
            order.hand_over(turn, seq)
        return self._result_of(commit)

    def _result_of(self, commit: Commit) -> object:
        if commit.error is not None:
            raise self.end_error(commit.error)
        return commit.result

    def submit(self, rows: list[NewRow]) -> None:
        """Have rows written with whatever is committed next.

        Raises:
            ContextError: If the session was over before it was opened here.
        """
        if self.is_over:
            raise ContextError(
                f"session {self.session_id} is over, and what it does now is not in its record: fork it to go on from"
                " there"
            )
        numbered = self._numbered_after_late(rows)
        self._writer.submit(Commit(self.session_id, self.fence, numbered, self._seq))

    def _numbered_after_late(self, rows: list[NewRow]) -> list[NewRow]:
        """Give rows their numbers, after those of cancelled calls: these come before anything that began after them."""
        if not self._late:
            return self.numbered(rows)
        late, self._late = self._late, []
        return self.numbered([*late, *rows])

    async def keep_short(self) -> None:
        """Write what waits if it is much, as when a call broadcasts all day. Errors are raised by the next commit."""
        if self._writer.backlog > _MOST_UNWRITTEN:
            await self._writer.write(Commit(self.session_id, self.fence))

    async def settle(self, work: Callable[[Connection], object]) -> object:
        """Do some work with the session's own row, after every commit before, and return its result.

        Raises:
            StoreError: If it cannot be done.
            SessionLostError: If another owner has the session.
        """
        commit = Commit(self.session_id, self.fence, work=work, is_end=True)
        await self._writer.write(commit)
        error = commit.error
        if isinstance(error, SessionLostError) and isinstance(self.end_error(error), StoreError):
            # It says more than the earlier error does: another owner goes on with the session.
            raise error
        return self._result_of(commit)

    async def peek(self, look: Callable[[Connection], T]) -> T:
        """Read something of the store, with further tries; a checkpoint.

        Raises:
            StoreError: If it cannot be read.
        """
        return await self._writer.peek(look)
