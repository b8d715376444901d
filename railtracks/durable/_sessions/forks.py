"""A new session with the past of another."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa

from railtracks.durable._replay.recorded import CALLS, CANCELLED, FAILED
from railtracks.durable._replay.strands import ROOT
from railtracks.durable._sessions.views import row_of
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import now_of
from railtracks.durable._store.schema import DurableStatus, calls, rows_of, sessions
from railtracks.exceptions import SessionUnavailableError


def forked(access: Access, session_id: str, before: int | None) -> str:
    """Begin a new session with the past of another, and return its identifier."""
    with access.writing() as (connection, _, _):
        row = row_of(connection, session_id, access)
        kept = _kept(rows_of(connection, session_id), row, before)
        fresh = os.urandom(16).hex()
        now = now_of(connection)
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
            "parent": None,
        }
        connection.execute(sa.insert(sessions).values(**values))
        if kept:
            connection.execute(sa.insert(calls), [{**each._asdict(), "session_id": fresh} for each in kept])
    return fresh


def _kept(rows: list[Any], session: Any, before: int | None) -> list[Any]:
    if before is None:
        ends = [row for row in rows if row.parent == ROOT and row.status in {FAILED, CANCELLED}]
        if session.entry_point is not None:
            # Of a flow that is what is to be run again: what its entry point has done stays.
            return [row for row in rows if row not in ends]
        # Of a block it is what failed last, if it is what the block has ended with.
        return rows[:-1] if ends and rows[-1] is ends[-1] and session.status == DurableStatus.FAILED else rows
    keys = [row.key for row in rows if row.seq == before and row.status in CALLS]
    if not keys:
        raise SessionUnavailableError(session.session_id, f"has no call {before}")
    # By the first time that it began: a resumed session begins what was not over anew.
    last = min(row.began_after for row in rows if row.key == keys[0])
    return [row for row in rows if row.seq <= last]
