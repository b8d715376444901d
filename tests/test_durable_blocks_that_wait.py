"""Session blocks inside a durable session that wait for a signal: they are code of that session, and parked with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, done_fixture, flow_of  # noqa: F401 - a fixture
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.commits import Commits
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.parking import Parking
from railtracks.durable._replay.rows import RecordParent
from railtracks.durable._replay.strands import CallBody
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import sessions


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    url = url_of_store(request, tmp_path)
    with store_with(rt.DurableStore(url, durability="process"), patience=Patience(look=0.01)) as opened:
        yield opened


@rt.function_node
async def slow() -> None:
    """End long after the waits beside it have looked for their signals."""
    await trio.sleep(0.3)
    DONE.append("slow")


async def ask(store: rt.DurableStore, name: str, *, park: bool = True) -> str:
    """Wait for the signal of a name in a block of that name."""
    async with rt.Session(name=name, durable=store, save_state=False):
        heard = await rt.wait_for_signal(name, str, park=park)
    DONE.append(name)
    return heard


def statuses(store: rt.DurableStore) -> list[str]:
    return sorted(str(each.status) for each in store.sessions())


async def send(store: rt.DurableStore, name: str) -> None:
    (wait,) = (each for each in store.waits() if each.name == name)
    await rt.send_signal(wait.session_id, name, "heard", store=store)


async def parked(flow: rt.Flow[..., Any]) -> None:
    with pytest.raises((rt.SessionWaiting, ExceptionGroup)) as caught:
        await flow.ainvoke(session_id="s")
    (waiting,) = caught.value.exceptions if isinstance(caught.value, ExceptionGroup) else [caught.value]
    assert isinstance(waiting, rt.SessionWaiting)
    assert waiting.session == "s"


@pytest.mark.proof
@pytest.mark.parametrize("how", ["nursery", "call"])
async def test_a_block_is_parked_with_the_session_around_it_once_that_is_idle(store: rt.DurableStore, how: str) -> None:
    asking = rt.function_node(ask, durable=False)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, slow)
            await (ask(store, "go") if how == "nursery" else rt.call(asking, store, "go"))

    flow = flow_of(store, main)
    await parked(flow)
    assert DONE == ["slow"]
    assert statuses(store) == ["waiting", "waiting"]
    done = await rt.recover(store, [flow])
    assert (done.resumed, done.failed, done.skipped, done.sleeping) == ((), {}, {}, 2)
    await send(store, "go")
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert statuses(store) == ["completed", "completed"]
    assert DONE == ["slow", "go"]


async def test_a_timeout_of_a_block_wakes_the_session_around_it(store: rt.DurableStore) -> None:
    async def main() -> None:
        async with rt.Session(durable=store, save_state=False):
            await rt.wait_for_signal("go", str, park=True, timeout=3600)

    flow = flow_of(store, main)
    await parked(flow)
    inside = sessions.c.parent == "s"
    with access_of(store).writing() as (connection, _, _):
        assert connection.execute(sa.select(sessions.c.wakes_at).where(inside)).scalar_one() is not None
        connection.execute(sa.update(sessions).where(inside).values(wakes_at=0.0))
    # It looks once more, and waits on.
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert statuses(store) == ["waiting", "waiting"]


async def test_blocks_side_by_side_and_in_each_other_are_parked_together(store: rt.DurableStore) -> None:
    async def main() -> list[str]:
        heard: list[str] = []

        async def nested() -> None:
            async with rt.Session(name="around", durable=store, save_state=False):
                heard.append(await ask(store, "deep"))

        async def plain() -> None:
            heard.append(await ask(store, "plain"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(nested)
            nursery.start_soon(plain)
        return heard

    flow = flow_of(store, main)
    await parked(flow)
    assert statuses(store) == ["waiting"] * 4
    await send(store, "deep")
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert DONE == ["deep"]
    assert statuses(store) == ["completed", "completed", "waiting", "waiting"]
    await send(store, "plain")
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert statuses(store) == ["completed"] * 4


async def test_a_block_in_a_flow_inside_is_parked_with_that(store: rt.DurableStore) -> None:
    async def inner() -> str:
        return await ask(store, "go")

    inside = flow_of(store, inner, "inner")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, slow)
            await inside.ainvoke()

    flow = flow_of(store, main)
    await parked(flow)
    assert DONE == ["slow"]
    assert statuses(store) == ["waiting"] * 3
    await send(store, "go")
    assert (await rt.recover(store, [flow, inside])).resumed == ("s",)
    assert statuses(store) == ["completed"] * 3


@pytest.mark.proof
@pytest.mark.parametrize("where", ["outside", "inside"])
async def test_a_block_whose_code_runs_keeps_what_waits_from_being_parked(store: rt.DurableStore, where: str) -> None:
    async def busy() -> None:
        async with rt.Session(name="busy", durable=store, save_state=False) as session:
            if where == "inside":
                session.start_soon(slow)
            else:
                await slow.fn()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy)
            nursery.start_soon(ask, store, "go")

    await parked(flow_of(store, main))
    assert DONE == ["slow"]


async def test_a_session_that_waits_in_a_block_leaves_its_place_to_others(store: rt.DurableStore) -> None:
    begun: list[str] = []

    async def asks() -> None:
        if "asks" not in begun:
            begun.append("asks")
            raise KeyboardInterrupt
        await ask(store, "go", park=False)

    async def other() -> None:
        if "other" not in begun:
            begun.append("other")
            raise KeyboardInterrupt

    asking, after = flow_of(store, asks, "asks"), flow_of(store, other, "other")
    for flow in (asking, after):
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(session_id=flow.name)
    limiter = trio.CapacityLimiter(1)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def first() -> None:
                assert (await rt.recover(store, [asking], limit=limiter)).resumed == ("asks",)

            while not store.waits():  # noqa: ASYNC110 - a store is a file
                await trio.sleep(0.01)
            assert (await rt.recover(store, [after], limit=limiter)).resumed == ("other",)
            await send(store, "go")
    assert DONE == ["go"]


def test_a_wait_that_looks_once_more_when_the_session_is_parked_changes_nothing() -> None:
    ended: list[BaseException] = []

    def end(error: BaseException) -> bool:
        ended.append(error)
        # It was ending already from the second time on.
        return len(ended) == 1

    session, commits = AttachedSession(), SimpleNamespace(session_id="s", cut=lambda: None)
    session.attach(lambda *_, **__: None, end, bool)
    order = SimpleNamespace(is_moving=lambda: False)
    parking = Parking(session, cast("Commits", commits), cast("Order", order))
    parking.opened(CallBody("key", RecordParent("root"), "key"), None)
    with parking.waits("key", 5.0, may_park=True):
        for _ in range(5):
            parking.park_if_idle()
    assert (parking.is_parked, parking.wakes_at) == (True, 5.0)
    assert len(ended) == 1
