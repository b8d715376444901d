"""One durable session on its way here: taken from the store, kept by a lease, written to its end, let go of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import sqlalchemy as sa
import trio
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from railtracks._records.data import CauseKind, Status
from railtracks._records.ending import Ending
from railtracks._records.errors import holds, raise_unchanged
from railtracks._workers.threads import in_thread
from railtracks.durable._replay.calls import INTERRUPTING
from railtracks.durable._replay.journal import Journal
from railtracks.durable._replay.recorded import Past
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import clock_of
from railtracks.durable._store.schema import DurableStatus, sessions
from railtracks.durable._store.wanted import Taken, Wanted, stuck
from railtracks.durable._store.writer import Commit, Writer
from railtracks.durable._values.failures import load_failure
from railtracks.durable._values.values import told_as_store_error
from railtracks.exceptions import (
    ContextError,
    SessionCancelledError,
    SessionLostError,
    SessionOwnedError,
    StoreError,
)


def raise_recorded(access: Access, row: Any) -> None:
    """Raise the recorded error of a session that is over with one."""
    if row.failure is not None:
        raise_unchanged(load_failure(row.failure, access.values))


class Run:
    """One durable session, from the moment it is taken to the moment it is let go of."""

    def __init__(self, access: Access, wanted: Wanted) -> None:
        self.access = access
        self.wanted = wanted
        self.journal: Journal
        self._writer: Writer
        self._taken: Taken | None = None
        self._keeping = trio.CancelScope()
        # Whether its session has come to run, and lets go of it by itself.
        self.is_open = False

    # Taking.

    # What was reserved is let go of again, whatever strikes.
    @trio.lowlevel.enable_ki_protection
    async def take(self, wait: float = 0.0) -> Taken:
        """Take the session, and wait so many seconds for it if a live owner has it. A checkpoint.

        Raises:
            SessionOwnedError: If it still has it then.
            SessionUnavailableError: If there is no such session, or it is stuck.
            StoreError: If the store cannot be used.
            ReplayMismatchError: If it is a session of another flow, or of other inputs.
        """
        with trio.CancelScope(shield=True):
            if not self.access.count(1):
                await in_thread(self.access.open)
        self._writer = self.access.writer()
        is_ours = False
        try:
            taken = await self._take(trio.current_time() + wait)
            is_ours = taken.fence is not None
        finally:
            if not is_ours:
                with trio.CancelScope(shield=True):
                    await self._let_go()
        if taken.is_stuck:
            raise stuck(self.wanted.session_id)
        self._taken = taken
        return taken

    async def _take(self, until: float) -> Taken:
        owner, writer, wanted = self.access.owner, self._writer, self.wanted
        while True:
            await trio.lowlevel.checkpoint()
            commit = Commit(wanted.session_id, None, work=lambda connection: owner.take(connection, wanted))
            refusal: Exception = owner.refusal(wanted.session_id)
            # Nobody else in this process takes it while this does.
            if owner.reserve(wanted.session_id):
                writer.submit(commit)
                await writer.lead(commit)
                taken = commit.result if commit.error is None and isinstance(commit.result, Taken) else None
                if taken is None or taken.fence is None:
                    owner.release(wanted.session_id)
                else:
                    owner.lease.renewed(taken.asked_at)
                if taken is not None:
                    return taken
                refusal = commit.error or refusal
            if not isinstance(refusal, SessionOwnedError) or trio.current_time() >= until:
                raise refusal
            await trio.sleep(self.access.patience.look)

    async def _let_go(self) -> None:
        self.access.leave_writer()
        if not self.access.count(-1):
            await in_thread(self.access.leave)

    @property
    def session_id(self) -> str:
        """Its identifier."""
        return self.wanted.session_id

    async def open(self) -> tuple[Journal, float | None]:
        """Take the session if that was not done yet; return its journal and the seconds until its deadline."""
        taken = self._taken or await self.take()
        if taken.fence is None:
            raise_recorded(self.access, taken.session)
        self.is_open = True
        self.journal = Journal(
            self.wanted.session_id,
            seed=taken.session.seed,
            has_entry_point=self.wanted.entry_point is not None,
            fence=taken.fence,
            past=Past(taken.rows),
            values=self.access.values,
            writer=self._writer,
            patience=self.access.patience,
        )
        return self.journal, taken.remaining

    def attach(self, values: dict[str, Any], log: Callable[..., None], end: Callable[[BaseException], bool]) -> None:
        """Learn of the session's context and log, and of what ends it.

        Raises:
            StoreError: If something of the record cannot be read here.
        """
        with told_as_store_error(self.session_id):
            self.journal.attach(values, log, end)

    # Keeping.

    async def watch(self) -> None:
        """See when the session is cancelled, until `stop`."""
        await self.journal.watch()

    def stop(self) -> None:
        """End `watch`."""
        self.journal.stop_watching()

    def check_end(self) -> None:
        """Refuse to end with recorded calls that nobody has asked for."""
        self.journal.check_end()

    async def keep(self, lose: Callable[[BaseException], object]) -> None:
        """Keep the lease, until the session is closed; give the session up some time before the lease would end."""
        if self._taken is None or self._taken.fence is None:
            return
        owner = self.access.owner
        with self._keeping:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._renew, lose)
                # It is put off by whoever renews the lease, in a thread.
                while seconds := owner.lease.until_loss:  # noqa: ASYNC110 - the same
                    await trio.sleep(seconds)
                self.journal.cut()
                lose(SessionLostError(self.wanted.session_id, "its lease could not be renewed in time"))
                nursery.cancel_scope.cancel()

    async def _renew(self, lose: Callable[[BaseException], object]) -> None:
        owner = self.access.owner
        while True:
            await trio.sleep(owner.lease.until_renewal)
            # All sessions of a process have one lease: whoever comes first renews it for all.
            async with self._writer.renewing:
                if owner.lease.until_renewal:
                    continue
                try:
                    # Behind threads of the user's it would not come to its turn.
                    is_owner = await trio.to_thread.run_sync(
                        owner.renew, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
                    )
                except (SQLAlchemyError, StoreError):
                    # There is time for another try, or there is none: then the lease ends the session.
                    await trio.sleep(self.access.patience.look)
                    continue
            if not is_owner:
                self.journal.cut()
                lose(SessionLostError(self.wanted.session_id, "the store does not know this owner any more"))
                return

    # Letting go.

    async def abandon(self) -> None:
        """Let go of a session that was taken and did not come to run. Shielded."""
        fence = None if self._taken is None else self._taken.fence
        if fence is None:
            return

        def abandon(connection: Connection) -> None:
            own = sa.update(sessions).where(sessions.c.session_id == self.wanted.session_id)
            connection.execute(own.values(status=DurableStatus.INTERRUPTED, owner=None))

        with trio.CancelScope(shield=True):
            commit = Commit(self.wanted.session_id, fence, work=abandon)
            self._writer.submit(commit)
            await self._writer.lead(commit)
            await self._released(is_written=commit.error is None)
        self._taken = None

    async def close(self, ending: Ending, raised: BaseException | None, *, is_draining: bool) -> None:
        """Write down how the session ended, and let go of it.

        Raises:
            StoreError: If that cannot be written; nothing that was acknowledged is lost by it.
            SessionLostError: If another owner has the session.
        """
        if self._taken is None or self._taken.fence is None:
            return
        is_written = False
        try:
            status = self._status(ending, raised, is_draining=is_draining)
            await self._settle(status, raised, None if ending.cause is None else ending.cause.reason)
            is_written = True
        finally:
            self._keeping.cancel()
            await self._released(is_written=is_written)  # noqa: ASYNC102 - part of the session's final work, which is shielded

    async def _released(self, *, is_written: bool) -> None:
        """Let go of the session here, and if that was not written, in the store when it can be."""
        owner = self.access.owner
        if not is_written:
            owner.leave_behind(self.wanted.session_id, cast("int", cast("Taken", self._taken).fence))
        owner.release(self.wanted.session_id)
        await self._let_go()

    async def _settle(self, status: DurableStatus, raised: BaseException | None, reason: str | None) -> None:
        failure = None
        told = SessionCancelledError(reason) if status is DurableStatus.CANCELLED else raised
        if status in {DurableStatus.FAILED, DurableStatus.CANCELLED, DurableStatus.TIMED_OUT} and told is not None:
            failure, _ = self.journal.dumped(told)
        is_final = status not in {DurableStatus.INTERRUPTED, DurableStatus.WAITING}
        wakes_at = self.journal.wakes_at if status is DurableStatus.WAITING else None

        def settle(connection: Connection) -> None:
            connection.execute(
                sa.update(sessions)
                .where(sessions.c.session_id == self.wanted.session_id)
                .values(
                    status=status,
                    owner=None,
                    failure=failure,
                    ended_at=clock_of(connection) if is_final else None,
                    wakes_at=wakes_at,
                )
            )

        await self.journal.ledger.settle(settle)

    def _status(self, ending: Ending, raised: BaseException | None, *, is_draining: bool) -> DurableStatus:
        if self.journal.is_parked:
            return DurableStatus.WAITING
        if raised is not None and (
            any(holds(raised, kind) for kind in INTERRUPTING)
            or (ending.status is Status.FAILED and not isinstance(raised, Exception))
            or (is_draining and holds(raised, ContextError))
        ):
            return DurableStatus.INTERRUPTED
        if ending.status is Status.CANCELLED:
            is_asked_for = ending.kind is CauseKind.CANCEL and not is_draining
            return DurableStatus.CANCELLED if is_asked_for else DurableStatus.INTERRUPTED
        return DurableStatus(ending.status)
