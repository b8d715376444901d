"""The views of a store: its sessions and their records as plain data, with secrets left out.

`DurableStore` calls this for `sessions` and `load`; the other modules find the row of a session by `row_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Final, NamedTuple

import sqlalchemy as sa
from attrs import define, evolve
from sqlalchemy.engine import Connection

from railtracks._checks import check_text
from railtracks._records.data import CallError, EndCause, ExecutionInfo, Status
from railtracks._records.files import is_safe_name
from railtracks._records.known_secrets import KnownSecrets
from railtracks._records.scrubbing import Scrubber
from railtracks._records.slices import Pauses
from railtracks.durable._replay.context import written_in
from railtracks.durable._replay.past import error_in, values_in
from railtracks.durable._sessions.call_records import Runs, moment, told_error
from railtracks.durable._sessions.causes import cause_of
from railtracks.durable._sessions.pages import Page
from railtracks.durable._store.access import Access
from railtracks.durable._store.onlooking import Onlooker
from railtracks.durable._store.reading import RowsInStore, owner_row, rows_of, session_row, shown_id
from railtracks.durable._store.schema import (
    CallRow,
    DurableStatus,
    SessionRow,
    owners,
    sessions,
)
from railtracks.durable._values.stored import parsed
from railtracks.durable._values.values import Values, as_store_error
from railtracks.exceptions import SessionUnavailableError, StoreError

_SEEN: Final = {
    DurableStatus.COMPLETED: Status.COMPLETED,
    DurableStatus.FAILED: Status.FAILED,
    DurableStatus.TIMED_OUT: Status.TIMED_OUT,
    DurableStatus.CANCELLED: Status.CANCELLED,
    DurableStatus.WAITING: Status.WAITING,
    DurableStatus.INTERRUPTED: Status.INTERRUPTED,
    # Nobody runs it, either.
    DurableStatus.STUCK: Status.INTERRUPTED,
}


# How many errors are in memory at once.
_AT_ONCE: Final = 500


@define(frozen=True, kw_only=True)
class StoredSession:
    """What a store has of one session, without its calls.

    Attributes:
        session_id: Its identifier.
        status: Its status; `interrupted` if its owner died while it was running.
        flow_name: The flow that it is a run of.
        version: The version of that flow.
        session_name: Its name.
        created_at: When it was begun, by the clock of the database, in UTC.
        ended_at: When it ended for good.
        deadline_at: When it times out.
        recoveries: How often it was taken over, since its last outcome, from an owner that died with it.
        forked_from: The session that it was forked from.
        host: The machine of its owner, if it has one.
        process_id: The process of its owner.
        cause: What ended or interrupted it, or put it aside; `None` if nothing did, or if its owner died with it.
        problem: Why it cannot be read: then its status is `damaged`, and what is not known of it is `None`, or the
            beginning of 1970.
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
    problem: str | None = None
    cause: EndCause | None = None


def sessions_in(access: Access, page: Page) -> tuple[StoredSession, ...]:
    """Return a page of the sessions of a store, the oldest first.

    Raises:
        SessionUnavailableError: If the session that the page comes after is not there.
    """
    gone = set[_Holding]()
    while True:
        with access.reading() as (connection, _, owner):
            known = _Owners(connection, owner)
            with connection.execute(page.query(connection, access)) as rows:
                seen = (_seen(known, row) for row in rows)
                found = (each for each in seen if page.status is None or each.status is page.status)
                shown = tuple(islice(found, page.limit))
        if known.gone <= gone:
            return shown
        gone |= known.gone


def record_of(access: Access, session_id: str) -> ExecutionInfo:
    """Return a session and the records of its calls in the form that the core uses for every session."""
    gone = set[_Holding]()
    while True:
        with access.reading() as (connection, _, owner):
            row = row_of(connection, session_id, access)
            if row.status == DurableStatus.RUNNING:
                known = _Owners(connection, owner)
                if known.is_free(row):
                    row = row._replace(status=DurableStatus.INTERRUPTED)
                if not known.gone <= gone:
                    gone |= known.gone
                    continue
            return info_of(row, RowsInStore(connection, session_id), access.values)


def errors_of(access: Access, session_ids: Sequence[str]) -> dict[str, CallError]:
    """Return the errors that sessions ended with, as text, by the sessions; those that cannot be read are left out.

    Raises:
        StoreError: If the store cannot be read.
    """
    errors: dict[str, CallError] = {}
    with access.reading() as (connection, _, _):
        for start in range(0, len(session_ids), _AT_ONCE):
            query = sa.select(sessions.c.session_id, sessions.c.failure)
            for session_id, failure in connection.execute(
                query.where(sessions.c.session_id.in_(session_ids[start : start + _AT_ONCE]))
            ):
                if isinstance(failure, bytes):
                    with suppress(StoreError), as_store_error(session_id):
                        # Without a key no secret gets into a stored error, and with a key its message is not shown.
                        errors[session_id] = error_in(failure, access.values, Scrubber())
    return errors


def rows_in(access: Access, session_id: str) -> tuple[SessionRow, list[CallRow]]:
    """Return the row of a session and those of its calls. Blocks.

    Raises:
        SessionUnavailableError: If there is no such session.
        StoreError: If the store cannot be read.
    """
    with access.reading() as (connection, _, _):
        return row_of(connection, session_id, access), rows_of(connection, session_id)


def seen_status(row: SessionRow) -> Status:
    """Return what the core calls the status of a session."""
    return _SEEN.get(DurableStatus(row.status), Status.RUNNING)


def info_of(row: SessionRow, rows: Iterable[CallRow], values: Values) -> ExecutionInfo:
    """Return a session and the records of its calls in the form that the core uses for every session.

    Args:
        row: The row of the session.
        rows: The rows of its calls, which can be gone through twice.
        values: What reads them.

    Raises:
        StoreError: If the rows are damaged.
    """
    with as_store_error(row.session_id):
        runs, secrets, names, began_at = Runs(), KnownSecrets(), set[str](), row.created_at
        pauses = Pauses()
        for each in pauses.between(rows):
            runs.add(each)
            secrets.see_all(values_in(each, values))
            names.update(written_in(each))
            # A fork has calls that are older, and other machines have clocks of their own.
            began_at = min(began_at, each.began_at)
        scrubber = secrets.scrubber
        return ExecutionInfo(
            session_id=row.session_id,
            session_name=row.session_name,
            flow_name=row.flow_name,
            flow_id=None,
            status=seen_status(row),
            started_at=datetime.fromtimestamp(began_at, UTC),
            ended_at=moment(row.ended_at),
            timeout=row.timeout,
            error=told_error(row.failure, values, scrubber),
            context_keys=tuple(sorted(names)),
            calls=runs.records(rows, values, scrubber, pauses),
            cause=_cause(row, scrubber),
        )


def row_of(connection: Connection, session_id: str, access: Access, *, is_locked: bool = False) -> SessionRow:
    """Return the row of a session, and lock it if that is wanted.

    Args:
        connection: A transaction in its store.
        session_id: The session.
        access: The store, for an error.
        is_locked: Whether no other transaction may change the row before this one ends.

    Raises:
        SessionUnavailableError: If there is none.
        StoreError: If the row is damaged.
        TypeError: If the identifier is no text.
    """
    check_text("session_id", session_id)
    if not is_safe_name(session_id):
        # No session has such an identifier, and not every database takes it.
        raise SessionUnavailableError(session_id, f"is not in the store {access}")
    query = sa.select(sessions).where(sessions.c.session_id == session_id)
    row = connection.execute(query.with_for_update() if is_locked else query).one_or_none()
    if row is None:
        raise SessionUnavailableError(session_id, f"is not in the store {access}")
    return session_row(row)


class _Holding(NamedTuple):
    """That an owner has a session, since it has taken it."""

    session_id: str
    owner: str | None
    fence: int


class _Owners:
    """The owners of a store, as one look finds them.

    A look sees one state of the database, and learns later whether an owner lives. Meanwhile the owner may have ended
    its sessions, and then itself. So what seems to be interrupted counts as that once a later look finds it again.

    Attributes:
        known: The owners, by their tokens.
        gone: The sessions that run in this state of the store, and whose owners are gone.
    """

    def __init__(self, connection: Connection, owner: Onlooker) -> None:
        self.gone: set[_Holding] = set()
        self.known = {
            row.token: row for row in map(owner_row, connection.execute(sa.select(owners))) if row is not None
        }
        self._live = owner.live_owners(connection)
        self._owner = owner

    def is_free(self, row: SessionRow) -> bool:
        """Return whether no process runs a session that has not ended."""
        is_free = self._owner.is_free(row, self._live)
        if is_free:
            self.gone.add(_Holding(row.session_id, row.owner, row.fence))
        return is_free


def _seen(found: _Owners, row: Sequence[object]) -> StoredSession:
    """Return what a row says of a session; a damaged one costs no other session its place in the list."""
    try:
        return _stored(found, session_row(row))
    except StoreError as damage:
        return StoredSession(
            session_id=shown_id(row[0]),
            status=DurableStatus.DAMAGED,
            flow_name=None,
            version=None,
            session_name=None,
            created_at=datetime.fromtimestamp(0, UTC),
            ended_at=None,
            deadline_at=None,
            recoveries=0,
            forked_from=None,
            host=None,
            process_id=None,
            problem=damage.problem,
        )


def _stored(found: _Owners, row: SessionRow) -> StoredSession:
    status = DurableStatus(row.status)
    if status is DurableStatus.RUNNING and found.is_free(row):
        status = DurableStatus.INTERRUPTED
    holder = None if row.owner is None else found.known.get(row.owner)
    return StoredSession(
        session_id=row.session_id,
        status=status,
        flow_name=row.flow_name,
        version=row.version,
        session_name=row.session_name,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        ended_at=moment(row.ended_at),
        deadline_at=moment(row.deadline_at),
        recoveries=row.recoveries,
        forked_from=row.forked_from,
        host=None if holder is None else holder.host,
        process_id=None if holder is None else holder.process_id,
        cause=cause_of(row),
    )


def scrubber_of(rows: list[CallRow], values: Values, others: Sequence[bytes] = ()) -> Scrubber:
    """Return what removes the secrets of a session, also the encrypted ones that the key of the store opens.

    Args:
        rows: The rows of its calls.
        values: What opens them.
        others: Other values of the session.
    """
    secrets = KnownSecrets()
    for row in rows:
        secrets.see_all(values_in(row, values))
    for data in others:
        stored = parsed(data)
        secrets.see_all([(None, stored), *values.opened_secrets(stored)])
    return secrets.scrubber


def call_ids(rows: Iterable[CallRow]) -> dict[str, int]:
    """Return the ids that users know calls by, by the keys of the calls: of one that was run again, the last one."""
    runs = Runs()
    for row in rows:
        runs.add(row)
    return runs.ids()


def _cause(row: SessionRow, scrubber: Scrubber) -> EndCause | None:
    cause = cause_of(row)
    return cause if cause is None or cause.reason is None else evolve(cause, reason=scrubber.text(cause.reason))
