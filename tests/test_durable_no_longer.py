"""A node that is durable no longer: where its call is recorded, the code has changed, and it does not run again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import url_of_store
from retry_nodes import BROKEN, all_of, flow_of, pay, ran, status_of, world_fixture  # noqa: F401 - one is a fixture

import railtracks as rt
from railtracks.durable._sessions.store import store_with
from railtracks.durable._store.patience import Patience

# For how long the recorded order is insisted on here, in seconds.
ORDER = 0.1

Body = Callable[[], Awaitable[object]]


@pytest.fixture(name="store", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    url = url_of_store(request, tmp_path)
    with store_with(rt.DurableStore(url, durability="process"), patience=Patience(order=ORDER)) as opened:
        yield opened


@rt.function_node
async def stop() -> None:
    if "stop" in BROKEN:
        raise KeyboardInterrupt


def begun(store: rt.DurableStore, old: Body) -> rt.Flow[..., Any]:
    """Run code until its process dies; return the flow of that code."""
    flow = flow_of(store, rt.function_node(old, name="main"))
    BROKEN.add("stop")
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    BROKEN.discard("stop")
    return flow


def resume(store: rt.DurableStore, new: Body) -> Any:
    return flow_of(store, rt.function_node(new, name="main")).resume("s")


def refused(store: rt.DurableStore, old: Body, new: Body, *, match: str) -> None:
    """Check that changed code runs nothing and writes nothing: the old code goes on after it."""
    flow = begun(store, old)
    assert ran() != []
    with pytest.raises(rt.ReplayMismatchError, match=match):
        resume(store, new)
    assert ran() == []
    assert status_of(store) == "interrupted"
    flow.resume("s")
    assert ran() == []
    assert status_of(store) == "completed"


def then_stop(body: Body) -> Body:
    async def main() -> None:
        await body()
        await rt.call(stop)

    return main


async def one_by_one() -> None:
    for each in range(3):
        await rt.call(pay, each)


async def in_a_batch() -> None:
    await rt.call_batch(pay, range(3))


loose = pay.with_options(durable=False)


def test_a_node_that_is_durable_no_longer_does_not_run_again(store: rt.DurableStore) -> None:
    async def new() -> None:
        await rt.call(loose, 0)
        await rt.call(pay, 1)

    refused(store, then_stop(one_by_one), new, match="the code asks for 'pay' with durable=False")


def test_a_node_of_a_fan_out_that_is_durable_no_longer_does_not_run_again(store: rt.DurableStore) -> None:
    async def new() -> None:
        await rt.call_batch(loose, range(3))

    refused(store, then_stop(in_a_batch), new, match="the code asks for 'pay' with durable=False")


def test_an_unrecorded_call_where_a_fan_out_was_does_not_run(store: rt.DurableStore) -> None:
    async def new() -> None:
        await rt.call(loose, 0)

    refused(store, then_stop(in_a_batch), new, match="the code asks for 'pay' with durable=False")


def test_durable_and_other_nodes_in_one_fan_out_keep_to_their_places(store: rt.DurableStore) -> None:
    async def main() -> list[object]:
        async with rt.open_group() as group:
            made = [group.start_soon(node, place) for place, node in enumerate((pay, loose, pay))]
        await rt.call(stop)
        return [each.result() for each in made]

    flow = begun(store, main)
    assert sorted(ran()) == [0, 1, 2]
    assert flow.resume("s") == [0, 1, 2]
    assert ran() == [1]
