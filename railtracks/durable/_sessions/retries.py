"""A session that has failed, opened again: what failed last in it runs again when the session is resumed.

`DurableStore.retry` calls this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from attrs import define
from sqlalchemy.engine import Connection

from railtracks.durable._replay.identities import Identities
from railtracks.durable._replay.reopening import InnerSession, Reopening
from railtracks.durable._replay.strands import Strands
from railtracks.durable._sessions.views import row_of
from railtracks.durable._sessions.wakeups import whole_timeout
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import now_of
from railtracks.durable._store.families import opened_in, refuse_inner
from railtracks.durable._store.lives import name_of_life
from railtracks.durable._store.ownership import ProcessOwner
from railtracks.durable._store.reading import moment_after, record_of, session_row
from railtracks.durable._store.schema import FINAL, CallRow, DurableStatus, SessionRow, calls, sessions
from railtracks.durable._values.values import as_store_error
from railtracks.exceptions import SessionUnavailableError

# Of a session that `retry` opens again.
_RETRIED: Final = frozenset([DurableStatus.FAILED, DurableStatus.TIMED_OUT])


@define(eq=False)
class _Ended:
    """A session that has failed or timed out, and those inside it by their identifiers."""

    session: SessionRow
    rows: list[CallRow]
    inside: dict[str, _Ended]
    reopening: Reopening

    @property
    def is_possible(self) -> bool:
        """Whether it may end otherwise when it is opened again. A cancelled one is never opened again."""
        return self.session.status in _RETRIED and self.reopening.is_possible

    @property
    def inner(self) -> InnerSession:
        """What the session around it has to know of it."""
        row = self.session
        name = row.session_name or row.flow_name or ""
        return InnerSession(name, row.created_at, row.ended_at, has_failed=True, is_possible=self.is_possible)


def retried(access: Access, session_id: str) -> None:
    """Open a session again that has failed or timed out.

    Raises:
        SessionUnavailableError: If there is no such session, or it cannot be opened again.
        SessionOwnedError: If a live owner has it.
        StoreError: If the store cannot be written, or the record is damaged.
    """
    with access.writing() as (connection, _, owner):
        row = row_of(connection, session_id, access, is_locked=True)
        _refuse(connection, owner, row)
        ended = _ended(connection, row)
        if not ended.is_possible:
            raise SessionUnavailableError(session_id, _why_not(ended))
        _open_again(connection, ended, now_of(connection))


def _refuse(connection: Connection, owner: ProcessOwner, row: SessionRow) -> None:
    """Refuse a session that has not failed, or that is inside another one."""
    refuse_inner(connection, row.session_id, "retried")
    if row.status in _RETRIED:
        return
    owned = owner.refusal_of(connection, row.session_id, row.owner)
    if owned is not None:
        raise owned
    what_to_do = {
        DurableStatus.COMPLETED: "is completed, so its code went on from what failed: fork it to run calls of it again",
        DurableStatus.CANCELLED: "is cancelled, and that stands: fork it to go on from its past under another id",
        DurableStatus.STUCK: "is stuck, and has not failed: free it, and recover or resume it",
        DurableStatus.WAITING: "is waiting, and has not failed: send its signal, and recover or resume it",
    }
    raise SessionUnavailableError(
        row.session_id,
        what_to_do.get(DurableStatus(row.status), "is interrupted, and has not failed: recover or resume it"),
    )


def _ended(connection: Connection, row: SessionRow) -> _Ended:
    """Read a session and those inside it that have ended and not completed."""
    rows = record_of(connection, row.session_id)
    its = opened_in(sessions, row.session_id, row.life)
    query = sa.select(sessions).where(its, sessions.c.status.in_(FINAL - {DurableStatus.COMPLETED}))
    found = map(session_row, connection.execute(query.with_for_update()).all())
    inside = {each.session_id: _ended(connection, each) for each in found}
    identities = Identities(name_of_life(row.session_id, row.life), row.seed, Strands())
    return _Ended(row, rows, inside, Reopening(identities, rows, _inner(connection, its, inside)))


def _inner(
    connection: Connection, its: sa.ColumnElement[bool], ended: Mapping[str, _Ended]
) -> Mapping[str, InnerSession]:
    """Return all sessions inside one by their identifiers, also those that are open or completed.

    Args:
        connection: A transaction in the store.
        its: The condition that a session was opened in this one.
        ended: Those that have ended and not completed.
    """
    columns = sessions.c.session_id, sessions.c.session_name, sessions.c.flow_name
    query = sa.select(*columns, sessions.c.created_at, sessions.c.ended_at).where(its)
    found = {
        session_id: InnerSession(name or flow or "", began_at, ended_at)
        for session_id, name, flow, began_at, ended_at in connection.execute(query).all()
    }
    return {**found, **{key: each.inner for key, each in ended.items()}}


def _open_again(connection: Connection, ended: _Ended, now: float) -> None:
    """Write the rows by which calls begin again, of a session and of those inside it, and open the sessions again."""
    session = ended.session
    last = ended.rows[-1].seq if ended.rows else 0
    with as_store_error(session.session_id):
        again = list(ended.reopening.rows(now, lambda row: whole_timeout(row, now)))
    if again:
        numbered = [each._replace(seq=last + number)._asdict() for number, each in enumerate(again, 1)]
        connection.execute(sa.insert(calls), numbered)
    opened = {
        "status": DurableStatus.INTERRUPTED,
        "owner": None,
        "failure": None,
        "cause": None,
        "ended_at": None,
        "outcome_seq": None,
        "cancel_asked_at": None,
        "cancel_reason": None,
        "recoveries": 0,
        "progress": None,
        "retried_at": now,
        "deadline_at": moment_after(now, session.timeout),
    }
    own = sa.update(sessions).where(sessions.c.session_id == session.session_id)
    connection.execute(own.values(**opened))
    opened_again = (ended.inside[session_id] for session_id in ended.reopening.sessions())
    for inner in (each for each in opened_again if each.is_possible):
        _open_again(connection, inner, now)
    _prolong_inside(connection, session, now)


def _prolong_inside(connection: Connection, session: SessionRow, now: float) -> None:
    """Give the sessions inside one that have not ended their whole timeout."""
    its = opened_in(sessions, session.session_id, session.life)
    query = sa.select(sessions).where(its, sessions.c.status.not_in(FINAL))
    for each in map(session_row, connection.execute(query).all()):
        own = sa.update(sessions).where(sessions.c.session_id == each.session_id)
        connection.execute(own.values(deadline_at=moment_after(now, each.timeout), wakes_at=None))
        _prolong_inside(connection, each, now)


def _why_not(ended: _Ended) -> str:
    """Return why a session cannot be opened again: the failures in it are past, or a session inside stays ended."""
    past = ended.reopening.past()
    if past is None:
        stays = next((each for each in ended.inside.values() if not each.is_possible), None)
        if stays is not None and stays.session.status in _RETRIED:
            return _why_not(stays)
        return "has nothing that would run again, because a session inside it was cancelled: fork it"
    call, later = past
    session_id = ended.session.session_id
    return (
        f"has no failed call left that would run again: its code went on after call {call.call_id}, {call.row.node!r},"
        f" had failed, with {later}. Fork it before that call,"
        f" store.fork({session_id!r}, before={call.call_id}); or if the code was mended,"
        f" store.fork({session_id!r}) runs it again with all recorded outcomes"
    )
