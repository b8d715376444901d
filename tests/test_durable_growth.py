"""What stores cost as they grow: sleepers, waits, long histories, looks, and the results of finished sessions."""

from __future__ import annotations

import gc
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import flow_of
from postgres_server import url_of_store
from proof_rounds import held_to, rounds
from sqlalchemy.engine import Engine
from stored_sessions import until

import railtracks as rt
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import calls, sessions


def store_in(folder: Path, **options: Any) -> rt.DurableStore:
    """Return a store whose sessions look for signals more often than in life."""
    store = rt.DurableStore(folder / "store.db", durability="process", **options)
    return store_with(store, patience=Patience(look=0.01))


@pytest.fixture
def store(tmp_path: Path) -> rt.DurableStore:
    return store_in(tmp_path)


@rt.function_node
async def echo(number: int) -> int:
    return number


@rt.function_node
async def shout(text: str, times: int) -> str:
    return text * times


class Life:
    """Whether code is in its second life: in the first one each session is interrupted at its beginning."""

    def __init__(self) -> None:
        self.is_second = False
        self.open = 0
        self.most_open = 0

    def begin(self) -> None:
        if not self.is_second:
            raise KeyboardInterrupt

    async def interrupted(self, flow: rt.Flow[..., Any], *ids: str) -> None:
        for each in ids:
            with pytest.raises(KeyboardInterrupt):
                await flow.ainvoke(session_id=each)

    async def work(self) -> None:
        """Do something that only so many sessions may do at once."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await trio.sleep(0.01)
        self.open -= 1


def ended(store: rt.DurableStore) -> set[str]:
    return {each.session_id for each in store.sessions("completed")}


# Sessions that wait while `recover` runs them.


async def test_sessions_that_only_wait_do_not_fill_the_limit_of_recover(store: rt.DurableStore) -> None:
    life = Life()

    async def waits() -> str:
        life.begin()
        heard = await rt.wait_for_signal("go", str)
        await life.work()
        return heard

    async def short() -> int:
        life.begin()
        return await rt.call(echo, 1)

    waiting, quick = flow_of(store, waits, "waiting"), flow_of(store, short, "quick")
    await life.interrupted(waiting, "w1", "w2", "w3")
    await life.interrupted(quick, "q1", "q2")
    life.is_second = True
    with store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.recover, store, [waiting, quick], 1)
            await until(lambda: ended(store) == {"q1", "q2"})
            for each in ("w1", "w2", "w3"):
                await rt.send_signal(each, "go", "on", store=store)
    assert ended(store) == {"q1", "q2", "w1", "w2", "w3"}
    assert life.most_open == 1


async def test_a_session_that_waits_in_a_flow_inside_gives_its_place_back(store: rt.DurableStore) -> None:
    life = Life()

    async def waits() -> str:
        heard = await rt.wait_for_signal("go", str)
        await rt.call(echo, 2)
        await life.work()
        return heard

    async def main() -> str:
        life.begin()
        return await inner.ainvoke()

    inner, outer = flow_of(store, waits, "inner"), flow_of(store, main, "outer")
    await life.interrupted(outer, "a", "b")
    life.is_second = True
    with store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.recover, store, [outer], 1)
            await until(lambda: len(store.sessions(flow_name="inner")) == 2)
            for each in store.sessions(flow_name="inner"):
                await rt.send_signal(each.session_id, "go", "on", store=store)
    assert ended(store) >= {"a", "b"}
    assert life.most_open == 1


async def test_a_session_that_does_something_beside_its_wait_keeps_its_place(store: rt.DurableStore) -> None:
    life, is_enough = Life(), trio.Event()

    @rt.function_node
    async def busy() -> int:
        begun.append("busy")
        await is_enough.wait()
        return 1

    async def main() -> None:
        life.begin()
        async with rt.open_group() as group:
            group.start_soon(rt.function_node(listen))
            group.start_soon(busy)

    async def listen() -> None:
        await rt.wait_for_signal("go", str)

    begun: list[str] = []
    flow = flow_of(store, main)
    await life.interrupted(flow, "a", "b")
    life.is_second = True
    with store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.recover, store, [flow], 1)
            await until(lambda: begun)
            # Many looks for the signal.
            await trio.sleep(0.1)
            assert begun == ["busy"]
            is_enough.set()
            for each in ("a", "b"):
                await rt.send_signal(each, "go", "on", store=store)
    assert begun == ["busy", "busy"]


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_a_session_whose_wait_was_cancelled_takes_a_place_before_its_next_call(
    store: rt.DurableStore, *, is_recorded: bool
) -> None:
    life = Life()
    work = rt.function_node(durable=is_recorded)(life.work)

    async def main() -> int:
        life.begin()
        with trio.move_on_after(0.2):
            await rt.wait_for_signal("never", str)
        await rt.call(work)
        return await rt.call(echo, 1)

    flow = flow_of(store, main)
    await life.interrupted(flow, "a", "b", "c")
    life.is_second = True
    done = await rt.recover(store, [flow], limit=1)
    assert set(done.resumed) == {"a", "b", "c"}
    assert life.most_open == 1


async def test_two_waits_that_are_cancelled_at_once_take_one_place(store: rt.DurableStore) -> None:
    life, scopes, done = Life(), list[trio.CancelScope](), list[str]()

    @rt.function_node
    async def after() -> None:
        done.append("after a wait")

    async def listen() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await rt.wait_for_signal("never", str)
        await rt.call(after)

    async def two() -> None:
        life.begin()
        async with rt.open_group() as group:
            group.start_soon(rt.function_node(listen))
            group.start_soon(rt.function_node(listen))

    async def ends_both() -> None:
        life.begin()
        # It hears when there is a place: the other session has given its own back.
        await rt.wait_for_signal("go", str)
        for scope in scopes:
            scope.cancel()
        await trio.sleep(0.05)
        done.append("other session")

    waiting, other = flow_of(store, two, "waiting"), flow_of(store, ends_both, "other")
    await life.interrupted(waiting, "w")
    await life.interrupted(other, "o")
    life.is_second = True
    with store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.recover, store, [waiting, other], 1)
            await until(lambda: len(scopes) == 2)
            await rt.send_signal("o", "go", "on", store=store)
    assert done == ["other session", "after a wait", "after a wait"]
    assert ended(store) == {"w", "o"}


# What recover tells.


async def test_recover_tells_how_far_it_has_come(store: rt.DurableStore) -> None:
    life, told = Life(), list[rt.RecoveryProgress]()

    async def main() -> None:
        life.begin()

    flow = flow_of(store, main)
    await life.interrupted(flow, "a", "b")
    life.is_second = True
    await rt.recover(store, [flow], limit=1, progress=told.append)
    assert [(each.found, each.resumed, each.running, each.left) for each in told] == [
        (2, 0, 0, 2),
        (2, 0, 1, 1),
        (2, 1, 0, 1),
        (2, 1, 1, 0),
        (2, 2, 0, 0),
    ]


async def test_an_error_of_the_progress_callback_comes_out_as_it_is(store: rt.DurableStore) -> None:
    life, error = Life(), LookupError("of the callback")

    async def main() -> None:
        life.begin()
        await trio.sleep_forever()

    def progress(told: rt.RecoveryProgress) -> None:
        if told.running == 2:
            raise error

    flow = flow_of(store, main)
    await life.interrupted(flow, "a", "b")
    life.is_second = True
    with pytest.raises(LookupError) as caught:
        await rt.recover(store, [flow], progress=progress)
    assert caught.value is error
    assert {each.status for each in store.sessions()} == {"interrupted"}


@pytest.mark.parametrize("progress", [5, trio.sleep])
async def test_a_progress_callback_is_a_sync_function(store: rt.DurableStore, progress: Any) -> None:
    with pytest.raises(TypeError, match="sync function"):
        await rt.recover(store, [], progress=progress)


async def parked() -> None:
    await rt.wait_for_signal("go", park=True)


def statements_of(run: Callable[[], object]) -> int:
    """Return how many statements some work sends to databases."""
    sent: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", note)
    try:
        run()
    finally:
        sa.event.remove(Engine, "before_cursor_execute", note)
    return len(sent)


def test_what_recover_costs_does_not_grow_with_the_sleepers(store: rt.DurableStore) -> None:
    flow = flow_of(store, parked)
    with pytest.raises(rt.SessionWaiting):
        flow.invoke(session_id="s0")
    few = statements_of(lambda: trio.run(rt.recover, store, [flow]))
    for each in range(1, 8):
        with pytest.raises(rt.SessionWaiting):
            flow.invoke(session_id=f"s{each}")
    assert statements_of(lambda: trio.run(rt.recover, store, [flow])) == few
    done = trio.run(rt.recover, store, [flow])
    assert (done.sleeping, done.skipped) == (8, {})


def multiply(store: rt.DurableStore, count: int) -> None:
    """Write further sessions like the only one that there is."""
    with access_of(store).writing() as (connection, _, _owner):
        for table in (sessions, calls):
            rows = [row._asdict() for row in connection.execute(sa.select(table))]
            connection.execute(
                sa.insert(table), [{**row, "session_id": f"s{each}"} for each in range(count) for row in rows]
            )


@pytest.mark.proof
@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_recover_looks_at_10000_sleepers_in_a_fifth_of_a_second(url: str) -> None:
    sleepers = rounds(full=10_000, handful=1_000)
    store = rt.DurableStore(url, durability="process")
    flow = flow_of(store, parked)
    with pytest.raises(rt.SessionWaiting):
        flow.invoke(session_id="first")
    multiply(store, sleepers - 1)

    def spent() -> float:
        started = time.process_time()
        done = trio.run(rt.recover, store, [flow])
        seconds = time.process_time() - started
        assert (done.sleeping, done.resumed, done.skipped) == (sleepers, (), {})
        return seconds

    print(f"{sleepers} sleepers: {held_to(0.2, spent):.3f} s of CPU")  # noqa: T201 - the figure of the proof


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


# Looks.


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


async def one() -> int:
    return await rt.call(echo, 1)


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    flow_of(store, one).invoke(session_id="s")
    before = files_of(tmp_path)
    assert [each.session_id for each in store.sessions()] == ["s"]
    assert store.load("s").status is rt.Status.COMPLETED
    assert files_of(tmp_path) == before


def test_a_look_at_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    store = store_in(tmp_path / "none")
    assert store.sessions() == ()
    with pytest.raises(rt.SessionUnavailableError):
        store.load("s")
    assert not (tmp_path / "none").exists()


def test_a_look_at_a_file_without_tables_leaves_it_empty(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    assert store_in(tmp_path).sessions() == ()
    assert files_of(tmp_path) == {"store.db": b""}


def test_a_look_is_possible_beside_a_long_writer(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    flow_of(store, one).invoke(session_id="s")
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as writer:
        writer.execute("begin immediate")
        assert [each.status for each in store.sessions()] == ["completed"]
        assert store.load("s").status is rt.Status.COMPLETED
        writer.execute("rollback")


@pytest.mark.parametrize("has_log", [False, True])
def test_a_file_that_cannot_be_written_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_log: bool
) -> None:
    store = store_in(tmp_path)
    flow_of(store, one).invoke(session_id="s")
    with closing(sqlite3.connect(tmp_path / "store.db")) as reader:
        if has_log:
            # Somebody has the file open, so its log is there.
            reader.execute("select * from railtracks_sessions").fetchall()
        # Root may write whatever its mode says.
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
        assert [each.session_id for each in store.sessions()] == ["s"]


def test_a_look_at_a_newer_store_says_so(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    flow_of(store, one).invoke(session_id="s")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("update railtracks_version set version_num = '9999'")
        connection.commit()
    with pytest.raises(rt.StoreError, match="made by a newer railtracks"):
        store.sessions()


# Long histories.


def interrupted_after(store: rt.DurableStore, count: int) -> rt.Flow[..., int]:
    """Return a flow, and leave an interrupted session of it with so many calls."""
    life = Life()

    async def main() -> int:
        total = sum([await rt.call(echo, number) for number in range(count)])
        life.begin()
        return total

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="long")
    life.is_second = True
    return flow


def test_a_long_history_is_replayed_whole(store: rt.DurableStore) -> None:
    with store:
        flow = interrupted_after(store, 1_200)
        assert flow.resume("long") == sum(range(1_200))
    assert len(store.load("long").calls) == 1_201


@pytest.mark.parametrize("size", [1_000, 6_000])
def test_values_of_every_size_come_back_from_a_long_history(store: rt.DurableStore, size: int) -> None:
    life = Life()

    async def main() -> list[str]:
        told = [await rt.call(shout, str(number), size) for number in range(100)]
        life.begin()
        return told

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        life.is_second = True
        assert flow.resume("s") == [str(number) * size for number in range(100)]
    assert {call.is_replayed for call in store.load("s").calls} == {False}


def test_a_long_record_is_no_work_for_the_garbage_collector(store: rt.DurableStore) -> None:
    life, kept = Life(), list[int]()

    async def main(count: int) -> None:
        for number in range(count):
            await rt.call(echo, number)
        life.begin()
        gc.collect()
        kept.append(len(gc.get_objects()))

    flow = rt.Flow("flow", main, durable=store, save_state=False, history_limit=10)
    with store:
        for count in (20, 20, 1_000):
            life.is_second = False
            with pytest.raises(KeyboardInterrupt):
                flow.invoke(count, session_id=f"s{len(kept)}")
            life.is_second = True
            flow.resume(f"s{len(kept)}")
    # It looks through each object that can refer to others, and stops every thread meanwhile.
    assert kept[2] - kept[1] < 500


async def test_a_session_that_has_ended_leaves_nothing_to_the_garbage_collector(store: rt.DurableStore) -> None:
    async def main() -> None:
        await rt.call(echo, 1)

    flow = flow_of(store, main)
    # The store stays open meanwhile.
    async with rt.Session(session_id="other", durable=store, save_state=False):
        await flow.ainvoke(session_id="first")
        gc.collect()
        gc.disable()
        try:
            await flow.ainvoke(session_id="second")
            assert gc.collect() == 0
        finally:
            gc.enable()


async def test_other_tasks_run_while_the_calls_inside_a_recorded_call_are_taken_up(store: rt.DurableStore) -> None:
    life, counted, sessions_here = Life(), [0], list[rt.Session]()

    @rt.function_node
    async def many() -> int:
        return sum([await rt.call(echo, number) for number in range(500)])

    async def main() -> None:
        sessions_here.append(rt.current_session())
        await rt.call(many)
        life.begin()

    async def look(scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await trio.lowlevel.checkpoint()
                counted.append(sum(sum(each.counts.by_status.values()) for each in sessions_here[1:]))

    flow = flow_of(store, main)
    await life.interrupted(flow, "s")
    life.is_second = True
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, scope)
        await flow.aresume("s")
        scope.cancel()
    assert counted[-1] == 502
    # How many calls there are more than when it looked before. Trio may give one task two steps in a row.
    assert max(later - earlier for earlier, later in pairwise(counted)) <= 201


async def test_calls_that_a_resume_has_not_come_to_are_taken_up_at_its_end(store: rt.DurableStore) -> None:
    life = Life()

    async def main() -> None:
        if life.is_second:
            rt.current_session().cancel("enough")
            await trio.sleep_forever()
        await rt.call_batch(echo, range(300))
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    await life.interrupted(flow, "s")
    life.is_second = True
    connection = flow.connect()
    with pytest.raises(rt.SessionCancelledError):
        await connection.aresume("s")
    assert connection.info is not None
    assert sorted(call.args for call in connection.info.calls if call.node == "echo") == [(n,) for n in range(300)]


async def test_nothing_is_waited_for_that_is_recorded_in_a_call_that_is_cancelled_this_time(
    store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life()

    @rt.function_node
    async def inner() -> None:
        await rt.call(echo, 1)
        raise KeyboardInterrupt

    @rt.function_node
    async def outer() -> None:
        await rt.call(inner)

    async def main() -> int:
        with trio.CancelScope() as scope:
            if life.is_second:
                scope.cancel()
            await rt.call(outer)
        return await rt.call(echo, 2)

    flow = flow_of(store, main)
    await life.interrupted(flow, "s")
    life.is_second = True
    assert await flow.aresume("s") == 2
    # Else it would say after ten seconds that it goes on without the recorded order.
    assert not caplog.records


def test_a_session_that_is_begun_anew_while_it_is_read_is_not_mixed_with_the_one_before(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    flow = interrupted_after(store, 40)
    reads = 0

    def begin_anew(_: object, __: object, statement: str, *___: object) -> None:
        nonlocal reads
        reads += statement.startswith("SELECT railtracks_calls.session_id") and "LIMIT" in statement
        if reads == 2:
            reads += 1
            with closing(sqlite3.connect(tmp_path / "store.db", timeout=5)) as other:
                other.execute("delete from railtracks_calls where seq > 5")
                other.execute("update railtracks_sessions set created_at = created_at + 1, life = 'another'")
                other.commit()

    sa.event.listen(Engine, "before_cursor_execute", begin_anew)
    try:
        assert flow.resume("long") == sum(range(40))
    finally:
        sa.event.remove(Engine, "before_cursor_execute", begin_anew)
    assert [call.status for call in store.load("long").calls].count(rt.Status.COMPLETED) == 41


@pytest.mark.proof
def test_a_neighbour_of_a_long_history_keeps_its_lease(tmp_path: Path) -> None:
    quick = store_in(tmp_path, lease=1.5, commit_timeout=1)
    count = rounds(full=20_000, handful=3_000)
    with quick:
        flow = interrupted_after(quick, count)

        async def beside() -> int:
            while not is_over:  # noqa: ASYNC110 - each step is a call
                await rt.call(echo, 1)
                await trio.sleep(0.05)
            return 1

        async def main() -> None:
            nonlocal is_over
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: flow_of(quick, beside, "beside").ainvoke(session_id="beside"))
                assert await flow.aresume("long") == sum(range(count))
                is_over = True

        is_over = False
        trio.run(main)
        assert {str(each.status) for each in quick.sessions()} == {"completed"}


# Results of finished sessions.


@pytest.mark.parametrize("is_old", [False, True])
def test_the_result_of_a_finished_session_is_one_row(store: rt.DurableStore, *, is_old: bool) -> None:
    flow = flow_of(store, one)
    flow.invoke(session_id="s")
    with access_of(store).writing() as (connection, _, _owner):
        # What is not read cannot be damaged.
        connection.execute(sa.text("update railtracks_calls set arguments = 5, attempt = -1 where node = 'echo'"))
        if is_old:
            connection.execute(sa.update(sessions).values(outcome_seq=None))
    connection_of_run = flow.connect()
    assert connection_of_run.resume("s") == 1
    assert connection_of_run.status is rt.Status.COMPLETED
    with pytest.raises(rt.StoreError, match="damaged"):
        store.load("s")


class _Works:
    """Work of one session, which holds the session."""

    def __init__(self, made: WeakSet[object]) -> None:
        self.session = rt.current_session()
        made.add(self)

    async def step(self) -> int:
        return 1


def test_a_durable_session_is_freed_after_its_end_although_the_function_of_a_call_holds_it(tmp_path: Path) -> None:
    made = WeakSet[object]()

    async def main() -> int:
        return await rt.call(_Works(made).step)

    flow = rt.Flow("flow", main, durable=tmp_path / "store.db", save_state=False)
    assert [flow.invoke() for _ in range(2)] == [1, 1]
    gc.collect()
    deadline = time.monotonic() + 10
    while made and time.monotonic() < deadline:
        # A thread of Trio's that has just handed over its result may hold what it ran for a moment.
        time.sleep(0.01)
        gc.collect()
    assert not made
