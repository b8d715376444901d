"""What a person can read of a durable session after a resume: what failed last night, and why it was slow."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from postgres_server import url_of_store
from stored_sessions import interrupt, until

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls, sessions

# How often the entry point of the session under test was begun.
LIVES: list[int] = []


@pytest.fixture(autouse=True)
def fresh_lives() -> Iterator[None]:
    yield
    LIVES.clear()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> rt.DurableStore:
    return rt.DurableStore(url_of_store(request, tmp_path), durability="process")


def flow_of(store: rt.DurableStore, fn: Callable[..., Any], **options: Any) -> rt.Flow[..., Any]:
    return rt.Flow("flow", fn, durable=store, **options)


def saved(flow: rt.Flow[..., Any], session_id: str = "s") -> rt.ExecutionInfo:
    """Return the saved state of a session of a flow."""
    return rt.load_state(Path(os.environ["RAILTRACKS_HOME"]) / f"{flow.name}-{session_id}.json")


def told(info: rt.ExecutionInfo, *, without: str = "") -> list[tuple[Any, ...]]:
    """Return what a record tells of its calls but their numbers, in the order of their beginnings."""
    nodes = {call.id: call.node for call in info.calls}
    return [
        (nodes.get(call.parent_id or 0), call.node, call.status, call.attempt, call.started_at, call.ended_at)
        for call in sorted(info.calls, key=lambda each: each.started_at)
        if call.node != without
    ]


def is_nested(info: rt.ExecutionInfo) -> bool:
    """Return whether each call is inside the call around it, and inside the session."""
    known = {call.id: call for call in info.calls}
    return all(
        (info.started_at if call.parent_id is None else known[call.parent_id].started_at) <= call.started_at  # type: ignore[operator]
        for call in info.calls
    )


@rt.function_node
async def inner(number: int) -> int:
    raise LookupError(f"seen once: {number}")


@rt.function_node
async def tool(number: int) -> int:
    await trio.sleep(0.002)
    try:
        return await rt.call(inner, number)
    except LookupError:
        return 7


@rt.function_node(retry=rt.Retry(attempts=3, wait_initial=0.001, jitter=0.0))
async def flaky() -> int:
    if rt.current_call().attempt < 3:
        raise ConnectionError("not yet")
    return 3


async def inner_result() -> int:
    return await rt.call(flaky)


async def work() -> int:
    LIVES.append(1)
    total = sum([await rt.call(tool, 1), await rt.call(flaky), *await rt.call_batch(tool, [2, 3])])
    with trio.move_on_after(0.002):
        await rt.call(trio.sleep_forever)
    if LIVES == [1]:
        raise KeyboardInterrupt
    return total + await rt.call(tool, 4)


def test_the_record_of_a_resumed_session_has_the_calls_of_all_its_runs_with_their_times(store: rt.DurableStore) -> None:
    flow = flow_of(store, work)
    connection = flow.connect(session_id="s")
    with pytest.raises(KeyboardInterrupt):
        connection.invoke()
    before = told(store.load("s"), without="work")
    assert len(before) == 9
    resumed = flow.connect()
    assert resumed.resume("s") == 31
    for info in (resumed.info, saved(flow), store.load("s")):
        assert info is not None
        assert told(info, without="work")[: len(before)] == before
        assert is_nested(info)
        assert [call.node for call in info.calls].count("inner") == 4
        # It was interrupted and went on: its entry point has the time of its first beginning.
        (root,) = info.roots
        assert root.started_at <= before[0][4]
        assert info.started_at is not None
        assert info.started_at <= root.started_at
    ran = {call.node for call in saved(flow).calls if not call.is_replayed}
    assert ran == {"work", "sleep_forever", "tool", "inner"}
    assert sorted(call.args for call in saved(flow).calls if call.node == "inner") == [(1,), (2,), (3,), (4,)]


def test_what_failed_in_the_first_run_tells_where(store: rt.DurableStore) -> None:
    flow = flow_of(store, work)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    flow.resume("s")
    errors = [call.error for call in saved(flow).calls if call.node == "inner"]
    assert sorted(error.message for error in errors if error) == [f"seen once: {number}" for number in (1, 2, 3, 4)]
    assert all("in inner" in error.traceback for error in errors if error)


def test_what_a_run_has_not_come_to_is_in_its_record_all_the_same(store: rt.DurableStore) -> None:
    flow = flow_of(store, work)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    before = told(store.load("s"), without="work")

    async def work_again() -> int:
        raise KeyboardInterrupt

    again = flow_of(store, rt.function_node(work_again, name="work"))
    with pytest.raises(KeyboardInterrupt):
        again.resume("s")
    assert told(saved(again), without="work") == before
    assert is_nested(saved(again))
    assert flow.resume("s") == 31
    assert told(saved(flow), without="work")[: len(before)] == before


def test_a_resume_that_ends_before_a_recorded_outcome_is_handed_over_tells_the_outcome(store: rt.DurableStore) -> None:
    @rt.function_node
    async def first(number: int) -> int:
        return number

    async def main() -> None:
        LIVES.append(1)
        async with rt.open_group() as group:
            group.start_soon(first, 1)
            group.start_soon(first, 2)
            if LIVES != [1]:
                raise KeyboardInterrupt
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
    assert sorted((c.status, c.result) for c in saved(flow).calls if c.node == "first") == [
        ("completed", 1),
        ("completed", 2),
    ]


def test_a_resume_of_a_session_with_a_history_limit_keeps_as_few_calls(store: rt.DurableStore) -> None:
    flow = flow_of(store, work, history_limit=4)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    flow.resume("s")
    info = saved(flow)
    assert (len(info.calls), info.dropped_calls) == (4, 9)


def test_calls_are_recalled_however_deep_they_are_nested(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")

    @rt.function_node
    async def down(levels: int) -> int:
        return levels and await rt.call(down, levels - 1)

    async def main() -> None:
        LIVES.append(1)
        await rt.call(down, 1_100)
        if LIVES == [1]:
            raise KeyboardInterrupt

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    flow.resume("s")
    assert [call.args for call in saved(flow).calls if call.node == "down"] == [(n,) for n in range(1_100, -1, -1)]


def test_secrets_of_calls_that_do_not_run_again_stay_out_of_the_file(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process", key="k")

    @rt.function_node
    async def ask(api_key: str, text: str) -> str:
        return f"{text} with {api_key}"

    @rt.function_node
    async def outer() -> str:
        with pytest.raises(LookupError):
            await rt.call(leak, "canary-123456")
        return (await rt.call(ask, "canary-123456", text="all"))[:3]

    @rt.function_node
    async def leak(token: str) -> None:
        raise LookupError(token)

    async def main() -> None:
        LIVES.append(1)
        await rt.call(outer)
        if LIVES == [1]:
            raise KeyboardInterrupt

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    flow.resume("s")
    assert "canary" not in (Path(os.environ["RAILTRACKS_HOME"]) / "flow-s.json").read_text()
    (call,) = (call for call in saved(flow).calls if call.node == "ask")
    assert call.is_replayed
    assert "all" in (*call.args, *call.kwargs.values())


# How it stands.


async def approve() -> str:
    return await rt.wait_for_signal("go", str, park=True)


def test_a_parked_session_is_waiting_everywhere(store: rt.DurableStore) -> None:
    flow = flow_of(store, approve)
    connection = flow.connect(session_id="s")
    with pytest.raises(rt.SessionWaiting):
        connection.invoke()
    (found,) = store.sessions()
    assert connection.status == saved(flow).status == store.load("s").status == found.status == "waiting"
    for cause in (saved(flow).cause, store.load("s").cause, found.cause):
        assert cause is not None
        assert cause.kind == "parked"
        assert "waits for a signal" in (cause.reason or "")
    trio.run(partial(rt.send_signal, "s", "go", "x", store=store))
    assert flow.resume("s") == "x"
    (found,) = store.sessions()
    assert (found.cause, store.load("s").cause, saved(flow).cause, saved(flow).status) == (
        None,
        None,
        None,
        "completed",
    )


DRAINED: list[rt.Session] = []


async def ended_by_cancel(flow: rt.Flow[..., Any]) -> None:
    with pytest.raises(rt.SessionCancelledError):
        await flow.ainvoke(session_id="s")


def interrupted(kind: str, flow: rt.Flow[..., Any]) -> None:
    async def by_host() -> None:
        await interrupt(partial(flow.ainvoke, session_id="s"), lambda: LIVES)

    async def drained_by_host() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(ended_by_cancel, flow))
            await until(lambda: DRAINED)
            await DRAINED.pop().drain(0)

    if kind == "outer_scope":
        trio.run(by_host)
    elif kind == "cancel":
        trio.run(drained_by_host)
    else:
        with pytest.raises(BaseException):  # noqa: B017, PT011 - of each kind another one
            flow.invoke(session_id="s")


@pytest.mark.parametrize("kind", ["ctrl_c", "sigterm", "outer_scope", "cancel", "error"])
def test_an_interrupted_session_tells_what_has_interrupted_it(store: rt.DurableStore, kind: str) -> None:
    async def main() -> None:
        await rt.call(flaky)
        LIVES.append(1)
        if kind == "ctrl_c":
            raise KeyboardInterrupt
        if kind == "sigterm":
            signal.raise_signal(signal.SIGTERM)
        if kind == "cancel":
            DRAINED.append(rt.current_session())
        if kind == "error":
            raise SystemExit(3)
        await trio.sleep_forever()

    flow = flow_of(store, main, stop_on_sigterm=0.01)
    interrupted(kind, flow)
    (found,) = store.sessions()
    assert saved(flow).status == store.load("s").status == found.status == "interrupted"
    for cause in (saved(flow).cause, store.load("s").cause, found.cause):
        assert cause is not None
        assert cause.kind == kind


def test_a_lost_lease_is_a_cause(store: rt.DurableStore) -> None:
    async def main() -> None:
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.update(sessions).values(fence=sessions.c.fence + 1))
        await rt.call(flaky)

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionLostError):
        flow.invoke(session_id="s")
    cause = saved(flow).cause
    assert cause is not None
    assert (saved(flow).status, cause.kind) == ("interrupted", "lost_lease")
    assert "another owner" in (cause.reason or "")


def test_a_failing_store_is_a_cause(tmp_path: Path) -> None:
    def fail(place: str) -> None:
        if place == "before" and LIVES:
            raise OSError("the disk is full")

    async def main() -> None:
        LIVES.append(1)
        await rt.call(flaky)

    store = rt.DurableStore(tmp_path / "store.db", durability="process", commit_timeout=0.05)
    flow = flow_of(testing.faulty_store(store, fail), main)
    with pytest.raises(rt.StoreError):
        flow.invoke(session_id="s")
    cause = saved(flow).cause
    assert cause is not None
    assert (saved(flow).status, cause.kind) == ("interrupted", "store")
    assert "disk is full" in (cause.reason or "")


def test_the_log_says_how_an_interrupted_session_goes_on(store: rt.DurableStore, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "RT")

    async def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flow_of(store, main).invoke(session_id="s")
    assert "Flow.resume('s') goes on with it" in caplog.text


def test_a_resume_does_not_warn_about_the_state_file_of_its_own_session(store: rt.DurableStore, caplog: Any) -> None:
    flow = flow_of(store, work)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    flow.resume("s")
    assert "already exists" not in caplog.text


def test_the_state_file_of_another_session_is_warned_of(store: rt.DurableStore, caplog: Any) -> None:
    async def main() -> None:
        for session_id in ("a", "b", "b"):
            async with rt.Session(name="same", durable=store, session_id=session_id):
                pass

    trio.run(main)
    assert caplog.text.count("already exists") == 1


def test_what_is_no_file_in_the_place_of_a_state_file_is_warned_of(store: rt.DurableStore, caplog: Any) -> None:
    (Path(os.environ["RAILTRACKS_HOME"]) / "flow-s.json").mkdir(parents=True)
    assert flow_of(store, inner_result).invoke(session_id="s") == 3
    assert "already exists" in caplog.text


# Views.


def test_no_call_in_a_store_begins_before_the_call_around_it(store: rt.DurableStore) -> None:
    flow = flow_of(store, work)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    # Another machine went on, with a clock that is an hour slow.
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(
            sa.update(calls).where(calls.c.node == "inner").values(began_at=calls.c.began_at - 3600, ended_at=1.0)
        )
    assert is_nested(store.load("s"))
    flow.resume("s")
    for info in (store.load("s"), saved(flow)):
        assert is_nested(info)
        assert all(call.ended_at is None or call.ended_at >= call.started_at for call in info.calls)
    starts = [call.started_at for call in store.load("s").calls]
    assert starts == sorted(starts)


def test_a_fork_began_no_later_than_its_calls(store: rt.DurableStore) -> None:
    flow = flow_of(store, work)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    fork = store.fork("s")
    assert is_nested(store.load(fork))
    flow.resume(fork)
    assert is_nested(saved(flow, fork))


@pytest.mark.parametrize("cause", [b"no json", b"[]", b'{"kind": "x"}', b'{"kind": "error", "reason": 5}'])
def test_a_damaged_cause_costs_its_own_session_only(store: rt.DurableStore, cause: bytes) -> None:
    flow = flow_of(store, approve)
    for session_id in ("s", "t"):
        with pytest.raises(rt.SessionWaiting):
            flow.invoke(session_id=session_id)
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(sessions).where(sessions.c.session_id == "s").values(cause=cause))
    assert [str(each.status) for each in store.sessions()] == ["damaged", "waiting"]
    with pytest.raises(rt.StoreError, match="cause"):
        store.load("s")


def test_damaged_values_of_calls_that_nobody_asks_for_cost_these_only(store: rt.DurableStore) -> None:
    @rt.function_node
    async def leaf(number: int) -> int:
        return number

    @rt.function_node
    async def branch() -> int:
        with pytest.raises(LookupError):
            await rt.call(inner, 1)
        return await rt.call(leaf, 1)

    async def main() -> int:
        LIVES.append(1)
        number = await rt.call(branch)
        if LIVES == [1]:
            raise KeyboardInterrupt
        return number

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    with access_of(store).writing() as (connection, _, _owner):
        damage = sa.update(calls).where(calls.c.node.in_(["leaf", "inner"]))
        connection.execute(damage.values(arguments=b"{no json", outcome=b"{no json"))
    assert flow.resume("s") == 1
    told = {call.node: (call.args, call.result, call.error and call.error.type) for call in saved(flow).calls}
    assert told["leaf"] == (("[damaged]",), "[damaged]", None)
    assert told["inner"] == (("[damaged]",), None, "[damaged]")


# Opened again.


def test_a_session_whose_body_has_dealt_with_its_failure_does_so_again(store: rt.DurableStore) -> None:
    ran: list[int] = []

    @rt.function_node
    async def fails(number: int) -> None:
        ran.append(number)
        raise LookupError(number)

    @rt.session(durable=store, session_id="s", end_on_error=True)
    async def main() -> str:
        try:
            await rt.call(fails, 1)
        except LookupError as error:
            return f"dealt with {error}"
        return "not reached"

    for _ in range(3):
        result, session = trio.run(main)
        assert (result, session.status) == ("dealt with 1", "failed")
    assert ran == [1]
    assert [each.status for each in store.sessions()] == ["failed"]


def test_a_body_hears_again_of_what_failed_deep_down_while_other_calls_are_cancelled(store: rt.DurableStore) -> None:
    @rt.function_node
    async def around() -> None:
        LIVES.append(1)
        await rt.call(inner, 1)

    @rt.session(durable=store, session_id="s", end_on_error=True)
    async def main() -> str:
        rt.current_session().start_soon(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        try:
            await rt.call(around)
        except LookupError as error:
            return f"dealt with {error}"
        return "not reached"

    for _ in range(3):
        result, session = trio.run(main)
        assert (result, session.status) == ("dealt with seen once: 1", "failed")
    assert LIVES == [1]


def test_code_that_has_changed_is_refused_where_a_body_had_dealt_with_its_failure(store: rt.DurableStore) -> None:
    async def main(number: int) -> None:
        async with rt.Session(durable=store, session_id="s", end_on_error=True):
            for each in range(number):
                await rt.call(flaky)
                assert not each
            with pytest.raises(LookupError):
                await rt.call(inner, 1)

    trio.run(main, 0)
    with pytest.raises(rt.ReplayMismatchError):
        trio.run(main, 1)


def test_a_session_that_is_over_makes_no_new_call_without_the_option_that_ended_it(store: rt.DurableStore) -> None:
    async def main(end_on_error: bool) -> None:
        async with rt.Session(durable=store, session_id="s", end_on_error=end_on_error):
            with pytest.raises(LookupError):
                await rt.call(inner, 1)
            if not end_on_error:
                await rt.call(flaky)

    trio.run(main, True)
    with pytest.raises(rt.ContextError, match="fork"):
        trio.run(main, False)


def test_a_session_that_raised_its_failure_raises_it_again(store: rt.DurableStore) -> None:
    @rt.session(durable=store, session_id="s", end_on_error=True)
    async def main() -> None:
        LIVES.append(1)
        await rt.call(inner, 1)

    for _ in range(2):
        with pytest.raises(LookupError, match="seen once"):
            trio.run(main)
    assert LIVES == [1]
