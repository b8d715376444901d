"""Whose a session is: one lease for all of a process, kept whatever happens, and let go of when it is to be."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from postgres_server import PostgresServer
from postgres_server import postgres as _postgres  # noqa: F401 - a fixture
from stored_sessions import interrupt, until

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store import ownership as _ownership
from railtracks.durable._store import writer as _writer
from railtracks.durable._store.database import now_of
from railtracks.durable._store.schema import owners, sessions

DONE: list[Any] = []


@pytest.fixture(autouse=True)
def done() -> None:
    DONE.clear()


@rt.function_node
async def add(number: int) -> int:
    DONE.append(number)
    return number + 1


async def sleeping() -> None:
    await rt.call(add, 1)
    await trio.sleep_forever()


def store_in(folder: Path, **options: Any) -> rt.DurableStore:
    return rt.DurableStore(folder / "store.db", durability="process", **options)


def flow_of(store: rt.DurableStore, fn: Callable[..., Any]) -> rt.Flow[..., Any]:
    return rt.Flow("flow", rt.function_node(fn, name="main"), durable=store, save_state=False)


def lease_over(store: rt.DurableStore) -> None:
    """As if the store had been open for a long time, with no session in it."""
    access_of(store).owner._renewed_at = 0.0  # noqa: SLF001 - long ago
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(owners).values(lease_until=1.0))


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_a_session_of_a_store_that_was_idle_for_long_has_a_whole_lease(
    tmp_path: Path, is_forgotten: bool
) -> None:
    mine, theirs = store_in(tmp_path), store_in(tmp_path)
    with mine:
        lease_over(mine)
        if is_forgotten:
            # Whoever opens the store next forgets the owners of yesterday.
            assert store_in(tmp_path).sessions() == ()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(flow_of(mine, sleeping).ainvoke, session_id="s"))
            await until(lambda: DONE)
            with pytest.raises(rt.SessionOwnedError):
                await flow_of(theirs, sleeping).aresume("s")
            nursery.cancel_scope.cancel()


async def test_who_waits_longer_than_a_lease_has_a_whole_one_then(tmp_path: Path) -> None:
    mine, theirs = store_in(tmp_path), store_in(tmp_path, lease=0.6, commit_timeout=0.3)
    go_on = trio.Event()

    async def main() -> int:
        await go_on.wait()
        return await rt.call(add, 1)

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def first() -> None:
            async with trio.open_nursery() as inside:
                inside.start_soon(partial(flow_of(mine, main).ainvoke, session_id="s"))
                await until(mine.sessions)
                await trio.sleep(1.0)
                inside.cancel_scope.cancel()
            go_on.set()

        await until(mine.sessions)
        assert await flow_of(theirs, main).aresume("s", wait=20) == 2


async def test_all_sessions_of_a_process_have_one_lease_that_one_of_them_renews(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path, lease=0.9, commit_timeout=0.4)
    renewals: list[float] = []
    prolong = _ownership.Owner._prolong  # noqa: SLF001 - counted

    def counted(self: _ownership.Owner, connection: sa.Connection) -> bool:
        renewals.append(time.monotonic())
        return prolong(self, connection)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(flow_of(store, sleeping).ainvoke)
            await until(lambda: len(DONE) == 20)
            monkeypatch.setattr(_ownership.Owner, "_prolong", counted)
            await trio.sleep(1.5)
            assert {each.status for each in store.sessions()} == {"running"}
            nursery.cancel_scope.cancel()

    await main()
    assert 3 <= len(renewals) <= 8


async def test_threads_of_the_users_cost_no_session_its_lease(tmp_path: Path) -> None:
    store = store_in(tmp_path, lease=0.9, commit_timeout=0.4)
    go_on = threading.Event()

    async def main() -> str:
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(trio.to_thread.run_sync, go_on.wait)
            await trio.sleep(1.5)
            go_on.set()
        return "kept"

    assert await flow_of(store, main).ainvoke() == "kept"


async def test_a_renewal_that_failed_is_tried_again_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path, lease=1.2, commit_timeout=0.5)
    prolong = _ownership.Owner._prolong  # noqa: SLF001 - made to fail
    failures = 0

    def failing(self: _ownership.Owner, connection: sa.Connection) -> bool:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise sa.exc.OperationalError("update", None, Exception("locked"))
        return prolong(self, connection)

    async def main() -> str:
        monkeypatch.setattr(_ownership.Owner, "_prolong", failing)
        await trio.sleep(2.0)
        return "kept"

    assert await flow_of(store, main).ainvoke() == "kept"
    assert failures == 3


async def test_the_lease_is_counted_from_before_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path, lease=1.2, commit_timeout=0.5)
    prolong = _ownership.Owner._prolong  # noqa: SLF001 - its answer comes late
    asked: list[float] = []

    def late(self: _ownership.Owner, connection: sa.Connection) -> bool:
        asked.append(time.monotonic())
        if len(asked) > 1:
            raise sa.exc.OperationalError("update", None, Exception("gone"))
        found = prolong(self, connection)
        time.sleep(0.5)
        return found

    async def main() -> None:
        monkeypatch.setattr(_ownership.Owner, "_prolong", late)
        await trio.sleep_forever()

    with pytest.raises(rt.SessionLostError):
        await flow_of(store, main).ainvoke()
    # A lease less a sixth of it after the first renewal was sent, and not after its answer.
    assert 0.9 < time.monotonic() - asked[0] < 1.4


async def test_a_renewal_that_comes_too_late_opens_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path, lease=0.6, commit_timeout=0.3)
    renew = _ownership.Owner.renew
    errors: list[BaseException] = []

    def slow(self: _ownership.Owner) -> bool:
        DONE.append("renewing")
        time.sleep(0.4)
        try:
            return renew(self)
        except rt.StoreError as error:
            errors.append(error)
            raise

    monkeypatch.setattr(_ownership.Owner, "renew", slow)
    await interrupt(flow_of(store, sleeping).ainvoke, lambda: "renewing" in DONE)
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


def test_a_child_process_is_another_owner(tmp_path: Path) -> None:
    store = store_in(tmp_path)

    async def main() -> int:
        return await rt.call(add, 1)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="mine")
        child = os.fork()
        if not child:
            code = 1
            try:
                with store:
                    flow.invoke(session_id="theirs")
                    theirs = access_of(store).owner.token
                store.__exit__(None, None, None)
                code = 0 if len(theirs) == 32 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert flow.invoke(session_id="after") == 2
        with access_of(store).reading() as (connection, _, owner):
            assert list(connection.execute(sa.select(owners.c.token)).scalars()) == [owner.token]
    assert {each.status for each in store.sessions()} == {"completed"}


def test_what_a_parent_process_has_open_is_left_to_it(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    access = access_of(store)
    access._process_id = -1  # noqa: SLF001 - of a parent that had nothing open

    async def main() -> int:
        return await rt.call(add, 1)

    with store:
        parents = access.database, access.owner
        # As if this process had been forked just now.
        access._process_id = -1  # noqa: SLF001 - of the parent
        store._entered[-1] = -1  # noqa: SLF001 - by the parent
        assert flow_of(store, main).invoke(session_id="s") == 2
        assert access._inherited[-1] == parents  # noqa: SLF001 - kept, so that nobody closes them
    parents[1].close()
    parents[0].close()
    assert [each.status for each in store.sessions()] == ["completed"]


def test_a_renewal_that_somebody_has_just_made_is_not_made_again(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with store:
        owner = access_of(store).owner
        lease_over(store)
        owner.renewed(time.monotonic())
        assert owner.renew()
        with access_of(store).reading() as (connection, _, _owner):
            assert list(connection.execute(sa.select(owners.c.lease_until)).scalars()) == [1.0]
            assert owner.live_owners(connection) == frozenset()


def test_an_owner_that_the_store_has_forgotten_is_none(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with store:
        owner = access_of(store).owner
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.delete(owners))
        owner._renewed_at = 0.0  # noqa: SLF001 - long ago
        assert not owner.renew()


# Letting go.


async def test_an_open_that_fails_lets_go_of_the_session(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    broken = rt.Flow("flow", add, durable=store, save_state=False, log_file=tmp_path)
    with pytest.raises(IsADirectoryError):
        await broken.ainvoke(1, session_id="s")
    assert [each.status for each in store.sessions()] == ["interrupted"]
    assert access_of(store)._database is None  # noqa: SLF001 - it is closed again
    assert await rt.Flow("flow", add, durable=store, save_state=False).ainvoke(1, session_id="s") == 2


async def test_a_block_whose_open_fails_is_not_even_begun(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(IsADirectoryError):
        async with rt.Session(durable=store, save_state=False, log_file=tmp_path):
            raise NotImplementedError
    assert store.sessions() == ()


def failing_after(count: int) -> Callable[[str], None]:
    def fault(place: str) -> None:
        if place == "before" and DONE.count(1) >= count:
            raise sa.exc.OperationalError("commit", None, Exception("disk full"))

    return fault


async def fail_beside_another(nursery: trio.Nursery, flow: rt.Flow[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a flow on a disk that is full for so long, while another session keeps the store open."""
    nursery.start_soon(partial(flow_of(flow.store, trio.sleep_forever).ainvoke, session_id="other"))
    await until(flow.store.sessions)
    monkeypatch.setattr(_writer, "fault", failing_after(1))
    with pytest.raises(rt.StoreError, match="disk full"):
        await flow.ainvoke(session_id="s")
    monkeypatch.setattr(_writer, "fault", None)


async def test_a_session_that_could_not_be_written_is_resumed_here_when_the_cause_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path, lease=3.0, commit_timeout=0.2)

    async def main() -> int:
        return await rt.call(add, 1)

    async with trio.open_nursery() as nursery:
        await fail_beside_another(nursery, flow_of(store, main), monkeypatch)
        assert await flow_of(store, main).aresume("s") == 2
        nursery.cancel_scope.cancel()


async def test_a_session_whose_end_could_not_be_written_is_let_go_of_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path, lease=1.5, commit_timeout=0.2)

    async def main() -> int:
        return await rt.call(add, 1)

    def status() -> str:
        # As another process sees it.
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            return str(
                connection.execute("select status from railtracks_sessions where session_id = 's'").fetchone()[0]
            )

    async with trio.open_nursery() as nursery:
        await fail_beside_another(nursery, flow_of(store, main), monkeypatch)
        assert status() == "running"
        await until(lambda: status() == "interrupted")
        nursery.cancel_scope.cancel()


def test_what_is_left_behind_and_taken_again_meanwhile_is_left_alone(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with store:
        owner = access_of(store).owner
        flow_of(store, add).invoke(1, session_id="s")
        for fence in (0, 1):
            owner.leave_behind("s", fence)
            owner._renewed_at = 0.0  # noqa: SLF001 - long ago
            assert owner.renew()
        assert owner._left_behind == {}  # noqa: SLF001 - each is let go of once
        owner.leave_behind("s", 3)
        # What was let go of meanwhile was an earlier stay.
        owner._have_let_go({"s": 2})  # noqa: SLF001 - as above
        assert owner._left_behind == {"s": 3}  # noqa: SLF001 - as above
        assert [each.status for each in store.sessions()] == ["completed"]


async def test_what_comes_after_a_commit_that_could_not_be_written_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path, lease=3.0, commit_timeout=0.3)
    began = trio.Event()
    is_full = True
    give_up = _writer.Writer._give_up  # noqa: SLF001 - there is room again just after it

    def fault(place: str) -> None:
        if place == "before" and 1 in DONE and is_full:
            trio.from_thread.run_sync(began.set, trio_token=token)
            raise sa.exc.OperationalError("commit", None, Exception("disk full"))

    def given_up(self: _writer.Writer, batch: list[_writer.Commit], error: Exception) -> None:
        nonlocal is_full
        give_up(self, batch, error)
        is_full = False

    async def second() -> int:
        await began.wait()
        return await rt.call(add, 2)

    async def main() -> int:
        async with rt.open_group() as group:
            group.start_soon(second)
            group.start_soon(add, 1)
        return 1

    token = trio.lowlevel.current_trio_token()
    monkeypatch.setattr(_writer, "fault", fault)
    monkeypatch.setattr(_writer.Writer, "_give_up", given_up)
    with pytest.raises(rt.StoreError, match="disk full"):
        await flow_of(store, main).ainvoke(session_id="s")
    assert 2 in DONE
    assert [each.node for each in store.load("s").calls] == []


def test_a_locked_store_keeps_many_sessions_waiting_no_longer_than_one(tmp_path: Path) -> None:
    store = store_in(tmp_path, lease=20.0, commit_timeout=0.5)
    ended: list[float] = []

    async def one() -> None:
        with pytest.raises(rt.StoreError, match="database is locked"):
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
                assert time.monotonic() - before < 6

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
        results.append(await flow_of(store, main).aresume("s", wait=20))

    with mine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(flow_of(mine, main).ainvoke, session_id="s"))
            await until(mine.sessions)
            for _ in range(5):
                nursery.start_soon(wait, rt.DurableStore(url))
            await trio.sleep(0.5)
            go_on.set()
            with trio.fail_after(8):
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
