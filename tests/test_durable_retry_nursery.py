"""`DurableStore.retry` of failures in tasks of a nursery: what the code around the nursery went on from is past."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from retry_nodes import (
    BROKEN,
    RAN,
    flow_of,
    pay,
    ran,
    store_fixture,  # noqa: F401 - a fixture
    world_fixture,  # noqa: F401 - a fixture
)

import railtracks as rt


@rt.function_node
async def wait_for_ever(what: str) -> None:
    RAN.append((what, ""))
    await trio.sleep_forever()


async def paid(what: str, to: list[str]) -> None:
    """Pay in a task of a nursery, and go on from a failure."""
    try:
        to.append(await rt.call(pay, what))
    except ConnectionError:
        to.append("none")


async def caught_by_the_task() -> list[str]:
    found: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(paid, "task", found)
    return [*found, await rt.call(pay, found[0] + " end")]


async def pays() -> None:
    await rt.call(pay, "task")


async def waits() -> None:
    await rt.call(wait_for_ever, "beside")


async def caught_around_the_nursery() -> list[str]:
    found: list[str] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pays)
            nursery.start_soon(waits)
    except* ConnectionError:
        found.append("none")
    return [*found, await rt.call(pay, "none end")]


async def in_a_call_of_a_task() -> list[str]:
    found: list[str] = []

    async def task() -> None:
        found.extend(await rt.call(caught_by_the_task))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
    return found


async def caught_in_a_nested_nursery() -> list[str]:
    found: list[str] = []

    async def task() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(paid, "task", found)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
    return [*found, await rt.call(pay, found[0] + " end")]


async def in_a_fan_out_of_a_task() -> list[str]:
    found: list[str] = []

    async def task() -> None:
        await rt.call_batch(pay, ["task"])
        found.append("none")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
    return [*found, await rt.call(pay, "none end")]


@rt.function_node(durable=False)
async def unrecorded(to: list[str]) -> None:
    await paid("task", to)


async def in_a_call_that_is_not_recorded() -> list[str]:
    found: list[str] = []
    await rt.call(unrecorded, found)
    return [*found, await rt.call(pay, found[0] + " end")]


@pytest.mark.parametrize(
    "main",
    [
        in_a_call_that_is_not_recorded,
        caught_by_the_task,
        caught_around_the_nursery,
        in_a_call_of_a_task,
        caught_in_a_nested_nursery,
        in_a_fan_out_of_a_task,
    ],
)
async def test_a_failure_in_a_task_is_past_once_the_code_around_its_nursery_went_on(
    store: rt.DurableStore, main: Callable[..., Any]
) -> None:
    flow = flow_of(store, main)
    BROKEN.update(["task", "none end"])
    with pytest.raises((ConnectionError, ExceptionGroup)):
        await flow.ainvoke(session_id="s")
    assert ran()[-1] == "none end"
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == ["none", "none end"]
    assert ran() == ["none end"]


@pytest.mark.parametrize("how", ["call", "broadcast"])
async def test_if_the_code_around_a_nursery_went_on_the_error_says_before_which_call_to_fork(
    store: rt.DurableStore, how: str
) -> None:
    async def main() -> None:
        found: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(paid, "task", found)
        await (rt.broadcast("went on") if how == "broadcast" else rt.call(pay, "end"))
        if found == ["none"]:
            raise KeyError("task")

    flow = flow_of(store, main, broadcast_callback=lambda _: None)
    BROKEN.add("task")
    with pytest.raises(KeyError):
        await flow.ainvoke(session_id="s")
    (failed,) = [each.id for each in store.load("s").calls if each.args == ("task",)]
    with pytest.raises(rt.SessionUnavailableError, match=rf"store\.fork\('s', before={failed}\)") as caught:
        store.retry("s")
    assert ("a broadcast" if how == "broadcast" else "'pay'") in str(caught.value)
    BROKEN.clear()
    ran()
    await flow.aresume(store.fork("s", before=failed))
    assert ran() == (["task"] if how == "broadcast" else ["task", "end"])


async def test_what_ran_beside_a_failure_in_a_task_is_no_going_on(store: rt.DurableStore) -> None:
    has_begun = trio.Event()

    @rt.function_node
    async def beside() -> str:
        RAN.append(("beside", ""))
        has_begun.set()
        if BROKEN:
            await trio.sleep_forever()
        return "beside"

    async def fails() -> None:
        await has_begun.wait()
        await rt.call(pay, "task")

    async def main() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            return await rt.call(beside)

    flow = flow_of(store, main)
    BROKEN.add("task")
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke(session_id="s")
    assert ran() == ["beside", "task"]
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == "beside"
    assert sorted(ran()) == ["beside", "task"]


async def test_a_failure_in_a_task_runs_again_though_another_task_went_on(store: rt.DurableStore) -> None:
    has_failed = trio.Event()

    async def main() -> list[str]:
        found: list[str] = []

        async def first() -> None:
            await paid("task", found)
            has_failed.set()

        async def second() -> None:
            await rt.call(pay, "second")
            await has_failed.wait()
            await rt.call(pay, "third")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
        if "none" in found:
            raise KeyError("task")
        return found

    flow = flow_of(store, main)
    BROKEN.add("task")
    with pytest.raises(KeyError):
        await flow.ainvoke(session_id="s")
    assert ran()[-1] == "third"
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == ["task"]
    assert ran() == ["task"]
