"""`DurableStore.retry` of failures that the code went on from in another strand: of a task, a node, a block."""

from __future__ import annotations

from collections.abc import Callable
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
    status_of,
    store_fixture,  # noqa: F401 - a fixture
    world_fixture,  # noqa: F401 - a fixture
)

import railtracks as rt

STORES: list[rt.DurableStore] = []


async def tried(what: Any = "first") -> str:
    """Pay, and go on from a failure: the outcome is part of what is paid next."""
    try:
        return str(await rt.call(pay, what))
    except ConnectionError:
        return "none"


async def in_tasks(*what: str) -> None:
    async with trio.open_nursery() as nursery:
        for each in what:
            nursery.start_soon(rt.call, pay, each)


@rt.function_node(durable=False)
async def unrecorded(*what: str) -> None:
    for each in what:
        await rt.call(pay, each)


@rt.function_node(durable=False)
async def unrecorded_around(*what: str) -> None:
    await rt.call(unrecorded, *what)


@rt.function_node
async def slow() -> str:
    await trio.sleep(0 if not BROKEN else 60)
    return "slow"


def block(name: str) -> rt.Session:
    return rt.Session(name=name, durable=STORES[-1], save_state=False)


async def in_tasks_of_a_nursery() -> None:
    found = await tried()
    await in_tasks(f"{found} good", f"{found} last")


async def in_tasks_of_a_later_nursery() -> None:
    found: list[str] = []

    async def task() -> None:
        found.append(await tried())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
    await in_tasks(f"{found[0]} good", f"{found[0]} last")


async def in_tasks_after_a_cancel() -> None:
    found = "none"
    with trio.move_on_after(0.1):
        found = await rt.call(slow)
    await in_tasks(f"{found} good", f"{found} last")


async def in_a_task_after_its_batch() -> None:
    async def task() -> None:
        found = await rt.call_batch(pay, ["first", "second"])
        what = "none" if isinstance(found[0], Exception) else "first"
        await rt.call(pay, f"{what} good")
        await rt.call(pay, f"{what} last")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)


async def in_the_task_around_a_nested_nursery() -> None:
    found: list[str] = []

    async def inner() -> None:
        found.append(await tried())

    async def task() -> None:
        await rt.call(pay, "before")
        async with trio.open_nursery() as nested:
            nested.start_soon(inner)
        await rt.call(pay, f"{found[0]} good")
        await rt.call(pay, f"{found[0]} last")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)


async def in_a_task_around_a_nested_nursery_that_began_with_a_cancelled_call() -> None:
    found: list[str] = []

    async def inner() -> None:
        found.append(await tried())

    async def task() -> None:
        with trio.move_on_after(0.05):
            await rt.call(sleep)
        async with trio.open_nursery() as nested:
            nested.start_soon(inner)
        await rt.call(pay, f"{found[0]} good")
        await rt.call(pay, f"{found[0]} last")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)


@rt.function_node
async def sleep() -> None:
    await trio.sleep_forever()


async def in_a_node_that_is_not_recorded() -> None:
    found = await tried()
    await rt.call(unrecorded, f"{found} good", f"{found} last")


async def in_a_node_inside_one_that_is_not_recorded() -> None:
    found = await tried()
    await rt.call(unrecorded_around, f"{found} good", f"{found} last")


async def in_a_block() -> None:
    found = await tried()
    async with block("instead"):
        await rt.call(pay, f"{found} good")
        await rt.call(pay, f"{found} last")


async def in_a_block_of_a_task() -> None:
    found = await tried()

    async def task() -> None:
        async with block("instead"):
            await rt.call(pay, f"{found} good")
            await rt.call(pay, f"{found} last")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)


WAYS = [
    in_tasks_of_a_nursery,
    in_tasks_of_a_later_nursery,
    in_tasks_after_a_cancel,
    in_a_task_after_its_batch,
    in_the_task_around_a_nested_nursery,
    in_a_task_around_a_nested_nursery_that_began_with_a_cancelled_call,
    in_a_node_that_is_not_recorded,
    in_a_node_inside_one_that_is_not_recorded,
    in_a_block,
    in_a_block_of_a_task,
]


@pytest.mark.proof
@pytest.mark.parametrize("is_inside", [False, True], ids=["entry point", "call"])
@pytest.mark.parametrize("main", WAYS)
async def test_a_failure_that_the_code_went_on_from_stays_wherever_it_went_on(
    store: rt.DurableStore, main: Callable[[], Any], *, is_inside: bool
) -> None:
    STORES[:] = [store]
    node = rt.function_node(main)

    async def around() -> None:
        await rt.call(node)

    flow = flow_of(store, around if is_inside else main)
    BROKEN.update(["first", "none last"])
    with pytest.raises((ConnectionError, ExceptionGroup)):
        await flow.ainvoke(session_id="s")
    assert ran()[-1] in {"none last", "none good"}
    BROKEN.clear()
    store.retry("s")
    await flow.aresume("s")
    assert ran()[-1:] == ["none last"]
    assert {str(each.status) for each in store.sessions()} == {"completed"}


@pytest.mark.parametrize("how", ["tasks", "unrecorded", "block"])
async def test_if_the_code_went_on_from_every_failure_in_another_strand_the_error_says_where_to_fork(
    store: rt.DurableStore, how: str
) -> None:
    STORES[:] = [store]

    async def main() -> None:
        found = await tried()
        if how == "tasks":
            await in_tasks(f"{found} end")
        elif how == "unrecorded":
            await rt.call(unrecorded, f"{found} end")
        else:
            async with block("instead"):
                await rt.call(pay, f"{found} end")
        if found == "none":
            raise KeyError(found)

    flow = flow_of(store, main)
    BROKEN.add("first")
    with pytest.raises(KeyError):
        await flow.ainvoke(session_id="s")
    (failed,) = [each.id for each in store.load("s").calls if each.args == ("first",)]
    with pytest.raises(rt.SessionUnavailableError, match=rf"store\.fork\('s', before={failed}\)"):
        store.retry("s")
    assert status_of(store) == "failed"
    BROKEN.clear()
    ran()
    await flow.aresume(store.fork("s", before=failed))
    assert ran() == ["first", "first end"]


async def test_of_a_fan_out_each_failure_runs_again_though_others_began_after_it(store: rt.DurableStore) -> None:
    async def main() -> int:
        found = await rt.call_batch(pay, range(60), limit=60)
        failed = [each for each in found if isinstance(each, Exception)]
        if failed:
            raise ExceptionGroup("failed", failed)
        return len(found)

    flow = flow_of(store, main)
    BROKEN.update([0, 4])
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 60
    assert sorted(ran()) == [0, 4]


async def test_a_failure_runs_again_though_its_nursery_cancelled_what_ran_beside_it_and_cleaned_up(
    store: rt.DurableStore,
) -> None:
    has_begun = trio.Event()

    @rt.function_node
    async def beside() -> None:
        has_begun.set()
        if BROKEN:
            await trio.sleep_forever()

    async def waits() -> None:
        try:
            await rt.call(beside)
        except trio.Cancelled:
            await rt.call(pay, "cleanup")
            raise

    async def fails() -> None:
        await has_begun.wait()
        await rt.call(pay, "bad")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            nursery.start_soon(fails)

    flow = flow_of(store, main)
    BROKEN.add("bad")
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke(session_id="s")
    assert ran() == ["bad"]
    BROKEN.clear()
    store.retry("s")
    assert status_of(store) == "interrupted"


@pytest.mark.parametrize("count", [1, 17, 60])
async def test_a_failed_block_behind_many_others_is_opened_again(store: rt.DurableStore, count: int) -> None:
    STORES[:] = [store]

    async def main() -> int:
        for number in range(count):
            async with block("page"):
                await rt.call(pay, number)
        async with block("page"):
            return await rt.call(all_of, ["last"])

    flow = flow_of(store, main)
    BROKEN.add("last")
    with pytest.raises(ConnectionError):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 1
    assert ran() == ["last"]
    assert {str(each.status) for each in store.sessions()} == {"completed"}


@rt.function_node(durable=False)
async def nothing() -> None:
    pass


@rt.function_node(durable=False)
async def part(depth: int, before: int) -> int:
    for _ in range(before):
        await rt.call(nothing)
    if depth:
        return await rt.call(part, depth - 1, before)
    async with block("part"):
        await rt.call(pay, "good")
        return await rt.call(all_of, ["last"])


@pytest.mark.proof
@pytest.mark.parametrize("where", ["entry point", "call", "task"])
@pytest.mark.parametrize(("depth", "before"), [(0, 0), (1, 2), (2, 0), (6, 0), (0, 100)])
async def test_a_failed_block_in_nodes_that_are_not_recorded_is_opened_again(
    store: rt.DurableStore, depth: int, before: int, where: str
) -> None:
    STORES[:] = [store]

    @rt.function_node
    async def work() -> int:
        return await rt.call(part, depth, before)

    async def main() -> int:
        if where == "entry point":
            return await rt.call(part, depth, before)
        if where == "call":
            return await rt.call(work)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, part, depth, before)
        return 1

    flow = flow_of(store, main)
    BROKEN.add("last")
    with pytest.raises((ConnectionError, ExceptionGroup)):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    assert await flow.aresume("s") == 1
    assert ran() == ["last"]
    assert {str(each.status) for each in store.sessions()} == {"completed"}


@pytest.mark.parametrize("where", ["block", "unrecorded", "task"])
async def test_of_failed_blocks_that_were_tried_one_after_another_the_last_one_is_opened_again(
    store: rt.DurableStore, where: str
) -> None:
    STORES[:] = [store]

    async def attempt(number: int) -> None:
        async with block("try"):
            await rt.call(pay, f"good {number}")
            await rt.call(pay, f"bad {number}")

    node = rt.function_node(attempt, durable=False)

    async def main() -> None:
        for number in range(2):
            with suppress(ConnectionError, ExceptionGroup):
                if where == "block":
                    await attempt(number)
                elif where == "unrecorded":
                    await rt.call(node, number)
                else:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(attempt, number)
                return
        raise LookupError

    flow = flow_of(store, main)
    BROKEN.update(["bad 0", "bad 1"])
    with pytest.raises(LookupError):
        await flow.ainvoke(session_id="s")
    ran()
    BROKEN.clear()
    store.retry("s")
    await flow.aresume("s")
    assert ran() == ["bad 1"]
    assert sorted(str(each.status) for each in store.sessions()) == ["completed", "completed", "failed"]
