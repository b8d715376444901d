"""What several tests of durable sessions ask of a store."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._sessions.wakeups import WAIT
from railtracks.durable._store.database import now_of
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import FINAL, calls, sessions, signals


@pytest.fixture(name="clock")
def flowing_clock(mock_clock: MockClock) -> MockClock:
    """A clock for Trio and for leases that goes as time does, and jumps where a test says so."""
    mock_clock.rate = 1.0
    return mock_clock


async def renewed(store: rt.DurableStore) -> None:
    """Wait until a lease that was due has been renewed."""
    await until(lambda: access_of(store).owner.lease.until_renewal)


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so that nobody tells of."""
    while not is_so():  # noqa: ASYNC110 - a store is a file, and who writes to it may be another process
        await trio.sleep(0.01)


async def until_begun(store: rt.DurableStore) -> None:
    """Wait until somebody has begun a session in the store."""
    await until(store.sessions)


async def interrupt(run: Callable[[], Awaitable[object]], is_so: Callable[[], object]) -> None:
    """Run something in a scope of the host's, which is cancelled once something is so."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until(is_so)
        nursery.cancel_scope.cancel()


def statuses(store: rt.DurableStore, node: str) -> list[str]:
    """Return what a store says of the calls of a node, in the order of the commits."""
    with access_of(store).reading() as (connection, _, _owner):
        query = sa.select(calls.c.status).where(calls.c.node == node).order_by(calls.c.seq)
        return list(connection.execute(query).scalars())


def due_in(store: rt.DurableStore, seconds: float) -> None:
    """Have the deadlines of a store's sessions, and of their waits for signals, be over in so many seconds."""
    with access_of(store).writing() as (connection, _, _owner):
        when = now_of(connection) + seconds
        connection.execute(sa.update(sessions).where(sessions.c.deadline_at.is_not(None)).values(deadline_at=when))
        connection.execute(sa.update(sessions).where(sessions.c.wakes_at.is_not(None)).values(wakes_at=when))
        waits = sa.update(calls).where(calls.c.node.startswith(WAIT), calls.c.status == "opened")
        connection.execute(waits.values(outcome=json.dumps(when).encode()))


def put(store: rt.DurableStore, session_id: str, status: str = "completed", **columns: object) -> None:
    """Write the row of a session that no process runs."""
    with access_of(store).writing() as (connection, _, _owner):
        now = now_of(connection)
        values: dict[str, object] = {
            "session_id": session_id,
            "seed": session_id,
            "status": status,
            "created_at": now,
            "ended_at": now if status in FINAL else None,
            "fence": 1,
            "recoveries": 0,
        }
        connection.execute(sa.insert(sessions).values(**values | columns))


def put_calls(store: rt.DurableStore, session_id: str, count: int) -> None:
    """Write the rows of calls that have ended, in one transaction."""
    row = {"session_id": session_id, "parent": "root", "strand": "root", "place": -1, "attempt": 1, "node": "n"}
    row |= {"fingerprint": "f", "status": "completed", "outcome": b"1", "began_after": 0, "began_at": 1.0}
    rows = [row | {"seq": n, "key": f"k{n}", "position": n, "ended_at": 1.0} for n in range(1, count + 1)]
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.insert(calls), rows)


def rows_in(store: rt.DurableStore) -> dict[str, int]:
    """Return how many rows of sessions, calls and signals a store has."""
    with access_of(store).reading() as (connection, _, _owner):
        counts = {table.name.removeprefix("railtracks_"): table for table in (sessions, calls, signals)}
        return {
            name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for name, table in counts.items()
        }


def patient_store(folder: Path) -> rt.DurableStore:
    """Return a store in which no test passes because a replay has given up the recorded order."""
    return store_with(rt.DurableStore(folder / "store.db", durability="process"), patience=Patience(order=1000.0))


def without_end(store: rt.DurableStore, *nodes: str) -> None:
    """As if the process had died before these calls came back, and the session ended."""
    with access_of(store).writing() as (connection, _, _owner):
        ends = calls.c.status.in_(["completed", "failed"])
        connection.execute(sa.delete(calls).where(calls.c.node.in_(nodes), ends))
        connection.execute(sa.update(sessions).values(status="interrupted", failure=None, ended_at=None))
