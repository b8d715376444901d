"""`DurableStore.retry` and tasks: a failure that the code went on from is past, wherever it stood, and stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from retry_nodes import (
    BROKEN,
    all_of,
    flow_of,
    pay,
    ran,
    store_fixture,  # noqa: F401 - a fixture
    world_fixture,  # noqa: F401 - a fixture
)

import railtracks as rt


@rt.function_node
async def count(results: list[Any]) -> int:
    return len(results)


@rt.function_node(durable=False)
async def unrecorded(results: list[Any]) -> None:
    with suppress(ConnectionError):
        results.append(await rt.call(pay, "bad"))


async def caught_in_a_task(results: list[Any]) -> None:
    async def task() -> None:
        with suppress(ConnectionError):
            results.append(await rt.call(pay, "bad"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)


async def caught_around_the_nursery(results: list[Any]) -> None:
    async def task() -> None:
        results.append(await rt.call(pay, "bad"))

    with suppress(ExceptionGroup):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)


async def caught_in_a_batch_of_a_task(results: list[Any]) -> None:
    async def task() -> None:
        found = await rt.call_batch(pay, ["good", "bad"])
        results.extend(each for each in found if each != "good" and not isinstance(each, Exception))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)


async def caught_in_an_unrecorded_call(results: list[Any]) -> None:
    await rt.call(unrecorded, results)


WAYS: list[Callable[[list[Any]], Awaitable[None]]] = [
    caught_in_a_task,
    caught_around_the_nursery,
    caught_in_a_batch_of_a_task,
    caught_in_an_unrecorded_call,
]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("place", ["entry point", "call"])
async def test_a_failure_in_a_task_that_the_code_around_went_on_from_stays(
    store: rt.DurableStore, how: Callable[[list[Any]], Awaitable[None]], place: str
) -> None:
    @rt.function_node
    async def work() -> int:
        results: list[Any] = []
        await how(results)
        counted = await rt.call(count, results)
        await rt.call(pay, "last")
        return counted

    async def main() -> int:
        return await (work.fn() if place == "entry point" else rt.call(work))

    flow = flow_of(store, main)
    BROKEN.update({"bad", "last"})
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    assert set(ran()) - {"good"} == {"bad", "last"}
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 0
    assert ran() == ["last"]


@pytest.mark.parametrize("what", ["broadcast", "background", "call"])
async def test_if_nothing_else_failed_the_error_names_what_came_next_around_the_task(
    store: rt.DurableStore, what: str
) -> None:
    async def main() -> None:
        failed: list[ConnectionError] = []

        async def task() -> None:
            try:
                await rt.call(pay, "bad")
            except ConnectionError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
        match what:
            case "broadcast":
                await rt.broadcast("failed")
            case "background":
                rt.current_session().start_soon(pay, "after")
            case _:
                await rt.call(pay, "after")
        raise failed[0]

    flow = flow_of(store, main, broadcast_callback=lambda _: None)
    BROKEN.add("bad")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    (failed,) = [each.id for each in store.load("s").calls if each.node == "pay" and each.error]
    named = "a broadcast" if what == "broadcast" else "pay"
    with pytest.raises(rt.SessionUnavailableError, match=rf"call {failed}, 'pay'.*{named}.*before={failed}"):
        store.retry("s")


async def test_what_ran_beside_a_task_when_a_call_of_it_failed_did_not_go_on_from_that(store: rt.DurableStore) -> None:
    ended = trio.Event()

    @rt.function_node
    async def beside() -> int:
        # Until the failure has reached the task.
        await ended.wait()
        return int(await rt.call(pay, "beside") == "beside")

    async def main() -> int:
        results: list[Any] = []

        async def task() -> None:
            with suppress(ConnectionError):
                results.append(await rt.call(pay, "bad"))
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            counted = await rt.call(beside)
        return counted + len(results)

    flow = flow_of(store, main)
    BROKEN.update({"bad", "beside"})
    with pytest.RaisesGroup(ConnectionError):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 2
    assert sorted(ran()) == ["bad", "beside"]


# Session blocks that tasks open before their first call.


async def block(store: rt.DurableStore, name: str, what: Any) -> int:
    async with rt.Session(name=name, durable=store, save_state=False):
        return await rt.call(all_of, [what])


@pytest.mark.parametrize("place", ["entry point", "call"])
async def test_a_failed_block_of_a_task_is_opened_again_and_those_beside_it_stay(
    store: rt.DurableStore, place: str
) -> None:
    @rt.function_node
    async def work() -> int:
        async with trio.open_nursery() as nursery:
            for name in ("good", "bad"):
                nursery.start_soon(block, store, name, name)
        return 1

    async def main() -> int:
        return await (work.fn() if place == "entry point" else rt.call(work))

    flow = flow_of(store, main)
    BROKEN.add("bad")
    with pytest.RaisesGroup(ConnectionError):
        await flow.ainvoke(session_id="s")
    paid = ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 1
    assert sorted(paid + ran()) == sorted(["bad", "bad", "good"] + ["good"] * (paid.count("good") - 1))


@pytest.mark.parametrize("after", ["call", "block"])
async def test_a_failed_block_of_a_task_that_the_code_around_went_on_from_stays(
    store: rt.DurableStore, after: str
) -> None:
    async def main() -> int:
        with suppress(ExceptionGroup):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(block, store, "same", "bad")
        if after == "call":
            return await rt.call(all_of, ["last"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(block, store, "same", "last")
        return 1

    flow = flow_of(store, main)
    BROKEN.update({"bad", "last"})
    with pytest.raises((ConnectionError, ExceptionGroup)):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 1
    assert ran() == ["last"]
