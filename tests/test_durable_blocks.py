"""Session blocks in tasks of a nursery: each finds its own record in a resume, or is refused in the first run."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from durable_nodes import DONE, done_fixture, flow_of, store_fixture  # noqa: F401 - two are fixtures

import railtracks as rt


@rt.function_node
async def leaf(number: int) -> int:
    DONE.append(number)
    return number


async def block(store: rt.DurableStore, name: str | None, number: int) -> None:
    async with rt.Session(name=name, durable=store, save_state=False):
        await rt.call(leaf, number)


async def interrupted_and_resumed(store: rt.DurableStore, body: Callable[[], Awaitable[object]]) -> None:
    """Run a flow that is interrupted after its body, and resume it: nothing of the body runs again."""
    stopped = [True]

    async def main() -> None:
        await body()
        if stopped:
            stopped.clear()
            raise KeyboardInterrupt

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    first = sorted(DONE)
    await flow.aresume("s")
    assert sorted(DONE) == first


async def test_blocks_with_names_of_their_own_find_their_records_in_whatever_order_the_tasks_run(
    store: rt.DurableStore,
) -> None:
    async def body() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(block, store, f"b{number}", number)

    await interrupted_and_resumed(store, body)
    assert sorted(DONE) == [*range(8)]


@pytest.mark.parametrize(("name", "words"), [("same", "named 'same'"), (None, "without a name")])
async def test_a_block_like_that_of_a_sibling_task_is_refused_in_the_first_run(
    store: rt.DurableStore, name: str | None, words: str
) -> None:
    refused: list[str] = []

    async def one(number: int) -> None:
        try:
            await block(store, name, number)
        except rt.ContextError as error:
            refused.append(str(error))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, 1)
            nursery.start_soon(one, 2)

    await flow_of(store, main).ainvoke()
    assert len(DONE) == 1
    assert len(refused) == 1
    assert words in refused[0]
    assert "rt.Session(name=...)" in refused[0]


async def test_a_block_like_that_of_a_sibling_task_that_has_ended_is_refused_as_well(store: rt.DurableStore) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            ended = trio.Event()

            async def first() -> None:
                await block(store, "same", 1)
                ended.set()

            async def second() -> None:
                await ended.wait()
                await block(store, "other", 2)
                with pytest.raises(rt.ContextError, match="two session blocks named 'same'"):
                    await block(store, "same", 3)

            nursery.start_soon(first)
            nursery.start_soon(second)

    await flow_of(store, main).ainvoke()
    assert DONE == [1, 2]


async def test_blocks_of_one_task_and_of_nurseries_one_after_another_are_told_apart(store: rt.DurableStore) -> None:
    async def twice(number: int) -> None:
        await block(store, "same", number)
        await block(store, "same", number + 1)

    async def body() -> None:
        for number in (0, 10, 20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(twice, number)

    await interrupted_and_resumed(store, body)
    assert DONE == [0, 1, 10, 11, 20, 21]


async def test_a_block_like_that_of_the_task_around_its_nursery_is_refused(store: rt.DurableStore) -> None:
    async def around() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inside)
            await block(store, "same", 1)

    async def inside() -> None:
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(rt.ContextError, match="two session blocks"):
            await block(store, "same", 2)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(around)

    await flow_of(store, main).ainvoke()
    assert DONE == [1]
