"""Cancels and deadlines around durable calls: none is lost, none hangs, and none counts the waiting of a resume."""

from __future__ import annotations

import signal
import threading
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, add, done_fixture, flow_of, hang, store_fixture  # noqa: F401 - two are fixtures
from stored_sessions import interrupt, statuses, until

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import calls


def test_ctrl_c_leaves_nobody_waiting_for_a_commit(store: rt.DurableStore) -> None:
    struck: list[int] = []

    def strike(place: str) -> None:
        # While the main task waits for a commit, as other tasks do.
        if place == "inside" and len(DONE) > 30 and not struck:
            struck.append(1)
            signal.raise_signal(signal.SIGINT)

    async def busy(first: int) -> None:
        for number in range(1000):
            await rt.call(add, first + number)

    async def main() -> None:
        async with rt.Session(durable=store, save_state=False) as session:
            for task in range(5):
                session.start_soon(busy, task * 1000)
            await busy(-1000)

    store = testing.faulty_store(store, strike)
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert struck
    assert [each.status for each in store.sessions()] == ["interrupted"]


def test_no_thread_to_write_in_is_a_store_that_fails(store: rt.DurableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    start = trio.lowlevel.start_thread_soon

    def none_left(*args: Any, **kwargs: Any) -> None:
        if DONE == [1]:
            DONE.append("no thread")
            raise RuntimeError("can't start new thread")
        start(*args, **kwargs)

    async def main() -> int:
        return await rt.call(add, await rt.call(add, 1))

    with store:
        monkeypatch.setattr(trio.lowlevel, "start_thread_soon", none_left)
        with pytest.raises(rt.StoreError, match="can't start new thread"):
            flow_of(store, main).invoke(session_id="s")
    assert flow_of(store, main).resume("s") == 3


async def test_a_cancel_ends_a_resume_that_waits_for_its_turn(store: rt.DurableStore) -> None:
    # In the first run everything had its time; in the resume `late` never comes to its recorded call.
    async def early() -> None:
        await rt.call(add, 1)
        await rt.call(add, 2)

    async def late() -> None:
        await go.wait()
        await rt.call(add.with_options(key="late"), 10)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            await until(go.is_set)
            nursery.start_soon(early)
            await trio.sleep_forever()

    go = trio.Event()
    go.set()
    flow = flow_of(store, main)
    await interrupt(partial(flow.ainvoke, session_id="s"), lambda: len(statuses(store, "add")) == 3)
    go = trio.Event()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flow.aresume, "s")
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert [each.status for each in store.sessions()] == ["interrupted"]


async def test_a_deadline_does_not_count_what_a_resume_waits_for(store: rt.DurableStore) -> None:
    # The first time nothing was in the way of the second call; now it waits for the first, which is asked for late.
    async def main() -> list[int]:
        got: list[int] = []

        async def first() -> None:
            await gate.wait()
            got.append(await rt.call(add, 1))

        async def second() -> None:
            await until(lambda: got or not is_first)
            with trio.move_on_after(60 if is_first else 0.5):
                got.append(await rt.call(add, 2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
        if is_first:
            raise KeyboardInterrupt
        return got

    is_first, gate = True, trio.Event()
    gate.set()
    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    is_first, gate = False, trio.Event()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def open_gate() -> None:
            await trio.sleep(0.6)
            gate.set()

        assert await flow.aresume("s") == [2, 3]


def test_what_a_thread_brings_to_a_cancelled_caller_is_no_outcome(store: rt.DurableStore) -> None:
    @rt.function_node
    def slow(number: int) -> int:
        DONE.append("slow")
        go_on.wait(5)
        return number

    async def main() -> list[Any]:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def stop() -> None:
                    await until(lambda: DONE or not is_first)
                    scope.cancel()
                    go_on.set()

                await rt.call(slow, 1)
                DONE.append("came back")
        return [scope.cancelled_caught, await rt.call(add, 1)]

    go_on, is_first = threading.Event(), True
    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == [True, 2]
        assert statuses(store, "slow") == ["cancelled"]
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.delete(calls).where(calls.c.node == "main", calls.c.status == "completed"))
            connection.execute(sa.text("update railtracks_sessions set status = 'interrupted', ended_at = null"))
        is_first = False
        DONE.clear()
        assert flow.resume("s") == [True, 2]
    assert DONE == []


async def test_what_a_thread_brings_to_a_session_that_is_interrupted_is_no_outcome(store: rt.DurableStore) -> None:
    @rt.function_node
    def slow(number: int) -> int:
        DONE.append("slow")
        go_on.wait(5)
        return number

    async def main() -> int:
        return await rt.call(slow, 1)

    go_on = threading.Event()
    flow = flow_of(store, main)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(flow.ainvoke, session_id="s"))
        await until(lambda: DONE)
        nursery.cancel_scope.cancel()
        go_on.set()
    assert "completed" not in statuses(store, "slow")
    assert await flow.aresume("s") == 1
    assert DONE == ["slow", "slow"]


def test_a_call_that_nobody_asks_for_holds_up_no_commit_for_ever(
    store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_with(store, patience=Patience(order=0.1))

    @rt.function_node
    async def long() -> int:
        await rt.call(add, 1)
        if is_first:
            await trio.sleep_forever()
        return 3

    async def main() -> int:
        async with rt.open_group() as group:
            first = group.start_soon(long)
            if is_first:
                await until(lambda: statuses(store, "add"))
                await group.start_soon(add, 2).wait()
                await until(lambda: statuses(store, "add") == ["completed", "completed"])
                raise KeyboardInterrupt
        return first.result()

    is_first = True
    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    is_first = False
    with pytest.raises(rt.ReplayMismatchError, match="'add' with arguments"):
        flow.resume("s")
    assert "the code has not asked for the recorded call of 'add'" in caplog.text


async def test_a_recorded_cancel_that_does_not_come_again_is_told(
    store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_with(store, patience=Patience(cancel=0.05))

    async def main() -> int:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rt.call, hang)
                if is_first:
                    await until(lambda: DONE)
                    scope.cancel()
        return await rt.call(add, 1)

    is_first = True
    flow = flow_of(store, main)
    await interrupt(partial(stopping, flow), lambda: statuses(store, "hang"))
    is_first = False
    await interrupt(partial(flow.aresume, "s"), lambda: "now nothing cancels it" in caplog.text)
    assert "'hang' was cancelled" in caplog.text


async def stopping(flow: rt.Flow[..., Any]) -> None:
    """Run a flow, and stop before its last commit."""

    def stop(place: str) -> None:
        if place == "after" and 1 in DONE:
            raise sa.exc.ProgrammingError("commit", None, Exception("stopped"))

    with pytest.raises(rt.StoreError):
        await flow.in_store(testing.faulty_store(flow.store, stop)).ainvoke(session_id="s")
