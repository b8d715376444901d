"""What wakes a parked session: a signal, the timeout of a wait or of the session, or a session inside it.

`recover` asks here, and so does a call that waits for the parked session of an inner flow.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.reading import session_row
from railtracks.durable._store.schema import WAIT, DurableStatus, RowStatus, SessionRow, calls, sessions, signals


def is_due(connection: Connection, row: SessionRow, now: float) -> bool:
    """Return whether a session that waits has something to wake up for.

    Args:
        connection: A transaction in the store.
        row: The row of the session.
        now: The time by the clock of the store.

    Raises:
        StoreError: If a row of the session, or of one inside it, is damaged.
    """
    # A loop that knows where it was: in a damaged store a session may be inside itself.
    left, seen = [row], {row.session_id}
    while left:
        each = left.pop()
        times = [moment for moment in (each.wakes_at, each.deadline_at) if moment is not None]
        if each.status != DurableStatus.WAITING and each is not row:
            return True
        if times and min(times) <= now:
            return True
        names = _awaited(connection, each.session_id)
        unheard = sa.select(signals.c.name).where(
            signals.c.session_id == each.session_id, signals.c.consumed_by.is_(None)
        )
        if names & set(connection.execute(unheard).scalars()):
            return True
        waiting = _inside(connection, each.session_id)
        if not names and not waiting:
            # It waited for sessions inside it, and these have ended meanwhile.
            return True
        left.extend(inner for inner in waiting if inner.session_id not in seen)
        seen.update(inner.session_id for inner in waiting)
    return False


def _inside(connection: Connection, session_id: str) -> list[SessionRow]:
    """Return the sessions inside one that wait, or that can go on."""
    inside = sa.select(sessions).where(
        sessions.c.parent == session_id, sessions.c.status.in_([DurableStatus.WAITING, DurableStatus.INTERRUPTED])
    )
    return list(map(session_row, connection.execute(inside)))


def _awaited(connection: Connection, session_id: str) -> set[str]:
    """Return the names of the signals that a session waits for: its waits that have begun and have no outcome."""
    query = sa.select(calls.c.node, calls.c.key, calls.c.status).where(
        calls.c.session_id == session_id, calls.c.node.startswith(WAIT)
    )
    waits = [(node, key, status) for node, key, status in connection.execute(query)]
    over = {key for _, key, status in waits if status != RowStatus.OPENED}
    # Not every SQLite leaves out what is no text.
    return {node.removeprefix(WAIT) for node, key, _ in waits if isinstance(node, str) and key not in over}
