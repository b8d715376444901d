"""The recorded calls of sessions inside others, for what counts the calls of a replayed one: budgets of agents.

Called by the journal of the session around them, in a worker thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._calls.replays import InnerCall
from railtracks.durable._replay.recorded import RecordedSession
from railtracks.durable._replay.recorded_calls import RecordedCall
from railtracks.durable._replay.replayed import inner_call
from railtracks.durable._store.access import Access
from railtracks.durable._store.families import inside, pieces
from railtracks.durable._store.reading import rows_of
from railtracks.durable._store.schema import sessions
from railtracks.durable._store.table import RowTable
from railtracks.durable._values.values import as_store_error


def calls_in_sessions(access: Access, session_id: str, flows: Sequence[tuple[str, str]]) -> list[InnerCall]:
    """Return the calls of the sessions that flows have run in a session, and of the sessions inside them.

    None of those that are not in the store. Blocks.

    Args:
        access: The store.
        session_id: The session that the flows are called in.
        flows: The identifiers and the seeds of their sessions.

    Raises:
        StoreError: If the store, or a value in one of these sessions, cannot be read.
    """
    with access.reading() as (connection, _, _):
        known = _known(connection, session_id, dict(flows))
        found = {each: rows_of(connection, each) for each in (*known, *inside(connection, known))}
    made: list[InnerCall] = []
    for each, rows in found.items():
        with as_store_error(each):
            calls = RecordedSession(RowTable(each, rows)).calls
            made += [inner_call(RecordedCall(calls, number)) for number in calls.numbers()]
    return made


def _known(connection: Connection, session_id: str, flows: dict[str, str]) -> list[str]:
    """Return those of the sessions of flows that are in the store, given the seeds of all by their identifiers.

    The flows that a fork replays were run by the session that it was forked from. There they have other identifiers,
    and the same seeds.
    """
    query = sa.select(sessions.c.session_id)
    found = [
        each
        for some in pieces(list(flows))
        for each in connection.execute(query.where(sessions.c.session_id.in_(some))).scalars()
    ]
    there = frozenset(found)
    left = {seed for each, seed in flows.items() if each not in there}
    for origin in _origins(connection, session_id) if left else ():
        children = sa.select(sessions.c.session_id, sessions.c.seed).where(sessions.c.parent == origin)
        for each, seed in connection.execute(children):
            if seed in left:
                left.discard(seed)
                found.append(each)
    return found


def _origins(connection: Connection, session_id: str) -> list[str]:
    """Return the sessions that a session was forked from, the nearest first, by their ids."""
    # In a damaged store a session may be forked from itself.
    passed = [session_id]
    while True:
        query = sa.select(sessions.c.forked_from).where(sessions.c.session_id == passed[-1])
        origin = connection.execute(query).scalar_one_or_none()
        if origin is None or origin in passed:
            return passed[1:]
        passed.append(origin)
