"""The store as users hold it: where durable sessions are kept, which there are, what is known of each."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self, get_args

import sqlalchemy as sa
import trio
from attrs import define
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from railtracks._options import check_seconds
from railtracks._redact import REDACTED
from railtracks._store import state_folder
from railtracks._tree import CallError, CallRecord, ExecutionInfo, Status
from railtracks.durable._database import Database, Durability, database_url
from railtracks.durable._failures import told_failure
from railtracks.durable._ownership import FINAL, DurableStatus, Owner
from railtracks.durable._past import CANCELLED, COMPLETED, FAILED, OPENED
from railtracks.durable._schema import calls, owners, sessions, signals
from railtracks.durable._sealing import Sealer
from railtracks.durable._strands import ROOT
from railtracks.durable._values import Values
from railtracks.durable._writer import Writer
from railtracks.exceptions import StoreError

# Seconds between two looks at something that another process decides.
LOOK = 0.1

_STATUS = {
    COMPLETED: Status.COMPLETED,
    FAILED: Status.FAILED,
    CANCELLED: Status.CANCELLED,
    OPENED: Status.RUNNING,
}


@define(frozen=True, kw_only=True)
class StoredSession:
    """One session of a store.

    Attributes:
        session_id: Its identifier.
        status: Where it stands. One that says that it runs and whose owner is dead is `interrupted`.
        flow_name: The flow that it is a run of.
        version: The version of that flow.
        session_name: Its name.
        created_at: When it was begun, by the clock of the database, in UTC.
        ended_at: When it ended for good.
        deadline_at: When its time is over.
        recoveries: How often it was taken over from an owner that did not let go of it.
        forked_from: The session whose past it has.
        host: The machine of its owner, if it has one.
        process_id: The process of its owner.
    """

    session_id: str
    status: DurableStatus
    flow_name: str | None
    version: str | None
    session_name: str | None
    created_at: datetime
    ended_at: datetime | None
    deadline_at: datetime | None
    recoveries: int
    forked_from: str | None
    host: str | None
    process_id: int | None


class DurableStore:
    """Where durable sessions are kept: SQLite by default, PostgreSQL for several machines. Needs the extra `durable`.

    It is opened when it is first needed and closed when no session of it is open; as a context manager it stays open in
    its block, which saves the opening and closing to flows that are invoked one after another. Its methods block.

    Args:
        url: A path or a URL: `sqlite:///...`, `postgresql://...` (extra `postgres`). By default
            `$RAILTRACKS_HOME/durable/sessions.db`. SQLite only on a local disk.
        key: What secrets are encrypted with; without one a value with a secret in it is refused.
        durability: `power`: what is acknowledged survives the loss of power, the default. `process`: only the death of
            the process, and quicker.
        lease: Seconds after which an owner that does not answer loses its sessions. One that is dead loses them at once
            where its lock shows it.
        commit_timeout: Seconds that a commit may take, further tries included, before the session is interrupted.
        max_recoveries: How often a session is taken over from owners that died with it before it is `stuck`.

    Raises:
        ImportError: If what it needs is not installed.
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument has a value that it cannot have.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        key: str | bytes | None = None,
        durability: Durability = "power",
        lease: float = 30.0,
        commit_timeout: float = 10.0,
        max_recoveries: int = 10,
    ) -> None:
        if url is not None and not isinstance(url, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
            raise TypeError(f"the url of a store must be a string or a path, not {type(url).__name__}")
        if durability not in get_args(Durability):
            raise ValueError(f"durability must be one of {', '.join(get_args(Durability))}, not {durability!r}")
        for name, seconds in (("lease", lease), ("commit_timeout", commit_timeout)):
            check_seconds(name, seconds)
            if seconds in {None, math.inf}:
                raise ValueError(f"{name} must have an end")
        if commit_timeout >= lease:
            raise ValueError(
                "commit_timeout must be less than lease: who waits longer does not own the session any more"
            )
        if isinstance(max_recoveries, bool) or not isinstance(max_recoveries, int):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
            raise TypeError(f"max_recoveries must be a whole number, not {type(max_recoveries).__name__}")
        if max_recoveries < 0:
            raise ValueError(f"max_recoveries must be 0 or more, not {max_recoveries}")
        self.lease = float(lease)
        self.commit_timeout = float(commit_timeout)
        self.max_recoveries = max_recoveries
        self.values = Values(Sealer(key))
        self._durability: Durability = durability
        self._given = url
        self._url = database_url(url, state_folder())
        self._guard = threading.RLock()
        self._users = 0
        self._database: Database | None = None
        self._owner: Owner | None = None
        self._writers: dict[trio.lowlevel.TrioToken, tuple[Writer, int]] = {}

    def __repr__(self) -> str:
        return f"<railtracks.DurableStore {self._url.render_as_string()}>"

    def __enter__(self) -> Self:
        """Open the store, and keep it open."""
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    # What sessions need of it.

    def open(self) -> tuple[Database, Owner]:
        """Open the store, or count one more user of it; blocks."""
        with self._guard:
            if self._database is None or self._owner is None:
                database = Database(self._url, self._durability, self.commit_timeout, self.lease)
                try:
                    self._owner = Owner(database, self.lease, self.max_recoveries)
                except DBAPIError as error:
                    database.close()
                    raise StoreError(f"the store {self!r} cannot be opened: {error.orig}") from error
                except BaseException:
                    database.close()
                    raise
                self._database = database
            self._users += 1
            return self._database, self._owner

    def count(self, users: int) -> bool:
        """Count users more, or less, if the store stays open by that and nobody else does so; does not block."""
        if not self._guard.acquire(blocking=False):
            return False
        try:
            if not self._users or self._users + users < 1:
                return False
            self._users += users
            return True
        finally:
            self._guard.release()

    def leave(self) -> None:
        """Count one user less; the last one closes the store. Blocks."""
        with self._guard:
            self._users -= 1
            if self._users:
                return
            database, owner = self._database, self._owner
            self._database = self._owner = None
        if database is not None and owner is not None:
            try:
                owner.close()
            except (DBAPIError, StoreError):
                # It is dead to the others when its lock or its lease is gone.
                pass
            finally:
                database.close()

    @property
    def owner(self) -> Owner:
        """This process as an owner; the store is open."""
        assert self._owner is not None  # noqa: S101 - who asks has opened it
        return self._owner

    @property
    def database(self) -> Database:
        """The database; the store is open."""
        assert self._database is not None  # noqa: S101 - the same
        return self._database

    def writer(self) -> Writer:
        """Return what commits for the sessions of this Trio run, and count one user of it more."""
        token = trio.lowlevel.current_trio_token()
        writer, users = self._writers.get(token) or (Writer(self.database, self.commit_timeout), 0)
        self._writers[token] = (writer, users + 1)
        return writer

    def leave_writer(self) -> None:
        """Count one user less of it."""
        token = trio.lowlevel.current_trio_token()
        writer, users = self._writers.pop(token)
        if users > 1:
            self._writers[token] = (writer, users - 1)

    @contextmanager
    def reading(self) -> Generator[tuple[Connection, Database, Owner]]:
        """Open the store for a look at one state of it.

        Raises:
            StoreError: If it cannot be read.
        """
        database, owner = self.open()
        try:
            with database.reading() as connection:
                yield connection, database, owner
        except DBAPIError as error:
            raise StoreError(f"the store {self!r} cannot be read: {error.orig}") from error
        finally:
            self.leave()

    @contextmanager
    def writing(self) -> Generator[tuple[Connection, Database, Owner]]:
        """Open the store for one transaction.

        Raises:
            StoreError: If it cannot be written.
        """
        database, owner = self.open()
        try:
            with database.writing() as connection:
                yield connection, database, owner
        except DBAPIError as error:
            raise StoreError(f"the store {self!r} cannot be written: {error.orig}") from error
        finally:
            self.leave()

    # What users ask it.

    def sessions(
        self, status: DurableStatus | str | None = None, flow_name: str | None = None
    ) -> tuple[StoredSession, ...]:
        """Return the sessions of the store, the oldest first. Blocks.

        Args:
            status: Only those that stand there.
            flow_name: Only the runs of this flow.

        Raises:
            ValueError: If there is no such status.
            StoreError: If the store cannot be read.
        """
        wanted = None if status is None else DurableStatus(status)
        query = sa.select(sessions).order_by(sessions.c.created_at, sessions.c.session_id)
        if flow_name is not None:
            query = query.where(sessions.c.flow_name == flow_name)
        if wanted is not None and wanted not in {DurableStatus.RUNNING, DurableStatus.INTERRUPTED}:
            query = query.where(sessions.c.status == wanted)
        with self.reading() as (connection, _, owner):
            rows = connection.execute(query).all()
            known = {row.token: row for row in connection.execute(sa.select(owners))}
            found = [self._stored(connection, owner, known, row) for row in rows]
        return tuple(each for each in found if wanted is None or each.status is wanted)

    def load(self, session_id: str) -> ExecutionInfo:
        """Return what is recorded of a session, as plain data; secrets are redacted. Blocks.

        Raises:
            StoreError: If there is no such session, or the store cannot be read.
        """
        with self.reading() as (connection, _, owner):
            row = self._row(connection, session_id)
            known = {each.token: each for each in connection.execute(sa.select(owners))}
            head = self._stored(connection, owner, known, row)
            rows = connection.execute(
                sa.select(calls).where(calls.c.session_id == session_id).order_by(calls.c.seq)
            ).all()
        records = self._records(rows)
        try:
            status = Status(head.status)
        except ValueError:
            # The core knows sessions that run and sessions that are over.
            status = Status.RUNNING
        return ExecutionInfo(
            session_id=head.session_id,
            session_name=head.session_name,
            flow_name=head.flow_name,
            flow_id=None,
            status=status,
            started_at=head.created_at,
            ended_at=head.ended_at,
            timeout=row.timeout,
            error=self._error(row.failure),
            context_keys=tuple(sorted({key for each in rows if each.context for key in json.loads(each.context)})),
            calls=records,
        )

    def fork(self, session_id: str, before: int | None = None) -> str:
        """Begin a new session with the past of another, and return its identifier; resume it with its flow. Blocks.

        The calls of the past have new idempotency keys there, and signals that were not consumed are not copied.

        Args:
            session_id: The session with the past.
            before: Up to the commits before this call began, by its id in `load`. `None`: the whole of it, but for the
                end.

        Raises:
            StoreError: If there is no such session or call, or the store cannot be written.
        """
        with self.writing() as (connection, database, _):
            row = self._row(connection, session_id)
            rows = connection.execute(
                sa.select(calls).where(calls.c.session_id == session_id).order_by(calls.c.seq)
            ).all()
            kept = [each._asdict() for each in rows]
            if before is not None:
                kept = _before(kept, before, session_id)
            else:
                # What failed or ended at the top is what is to be run again.
                kept = [each for each in kept if each["parent"] != ROOT or each["status"] not in {FAILED, CANCELLED}]
            fresh = os.urandom(16).hex()
            now = database.now(connection)
            values = {
                **row._asdict(),
                "session_id": fresh,
                "status": DurableStatus.INTERRUPTED,
                "created_at": now,
                "ended_at": None,
                "deadline_at": None if row.timeout is None else now + row.timeout,
                "wakes_at": None,
                "failure": None,
                "owner": None,
                "fence": 0,
                "recoveries": 0,
                "forked_from": session_id,
            }
            connection.execute(sa.insert(sessions).values(**values))
            if kept:
                connection.execute(sa.insert(calls), [{**each, "session_id": fresh} for each in kept])
        return fresh

    def send(self, session_id: str, name: str, value: Any, key: str | None) -> None:
        """Put a signal into the store; blocks. `rt.send_signal` is this for Trio."""
        data, _ = self.values.dump(value, Any, f"the value of signal {name!r}")
        with self.writing() as (connection, database, _):
            row = self._row(connection, session_id)
            if row.status in FINAL:
                raise StoreError(f"session {session_id} is {row.status}: a signal would reach nobody")
            same = sa.select(signals.c.id).where(signals.c.session_id == session_id, signals.c.key == key)
            if key is not None and connection.execute(same).first() is not None:
                return
            connection.execute(
                sa.insert(signals).values(
                    session_id=session_id, name=name, key=key, value=data, sent_at=database.now(connection)
                )
            )

    def _row(self, connection: Connection, session_id: str) -> Any:
        row = connection.execute(sa.select(sessions).where(sessions.c.session_id == session_id)).one_or_none()
        if row is None:
            raise StoreError(f"there is no session {session_id} in {self!r}")
        return row

    def _stored(self, connection: Connection, owner: Owner, known: dict[str, Any], row: Any) -> StoredSession:
        status = DurableStatus(row.status)
        if status is DurableStatus.RUNNING and owner.is_free(connection, row):
            status = DurableStatus.INTERRUPTED
        holder = known.get(row.owner)
        return StoredSession(
            session_id=row.session_id,
            status=status,
            flow_name=row.flow_name,
            version=row.version,
            session_name=row.session_name,
            created_at=datetime.fromtimestamp(row.created_at, UTC),
            ended_at=_moment(row.ended_at),
            deadline_at=_moment(row.deadline_at),
            recoveries=row.recoveries,
            forked_from=row.forked_from,
            host=None if holder is None else holder.host,
            process_id=None if holder is None else holder.process_id,
        )

    def _records(self, rows: Any) -> tuple[CallRecord, ...]:
        """Return the calls of rows: by the order in which they began to be known."""
        last = {row.key: row for row in rows if row.status in _STATUS}
        ids: dict[str, int] = {}
        for row in rows:
            if row.status in _STATUS:
                ids.setdefault(row.key, row.seq)
        records: list[CallRecord] = []
        for key, call_id in ids.items():
            row = last[key]
            args, kwargs = self.values.told_arguments(row.arguments)
            records.append(
                CallRecord(
                    id=call_id,
                    parent_id=ids.get(row.parent),
                    node=row.node,
                    status=_STATUS[row.status],
                    attempt=row.attempt,
                    started_at=datetime.fromtimestamp(row.began_at, UTC),
                    ended_at=_moment(row.ended_at),
                    args=args,
                    kwargs=kwargs,
                    result=self.values.redacted(row.outcome) if row.status == COMPLETED else None,
                    error=self._error(row.outcome) if row.status == FAILED else None,
                )
            )
        return tuple(records)

    def _error(self, data: bytes | None) -> CallError | None:
        if data is None:
            return None
        kind, message, traceback = told_failure(data, self.values)
        # With a key a message may quote what it likes: here nobody knows the secrets that it could be cleared of.
        return CallError(kind, REDACTED, "") if self.values.sealer.has_key else CallError(kind, message, traceback)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _before(rows: list[dict[str, Any]], call_id: int, session_id: str) -> list[dict[str, Any]]:
    """Return the commits before a call began: what was there, in the order of the commits, when it was not yet."""
    keys = [row["key"] for row in rows if row["seq"] == call_id and row["status"] in _STATUS]
    if not keys:
        raise StoreError(f"session {session_id} has no call {call_id}")
    begins = min(row["began_at"] for row in rows if row["key"] == keys[0])
    outcomes = [row for row in rows if row["status"] != OPENED]
    cut = next((row["seq"] for row in outcomes if (row["ended_at"] or 0.0) >= begins), call_id)
    return [row for row in rows if row["seq"] < min(cut, call_id)]
