"""A durable flow resumed from every point at which it could have been killed, for tests.

`railtracks.testing.replay_at_every_prefix` calls this.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
import trio

from railtracks._calls.durable_values import Args, Kwargs
from railtracks._records.error_parts import answer, line_of
from railtracks._sessions.flow import Flow
from railtracks._workers.threads import in_thread
from railtracks.durable._sessions.store import DurableStore, access_of
from railtracks.durable._sessions.views import row_of
from railtracks.durable._store.access import Access
from railtracks.durable._store.reading import rows_of
from railtracks.durable._store.schema import CallRow, DurableStatus, RowStatus, calls, sessions
from railtracks.exceptions import ReplayMismatchError

# The session whose record is cut.
WHOLE = "whole"


async def replay(flow: Flow[..., object], args: Args, kwargs: Kwargs) -> int:
    """Run a flow, cut its record after every row, and resume a session from each cut; return the number of cuts.

    Raises:
        AssertionError: If a resumed run ends otherwise than the first one; names the call that its record was cut
            after.
    """
    with TemporaryDirectory() as folder:
        store = DurableStore(Path(folder) / "store.db", key="of this test", durability="process")
        access = access_of(store)
        await in_thread(access.open)
        try:
            own = flow.in_store(store)
            expected = await _outcome(own.ainvoke(*args, session_id=WHOLE, **kwargs))
            rows = await in_thread(whole_record, access)
            for count in range(len(rows) + 1):
                identifier = f"cut-{count}"
                await in_thread(cut, access, count, identifier)
                found = await _outcome(own.aresume(identifier))
                if found != expected:
                    place = "before its first call" if not count else f"after call {_named(rows[count - 1])}"
                    raise AssertionError(
                        f"flow {flow.name!r}, resumed from a record that ends {place} ({count} of {len(rows)} rows),"
                        f" gives\n  {found}\ninstead of\n  {expected}\nSomething in it depends on what is not recorded:"
                        " time, chance, the world outside. Put it into a call, or use rt.random() and rt.uuid4()"
                    )
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(access.leave)
    return len(rows) + 1


def whole_record(access: Access) -> list[CallRow]:
    """Return the rows of the session `WHOLE`."""
    with access.reading() as (connection, _, _owner):
        return rows_of(connection, WHOLE)


def cut(access: Access, count: int, session_id: str) -> None:
    """Make a session that was killed when only some rows of `WHOLE` were written.

    Args:
        access: The store of both.
        count: How many rows.
        session_id: The identifier of the new session.
    """
    with access.writing() as (connection, _, _owner):
        row = row_of(connection, WHOLE, access)._replace(
            session_id=session_id,
            status=DurableStatus.INTERRUPTED,
            failure=None,
            ended_at=None,
            outcome_seq=None,
            owner=None,
            deadline_at=None,
        )
        connection.execute(sa.insert(sessions).values(**row._asdict()))
        kept = [each._replace(session_id=session_id)._asdict() for each in rows_of(connection, WHOLE)[:count]]
        if kept:
            connection.execute(sa.insert(calls), kept)


def _named(row: CallRow) -> str:
    what = "the start of " if row.status == RowStatus.STARTED else ""
    return f"{row.seq}, {what}{row.node!r} ({row.status})"


async def _outcome(running: Awaitable[object]) -> str:
    """Return how a run ends as text, to be compared."""
    try:
        return f"result {await running!r}"
    except ReplayMismatchError as error:
        return f"mismatch: the record says {error.recorded}, the code asks for {error.asked}"
    except Exception as error:  # noqa: BLE001 - a failure is an outcome, compared like any other
        return f"error {answer(partial(repr, error), line_of)}"
