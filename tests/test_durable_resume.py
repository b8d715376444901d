"""Code that has not changed comes through every resume; in the background, in flows inside, in fan-outs left early."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, add, done_fixture, flow_of  # noqa: F401 - one is a fixture
from stored_sessions import interrupt, statuses, until

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import calls, sessions


@pytest.fixture
def store(tmp_path: Path) -> rt.DurableStore:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    # No test is to pass because a replay has given up the recorded order.
    return store_with(store, patience=Patience(order=1000.0))


@rt.function_node
async def fetch(number: int) -> int:
    await trio.lowlevel.checkpoint()
    if number == 3:
        raise LookupError(number)
    return number


@rt.function_node
async def nap(number: int) -> int:
    if number:
        await trio.sleep_forever()
    return number


def without_end(store: rt.DurableStore, *nodes: str) -> None:
    """As if the process had died before these calls came back, and the session ended."""
    with access_of(store).writing() as (connection, _, _owner):
        ends = calls.c.status.in_(["completed", "failed"])
        connection.execute(sa.delete(calls).where(calls.c.node.in_(nodes), ends))
        connection.execute(sa.update(sessions).values(status="interrupted", failure=None, ended_at=None))


# Fan-outs that are left early.


async def first_of_many() -> int:
    async with rt.as_completed(nap, range(120)) as finished:
        pending = await anext(finished)
    return await rt.call(add, pending.result())


async def first_of_some() -> int:
    async with rt.as_completed(nap, range(20), limit=5) as finished:
        pending = await anext(finished)
    return await rt.call(add, pending.result())


async def failing_batch() -> int:
    try:
        await rt.call_batch(fetch, range(120), return_exceptions=False)
    except LookupError as error:
        return await rt.call(add, error.args[0])
    raise NotImplementedError


async def failing_limited_batch() -> int:
    try:
        await rt.call_batch(fetch, range(20), limit=5, return_exceptions=False)
    except LookupError as error:
        return await rt.call(add, error.args[0])
    raise NotImplementedError


async def failing_group() -> int:
    try:
        async with rt.open_group() as group:
            group.start_soon(nap, 1)
            group.start_soon(fetch, 3)
            await rt.call(add, 0)
            group.start_soon(nap, 2)
    except LookupError as error:
        return await rt.call(add, error.args[0])
    raise NotImplementedError


@pytest.mark.parametrize("main", [first_of_many, first_of_some, failing_batch, failing_limited_batch, failing_group])
def test_a_fan_out_that_is_left_early_is_left_early_again(store: rt.DurableStore, main: Callable[..., Any]) -> None:
    flow = flow_of(store, rt.function_node(main, name="main"))
    with store:
        first = flow.invoke(session_id="s")
        DONE.clear()
        without_end(store, "main")
        assert flow.resume("s") == first
    assert DONE == []


def test_recorded_calls_of_a_group_wait_for_no_room(store: rt.DurableStore) -> None:
    async def main() -> int:
        async with rt.open_group(limit=2) as group:
            pending = [group.start_soon(add, number) for number in range(40)]
        return sum(each.result() for each in pending)

    with store:
        assert flow_of(store, main).invoke(session_id="s") == 820
        with access_of(store).writing() as (connection, _, _owner):
            gone = sa.delete(calls).where(calls.c.node == "add", calls.c.place % 2 == 0)
            connection.execute(gone)
        without_end(store, "main")
        assert flow_of(store, main).resume("s") == 820


# In the background.


@rt.function_node
async def failing_in_background() -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("in the background")


@rt.function_node(retry=rt.Retry(3, wait_initial=0.0, jitter=0.0))
async def flaky_in_background() -> None:
    DONE.append("attempt")
    if await rt.call(count_attempts) < 3:
        raise ConnectionError


@rt.function_node
async def count_attempts() -> int:
    rt.context.put("attempts", rt.context.get("attempts", 0) + 1)
    return int(rt.context.get("attempts"))


@rt.function_node
async def adding_in_background(number: int) -> None:
    await rt.call(add, number)


class Thing:
    async def work(self, number: int = 3) -> None:
        DONE.append((self, number))
        await rt.call(add, number)


async def test_a_background_call_that_failed_fails_the_resumed_session_too(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        rt.current_session().start_soon(failing_in_background)
        return 1

    assert await testing.replay_at_every_prefix(rt.Flow("flow", main)) == 5
    assert "without the recorded order" not in caplog.text


async def test_a_background_call_goes_on_with_its_next_attempt(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        rt.current_session().start_soon(flaky_in_background)
        return await rt.call(add, 1)

    await testing.replay_at_every_prefix(rt.Flow("flow", main))
    assert "without the recorded order" not in caplog.text


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_attempts_in_the_background_that_finished_count(store: rt.DurableStore, kept: int) -> None:
    @rt.function_node
    async def start() -> None:
        rt.current_session().start_soon(flaky_in_background)

    async def main() -> None:
        await rt.call(start)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        assert DONE == ["attempt"] * 3
        with access_of(store).writing() as (connection, _, _owner):
            ended = calls.c.status.in_(["failed", "completed"])
            attempts = sa.select(calls.c.seq).where(calls.c.node == "flaky_in_background", ended)
            last = connection.execute(attempts.order_by(calls.c.seq)).scalars().all()[kept - 1]
            in_background = calls.c.node.in_(["flaky_in_background", "count_attempts"])
            connection.execute(sa.delete(calls).where(calls.c.seq > last, in_background))
        DONE.clear()
        without_end(store)
        flow.resume("s")
        assert ["attempt"] * (3 - kept) == DONE
        assert [each.status for each in store.sessions()] == ["completed"]


@pytest.mark.parametrize("change", ["node", "argument", "gone"])
def test_another_start_in_the_background_is_a_mismatch_before_it_runs(store: rt.DurableStore, change: str) -> None:
    is_changed = False

    async def main() -> None:
        await rt.call(fetch, 1)
        session = rt.current_session()
        if not is_changed:
            session.start_soon(adding_in_background, 1)
        elif change == "node":
            session.start_soon(add, 1)
        elif change == "argument":
            session.start_soon(adding_in_background, 2)
        await rt.call(fetch, 2) if not is_changed or change != "gone" else None

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        without_end(store, "main", "adding_in_background", "add")
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.delete(calls).where(calls.c.node == "fetch", calls.c.position > 1))
        is_changed = True
        DONE.clear()
        with pytest.raises(rt.ReplayMismatchError, match="adding_in_background"):
            flow.resume("s")
    assert DONE == []


@pytest.mark.parametrize("what", ["method", "partial", "local"])
def test_what_could_not_be_started_again_is_said_at_once_and_never_taken_for_something_else(
    store: rt.DurableStore, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def local(number: int) -> None:
        await rt.call(add, number)

    # A registry: no attribute and no item of what the code names is looked at.
    started: dict[str, Any] = {
        "method": rt.function_node(Thing().work, name="started"),
        "partial": rt.function_node(functools.partial(local), name="started"),
        "local": rt.function_node(local, name="started"),
    }

    @rt.function_node
    async def start() -> None:
        for number in range(2):
            rt.current_session().start_soon(started[what], number)

    async def main() -> None:
        await rt.call(start)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        assert caplog.text.count("a resumed session could not start 'started' again") == 1
        without_end(store, "started")
        DONE.clear()
        with pytest.raises(rt.StoreError, match=r"has to start 'started' again.*Flow\(background="):
            flow.resume("s")
        assert [each.status for each in store.sessions()] == ["interrupted"]
        assert DONE == []
        # What the error says to do works, for the session that was begun without it.
        flow_of(store, main, background=[started[what]]).resume("s")
        assert statuses(store, "started")[-1] == "completed"


def test_what_is_no_function_any_more_is_not_started_again(
    store: rt.DurableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        await rt.call(starting)

    with store:
        flow_of(store, main).invoke(session_id="s")
        without_end(store, "adding_in_background")
        monkeypatch.setattr(f"{__name__}.adding_in_background", Thing)
        with pytest.raises(rt.StoreError, match="names no such node"):
            flow_of(store, main).resume("s")


def test_a_renamed_background_call_is_started_again_under_its_name(store: rt.DurableStore) -> None:
    @rt.function_node
    async def start() -> None:
        rt.current_session().start_soon(adding_in_background.with_options(name="renamed"), 1)

    async def main() -> None:
        await rt.call(start)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        without_end(store, "renamed")
        flow.resume("s")
        assert statuses(store, "renamed")[-1] == "completed"
    assert DONE == [1]


def test_a_resource_is_refused_in_a_background_call_too(store: rt.DurableStore) -> None:
    @rt.function_node
    async def opening() -> None:
        await rt.current_session().enter_async_context(trio.open_nursery())

    async def main() -> None:
        rt.current_session().start_soon(opening)

    with pytest.raises(rt.ContextError, match="'opening' is recorded"):
        flow_of(store, main).invoke()


def test_what_cannot_be_read_of_a_background_call_leaves_the_session_to_be_resumed(store: rt.DurableStore) -> None:
    async def main() -> None:
        await rt.call(starting)

    with store:
        flow_of(store, main).invoke(session_id="s")
        without_end(store, "adding_in_background")
        with access_of(store).writing() as (connection, _, _owner):
            own = sa.update(calls).where(calls.c.node == "adding_in_background")
            connection.execute(own.values(arguments=b'[["no number"]]'))
        with pytest.raises(rt.StoreError, match="cannot be read with this code"):
            flow_of(store, main).resume("s")
        assert [each.status for each in store.sessions()] == ["interrupted"]


@pytest.mark.parametrize(
    ("column", "damage"),
    [
        ("outcome", None),
        ("outcome", b"no JSON"),
        ("outcome", b"{}"),
        ("outcome", b"5"),
        ("arguments", b"no JSON"),
        ("arguments", b"7"),
    ],
)
def test_a_damaged_row_is_a_store_error_that_leaves_the_session_to_be_resumed(
    store: rt.DurableStore, column: str, damage: bytes | None
) -> None:
    async def main() -> str:
        await rt.call(starting)
        return "done"

    flow = flow_of(store, main)
    own = (calls.c.node == "adding_in_background") & (calls.c.status == "started")
    with store:
        flow.invoke(session_id="s")
        without_end(store, "adding_in_background")
        with access_of(store).writing() as (connection, _, _owner):
            kept = connection.execute(sa.select(calls.c[column]).where(own)).scalar_one()
            connection.execute(sa.update(calls).where(own).values({column: damage}))
        for _ in range(2):  # The first one has given the session back, so that the second one can take it.
            with pytest.raises(rt.StoreError, match=r"session s|of node 'adding_in_background' has no outcome"):
                flow.resume("s")
        assert [each.status for each in store.sessions()] == ["interrupted"]
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.update(calls).where(own).values({column: kept}))
        assert flow.resume("s") == "done"


@pytest.mark.parametrize(
    ("argument", "column", "damage"),
    [
        (1, "outcome", None),
        (1, "outcome", b"no JSON"),
        (3, "outcome", b"no JSON"),
        (1, "context", b"no JSON"),
        (1, "context", b'{"name": 5}'),
        (1, "context", b'{"name": [NaN, 5]}'),
        (1, "context", b'{"name": [1e999, 5]}'),
        (1, "context", b'{"name": [-1, 5]}'),
        pytest.param(1, "context", b'{"name": [1%s, 5]}' % (b"0" * 400), id="a number too large for any float"),
    ],
)
def test_a_damaged_outcome_is_no_failure_of_the_node(
    store: rt.DurableStore, argument: int, column: str, damage: bytes | None
) -> None:
    async def main() -> Any:
        try:
            return await rt.call(fetch, argument)
        except Exception:  # noqa: BLE001 - no code of the user's may take that for an outcome
            return "caught"

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        without_end(store, "main")
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.update(calls).where(calls.c.node == "fetch").values({column: damage}))
        with pytest.raises(rt.StoreError):
            flow.resume("s")
        assert [each.status for each in store.sessions()] == ["interrupted"]


def test_a_session_without_its_inputs_cannot_be_resumed_and_stays_as_it_is(store: rt.DurableStore) -> None:
    async def main() -> None: ...

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        without_end(store, "main")
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.update(sessions).values(inputs=None))
        for _ in range(2):
            with pytest.raises(rt.StoreError, match="session s has no inputs"):
                flow.resume("s")
        assert [each.status for each in store.sessions()] == ["interrupted"]


@rt.function_node
async def starting() -> None:
    rt.current_session().start_soon(adding_in_background, 5)


def test_a_result_that_the_code_reads_otherwise_now_leaves_the_session_to_be_resumed(store: rt.DurableStore) -> None:
    async def number() -> int:
        return 1

    async def text() -> str:
        raise NotImplementedError

    async def main() -> Any:
        try:
            return await rt.call(rt.function_node(number if is_first else text, name="what"))
        except Exception:  # noqa: BLE001 - no code of the user's may take that for an outcome
            return "caught"

    is_first = True
    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        without_end(store, "main")
        is_first = False
        with pytest.raises(rt.StoreError, match="it is no str any more"):
            flow.resume("s")
        assert [each.status for each in store.sessions()] == ["interrupted"]


# Flows inside.


async def test_the_end_of_a_flow_inside_has_its_place_in_the_order(store: rt.DurableStore) -> None:
    async def main() -> list[str]:
        order: list[str] = []

        async def in_flow() -> None:
            await inner.ainvoke(1)
            order.append("flow")

        async def in_call() -> None:
            await until(lambda: not is_first or "flow" in order)
            await rt.call(add, 10)
            order.append("call")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_flow)
            nursery.start_soon(in_call)
        if is_first:
            raise KeyboardInterrupt
        return order

    is_first = True
    inner = flow_of(store, add, name="inner")
    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    is_first = False
    assert await flow.aresume("s") == ["flow", "call"]
    assert DONE == [1, 10]


async def test_recover_leaves_a_session_inside_another_to_that(store: rt.DurableStore) -> None:
    async def work() -> int:
        DONE.append("work")
        if len(DONE) < 2:
            await trio.sleep_forever()
        return 1

    async def main() -> int:
        return await inner.ainvoke() + 1

    inner, outer = flow_of(store, work, name="inner"), flow_of(store, main, name="outer")
    await interrupt(functools.partial(outer.ainvoke, session_id="o"), lambda: DONE)
    done = await rt.recover(store, [inner, outer])
    assert (done.resumed, done.skipped) == (("o",), {})
    assert {each.status for each in store.sessions()} == {"completed"}
    assert await outer.aresume("o") == 2


async def test_a_session_waits_with_the_one_inside_it(store: rt.DurableStore) -> None:
    async def wait() -> str:
        return str(await rt.wait_for_signal("go", str, park=True))

    async def main() -> str:
        DONE.append("main")
        return await inner.ainvoke()

    inner, outer = flow_of(store, wait, name="inner"), flow_of(store, main, name="outer")
    with pytest.raises(rt.SessionWaiting):
        await outer.ainvoke(session_id="o")
    assert {each.status for each in store.sessions()} == {"waiting"}
    done = await rt.recover(store, [outer, inner])
    assert (done.sleeping, done.skipped) == (2, {})
    assert DONE == ["main"]
    (inside,) = [each.session_id for each in store.sessions(flow_name="inner")]
    await rt.send_signal(inside, "go", "on", store=store)
    assert (await rt.recover(store, [outer, inner])).resumed == ("o",)
    assert await outer.aresume("o") == "on"


async def test_a_session_wakes_when_the_one_inside_it_was_ended_by_hand(store: rt.DurableStore) -> None:
    async def wait() -> str:
        return str(await rt.wait_for_signal("go", str, park=True))

    async def main() -> str:
        return await inner.ainvoke()

    inner, outer = flow_of(store, wait, name="inner"), flow_of(store, main, name="outer")
    with pytest.raises(rt.SessionWaiting):
        await outer.ainvoke(session_id="o")
    (inside,) = [each.session_id for each in store.sessions(flow_name="inner")]
    await rt.send_signal(inside, "go", "on", store=store)
    assert await inner.aresume(inside) == "on"
    assert (await rt.recover(store, [outer])).resumed == ("o",)


async def test_a_flow_inside_goes_on_when_its_signal_comes_while_others_work(store: rt.DurableStore) -> None:
    async def wait() -> str:
        return str(await rt.wait_for_signal("go", str, park=True))

    @rt.function_node
    async def work() -> None:
        await until(lambda: [each.status for each in store.sessions(flow_name="inner")] == ["waiting"])
        (inside,) = [each.session_id for each in store.sessions(flow_name="inner")]
        await rt.send_signal(inside, "go", "on", store=store)
        await heard.wait()

    async def main() -> str:
        async with rt.open_group() as group:
            group.start_soon(work)
            result = await inner.ainvoke()
            heard.set()
        return result

    heard = trio.Event()
    inner, outer = flow_of(store, wait, name="inner"), flow_of(store, main, name="outer")
    with store:
        assert await outer.ainvoke(session_id="o") == "on"


def test_a_fork_does_not_repeat_what_a_flow_inside_has_done(store: rt.DurableStore) -> None:
    async def main() -> int:
        result = await inner.ainvoke(1)
        if len(DONE) < 2:
            DONE.append("failed")
            raise LookupError
        return result

    inner, outer = flow_of(store, add, name="inner"), flow_of(store, main, name="outer")
    with store:
        with pytest.raises(LookupError):
            outer.invoke(session_id="o")
        assert outer.resume(store.fork("o")) == 2
    assert DONE == [1, "failed"]


def test_a_fork_of_a_block_keeps_the_failures_that_it_has_handled(store: rt.DurableStore) -> None:
    async def block(**which: str) -> None:
        async with rt.Session(durable=store, save_state=False, **which):
            with pytest.raises(LookupError):
                await rt.call(fetch, 3)
            await rt.call(add, 1)

    with store:
        trio.run(functools.partial(block, session_id="s"))
        trio.run(functools.partial(block, resume=store.fork("s")))
    assert DONE == [1]


def test_a_fork_of_a_block_runs_again_what_it_has_failed_with(store: rt.DurableStore) -> None:
    async def block(**which: str) -> None:
        async with rt.Session(durable=store, save_state=False, **which):
            await rt.call(add, 1)
            await rt.call(failing_once)

    @rt.function_node
    async def failing_once() -> None:
        DONE.append("once")
        if DONE.count("once") < 2:
            raise LookupError

    with store:
        with pytest.raises(LookupError):
            trio.run(functools.partial(block, session_id="s"))
        trio.run(functools.partial(block, resume=store.fork("s")))
    assert DONE == [1, "once", "once"]


async def test_a_session_block_in_a_durable_call_is_gone_on_with(store: rt.DurableStore) -> None:
    async def main() -> str:
        async with rt.Session(durable=store, save_state=False) as session:
            await rt.call(add, 1)
            if len(DONE) < 2:
                DONE.append("interrupted")
                raise KeyboardInterrupt
        return session.identifier

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    identifier = await flow.aresume("s")
    assert {each.session_id for each in store.sessions()} == {"s", identifier}
    assert DONE == [1, "interrupted"]


@pytest.mark.parametrize("end", ["failed", "timed_out", "cancelled"])
async def test_a_block_whose_session_is_over_raises_what_it_has_ended_with(store: rt.DurableStore, end: str) -> None:
    errors = {"failed": LookupError, "timed_out": rt.SessionTimeoutError, "cancelled": rt.SessionCancelledError}
    timeout = 0.1 if end == "timed_out" else None
    with suppress(LookupError, rt.SessionTimeoutError):
        async with rt.Session(durable=store, save_state=False, session_id="s", timeout=timeout) as session:
            if end == "failed":
                await rt.call(fetch, 3)
            if end == "cancelled":
                session.cancel("enough")
            await trio.sleep_forever()
    with pytest.raises(errors[end]):
        async with rt.Session(durable=store, save_state=False, resume="s"):
            DONE.append("ran")
    assert DONE == []


def test_the_result_of_an_entry_point_that_was_tried_again_is_handed_over(store: rt.DurableStore) -> None:
    @rt.function_node(retry=rt.Retry(3, wait_initial=0.0, jitter=0.0))
    async def main() -> int:
        DONE.append(1)
        if len(DONE) < 3:
            raise ConnectionError
        return 5

    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == flow.resume("s") == flow.invoke(session_id="s") == 5
    assert len(DONE) == 3


# The context.


def test_what_was_written_in_a_call_that_was_cancelled_is_there_again(store: rt.DurableStore) -> None:
    @rt.function_node
    async def writing() -> None:
        rt.context.put("key", 1)
        await trio.sleep_forever()

    async def main() -> Any:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rt.call, writing)
                await until(lambda: rt.context.get("key", None) or not is_first)
                scope.cancel()
        await rt.call(add, 1)
        return rt.context.get("key", None)

    is_first = True
    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == 1
        without_end(store, "main")
        is_first = False
        assert flow.resume("s") == 1


def test_of_two_writes_the_later_one_counts_whichever_call_ends_first(store: rt.DurableStore) -> None:
    @rt.function_node
    async def writing() -> None:
        rt.context.put("key", "early")
        await rt.call(add, 1)

    async def main() -> Any:
        async with rt.open_group() as group:
            group.start_soon(writing)
            await rt.call(add, 2)
            await until(lambda: len(statuses(store, "add")) >= 2)
            rt.context.put("key", "late")
        await rt.call(add, 3)
        found = rt.context.get("key")
        rt.context.delete("key")
        return found

    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == "late"
        without_end(store, "main")
        assert flow.resume("s") == "late"


def test_of_two_writes_before_an_outcome_the_later_one_counts_though_its_call_ends_first(
    store: rt.DurableStore,
) -> None:
    @rt.function_node
    async def inner() -> None:
        rt.context.put("raised", rt.context.get("raised") + 1)
        rt.context.put("replaced", "inner")
        rt.context.delete("deleted")

    @rt.function_node
    async def outer() -> None:
        rt.context.put("raised", 1)
        rt.context.put("replaced", "outer")
        rt.context.put("deleted", "outer")
        await rt.call(inner)

    async def main() -> list[Any]:
        await rt.call(outer)
        return [rt.context.get(name, default=None) for name in ("raised", "replaced", "deleted")]

    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == [2, "inner", None]
        without_end(store, "main")
        assert flow.resume("s") == [2, "inner", None]


# Tasks without order.


@rt.function_node(durable=False)
async def cheap(number: int) -> int:
    return number


def test_calls_that_are_not_recorded_name_no_task(store: rt.DurableStore) -> None:
    async def main() -> list[str]:
        found: list[str] = []

        async def task(name: str) -> None:
            await rt.call(cheap, 1)
            found.append(await rt.call(tell, name))

        async with trio.open_nursery() as nursery:
            for name in "abcdef":
                nursery.start_soon(task, name)
        return sorted(found)

    @rt.function_node
    async def tell(name: str) -> str:
        DONE.append(name)
        return name

    flow = flow_of(store, main)
    with store:
        for number in range(5):
            assert flow.invoke(session_id=f"s-{number}") == list("abcdef")
            without_end(store, "main")
            DONE.clear()
            assert flow.resume(f"s-{number}") == list("abcdef")
            assert DONE == []


def test_a_key_is_refused_where_nothing_tells_a_call_from_others(store: rt.DurableStore) -> None:
    @rt.function_node(durable=False)
    async def unnamed() -> str:
        with pytest.raises(rt.ContextError, match="tasks of a nursery have no order"):
            rt.idempotency_key()
        return "refused"

    async def main() -> list[str]:
        found: list[str] = []

        async def task() -> None:
            found.append(await rt.call(unnamed))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
        return found

    assert flow_of(store, main).invoke() == ["refused"]


def test_the_key_of_a_call_that_is_not_recorded_is_one_for_its_attempts(store: rt.DurableStore) -> None:
    @rt.function_node(durable=False, retry=rt.Retry(2, wait_initial=0.0, jitter=0.0))
    async def trying() -> None:
        DONE.append(rt.idempotency_key())
        if len(DONE) < 2:
            raise ConnectionError

    async def main() -> None:
        await rt.call(trying)

    flow_of(store, main).invoke()
    assert DONE[0] == DONE[1]


def test_a_function_that_is_made_anew_in_each_call_is_one(store: rt.DurableStore) -> None:
    @rt.function_node
    async def outer(number: int) -> int:
        async def step(number: int) -> int:
            return number

        return await rt.call(step, number)

    async def main() -> int:
        return await rt.call(outer, 1) + await rt.call(outer, 2)

    assert flow_of(store, main).invoke() == 3


async def test_a_drain_in_a_resume_is_no_mismatch(store: rt.DurableStore) -> None:
    # The session drains before the last inputs are drawn that the record has.
    async def block(**which: str) -> list[Any]:
        async with rt.Session(durable=store, save_state=False, **which) as session:

            def inputs() -> Any:
                for number in range(3):
                    if number == 1 and "resume" in which:
                        session._drain_soon(10.0)  # noqa: SLF001 - as SIGTERM would
                    yield number

            return await rt.call_batch(add, inputs(), limit=1)

    assert await block(session_id="s") == [1, 2, 3]
    without_end(store)
    with pytest.raises(rt.ContextError, match="draining"):
        await block(resume="s")
    assert [each.status for each in store.sessions()] == ["interrupted"]
