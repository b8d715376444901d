"""The recorded calls of sessions inside others, for what counts the calls of a replayed one: budgets of agents.

Called by the journal of the session around them, in a worker thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from railtracks._calls.replays import InnerCall
from railtracks.durable._replay.recorded import RecordedSession
from railtracks.durable._replay.recorded_calls import RecordedCall
from railtracks.durable._replay.replayed import inner_call
from railtracks.durable._store.access import Access
from railtracks.durable._store.families import inside
from railtracks.durable._store.reading import rows_of
from railtracks.durable._store.table import RowTable
from railtracks.durable._values.values import as_store_error


def calls_in_sessions(access: Access, session_ids: Sequence[str]) -> list[InnerCall]:
    """Return the calls of some sessions, and of the sessions inside them; none of those that are not in the store.

    Blocks.

    Raises:
        StoreError: If the store, or a value in one of these sessions, cannot be read.
    """
    with access.reading() as (connection, _, _):
        found = {each: rows_of(connection, each) for each in (*session_ids, *inside(connection, session_ids))}
    made: list[InnerCall] = []
    for session_id, rows in found.items():
        with as_store_error(session_id):
            calls = RecordedSession(RowTable(session_id, rows)).calls
            made += [inner_call(RecordedCall(calls, number)) for number in calls.numbers()]
    return made
