"""A session and the sessions inside it, which a person can only cancel, free or delete together.

What a person asks of a store comes here (`cancelling`, `deleting`), and so does a session that ends by a cancel. A
session is inside another one if its row names that as its parent, or one that is inside it in turn. A parent in another
store has no part in this, also where this store has a session with its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.schema import FINAL, SessionOutline, SessionRow, sessions
from railtracks.exceptions import SessionUnavailableError

# How many sessions one statement names: SQLite takes no more than so many parameters.
_AT_ONCE: Final = 500


def opened_in(
    inner: sa.FromClause, session_id: sa.ColumnElement[str] | str, life: sa.ColumnElement[str] | str | None
) -> sa.ColumnElement[bool]:
    """Return the condition that a session was opened in another one of the same store.

    By the id alone it may have been a session of another store, or an earlier one that had the id.

    Args:
        inner: The table of sessions, or an alias of it.
        session_id: The identifier of the other session.
        life: Its life.
    """
    # Sessions that were begun before revision 0005 know the id alone.
    return sa.and_(inner.c.parent == session_id, sa.or_(inner.c.parent_life.is_(None), inner.c.parent_life == life))


def is_around(outer: SessionRow | SessionOutline, inner: SessionRow | SessionOutline) -> bool:
    """Return what `opened_in` says of two rows: whether the second session was opened in the first one."""
    return inner.parent == outer.session_id and inner.parent_life in {None, outer.life}


_around: Final = sessions.alias("session_around")
_OPENED: Final = opened_in(sessions, _around.c.session_id, _around.c.life)
_PARENT: Final = (
    sa.select(_around.c.session_id).join(sessions, _OPENED).where(sessions.c.session_id == sa.bindparam("wanted"))
)
# Whether no session of its store is around a session. In a damaged store a session may be its own parent.
IS_OUTERMOST: Final = ~(
    sa.select(sa.literal(1)).where(_OPENED, _around.c.session_id != sessions.c.session_id).correlate(sessions).exists()
)


def inside(connection: Connection, session_ids: Sequence[str]) -> list[str]:
    """Return the ids of all sessions inside some others, without these."""
    # In a damaged store a session may be inside itself.
    seen = dict.fromkeys(session_ids)
    level = list(seen)
    while level:
        query = sa.select(sessions.c.session_id).join(_around, _OPENED)
        found = [
            each
            for some in pieces(level)
            for each in connection.execute(query.where(_around.c.session_id.in_(some))).scalars()
        ]
        level = [each for each in dict.fromkeys(found) if each not in seen]
        seen.update(dict.fromkeys(level))
    return list(seen)[len(set(session_ids)) :]


def left_inside(connection: Connection) -> frozenset[str]:
    """Return the ids of the sessions that have not ended, inside others that have: only `retry` goes on with them."""
    has_ended = sa.select(sessions.c.session_id).join(_around, _OPENED)
    query = has_ended.where(_around.c.status.in_(FINAL), sessions.c.status.not_in(FINAL))
    left = connection.execute(query).scalars().all()
    return frozenset([*left, *inside(connection, left)])


def parent_of(connection: Connection, session_id: str) -> str | None:
    """Return the id of the session that one was opened in; `None` if the store has no such session."""
    found: str | None = connection.execute(_PARENT, {"wanted": session_id}).scalar()
    return found


def refuse_inner(connection: Connection, session_id: str, done: str) -> None:
    """Refuse what is asked of a session inside another one.

    A session whose parent is in another store, or is gone, counts as the outermost one of its store.

    Args:
        connection: A transaction in the store.
        session_id: The session.
        done: What is asked, as a participle.

    Raises:
        SessionUnavailableError: If the store has a session around it; the error names the outermost one.
    """
    outwards = [session_id]
    # In a damaged store a session may be inside itself.
    while (found := parent_of(connection, outwards[-1])) is not None and found not in outwards:
        outwards.append(found)
    if len(outwards) > 1:
        raise SessionUnavailableError(
            session_id, f"is inside session {outwards[-1]}, and can only be {done} with that: give its id instead"
        )


def pieces(session_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Return ids in pieces, each for one statement."""
    return (session_ids[start : start + _AT_ONCE] for start in range(0, len(session_ids), _AT_ONCE))
