"""When a durable session is parked: not while anything but waits is under way in it, however slow the store is."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from durable_nodes import DONE, done_fixture, flow_of  # noqa: F401 - a fixture
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._sessions.store import store_with
from railtracks.durable._store.patience import Patience

# How many recorded calls are replayed for much longer than the waits beside them look for their signals.
MANY = 500


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    url = url_of_store(request, tmp_path)
    with store_with(rt.DurableStore(url, durability="process"), patience=Patience(look=0.001)) as opened:
        yield opened


@rt.function_node
async def step(number: int) -> int:
    return number


async def beside_a_wait(work: Callable[[], Awaitable[object]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await rt.wait_for_signal("go", str, park=True)


async def parked(flow: rt.Flow[[], Any]) -> None:
    with pytest.raises((rt.SessionWaiting, ExceptionGroup)):
        await flow.ainvoke(session_id="s")


@pytest.mark.parametrize("is_in_block", [False, True])
async def test_what_an_earlier_run_has_not_done_runs_before_the_session_is_parked_again(
    store: rt.DurableStore, *, is_in_block: bool
) -> None:
    host = trio.CancelScope()

    @rt.function_node
    async def cut_short_at_first() -> None:
        DONE.append("begun")
        if len(DONE) == 1:
            host.cancel()
        await trio.lowlevel.checkpoint()
        DONE.append("done")

    async def work() -> None:
        for number in range(MANY):
            await rt.call(step, number)
        await rt.call(cut_short_at_first)

    async def in_block() -> None:
        async with rt.Session(name="block", durable=store, save_state=False):
            await work()

    async def main() -> None:
        await beside_a_wait(in_block if is_in_block else work)

    flow = flow_of(store, main)
    with host:
        await flow.ainvoke(session_id="s")
    assert host.cancelled_caught
    assert DONE == ["begun"]
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert DONE == ["begun", "begun", "done"]
    session = next(each for each in store.sessions() if each.session_id == "s")
    assert session.status == "waiting"


async def test_a_session_is_not_parked_while_the_arguments_of_a_call_are_written(store: rt.DurableStore) -> None:
    numbers = list(range(300_000))

    @rt.function_node
    async def count(items: list[int]) -> int:
        DONE.append("counted")
        return len(items)

    async def work() -> None:
        # Its wait has begun when this is called, or soon after.
        await rt.call(step, 1)
        await rt.call(count, numbers)

    async def main() -> None:
        await beside_a_wait(work)

    await parked(flow_of(store, main))
    assert DONE == ["counted"]


async def test_a_session_is_not_parked_while_a_block_in_it_waits_for_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    def locked() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("begin immediate")
        return connection

    async def let_go(connection: sqlite3.Connection) -> None:
        # For many looks: to look nothing has to be written.
        await trio.sleep(0.2)
        connection.close()

    with store_with(rt.DurableStore(path, durability="process"), patience=Patience(look=0.001)) as store:

        @rt.function_node(durable=False)
        async def hold_up() -> sqlite3.Connection:
            while not await trio.to_thread.run_sync(store.waits):
                pass
            return locked()

        async def work() -> None:
            with closing(await rt.call(hold_up)) as connection:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(let_go, connection)
                    async with rt.Session(name="block", durable=store, save_state=False):
                        DONE.append("in the block")

        async def main() -> None:
            await beside_a_wait(work)

        await parked(flow_of(store, main))
    assert DONE == ["in the block"]
