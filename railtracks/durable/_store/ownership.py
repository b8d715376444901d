"""Which process runs a session: sessions are begun, taken over and let go of here, each in one transaction.

`Run` takes sessions by this, and keeps the one lease of its process; the views ask which sessions are free.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.database import Database, now_of
from railtracks.durable._store.histories import History, outcome_rows
from railtracks.durable._store.lease import Lease
from railtracks.durable._store.lives import empty, fresh_life, name_of_life, next_fence
from railtracks.durable._store.onlooking import Onlooker
from railtracks.durable._store.progress import taken_over
from railtracks.durable._store.reading import moment_after, owner_row, session_row
from railtracks.durable._store.schema import (
    FINAL,
    DurableStatus,
    OwnerRow,
    SessionOutline,
    SessionRow,
    owners,
    sessions,
)
from railtracks.durable._store.statements import prepared, rows_of, run_for_each
from railtracks.durable._store.table import RowTable
from railtracks.durable._store.wanted import Taken, Wanted, refuse_other, stuck
from railtracks.durable._values.prints import NEWEST
from railtracks.exceptions import SessionOwnedError, SessionUnavailableError, StoreError

# Made once: to put this statement together costs more than to run it.
_FIND: Final = sa.select(sessions).where(sessions.c.session_id == sa.bindparam("wanted")).with_for_update()
_BEGIN: Final = sa.insert(sessions)


class ProcessOwner(Onlooker):
    """This process, as the owner of sessions in one store; Trio runs in several threads may share it.

    Attributes:
        token: Its name in the store.
        lease: Its lease, which all of its sessions have in common.
    """

    def __init__(self, database: Database, lease: float, max_recoveries: int, clock: Callable[[], float]) -> None:
        self.token = os.urandom(16).hex()
        super().__init__(database, self.token)
        self.lease = Lease(lease, clock)
        self._database = database
        self._max_recoveries = max_recoveries
        self._guard = threading.Lock()
        # The sessions that are open in this process.
        self._open: set[str] = set()
        # The sessions that were to be let go of when the store could not be written: their fencing numbers, and what
        # has interrupted them.
        self._left_behind: dict[str, tuple[int, bytes | None]] = {}
        self._renewing = threading.Lock()
        database.hold(self.token)
        with database.writing("opening") as connection:
            problem = database.lock_problem(connection, self.token)
            if problem is not None:
                raise StoreError(f"the store {database} cannot be opened: {problem}")
            now = now_of(connection)
            # Asked once more, so that the lock files of owners that died are deleted, also where sessions name them.
            for each in self._owners(connection):
                if each.lease_until <= now and database.is_sqlite:
                    database.is_held(connection, each.token)
            self._forget_dead(connection, now)
            known = [each.token for each in self._owners(connection)]
            self._announce(connection)
        database.clear_others([*known, self.token])

    def close(self) -> None:
        """Delete the row of this owner: its sessions may be taken over at once."""
        with self._database.writing("closing") as connection:
            connection.execute(sa.delete(owners).where(owners.c.token == self.token))

    # The sessions of this process.

    def reserve(self, session_id: str) -> bool:
        """Keep the rest of this process off a session; return whether it was free in this process."""
        with self._guard:
            is_free = session_id not in self._open
            self._open.add(session_id)
            return is_free

    def release(self, session_id: str) -> None:
        """Let other runs in this process take a session that was reserved."""
        with self._guard:
            self._open.discard(session_id)

    def leave_behind(self, session_id: str, fence: int, cause: bytes | None) -> None:
        """Let go of a session with the next renewal that can be written."""
        with self._guard:
            self._left_behind[session_id] = fence, cause

    # The lease.

    def renew(self) -> str | None:
        """Renew the lease, unless another thread just did; return why the sessions of this owner are lost, if so."""
        with self._renewing:
            if self.lease.until_renewal:
                return None
            self._database.hold_again(self.token)
            asked_at = self.lease.now()
            with self._database.writing("renewal") as connection:
                problem = self._database.lock_problem(connection, self.token)
                if problem is None and not self._prolong(connection):
                    problem = "the store does not know this owner any more"
                left = self._let_go(connection)
                self._forget_dead(connection, now_of(connection))
            if problem is None:
                self.lease.renewed(asked_at)
            self._have_let_go(left)
            return problem

    def _prolong(self, connection: Connection) -> bool:
        until = now_of(connection) + self.lease.seconds
        renewed = connection.execute(sa.update(owners).where(owners.c.token == self.token).values(lease_until=until))
        return renewed.rowcount == 1

    def _announce(self, connection: Connection) -> None:
        row = OwnerRow(
            token=self.token,
            host=platform.node(),
            process_id=os.getpid(),
            lease_until=now_of(connection) + self.lease.seconds,
        )
        connection.execute(sa.insert(owners).values(**row._asdict()))

    def _forget_dead(self, connection: Connection, now: float) -> None:
        """Delete the rows and lock files of owners that nobody needs to know any more.

        These are dead: their lease has ended, and their lock is free or says nothing. And no session names them.
        """
        named = sa.select(sessions.c.owner).where(
            # As the index has it: no session that has an owner has another status.
            sessions.c.status == DurableStatus.RUNNING,
            sessions.c.owner.is_not(None),
        )
        dead = sa.select(owners).where(owners.c.lease_until <= now, owners.c.token.not_in(named))
        for each in map(owner_row, connection.execute(dead).all()):
            if each is not None and not self._database.is_held(connection, each.token):
                connection.execute(sa.delete(owners).where(owners.c.token == each.token))

    def _let_go(self, connection: Connection) -> dict[str, tuple[int, bytes | None]]:
        with self._guard:
            left = self._left_behind.copy()
        for session_id, (fence, cause) in left.items():
            own = sa.update(sessions).where(
                sessions.c.session_id == session_id, sessions.c.fence == fence, sessions.c.owner == self.token
            )
            connection.execute(own.values(status=DurableStatus.INTERRUPTED, owner=None, cause=cause))
        return left

    def _have_let_go(self, left: dict[str, tuple[int, bytes | None]]) -> None:
        with self._guard:
            for session_id, letting_go in left.items():
                # With another fencing number the session was taken again, and left behind again, meanwhile.
                if self._left_behind.get(session_id) == letting_go:
                    del self._left_behind[session_id]

    # Taking.

    def take(self, connection: Connection, wanted: Wanted, history: History) -> Taken | None:
        """Begin a session, or take over one that has no live owner; one that is over is only read.

        Args:
            connection: A transaction that writes.
            wanted: The session.
            history: What was read of its calls before.

        Returns:
            What was found; `None` if so much of the history is unread that it is to be read first, by `read_ahead`.

        Raises:
            SessionOwnedError: If a live owner has it.
            ReplayMismatchError: If it is a session of another flow, or of other inputs.
            SessionUnavailableError: If there is none and it may not be new, or it is stuck.
        """
        asked_at = self.lease.now()
        rows = rows_of(connection, prepared(_FIND, connection.dialect), {"wanted": wanted.session_id})
        if not rows:
            return self._begun(connection, wanted, asked_at)
        found = session_row(rows[0])
        refuse_other(found, wanted)
        if found.status in FINAL:
            # Of a flow that is over only the result is wanted; a block runs again, and replays.
            if found.entry_point is not None:
                return Taken(found, outcome_rows(connection, found), None, None)
            return Taken(found, history.rows, None, None) if history.read_on(connection, found) else None
        if found.status == DurableStatus.STUCK:
            raise stuck(wanted)
        refusal = self._refusal(connection, found)
        if refusal is not None:
            raise refusal
        # Before anything is written: a damaged record leaves the session as it is.
        if not history.read_on(connection, found):
            return None
        recoveries, progress = found.recoveries, found.progress
        # A session that its last owner let go of did not die with it.
        if found.status == DurableStatus.RUNNING:
            recoveries, progress = taken_over(connection, found)
        fence = next_fence(connection, found.session_id, found.fence)
        own = sa.update(sessions).where(sessions.c.session_id == found.session_id)
        if recoveries > self._max_recoveries:
            connection.execute(own.values(status=DurableStatus.STUCK, owner=None, fence=fence))
            return Taken(found, RowTable(found.session_id), None, None, is_stuck=True)
        connection.execute(
            own.values(
                status=DurableStatus.RUNNING,
                owner=self.token,
                fence=fence,
                recoveries=recoveries,
                progress=progress,
                cause=None,
            )
        )
        asked_at = asked_at if self._own(connection) else 0.0
        remaining = None if found.deadline_at is None else found.deadline_at - now_of(connection)
        return Taken(found, history.rows, fence, remaining, asked_at)

    def _own(self, connection: Connection) -> bool:
        """Renew the lease if that is due, as after a time without any session; return whether it was due."""
        if self.lease.until_renewal:
            return False
        if not self._prolong(connection):
            self._announce(connection)
        return True

    def _begun(self, connection: Connection, wanted: Wanted, asked_at: float) -> Taken:
        if not wanted.may_be_new:
            raise SessionUnavailableError(wanted.session_id, f"is not in the store {self._database}")
        now = now_of(connection)
        empty(connection, wanted.session_id)
        life, inputs = fresh_life(), wanted.inputs
        row = SessionRow(
            session_id=wanted.session_id,
            session_name=wanted.session_name,
            flow_name=wanted.flow_name,
            version=wanted.version,
            entry_point=wanted.entry_point,
            inputs=None if inputs is None else inputs.data,
            inputs_print=None if inputs is None else inputs.fingerprint,
            seed=wanted.seed or name_of_life(wanted.session_id, life),
            status=DurableStatus.RUNNING.value,
            timeout=wanted.timeout,
            created_at=now,
            ended_at=None,
            deadline_at=moment_after(now, wanted.timeout),
            wakes_at=None,
            failure=None,
            owner=self.token,
            fence=next_fence(connection, wanted.session_id, 0),
            recoveries=0,
            forked_from=None,
            parent=wanted.parent,
            parent_life=wanted.parent_life,
            life=life,
            prints=NEWEST,
        )
        run_for_each(connection, prepared(_BEGIN, connection.dialect), [row._asdict()])
        asked_at = asked_at if self._own(connection) else 0.0
        return Taken(row, RowTable(row.session_id), row.fence, wanted.timeout, asked_at)

    def refusal(self, session_id: str) -> SessionOwnedError:
        """Return the error for a session that is open elsewhere in this process."""
        until = datetime.fromtimestamp(time.time() + self.lease.seconds, UTC).isoformat(timespec="seconds")
        return SessionOwnedError(session_id, platform.node(), os.getpid(), until)

    def refusal_of(self, connection: Connection, session_id: str, token: str | None) -> SessionOwnedError | None:
        """Return the error for a session that a live owner has, this process among them; `None` if nobody runs it.

        Args:
            connection: A transaction that writes, with the row of the session locked.
            session_id: The session.
            token: The owner that its row names.
        """
        with self._guard:
            is_here = session_id in self._open
        return self.refusal(session_id) if is_here else self._refusal_by(connection, session_id, token)

    def _refusal(self, connection: Connection, found: SessionRow) -> SessionOwnedError | None:
        """Return the error for a session that another live owner has, `None` if none has it."""
        return self._refusal_by(connection, found.session_id, found.owner)

    def _refusal_by(self, connection: Connection, session_id: str, token: str | None) -> SessionOwnedError | None:
        # Nothing else in this process has the session: the caller has reserved it, or asked for that.
        if token is None or token == self.token:
            return None
        owner = next(self._owners(connection, token), None)
        if owner is None or not self._lives(connection, owner, now_of(connection)):
            return None
        until = datetime.fromtimestamp(owner.lease_until, UTC).isoformat(timespec="seconds")
        return SessionOwnedError(session_id, owner.host, owner.process_id, until)

    def is_free(self, found: SessionRow | SessionOutline, live: Collection[str]) -> bool:
        """Return whether no process runs a session, given the other owners that live."""
        with self._guard:
            return found.session_id not in self._open and super().is_free(found, live)
