"""A process that has ended, and whose lock a server has not freed yet: its sessions are waited for, and not refused."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import flow_of
from postgres_server import url_of_store
from stored_sessions import flowing_clock  # noqa: F401 - a fixture
from trio.testing import MockClock

import railtracks as rt
from railtracks._records.process_identity import seems_ended
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.database import now_of
from railtracks.durable._store.postgres import AdvisoryLocks
from railtracks.durable._store.schema import OwnerRow, owners, sessions
from railtracks.durable._store.sqlite import LockFiles

TOKEN = "0" * 32
# The scopes that the next runs of the flow cancel.
STRIKES: list[trio.CancelScope] = []


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


@pytest.fixture(name="store")
def store_fixture(url: str) -> rt.DurableStore:
    return rt.DurableStore(url, durability="process")


@pytest.fixture(name="lock")
def lock_fixture(url: str) -> Iterator[LockFiles | AdvisoryLocks]:
    """Hold the lock of an owner, `TOKEN`, that has no process."""
    if "://" in url:
        engine = sa.create_engine(url)
        lock = AdvisoryLocks(engine)
        lock.hold(TOKEN)
        yield lock
        lock.let_go(is_forgotten=False)
        engine.dispose()
    else:
        files = LockFiles(sa.URL.create("sqlite", database=url))
        files.hold(TOKEN)
        yield files
        files.let_go(is_forgotten=False)


async def work() -> str:
    if STRIKES:
        STRIKES.pop().cancel()
        await trio.sleep_forever()
    return "done"


def ended_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def waiting_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


async def begin(store: rt.DurableStore, **owner: Any) -> None:
    """Begin a session, and give it to the owner that has no process."""
    with trio.CancelScope() as scope:
        STRIKES.append(scope)
        await flow_of(store, work).ainvoke(session_id="s")
    with access_of(store).writing() as (connection, _, _owner):
        row = OwnerRow(**{"token": TOKEN, "host": platform.node(), "lease_until": now_of(connection) + 60, **owner})
        connection.execute(sa.insert(owners).values(**row._asdict()))
        connection.execute(sa.update(sessions).values(status="running", owner=TOKEN))


async def free(lock: LockFiles | AdvisoryLocks, seconds: float) -> None:
    await trio.sleep(seconds)
    lock.let_go(is_forgotten=False)


@pytest.mark.proof
@pytest.mark.parametrize("by", ["resume", "recover"])
async def test_who_takes_a_session_waits_until_the_death_of_its_process_is_known(
    store: rt.DurableStore, lock: LockFiles | AdvisoryLocks, by: str, clock: MockClock
) -> None:
    await begin(store, process_id=ended_process())
    flow = flow_of(store, work)
    began_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(free, lock, 1)
        if by == "resume":
            assert await flow.aresume("s") == "done"
        else:
            done = await rt.recover(store, [flow])
            assert (done.resumed, done.skipped) == (("s",), {})
    assert trio.current_time() - began_at >= 1


@pytest.mark.proof
async def test_the_time_for_the_death_of_a_process_begins_with_its_death(
    store: rt.DurableStore, lock: LockFiles | AdvisoryLocks
) -> None:
    with waiting_process() as process:
        await begin(store, process_id=process.pid)

        async def die_late() -> None:
            # The wait of half a second is all but over.
            await trio.sleep(0.4)
            process.kill()
            process.wait()
            await free(lock, 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(die_late)
            assert await flow_of(store, work).aresume("s", wait=0.5) == "done"


@pytest.mark.proof
@pytest.mark.parametrize("wait", [0, 8])
async def test_a_lock_that_stays_although_no_process_is_known_is_believed_in_the_end(
    store: rt.DurableStore, lock: LockFiles | AdvisoryLocks, wait: float, clock: MockClock
) -> None:
    await begin(store, process_id=ended_process())
    clock.rate = 10.0
    began_at = trio.current_time()
    with pytest.raises(rt.SessionOwnedError):
        await flow_of(store, work).aresume("s", wait=wait)
    assert trio.current_time() - began_at >= (wait or 5)
    assert (await rt.recover(store, [flow_of(store, work)])).skipped == {"s": "a live owner has it"}


async def test_recover_waits_once_for_all_sessions_of_a_process_that_seems_to_have_ended(
    store: rt.DurableStore, lock: LockFiles | AdvisoryLocks, clock: MockClock
) -> None:
    await begin(store, process_id=ended_process())
    first = sa.select(sessions).where(sessions.c.session_id == "s")
    with access_of(store).writing() as (connection, _, _owner):
        row = connection.execute(first).one()._asdict()
        connection.execute(sa.insert(sessions), [{**row, "session_id": f"s-{number}"} for number in range(30)])
    clock.rate = 10.0
    began_at = trio.current_time()
    assert len((await rt.recover(store, [flow_of(store, work)], limit=1)).skipped) == 31
    # One wait of five seconds, and not 31.
    assert trio.current_time() - began_at < 60


@pytest.mark.parametrize("owner", [{"process_id": os.getppid()}, {"host": "elsewhere", "process_id": 2**30}])
async def test_an_owner_that_may_be_alive_is_not_waited_for(
    store: rt.DurableStore, lock: LockFiles | AdvisoryLocks, owner: dict[str, object]
) -> None:
    await begin(store, **owner)
    with pytest.raises(rt.SessionOwnedError):
        await flow_of(store, work).aresume("s")
    assert (await rt.recover(store, [flow_of(store, work)])).skipped == {"s": "a live owner has it"}


def test_a_process_that_has_ended_is_known_by_its_number_on_its_own_machine_only() -> None:
    here = platform.node()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        # Its parent has not asked for its exit code yet.
        assert seems_ended(here, ended.pid)
    assert seems_ended(here, ended.pid)
    assert not seems_ended("elsewhere", ended.pid)
    assert not seems_ended(here, os.getpid())
    # Numbers that no process has, out of a damaged row.
    assert not seems_ended(here, 0)
    assert not seems_ended(here, -1)
    assert seems_ended(here, 2**70)
