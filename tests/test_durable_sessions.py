"""Durable sessions from outside: begun, found again, owned, ended, listed, forked; and what is refused."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, add, done_fixture, flow_of, store_fixture  # noqa: F401 - two are fixtures
from stored_sessions import due_in, flowing_clock, interrupt, renewed, until, until_begun  # noqa: F401 - one is a fixture
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks._sessions.durable import imported
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.schema import calls, owners, sessions


def status_of(store: rt.DurableStore, session_id: str = "s") -> str:
    (found,) = [each for each in store.sessions() if each.session_id == session_id]
    return str(found.status)


@rt.function_node
async def twice(number: int) -> int:
    return await rt.call(add, await rt.call(add, number))


# Beginning, and coming back.


def test_a_durable_flow_gives_its_result_and_the_store_tells_of_it(store: rt.DurableStore) -> None:
    flow = flow_of(store, twice, version="7", name="adding")
    assert flow.invoke(1) == 3
    (found,) = store.sessions()
    assert (found.status, found.flow_name, found.version) == (rt.DurableStatus.COMPLETED, "adding", "7")
    assert found.created_at <= found.ended_at
    info = store.load(found.session_id)
    assert [(call.node, call.args, call.result) for call in info.calls] == [
        ("twice", (1,), 3),
        ("add", (1,), 2),
        ("add", (2,), 3),
    ]
    assert [call.node for call in info.children(info.roots[0].id)] == ["add", "add"]
    assert (info.status, info.answer, info.flow_name) == (rt.Status.COMPLETED, 3, "adding")


def test_the_default_store_is_a_private_file_in_the_home_of_railtracks(home: Path) -> None:
    rt.Flow("flow", twice, durable=True).invoke(1)
    file = home / "durable" / "sessions.db"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [each.flow_name for each in rt.DurableStore().sessions()] == ["flow"]


def test_a_path_and_a_url_name_the_same_store(tmp_path: Path) -> None:
    file = tmp_path / "own.db"
    rt.Flow("flow", twice, durable=str(file), save_state=False).invoke(1)
    assert len(rt.DurableStore(f"sqlite:///{file}").sessions()) == 1


async def test_a_session_that_is_over_gives_its_recorded_result(store: rt.DurableStore) -> None:
    flow = flow_of(store, twice)
    assert await flow.ainvoke(1, session_id="s") == 3
    assert await flow.ainvoke(1, session_id="s") == 3
    assert await flow.aresume("s") == 3
    assert DONE == [1, 2]


def test_a_session_that_failed_raises_its_recorded_error(store: rt.DurableStore) -> None:
    async def failing() -> None:
        DONE.append("ran")
        raise LookupError("why")

    flow = flow_of(store, failing)
    for _ in range(2):
        with pytest.raises(LookupError, match="why"):
            flow.invoke(session_id="s")
    assert DONE == ["ran"]
    assert status_of(store) == "failed"
    assert store.load("s").error.message == "why"


def test_other_inputs_under_the_same_identifier_are_an_error(store: rt.DurableStore) -> None:
    flow = flow_of(store, twice)
    flow.invoke(1, session_id="s")
    with pytest.raises(rt.ReplayMismatchError, match="inputs") as caught:
        flow.invoke(2, session_id="s")
    # What it says to do works.
    assert "another session_id" in str(caught.value)
    assert flow.invoke(2, session_id="t") == flow.resume("t")
    assert "flow.resume(session_id)" in str(caught.value)
    assert flow.resume("s") == flow.invoke(1, session_id="s")


def test_of_another_flow_version_or_entry_point_no_fork_is_advised_that_is_refused_too(store: rt.DurableStore) -> None:
    async def main() -> str:
        return "done"

    async def other() -> str:
        return "other"

    flow = flow_of(store, main, version="1")
    flow.invoke(session_id="s")
    others = [
        flow_of(store, main, version="2"),
        flow_of(store, main, "named", version="1"),
        flow_of(store, other, version="1"),
    ]
    advice = "Resume it, or a fork of it, with a flow of the name, version and entry point that it was begun with"
    for each in others:
        for session_id in ("s", store.fork("s")):
            with pytest.raises(rt.ReplayMismatchError) as caught:
                each.resume(session_id)
            assert caught.value.advice == advice
    assert flow.resume(store.fork("s")) == "done"


def test_an_unknown_session_is_an_error(store: rt.DurableStore) -> None:
    with pytest.raises(rt.SessionUnavailableError, match="session nobody is not in the store"):
        flow_of(store, twice).resume("nobody")
    with pytest.raises(rt.SessionUnavailableError, match="session nobody is not in the store"):
        store.load("nobody")


def test_a_flow_in_a_worker_thread_of_a_durable_session_is_a_session_inside(store: rt.DurableStore) -> None:
    inner = flow_of(store, twice, name="inner")

    def from_thread() -> int:
        return inner.invoke(1)

    async def main() -> int:
        return await rt.call(from_thread)

    assert flow_of(store, main).invoke() == 3
    assert {each.flow_name for each in store.sessions()} == {"flow", "inner"}


def test_keys_reach_threads_processes_and_executors(store: rt.DurableStore) -> None:
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor  # noqa: PLC0415

    from worker_functions import key_and_chance  # noqa: PLC0415

    with ProcessPoolExecutor(1) as pool, ThreadPoolExecutor(1) as threads:
        nodes = [
            rt.function_node(key_and_chance, name=f"node {place}", run_in=place)
            for place in ("thread", "process", pool, threads)
        ]

        async def main() -> list[list[Any]]:
            return [await rt.call(node) for node in nodes]

        flow = flow_of(store, main)
        with store:
            first = flow.invoke(session_id="s")
            assert flow.resume("s") == first
    keys = [each[0] for each in first]
    assert len(set(keys)) == 4
    assert all(key.startswith("s:") for key in keys)
    assert len({each[1] for each in first}) == 4
    assert {each[2] for each in first} == {1}


# Sessions and the decorator.


async def test_a_session_block_is_resumed_by_its_identifier(store: rt.DurableStore) -> None:
    async def block(**options: Any) -> int:
        async with rt.Session(durable=store, save_state=False, **options) as session:
            assert session.identifier == "s"
            first = await rt.call(add, 1)
            if "session_id" in options:
                raise KeyboardInterrupt
            return first + await rt.call(add, 2)

    with pytest.raises(KeyboardInterrupt):
        await block(session_id="s")
    assert status_of(store) == "interrupted"
    assert await block(resume="s") == 5
    assert DONE == [1, 2]
    assert status_of(store) == "completed"
    # Over is over: the block is run again, and nothing in it is.
    assert await block(resume="s") == 5
    assert DONE == [1, 2]


async def test_a_session_that_is_over_takes_no_new_calls(store: rt.DurableStore) -> None:
    async with rt.Session(durable=store, save_state=False, session_id="s"):
        pass
    with pytest.raises(rt.ContextError, match="is over"):
        async with rt.Session(durable=store, save_state=False, resume="s"):
            await rt.call(add, 1)


async def test_a_session_block_that_asks_for_less_than_is_recorded_is_a_mismatch(store: rt.DurableStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        async with rt.Session(durable=store, save_state=False, session_id="s"):
            await rt.call(add, 1)
            raise KeyboardInterrupt
    with pytest.raises(rt.ReplayMismatchError, match="nothing more"):
        async with rt.Session(durable=store, save_state=False, resume="s"):
            pass


async def test_the_decorator_takes_the_options_too(store: rt.DurableStore) -> None:
    @rt.session(durable=store, save_state=False, session_id="s")
    async def main() -> int:
        return await rt.call(add, 1)

    result, session = await main()
    assert (result, session.identifier) == (2, "s")
    assert status_of(store) == "completed"


# Ends.


def interrupted_by(name: str) -> Callable[[], Any]:
    async def ctrl_c() -> None:
        await rt.call(add, 1)
        raise KeyboardInterrupt

    async def sigterm() -> None:
        await rt.call(add, 1)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    async def sleeping() -> None:
        await rt.call(add, 1)
        await trio.sleep_forever()

    return {"ctrl_c": ctrl_c, "sigterm": sigterm, "host": sleeping, "drain": sleeping}[name]


async def test_the_hosts_own_scope_interrupts(store: rt.DurableStore) -> None:
    flow = flow_of(store, interrupted_by("host"))
    await interrupt(partial(flow.ainvoke, session_id="s"), lambda: DONE)
    assert status_of(store) == "interrupted"


def test_ctrl_c_interrupts(store: rt.DurableStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        flow_of(store, interrupted_by("ctrl_c")).invoke(session_id="s")
    assert status_of(store) == "interrupted"


def test_sigterm_interrupts(store: rt.DurableStore) -> None:
    with pytest.raises(rt.SessionCancelledError):
        flow_of(store, interrupted_by("sigterm"), stop_on_sigterm=0.05).invoke(session_id="s")
    assert status_of(store) == "interrupted"


async def test_a_shutdown_of_the_program_interrupts(store: rt.DurableStore) -> None:
    async def run() -> None:
        with pytest.raises(rt.SessionCancelledError):
            await flow_of(store, interrupted_by("host")).ainvoke(session_id="s")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until(lambda: DONE)
        await rt.ashutdown(0)
    assert status_of(store) == "interrupted"


def test_sigterm_before_there_is_a_session_is_not_lost(store: rt.DurableStore) -> None:
    met: list[str] = []

    def terminate(place: str) -> None:
        # While the session is being taken.
        if place == "before" and not met:
            met.append(place)
            signal.raise_signal(signal.SIGTERM)
            # Long enough for the main thread to hear of it.
            time.sleep(0.05)

    store = testing.faulty_store(store, terminate)
    with pytest.raises((rt.SessionCancelledError, rt.ContextError)):
        flow_of(store, interrupted_by("host"), stop_on_sigterm=0.05).invoke(session_id="s")
    assert status_of(store) == "interrupted"


async def test_a_drain_interrupts(store: rt.DurableStore) -> None:
    async with rt.Session(durable=store, save_state=False, session_id="s") as session:
        session.start_soon(interrupted_by("drain"))
        await until(lambda: DONE)
        await session.drain(0.05)
    assert status_of(store) == "interrupted"


async def test_a_call_refused_by_a_drain_leaves_the_session_to_be_resumed(store: rt.DurableStore) -> None:
    with pytest.raises(rt.ContextError, match="draining"):
        async with rt.Session(durable=store, save_state=False, session_id="s") as session:
            await session.drain(1)
            await rt.call(add, 1)
    assert status_of(store) == "interrupted"


async def test_cleanup_after_an_interrupt_is_in_no_record(store: rt.DurableStore) -> None:
    async def main() -> int:
        begun.append(1)
        try:
            await trio.sleep(0 if DONE else math.inf)
        finally:
            with trio.CancelScope(shield=True):
                DONE.append(await rt.call(add, 10))
        return await rt.call(add, 1)

    begun: list[int] = []
    flow = flow_of(store, main)
    await interrupt(partial(flow.ainvoke, session_id="s"), lambda: begun)
    assert await flow.aresume("s") == 2


async def test_an_error_raised_while_an_interrupt_unwinds_is_no_outcome(store: rt.DurableStore) -> None:
    async def fragile() -> int:
        begun.append(1)
        try:
            await trio.sleep(0 if DONE else math.inf)
        except trio.Cancelled:
            DONE.append("cancelled")
            raise LookupError from None
        return 1

    async def main() -> int:
        return await rt.call(fragile)

    begun: list[int] = []
    flow = flow_of(store, main)
    with pytest.RaisesGroup(LookupError):
        await interrupt(partial(flow.ainvoke, session_id="s"), lambda: begun)
    assert await flow.aresume("s") == 1


async def test_session_cancel_is_for_good(store: rt.DurableStore) -> None:
    async def main() -> None:
        rt.current_session().cancel("enough")
        await trio.sleep_forever()

    flow = flow_of(store, main)
    for _ in range(2):
        with pytest.raises(rt.SessionCancelledError, match="enough"):
            await flow.ainvoke(session_id="s")
    assert status_of(store) == "cancelled"


async def test_a_timeout_is_for_good_and_counts_on_through_a_resume(store: rt.DurableStore) -> None:
    flow = flow_of(store, interrupted_by("host"), timeout=1000)
    await interrupt(partial(flow.ainvoke, session_id="s"), lambda: DONE)
    due_in(store, 0.2)
    with pytest.raises(rt.SessionTimeoutError):
        await flow.aresume("s")
    assert status_of(store) == "timed_out"
    with pytest.raises(rt.SessionTimeoutError):
        await flow.aresume("s")


def test_a_deadline_that_passed_meanwhile_ends_the_session(store: rt.DurableStore) -> None:
    flow = flow_of(store, interrupted_by("ctrl_c"), timeout=60)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).values(deadline_at=1.0))
    with pytest.raises(rt.SessionTimeoutError):
        flow.resume("s")
    assert status_of(store) == "timed_out"


def test_the_end_of_a_session_is_written_last(store: rt.DurableStore) -> None:
    seen: list[str] = []

    async def main() -> int:
        return await rt.call(add, 1)

    flow = flow_of(
        store,
        main,
        save_state=True,
        payload_callback=lambda _: seen.append(status_of(store, store.sessions()[0].session_id)),
    )
    flow.invoke()
    assert seen == ["running"]
    assert len(list(Path(os.environ["RAILTRACKS_HOME"]).glob("flow-*.json"))) == 1


def test_a_crash_between_result_and_end_repeats_only_what_is_missing(store: rt.DurableStore) -> None:
    flow = flow_of(store, twice)
    flow.invoke(1, session_id="s")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).values(status="running", ended_at=None))
    assert status_of(store) == "interrupted"
    assert flow.resume("s") == 3
    assert DONE == [1, 2]
    assert status_of(store) == "completed"


# Owners.


async def test_the_same_identifier_started_twice_at_once_runs_once(store: rt.DurableStore) -> None:
    async def slow(number: int) -> int:
        DONE.append("ran")
        await until(lambda: refused)
        return number

    flow = flow_of(store, slow)
    refused: list[rt.SessionOwnedError] = []

    async def one() -> None:
        try:
            assert await flow.ainvoke(1, session_id="s") == 1
        except rt.SessionOwnedError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert DONE == ["ran"]
    (error,) = refused
    assert error.process_id == os.getpid()
    assert "wait=seconds" in str(error)


async def test_who_waits_gets_the_result_of_the_live_owner(store: rt.DurableStore) -> None:
    async def slow() -> str:
        await go_on.wait()
        return "result"

    go_on = trio.Event()
    flow = flow_of(store, slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: flow.ainvoke(session_id="s"))
        await until_begun(store)
        with pytest.raises(rt.SessionOwnedError):
            await flow.aresume("s", wait=0.01)
        go_on.set()
        assert await flow.aresume("s", wait=5) == "result"


def test_an_owner_whose_lease_is_over_loses_the_session_although_it_lives(tmp_path: Path) -> None:
    mine = rt.DurableStore(tmp_path / "store.db", durability="process")
    theirs = rt.DurableStore(tmp_path / "store.db", durability="process")
    began, go_on = threading.Event(), threading.Event()

    async def slow() -> int:
        await rt.call(add, 1)
        began.set()
        await trio.to_thread.run_sync(go_on.wait)
        return await rt.call(add, 2)

    async def quick() -> int:
        return await rt.call(add, 1) + await rt.call(add, 2)

    errors: list[BaseException] = []

    def run() -> None:
        try:
            flow_of(mine, rt.function_node(slow, name="main")).invoke(session_id="s")
        except BaseException as error:  # noqa: BLE001 - whatever comes back
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    began.wait(5)
    with pytest.raises(rt.SessionOwnedError):
        flow_of(theirs, rt.function_node(quick, name="main")).resume("s")
    with access_of(theirs).writing() as (connection, _, _owner):
        # It was stopped for longer than its lease.
        connection.execute(sa.update(owners).values(lease_until=1.0))
    assert flow_of(theirs, rt.function_node(quick, name="main")).resume("s") == 5
    go_on.set()
    thread.join(10)
    (error,) = errors
    assert isinstance(error, rt.SessionLostError)
    assert status_of(theirs) == "completed"


async def test_a_lease_that_cannot_be_renewed_ends_the_session_before_it_is_over(
    store: rt.DurableStore, clock: MockClock
) -> None:
    tries: list[str] = []

    def broken(place: str) -> None:
        if place == "before renewal":
            tries.append(place)
            raise OSError("gone")

    store = store_with(testing.faulty_store(store, broken), clock=clock.current_time)
    ended: list[float] = []

    async def run() -> None:
        with pytest.raises(rt.SessionLostError, match="could not be renewed"):
            await flow_of(store, interrupted_by("host")).ainvoke(session_id="s")
        ended.append(clock.current_time())

    async with trio.open_nursery() as nursery:
        before = clock.current_time()
        nursery.start_soon(run)
        await until(lambda: DONE)
        # Two thirds of the lease, and then some seconds before its end.
        clock.jump(20)
        await until(lambda: len(tries) > 1)
        assert not ended
        clock.jump(5)
    assert ended[0] - before < 30
    assert status_of(store) == "interrupted"


async def test_an_owner_that_the_store_does_not_know_any_more_stops(
    store: rt.DurableStore, clock: MockClock, tmp_path: Path
) -> None:
    def forget(place: str) -> None:
        if place == "before renewal":
            with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
                connection.execute("delete from railtracks_owners")

    store = store_with(testing.faulty_store(store, forget), clock=clock.current_time)

    async def run() -> None:
        with pytest.raises(rt.SessionLostError, match="does not know"):
            await flow_of(store, interrupted_by("host")).ainvoke(session_id="s")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until(lambda: DONE)
        clock.jump(10)


async def test_a_lease_is_renewed_for_as_long_as_it_takes(store: rt.DurableStore, clock: MockClock) -> None:
    store = store_with(store, clock=clock.current_time)

    async def long() -> str:
        for _ in range(6):
            clock.jump(10)
            await renewed(store)
        return "result"

    assert await flow_of(store, long).ainvoke() == "result"


def test_a_session_taken_over_too_often_is_stuck_and_left_alone(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process", max_recoveries=2)
    flow = flow_of(store, interrupted_by("ctrl_c"))
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        with access_of(store).writing() as (connection, _, _owner):
            # As the death of the process would have left it.
            connection.execute(sa.update(sessions).values(status="running"))
    for _ in range(2):
        with pytest.raises(rt.SessionUnavailableError, match="stuck"):
            flow.resume("s")
    assert status_of(store) == "stuck"
    assert [each.recoveries for each in store.sessions()] == [2]


def test_a_session_let_go_of_is_no_burden_on_its_next_owner(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process", max_recoveries=0)
    flow = flow_of(store, interrupted_by("ctrl_c"))
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
    assert status_of(store) == "interrupted"


@pytest.mark.proof
def test_a_dead_owners_session_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import os, sys, railtracks as rt\n"
        "async def main() -> int:\n    os._exit(9)\n"
        f"rt.Flow('flow', main, durable={str(tmp_path / 'store.db')!r}, save_state=False).invoke(session_id='s')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    store = rt.DurableStore(tmp_path / "store.db")
    assert status_of(store) == "interrupted"

    async def main() -> int:
        return 5

    assert flow_of(store, main).resume("s") == 5
    assert [each.recoveries for each in store.sessions()] == [1]


def test_owners_of_yesterday_are_forgotten(store: rt.DurableStore) -> None:
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.insert(owners).values(token="old", host="h", process_id=1, lease_until=1.0))
    with store, access_of(store).reading() as (connection, _, _owner):
        assert [row.token for row in connection.execute(sa.select(owners))] != ["old"]


# Lists and forks.


def test_sessions_are_listed_by_status_and_by_flow(store: rt.DurableStore) -> None:
    flow_of(store, twice, name="a").invoke(1)
    flow_of(store, twice, name="b").invoke(1)
    with pytest.raises(KeyboardInterrupt):
        flow_of(store, interrupted_by("ctrl_c"), name="b").invoke()
    assert [each.flow_name for each in store.sessions(status="completed")] == ["a", "b"]
    assert [each.flow_name for each in store.sessions(rt.DurableStatus.INTERRUPTED)] == ["b"]
    assert len(store.sessions(flow_name="b")) == 2
    assert store.sessions(status="completed", flow_name="c") == ()
    with pytest.raises(ValueError, match="nonsense"):
        store.sessions(status="nonsense")


def test_a_session_that_runs_is_told_as_it_stands(store: rt.DurableStore) -> None:
    async def main() -> None:
        await rt.call(add, 1)
        info = store.load("s")
        assert info.status is rt.Status.RUNNING
        assert [call.status for call in info.calls] == [rt.Status.RUNNING, rt.Status.COMPLETED]
        (found,) = store.sessions("running")
        assert found.process_id == os.getpid()

    flow_of(store, main).invoke(session_id="s")


def test_a_failed_session_is_run_again_by_a_fork(store: rt.DurableStore) -> None:
    keys: list[str] = []

    async def fails_at_first() -> int:
        keys.append(rt.idempotency_key())
        if len(keys) == 1:
            raise ConnectionError
        return 10

    async def main() -> int:
        return await rt.call(add, 1) + await rt.call(fails_at_first)

    flow = flow_of(store, main)
    with pytest.raises(ConnectionError):
        flow.invoke(session_id="s")
    (failed,) = [call.id for call in store.load("s").calls if call.node == "fails_at_first"]
    fresh = store.fork("s", before=failed)
    assert flow.resume(fresh) == 12
    assert DONE == [1]
    assert len(set(keys)) == 2
    assert status_of(store, "s") == "failed"
    (fork,) = [each for each in store.sessions() if each.session_id == fresh]
    assert fork.forked_from == "s"


def test_a_fork_of_the_whole_leaves_out_the_end(store: rt.DurableStore) -> None:
    async def main() -> int:
        await rt.call(add, 1)
        if len(DONE) < 2:
            DONE.append("failed")
            raise ConnectionError
        return 5

    flow = flow_of(store, main)
    with pytest.raises(ConnectionError):
        flow.invoke(session_id="s")
    assert flow.resume(store.fork("s")) == 5
    assert DONE == [1, "failed"]


def test_a_fork_of_what_is_not_there_is_an_error(store: rt.DurableStore) -> None:
    flow_of(store, twice).invoke(1, session_id="s")
    with pytest.raises(rt.SessionUnavailableError, match="is not in the store"):
        store.fork("nobody")
    with pytest.raises(rt.SessionUnavailableError, match="has no call 99"):
        store.fork("s", before=99)


# Broadcasts.


def test_a_broadcast_that_was_delivered_is_not_delivered_again(store: rt.DurableStore) -> None:
    received: list[tuple[Any, str]] = []

    async def tell(number: int) -> None:
        await rt.broadcast(number)

    async def main() -> None:
        await rt.broadcast("before")
        await rt.call(tell, 1)
        if len(received) < 3:
            await trio.sleep(0.05)
            raise KeyboardInterrupt
        await rt.broadcast("after")

    def receive(item: Any) -> None:
        received.append((item, rt.idempotency_key()))

    flow = flow_of(store, main, broadcast_callback=receive)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    with pytest.raises(KeyboardInterrupt):
        flow.resume("s")
    assert [item for item, _ in received] == ["before", 1]
    received.append(("", ""))
    flow.resume("s")
    assert [item for item, _ in received] == ["before", 1, "", "after"]
    assert all(key.startswith("s:") for item, key in received if item)


def test_a_broadcast_that_was_not_delivered_is_sent_again_with_its_key(store: rt.DurableStore) -> None:
    received: list[tuple[Any, str]] = []

    async def tell(number: int) -> None:
        await rt.broadcast(number)

    async def main() -> None:
        await rt.call(tell, 1)

    flow = flow_of(store, main, broadcast_callback=lambda item: received.append((item, rt.idempotency_key())))
    with store:
        flow.invoke(session_id="s")
        from test_durable_replay import forget, not_main  # noqa: PLC0415

        forget(store, "s", lambda row: not_main(row) and row.status != "delivered")
        flow.resume("s")
    assert received[0] == received[1]
    assert len(received) == 2


# Secrets.


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_the_resumed_node_sees_the_real_secret_and_nobody_else_does(
    tmp_path: Path, home: Path, database: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres") if database == "postgres" else None
    url = tmp_path / "store.db" if server is None else server.fresh_url()
    canary = "hunter2-canary"
    seen: list[str] = []

    async def log_in() -> rt.Secret[str]:
        return rt.Secret(canary)

    async def use(secret: rt.Secret[str], password: str) -> str:
        seen.append(secret.reveal())
        if len(seen) == 1:
            raise KeyboardInterrupt
        raise LookupError(f"cannot use {secret.reveal()}")

    async def main(api_key: str) -> None:
        rt.context.put("token", api_key)
        await rt.call(use, await rt.call(log_in), api_key)

    store = rt.DurableStore(url, key="a key")
    flow = rt.Flow("flow", main, durable=store, log_file=tmp_path / "log", logging_setting="DEBUG")
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(canary, session_id="s")
        with pytest.raises(LookupError, match=canary):
            flow.resume("s")
        assert seen == [canary, canary]
        # The database with all that is beside it while it is open, the log, and the JSON states.
        files = [each for folder in (tmp_path, home) for each in folder.rglob("*") if each.is_file()]
        assert {"log"} <= {each.name for each in files}
        assert [each for each in files if each.suffix == ".json"]
        everything = b"".join(each.read_bytes() for each in files)
        if server is None:
            assert {"store.db", "store.db-wal", "store.db-shm"} <= {each.name for each in files}
        else:
            dump = server.dump(url)
            assert "railtracks_calls" in dump
            everything += dump.encode()
        assert len(everything) > 3_000
        assert canary.encode() not in everything
        assert canary not in str(store.load("s").calls)
    with pytest.raises(rt.DurableValueError, match="another key"):
        rt.Flow("flow", main, durable=rt.DurableStore(url, key="other")).resume("s")


def test_a_secret_without_a_key_is_an_error_that_names_the_path(store: rt.DurableStore) -> None:
    async def main(options: dict[str, Any]) -> None:
        raise NotImplementedError

    with pytest.raises(rt.DurableValueError, match=r"argument.*\.password.*DurableStore\(key=...\)|password"):
        flow_of(store, main).invoke({"password": "hunter2"})


def test_an_argument_that_cannot_be_stored_is_refused_before_the_node_runs(store: rt.DurableStore) -> None:
    async def take(client: object) -> None:
        DONE.append("ran")

    async def main() -> None:
        await rt.call(take, object())

    with pytest.raises(rt.DurableValueError, match="'client' of 'take'"):
        flow_of(store, main).invoke()
    assert DONE == []


def test_a_result_that_cannot_be_stored_is_recorded_as_that_failure(store: rt.DurableStore) -> None:
    async def give() -> object:
        DONE.append("ran")
        return object()

    async def main() -> str:
        try:
            await rt.call(give)
        except rt.DurableValueError as error:
            return error.place
        raise NotImplementedError

    assert flow_of(store, main).invoke(session_id="s") == "the result of 'give'"


# What is refused.


def test_options_are_refused_where_they_are_given(store: rt.DurableStore) -> None:
    with pytest.raises(ValueError, match="version is for durable flows"):
        rt.Flow("flow", twice, version="1")
    with pytest.raises(TypeError, match="version must be a string"):
        rt.Flow("flow", twice, durable=store, version=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a store must be"):
        rt.Flow("flow", twice, durable=5)
    with pytest.raises(ValueError, match="not durable"):
        rt.Flow("flow", twice).resume("s")
    with pytest.raises(TypeError, match="wait must be"):
        flow_of(store, twice).resume("s", wait="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wait must be"):
        flow_of(store, twice).resume("s", wait=-1)
    with pytest.raises(TypeError, match="session_id must be a string"):
        flow_of(store, twice).invoke(1, session_id=5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="safe file name"):
        flow_of(store, twice).invoke(1, session_id="../out")
    with pytest.raises(ValueError, match="safe file name"):
        rt.Session(durable=store, session_id="a/b")
    with pytest.raises(ValueError, match="are for durable sessions"):
        rt.Session(resume="s")
    with pytest.raises(ValueError, match="name two sessions"):
        rt.Session(durable=store, resume="s", session_id="t")
    # Outside of Trio there is no session around it.
    assert len(rt.Session(durable=store).identifier) == 32
    with pytest.raises(ValueError, match="safe file name"):
        rt.Session(durable=store, resume="")
    with pytest.raises(TypeError, match="session_id must be a string"):
        flow_of(store, twice).resume(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be recorded"):
        flow_of(store, twice.with_options(durable=False))
    with pytest.raises(TypeError, match="before must be"):
        store.fork("s", before=True)
    with pytest.raises(TypeError, match="resume must be a string"):
        rt.Session(durable=store, resume=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="durable must be True or False"):
        rt.function_node(durable=5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="key of a node"):
        rt.function_node(key=" ")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"url": 5}, TypeError, "url"),
        ({"durability": "much"}, ValueError, "durability"),
        ({"lease": 0}, ValueError, "lease"),
        ({"lease": math.inf}, ValueError, "a finite number"),
        ({"lease": 5, "commit_timeout": 5}, ValueError, "less than lease"),
        ({"max_recoveries": 1.5}, TypeError, "max_recoveries"),
        ({"max_recoveries": -1}, ValueError, "max_recoveries"),
        ({"key": ""}, ValueError, "key of a store"),
        ({"key": 5}, TypeError, "key of a store"),
        ({"url": "what://"}, ValueError, "SQLite or PostgreSQL"),
        ({"url": "://"}, ValueError, "SQLite or PostgreSQL"),
        ({"url": ""}, ValueError, "in memory"),
    ],
)
def test_options_of_a_store_are_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        rt.DurableStore(**options)


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("railtracks.durable")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ImportError, match=r"railtracks-trio\[durable\]"):
        rt.Flow("flow", twice, durable=True)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        rt.nonsense  # noqa: B018 - to ask is the test


def test_a_flow_knows_its_store_and_takes_another(store: rt.DurableStore, tmp_path: Path) -> None:
    flow = flow_of(store, twice, version="1", context={"a": 1})
    assert (flow.store, flow.version) == (store, "1")
    assert flow.in_store(store) is flow
    assert flow.update_context({"b": 2}).store is store
    other = rt.DurableStore(tmp_path / "other.db")
    assert flow.in_store(other).store is other
    assert "store.db" in repr(store)


def test_nothing_of_a_store_is_open_when_no_session_is(store: rt.DurableStore, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    flow_of(store, twice).invoke(1)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert list((tmp_path / "store.db-owners").iterdir()) == []
    assert not (tmp_path / "store.db-wal").exists()


def test_the_state_file_of_a_durable_session_is_the_humans_copy(store: rt.DurableStore, home: Path) -> None:
    flow_of(store, twice, save_state=True).invoke(1, session_id="s")
    told = json.loads((home / "flow-s.json").read_text())
    assert [call["result"] for call in told["calls"]] == [3, 2, 3]


def test_without_a_key_a_secret_of_the_context_is_in_no_recorded_failure(
    store: rt.DurableStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "hunter2-canary"

    async def use() -> None:
        raise LookupError(f"cannot use {rt.context.get('api_key')}")

    flow = flow_of(store, use, context={"api_key": canary})
    with store:
        with pytest.raises(LookupError, match=canary):
            flow.invoke(session_id="s")
        with pytest.raises(rt.StoreError, match=r"session s: .*LookupError: cannot use \[redacted\]"):
            flow.resume("s")
        everything = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
        assert canary.encode() not in everything
    assert "quotes a secret" in caplog.text


# Corners.


def locked_out(place: str, armed: list[Any]) -> Callable[[str], None]:
    """Return a fault that fails every commit once it is armed."""

    def fault(where: str) -> None:
        if where == place and armed:
            raise OSError("disk I/O error")

    return fault


async def test_an_error_of_the_body_says_more_than_an_end_that_could_not_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    armed: list[Any] = []
    store = rt.DurableStore(tmp_path / "store.db", commit_timeout=0.1)
    store = testing.faulty_store(store, locked_out("before", armed))
    with pytest.raises(LookupError):
        async with rt.Session(durable=store, save_state=False, session_id="s"):
            await rt.call(add, 1)
            armed.append(1)
            raise LookupError
    armed.clear()
    assert "the end of the session is not in its store: the store could not write: disk I/O error" in caplog.text
    assert status_of(store) == "interrupted"
    armed.append(1)
    with pytest.raises(rt.StoreError, match="disk I/O error"):
        async with rt.Session(durable=store, save_state=False, session_id="t"):
            pass


async def test_an_end_that_cannot_be_written_is_the_error_of_a_session_that_has_no_other(tmp_path: Path) -> None:
    armed: list[Any] = []
    store = rt.DurableStore(tmp_path / "store.db", commit_timeout=0.1)
    store = testing.faulty_store(store, locked_out("inside", armed))
    with pytest.raises(rt.StoreError, match="disk I/O error"):
        async with rt.Session(durable=store, save_state=False, session_id="s"):
            await rt.call(add, 1)
            armed.append(1)
    armed.clear()
    async with rt.Session(durable=store, save_state=False, resume="s"):
        assert await rt.call(add, 1) == 2
    assert DONE == [1]
    assert status_of(store) == "completed"


async def test_a_session_cancelled_by_itself_has_nothing_left_to_ask_for(store: rt.DurableStore) -> None:
    async with rt.Session(durable=store, save_state=False, session_id="s") as session:
        await rt.call(add, 1)
        session.cancel("enough")
    assert status_of(store) == "cancelled"


async def test_background_calls_belong_to_their_session_wherever_they_are_started(store: rt.DurableStore) -> None:
    @rt.function_node
    async def serve(number: int, *, task_status: trio.TaskStatus[int]) -> int:
        task_status.started(await rt.call(add, number))
        return number

    @rt.function_node
    async def starting() -> None:
        await rt.current_session().start(serve, 9)

    @rt.function_node
    async def opening() -> None:
        outer = rt.current_session()
        async with rt.Session(save_state=False):
            await outer.enter_async_context(trio.open_nursery())

    async def block(resume: bool) -> list[Any]:
        name = {"resume": "s"} if resume else {"session_id": "s"}
        found: list[Any] = []
        sent, given = trio.open_memory_channel[rt.Session](1)
        done = trio.Event()

        async def from_outside() -> None:
            session = await given.receive()
            found.append(await session.start(serve, 1))
            pending = session.start_soon(add, 7)
            await pending.wait()
            found.append(pending.result())
            done.set()

        async with trio.open_nursery() as nursery:
            # Before there is a session: it knows of none.
            nursery.start_soon(from_outside)
            async with rt.Session(durable=store, save_state=False, **name) as session:
                async with rt.Session(save_state=False):
                    pending = session.start_soon(add, 5)
                await sent.send(session)
                await done.wait()
                await pending.wait()
                found.append(pending.result())
                with pytest.raises(rt.ContextError, match="'starting' is recorded"):
                    await rt.call(starting)
                with pytest.raises(rt.ContextError, match="'opening' is recorded"):
                    await rt.call(opening)
                if not resume:
                    nursery.cancel_scope.cancel()
                    await trio.lowlevel.checkpoint()
        return found

    await block(resume=False)
    assert status_of(store) == "interrupted"
    DONE.clear()
    assert sorted(await block(resume=True)) == [2, 6, 8]
    # What it says when it has started is in no record, so it starts again; the calls made in it are.
    assert DONE == []


async def test_what_a_session_that_is_over_broadcasts_or_starts_is_not_recorded_again(store: rt.DurableStore) -> None:
    heard: list[Any] = []

    async def block(**options: Any) -> None:
        async with rt.Session(durable=store, save_state=False, broadcast_callback=heard.append, **options) as session:
            await rt.broadcast("item")
            await session.start_soon(add, 1).wait()

    await block(session_id="s")
    await block(resume="s")
    assert (heard, DONE) == (["item"], [1])
    assert [call.node for call in store.load("s").calls] == ["add"]


async def test_cleanup_may_broadcast_while_the_session_is_being_ended(store: rt.DurableStore) -> None:
    heard: list[Any] = []

    async def main() -> None:
        begun.append(1)
        try:
            await trio.sleep(0 if DONE else math.inf)
        finally:
            with trio.CancelScope(shield=True):
                await rt.broadcast("bye")

    begun: list[int] = []
    flow = flow_of(store, main, broadcast_callback=heard.append)
    await interrupt(partial(flow.ainvoke, session_id="s"), lambda: begun)
    DONE.append(1)
    await flow.aresume("s")
    assert heard == ["bye", "bye"]


def test_a_fork_before_the_first_call_has_no_past(store: rt.DurableStore) -> None:
    flow = flow_of(store, rt.function_node(_failing_main, name="main"))
    with pytest.raises(ConnectionError):
        flow.invoke(session_id="s")
    first = min(call.id for call in store.load("s").calls if call.node == "main")
    assert flow.resume(store.fork("s", before=first)) == 2
    assert DONE == [1, 1]


async def _failing_main() -> int:
    result = await rt.call(add, 1)
    if len(DONE) == 1:
        raise ConnectionError
    return result


def test_a_session_that_cannot_begin_is_let_go_of(store: rt.DurableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dated(day: str) -> str:
        if not DONE:
            raise KeyboardInterrupt
        return day

    with pytest.raises(KeyboardInterrupt):
        flow_of(store, rt.function_node(dated, name="main")).invoke("monday", session_id="s")

    async def numbered(day: int) -> int:
        return day

    with pytest.raises(rt.DurableValueError, match="the stored arguments of 'main'"):
        flow_of(store, rt.function_node(numbered, name="main")).resume("s")
    assert status_of(store) == "interrupted"
    DONE.append(1)
    assert flow_of(store, rt.function_node(dated, name="main")).resume("s") == "monday"


def test_a_room_that_is_not_there_is_not_taken_for_an_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"railtracks\.durable\._nowhere"):
        imported("railtracks.durable._nowhere")


@pytest.mark.parametrize("error", [OSError("disk I/O error"), KeyboardInterrupt()])
def test_a_store_in_which_nobody_can_be_an_owner_is_closed_again(
    store: rt.DurableStore, error: BaseException, tmp_path: Path
) -> None:
    met: list[str] = []

    def fail(place: str) -> None:
        if place == "inside opening" and not met:
            met.append(place)
            raise error

    store = testing.faulty_store(store, fail)
    expected = rt.StoreError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected):
        store.sessions()
    assert met
    assert not (tmp_path / "store.db-wal").exists()
    assert store.sessions() == ()


def test_an_owner_that_cannot_say_goodbye_is_gone_all_the_same(store: rt.DurableStore, tmp_path: Path) -> None:
    met: list[str] = []

    def fail(place: str) -> None:
        if place == "inside closing":
            met.append(place)
            raise OSError("disk I/O error")

    assert flow_of(testing.faulty_store(store, fail), twice).invoke(1, session_id="s") == 3
    assert met
    assert not (tmp_path / "store.db-wal").exists()
    assert status_of(store) == "completed"


def test_a_store_that_was_broken_while_it_was_open_is_told(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", commit_timeout=0.1)
    with store:
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            connection.execute("drop table railtracks_sessions")
        with pytest.raises(rt.StoreError, match="cannot be read: no such table"):
            store.sessions()
        with pytest.raises(rt.StoreError, match="cannot be written: no such table"):
            store.fork("s")
        with pytest.raises(rt.StoreError, match="could not write: no such table"):
            flow_of(store, twice).invoke(1)


async def test_a_store_whose_signals_cannot_be_read_interrupts_who_waits(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process", commit_timeout=0.3)

    async def main() -> None:
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            connection.execute("drop table railtracks_signals")
        await rt.wait_for_signal("go")

    with pytest.raises(rt.StoreError, match="could not be read: no such table"):
        await flow_of(store, main).ainvoke(session_id="s")
    assert status_of(store) == "interrupted"


async def test_a_store_that_is_just_being_opened_elsewhere_is_waited_for_in_a_thread(store: rt.DurableStore) -> None:
    access = access_of(store)
    with store:
        held, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with access._guard:  # noqa: SLF001 - what another thread has while it opens or closes
                held.set()
                let_go.wait(5)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(5)
        assert not access.count(1)
        let_go.set()
        thread.join()
        assert access.count(1)
        assert access.count(-1)


async def test_no_cancel_reaches_who_waits_for_a_commit(store: rt.DurableStore) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hold(place: str) -> None:
        if place == "inside" and DONE:
            inside.set()
            go_on.wait(5)

    store = testing.faulty_store(store, hold)
    got: list[Any] = []

    async def task(number: int) -> None:
        got.append(await rt.call(add, number))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(task, number)
            await trio.to_thread.run_sync(inside.wait)
            nursery.cancel_scope.cancel()
            go_on.set()

    await flow_of(store, main).ainvoke(session_id="s")
    recorded = [call for call in store.load("s").calls if call.node == "add" and call.status == "completed"]
    assert len(recorded) == len(DONE)


def test_a_result_that_is_not_in_the_store_any_more_is_told(store: rt.DurableStore) -> None:
    flow = flow_of(store, twice)
    flow.invoke(1, session_id="s")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.delete(calls).where(calls.c.node == "twice"))
    with pytest.raises(rt.StoreError, match="session s is completed, and its result is not in the store"):
        flow.resume("s")


async def test_replay_at_every_prefix_compares_failures_too(store: rt.DurableStore) -> None:
    async def main() -> None:
        await rt.call(add, 1)
        raise LookupError("always")

    assert await testing.replay_at_every_prefix(flow_of(store, main)) == 4


async def test_an_attempt_that_an_interrupt_leaves_without_another_is_no_outcome_of_its_call(
    store: rt.DurableStore,
) -> None:
    host = trio.CancelScope()

    @rt.function_node(retry=rt.Retry(3, on=ConnectionError, wait_initial=0, jitter=0))
    async def flaky(number: int) -> int:
        DONE.append(number)
        if len(DONE) == 1:
            host.cancel()
            raise ConnectionError
        return number

    async def main() -> int:
        return await rt.call(flaky, 1)

    flow = flow_of(store, main)
    with host:
        await flow.ainvoke(session_id="s")
    assert host.cancelled_caught
    assert status_of(store) == "interrupted"
    assert await flow.aresume("s") == 1
    # The first attempt is recorded as the failure that it was; the second is made by the resume.
    assert DONE == [1, 1]
    assert [call.attempt for call in store.load("s").calls if call.node == "flaky"] == [1, 2]


# Secrets without a key.


class AuthError(Exception):
    def __init__(self, text: str, password: str = "") -> None:
        super().__init__(text)
        self.password = password


@pytest.mark.parametrize("way", ["attribute", "argument", "cause", "given"])
def test_without_a_key_no_secret_is_in_a_recorded_failure(
    store: rt.DurableStore, tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    @rt.function_node(durable=False)
    async def log_in(password: str) -> None:
        raise AuthError(f"{password} is wrong")

    async def main() -> None:
        if way == "attribute":
            raise AuthError("no", CANARY)
        if way == "argument":
            raise ValueError({"password": CANARY})
        if way == "given":
            await rt.call(log_in, CANARY)
        raise LookupError("no") from AuthError("no", CANARY)

    with pytest.raises((AuthError, ValueError, LookupError)):
        flow_of(store, main).invoke(session_id="s")
    assert CANARY.encode() not in b"".join(each.read_bytes() for each in tmp_path.glob("store.db*") if each.is_file())
    assert "would not see the whole of it" in caplog.text
    with pytest.raises(Exception, match=r"no|redacted"):
        flow_of(store, main).resume("s")


def test_with_a_key_a_failure_that_quotes_a_secret_of_an_unrecorded_call_comes_back_whole(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process", key="of this test")

    @rt.function_node(durable=False)
    async def log_in(password: str) -> None:
        raise AuthError(f"{password} is wrong")

    async def main() -> None:
        await rt.call(log_in, CANARY)

    with store:
        with pytest.raises(AuthError, match=f"{CANARY} is wrong"):
            flow_of(store, main).invoke(session_id="s")
        everything = b"".join(each.read_bytes() for each in tmp_path.glob("store.db*") if each.is_file())
        assert CANARY.encode() not in everything
        with pytest.raises(AuthError, match=f"{CANARY} is wrong"):
            flow_of(store, main).resume("s")


CANARY = "hunter-9-canary"


def test_a_view_shows_no_value_under_a_secret_name_in_a_text(store: rt.DurableStore) -> None:
    async def main() -> None:
        raise LookupError(f"login failed: password={CANARY}")

    with pytest.raises(LookupError):
        flow_of(store, main).invoke(session_id="s")
    info = store.load("s")
    assert info.error is not None
    assert "login failed" in info.error.message
    assert CANARY not in repr(info)


async def test_a_signal_with_the_name_of_a_secret_is_stored_with_a_key_only(tmp_path: Path) -> None:
    async def main() -> bool:
        return await rt.wait_for_signal("password", str, park=True) == CANARY

    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    with pytest.raises(rt.SessionWaiting):
        await flow_of(store, main).ainvoke(session_id="s")
    with pytest.raises(rt.DurableValueError, match="stored only encrypted"):
        await rt.send_signal("s", "password", CANARY, store=store)
    sealed = rt.DurableStore(tmp_path / "store.db", durability="process", key="of this test")
    await rt.send_signal("s", "password", CANARY, store=sealed)
    assert await flow_of(sealed, main).aresume("s")
    assert CANARY not in repr(sealed.load("s"))
    assert CANARY.encode() not in b"".join(each.read_bytes() for each in tmp_path.glob("store.db*") if each.is_file())


# What a name in a database does not do.


def test_nothing_is_imported_because_a_database_names_it(
    store: rt.DurableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_imported.py").write_text("class Error(Exception): pass\nasync def work(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)

    async def main() -> None:
        raise LookupError("recorded")

    with store:
        with pytest.raises(LookupError):
            flow_of(store, main).invoke(session_id="s")
        with access_of(store).writing() as (connection, _, _owner):
            row = connection.execute(sa.select(sessions)).one()
            named = row.failure.replace(b"builtins:LookupError", b"never_imported:Error")
            assert named != row.failure
            connection.execute(sa.update(sessions).values(failure=named))
        with pytest.raises(rt.StoreError, match=r"session s: .*import never_imported before the session is resumed"):
            flow_of(store, main).resume("s")
    assert "never_imported" not in sys.modules


def test_commits_of_sessions_side_by_side_are_groups(store: rt.DurableStore) -> None:
    transactions: list[str] = []
    store = testing.faulty_store(store, lambda place: transactions.append(place) if place == "before" else None)

    async def main() -> None:
        for number in range(10):
            await rt.call(add, number)

    async def many() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(flow_of(store, main).ainvoke)

    with store:
        trio.run(many)
    # Begun, ten calls, the result, the end: 260 commits.
    assert len(transactions) < 130


def test_a_call_that_broadcasts_all_day_keeps_what_waits_short(store: rt.DurableStore) -> None:
    longest = 0

    async def main() -> None:
        nonlocal longest
        opened = access_of(store)._opened  # noqa: SLF001 - what the test is about
        assert opened is not None
        ((writer, _),) = opened.writers.values()
        for number in range(1000):
            await rt.broadcast(number)
            longest = max(longest, writer.backlog)

    heard: list[int] = []

    async def hear(number: int) -> None:
        heard.append(number)

    flow_of(store, main, broadcast_callback=hear).invoke()
    assert heard == list(range(1000))
    assert longest < 400
