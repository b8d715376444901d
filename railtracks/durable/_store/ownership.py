"""Who runs a session: it is begun, taken over, let go of and ended here, each in one transaction."""

from __future__ import annotations

import os
import platform
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

import sqlalchemy as sa
from attrs import define
from sqlalchemy.engine import Connection

from railtracks.durable._store.database import Database, now_of
from railtracks.durable._store.schema import DurableStatus, owners, rows_of, sessions
from railtracks.exceptions import ReplayMismatchError, SessionOwnedError, SessionUnavailableError

# Made once: to put them together costs more than to run them.
_FIND: Final = sa.select(sessions).where(sessions.c.session_id == sa.bindparam("wanted")).with_for_update()
_BEGIN: Final = sa.insert(sessions)

# Shares of a lease: it is renewed after one third, and given up this much before its end.
_RENEWALS: Final = 3
_MARGIN: Final = 6

FINAL: Final = frozenset(
    [DurableStatus.COMPLETED, DurableStatus.FAILED, DurableStatus.TIMED_OUT, DurableStatus.CANCELLED]
)

# What of a session's row has to be the same when somebody asks for it again, and what errors call it.
_SAME: Final = (
    ("flow_name", "flow"),
    ("version", "version"),
    ("entry_point", "entry point"),
    ("inputs_print", "inputs"),
)


@define(frozen=True, kw_only=True)
class Wanted:
    """A session that somebody wants to run.

    Attributes:
        session_id: Its identifier.
        flow_name: The flow that it is a run of.
        version: The version of that flow.
        entry_point: The name of the flow's node.
        inputs: The arguments, if the session may be new.
        inputs_print: Their fingerprint.
        session_name: Its name.
        timeout: Its seconds, `None` for none.
        may_be_new: Whether it is begun if there is none.
        seed: What its random numbers are drawn from, if that is not its identifier.
        parent: The session that it is opened in, if that is durable.
    """

    session_id: str
    flow_name: str | None
    version: str | None
    entry_point: str | None
    inputs: bytes | None
    inputs_print: str | None
    session_name: str | None
    timeout: float | None
    may_be_new: bool
    seed: str | None = None
    parent: str | None = None


@define(frozen=True)
class Taken:
    """A session as it was found, and the fence if this process may write to it now.

    Attributes:
        session: Its row.
        rows: What happened in it so far, in the order of the commits; none if it is stuck.
        fence: The number of this owner, `None` if the session is over and has none.
        remaining: The seconds until its deadline by the clock of the database, `None` for none.
        asked_at: When its owner's lease was renewed with that, by `time.monotonic`, before the store was asked; 0 if it
            was not due.
        is_stuck: Whether it was taken over once too often, and is left alone from now on.
    """

    session: Any
    rows: list[Any]
    fence: int | None
    remaining: float | None
    asked_at: float = 0.0
    is_stuck: bool = False


class Owner:
    """This process, as the owner of sessions in one store; Trio runs in several threads may share it."""

    def __init__(self, database: Database, lease: float, max_recoveries: int) -> None:
        self.token = os.urandom(16).hex()
        self._database = database
        self._lease = lease
        self._max_recoveries = max_recoveries
        self._guard = threading.Lock()
        # The sessions that are open here.
        self._open: set[str] = set()
        # Those that were to be let go of when the store could not be written, and their fences.
        self._left_behind: dict[str, int] = {}
        self._renewing = threading.Lock()
        self._renewed_at = time.monotonic()
        database.hold(self.token)
        with database.writing() as connection:
            # Nobody asks for these any more: a day is more than any lease.
            yesterday = now_of(connection) - 86_400
            connection.execute(sa.delete(owners).where(owners.c.lease_until < yesterday))
            self._announce(connection)

    def close(self) -> None:
        """Be the owner of nothing any more."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(owners).where(owners.c.token == self.token))

    # The sessions of this process.

    def reserve(self, session_id: str) -> bool:
        """Keep others of this process off a session; say whether nobody else does so."""
        with self._guard:
            is_free = session_id not in self._open
            self._open.add(session_id)
            return is_free

    def release(self, session_id: str) -> None:
        """End what `reserve` began."""
        with self._guard:
            self._open.discard(session_id)

    def leave_behind(self, session_id: str, fence: int) -> None:
        """Let go of a session when the store can be written again."""
        with self._guard:
            self._left_behind[session_id] = fence

    # The lease. It is counted on this machine's clock, which nobody sets: every Trio run has one of its own.

    @property
    def until_renewal(self) -> float:
        """The seconds until the lease is to be renewed."""
        return max(0.0, self._renewed_at + self._lease / _RENEWALS - time.monotonic())

    @property
    def until_loss(self) -> float:
        """The seconds until the sessions are to be given up: some time before the database sees the lease end."""
        return max(0.0, self._renewed_at + self._lease - self._lease / _MARGIN - time.monotonic())

    def renew(self) -> bool:
        """Make the lease a whole one again, unless somebody just did; say whether this was still an owner."""
        with self._renewing:
            if self.until_renewal:
                return True
            self._database.hold_again(self.token)
            before = time.monotonic()
            with self._database.writing() as connection:
                is_owner = self._prolong(connection)
                left = self._let_go(connection)
            if is_owner:
                self.renewed(before)
            self._have_let_go(left)
            return is_owner

    def renewed(self, at: float) -> None:
        """Note that the lease was renewed, and when that was asked for."""
        self._renewed_at = max(self._renewed_at, at)

    def _prolong(self, connection: Connection) -> bool:
        until = now_of(connection) + self._lease
        renewed = connection.execute(sa.update(owners).where(owners.c.token == self.token).values(lease_until=until))
        return renewed.rowcount == 1

    def _announce(self, connection: Connection) -> None:
        until = now_of(connection) + self._lease
        row = {"token": self.token, "host": platform.node(), "process_id": os.getpid(), "lease_until": until}
        connection.execute(sa.insert(owners).values(**row))

    def _let_go(self, connection: Connection) -> dict[str, int]:
        with self._guard:
            left = self._left_behind.copy()
        for session_id, fence in left.items():
            own = sa.update(sessions).where(
                sessions.c.session_id == session_id, sessions.c.fence == fence, sessions.c.owner == self.token
            )
            connection.execute(own.values(status=DurableStatus.INTERRUPTED, owner=None))
        return left

    def _have_let_go(self, left: dict[str, int]) -> None:
        with self._guard:
            for session_id, fence in left.items():
                if self._left_behind.get(session_id) == fence:
                    del self._left_behind[session_id]

    # Taking.

    def take(self, connection: Connection, wanted: Wanted) -> Taken:
        """Begin a session, or take over one that is nobody's; one that is over is only read.

        Raises:
            SessionOwnedError: If a live owner has it.
            ReplayMismatchError: If it is a session of another flow, or of other inputs.
            SessionUnavailableError: If there is none and it may not be new, or it is stuck.
        """
        asked_at = time.monotonic()
        found = connection.execute(_FIND, {"wanted": wanted.session_id}).one_or_none()
        if found is None:
            return self._begun(connection, wanted, asked_at)
        _compare(found, wanted)
        if found.status in FINAL:
            return Taken(found, rows_of(connection, found.session_id), None, None)
        if found.status == DurableStatus.STUCK:
            raise stuck(wanted.session_id)
        refusal = self._refusal(connection, found)
        if refusal is not None:
            raise refusal
        # A session that was let go of is no burden on its successor.
        recoveries = found.recoveries + (found.status == DurableStatus.RUNNING)
        own = sa.update(sessions).where(sessions.c.session_id == found.session_id)
        if recoveries > self._max_recoveries:
            connection.execute(own.values(status=DurableStatus.STUCK, owner=None, fence=found.fence + 1))
            return Taken(found, [], None, None, is_stuck=True)
        connection.execute(
            own.values(status=DurableStatus.RUNNING, owner=self.token, fence=found.fence + 1, recoveries=recoveries)
        )
        asked_at = asked_at if self._own(connection) else 0.0
        remaining = None if found.deadline_at is None else found.deadline_at - now_of(connection)
        return Taken(found, rows_of(connection, found.session_id), found.fence + 1, remaining, asked_at)

    def _own(self, connection: Connection) -> bool:
        """Renew the lease if that is due, as while there was no session nobody did; say whether it was."""
        if self.until_renewal:
            return False
        if not self._prolong(connection):
            self._announce(connection)
        return True

    def _begun(self, connection: Connection, wanted: Wanted, asked_at: float) -> Taken:
        if not wanted.may_be_new:
            raise SessionUnavailableError(wanted.session_id, f"is not in the store {self._database.url!r}")
        now = now_of(connection)
        values: dict[str, Any] = {
            "session_id": wanted.session_id,
            "session_name": wanted.session_name,
            "flow_name": wanted.flow_name,
            "version": wanted.version,
            "entry_point": wanted.entry_point,
            "inputs": wanted.inputs,
            "inputs_print": wanted.inputs_print,
            "seed": wanted.seed or wanted.session_id,
            "status": DurableStatus.RUNNING,
            "timeout": wanted.timeout,
            "created_at": now,
            "deadline_at": None if wanted.timeout is None else now + wanted.timeout,
            "owner": self.token,
            "fence": 1,
            "recoveries": 0,
            "parent": wanted.parent,
        }
        connection.execute(_BEGIN, values)
        asked_at = asked_at if self._own(connection) else 0.0
        return Taken(SimpleNamespace(**values), [], 1, wanted.timeout, asked_at)

    def refusal(self, session_id: str) -> SessionOwnedError:
        """Return what is said to who asks for a session that another of this process has."""
        until = datetime.fromtimestamp(time.time() + self._lease, UTC).isoformat(timespec="seconds")
        return SessionOwnedError(session_id, platform.node(), os.getpid(), until)

    def _refusal(self, connection: Connection, found: Any) -> SessionOwnedError | None:
        """Return who has a session, if a live owner does."""
        # Who asks has made sure that nobody else of this process has it.
        if found.owner is None or found.owner == self.token:
            return None
        owner = connection.execute(sa.select(owners).where(owners.c.token == found.owner)).one_or_none()
        if owner is None:
            return None
        is_in_time = owner.lease_until > now_of(connection)
        if not (is_in_time and self._database.is_held(connection, found.owner)):
            return None
        until = datetime.fromtimestamp(owner.lease_until, UTC).isoformat(timespec="seconds")
        return SessionOwnedError(found.session_id, owner.host, owner.process_id, until)

    def live_owners(self, connection: Connection) -> frozenset[str]:
        """Return the other owners that live, by their tokens."""
        others = sa.select(owners.c.token).where(
            owners.c.token != self.token, owners.c.lease_until > now_of(connection)
        )
        tokens = connection.execute(others).scalars().all()
        return frozenset(token for token in tokens if self._database.is_held(connection, token))

    def is_free(self, found: Any, live: frozenset[str]) -> bool:
        """Say whether nobody runs a session."""
        with self._guard:
            return found.session_id not in self._open and found.owner not in live


def stuck(session_id: str) -> SessionUnavailableError:
    return SessionUnavailableError(
        session_id, "is stuck: too many owners did not let go of it, and now it is left alone. Fork it to run it"
    )


def _compare(found: Any, wanted: Wanted) -> None:
    for column, what in _SAME:
        now, then = getattr(wanted, column), getattr(found, column)
        if column == "inputs_print":
            if now is not None and now != then:
                raise ReplayMismatchError(wanted.session_id, "other inputs", "these inputs")
        elif now != then:
            raise ReplayMismatchError(wanted.session_id, f"{what} {then!r}", f"{what} {now!r}")
