"""Whether a session has advanced since it was last taken over: one that never does becomes stuck.

`ProcessOwner.take` asks at each takeover.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.families import opened_in
from railtracks.durable._store.schema import RowStatus, SessionRow, calls, sessions

_WANTED: Final = (
    sa.select(sessions.c.session_id, sessions.c.life)
    .where(sessions.c.session_id == sa.bindparam("wanted"))
    .cte("inside", recursive=True)
)
# The session and those inside it, at any depth. `union` keeps no double, so that a damaged store with a circle of
# parents ends the statement.
_INSIDE: Final = _WANTED.union(
    sa.select(sessions.c.session_id, sessions.c.life).join(
        _WANTED, opened_in(sessions, _WANTED.c.session_id, _WANTED.c.life)
    )
)
# The index of the primary key leads to the last outcome of a session, past the few rows behind it that are none: so the
# length of a record costs nothing.
_LAST_OUTCOME: Final = (
    sa.select(calls.c.seq)
    .where(
        calls.c.session_id == _INSIDE.c.session_id,
        calls.c.status.in_([RowStatus.COMPLETED.value, RowStatus.FAILED.value]),
    )
    .order_by(calls.c.seq.desc())
    .limit(1)
    .scalar_subquery()
)
_PROGRESS: Final = sa.select(sa.func.coalesce(sa.func.sum(_LAST_OUTCOME), 0)).select_from(_INSIDE)


def progress_of(connection: Connection, session_id: str) -> int:
    """Return a number that grows with each outcome of a session, and of the sessions inside it.

    Outcomes are results and failures of calls and of attempts, and signals that were heard. What is no progress does
    not change the number: renewals, takeovers, beginnings of calls, cancelled ones and broadcasts.
    """
    # Of each session the number of the row with its last outcome: rows are only added, so no such number ever falls.
    return int(connection.execute(_PROGRESS, {"wanted": session_id}).scalar_one())


def taken_over(connection: Connection, found: SessionRow) -> tuple[int, int]:
    """Return how often a session was taken over since its last outcome, this time included, and its progress.

    Args:
        connection: The transaction that takes it over.
        found: The session as its last owner has left it, which died with it.
    """
    progress = progress_of(connection, found.session_id)
    # A session of the release before has no progress in its row: its takeovers count as they did there.
    has_advanced = found.progress is not None and progress > found.progress
    return (1 if has_advanced else found.recoveries + 1), progress
