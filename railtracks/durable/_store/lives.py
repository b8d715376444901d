"""The lives of an id: sessions that have it one after another have nothing in common but growing fencing numbers.

`ownership` begins a life and gives out fencing numbers here; forks begin one, too. `wiping` keeps the last number of a
session that is deleted.
"""

from __future__ import annotations

import os
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.schema import FENCES, calls, fences, signals
from railtracks.durable._store.statements import prepared, rows_of, run_for_each

# `fences` may lag behind the row of the session: processes of the release before write only that. Without "returning",
# which SQLite has from 3.35 on.
# In a store that was restored, ids that it does not know begin above what the original may have given them.
_GIVE: Final = sa.text(
    "insert into railtracks_fences as known (session_id, fence)"
    " select :session_id, case when floor.least > :least then floor.least else :least end"
    " from (select coalesce(max(cast(value as integer)), 0) + 1 as least from railtracks_facts where name = :floor)"
    " as floor where true"
    " on conflict (session_id) do update"
    " set fence = case when known.fence < excluded.fence then excluded.fence else known.fence + 1 end"
)
_GIVEN: Final = sa.select(fences.c.fence).where(fences.c.session_id == sa.bindparam("session"))
_EMPTY: Final = [sa.delete(each).where(each.c.session_id == sa.bindparam("session")) for each in (calls, signals)]


def fresh_life() -> str:
    """Return the random number of a session that begins."""
    return os.urandom(8).hex()


def name_of_life(session_id: str, life: str | None) -> str:
    """Return the name that idempotency keys, random numbers and the ids of inner sessions are derived from.

    Args:
        session_id: The session.
        life: Its random number; `None` in sessions begun with revision 0001, which keep the keys they have.
    """
    return session_id if life is None else f"{session_id}:{life}"


def next_fence(connection: Connection, session_id: str, last: int) -> int:
    """Give out the next fencing number of an id: one above all that the store ever gave out for it.

    Args:
        connection: A transaction that writes, with the row of the session locked if there is one.
        session_id: The id.
        last: The number in the row of the session, 0 if there is none.
    """
    dialect, given = connection.dialect, {"session_id": session_id, "least": last + 1, "floor": FENCES}
    run_for_each(connection, prepared(_GIVE, dialect), [given])
    return int(rows_of(connection, prepared(_GIVEN, dialect), {"session": session_id})[0][0])


def empty(connection: Connection, session_id: str) -> None:
    """Delete the calls and signals of a session.

    Of one that begins, too: somebody may have deleted the row of an earlier session with its id, and nothing else of
    it.
    """
    for statement in _EMPTY:
        run_for_each(connection, prepared(statement, connection.dialect), [{"session": session_id}])
