"""One durable session in this process: taken from its store, kept by a lease, recorded to its end, released.

Made by `invocations`. The core calls it by the protocol `DurableRun`: `open` when the session begins, `keep` while it
runs, `close` when it has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

import sqlalchemy as sa
import trio
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from railtracks._nodes.node import Node
from railtracks._records.data import CauseKind, EndCause, Status
from railtracks._records.ending import Ending
from railtracks._records.errors import holds, is_ordinary, raise_unchanged
from railtracks._records.process_identity import seems_ended
from railtracks._records.slices import Pauses
from railtracks._workers.threads import in_thread, in_thread_or_here, saving_limiter
from railtracks.durable._replay.interrupts import INTERRUPTING
from railtracks.durable._replay.journal import Journal
from railtracks.durable._replay.parking import Around
from railtracks.durable._replay.recorded import RecordedSession
from railtracks.durable._replay.startable import StartableNodes
from railtracks.durable._replay.turns import Turns
from railtracks.durable._sessions.cancelling import end_inside
from railtracks.durable._sessions.causes import dumped_cause, ended_quietly
from railtracks.durable._sessions.inner_calls import calls_in_sessions
from railtracks.durable._sessions.views import row_of
from railtracks.durable._store.access import Access
from railtracks.durable._store.commit import Commit
from railtracks.durable._store.ends import End
from railtracks.durable._store.histories import History
from railtracks.durable._store.keeping import KeptSession
from railtracks.durable._store.patience import OwnerWait
from railtracks.durable._store.schema import FINAL, DurableStatus, SessionRow, sessions
from railtracks.durable._store.table import RowTable
from railtracks.durable._store.wanted import Taken, Wanted, stuck
from railtracks.durable._store.writer import Writer
from railtracks.durable._values.failures import load_failure
from railtracks.durable._values.values import as_own_error
from railtracks.exceptions import (
    ContextError,
    RailtracksError,
    SessionCancelledError,
    SessionLostError,
    SessionOwnedError,
    StoreError,
)

# So many rows are made ready for a replay in a thread: about 10 ms of work.
_MANY: Final = 1_000


def raise_recorded(access: Access, row: SessionRow) -> None:
    """Raise the recorded error of a session that is over, if it has raised one."""
    if row.failure is not None and not ended_quietly(row):
        raise_unchanged(_failure_of(access, row, row.failure))


def _failure_of(access: Access, row: SessionRow, failure: bytes) -> Exception:
    """Return the recorded error of a session. In a function of its own: no frame of its caller holds it."""
    with as_own_error(row.session_id):
        return load_failure(failure, access.values)


def _first_beginning(taken: Taken) -> float:
    """Return when a session began: a fork has calls that are older, and other machines have clocks of their own."""
    return min(taken.session.created_at, taken.rows.first_beginning)


def _prepared_slowly(rows: RowTable) -> tuple[RecordedSession, Turns]:
    pauses = Pauses()
    record = RecordedSession(rows, pauses)
    return record, Turns(record, pauses)


class Run:
    """One durable session, from the moment it is taken until it is released.

    Args:
        startable: The nodes that it may start again in the background.
        around: Of a block inside another session: where it stands.

    Attributes:
        access: The store.
        wanted: Which session it is.
        journal: The journal, once the session is open.
        is_open: Whether the session has come to run. Then it is released by `close`, before that by `abandon`.
    """

    def __init__(
        self,
        access: Access,
        wanted: Wanted,
        startable: Iterable[Node[..., object]] = (),
        *,
        around: Around | None = None,
    ) -> None:
        self._startable = StartableNodes(startable)
        self._around = around
        self.access = access
        self.wanted = wanted
        self.journal: Journal
        self.is_open = False
        self._writer: Writer
        self._taken: Taken | None = None

    @property
    def session_id(self) -> str:
        """The identifier of the session."""
        return self.wanted.session_id

    @property
    def _fence(self) -> int | None:
        """The fencing number of this owner; `None` if the session was not taken, or is over and has no owner."""
        return None if self._taken is None else self._taken.fence

    @property
    def former_trace(self) -> str | None:
        """The trace of the last run of the session, as W3C's `traceparent`; `None` if that is not known."""
        return None if self._taken is None else self._taken.session.trace

    def note_trace(self, trace: str) -> None:
        """Have the trace of this run written to the store, for a run that goes on with the session later.

        Nobody waits for that. It is there before any outcome of this run, and soon, should this process be killed.
        """
        if self._fence is None:
            return
        own = sa.update(sessions).where(sessions.c.session_id == self.session_id).values(trace=trace)

        def note(connection: Connection) -> None:
            connection.execute(own)

        self._writer.submit(Commit(self.session_id, self._fence, work=note))
        # A first call may take hours, and is no commit until it ends.
        self._writer.write_soon()

    # Taking.

    # Whatever strikes, what was reserved for the session is released again: Ctrl-C may not come in between.
    @trio.lowlevel.enable_ki_protection
    async def take(self, wait: float = 0.0) -> Taken:
        """Take the session from its store, as the owner or only to read one that is over. A checkpoint.

        Args:
            wait: The seconds to wait for the session if a live owner has it. An owner whose process seems to have
                ended is waited for some seconds anyway.

        Raises:
            SessionOwnedError: If a live owner still has it after that.
            SessionUnavailableError: If there is no such session, or it is stuck.
            StoreError: If the store cannot be used.
            ReplayMismatchError: If it is a session of another flow, or of other inputs.
        """
        if not self.access.count(1):
            with trio.CancelScope(shield=True):
                await in_thread(self.access.open)
        self._writer = self.access.writer()
        is_ours = False
        try:
            taken = await self._take(wait)
            is_ours = taken.fence is not None
        finally:
            if not is_ours:
                with trio.CancelScope(shield=True):
                    await self._leave_store()
        if taken.is_stuck:
            raise stuck(self.wanted)
        self._taken = taken
        return taken

    async def _take(self, wait: float) -> Taken:
        owner, writer, wanted, patience = self.access.owner, self._writer, self.wanted, self.access.patience
        waiting = OwnerWait(wait, patience.death)
        history = History(wanted.session_id)
        while True:
            await trio.lowlevel.checkpoint()
            commit = Commit(wanted.session_id, None, work=lambda connection: owner.take(connection, wanted, history))
            refusal: Exception
            # While this run tries, no other run in this process may take the session.
            if owner.reserve(wanted.session_id):
                await writer.write(commit)
                taken = commit.result if commit.error is None and isinstance(commit.result, Taken) else None
                if taken is None or taken.fence is None:
                    owner.release(wanted.session_id)
                else:
                    owner.lease.renewed(taken.asked_at)
                if taken is not None:
                    return taken
                if commit.error is None:
                    # Nothing was taken: other writers must not wait until a long history is read.
                    while not await in_thread(self._read_piece, history):
                        pass
                    continue
                refusal = commit.error
            else:
                refusal = owner.refusal(wanted.session_id)
            if not isinstance(refusal, SessionOwnedError):
                raise refusal
            if waiting.is_over(has_ended=seems_ended(refusal.host, refusal.process_id)):
                raise refusal
            await trio.sleep(patience.look)

    def _read_piece(self, history: History) -> bool:
        """Read one piece of the history of a session that nobody has taken yet; return whether it was the last one."""
        with self.access.reading() as (connection, _, _):
            return history.read_on(connection, row_of(connection, self.session_id, self.access))

    async def _leave_store(self) -> None:
        """Close the store, if no other session of this process needs it."""
        self.access.leave_writer()
        if not self.access.count(-1):
            await in_thread_or_here(self.access.leave, limiter=saving_limiter())

    async def open(self) -> tuple[Journal, float | None]:
        """Take the session if that was not done yet; return its journal, and the seconds until its deadline."""
        if self._around is None:
            return await self._open()
        # The store may keep it waiting: without this the session around it could be parked meanwhile.
        with self._around[0].unlisted():
            return await self._open()

    async def _open(self) -> tuple[Journal, float | None]:
        taken = self._taken or await self.take()
        if taken.fence is None:
            raise_recorded(self.access, taken.session)
        record, turns = await self._prepared(taken.rows)
        self.is_open = True
        self.journal = Journal(
            self.session_id,
            life=taken.session.life,
            prints=taken.session.prints,
            seed=taken.session.seed,
            startable=self._startable,
            has_entry_point=self.wanted.entry_point is not None,
            fence=taken.fence,
            record=record,
            turns=turns,
            values=self.access.values,
            writer=self._writer,
            patience=self.access.patience,
            began_at=_first_beginning(taken) if taken.rows or taken.fence != 1 else None,
            failure=taken.session.failure if taken.fence is None and ended_quietly(taken.session) else None,
            calls_in_sessions=partial(calls_in_sessions, self.access, self.session_id),
            around=self._around,
        )
        if taken.fence is not None:
            self.journal.parts.parking.begin()
        if self.asked_end is not None:
            # Nothing of it runs any more.
            self.journal.cut()
        return self.journal, taken.remaining

    @property
    def asked_end(self) -> EndCause | None:
        """The request to end the session that its store had when the session was taken, if there was one."""
        row = None if self._taken is None else self._taken.session
        return None if row is None or row.cancel_asked_at is None else EndCause(CauseKind.CANCEL, row.cancel_reason)

    async def _prepared(self, rows: RowTable) -> tuple[RecordedSession, Turns]:
        """Return what a replay needs of some rows.

        If there are many, a thread makes it, and the lease is renewed meanwhile; then this is a checkpoint.
        """
        if len(rows) < _MANY:
            record = RecordedSession(rows)
            return record, Turns(record)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew_meanwhile)
            made = await in_thread(_prepared_slowly, rows)
            nursery.cancel_scope.cancel()
        return made

    async def _renew_meanwhile(self) -> None:
        """Keep the lease until the session is open. If it is lost, `keep` or the first commit finds that out."""
        owner = self.access.owner
        while True:
            with suppress(SQLAlchemyError, StoreError):
                await in_thread(owner.renew)
            await trio.sleep(owner.lease.until_renewal or self.access.patience.look)

    # Keeping.

    def keep(
        self,
        nursery: trio.Nursery,
        lose: Callable[[BaseException], object],
        cancel: Callable[[EndCause], object],
    ) -> None:
        """Keep the lease until `close` or `leave_to_parent`, whatever is cancelled around the session meanwhile.

        Args:
            nursery: For a task that keeps it. Must be open until then.
            lose: Called when the lease is lost, some time before another owner may take it.
            cancel: Called when somebody asks in the store for the end of the session.
        """
        if self._fence is None:
            return

        def lost(error: RailtracksError) -> None:
            lose(self._lost(error))

        def asked(reason: str | None) -> None:
            cancel(EndCause(CauseKind.CANCEL, reason))

        self._writer.keeping.add(KeptSession(self.session_id, nursery, lost, asked))

    def leave_to_parent(self) -> None:
        """End what `keep` has started: this process was forked in the session, which its parent goes on with."""
        self._writer.keeping.forget(self.session_id)

    def _lost(self, error: RailtracksError) -> RailtracksError:
        """Have nothing recorded any more, and return the error that the session ends with."""
        self.journal.cut()
        return self.journal.parts.commits.end_error(error)

    # Releasing.

    @trio.lowlevel.enable_ki_protection
    async def abandon(self) -> None:
        """Release a session that was taken and did not come to run. Shielded."""
        fence = self._fence
        if fence is None:
            return

        def interrupt(connection: Connection) -> None:
            own = sa.update(sessions).where(sessions.c.session_id == self.session_id)
            connection.execute(own.values(status=DurableStatus.INTERRUPTED, owner=None))

        with trio.CancelScope(shield=True):
            commit = Commit(self.session_id, fence, work=interrupt, is_end=True)
            await self._writer.write(commit)
            await self._release(fence, None, is_written=commit.error is None)
        self._taken = None

    def suspended(
        self, ending: Ending, raised: BaseException | None, *, is_draining: bool
    ) -> tuple[Status, CauseKind | None] | None:
        """Return the status of a session that has ended here and can go on, and what kind of error has suspended it.

        Only ends that the session's own code, deadline or `cancel` has brought are final. What comes from outside, a
        failing store or a stop of the host, leaves it interrupted.
        """
        if self._fence is None:
            return None
        if self.journal.parts.parking.is_parked:
            return Status.WAITING, CauseKind.PARKED
        for error in _errors_of(ending, raised):
            if holds(error, SessionLostError):
                return Status.INTERRUPTED, CauseKind.LOST_LEASE
            if any(holds(error, kind) for kind in INTERRUPTING):
                return Status.INTERRUPTED, CauseKind.STORE if holds(error, StoreError) else None
            if (ending.status is Status.FAILED and not is_ordinary(error)) or (
                is_draining and holds(error, ContextError)
            ):
                return Status.INTERRUPTED, None
        is_asked_for = ending.kind is CauseKind.CANCEL and not is_draining
        return None if ending.status is not Status.CANCELLED or is_asked_for else (Status.INTERRUPTED, None)

    async def close(
        self, ending: Ending, raised: BaseException | None, *, overrule: Callable[[EndCause], Awaitable[None]]
    ) -> None:
        """Record how the session ended, and release it.

        Args:
            ending: How it ended.
            raised: What its block raises.
            overrule: Called with a request to end the session that nobody here has seen before: the session is
                cancelled instead.

        Raises:
            StoreError: If that cannot be written. Everything that was acknowledged is in the store all the same.
            SessionLostError: If another owner has the session.
        """
        fence = self._fence
        if fence is None:
            return
        is_written = False
        # The body of a block may have dealt with the error that has ended it.
        is_quiet = raised is None and ending.status is Status.FAILED
        cause = None if ending.cause is None else dumped_cause(ending.cause, is_quiet=is_quiet)
        try:
            asked = await self._settle(ending, next(iter(_errors_of(ending, raised)), None), cause)
            if asked is not None:
                await overrule(asked)
                cause = dumped_cause(asked)
                await self._settle(ending, None, cause)
            is_written = True
        finally:
            # A look that is on its way in a thread would open the store again once it is closed
            # (test_durable_cancel.py::test_a_look_that_is_on_its_way_ends_before_the_store_is_closed).
            await self._writer.keeping.remove(self.session_id)  # noqa: ASYNC102 - as below
            await self._release(fence, cause, is_written=is_written)  # noqa: ASYNC102 - part of the session's final work, which is shielded

    async def _release(self, fence: int, cause: bytes | None, *, is_written: bool) -> None:
        """Release the session in this process; if the store does not say so yet, there too, as soon as it can be."""
        owner = self.access.owner
        if not is_written:
            owner.leave_behind(self.session_id, fence, cause)
        owner.release(self.session_id)
        try:
            await self._leave_store()
        finally:
            if self.is_open:
                self.journal.parts.parking.end()

    async def _settle(self, ending: Ending, error: BaseException | None, cause: bytes | None) -> EndCause | None:
        """Record how the session ended.

        Returns:
            A request to end the session, if there is one and the session has ended otherwise: then nothing is recorded.
        """
        status, failure = DurableStatus(ending.status), None
        reason = None if ending.cause is None else ending.cause.reason
        if status is DurableStatus.CANCELLED:
            error = SessionCancelledError(reason)
        if status in FINAL and status is not DurableStatus.COMPLETED and error is not None:
            failure, _ = self.journal.parts.failures.dump(error)
        has_outcome = self.wanted.entry_point is not None and status in {DurableStatus.COMPLETED, DurableStatus.FAILED}
        wakes_at = self.journal.parts.parking.wakes_at if status is DurableStatus.WAITING else None
        end = End(status=status, failure=failure, wakes_at=wakes_at, cause=cause, has_outcome=has_outcome)

        def settle(connection: Connection) -> EndCause | None:
            is_written = end.write(connection, self.session_id)
            if status is DurableStatus.CANCELLED:
                end_inside(connection, self.session_id, reason, self.access.values)
            if is_written:
                return None
            own = sessions.c.session_id == self.session_id
            asked: str | None = connection.execute(sa.select(sessions.c.cancel_reason).where(own)).scalar_one()
            return EndCause(CauseKind.CANCEL, asked)

        asked = await self.journal.parts.commits.settle(settle)
        return asked if isinstance(asked, EndCause) else None


def _errors_of(ending: Ending, raised: BaseException | None) -> list[BaseException]:
    """Return what has ended a session, also if its body has heard of that and raises nothing."""
    return [*([] if raised is None else [raised]), *ending.heard]
