"""Whose a session is: one lease for all of a process, kept whatever happens, and let go of when it is to be."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, add, done_fixture  # noqa: F401 - one is a fixture
from postgres_server import PostgresServer
from stored_sessions import flowing_clock, renewed, until  # noqa: F401 - one is a fixture
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks._forks import count_fork
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.database import Database, Purpose, now_of
from railtracks.durable._store.schema import owners, sessions
from railtracks.durable._store.sqlite import LockFiles


async def sleeping() -> None:
    await rt.call(add, 1)
    await trio.sleep_forever()


def store_in(folder: Path, clock: MockClock | None = None, **options: Any) -> rt.DurableStore:
    store = rt.DurableStore(folder / "store.db", durability="process", **options)
    return store if clock is None else store_with(store, clock=clock.current_time)


def flow_of(store: rt.DurableStore, fn: Callable[..., Any]) -> rt.Flow[..., Any]:
    return rt.Flow("flow", rt.function_node(fn, name="main"), durable=store, save_state=False)


def lease_over(store: rt.DurableStore, clock: MockClock) -> None:
    """As if the store had been open for a long time, with no session in it."""
    clock.jump(3600)
    with access_of(store).writing() as (connection, _, owner):
        own = sa.update(owners).where(owners.c.token == owner.token)
        connection.execute(own.values(lease_until=1.0))


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_a_session_of_a_store_that_was_idle_for_long_has_a_whole_lease(
    tmp_path: Path, is_forgotten: bool, clock: MockClock
) -> None:
    mine, theirs = store_in(tmp_path, clock), store_in(tmp_path)
    with mine:
        lease_over(mine, clock)
        if is_forgotten:
            # Whoever opens the store next forgets the owners of yesterday.
            assert store_in(tmp_path).sessions() == ()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(flow_of(mine, sleeping).ainvoke, session_id="s"))
            await until(lambda: DONE)
            with pytest.raises(rt.SessionOwnedError):
                await flow_of(theirs, sleeping).aresume("s")
            nursery.cancel_scope.cancel()


async def test_a_store_that_was_idle_runs_sessions_although_its_owner_was_deleted(
    tmp_path: Path, clock: MockClock
) -> None:
    store = store_in(tmp_path, clock)
    with store:
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            assert other.execute("delete from railtracks_owners").rowcount == 1
        clock.jump(3600)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(flow_of(store, sleeping).ainvoke, session_id="s"))
            await until(lambda: DONE)
            # It is an owner again, whom others know.
            with pytest.raises(rt.SessionOwnedError):
                await flow_of(store_in(tmp_path), sleeping).aresume("s")
            nursery.cancel_scope.cancel()


async def test_who_waits_longer_than_a_lease_has_a_whole_one_then(tmp_path: Path) -> None:
    clock = MockClock(rate=1.0)
    mine, theirs = store_in(tmp_path), store_in(tmp_path, clock)
    go_on = trio.Event()
    is_waiting: list[bool] = []

    async def main() -> int:
        await go_on.wait()
        return await rt.call(add, 1)

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def first() -> None:
            async with trio.open_nursery() as inside:
                inside.start_soon(partial(flow_of(mine, main).ainvoke, session_id="s"))
                await until(lambda: is_waiting)
                lease_over(theirs, clock)
                inside.cancel_scope.cancel()
            go_on.set()

        await until(mine.sessions)
        with theirs:
            with pytest.raises(rt.SessionOwnedError):
                await flow_of(theirs, main).aresume("s")
            is_waiting.append(True)
            assert await flow_of(theirs, main).aresume("s", wait=60) == 2
            assert access_of(theirs).owner.lease.until_renewal


async def test_all_sessions_of_a_process_have_one_lease_that_one_of_them_renews(
    tmp_path: Path, clock: MockClock
) -> None:
    places: list[str] = []
    store = testing.faulty_store(store_in(tmp_path, clock), places.append)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(flow_of(store, sleeping).ainvoke)
        await until(lambda: len(DONE) == 20)
        for count in range(1, 4):
            # A third of the lease.
            clock.jump(10)
            await renewed(store)
            assert places.count("after renewal") == count
        assert {each.status for each in store.sessions()} == {"running"}
        nursery.cancel_scope.cancel()
    assert places.count("before renewal") == 3


async def test_threads_of_the_users_cost_no_session_its_lease(tmp_path: Path, clock: MockClock) -> None:
    store = store_in(tmp_path, clock)
    go_on = threading.Event()

    async def main() -> str:
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(trio.to_thread.run_sync, go_on.wait)
            for _ in range(4):
                clock.jump(10)
                await renewed(store)
            go_on.set()
        return "kept"

    try:
        assert await flow_of(store, main).ainvoke() == "kept"
    finally:
        go_on.set()


async def test_a_renewal_that_failed_is_tried_again_in_time(tmp_path: Path, clock: MockClock) -> None:
    failures = 0

    def fault(place: str) -> None:
        nonlocal failures
        if place == "inside renewal" and failures < 3:
            failures += 1
            raise OSError("locked")

    store = testing.faulty_store(store_in(tmp_path, clock), fault)

    async def main() -> str:
        clock.jump(10)
        await renewed(store)
        clock.jump(24)
        await trio.lowlevel.checkpoint()
        return "kept"

    assert await flow_of(store, main).ainvoke() == "kept"
    assert failures == 3


async def test_the_lease_is_counted_from_before_it_was_asked_for(tmp_path: Path, clock: MockClock) -> None:
    asked: list[float] = []

    def fault(place: str) -> None:
        if place == "before renewal":
            asked.append(clock.current_time())
            if len(asked) > 1:
                raise OSError("gone")
        elif place == "after renewal":
            # The answer is late.
            clock.jump(5)

    store = testing.faulty_store(store_in(tmp_path, clock), fault)
    ended: list[float] = []

    async def run() -> None:
        with pytest.raises(rt.SessionLostError):
            await flow_of(store, sleeping).ainvoke()
        ended.append(clock.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until(lambda: DONE)
        clock.jump(10)
        await until(lambda: asked)
        await renewed(store)
        # A lease of 30 seconds less a sixth of it after the renewal was sent, and not after its answer.
        clock.jump(asked[0] + 24 - clock.current_time())
        await until(lambda: len(asked) > 1)
        assert not ended
        clock.jump(asked[0] + 25 - clock.current_time())
    assert 25 <= ended[0] - asked[0] < 29


async def test_a_renewal_that_comes_too_late_opens_nothing_again(tmp_path: Path, clock: MockClock) -> None:
    go_on = threading.Event()
    errors: list[BaseException] = []

    class Slow(Database):
        @contextmanager
        def writing(self, purpose: Purpose = "request") -> Iterator[sa.Connection]:
            if purpose == "renewal":
                DONE.append("renewing")
                go_on.wait(5)
            try:
                with super().writing(purpose) as connection:
                    yield connection
            except rt.StoreError as error:
                errors.append(error)
                raise

    store = store_with(store_in(tmp_path), clock=clock.current_time, database=Slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow_of(store, sleeping).ainvoke)
        await until(lambda: DONE)
        clock.jump(10)
        await until(lambda: "renewing" in DONE)
        nursery.cancel_scope.cancel()
    go_on.set()
    await until(lambda: errors)
    assert "closed meanwhile" in str(errors[0])


def test_two_threads_do_not_take_one_session(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    refused: list[rt.SessionOwnedError] = []

    async def main() -> int:
        await rt.call(add, 1)
        await until(lambda: len(refused) == 3)
        return 1

    def run() -> None:
        try:
            flow_of(store, main).invoke(session_id="s")
        except rt.SessionOwnedError as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    with store:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert DONE == [1]
    assert [each.status for each in store.sessions()] == ["completed"]


def in_child(run: Callable[[], object]) -> None:
    """Run something in a forked child process, and assert that it succeeds there."""
    child = os.fork()
    if not child:
        code = 1
        try:
            run()
            code = 0
        except BaseException:  # noqa: BLE001 - the child has nobody else to tell
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.proof
def test_a_child_process_is_another_owner(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    store = store_in(tmp_path)
    if kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        store = rt.DurableStore(server.fresh_url())
    flow = flow_of(store, add)
    mine = access_of(store).open()[1].token

    def use() -> None:
        assert flow.invoke(1, session_id="theirs") == 2
        with store:
            assert access_of(store).owner.token != mine
            assert len(store.sessions()) == 2
            gc.collect()
            # It has closed nothing of its parent's; of SQLite's see test_durable_inheriting.py.
            if kind == "postgres":
                assert open_files().items() >= opened.items() > set()

    flow.invoke(1, session_id="mine")
    gc.collect()
    opened = open_files()
    in_child(use)
    assert flow.invoke(1, session_id="after") == 2
    with access_of(store).reading() as (connection, _, owner):
        assert list(connection.execute(sa.select(owners.c.token)).scalars()) == [owner.token] == [mine]
    access_of(store).leave()
    assert {each.status for each in store.sessions()} == {"completed"}


def open_files() -> dict[str, str]:
    """Return the databases and sockets that this process has open, by their descriptors."""
    found: dict[str, str] = {}
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            # The folder that is being listed is not there any more.
            found[each.name] = str(each.readlink())
    # filelock closes its files in a child by itself, and the locks stay with the parent.
    return {
        number: name
        for number, name in found.items()
        if name.startswith("socket:") or ("store.db" in name and not name.endswith(".lock"))
    }


def test_the_end_of_a_child_process_takes_no_lock_of_its_parent(tmp_path: Path) -> None:
    store, theirs = store_in(tmp_path), store_in(tmp_path)

    async def main() -> int:
        await rt.call(add, 1)
        in_child(lambda: store.fork("s"))
        with pytest.raises(rt.SessionOwnedError):
            await flow_of(theirs, main).aresume("s")
        return await rt.call(add, 2)

    assert flow_of(store, main).invoke(session_id="s") == 3
    assert [each.status for each in store.sessions()] == ["completed", "interrupted"]


def test_a_block_that_the_parent_entered_is_an_error_in_a_child_process(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    flow = flow_of(store, add)

    def use() -> None:
        for refused in (store.sessions, store.__enter__, partial(flow.invoke, 1), partial(store.fork, "mine")):
            with pytest.raises(rt.StoreError, match=r"open a store of its own here, rt\.DurableStore"):
                refused()
        assert flow_of(store_in(tmp_path), add).invoke(1, session_id="theirs") == 2
        # It leaves the block of its parent.
        store.__exit__(None, None, None)
        assert len(store.sessions()) == 2

    with store:
        flow.invoke(1, session_id="mine")
        in_child(use)
        assert flow.invoke(1, session_id="after") == 2
    assert {each.status for each in store.sessions()} == {"completed"}


def test_what_a_parent_process_has_open_is_left_to_it(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    access = access_of(store)
    flow = flow_of(store, add)
    # As in a child process, where coverage measures nothing: what happens there is proved above. First the child of a
    # parent that has nothing open, then of one that has.
    count_fork()
    parents = access.open()
    with store:
        count_fork()
        with pytest.raises(rt.StoreError, match="open a store of its own here"):
            flow.invoke(1)
        store.__exit__(None, None, None)
        with store:
            assert flow.invoke(1, session_id="s") == 2
            assert access.owner is not parents[1]
        store.__enter__()
    with parents[0].reading() as connection:
        assert parents[0].is_held(connection, parents[1].token)
    parents[1].close()
    parents[0].close()


def test_a_renewal_that_somebody_has_just_made_is_not_made_again(tmp_path: Path) -> None:
    clock = MockClock(rate=1.0)
    store = store_in(tmp_path, clock)
    with store:
        owner = access_of(store).owner
        lease_over(store, clock)
        owner.lease.renewed(clock.current_time())
        assert owner.renew() is None
        with access_of(store).reading() as (connection, _, _owner):
            assert list(connection.execute(sa.select(owners.c.lease_until)).scalars()) == [1.0]
            assert owner.live_owners(connection) == {}


def test_an_owner_that_the_store_has_forgotten_is_none(tmp_path: Path) -> None:
    clock = MockClock(rate=1.0)
    store = store_in(tmp_path, clock)
    with store:
        owner = access_of(store).owner
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.delete(owners))
        clock.jump(10)
        assert owner.renew() == "the store does not know this owner any more"


# Letting go.


async def test_an_open_that_fails_lets_go_of_the_session(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    broken = rt.Flow("flow", add, durable=store, save_state=False, log_file=tmp_path)
    with pytest.raises(IsADirectoryError):
        await broken.ainvoke(1, session_id="s")
    assert [each.status for each in store.sessions()] == ["interrupted"]
    # It is closed again.
    assert not (tmp_path / "store.db-wal").exists()
    assert await rt.Flow("flow", add, durable=store, save_state=False).ainvoke(1, session_id="s") == 2


async def test_a_block_whose_open_fails_is_not_even_begun(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(IsADirectoryError):
        async with rt.Session(durable=store, save_state=False, log_file=tmp_path):
            raise NotImplementedError
    assert store.sessions() == ()


class Disk:
    """A fault: a disk that has no room for commits while it is full."""

    def __init__(self) -> None:
        self.is_full = False

    def __call__(self, place: str) -> None:
        if place == "before" and self.is_full and DONE.count(1):
            raise OSError("disk full")


async def fail_beside_another(nursery: trio.Nursery, flow: rt.Flow[..., Any], disk: Disk) -> None:
    """Run a flow while its disk is full, beside another session that keeps the store open."""
    nursery.start_soon(partial(flow_of(flow.store, trio.sleep_forever).ainvoke, session_id="other"))
    await until(flow.store.sessions)
    disk.is_full = True
    with pytest.raises(rt.StoreError, match="disk full"):
        await flow.ainvoke(session_id="s")
    disk.is_full = False


async def test_a_session_that_could_not_be_written_is_resumed_here_when_the_cause_is_gone(tmp_path: Path) -> None:
    disk = Disk()
    store = testing.faulty_store(store_in(tmp_path, lease=3.0, commit_timeout=0.2), disk)

    async def main() -> int:
        return await rt.call(add, 1)

    async with trio.open_nursery() as nursery:
        await fail_beside_another(nursery, flow_of(store, main), disk)
        assert await flow_of(store, main).aresume("s") == 2
        nursery.cancel_scope.cancel()


async def test_a_session_whose_end_could_not_be_written_is_let_go_of_later(tmp_path: Path) -> None:
    disk = Disk()
    store = testing.faulty_store(store_in(tmp_path, lease=1.5, commit_timeout=0.2), disk)

    async def main() -> int:
        return await rt.call(add, 1)

    def status() -> str:
        # As another process sees it.
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            return str(
                connection.execute("select status from railtracks_sessions where session_id = 's'").fetchone()[0]
            )

    async with trio.open_nursery() as nursery:
        await fail_beside_another(nursery, flow_of(store, main), disk)
        await until(lambda: status() == "interrupted")
        nursery.cancel_scope.cancel()
    (found,) = [each for each in store.sessions() if each.session_id == "s"]
    assert found.cause is not None
    assert found.cause.kind == "store"


def test_what_is_left_behind_and_taken_again_meanwhile_is_left_alone(tmp_path: Path) -> None:
    clock = MockClock(rate=1.0)
    store = store_in(tmp_path, clock)
    with store:
        owner = access_of(store).owner
        flow_of(store, add).invoke(1, session_id="s")
        for fence in (0, 1):
            owner.leave_behind("s", fence, None)
            clock.jump(10)
            assert owner.renew() is None
        assert owner._left_behind == {}  # noqa: SLF001 - each is let go of once
        owner.leave_behind("s", 3, None)
        # What was let go of meanwhile was an earlier stay.
        owner._have_let_go({"s": (2, None)})  # noqa: SLF001 - as above
        assert owner._left_behind == {"s": (3, None)}  # noqa: SLF001 - as above
        assert [each.status for each in store.sessions()] == ["completed"]


async def test_what_comes_after_a_commit_that_could_not_be_written_is_not_written(tmp_path: Path) -> None:
    began = trio.Event()
    is_full = True

    def fault(place: str) -> None:
        if place == "before" and 1 in DONE and is_full:
            trio.from_thread.run_sync(began.set, trio_token=token)
            raise OSError("disk full")

    async def first() -> None:
        nonlocal is_full
        try:
            await rt.call(add, 1)
        finally:
            # There is room again just after its commit was given up.
            is_full = False

    async def second() -> int:
        await began.wait()
        return await rt.call(add, 2)

    async def main() -> int:
        async with rt.open_group() as group:
            group.start_soon(second)
            group.start_soon(first)
        return 1

    token = trio.lowlevel.current_trio_token()
    store = testing.faulty_store(store_in(tmp_path, lease=3.0, commit_timeout=0.3), fault)
    with pytest.raises(rt.StoreError, match="disk full"):
        await flow_of(store, main).ainvoke(session_id="s")
    assert 2 in DONE
    assert not is_full
    assert [each.node for each in store.load("s").calls] == []


@pytest.mark.proof
def test_a_locked_store_keeps_many_sessions_waiting_no_longer_than_one(tmp_path: Path) -> None:
    store = store_in(tmp_path, lease=20.0, commit_timeout=0.5)
    ended: list[float] = []

    async def one() -> None:
        with pytest.raises(rt.StoreError, match="the store could not write"):
            async with rt.Session(durable=store, save_state=False):
                DONE.append("open")
                await go_on.wait()
                await rt.call(add, 1)
        ended.append(time.monotonic())

    go_on = trio.Event()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(one)
            await until(lambda: len(DONE) == 12)
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
                other.execute("begin immediate")
                go_on.set()
                before = time.monotonic()
                await until(lambda: len(ended) == 12)
                # Two groups of commits, and two ends, of a busy store: not one after the other.
                assert time.monotonic() - before < 10

    with store:
        trio.run(main)


# PostgreSQL.


async def test_many_who_wait_for_one_session_do_not_block_one_another(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    mine = rt.DurableStore(url)
    go_on = trio.Event()

    async def main() -> int:
        await go_on.wait()
        return await rt.call(add, 1)

    results: list[int] = []

    async def wait(store: rt.DurableStore) -> None:
        results.append(await flow_of(store, main).aresume("s", wait=60))

    with mine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(flow_of(mine, main).ainvoke, session_id="s"))
            await until(mine.sessions)
            for _ in range(5):
                nursery.start_soon(wait, rt.DurableStore(url))
            await trio.sleep(0.5)
            go_on.set()
            with trio.fail_after(30):
                await until(lambda: len(results) == 5)
    assert results == [2] * 5


async def test_the_same_key_sent_at_once_is_one_signal(postgres: PostgresServer) -> None:
    url = postgres.fresh_url()
    stores = [rt.DurableStore(url) for _ in range(2)]

    async def main() -> list[Any]:
        heard = [await rt.wait_for_signal("go") for _ in range(20)]
        try:
            await rt.wait_for_signal("go", timeout=0.2)
        except rt.SignalTimeoutError:
            return sorted(heard)
        raise NotImplementedError

    async def send(store: rt.DurableStore) -> None:
        for number in range(20):
            await rt.send_signal("s", "go", number, store=store, key=f"k-{number}")

    with stores[0], stores[1]:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def senders() -> None:
                await until(stores[0].sessions)
                for store in stores:
                    nursery.start_soon(send, store)

            assert await flow_of(stores[0], main).ainvoke(session_id="s") == list(range(20))


def test_the_clock_of_a_store_is_the_databases(postgres: PostgresServer) -> None:
    store = rt.DurableStore(postgres.fresh_url())
    with access_of(store).writing() as (connection, _, _owner):
        assert abs(now_of(connection) - time.time()) < 5
        assert connection.execute(sa.select(sessions)).all() == []


def test_a_lock_that_another_process_holds_tells_that_its_owner_lives(tmp_path: Path) -> None:
    url = sa.URL.create("sqlite", database=str(tmp_path / "store.db"))
    owner, other = LockFiles(url), LockFiles(url)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert other.is_held(connection, "owner") is None
        owner.hold("owner")
        assert other.is_held(connection, "owner") is True
        owner.let_go(is_forgotten=False)
        assert other.is_held(connection, "owner") is False
    engine.dispose()
