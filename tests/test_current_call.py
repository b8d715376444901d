"""`rt.current_call()`: which call the running code belongs to, in tasks, threads and executors."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

import railtracks as rt


@rt.function_node
async def here() -> rt.CurrentCall:
    return rt.current_call()


@rt.function_node
def here_in_a_thread() -> rt.CurrentCall:
    return rt.current_call()


def name_here() -> str:
    """Return the node of the call around this code, or why there is none."""
    try:
        return rt.current_call().node
    except rt.ContextError as error:
        return str(error)


async def test_it_is_the_call_of_the_node_that_asks() -> None:
    async with rt.Session() as session:
        found = await rt.call(here)
    assert found == rt.CurrentCall(id=1, node="here", attempt=1, parent_id=None, session_id=session.identifier)
    assert (session.info.calls[0].id, session.info.calls[0].node) == (found.id, found.node)


async def test_it_cannot_be_changed() -> None:
    async with rt.Session():
        found = await rt.call(here)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        found.node = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def test_it_is_the_innermost_call_and_after_that_the_one_around() -> None:
    @rt.function_node
    async def outer() -> list[rt.CurrentCall]:
        return [rt.current_call(), await rt.call(here), rt.current_call()]

    async with rt.Session():
        before, inner, after = await rt.call(outer)
    assert before == after
    assert (inner.node, inner.parent_id) == ("here", before.id)


async def test_it_works_in_the_thread_of_a_sync_node_and_in_calls_made_from_there() -> None:
    @rt.function_node
    def sync() -> list[rt.CurrentCall]:
        return [rt.current_call(), trio.from_thread.run(rt.call, here), trio.from_thread.run_sync(rt.current_call)]

    async with rt.Session():
        own, inner, from_trio = await rt.call(sync)
    assert (own.node, inner.node, inner.parent_id) == ("sync", "here", own.id)
    assert from_trio == own


async def test_it_works_in_a_thread_that_a_node_starts_by_trio() -> None:
    @rt.function_node
    async def hop() -> str:
        return (await trio.to_thread.run_sync(rt.current_call)).node

    async with rt.Session():
        assert await rt.call(hop) == "hop"


async def test_it_works_in_an_executor_of_threads() -> None:
    with ThreadPoolExecutor(1) as executor:
        async with rt.Session():
            assert await rt.call(rt.function_node(name_here, name="there", run_in=executor)) == "there"


@pytest.mark.parametrize("method", ["fork", "spawn"])
async def test_in_an_executor_of_processes_there_is_none(method: str) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as executor:
        async with rt.Session():
            answer = await rt.call(rt.function_node(name_here, run_in=executor))
    assert "pass values as arguments" in answer


async def test_in_a_worker_process_there_is_none() -> None:
    async with rt.Session():
        answer = await rt.call(rt.function_node(name_here, run_in="process"))
    assert "pass values as arguments" in answer


async def test_each_call_of_a_fan_out_is_its_own() -> None:
    @rt.function_node
    async def which(_: int) -> int:
        return rt.current_call().id

    async with rt.Session():
        batch = await rt.call_batch(which, range(3), return_exceptions=False)
        async with rt.as_completed(which, range(3)) as finished:
            completed = [pending.result() async for pending in finished]
        async with rt.open_group() as group:
            pending = [group.start_soon(node) for node in (here, here_in_a_thread, here)]
    found = [each.result() for each in pending]
    assert len({*batch, *completed, *(each.id for each in found)}) == 9
    assert [each.node for each in found] == ["here", "here_in_a_thread", "here"]


async def test_an_iterable_that_a_fan_out_draws_from_is_in_the_call_that_made_the_fan_out() -> None:
    names: list[str] = []

    def inputs() -> list[int]:
        return [len(names) for _ in range(2) if names.append(name_here()) is None]

    @rt.function_node
    async def double(number: int) -> int:
        return 2 * number

    @rt.function_node
    async def fan_out() -> None:
        await rt.call_batch(double, (number for _ in range(2) for number in inputs()), limit=1)

    async with rt.Session():
        await rt.call(fan_out)
    assert names == ["fan_out"] * 4


async def test_each_attempt_of_a_retry_is_a_call_of_its_own(autojump_clock: MockClock) -> None:
    found: list[rt.CurrentCall] = []

    @rt.function_node(retry=rt.Retry(3))
    async def fail_twice() -> None:
        found.append(rt.current_call())
        if len(found) < 3:
            raise OSError("again")

    async with rt.Session():
        await rt.call(fail_twice)
    assert [each.attempt for each in found] == [1, 2, 3]
    assert len({each.id for each in found}) == 3


async def test_a_task_of_a_nursery_is_in_the_call_that_opened_the_nursery() -> None:
    found: dict[str, str] = {}

    async def look(place: str) -> None:
        found[place] = name_here()

    @rt.function_node
    async def outer() -> None:
        @rt.function_node
        async def inner() -> None:
            nursery.start_soon(look, "handed down")
            async with trio.open_nursery() as own:
                own.start_soon(look, "own")

        async with trio.open_nursery() as nursery:
            await rt.call(inner)

    async with rt.Session():
        await rt.call(outer)
    assert found == {"handed down": "outer", "own": "inner"}


async def test_a_task_that_outlived_the_call_it_was_started_in_is_not_in_that_call() -> None:
    found: list[str] = []
    has_ended = [trio.Event(), trio.Event()]

    async def look(event: trio.Event) -> None:
        await event.wait()
        found.append(name_here())

    @rt.function_node
    async def start(number: int) -> None:
        nurseries[number].start_soon(look, has_ended[number])

    async with trio.open_nursery() as older:
        async with rt.Session():
            async with trio.open_nursery() as nursery:
                nurseries = [nursery, older]
                await rt.call(start, 0)
                has_ended[0].set()
            await rt.call(start, 1)
        has_ended[1].set()
    assert "no call is open here" in found[0]
    assert "is over, and this task outlived it" in found[1]


async def test_a_thread_that_was_left_behind_is_in_no_call() -> None:
    has_begun, may_look, has_looked = threading.Event(), threading.Event(), threading.Event()
    found: list[str] = []

    @rt.function_node(abandon_on_cancel=True)
    def slow() -> None:
        found.append(name_here())
        has_begun.set()
        may_look.wait()
        found.append(name_here())
        has_looked.set()

    async with rt.Session(history_limit=0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, slow)
            await trio.to_thread.run_sync(has_begun.wait)
            nursery.cancel_scope.cancel()
        may_look.set()
        await trio.to_thread.run_sync(has_looked.wait)
    assert found[0] == "slow"
    assert "no call is open here" in found[1]


async def test_in_the_block_of_a_session_there_is_none_and_in_a_call_the_block_is_in_that_call() -> None:
    @rt.function_node
    async def open_one() -> tuple[str, str]:
        async with rt.Session():
            return name_here(), rt.current_call().session_id

    async with rt.Session() as session:
        with pytest.raises(rt.ContextError, match="no call is open here"):
            rt.current_call()
        assert await rt.call(open_one) == ("open_one", session.identifier)


def test_outside_of_a_session_and_of_trio_there_is_none() -> None:
    with pytest.raises(rt.ContextError, match=r"await rt.call\(node\)"):
        rt.current_call()


async def test_in_a_flow_it_is_the_entry_point_and_in_a_default_session_the_call() -> None:
    assert (await rt.Flow("flow", here).ainvoke()).node == "here"
    assert (await rt.call(here)).id == 1


async def test_a_flow_that_a_sync_node_invokes_has_calls_of_its_own() -> None:
    flow = rt.Flow("inner", here)

    @rt.function_node
    def outer() -> tuple[rt.CurrentCall, rt.CurrentCall, rt.CurrentCall]:
        return rt.current_call(), flow.invoke(), rt.current_call()

    async with rt.Session():
        before, inner, after = await rt.call(outer)
    assert before == after
    assert (inner.node, inner.parent_id) == ("here", None)
    assert inner.session_id != before.session_id


async def test_a_trio_run_of_its_own_in_the_thread_of_a_node_is_in_no_call() -> None:
    async def ask() -> str:
        await trio.lowlevel.checkpoint()
        return name_here()

    @rt.function_node
    def run() -> str:
        return trio.run(ask)

    async with rt.Session():
        assert "no call is open here" in await rt.call(run)


async def test_it_works_behind_many_levels_of_calls() -> None:
    @rt.function_node
    async def descend(levels: int) -> rt.CurrentCall:
        return await rt.call(descend, levels - 1) if levels else rt.current_call()

    async with rt.Session():
        found = await rt.call(descend, 70)
    assert (found.id, found.parent_id) == (71, 70)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_callbacks_of_a_session_are_in_no_call(kind: str) -> None:
    found: list[str] = []

    def note(_: object) -> None:
        found.append(name_here())

    async def note_async(_: object) -> None:
        found.append(name_here())

    @rt.function_node
    async def send() -> None:
        await rt.broadcast("item")
        await trio.testing.wait_all_tasks_blocked()

    callback: Callable[[object], object] = note if kind == "sync" else note_async
    async with rt.Session(broadcast_callback=callback, payload_callback=callback):
        await rt.call(send)
    assert len(found) == 2
    assert "send" not in found


async def test_a_broadcast_callback_still_has_the_context_of_its_session() -> None:
    found: list[object] = []

    @rt.function_node
    async def send() -> None:
        await rt.broadcast("item")

    async with rt.Session({"user": "ada"}, broadcast_callback=lambda _: found.append(rt.context.get("user"))):
        await rt.call(send)
    assert found == ["ada"]


async def test_in_a_resource_of_the_session_there_is_no_call() -> None:
    @asynccontextmanager
    async def resource() -> AsyncIterator[str]:
        yield name_here()

    @rt.function_node
    async def use() -> str:
        return await rt.current_session().enter_async_context(resource())

    async with rt.Session():
        assert await rt.call(use) != "use"


def test_a_durable_flow_has_its_calls_too(tmp_path: Path) -> None:
    seen: list[rt.CurrentCall] = []

    @rt.function_node
    async def step() -> int:
        seen.append(rt.current_call())
        return seen[-1].id

    async def main() -> int:
        seen.append(rt.current_call())
        return await rt.call(step)

    flow = rt.Flow("main", main, durable=tmp_path / "store.db")
    assert flow.invoke(session_id="s") == 2
    assert [(each.node, each.id, each.parent_id) for each in seen] == [("main", 1, None), ("step", 2, 1)]
    assert {each.session_id for each in seen} == {"s"}
