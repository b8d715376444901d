"""What wakes a parked session: a signal, the timeout of a wait or of the session, or a session inside it.

`recover` asks here, and so does a call that waits for the parked session of an inner flow.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.schema import WAIT, DurableStatus, RowStatus, SessionRow, calls, sessions, signals


def is_due(connection: Connection, row: SessionRow, now: float) -> bool:
    """Return whether a session that waits has something to wake up for.

    Args:
        connection: A transaction in the store.
        row: The row of the session.
        now: The time by the clock of the store.
    """
    times = [each for each in (row.wakes_at, row.deadline_at) if each is not None]
    if times and min(times) <= now:
        return True
    names = _awaited(connection, row.session_id)
    unheard = sa.select(signals.c.name).where(signals.c.session_id == row.session_id, signals.c.consumed_by.is_(None))
    if names & set(connection.execute(unheard).scalars()):
        return True
    inside = sa.select(sessions).where(
        sessions.c.parent == row.session_id, sessions.c.status.in_([DurableStatus.WAITING, DurableStatus.INTERRUPTED])
    )
    waiting = [SessionRow._make(each) for each in connection.execute(inside)]
    if not names and not waiting:
        # It waited for sessions inside it, and these have ended meanwhile.
        return True
    return any(each.status != DurableStatus.WAITING or is_due(connection, each, now) for each in waiting)


def _awaited(connection: Connection, session_id: str) -> set[str]:
    """Return the names of the signals that a session waits for: its waits that have begun and have no outcome."""
    query = sa.select(calls.c.node, calls.c.key, calls.c.status).where(
        calls.c.session_id == session_id, calls.c.node.startswith(WAIT)
    )
    waits = [(node, key, status) for node, key, status in connection.execute(query)]
    over = {key for _, key, status in waits if status != RowStatus.OPENED}
    return {node.removeprefix(WAIT) for node, key, _ in waits if key not in over}
