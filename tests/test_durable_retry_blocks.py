"""`DurableStore.retry` and session blocks that tasks of a nursery had opened before their first call."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from retry_nodes import (
    BROKEN,
    all_of,
    flow_of,
    ran,
    store_fixture,  # noqa: F401 - a fixture
    world_fixture,  # noqa: F401 - a fixture
)

import railtracks as rt


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
