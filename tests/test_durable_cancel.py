"""`DurableStore.cancel`: a session ends as cancelled, whoever runs it, and with it the sessions inside."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
import trio.testing
from durable_nodes import DONE, done_fixture, flow_of  # noqa: F401 - one is a fixture
from postgres_server import url_of_store
from stored_sessions import interrupt, put, until

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import FINAL, sessions

HELD = Path(__file__).parent / "scripts" / "durable_held.py"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    with quick(rt.DurableStore(url_of_store(request, tmp_path), durability="process")) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[rt.DurableStore]:
    with quick(rt.DurableStore(tmp_path / "store.db", durability="process")) as made:
        yield made


def quick(store: rt.DurableStore) -> rt.DurableStore:
    return store_with(store, patience=Patience(request=0.01, look=0.01))


def status_of(store: rt.DurableStore, session_id: str = "s") -> str:
    (found,) = [each for each in store.sessions() if each.session_id == session_id]
    return str(found.status)


def columns_of(store: rt.DurableStore, session_id: str = "s") -> Any:
    with access_of(store).reading() as (connection, _, _owner):
        return connection.execute(sa.select(sessions).where(sessions.c.session_id == session_id)).one()


async def sleeping() -> None:
    try:
        await trio.sleep_forever()
    finally:
        DONE.append("cleaned up")


async def ended(flow: rt.Flow[..., Any], session_id: str = "s", run: str = "ainvoke") -> None:
    """Run a flow that is cancelled, and note the reason."""
    try:
        await (flow.aresume(session_id) if run == "resume" else flow.ainvoke(session_id=session_id))
    except rt.SessionCancelledError as error:
        DONE.append(error.reason)


async def test_a_session_that_runs_is_cancelled_with_the_reason(store: rt.DurableStore) -> None:
    flow = flow_of(store, sleeping)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ended, flow)
        await until(lambda: store.sessions("running"))
        await trio.to_thread.run_sync(store.cancel, "s", "enough")
    assert DONE == ["cleaned up", "enough"]
    (found,) = store.sessions()
    assert found.status == "cancelled"
    assert found.ended_at is not None
    with pytest.raises(rt.SessionCancelledError, match="enough"):
        await flow.aresume("s")
    with pytest.raises(rt.SessionUnavailableError, match="is cancelled"):
        store.cancel("s")


async def test_each_session_of_many_hears_of_its_own_request(file: rt.DurableStore) -> None:
    flow = flow_of(file, sleeping)
    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(ended, flow, f"s{number}")
        await until(lambda: len(file.sessions("running")) == 12)
        # The session that looks for all is among the first.
        for number in (0, 1, 5, 11):
            file.cancel(f"s{number}", f"r{number}")
        await until(lambda: len(file.sessions("cancelled")) == 4)
        assert len(file.sessions("running")) == 8
        for session in file.sessions("running"):
            file.cancel(session.session_id)
    assert sorted(str(each) for each in DONE if each != "cleaned up") == ["None"] * 8 + ["r0", "r1", "r11", "r5"]


async def test_a_session_that_takes_long_to_end_hears_of_its_request_once(file: rt.DurableStore) -> None:
    async def lingers() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                DONE.append("cleans up")
                # Looks for requests to the other session find this one's, too.
                await until(lambda: "later" in DONE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ended, flow_of(file, lingers, name="slow"), "slow")
        nursery.start_soon(ended, flow_of(file, sleeping), "other")
        await until(lambda: len(file.sessions("running")) == 2)
        file.cancel("slow", "sooner")
        await until(lambda: DONE)
        file.cancel("other", "later")
    assert DONE == ["cleans up", "cleaned up", "later", "sooner"]


async def test_the_first_of_two_requests_counts(file: rt.DurableStore) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ended, flow_of(file, sleeping))
        await until(lambda: file.sessions("running"))
        file.cancel("s", "first")
        file.cancel("s", "second")
    assert DONE == ["cleaned up", "first"]


@pytest.mark.parametrize("status", ["interrupted", "waiting", "stuck", "running"])
def test_a_session_that_nobody_runs_is_final_at_once(store: rt.DurableStore, status: str) -> None:
    put(store, "s", status, fence=7, wakes_at=99.0, owner="dead" if status == "running" else None)
    store.cancel("s", "no use")
    (found,) = store.sessions()
    assert (found.status, found.ended_at >= found.created_at) == ("cancelled", True)
    row = columns_of(store)
    assert json.loads(row.cause) == {"kind": "cancel", "reason": "no use"}
    assert (row.owner, row.fence > 7) == (None, True)
    assert store.load("s").status is rt.Status.CANCELLED
    assert store.load("s").error.message == str(rt.SessionCancelledError("no use"))


@pytest.mark.parametrize("status", sorted(FINAL))
def test_a_session_that_is_over_cannot_be_cancelled(store: rt.DurableStore, status: str) -> None:
    put(store, "s", status)
    with pytest.raises(rt.SessionUnavailableError, match=f"is {status}"):
        store.cancel("s")


@pytest.mark.parametrize("unknown", ["t", "", "a\0b", "\ud800"])
def test_an_unknown_session_cannot_be_cancelled(store: rt.DurableStore, unknown: str) -> None:
    with pytest.raises(rt.SessionUnavailableError, match="is not in the store"):
        store.cancel(unknown)


@pytest.mark.parametrize(("reason", "error"), [(1, TypeError), ("a\0b", ValueError), ("\udc00", ValueError)])
def test_a_reason_that_is_no_text_is_refused(file: rt.DurableStore, reason: Any, error: type[Exception]) -> None:
    put(file, "s", "interrupted")
    with pytest.raises(error):
        file.cancel("s", reason)
    assert status_of(file) == "interrupted"


async def test_nothing_of_a_parked_session_runs_when_it_is_cancelled(file: rt.DurableStore, home: Path) -> None:
    async def asking() -> None:
        DONE.append("began")
        await rt.broadcast("asked")
        await rt.wait_for_signal("go", park=True)

    async def take(item: object) -> None:
        DONE.append(item)

    flow = flow_of(file, asking, save_state=True, broadcast_callback=take)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    (saved,) = home.glob("*.json")
    before = saved.read_bytes()
    file.cancel("s", "never")
    assert (DONE, saved.read_bytes()) == (["began", "asked"], before)
    with pytest.raises(rt.SessionCancelledError, match="never"):
        await flow.aresume("s")
    with pytest.raises(rt.SessionUnavailableError, match="is cancelled"):
        await rt.send_signal("s", "go", store=file)


# The end of the session.


@pytest.mark.parametrize("has_failed", [False, True])
async def test_a_request_counts_after_the_entry_point_has_ended(store: rt.DurableStore, has_failed: bool) -> None:
    closing, may_close = trio.Event(), trio.Event()

    class Slow:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *_: object) -> None:
            closing.set()
            await may_close.wait()

    async def quickly() -> str:
        await rt.current_session().enter_async_context(Slow())
        if has_failed:
            raise LookupError("why")
        return "done"

    flow = flow_of(store, quickly)
    caught: list[Exception] = []

    async def run() -> None:
        try:
            await flow.ainvoke(session_id="s")
        except (LookupError, rt.SessionCancelledError) as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await closing.wait()
        await trio.to_thread.run_sync(store.cancel, "s", "late")
        may_close.set()
    # The error of the entry point is not lost.
    assert [type(each) for each in caught] == [LookupError if has_failed else rt.SessionCancelledError]
    assert status_of(store) == "cancelled"
    with pytest.raises(rt.SessionCancelledError, match="late"):
        await flow.aresume("s")


@pytest.mark.parametrize("end", ["result", "failure", "parked", "timeout"])
async def test_a_request_counts_until_the_last_commit(file: rt.DurableStore, home: Path, end: str) -> None:
    asked: list[str] = []

    def ask(place: str) -> None:
        # The state is saved, and the final status is about to be written.
        if place == "before" and list(home.glob("*.json")) and not asked:
            asked.append(place)
            with rt.DurableStore(access_of(file).address.find().database or "") as other:
                other.cancel("s", "late")

    async def ending() -> str:
        if end == "failure":
            raise LookupError("why")
        if end == "parked":
            await rt.wait_for_signal("go", park=True)
        if end == "timeout":
            await trio.sleep_forever()
        return "done"

    never = store_with(testing.faulty_store(file, ask), patience=Patience(request=1000.0, look=0.01))
    flow = flow_of(never, ending, save_state=True, timeout=0.05 if end == "timeout" else None)
    expected = {"failure": LookupError, "timeout": rt.SessionTimeoutError}.get(end, rt.SessionCancelledError)
    with pytest.raises(expected):
        await flow.ainvoke(session_id="s")
    assert asked == ["before"]
    (saved,) = home.glob("*.json")
    assert rt.load_state(saved).status is rt.Status.CANCELLED
    assert status_of(file) == "cancelled"
    with pytest.raises(rt.SessionCancelledError, match="late"):
        await flow.aresume("s")


async def test_a_session_block_that_is_cancelled_at_its_last_commit_ends_quietly(file: rt.DurableStore) -> None:
    async with rt.Session(durable=file, session_id="s", save_state=False) as session:
        with access_of(file).writing() as (connection, _, _owner):
            connection.execute(sa.update(sessions).values(cancel_asked_at=1.0, cancel_reason="late"))
    assert session.status == "cancelled"
    assert session.cancel_reason == "late"
    assert status_of(file) == "cancelled"


# Owners that come and go.


async def test_the_next_owner_ends_a_session_before_any_of_its_code_runs(store: rt.DurableStore) -> None:
    async def main() -> None:
        DONE.append("ran")
        await trio.sleep_forever()

    flow = flow_of(store, main)
    await interrupt(partial(flow.ainvoke, session_id="s"), lambda: DONE)
    # As if its owner had died after the request, and before its look.
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).values(status="running", cancel_asked_at=1.0, cancel_reason="now"))
    DONE.clear()
    recovery = await rt.recover(store, [flow])
    assert DONE == []
    assert str(recovery.failed["s"]) == str(rt.SessionCancelledError("now"))
    assert status_of(store) == "cancelled"


def started(store: rt.DurableStore, *mode: str) -> subprocess.Popen[str]:
    url = access_of(store).address.find().render_as_string(hide_password=False)
    process = subprocess.Popen([sys.executable, HELD, url, *mode], stdout=subprocess.PIPE, text=True)
    if not mode:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.proof
def test_another_process_ends_its_session_within_two_seconds(store: rt.DurableStore) -> None:
    with started(store) as process:
        (inner,) = [each.session_id for each in store.sessions() if each.session_id != "s"]
        with pytest.raises(rt.SessionUnavailableError, match="inside session s,"):
            store.cancel(inner)
        begun = time.monotonic()
        store.cancel("s", "enough")
        while status_of(store) == "running":
            time.sleep(0.01)
        seconds = time.monotonic() - begun
        assert process.communicate() == ("cancelled: enough\n", None)
    # Two, and what a busy machine needs.
    assert seconds < 10
    assert {status_of(store, each) for each in ("s", inner)} == {"cancelled"}


@pytest.mark.proof
@pytest.mark.parametrize("by", ["the next owner", "a second request"])
def test_a_request_outlives_the_owner(store: rt.DurableStore, by: str) -> None:
    with started(store) as process:
        (inner,) = [each.session_id for each in store.sessions() if each.session_id != "s"]
        store.cancel("s", "first")
        process.kill()
    # PostgreSQL notices the death of a client some time after it.
    while status_of(store) == "running":
        time.sleep(0.01)
    # On a machine that hangs for a second the process was quicker.
    if status_of(store) == "interrupted":
        if by == "a second request":
            store.cancel("s", "second")
        with started(store, "resume") as process:
            assert process.communicate() == ("cancelled: first\n", None)
    assert {status_of(store, each) for each in ("s", inner)} == {"cancelled"}


@pytest.mark.proof
def test_requests_and_takers_race_to_one_end(store: rt.DurableStore) -> None:
    async def main() -> str:
        return "done"

    flow = flow_of(store, main)
    for number in range(40):
        session_id = f"s{number}"
        put(store, session_id, "interrupted", flow_name="flow", entry_point="main", inputs=b"[[]]", inputs_print="-")
        ends: list[str] = []

        def resume(session_id: str = session_id, ends: list[str] = ends) -> None:
            try:
                ends.append(flow.resume(session_id))
            except rt.SessionCancelledError:
                ends.append("cancelled")

        def cancel(session_id: str = session_id, ends: list[str] = ends) -> None:
            try:
                store.cancel(session_id)
            except rt.SessionUnavailableError:
                ends.append("refused")
            else:
                ends.append("asked")

        threads = [threading.Thread(target=each) for each in (resume, cancel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # What was promised is what has come: no request is forgotten, and no result is taken back.
        assert sorted(ends) in (["asked", "cancelled"], ["done", "refused"])
        assert status_of(store, session_id) == ("cancelled" if "asked" in ends else "completed")


def test_the_sessions_inside_end_in_the_same_transaction(store: rt.DurableStore) -> None:
    put(store, "outer", "waiting")
    put(store, "middle", "waiting", parent="outer")
    put(store, "inner", "interrupted", parent="middle")
    put(store, "over", "completed", parent="middle")
    put(store, "other", "interrupted")
    store.cancel("outer", "all")
    found = {each.session_id: str(each.status) for each in store.sessions()}
    ended = dict.fromkeys(("outer", "middle", "inner"), "cancelled")
    assert found == ended | {"over": "completed", "other": "interrupted"}


async def test_a_session_that_cancels_itself_leaves_none_inside_that_nobody_resumes(file: rt.DurableStore) -> None:
    async def within() -> None:
        DONE.append("began")
        await sleeping()

    inner = flow_of(file, within, name="inner")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner.ainvoke)
            await until(lambda: DONE)
            rt.current_session().cancel("enough")

    await ended(flow_of(file, main))
    assert DONE == ["began", "cleaned up", "enough"]
    assert [str(each.status) for each in file.sessions()] == ["cancelled", "cancelled"]


# What it costs.


async def test_one_look_serves_all_sessions_of_a_process(tmp_path: Path) -> None:
    looks: list[str] = []

    def count(place: str) -> None:
        if place == "before watch":
            looks.append(place)

    store = store_with(testing.faulty_store(tmp_path / "store.db", count), patience=Patience(request=0.2))
    flow = flow_of(store, sleeping)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(partial(flow.ainvoke, session_id=f"s{number}"))
        await until(lambda: len(looks) >= 4)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began > 4 * 0.19


async def test_a_store_that_cannot_be_read_for_a_time_forgets_no_request(tmp_path: Path) -> None:
    failed: list[str] = []

    def fail(place: str) -> None:
        if place == "before watch" and len(failed) < 3:
            failed.append(place)
            raise OSError("away")

    store = store_with(
        testing.faulty_store(rt.DurableStore(tmp_path / "store.db", commit_timeout=0.01), fail),
        patience=Patience(request=0.01),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ended, flow_of(store, sleeping))
        await until(lambda: store.sessions("running"))
        store.cancel("s", "enough")
    assert (DONE, len(failed)) == (["cleaned up", "enough"], 3)


async def test_a_look_that_is_on_its_way_ends_before_the_store_is_closed(tmp_path: Path) -> None:
    looking, may_end, order = threading.Event(), threading.Event(), list[str]()

    def wait(place: str) -> None:
        if place == "before watch":
            looking.set()
            may_end.wait()
        if place in {"after watch", "before closing"}:
            order.append(place)

    store = store_with(testing.faulty_store(tmp_path / "store.db", wait), patience=Patience(request=0.01))

    async def main() -> None:
        await trio.to_thread.run_sync(looking.wait)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow_of(store, main).ainvoke)
        await trio.to_thread.run_sync(looking.wait)
        # The session comes to its end meanwhile.
        with rt.DurableStore(tmp_path / "store.db") as other:
            await until(lambda: other.sessions("completed"))
        await trio.testing.wait_all_tasks_blocked(0.1)
        may_end.set()
    assert order == ["after watch", "before closing"]


async def test_a_fork_of_a_session_whose_end_was_asked_for_goes_on(file: rt.DurableStore) -> None:
    async def main() -> str:
        return "done"

    flow = flow_of(file, main)
    await flow.ainvoke(session_id="s")
    with access_of(file).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).values(cancel_asked_at=1.0, cancel_reason="no"))
    assert await flow.aresume(file.fork("s")) == "done"
