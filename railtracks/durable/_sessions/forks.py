"""A new session with the recorded calls of another.

`DurableStore.fork` calls this.
"""

from __future__ import annotations

import os

import sqlalchemy as sa

from railtracks.durable._sessions.views import row_of
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import now_of
from railtracks.durable._store.lives import fresh_life
from railtracks.durable._store.reading import moment_after, rows_of
from railtracks.durable._store.schema import ROOT, CallRow, DurableStatus, RowStatus, SessionRow, calls, sessions
from railtracks.durable._store.table import CALLS
from railtracks.exceptions import SessionUnavailableError


def forked(access: Access, session_id: str, before: int | None) -> str:
    """Begin a new session with the recorded calls of another, and return its identifier.

    Args:
        access: The store of both.
        session_id: The other session.
        before: The number of a call: only what was recorded before that call began is copied. `None`: all but the end.

    Raises:
        SessionUnavailableError: If there is no such session or call.
        StoreError: If the store cannot be written.
    """
    with access.writing() as (connection, _, _):
        row = row_of(connection, session_id, access)
        kept = _kept(rows_of(connection, session_id), row, before)
        fresh = os.urandom(16).hex()
        now = now_of(connection)
        forked_row = row._replace(
            session_id=fresh,
            status=DurableStatus.INTERRUPTED,
            created_at=now,
            ended_at=None,
            deadline_at=moment_after(now, row.timeout),
            wakes_at=None,
            failure=None,
            owner=None,
            fence=0,
            recoveries=0,
            forked_from=session_id,
            parent=None,
            progress=None,
            cause=None,
            cancel_asked_at=None,
            cancel_reason=None,
            outcome_seq=None,
            retried_at=None,
            life=fresh_life(),
        )
        connection.execute(sa.insert(sessions).values(**forked_row._asdict()))
        if kept:
            waits = sa.select(calls.c.seq, calls.c.wanted).where(
                calls.c.session_id == session_id, calls.c.wanted.is_not(None)
            )
            # What is no bytes says nothing of a wait to those who read it, and no column takes it.
            wanted = {seq: each for seq, each in connection.execute(waits) if isinstance(each, bytes)}
            copies = [{**each._asdict(), "session_id": fresh, "wanted": wanted.get(each.seq)} for each in kept]
            connection.execute(sa.insert(calls), copies)
    return fresh


def _kept(rows: list[CallRow], session: SessionRow, before: int | None) -> list[CallRow]:
    """Return the rows to copy: those before a call, or all without the failed or cancelled end.

    The end of a flow is every failed or cancelled outcome of its entry point and of its background calls. The entry
    point runs again, and the calls made in it stay. The end of a session block is its last row, if that is the failed
    or cancelled outcome of a call made in the block itself, and the session has failed.

    Raises:
        SessionUnavailableError: If there is no call with the number `before`.
    """
    if before is None:
        ends = [row for row in rows if row.parent == ROOT and row.status in {RowStatus.FAILED, RowStatus.CANCELLED}]
        if session.entry_point is not None:
            # A fork of a flow runs the entry point again: the calls made in it stay.
            return [row for row in rows if row not in ends]
        # A fork of a block runs the last failed call again, if the block has ended with that failure.
        return rows[:-1] if ends and rows[-1] is ends[-1] and session.status == DurableStatus.FAILED else rows
    keys = [row.key for row in rows if row.seq == before and row.status in CALLS]
    if not keys:
        raise SessionUnavailableError(session.session_id, f"has no call {before}")
    # The first time that the call began: a resumed session begins calls that were not over once more.
    last = min(row.began_after for row in rows if row.key == keys[0])
    return [row for row in rows if row.seq <= last]
