"""One task of a Trio run keeps all of its sessions: whatever becomes of its own session, the others stay kept."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from durable_nodes import add, done_fixture, flow_of  # noqa: F401 - one is a fixture
from postgres_server import url_of_store
from stored_sessions import flowing_clock, renewed, until  # noqa: F401 - one is a fixture
from test_durable_owners import in_child
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks._forks import count_fork
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.keeping import Keeping, KeptSession
from railtracks.durable._store.lease import Lease
from railtracks.durable._store.patience import Patience

UNFINISHED = {"running", "interrupted"}


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_look_that_hangs_as_its_session_ends_holds_up_no_renewal(
    tmp_path: Path, is_lost: bool, clock: MockClock
) -> None:
    looking, may_look, may_end = threading.Event(), threading.Event(), trio.Event()

    def fault(place: str) -> None:
        if place == "before watch":
            looking.set()
            may_look.wait()
        if place == "before renewal" and is_lost:
            raise OSError("gone")

    store = store_with(
        testing.faulty_store(rt.DurableStore(tmp_path / "store.db", durability="process"), fault),
        clock=clock.current_time,
        patience=Patience(request=0.01),
    )
    ended: list[str] = []

    async def kept() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("second")

    async def keeping_all() -> None:
        # It was over before the others were lost.
        assert await flow_of(store, completing).ainvoke() == 1
        ended.append("first")

    async def completing() -> int:
        await may_end.wait()
        return 1

    async def waiting_behind() -> None:
        with pytest.raises(rt.SessionLostError, match="in time") if is_lost else nullcontext():
            await flow_of(store, kept).ainvoke(session_id="second")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeping_all)
        await trio.to_thread.run_sync(looking.wait)
        nursery.start_soon(waiting_behind)
        await until(lambda: len(store.sessions("running")) == 2)
        may_end.set()
        await until(lambda: store.sessions("completed"))
        # The end of the lease of 30 seconds comes near, or its renewal is due.
        clock.jump(26 if is_lost else 10)
        try:
            with trio.fail_after(20):
                await (until(lambda: ended) if is_lost else renewed(store))
                may_look.set()
                await until(lambda: "first" in ended)
        finally:
            may_look.set()
            nursery.cancel_scope.cancel()


async def test_all_sessions_are_lost_at_once_each_with_an_error_of_its_own(tmp_path: Path, clock: MockClock) -> None:
    def forget(place: str) -> None:
        if place == "before renewal":
            with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
                connection.execute("delete from railtracks_owners")

    store = store_with(
        testing.faulty_store(rt.DurableStore(tmp_path / "store.db", durability="process"), forget),
        clock=clock.current_time,
    )
    errors: dict[str, rt.SessionLostError] = {}

    async def run(session_id: str) -> None:
        with pytest.raises(rt.SessionLostError, match="does not know") as found:
            await flow_of(store, trio.sleep_forever).ainvoke(session_id=session_id)
        errors[session_id] = found.value

    async with trio.open_nursery() as nursery:
        for session_id in "abc":
            nursery.start_soon(run, session_id)
        await until(lambda: len(store.sessions("running")) == 3)
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(10)
    assert len(set(map(id, errors.values()))) == 3
    assert all(f"session {session_id} " in str(each) for session_id, each in errors.items())


async def test_a_lease_that_another_trio_run_has_renewed_is_not_renewed_again(tmp_path: Path, clock: MockClock) -> None:
    renewals: list[str] = []

    def count(place: str) -> None:
        if place == "before renewal":
            renewals.append(place)

    store = store_with(
        testing.faulty_store(rt.DurableStore(tmp_path / "store.db", durability="process"), count),
        clock=clock.current_time,
    )

    async def main() -> None:
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(9)
        access_of(store).owner.lease.renewed(clock.current_time())
        clock.jump(2)
        # The task wakes up at the time that it knew of.
        await trio.testing.wait_all_tasks_blocked()

    await flow_of(store, main).ainvoke()
    assert not renewals


async def test_the_lease_is_kept_while_a_session_that_is_cancelled_from_outside_cleans_up(
    tmp_path: Path, clock: MockClock
) -> None:
    begun, cleaning = trio.Event(), trio.Event()
    store = store_with(rt.DurableStore(tmp_path / "store.db", durability="process"), clock=clock.current_time)

    async def slow_to_leave() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                cleaning.set()
                # Three times as long as the lease of 30 seconds.
                for _ in range(9):
                    await trio.testing.wait_all_tasks_blocked()
                    clock.jump(10)
                    with trio.fail_after(5):
                        await renewed(store)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(flow_of(store, slow_to_leave).ainvoke, session_id="cleaning"))
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert cleaning.is_set()
    (session,) = store.sessions()
    assert (session.status, session.cause and session.cause.kind) == ("interrupted", "outer_scope")


async def test_a_forked_process_keeps_no_session_of_its_parent(tmp_path: Path, clock: MockClock) -> None:
    places: list[str] = []
    store = store_with(
        testing.faulty_store(rt.DurableStore(tmp_path / "store.db", durability="process"), places.append),
        clock=clock.current_time,
    )
    database, _ = access_of(store).open()

    async def main() -> None:
        await trio.testing.wait_all_tasks_blocked()
        # As in a child process, where coverage measures nothing: what happens there is proved below.
        count_fork()
        places.clear()
        # Renewals would be due, and looks for requests; at last the lease is over.
        for _ in range(7):
            clock.jump(5)
            await trio.sleep(0.05)
        assert not places

    try:
        await flow_of(store, main).ainvoke(session_id="parent's")
    finally:
        database.close()


async def go_on_in_a_fork() -> None:
    """Fork this process, which is there for one Trio run, and go on in the child; this one ends as the child does.

    The two have one epoll, and each would take wakeups of the other: only one of them can go on.
    """
    # The thread that has sent the last result may still hold a lock of Trio's, which nobody lets go of in the child.
    await trio.sleep(0.2)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # noqa: ASYNC222 - nothing else runs
    signal.alarm(20)


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.proof
def test_a_forked_process_that_sleeps_in_the_sessions_of_its_parent_leaves_them(url: str) -> None:
    store = rt.DurableStore(url, durability="process")

    async def main() -> None:
        options: Any = {"durable": store, "save_state": False}
        async with rt.Session(session_id="outer", **options), rt.Session(session_id="inner", **options):
            await rt.call(add, 1)
            await go_on_in_a_fork()
            # Longer than the pause between two looks for requests.
            await trio.sleep(2.5)

    in_child(lambda: trio.run(main))
    assert {each.session_id for each in store.sessions() if each.status in UNFINISHED} == {"outer", "inner"}


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.proof
def test_a_process_that_is_forked_during_a_look_leaves_the_session_of_its_parent(url: str) -> None:
    looking = threading.Event()

    def fault(place: str) -> None:
        if place == "before watch":
            looking.set()
            threading.Event().wait()

    store = testing.faulty_store(rt.DurableStore(url, durability="process"), fault)

    async def main() -> None:
        async with rt.Session(session_id="parent's", durable=store, save_state=False):
            await rt.call(add, 1)
            await trio.to_thread.run_sync(looking.wait)
            await go_on_in_a_fork()

    in_child(lambda: trio.run(main))
    assert [each.status in UNFINISHED for each in store.sessions()] == [True]


async def test_a_session_that_begins_while_a_lost_one_cleans_up_is_kept(tmp_path: Path, clock: MockClock) -> None:
    begun, cleaning, may_end = trio.Event(), trio.Event(), trio.Event()
    is_gone = True

    def fault(place: str) -> None:
        if place == "before renewal" and is_gone:
            raise OSError("gone")

    store = store_with(
        testing.faulty_store(rt.DurableStore(tmp_path / "store.db", durability="process"), fault),
        clock=clock.current_time,
    )

    async def slow_to_leave() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cleaning.set()
            with trio.CancelScope(shield=True):
                await may_end.wait()

    async def lost() -> None:
        with pytest.raises(rt.SessionLostError, match="in time"):
            await flow_of(store, slow_to_leave).ainvoke(session_id="first")

    async def next_one() -> None:
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(10)
        with trio.fail_after(20):
            await renewed(store)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lost)
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(26)
        await cleaning.wait()
        is_gone = False
        await flow_of(store, next_one).ainvoke()
        may_end.set()


async def test_a_look_ends_before_the_store_is_closed_also_if_its_session_was_lost(
    tmp_path: Path, clock: MockClock
) -> None:
    looking, may_look, order = threading.Event(), threading.Event(), list[str]()

    def fault(place: str) -> None:
        if place == "before watch":
            looking.set()
            may_look.wait()
        if place == "before renewal":
            raise OSError("gone")
        if place in {"after watch", "before closing"}:
            order.append(place)

    store = store_with(
        testing.faulty_store(rt.DurableStore(tmp_path / "store.db", durability="process"), fault),
        clock=clock.current_time,
        patience=Patience(request=0.01),
    )
    begun, lost = trio.Event(), trio.Event()

    async def main() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            lost.set()

    async def run() -> None:
        with pytest.raises(rt.SessionLostError, match="in time"):
            await flow_of(store, main).ainvoke()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.to_thread.run_sync(looking.wait)
            await begun.wait()
            clock.jump(26)
            await lost.wait()
            await trio.testing.wait_all_tasks_blocked(0.1)
            may_look.set()
    finally:
        may_look.set()
    assert order == ["after watch", "before closing"]


async def test_a_loss_that_is_heard_of_as_the_task_moves_ends_the_task_that_goes_on(tmp_path: Path) -> None:
    told: list[object] = []

    class MovingLease(Lease):
        """A lease that is lost at the moment at which the session ends whose task keeps all."""

        asked = 0

        @property
        def until_loss(self) -> float:
            self.asked += 1
            if self.asked == 1:
                keeping.add(KeptSession("second", nursery, told.append, told.append))
                keeping.forget("first")
                keeping.add(KeptSession("third", nursery, told.append, told.append))
            # Another session that begins meanwhile has renewed it for a moment.
            return 0.05 if self.asked == 2 else 0.0

        @property
        def until_renewal(self) -> float:
            return 600.0

    async def look() -> dict[str, str | None]:
        return {}

    with rt.DurableStore(tmp_path / "store.db", durability="process") as store:
        owner = access_of(store).owner
        owner.lease = lease = MovingLease(600.0, trio.current_time)
        keeping = Keeping(owner, look, Patience(request=600.0))
        async with trio.open_nursery() as nursery:
            keeping.add(KeptSession("first", nursery, told.append, told.append))
    assert [type(each) for each in told] == [rt.SessionLostError] * 2
    assert lease.asked == 2, "the task that went on has not ended"


async def test_the_others_stay_kept_when_the_task_that_keeps_all_fails(tmp_path: Path) -> None:
    told: list[object] = []
    goes_on = trio.Event()
    problems = iter([RuntimeError("no thread")])

    async def look() -> dict[str, str | None]:
        await trio.lowlevel.checkpoint()
        for problem in problems:
            raise problem
        goes_on.set()
        return {}

    with rt.DurableStore(tmp_path / "store.db", durability="process") as store:
        keeping = Keeping(access_of(store).owner, look, Patience(request=0.01))
        async with trio.open_nursery() as second:
            with pytest.RaisesGroup(pytest.RaisesGroup(RuntimeError)):
                async with trio.open_nursery() as first:
                    keeping.add(KeptSession("first", first, told.append, told.append))
                    keeping.add(KeptSession("second", second, told.append, told.append))
            with trio.fail_after(5):
                await goes_on.wait()
            await keeping.remove("second")
    assert not told
