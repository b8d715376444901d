"""A new session with the recorded calls of another.

`DurableStore.fork` calls this.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from railtracks._records.identifiers import new_identifier
from railtracks.durable._sessions.views import row_of
from railtracks.durable._sessions.wakeups import is_begun_wait, whole_timeout
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import now_of
from railtracks.durable._store.lives import fresh_life
from railtracks.durable._store.reading import moment_after, rows_of
from railtracks.durable._store.schema import (
    FINAL,
    ROOT,
    CallRow,
    DurableStatus,
    RowStatus,
    SessionRow,
    calls,
    sessions,
)
from railtracks.durable._store.table import CALLS
from railtracks.durable._values.values import as_store_error
from railtracks.exceptions import SessionUnavailableError

_FAILURES: Final = frozenset([RowStatus.FAILED, RowStatus.CANCELLED])


def forked(access: Access, session_id: str, before: int | None) -> str:
    """Begin a new session with the recorded calls of another, and return its identifier.

    Its timeout begins anew, and so do those of the waits that are open in it.

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
        fresh = new_identifier()
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
            parent_life=None,
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
            with as_store_error(session_id):
                begun = [_with_whole_timeout(each, now) for each in kept]
            copies = [{**each._asdict(), "session_id": fresh, "wanted": wanted.get(each.seq)} for each in begun]
            connection.execute(sa.insert(calls), copies)
    return fresh


def _with_whole_timeout(row: CallRow, now: float) -> CallRow:
    """Return a row; if a wait begins in it, with the deadline of one that begins now. One that has ended needs none."""
    return row._replace(outcome=whole_timeout(row, now)) if is_begun_wait(row) else row


def _kept(rows: list[CallRow], session: SessionRow, before: int | None) -> list[CallRow]:
    """Return the rows to copy: those before a call, or all without the failed or cancelled end.

    The end of a flow is the outcome of its entry point and of each of its background calls, if that is failed or
    cancelled. Then the last attempt runs again, and the calls made in it stay, as do the attempts before. The end of a
    session block is its last row, if that is the failed or cancelled outcome of a call made in the block itself, and
    the session has failed.

    Raises:
        SessionUnavailableError: If there is no call with the number `before`.
    """
    if before is None:
        if session.entry_point is not None:
            ends = _ends_of_flow(rows, is_over=session.status in FINAL)
            return [row for row in rows if row.seq not in ends]
        # A fork of a block runs the last failed call again, if the block has ended with that failure.
        has_end = session.status == DurableStatus.FAILED and rows and rows[-1].parent == ROOT
        return rows[:-1] if has_end and rows[-1].status in _FAILURES else rows
    keys = [row.key for row in rows if row.seq == before and row.status in CALLS]
    if not keys:
        raise SessionUnavailableError(session.session_id, f"has no call {before}")
    # The first time that the call began: a resumed session begins calls that were not over once more.
    last = min(row.began_after for row in rows if row.key == keys[0])
    return [row for row in rows if row.seq <= last]


def _ends_of_flow(rows: list[CallRow], *, is_over: bool) -> frozenset[int]:
    """Return the numbers of the rows in which the entry point and the background calls have failed or are cancelled.

    Args:
        rows: The rows of the session.
        is_over: Whether the session has ended. In one that goes on, another attempt may follow a failed one.
    """
    last: dict[tuple[str, int, int], CallRow] = {}
    for row in rows:
        if row.parent == ROOT and row.status in (_FAILURES | {RowStatus.COMPLETED} if is_over else CALLS):
            place = row.strand, row.position, row.place
            if is_over or row.attempt >= last.get(place, row).attempt:
                last[place] = row
    return frozenset(row.seq for row in last.values() if row.status in _FAILURES)
