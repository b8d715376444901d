"""What a store tells of its sessions: plain data, with secrets left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from attrs import define
from sqlalchemy.engine import Connection

from railtracks._records.secrets import REDACTED, Scrubber
from railtracks._records.tree import CallError, CallRecord, ExecutionInfo, Status
from railtracks.durable._replay.recorded import CANCELLED, COMPLETED, FAILED, OPENED
from railtracks.durable._store.access import Access
from railtracks.durable._store.ownership import Owner
from railtracks.durable._store.schema import DurableStatus, owners, rows_of, sessions
from railtracks.durable._values.failures import told_failure
from railtracks.durable._values.values import Values
from railtracks.exceptions import SessionUnavailableError

_STATUS = {
    COMPLETED: Status.COMPLETED,
    FAILED: Status.FAILED,
    CANCELLED: Status.CANCELLED,
    OPENED: Status.RUNNING,
}
_SEEN = {
    DurableStatus.COMPLETED: Status.COMPLETED,
    DurableStatus.FAILED: Status.FAILED,
    DurableStatus.TIMED_OUT: Status.TIMED_OUT,
    DurableStatus.CANCELLED: Status.CANCELLED,
}
# Not what may be large.
_TOLD: Final = [column for column in sessions.c if column.name not in {"inputs", "failure"}]


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


def sessions_in(access: Access, wanted: DurableStatus | None, flow_name: str | None) -> tuple[StoredSession, ...]:
    """Return the sessions of a store, the oldest first."""
    query = sa.select(*_TOLD).order_by(sessions.c.created_at, sessions.c.session_id)
    if flow_name is not None:
        query = query.where(sessions.c.flow_name == flow_name)
    if wanted is not None and wanted not in {DurableStatus.RUNNING, DurableStatus.INTERRUPTED}:
        query = query.where(sessions.c.status == wanted)
    with access.reading() as (connection, _, owner):
        rows = connection.execute(query).all()
        known = _Owners(connection, owner)
        found = [_stored(known, row) for row in rows]
    return tuple(each for each in found if wanted is None or each.status is wanted)


def record_of(access: Access, session_id: str) -> ExecutionInfo:
    """Return what is recorded of a session."""
    with access.reading() as (connection, _, owner):
        row = row_of(connection, session_id, access)
        head = _stored(_Owners(connection, owner), row)
        rows = rows_of(connection, session_id)
    return ExecutionInfo(
        session_id=head.session_id,
        session_name=head.session_name,
        flow_name=head.flow_name,
        flow_id=None,
        # The core knows sessions that run and sessions that are over.
        status=_SEEN.get(head.status, Status.RUNNING),
        started_at=head.created_at,
        ended_at=head.ended_at,
        timeout=row.timeout,
        error=_error(row.failure, access.values),
        context_keys=tuple(sorted({key for each in rows if each.context for key in json.loads(each.context)})),
        calls=_records(rows, access.values),
    )


def row_of(connection: Connection, session_id: str, access: Access, *, is_locked: bool = False) -> Any:
    """Return the row of a session, and let nobody else change it in this transaction if that is wanted.

    Raises:
        SessionUnavailableError: If there is none.
    """
    query = sa.select(sessions).where(sessions.c.session_id == session_id)
    row = connection.execute(query.with_for_update() if is_locked else query).one_or_none()
    if row is None:
        raise SessionUnavailableError(session_id, f"is not in the store {access}")
    return row


class _Owners:
    """The owners of a store, as one look finds them."""

    def __init__(self, connection: Connection, owner: Owner) -> None:
        self.known = {row.token: row for row in connection.execute(sa.select(owners))}
        self._live = owner.live_owners(connection)
        self._owner = owner

    def is_free(self, row: Any) -> bool:
        """Say whether nobody runs a session."""
        return self._owner.is_free(row, self._live)


def _stored(found: _Owners, row: Any) -> StoredSession:
    status = DurableStatus(row.status)
    if status is DurableStatus.RUNNING and found.is_free(row):
        status = DurableStatus.INTERRUPTED
    holder = found.known.get(row.owner)
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


def _records(rows: Any, values: Values) -> tuple[CallRecord, ...]:
    """Return the calls of rows: by the order in which they began to be known."""
    last = {row.key: row for row in rows if row.status in _STATUS}
    ids: dict[str, int] = {}
    for row in rows:
        if row.status in _STATUS:
            ids.setdefault(row.key, row.seq)
    records: list[CallRecord] = []
    for key, call_id in ids.items():
        row = last[key]
        args, kwargs = values.told_arguments(row.arguments)
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
                result=values.redacted(row.outcome) if row.status == COMPLETED else None,
                error=_error(row.outcome, values) if row.status == FAILED else None,
            )
        )
    return tuple(records)


def _error(data: bytes | None, values: Values) -> CallError | None:
    if data is None:
        return None
    kind, message, traceback = told_failure(data, values)
    if values.sealer.has_key:
        # A message may quote what it likes: here nobody knows the secrets that it could be cleared of.
        return CallError(kind, REDACTED, "")
    clear = Scrubber().text
    return CallError(kind, clear(message), clear(traceback))


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
