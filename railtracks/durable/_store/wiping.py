"""Rows of sessions that are deleted: the sessions at once, and in pieces their calls and signals.

`deleting` and `checking` call this. What a session leaves behind without its row belongs to nobody, and no session is
found in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.schema import calls, sessions, signals

# The number of an id that is begun again has to go on above the last one.
_KEEP: Final = sa.text(
    "insert into railtracks_fences as known (session_id, fence)"
    " select session_id, fence from railtracks_sessions where session_id = :gone"
    " on conflict (session_id) do update set fence = excluded.fence where known.fence < excluded.fence"
)
_FORGET: Final = sa.delete(sessions).where(sessions.c.session_id == sa.bindparam("gone"))
# What is deleted row by row, and the column that tells the rows of one session apart.
_PARTS: Final = ((calls, calls.c.seq), (signals, signals.c.id))


def forget(connection: Connection, session_ids: Sequence[str]) -> None:
    """Delete the rows of some sessions, and keep their last fencing numbers: from now on the store has none of them."""
    gone = [{"gone": each} for each in session_ids]
    connection.execute(_KEEP, gone)
    connection.execute(_FORGET, gone)


def wipe(connection: Connection, session_ids: Sequence[str], most: int) -> Sequence[str]:
    """Delete calls and signals that some sessions have left behind.

    A session that has been begun again under one of these ids keeps what it has.

    Args:
        connection: A transaction that writes.
        session_ids: Ids of sessions that are not there any more.
        most: How many rows to delete at most.

    Returns:
        The ids of which rows may be left.
    """
    for position, session_id in enumerate(session_ids):
        for table, number in _PARTS:
            is_gone = ~sa.exists().where(sessions.c.session_id == session_id)
            some = sa.select(number).where(table.c.session_id == session_id).order_by(number).limit(most)
            # What another process deletes at this moment is left to that one: two would wait for each other.
            some = some.with_for_update(skip_locked=True)
            gone = sa.delete(table).where(table.c.session_id == session_id, number.in_(some), is_gone)
            most -= connection.execute(gone).rowcount
            if most <= 0:
                return session_ids[position:]
    return ()


def left_behind(connection: Connection) -> Iterator[tuple[str, object]]:
    """Return what is left of sessions that are not there any more: the name of a table, and the id of a session."""
    for table, _ in _PARTS:
        is_gone = ~sa.exists().where(sessions.c.session_id == table.c.session_id)
        found = connection.execute(sa.select(table.c.session_id).where(is_gone).distinct().order_by(table.c.session_id))
        for session_id in found.scalars():
            yield table.name, session_id
