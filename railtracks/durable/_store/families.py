"""A session and the sessions inside it, which a person can only cancel, free or delete together.

What a person asks of a store comes here (`cancelling`, `deleting`), and so does a session that ends by a cancel. A
session is inside another one if its row names that as its parent, or one that is inside it in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.schema import FINAL, sessions
from railtracks.exceptions import SessionUnavailableError

# How many sessions one statement names: SQLite takes no more than so many parameters.
_AT_ONCE: Final = 500


def inside(connection: Connection, session_ids: Sequence[str]) -> list[str]:
    """Return the ids of all sessions inside some others, without these."""
    # In a damaged store a session may be inside itself.
    seen = dict.fromkeys(session_ids)
    level = list(seen)
    while level:
        query = sa.select(sessions.c.session_id)
        found = [
            each
            for some in pieces(level)
            for each in connection.execute(query.where(sessions.c.parent.in_(some))).scalars()
        ]
        level = [each for each in dict.fromkeys(found) if each not in seen]
        seen.update(dict.fromkeys(level))
    return list(seen)[len(set(session_ids)) :]


def left_inside(connection: Connection) -> frozenset[str]:
    """Return the ids of the sessions that have not ended, inside others that have: only `retry` goes on with them."""
    around = sessions.alias()
    has_ended = sa.select(sessions.c.session_id).join(around, around.c.session_id == sessions.c.parent)
    query = has_ended.where(around.c.status.in_(FINAL), sessions.c.status.not_in(FINAL))
    left = connection.execute(query).scalars().all()
    return frozenset([*left, *inside(connection, left)])


def refuse_inner(connection: Connection, session_id: str, parent: str | None, done: str) -> None:
    """Refuse what is asked of a session inside another one.

    A session whose parent is in another store, or is gone, counts as the outermost one of its store.

    Args:
        connection: A transaction in the store.
        session_id: The session.
        parent: The parent that its row names.
        done: What is asked, as a participle.

    Raises:
        SessionUnavailableError: If the store has a session around it; the error names the outermost one.
    """
    outermost, seen = session_id, {session_id}
    while parent is not None and parent not in seen:
        seen.add(parent)
        found = connection.execute(
            sa.select(sessions.c.session_id, sessions.c.parent).where(sessions.c.session_id == parent)
        ).first()
        if found is None:
            break
        outermost, parent = found
    if outermost != session_id:
        raise SessionUnavailableError(
            session_id, f"is inside session {outermost}, and can only be {done} with that: give its id instead"
        )


def pieces(session_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Return ids in pieces, each for one statement."""
    return (session_ids[start : start + _AT_ONCE] for start in range(0, len(session_ids), _AT_ONCE))
