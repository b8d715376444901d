"""A resumed session: what is recorded is handed over, what is not runs, and what has changed is found out first."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, add, done_fixture, flow_of, hang, store_fixture  # noqa: F401 - two are fixtures

import railtracks as rt
from railtracks import testing
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.recorded import RecordedSession
from railtracks.durable._replay.rows import new_row
from railtracks.durable._replay.turns import Turns
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import CallRow, RowStatus, calls, sessions
from railtracks.durable._store.table import RowTable


def forget(store: rt.DurableStore, session_id: str, kept: Callable[[Any], bool]) -> None:
    """Make the session one that was killed when only these rows were written."""
    with access_of(store).writing() as (connection, _, _owner):
        for row in connection.execute(sa.select(calls).where(calls.c.session_id == session_id)).all():
            if not kept(row):
                connection.execute(sa.delete(calls).where(calls.c.session_id == session_id, calls.c.seq == row.seq))
        own = sa.update(sessions).where(sessions.c.session_id == session_id)
        connection.execute(own.values(status="interrupted", failure=None, ended_at=None))


def not_main(row: Any) -> bool:
    return not (row.node == "main" and row.status in {"completed", "failed"})


@rt.function_node
async def fail(number: int) -> int:
    DONE.append(number)
    error = LookupError("no such number", number)
    error.add_note("a note")
    raise error from ValueError("the cause")


def resumed(store: rt.DurableStore, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run a flow to its end, forget that its entry point has ended, and resume it."""
    flow = flow_of(store, fn, **options)
    with store:
        first = flow.invoke(*args, session_id="s")
        DONE.clear()
        forget(store, "s", not_main)
        second = flow.resume("s")
    assert second == first
    return second


def test_a_recorded_call_does_not_run_again(store: rt.DurableStore) -> None:
    async def main() -> int:
        return await rt.call(add, await rt.call(add, 1))

    assert resumed(store, main) == 3
    assert DONE == []


def test_replayed_calls_are_marked_and_make_no_log_lines(
    store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[bool] = []

    async def main() -> int:
        result = await rt.call(add, 1)
        seen.append(rt.current_session().info.calls[-1].is_replayed)
        return result

    caplog.set_level("INFO", "RT")
    resumed(store, main)
    assert seen == [False, True]
    assert sum(record.message.startswith("add (2) DONE") for record in caplog.records) == 1


def test_a_recorded_failure_is_raised_with_its_class_its_args_its_notes_and_its_cause(store: rt.DurableStore) -> None:
    errors: list[LookupError] = []

    async def main() -> int:
        try:
            return await rt.call(fail, 1)
        except LookupError as error:
            errors.append(error)
            return 0

    resumed(store, main)
    first, second = errors
    assert type(second) is LookupError
    assert second.args == first.args == ("no such number", 1)
    assert second.__notes__ == first.__notes__ == ["a note", "in main > fail"]
    assert isinstance(second.__cause__, ValueError)
    assert DONE == []


def test_a_failure_that_cannot_be_rebuilt_is_named_in_a_warning_of_the_first_run(
    store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    class LocalError(Exception):
        pass

    async def strange() -> None:
        raise LocalError("odd")

    async def main() -> None:
        with suppress(Exception):
            await rt.call(strange)

    with pytest.raises(rt.StoreError, match=r"session s: .*LocalError: odd .* fork the session before"):
        resumed(store, main)
    assert "LocalError" in next(record.message for record in caplog.records if record.levelname == "WARNING")
    assert [each.status for each in store.sessions()] == ["interrupted"]


async def test_a_call_that_was_cancelled_inside_waits_for_its_cancel_again(store: rt.DurableStore) -> None:
    async def main() -> int:
        with trio.move_on_after(0.01) as scope:
            await rt.call(hang)
        assert scope.cancelled_caught
        return await rt.call(add, 1)

    assert await trio.to_thread.run_sync(resumed, store, main) == 2
    assert DONE == []


def test_attempts_that_finished_count(store: rt.DurableStore) -> None:
    async def once(number: int) -> int:
        DONE.append("attempt")
        if DONE.count("attempt") == 1:
            raise ConnectionError
        return number

    node = rt.function_node(once, retry=rt.Retry(2, wait_initial=0.0, jitter=0.0))

    async def main() -> int:
        return await rt.call(node, 5)

    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == 5
        forget(store, "s", lambda row: not_main(row) and row.attempt == 1)
        assert flow.resume("s") == 5
    # The first attempt is recorded; only the second one was made again.
    assert DONE == ["attempt"] * 3


def test_a_pause_before_a_recorded_attempt_is_not_waited_for(store: rt.DurableStore) -> None:
    async def once() -> str:
        DONE.append("attempt")
        if len(DONE) == 1:
            raise ConnectionError
        return "result"

    node = rt.function_node(once, retry=rt.Retry(2, wait_initial=0.4, jitter=0.0))

    async def main() -> str:
        return await rt.call(node)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        forget(store, "s", not_main)

        async def again() -> float:
            before = trio.current_time()
            await flow.aresume("s")
            return trio.current_time() - before

        assert trio.run(again) < 0.4


def test_the_idempotency_key_of_attempts_and_of_later_runs_is_one(store: rt.DurableStore) -> None:
    keys: list[str] = []

    async def charge() -> None:
        keys.append(rt.idempotency_key())
        if len(keys) == 1:
            raise ConnectionError

    node = rt.function_node(charge, retry=rt.Retry(2, wait_initial=0.0, jitter=0.0))

    async def main() -> None:
        await rt.call(node)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        forget(store, "s", lambda row: row.status == "opened")
        flow.resume("s")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0].startswith("s:")


def test_random_numbers_come_from_the_call(store: rt.DurableStore) -> None:
    drawn: list[Any] = []

    async def main() -> float:
        drawn.append([rt.random(), rt.random(), rt.uuid4(), rt.fencing_number()])
        return await rt.call(throw)

    async def throw() -> float:
        return rt.random()

    resumed(store, main)
    assert drawn[0][:3] == drawn[1][:3]
    assert drawn[0][0] != drawn[0][1]
    assert drawn[0][2].version == 4
    assert drawn[1][3] > drawn[0][3]


def test_outside_of_a_durable_session_chance_is_chance_and_there_is_no_key() -> None:
    async def main() -> tuple[float, float]:
        return rt.random(), rt.uuid4().int

    flow = rt.Flow("plain", main, save_state=False)
    assert flow.invoke() != flow.invoke()
    with pytest.raises(rt.ContextError, match="durable"):
        rt.idempotency_key()


# Context.


def test_what_recorded_calls_wrote_to_the_context_is_there_again(store: rt.DurableStore) -> None:
    async def write(name: str, value: int) -> None:
        rt.context.put(name, value)
        if name == "b":
            rt.context.delete("a")

    seen: list[Any] = []

    async def main() -> list[str]:
        seen.append(rt.context.get("a", None))
        await rt.call(write, "a", 1)
        seen.append(rt.context.get("a", None))
        await rt.call(write, "b", 2)
        return rt.context.keys()

    assert resumed(store, main, context={"given": 0}) == ["given", "b"]
    assert seen == [None, 1, None, 1]


def test_a_value_in_the_context_that_cannot_be_stored_is_refused_where_it_is_put(store: rt.DurableStore) -> None:
    async def main() -> None:
        rt.context.put("client", {"inner": object()})

    with pytest.raises(rt.DurableValueError, match=r"the context's 'client'\['inner'\]"):
        flow_of(store, main).invoke()


# Background calls and nested flows.


@rt.function_node
async def in_background(number: int) -> None:
    await rt.call(add, number)
    DONE.append("background")


@rt.function_node
async def start(number: int) -> None:
    rt.current_session().start_soon(in_background, number)


def test_a_background_call_whose_starter_is_recorded_is_started_again(store: rt.DurableStore) -> None:
    async def main() -> None:
        await rt.call(start, 5)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        DONE.clear()
        forget(store, "s", lambda row: not (row.node == "in_background" and row.status == "completed"))
        flow.resume("s")
    assert DONE == ["background"]


def test_a_background_call_that_is_recorded_does_not_run_again(store: rt.DurableStore) -> None:
    async def main() -> None:
        rt.current_session().start_soon(in_background, 1)
        await rt.call(start, 5)

    resumed(store, main)
    assert DONE == []


def test_a_background_call_that_nobody_can_find_is_said_so(store: rt.DurableStore) -> None:
    async def local() -> None:
        DONE.append("local")

    registry = {"local": local}

    async def start_local() -> None:
        rt.current_session().start_soon(registry["local"])

    async def main() -> None:
        await rt.call(start_local)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        forget(store, "s", lambda row: not (row.node == "local" and row.status == "completed"))
        with pytest.raises(rt.StoreError, match="has to start 'local' again in the background"):
            flow.resume("s")
        assert [each.status for each in store.sessions()] == ["interrupted"]


def test_an_inner_durable_flow_is_resumed_and_not_restarted(store: rt.DurableStore) -> None:
    async def work() -> int:
        return await rt.call(add, 1) + await rt.call(add, 2)

    inner = rt.Flow("inner", work, durable=store, save_state=False)

    async def main() -> int:
        return await inner.ainvoke() + await inner.ainvoke()

    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == 10
        ids = {each.session_id for each in store.sessions(flow_name="inner")}
        assert len(ids) == 2
        DONE.clear()
        forget(store, "s", not_main)
        for each in ids:
            forget(store, each, lambda row: not (row.node == "work" and row.status == "completed"))
        assert flow.resume("s") == 10
        assert {each.session_id for each in store.sessions(flow_name="inner")} == ids
    assert DONE == []


async def test_a_block_may_open_a_resource_outside_of_its_calls(store: rt.DurableStore) -> None:
    async with rt.Session(durable=store, save_state=False) as session:
        nursery = await session.enter_async_context(trio.open_nursery())
        assert isinstance(nursery, trio.Nursery)
    assert [each.status for each in store.sessions()] == ["completed"]


def test_a_shared_resource_may_be_opened_in_a_recorded_call_and_a_replay_opens_none(store: rt.DurableStore) -> None:
    opened: list[str] = []

    @asynccontextmanager
    async def client() -> AsyncIterator[str]:
        opened.append("client")
        yield "client"

    async def fetch(number: int) -> str:
        return f"{await rt.current_session().shared_resource('client', client)} {number}"

    async def main() -> list[str]:
        return [await rt.call(fetch, number) for number in range(2)]

    flow = flow_of(store, main)
    assert flow.invoke(session_id="s") == ["client 0", "client 1"]
    forget(store, "s", lambda row: row.node == "main")
    assert flow.resume("s") == ["client 0", "client 1"]
    assert opened == ["client"]


def test_a_resource_is_refused_in_a_recorded_call(store: rt.DurableStore) -> None:
    async def opening() -> None:
        await rt.current_session().enter_async_context(trio.open_nursery())

    async def main() -> str:
        await rt.call(rt.function_node(opening, name="unrecorded", durable=False))
        await rt.current_session().enter_async_context(trio.open_nursery())
        with pytest.raises(rt.ContextError, match="durable=False"):
            await rt.call(opening)
        with pytest.raises(rt.ContextError, match="durable=False"):
            await rt.call(starting)
        return "done"

    async def starting() -> None:
        await rt.current_session().start(in_background)

    async def opening_again() -> str:
        return await main()

    assert flow_of(store, opening_again).invoke() == "done"


def test_what_session_start_started_starts_again(store: rt.DurableStore) -> None:
    async def serve(task_status: trio.TaskStatus[str]) -> None:
        DONE.append("serving")
        task_status.started("port 1")

    async def main() -> str:
        return str(await rt.current_session().start(serve))

    assert resumed(store, main) == "port 1"
    assert DONE == ["serving"]


# Code that has changed.


async def two(first: int, second: int) -> int:
    return await rt.call(add, first) + await rt.call(add, second)


async def other(number: int) -> int:
    DONE.append("other")
    return number


def changed(name: str) -> Callable[..., Any]:
    async def argument() -> int:
        return await rt.call(add, 1) + await rt.call(add, 3) + await rt.call(other, 1)

    async def order() -> int:
        return await rt.call(add, 2) + await rt.call(add, 1) + await rt.call(other, 1)

    async def inserted() -> int:
        return await rt.call(other, 0) + await rt.call(add, 1) + await rt.call(add, 2)

    async def removed() -> int:
        return await rt.call(add, 2) + await rt.call(other, 1)

    async def removed_at_the_end() -> int:
        return await rt.call(add, 1)

    async def renamed() -> int:
        return await rt.call(add, 1) + await rt.call(rt.function_node(other, name="adds"), 2) + await rt.call(other, 1)

    async def in_a_batch() -> int:
        return sum(await rt.call_batch(add, [1, 2], return_exceptions=False))

    async def side_by_side() -> int:
        async with rt.open_group() as group:
            group.start_soon(other, 5)
            return await rt.call(other, 7)

    return locals()[name]


@pytest.mark.parametrize(
    "name",
    ["argument", "order", "inserted", "removed", "removed_at_the_end", "renamed", "in_a_batch", "side_by_side"],
)
def test_changed_code_is_a_mismatch_before_any_effect(store: rt.DurableStore, name: str) -> None:
    async def main() -> int:
        return await two(1, 2)

    with store:
        flow_of(store, main).invoke(session_id="s")
        forget(store, "s", not_main)
        DONE.clear()
        code = rt.function_node(changed(name), name="main")
        with pytest.raises(rt.ReplayMismatchError) as caught:
            flow_of(store, code).resume("s")
        assert DONE == []
        assert "add" in str(caught.value) or "other" in str(caught.value)
        assert [each.status for each in store.sessions()] == ["interrupted"]
        # With the code that began it, it still ends.
        assert flow_of(store, main).resume("s") == 5


@pytest.mark.parametrize("inputs", [[1, 2], [1, 3, 2], [2, 1, 3]])
def test_other_inputs_of_a_batch_are_a_mismatch_before_any_effect(store: rt.DurableStore, inputs: list[int]) -> None:
    given_inputs = [1, 2, 3]

    async def main() -> int:
        return sum(await rt.call_batch(add, given_inputs, return_exceptions=False)) + await rt.call(other, 1)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        forget(store, "s", lambda row: not_main(row) and row.node != "other")
        DONE.clear()
        given_inputs[:] = inputs
        with pytest.raises(rt.ReplayMismatchError):
            flow.resume("s")
    assert DONE == []


def test_a_mismatch_cannot_be_caught_away(store: rt.DurableStore) -> None:
    async def main() -> int:
        return await rt.call(add, 1)

    async def stubborn() -> int:
        try:
            await rt.call(add, 2)
        except Exception:  # noqa: BLE001 - tries to go on whatever happens
            DONE.append("caught")
        return 5

    with store:
        flow_of(store, main).invoke(session_id="s")
        forget(store, "s", not_main)
        DONE.clear()
        with pytest.raises(rt.ReplayMismatchError):
            flow_of(store, rt.function_node(stubborn, name="main")).resume("s")
    assert DONE == []


async def test_code_that_waits_for_itself_is_told_so_and_not_left_hanging(
    store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_with(store, patience=Patience(order=0.05))
    has_changed = False

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)

    async def first() -> None:
        await rt.call(add, 1)
        if not has_changed:
            await rt.call(add, 2)

    async def second() -> None:
        await rt.call(add, 10)
        await trio.sleep(0.03)
        await rt.call(add, 11)

    flow = flow_of(store, main)
    await flow.ainvoke(session_id="s")
    await trio.to_thread.run_sync(forget, store, "s", not_main)
    has_changed = True
    with pytest.raises(rt.ReplayMismatchError, match="'add' with arguments"):
        await flow.aresume("s")
    assert "the code has not asked for the recorded call of 'add'" in caplog.text


# Strands.


def test_two_equal_calls_open_at_once_in_a_nursery_need_keys(store: rt.DurableStore) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, hang)
            nursery.start_soon(rt.call, hang)

    with pytest.raises(BaseExceptionGroup) as caught:
        flow_of(store, main).invoke()
    assert caught.group_contains(rt.ContextError, match="key=")


def test_with_keys_they_are_told_apart(store: rt.DurableStore) -> None:
    async def main() -> list[int]:
        results: dict[str, int] = {}

        async def one(key: str) -> None:
            results[key] = await rt.call(add.with_options(key=key), 1)
            await rt.call(add, 5)

        async with trio.open_nursery() as nursery:
            for key in ("a", "b", "c"):
                nursery.start_soon(one, key)
        return [results[key] for key in sorted(results)]

    resumed(store, main)
    assert DONE == []


def test_equal_calls_of_a_nursery_one_after_another_need_none(store: rt.DurableStore) -> None:
    async def main() -> None:
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rt.call, add, 1)

    resumed(store, main)
    assert DONE == []


def test_a_fan_out_as_the_first_thing_of_a_task_is_replayed(store: rt.DurableStore) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call_batch, add, [1, 2])
            nursery.start_soon(rt.call_batch, add, [3])

    resumed(store, main)
    assert DONE == []


def test_two_functions_under_one_name_are_an_error(store: rt.DurableStore) -> None:
    async def main() -> None:
        await rt.call(add, 1)
        await rt.call(rt.function_node(other, name="add"), 1)

    with pytest.raises(rt.ContextError, match="two functions are called 'add'"):
        flow_of(store, main).invoke()


def test_a_node_with_durable_false_runs_again_and_its_calls_do_not(store: rt.DurableStore) -> None:
    async def cheap(number: int) -> int:
        DONE.append("cheap")
        rt.context.put("cheap", number)
        return await rt.call(add, number)

    node = rt.function_node(cheap, durable=False)

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, node, 1)
            nursery.start_soon(rt.call, node, 2)
        return await rt.call(node, 3)

    resumed(store, main)
    assert DONE == ["cheap"] * 3


def in_a_row(count: int) -> list[trio.Event]:
    """Return events of which each but the first is set by who has waited for the one before."""
    events = [trio.Event() for _ in range(count + 1)]
    events[0].set()
    return events


def test_as_completed_hands_out_recorded_calls_in_their_recorded_order(store: rt.DurableStore) -> None:
    async def main() -> list[int]:
        order: list[int] = []
        async with rt.as_completed(nap, [5, 1, 4, 2, 3]) as finished:
            order.extend([pending.result() async for pending in finished])
        return order

    async def nap(number: int) -> int:
        DONE.append(number)
        await ended[number - 1].wait()
        ended[number].set()
        return number

    ended = in_a_row(5)
    assert resumed(store, main) == [1, 2, 3, 4, 5]
    assert DONE == []


def test_recorded_calls_come_before_live_ones(store: rt.DurableStore) -> None:
    async def main() -> list[int]:
        async with rt.as_completed(nap, [1, 3, 2], limit=3) as finished:
            return [pending.result() async for pending in finished]

    async def nap(number: int) -> int:
        await ended[number - 1].wait()
        ended[number].set()
        return number

    ended = in_a_row(3)
    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == [1, 2, 3]
        # Of three the second and the third are recorded.
        forget(store, "s", lambda row: not_main(row) and not (row.node == "nap" and row.place == 0))
        assert flow.resume("s") == [2, 3, 1]


# Every prefix.


async def test_replay_at_every_prefix_finds_what_is_not_recorded() -> None:
    chances = itertools.count()

    async def fickle() -> int:
        return await rt.call(add, 1) + (await rt.call(add, 2) if next(chances) < 2 else 0)

    async def steady() -> int:
        return await rt.call(add, 1)

    assert await testing.replay_at_every_prefix(rt.Flow("steady", steady)) == 4
    with pytest.raises(AssertionError, match=r"'fickle'.*cut|'fickle'.*record that ends"):
        await testing.replay_at_every_prefix(rt.Flow("fickle", fickle))


async def test_replay_at_every_prefix_compares_errors_too() -> None:
    async def failing() -> int:
        await rt.call(add, 1)
        return await rt.call(fail, 2)

    assert await testing.replay_at_every_prefix(rt.Flow("failing", failing)) == 5


# Corners.


async def test_a_call_that_is_asked_for_just_now_is_not_gone_on_without() -> None:
    told: list[str] = []
    row: dict[str, Any] = new_row("s", "k", "root", RowStatus.COMPLETED, node="slow") | {"seq": 1}
    record = RecordedSession(RowTable("s", [CallRow(**{name: row[name] for name in CallRow._fields})]))
    order = Order(Turns(record), told.append, Patience(order=0.01))
    order.claimed(record.calls["k"])
    with trio.move_on_after(0.05) as scope:
        await order.until_live()
    assert scope.cancelled_caught
    assert told == []


def test_an_older_write_does_not_replace_a_newer_one_of_a_background_call(store: rt.DurableStore) -> None:
    seen: list[Any] = []

    @rt.function_node
    async def write(number: int) -> None:
        rt.context.put("key", number)

    @rt.function_node
    async def start() -> None:
        rt.current_session().start_soon(write, 2)

    async def main() -> None:
        await rt.call(write, 1)
        await rt.call(start)
        await trio.testing.wait_all_tasks_blocked(0.05)
        seen.append(rt.context.get("key"))

    resumed(store, main)
    assert seen == [2, 2]


def test_what_tasks_do_before_their_first_call_is_known_by_what_it_is_whatever_their_order(
    store: rt.DurableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    inner = rt.Flow("inner", add, durable=store, save_state=False)
    orders = iter([[1, 2, 3], [3, 1, 2]])

    async def task(number: int, go: trio.Event, next_go: trio.Event) -> None:
        await go.wait()
        await rt.broadcast(f"from {number}")
        rt.current_session().start_soon(add, 10 * number)
        next_go.set()
        assert await inner.ainvoke(100 * number) == 100 * number + 1
        DONE.append(await rt.call(add, number))

    async def main() -> int:
        before = await rt.call(add, 0)
        order = next(orders)
        async with trio.open_nursery() as nursery:
            gates = [trio.Event() for _ in range(4)]
            gates[0].set()
            for place, number in enumerate(order):
                nursery.start_soon(task, number, gates[place], gates[place + 1])
        return before + await rt.call(add, 1000)

    assert resumed(store, main, broadcast_callback=heard.append) == 1002
    assert sorted(heard) == ["from 1", "from 2", "from 3"]
    # Only what the tasks themselves note: no call has run again.
    assert sorted(DONE) == [2, 3, 4]


def test_equal_things_of_tasks_without_order_need_not_be_told_apart(
    store: rt.DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    async def task() -> None:
        await rt.broadcast("item")
        rt.current_session().start_soon(add, 1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(task)

    resumed(store, main, broadcast_callback=heard.append)
    assert heard == ["item"] * 3
    assert DONE == []
    # Nobody had to wait for who is not there.
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_chance_is_refused_to_tasks_that_nothing_tells_apart(store: rt.DurableStore) -> None:
    drawn: list[Any] = []

    async def task(number: int) -> None:
        with pytest.raises(rt.ContextError, match="have no order"):
            rt.random()
        with pytest.raises(rt.ContextError, match="have no order"):
            rt.uuid4()
        await rt.call(add, number)
        drawn.append((number, rt.uuid4(), rt.random()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task, 1)
            nursery.start_soon(task, 2)

    resumed(store, main)
    assert len(drawn) == 4
    assert len(set(drawn)) == 2
    assert len({each[1] for each in drawn}) == 2


def test_calls_in_an_unrecorded_node_have_their_places_in_the_call_around_it(store: rt.DurableStore) -> None:
    @rt.function_node(durable=False)
    async def helper(number: int) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, add, number)
        return await rt.call(add, await rt.call(add, number + 1))

    async def main() -> int:
        return await rt.call(helper, 1)

    assert resumed(store, main) == 4
    assert DONE == []


SHAPE: list[str] = ["call"]


async def _shaped() -> int:
    found = await rt.call(add, 0)
    match SHAPE[0]:
        case "call":
            return found + await rt.call(add, 1)
        case "batch":
            return found + sum(await rt.call_batch(add, [1, 2], return_exceptions=False))
        case "longer":
            return found + sum(await rt.call_batch(add, [1, 2, 3], return_exceptions=False))
        case _:
            return found


@pytest.mark.parametrize(
    ("before", "after"),
    [("call", "batch"), ("batch", "call"), ("longer", "batch"), ("call", "none"), ("batch", "none")],
)
def test_another_kind_of_call_at_the_same_place_is_a_mismatch_before_anything_runs(
    store: rt.DurableStore, before: str, after: str
) -> None:
    SHAPE[0] = before
    flow = flow_of(store, rt.function_node(_shaped, name="main"))
    flow.invoke(session_id="s")
    DONE.clear()
    forget(store, "s", not_main)
    SHAPE[0] = after
    with pytest.raises(rt.ReplayMismatchError):
        flow.resume("s")
    assert DONE == []
    SHAPE[0] = before
    assert isinstance(flow.resume("s"), int)
    assert DONE == []


async def test_a_call_that_was_not_recorded_and_now_is_to_be_is_a_mismatch(store: rt.DurableStore) -> None:
    node = add.with_options(durable=False)

    async def main() -> int:
        return await rt.call(node, 1) + await rt.call(add.with_options(name="after"), 2)

    flow = flow_of(store, main)
    await flow.ainvoke(session_id="s")
    forget(store, "s", not_main)
    DONE.clear()
    node = add
    with pytest.raises(rt.ReplayMismatchError, match="another call at this place, and more after it"):
        await flow.aresume("s")
    assert DONE == []


def test_a_task_of_a_task_that_has_made_no_call_is_known_by_what_it_does(store: rt.DurableStore) -> None:
    async def outer(number: int) -> None:
        async with rt.Session(save_state=False):
            pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, add, number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outer, 1)
            nursery.start_soon(outer, 2)

    resumed(store, main)
    assert DONE == []


async def test_a_prefix_that_asks_for_something_else_is_told_as_the_mismatch_that_it_is(store: rt.DurableStore) -> None:
    async def main() -> int:
        DONE.append("run")
        await rt.call(add, len(DONE))
        return 5

    with pytest.raises(AssertionError, match=r"mismatch: the record says 'add' with arguments .*, the code asks for"):
        await testing.replay_at_every_prefix(flow_of(store, main))


def test_a_broadcast_that_was_recorded_and_not_delivered_is_sent_by_who_repeats_it(store: rt.DurableStore) -> None:
    heard: list[Any] = []

    async def main() -> None:
        await rt.broadcast("item")

    flow = flow_of(store, main, broadcast_callback=heard.append)
    flow.invoke(session_id="s")
    forget(store, "s", lambda row: not_main(row) and row.status != "delivered")
    flow.resume("s")
    assert heard == ["item", "item"]
    assert [row.status for row in rows_of(store)].count("broadcast") == 1


async def test_a_session_that_is_over_does_nothing_that_is_not_in_its_record(store: rt.DurableStore) -> None:
    heard: list[Any] = []

    async def block(*items: str, **options: Any) -> None:
        async with rt.Session(durable=store, save_state=False, broadcast_callback=heard.append, **options):
            for item in items:
                await rt.broadcast(item)

    await block("one", session_id="s")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.delete(calls).where(calls.c.status == "delivered"))
    # Over is over, delivered or not.
    await block("one", resume="s")
    with pytest.raises(rt.ContextError, match="session s is over"):
        await block("one", "two", resume="s")
    assert heard == ["one"]


def rows_of(store: rt.DurableStore) -> list[Any]:
    with access_of(store).reading() as (connection, _, _owner):
        return list(connection.execute(sa.select(calls).order_by(calls.c.seq)))
