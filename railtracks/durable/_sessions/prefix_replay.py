"""A durable flow resumed from every point that it could have been killed at, for tests."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
import trio

from railtracks._sessions.flow import Flow
from railtracks._workers.threads import in_thread
from railtracks.durable._replay.recorded import STARTED
from railtracks.durable._sessions.store import DurableStore, access_of
from railtracks.durable._store.access import Access
from railtracks.durable._store.schema import DurableStatus, calls, rows_of, sessions
from railtracks.exceptions import ReplayMismatchError

_WHOLE = "whole"


async def replay(flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Run a flow, cut its record after every row, and resume each; return how many there were.

    Raises:
        AssertionError: If one ends otherwise than the first; names the call that it was cut after.
    """
    with TemporaryDirectory() as folder:
        store = DurableStore(Path(folder) / "store.db", key="of this test", durability="process")
        access = access_of(store)
        await in_thread(access.open)
        try:
            own = flow.in_store(store)
            expected = await _outcome(own.ainvoke(*args, session_id=_WHOLE, **kwargs))
            rows = await in_thread(_rows, access)
            for count in range(len(rows) + 1):
                identifier = f"cut-{count}"
                await in_thread(_cut, access, count, identifier)
                found = await _outcome(own.aresume(identifier))
                if found != expected:
                    place = "before its first call" if not count else f"after call {_told(rows[count - 1])}"
                    raise AssertionError(
                        f"flow {flow.name!r}, resumed from a record that ends {place} ({count} of {len(rows)} rows),"
                        f" gives\n  {found}\ninstead of\n  {expected}\nSomething in it depends on what is not recorded:"
                        " time, chance, the world outside. Put it into a call, or use rt.random() and rt.uuid4()"
                    )
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(access.leave)
    return len(rows) + 1


def _told(row: Any) -> str:
    what = "the start of " if row.status == STARTED else ""
    return f"{row.seq}, {what}{row.node!r} ({row.status})"


async def _outcome(running: Any) -> str:
    try:
        return f"result {await running!r}"
    except ReplayMismatchError as error:
        return f"mismatch: the record says {error.recorded}, the code asks for {error.asked}"
    except Exception as error:  # noqa: BLE001 - a failure is an outcome, compared like any other
        return f"error {error!r}"


def _rows(access: Access) -> list[Any]:
    with access.reading() as (connection, _, _owner):
        return rows_of(connection, _WHOLE)


def _cut(access: Access, count: int, identifier: str) -> None:
    with access.writing() as (connection, _, _owner):
        head = connection.execute(sa.select(sessions).where(sessions.c.session_id == _WHOLE)).one()._asdict()
        head |= {"session_id": identifier, "status": DurableStatus.INTERRUPTED, "failure": None, "ended_at": None}
        head |= {"owner": None, "deadline_at": None}
        connection.execute(sa.insert(sessions).values(**head))
        kept = [{**row._asdict(), "session_id": identifier} for row in rows_of(connection, _WHOLE)[:count]]
        if kept:
            connection.execute(sa.insert(calls), kept)
