"""What `rt.recover` leaves alone, and what it says of it: sessions inside others, sessions of nobody, own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, done_fixture, flow_of, hang  # noqa: F401 - a fixture
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import sessions


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    with rt.DurableStore(url_of_store(request, tmp_path), durability="process") as opened:
        yield opened


def statuses(store: rt.DurableStore) -> dict[str | None, str]:
    return {each.flow_name: str(each.status) for each in store.sessions()}


@rt.function_node
async def step(name: str) -> None:
    DONE.append(name)


# Sessions inside one that has ended.


def left_in(store: rt.DurableStore, end: str) -> tuple[rt.Flow[..., Any], rt.Flow[..., Any], rt.Flow[..., Any]]:
    """Return three flows, each in the one before; the outermost ends while the innermost waits for its signal."""

    async def innermost() -> None:
        await rt.call(step, "before")
        await rt.wait_for_signal("go", park=True)
        await rt.call(step, "after")

    async def middle() -> None:
        await deepest.ainvoke()

    async def outer() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner.ainvoke)
            while not store.waits():  # noqa: ASYNC110 - a store is a file
                await trio.sleep(0.01)
            if end == "fails":
                raise LookupError
            if end == "times out":
                await rt.call(hang)
            nursery.cancel_scope.cancel()
        return "went on"

    deepest, inner = flow_of(store, innermost, "innermost"), flow_of(store, middle, "middle")
    return flow_of(store, outer, "outer", timeout=0.5 if end == "times out" else None), inner, deepest


@pytest.mark.proof
@pytest.mark.parametrize(
    ("end", "outer"), [("completes", "completed"), ("fails", "failed"), ("times out", "timed_out")]
)
async def test_what_a_session_that_has_ended_left_inside_is_never_run_by_recover(
    store: rt.DurableStore, end: str, outer: str
) -> None:
    flows = left_in(store, end)
    with suppress(LookupError, ExceptionGroup, rt.SessionTimeoutError):
        await flows[0].ainvoke(session_id="s")
    before = statuses(store)
    assert before["outer"] == outer
    assert {before["middle"], before["innermost"]} <= {"interrupted", "waiting"}
    # Nobody is told of it as of something to answer or to mend.
    assert store.waits() == ()
    done = await rt.recover(store, flows)
    assert (done.resumed, done.failed, done.skipped, done.sleeping) == ((), {}, {}, 0)
    assert statuses(store) == before
    assert "after" not in DONE


async def test_what_a_session_that_failed_left_inside_goes_on_with_a_retry_of_it(store: rt.DurableStore) -> None:
    broken = [True]

    async def inner() -> str:
        await rt.call(step, "inside")
        if broken:
            await trio.sleep_forever()
        return "inner"

    async def fail() -> None:
        while "inside" not in DONE:  # noqa: ASYNC110 - a node of another session
            await trio.sleep(0.01)
        if broken:
            raise LookupError

    flow_inside = flow_of(store, inner, "inner")

    async def outer() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await flow_inside.ainvoke()

    flow = flow_of(store, outer, "outer")
    with pytest.RaisesGroup(LookupError):
        await flow.ainvoke(session_id="s")
    assert statuses(store)["inner"] == "interrupted"
    broken.clear()
    store.retry("s")
    assert (await rt.recover(store, [flow, flow_inside])).resumed == ("s",)
    assert statuses(store) == {"outer": "completed", "inner": "completed"}
    assert DONE == ["inside"]


# What is said of those that are left alone.


async def test_sessions_inside_that_sleep_are_a_number_also_without_their_flows(store: rt.DurableStore) -> None:
    async def inner() -> None:
        await rt.wait_for_signal("go", park=True)

    inside = flow_of(store, inner, "inner")

    async def outer() -> None:
        await inside.ainvoke()

    flow = flow_of(store, outer, "outer")
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    done = await rt.recover(store, [flow])
    assert (done.skipped, done.sleeping) == ({}, 2)


async def test_a_block_that_nobody_runs_is_told_to_go_on_with_its_code(store: rt.DurableStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        async with rt.Session(durable=store, session_id="b", save_state=False):
            raise KeyboardInterrupt
    done = await rt.recover(store, [])
    assert done.skipped == {"b": "it is a session block, which goes on when its code runs again"}


@pytest.mark.parametrize(
    "error", [rt.SessionUnavailableError("other", "is gone"), rt.SessionOwnedError("other", "host", 1, "soon")]
)
async def test_an_error_of_a_sessions_own_code_is_its_failure_whatever_its_class(
    store: rt.DurableStore, error: Exception
) -> None:
    interrupted: list[bool] = []

    async def main() -> None:
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        raise error

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    done = await rt.recover(store, [flow])
    assert (done.failed, done.skipped) == ({"s": error}, {})


async def test_a_session_whose_entry_point_has_another_name_now_is_left_alone(store: rt.DurableStore) -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await flow_of(store, main).ainvoke(session_id="s")
    done = await rt.recover(store, [flow_of(store, rt.function_node(main, name="renamed"))])
    assert done.failed == {}
    assert "entry point 'main'" in done.skipped["s"]


async def test_a_recovered_session_saves_its_state_under_the_name_that_it_was_begun_with(
    store: rt.DurableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path / "home"))
    stopped: list[bool] = []

    async def main() -> int:
        if not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return 1

    flow = flow_of(store, main, save_state=True)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    with access_of(store).writing() as (connection, _, _):
        connection.execute(sa.update(sessions).values(session_name="named"))
    assert (await rt.recover(store, [flow])).resumed == ("s",)
    assert any(each.stem == "named" for each in (tmp_path / "home").rglob("*.json"))


# What this recover did, beside others.


@pytest.mark.parametrize("fails", [False, True])
async def test_a_session_that_another_process_ended_before_its_turn_is_none_that_recover_resumed(
    store: rt.DurableStore, fails: bool
) -> None:
    ran: list[str] = []
    begun, goes_on = trio.Event(), trio.Event()

    async def main(name: str) -> None:
        ran.append(name)
        if len(ran) <= 2:
            raise KeyboardInterrupt
        if len(ran) == 3:
            begun.set()
            await goes_on.wait()
        elif fails:
            raise LookupError

    flow = flow_of(store, main)
    for name in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(name, session_id=name)
    found: list[rt.Recovery] = []

    async def recover() -> None:
        found.append(await rt.recover(store, [flow], limit=1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(recover)
        await begun.wait()
        (other,) = {"a", "b"} - {ran[2]}
        with suppress(LookupError):
            await flow.aresume(other)
        goes_on.set()
    (done,) = found
    assert (done.resumed, done.failed, done.skipped) == ((ran[2],), {}, {})
    assert {each.status for each in store.sessions()} == {"completed", "failed" if fails else "completed"}
    assert ran[3:] == [other]


async def test_the_first_error_of_the_progress_callback_ends_recover_and_comes_out_alone(
    store: rt.DurableStore,
) -> None:
    raised: list[Exception] = []

    async def main() -> None:
        if is_first:
            raise KeyboardInterrupt

    def progress(told: rt.RecoveryProgress) -> None:
        if told.running:
            raised.append(ValueError(told))
            raise raised[-1]

    is_first = True
    flow = flow_of(store, main)
    for name in ("a", "b", "c"):
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(session_id=name)
    is_first = False
    # Without a limit the tasks of all sessions have begun when the first one tells of itself.
    with pytest.raises(ValueError, match="running=1") as caught:
        await rt.recover(store, [flow], None, progress=progress)
    assert [caught.value] == raised
    assert {each.status for each in store.sessions()} == {"interrupted"}


@pytest.mark.parametrize("place", ["callback", "session"])
async def test_an_error_that_is_to_end_the_program_comes_out_of_recover_as_it_is(
    store: rt.DurableStore, place: str
) -> None:
    error = SystemExit(3)

    async def main() -> None:
        if is_first:
            raise KeyboardInterrupt
        if place == "session":
            raise error

    def progress(told: rt.RecoveryProgress) -> None:
        if told.running and place == "callback":
            raise error

    is_first = True
    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    is_first = False
    with pytest.raises(SystemExit) as caught:
        await rt.recover(store, [flow], progress=progress)
    assert caught.value is error


# Sessions inside another one.


@pytest.mark.parametrize("outer", ["is resumed", "fails", "is of another version", "is owned"])
async def test_what_becomes_of_a_session_tells_of_those_inside_it(store: rt.DurableStore, outer: str) -> None:
    begun, is_first = trio.Event(), True

    async def work() -> None:
        if is_first:
            begun.set()
            await trio.sleep_forever()

    async def main() -> None:
        await inside.ainvoke()
        if outer == "fails":
            raise LookupError

    inside = flow_of(store, work, "inner")
    flow = flow_of(store, main, "outer", version="1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: flow.ainvoke(session_id="o"))
        await begun.wait()
        if outer == "is owned":
            assert (await rt.recover(store, [flow, inside])).skipped == {"o": "a live owner has it"}
        nursery.cancel_scope.cancel()
    is_first = False
    if outer == "is of another version":
        flow = flow_of(store, main, "outer", version="2")
    done = await rt.recover(store, [flow, inside])
    assert done.skipped == ({"o": "it is of version '1'"} if outer == "is of another version" else {})
    assert done.resumed == (("o",) if outer in {"is resumed", "is owned"} else ())
    assert set(done.failed) == ({"o"} if outer == "fails" else set())
    assert done.sleeping == 0


async def test_sessions_that_are_inside_one_another_are_named_for_nothing_resumes_them(store: rt.DurableStore) -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    for name in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            await flow.ainvoke(session_id=name)
    with access_of(store).writing() as (connection, _, _):
        for name, parent in (("a", "b"), ("b", "a")):
            connection.execute(sa.update(sessions).where(sessions.c.session_id == name).values(parent=parent))
    assert set((await rt.recover(store, [flow])).skipped) == {"a", "b"}


# A session inside that is stuck.


async def test_a_session_inside_that_is_stuck_leaves_the_one_around_it_to_go_on_once_it_is_free(
    store: rt.DurableStore,
) -> None:
    stopped: list[bool] = []

    async def inner() -> str:
        if not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return "inner"

    inside = flow_of(store, inner, "inner")

    async def outer() -> Any:
        return await inside.ainvoke()

    flow = flow_of(store, outer, "outer")
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    with access_of(store).writing() as (connection, _, _):
        connection.execute(sa.update(sessions).where(sessions.c.flow_name == "inner").values(status="stuck"))
    done = await rt.recover(store, [flow, inside])
    assert "is stuck" in done.skipped["s"]
    assert r"DurableStore.free()" in done.skipped["s"]
    (inner_id,) = [each.session_id for each in store.sessions(flow_name="inner")]
    assert done.skipped[inner_id].startswith("it is stuck")
    assert statuses(store) == {"outer": "interrupted", "inner": "stuck"}
    store.free("s")
    assert (await rt.recover(store, [flow, inside])).resumed == ("s",)
    assert statuses(store) == {"outer": "completed", "inner": "completed"}


# A store that was restored.


async def test_an_id_that_a_restored_store_has_never_seen_begins_above_what_the_original_gave_out(
    store: rt.DurableStore, tmp_path: Path
) -> None:
    numbers: list[int] = []

    async def main() -> None:
        numbers.append(rt.fencing_number())

    await flow_of(store, main).ainvoke(session_id="before")
    for number in range(2):
        path = tmp_path / f"backup-{number}.db"
        store.backup(path)
        await flow_of(store, main).ainvoke(session_id=f"since-{number}")
        store = rt.DurableStore(path, durability="process")
        store.restore()
        await flow_of(store, main).ainvoke(session_id=f"since-{number}")
    _, *since = numbers
    assert since[0] < since[1]
    assert since[2] < since[3]


# Moments.


@pytest.mark.parametrize(
    "moment",
    [
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
    ],
)
async def test_sessions_are_looked_for_by_every_moment_that_there_is(store: rt.DurableStore, moment: datetime) -> None:
    async def main() -> None: ...

    await flow_of(store, main).ainvoke(session_id="s")
    is_past = moment.year < 2000
    assert len(store.sessions(since=moment)) == int(is_past)
    assert len(store.sessions(before=moment)) == int(not is_past)
