"""What wakes a parked session: a signal, the timeout of a wait or of the session, or a session inside it.

`recover` asks here for all that wait at once, and a call that waits for the parked session of an inner flow for one.
`waits` tells people of the open waits. The archive asks which signals are waited for.
"""

from __future__ import annotations

import json
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._checks import is_text
from railtracks.durable._store.families import left_inside, opened_in
from railtracks.durable._store.reading import moment_after, session_row
from railtracks.durable._store.schema import (
    AT_EACH_LOOK,
    FINAL,
    SESSION_HEAD,
    WAIT,
    CallRow,
    DurableStatus,
    RowStatus,
    SessionRow,
    calls,
    sessions,
    signals,
)
from railtracks.durable._values.plain import is_list
from railtracks.durable._values.stored import parsed

# Of the sessions inside another one, those for which it waits: they wait themselves, or can go on.
CAN_GO_ON: Final = (DurableStatus.WAITING, DurableStatus.INTERRUPTED)

# Of the rows of a wait, those after which it is open.
_BEGUN: Final = (RowStatus.OPENED, RowStatus.RETRIED)

_inner: Final = sessions.alias("inner_session")
_outer: Final = sessions.alias("outer_session")
_ends: Final = calls.alias("wait_end")
# A wait that has begun and has no outcome. Its end stands behind its beginning, mostly close to it.
_has_ended: Final = (
    sa.select(sa.literal(1))
    .where(
        _ends.c.session_id == calls.c.session_id,
        _ends.c.seq > calls.c.seq,
        _ends.c.key == calls.c.key,
        _ends.c.status.not_in(_BEGUN),
    )
    .exists()
)
# Whether a row of `calls` is the last one of a wait that is open.
IS_OPEN_WAIT: Final = sa.and_(
    calls.c.status.in_(_BEGUN),
    # Not `like`, which some builds of SQLite answer for what is no text.
    sa.func.substr(calls.c.node, 1, len(WAIT)) == WAIT,
    # A wait that begins once more in a later attempt has no deadline until code comes there, and is not open.
    calls.c.outcome.is_not(None),
    ~_has_ended,
)
_open_waits: Final = sa.select(sa.literal(1)).where(calls.c.session_id == sessions.c.session_id, IS_OPEN_WAIT)
_is_heard: Final = (
    sa.select(sa.literal(1))
    .where(
        signals.c.session_id == sessions.c.session_id,
        signals.c.consumed_by.is_(None),
        _open_waits.where(calls.c.node == WAIT + signals.c.name).correlate(sessions, signals).exists(),
    )
    .correlate(sessions)
    .exists()
)
_has_inner: Final = (
    sa.select(sa.literal(1))
    .where(opened_in(_inner, sessions.c.session_id, sessions.c.life), _inner.c.status.in_(CAN_GO_ON))
    .exists()
)
_now: Final = sa.bindparam("now", type_=sa.Float)
# Sessions with an earlier `wakes_at` are left out.
_beyond: Final = sa.bindparam("beyond", -1.0, type_=sa.Float)
# Whether a session that waits has something to wake up for, those inside it left out: true, or false or null. One that
# waits neither for a signal nor for a session inside it waited for such a session, which has ended meanwhile.
IS_DUE: Final = sa.or_(
    sa.and_(sessions.c.wakes_at <= _now, sessions.c.wakes_at > _beyond),
    sessions.c.deadline_at <= _now,
    _is_heard,
    sa.and_(
        sa.func.coalesce(sessions.c.wakes_at, _now) > _beyond, ~_has_inner, ~_open_waits.correlate(sessions).exists()
    ),
).label("is_due")

# Made once: to put such a statement together costs more than to run it.
_OF_ONE: Final = sa.select(IS_DUE).where(sessions.c.session_id == sa.bindparam("wanted"))
_INSIDE: Final = (
    sa.select(*SESSION_HEAD, IS_DUE)
    .join(_outer, opened_in(sessions, _outer.c.session_id, _outer.c.life))
    .where(_outer.c.session_id == sa.bindparam("wanted"), sessions.c.status.in_(CAN_GO_ON))
)
# The deadlines of the open waits of a session that hides them behind `AT_EACH_LOOK`.
_HIDDEN: Final = (
    sa.select(calls.c.outcome)
    .join(sessions, sessions.c.session_id == calls.c.session_id)
    .where(sessions.c.session_id == sa.bindparam("wanted"), sessions.c.wakes_at == AT_EACH_LOOK, IS_OPEN_WAIT)
)
_WAITED_FOR: Final = (
    sa.select(calls.c.session_id, calls.c.node)
    .join(sessions, sessions.c.session_id == calls.c.session_id)
    .where(sessions.c.status.not_in(FINAL), IS_OPEN_WAIT)
    .order_by(calls.c.session_id, calls.c.seq)
)


def is_begun_wait(row: CallRow) -> bool:
    """Return whether a row says that a wait has begun, and not that one is left for a later attempt."""
    return row.status in _BEGUN and row.node.startswith(WAIT) and row.outcome is not None


def whole_timeout(row: CallRow, now: float) -> bytes:
    """Return the deadline of a wait that begins now, in the form of its row."""
    stored = parsed(row.arguments or b"[[]]")
    args: object = stored[0] if is_list(stored) and stored else None
    seconds = args[0] if is_list(args) and args else None
    return json.dumps(moment_after(now, seconds if isinstance(seconds, int | float) else None)).encode()


def signals_waited_for(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Return the names of the signals that sessions wait for, in the order of their waits, by the sessions.

    Args:
        connection: A transaction in the store.
    """
    found: dict[str, tuple[str, ...]] = {}
    over = left_inside(connection)
    for session_id, node in connection.execute(_WAITED_FOR):
        if is_text(session_id) and is_text(node) and session_id not in over:
            name, known = node.removeprefix(WAIT), found.get(session_id, ())
            found[session_id] = known if name in known else (*known, name)
    return found


def is_due(connection: Connection, session_id: str, now: float, *, elsewhere: bool) -> bool:
    """Return whether a session that waits has something to wake up for.

    Args:
        connection: A transaction in the store.
        session_id: The session.
        now: The time by the clock of the store.
        elsewhere: Whether a session that waits for one of another store counts as due, so that it looks there.

    Raises:
        StoreError: If the row of a session inside it is damaged, or that of an open wait.
    """
    asked = {"now": now, "beyond": -1.0 if elsewhere else AT_EACH_LOOK}
    if connection.execute(_OF_ONE, {"wanted": session_id, **asked}).scalar():
        return True
    if not elsewhere and _is_over(connection, session_id, now):
        return True
    # A loop that knows where it was: in a damaged store a session may be inside itself.
    left, seen = [session_id], {session_id}
    while left:
        for *head, is_inner_due in connection.execute(_INSIDE, {"wanted": left.pop(), **asked}):
            inner: SessionRow = session_row(head)
            if is_inner_due or inner.status != DurableStatus.WAITING:
                return True
            if not elsewhere and _is_over(connection, inner.session_id, now):
                return True
            if inner.session_id not in seen:
                seen.add(inner.session_id)
                left.append(inner.session_id)
    return False


def _is_over(connection: Connection, session_id: str, now: float) -> bool:
    """Return whether the timeout of a wait is over, in a session whose `wakes_at` does not tell."""
    deadlines = (parsed(data) for data in connection.execute(_HIDDEN, {"wanted": session_id}).scalars())
    return any(isinstance(each, int | float) and each <= now for each in deadlines)
