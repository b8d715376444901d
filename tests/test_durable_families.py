"""Sessions inside others that are kept in another store, and ids that several sessions have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, add, done_fixture, flow_of  # noqa: F401 - a fixture
from postgres_server import url_of_store
from stored_sessions import put, put_calls, until

import railtracks as rt
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._sessions.wakeups import is_due
from railtracks.durable._store.database import now_of
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.progress import progress_of
from railtracks.durable._store.schema import sessions


@pytest.fixture(name="stores", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def _stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[rt.DurableStore, ...]]:
    """Gives three stores, kept open."""
    urls = [url_of_store(request, tmp_path / name) for name in ("first", "second", "third")]
    first, second, third = (rt.DurableStore(url, durability="process") for url in urls)
    with first, second, third:
        yield first, second, third


@pytest.fixture(name="store")
def _store(stores: tuple[rt.DurableStore, ...]) -> rt.DurableStore:
    return stores[0]


def statuses(store: rt.DurableStore) -> dict[str, str]:
    return {each.session_id: str(each.status) for each in store.sessions()}


def status_of(store: rt.DurableStore, flow_name: str) -> str:
    return "".join(str(each.status) for each in store.sessions(flow_name=flow_name))


def id_of(store: rt.DurableStore, flow_name: str) -> str:
    (found,) = store.sessions(flow_name=flow_name)
    return found.session_id


def column_of(store: rt.DurableStore, session_id: str, column: sa.Column[Any]) -> Any:
    with access_of(store).reading() as (connection, _, _owner):
        return connection.execute(sa.select(column).where(sessions.c.session_id == session_id)).scalar_one()


# An inner flow that is kept in another store.


class Orders:
    """A flow whose sessions are in one store, around a flow with sessions in another one."""

    def __init__(self, outer: rt.DurableStore, inner: rt.DurableStore) -> None:
        self.inner = flow_of(inner, self._approve, "approve")
        self.outer = flow_of(outer, self._handle, "handle")
        self.own = flow_of(inner, self._own, "own")
        self._outer_store = outer
        self._store = inner

    async def _approve(self) -> str:
        await rt.call(add, 1)
        return str(await rt.wait_for_signal("go", park=True))

    async def _handle(self) -> str:
        return f"approved: {await self.inner.ainvoke()}"

    async def _own(self, *, waits: bool) -> None:
        """Run in the other store under the id that the outer session has in its own."""
        if waits:
            await rt.wait_for_signal("go", park=True)

    async def begin(self) -> str:
        """Begin an order, which waits for its inner session; return the id of that one."""
        with pytest.raises(rt.SessionWaiting):
            await self.outer.ainvoke(session_id="order-17")
        return id_of(self._store, "approve")

    async def approve(self) -> str:
        """Send the signal, and resume the order; return its result."""
        await rt.send_signal(id_of(self._store, "approve"), "go", "yes", store=self._store)
        assert (await rt.recover(self._outer_store, [self.outer])).resumed == ("order-17",)
        return str(await self.outer.aresume("order-17"))


def pruned(store: rt.DurableStore) -> None:
    """Prune until one session has ended some time ago."""
    while not store.prune(0):
        time.sleep(0.001)


ASKED: dict[str, Callable[[rt.DurableStore], object]] = {
    "cancel": lambda store: store.cancel("order-17"),
    "delete": lambda store: store.delete("order-17"),
    "prune": pruned,
}


@pytest.mark.parametrize("asked", ASKED)
async def test_what_is_asked_of_a_session_spares_those_inside_one_of_another_store_with_the_same_id(
    stores: tuple[rt.DurableStore, ...], asked: str
) -> None:
    orders = Orders(*stores[:2])
    inner = await orders.begin()
    waits = asked != "prune"
    with pytest.raises(rt.SessionWaiting) if waits else trio.CancelScope():
        await orders.own.ainvoke(session_id="order-17", waits=waits)
    ASKED[asked](stores[1])
    assert statuses(stores[1]) == {inner: "waiting"} | ({"order-17": "cancelled"} if asked == "cancel" else {})
    assert await orders.approve() == "approved: yes"
    assert DONE == [1]


async def test_recover_never_runs_a_session_that_is_inside_one_of_another_store(
    stores: tuple[rt.DurableStore, ...],
) -> None:
    first, second, _ = stores
    orders = Orders(first, second)
    inner = await orders.begin()
    asleep = await rt.recover(second, [orders.inner])
    assert (asleep.resumed, asleep.skipped, asleep.sleeping) == ((), {}, 1)
    await rt.send_signal(inner, "go", "yes", store=second)
    first.cancel("order-17")
    done = await rt.recover(second, [orders.inner])
    assert (done.resumed, done.failed, done.sleeping) == ((), {}, 0)
    assert done.skipped == {inner: "session order-17 resumes it, which is in another store, gone or damaged"}
    # It is the outermost one of its store, and can be ended and deleted there.
    second.cancel(inner, "the order is cancelled")
    assert statuses(second) == {inner: "cancelled"}
    second.delete(inner)
    assert statuses(second) == {}


async def test_a_stuck_session_inside_one_of_another_store_is_told_and_freed_in_its_own(
    stores: tuple[rt.DurableStore, ...],
) -> None:
    orders = Orders(*stores[:2])
    inner = await orders.begin()
    with access_of(stores[1]).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).values(status="stuck", recoveries=11))
    skipped = (await rt.recover(stores[1], [orders.inner])).skipped
    assert skipped == {inner: "it is stuck: it was taken over 11 times without progress"}
    failed = (await rt.recover(stores[0], [orders.outer])).skipped
    assert "outermost one of its store" in failed["order-17"]
    stores[1].free(inner)
    assert await orders.approve() == "approved: yes"


async def test_sessions_in_two_stores_that_failed_go_on_when_both_are_retried_the_inner_one_first(
    stores: tuple[rt.DurableStore, ...],
) -> None:
    first, second, _ = stores
    broken = [True]

    async def fail() -> int:
        if broken:
            raise LookupError
        return await rt.call(add, 1)

    inner = flow_of(second, fail, "inner")

    async def main() -> int:
        return int(await inner.ainvoke())

    flow = flow_of(first, main)
    with pytest.raises(LookupError):
        await flow.ainvoke(session_id="s")
    broken.clear()
    second.retry(id_of(second, "inner"))
    assert (await rt.recover(second, [inner])).resumed == ()
    first.retry("s")
    assert (await rt.recover(first, [flow])).resumed == ("s",)
    assert await flow.aresume("s") == 2
    assert status_of(second, "inner") == "completed"


async def test_a_session_that_waits_beside_a_flow_of_another_store_is_woken_for_that(
    stores: tuple[rt.DurableStore, ...],
) -> None:
    first, second, _ = stores

    async def inner() -> str:
        return str(await rt.wait_for_signal("go", park=True))

    async def waiting() -> str:
        return str(await rt.wait_for_signal("own", park=True))

    inside = flow_of(second, inner, "inner")

    async def main() -> list[str]:
        async with rt.open_group() as group:
            found = [group.start_soon(waiting), group.start_soon(inside.ainvoke)]
        return [str(each.result()) for each in found]

    flow = flow_of(first, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    await rt.send_signal(id_of(second, "inner"), "go", "inner", store=second)
    assert (await rt.recover(first, [flow])).resumed == ("s",)
    assert status_of(second, "inner") == "completed"
    # From now on it waits for its own signal only.
    assert (await rt.recover(first, [flow])).sleeping == 1
    await rt.send_signal("s", "own", "outer", store=first)
    await rt.recover(first, [flow])
    assert await flow.aresume("s") == ["outer", "inner"]


class ThreeStores:
    """A flow around a flow around a flow that waits for a signal, each in a store of its own."""

    def __init__(self, stores: tuple[rt.DurableStore, ...], beside: Callable[..., Any] | None = None) -> None:
        self._stores = stores
        self._beside = beside
        self.innermost = flow_of(stores[2], self._wait, "innermost")
        self.middle = flow_of(stores[1], self._enclose, "middle")
        self.outermost = flow_of(stores[0], self._main, "outermost")

    async def _wait(self) -> str:
        return str(await rt.wait_for_signal("go", park=True))

    async def _enclose(self) -> str:
        return str(await self.innermost.ainvoke())

    async def _main(self) -> str:
        async with rt.open_group() as group:
            if self._beside is not None:
                group.start_soon(self._beside)
            return str(await self.middle.ainvoke())

    async def send(self) -> None:
        await rt.send_signal(id_of(self._stores[2], "innermost"), "go", "heard", store=self._stores[2])


async def test_sessions_in_three_stores_are_parked_and_wake_together(stores: tuple[rt.DurableStore, ...]) -> None:
    flows = ThreeStores(stores)
    with trio.fail_after(60), pytest.raises(rt.SessionWaiting):
        await flows.outermost.ainvoke(session_id="s")
    names = ("outermost", "middle", "innermost")
    assert [status_of(*each) for each in zip(stores, names, strict=True)] == ["waiting"] * 3
    await flows.send()
    assert (await rt.recover(stores[0], [flows.outermost])).resumed == ("s",)
    assert await flows.outermost.aresume("s") == "heard"


@pytest.mark.proof
async def test_a_busy_session_goes_on_when_one_deep_inside_in_a_third_store_hears_its_signal(
    stores: tuple[rt.DurableStore, ...],
) -> None:
    may_end = trio.Event()

    @rt.function_node
    async def busy() -> None:
        await may_end.wait()

    patient = [store_with(each, patience=Patience(look=0.001)) for each in stores]
    flows, heard = ThreeStores(tuple(patient), busy), list[str]()

    async def run() -> None:
        heard.append(await flows.outermost.ainvoke())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until(lambda: status_of(stores[1], "middle") == "waiting")
        await flows.send()
        await until(lambda: status_of(stores[1], "middle") == "completed")
        may_end.set()
    assert heard == ["heard"]


async def test_a_timeout_counts_at_its_moment_beside_a_flow_of_another_store(
    stores: tuple[rt.DurableStore, ...],
) -> None:
    first, second, _ = stores

    async def waiting() -> str:
        return str(await rt.wait_for_signal("own", timeout=3600, park=True))

    async def endless() -> str:
        return str(await rt.wait_for_signal("other", park=True))

    async def inner() -> str:
        return str(await rt.wait_for_signal("go", park=True))

    elsewhere = flow_of(second, inner, "inner")

    async def middle() -> None:
        async with rt.open_group() as group:
            group.start_soon(waiting)
            group.start_soon(endless)
            group.start_soon(elsewhere.ainvoke)

    around = flow_of(first, middle, "middle")

    async def main() -> None:
        await around.ainvoke()

    with pytest.raises(rt.SessionWaiting):
        await flow_of(first, main).ainvoke(session_id="s")
    with access_of(first).reading() as (connection, _, _owner):
        # Some seconds after the waits have begun, on a busy machine.
        now = now_of(connection)
        for session_id in ("s", id_of(first, "middle")):
            found = [is_due(connection, session_id, each, elsewhere=False) for each in (now, now + 3000, now + 3601)]
            assert found == [False, False, True]


# An id that another session had before.


def lives(store: rt.DurableStore, status: str = "interrupted", **columns: object) -> None:
    """Write a session with three that name its id as their parent's: of an earlier life, of this one, and of any."""
    put(store, "s", status, life="this")
    for name, life in (("earlier", "before"), ("own", "this"), ("old", None)):
        put(store, name, status, parent="s", parent_life=life, **columns)


def test_what_an_earlier_session_with_the_id_left_inside_is_not_cancelled(store: rt.DurableStore) -> None:
    lives(store)
    store.cancel("s")
    assert statuses(store) == {"s": "cancelled", "earlier": "interrupted", "own": "cancelled", "old": "cancelled"}
    store.cancel("earlier")
    with pytest.raises(rt.SessionUnavailableError, match="inside session s"):
        store.delete("own")


def test_what_an_earlier_session_with_the_id_left_inside_is_not_deleted(store: rt.DurableStore) -> None:
    lives(store)
    store.delete("s")
    assert statuses(store) == {"earlier": "interrupted"}


def test_prune_counts_what_an_earlier_session_with_the_id_left_inside_by_itself(store: rt.DurableStore) -> None:
    lives(store, "completed")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).values(ended_at=1.0))
    assert store.prune(1, dry_run=True) == 2
    assert store.prune(1) == 2
    assert statuses(store) == {}


def test_free_of_a_session_leaves_what_an_earlier_one_with_its_id_left_inside_stuck(store: rt.DurableStore) -> None:
    lives(store, "stuck")
    store.free("s")
    assert statuses(store) == {"s": "interrupted", "earlier": "stuck", "own": "interrupted", "old": "interrupted"}
    store.free("earlier")
    assert statuses(store)["earlier"] == "interrupted"


def test_retry_gives_no_time_to_what_an_earlier_session_with_the_id_left_inside(store: rt.DurableStore) -> None:
    lives(store, timeout=3600.0, deadline_at=1.0)
    with access_of(store).writing() as (connection, _, _owner):
        failed = sa.update(sessions).where(sessions.c.session_id == "s")
        connection.execute(failed.values(status="failed", ended_at=1.0))
    store.retry("s")
    deadlines = {each: column_of(store, each, sessions.c.deadline_at) > 1.0 for each in ("earlier", "own", "old")}
    assert deadlines == {"earlier": False, "own": True, "old": True}


def test_outcomes_inside_an_earlier_session_with_the_id_are_no_progress(store: rt.DurableStore) -> None:
    lives(store)
    for session_id, count in (("s", 1), ("earlier", 10), ("own", 100), ("old", 1000)):
        put_calls(store, session_id, count)
    with access_of(store).reading() as (connection, _, _owner):
        assert progress_of(connection, "s") == 1101


def test_check_names_what_an_earlier_session_with_the_id_left_inside(store: rt.DurableStore) -> None:
    lives(store)
    assert [(each.kind, each.session_id) for each in store.check()] == [("orphan", "earlier")]


async def test_recover_tells_what_an_earlier_session_with_the_id_left_inside_from_the_others(
    store: rt.DurableStore,
) -> None:
    async def main() -> None: ...

    lives(store, flow_name="main", entry_point="main")
    flow = flow_of(store, main, "main")
    done = await rt.recover(store, [flow])
    assert done.skipped == {
        "s": "it is a session block, which goes on when its code runs again",
        "earlier": "session s resumes it, which is in another store, gone or damaged",
    }
    store.cancel("s")
    assert (await rt.recover(store, [flow])).skipped.keys() == {"earlier"}


async def test_a_session_inside_one_whose_row_cannot_be_read_is_left_to_that(store: rt.DurableStore) -> None:
    async def main() -> None:
        DONE.append("ran")

    lives(store, flow_name="main", entry_point="main", inputs=b"[[], {}]")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).where(sessions.c.session_id == "s").values(recoveries=-1))
    done = await rt.recover(store, [flow_of(store, main, "main")])
    assert (done.resumed, done.failed, DONE) == ((), {}, [])
    assert done.skipped.keys() == {"s", "earlier", "own", "old"}


async def test_a_session_does_not_wait_for_what_an_earlier_one_with_its_id_left_inside(store: rt.DurableStore) -> None:
    async def innermost() -> str:
        return str(await rt.wait_for_signal("go", park=True))

    inner = flow_of(store, innermost, "inner")

    async def main() -> str:
        return str(await inner.ainvoke())

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    assert (await rt.recover(store, [flow])).sleeping == 2
    assert column_of(store, "s", sessions.c.life) == column_of(store, id_of(store, "inner"), sessions.c.parent_life)
    # As if the id had been given again.
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).where(sessions.c.session_id == "s").values(life="another"))
    assert (await rt.recover(store, [flow])).resumed == ("s",)


async def test_a_fork_of_a_session_inside_another_one_is_inside_none(store: rt.DurableStore) -> None:
    lives(store, seed="seed")
    fork = store.fork("own")
    assert column_of(store, fork, sessions.c.parent_life) is None
    store.delete("s")
    assert statuses(store) == {"earlier": "interrupted", fork: "interrupted"}
