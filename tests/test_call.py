"""One call: what it passes on, what it records, when it is a checkpoint, and what a node's timeout bounds."""

import functools
import logging
import math
import re
import threading
from collections import Counter
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import railtracks as rt

LABEL: ContextVar[str] = ContextVar("label", default="none")


@rt.function_node
async def double(number: int) -> int:
    return 2 * number


@rt.function_node
async def twice(number: int) -> int:
    return await rt.call(double, number) + await rt.call(double, number)


@rt.function_node
async def fail(error: BaseException) -> None:
    raise error


@rt.function_node
def add(first: int, second: int = 1) -> int:
    return first + second


async def plain(**values: Any) -> dict[str, Any]:
    return values


# Results, arguments and records.


async def test_a_call_gives_what_the_node_returns() -> None:
    async with rt.Session():
        assert await rt.call(double, 21) == 42
        assert await rt.call(add, 1, second=2) == 3
        assert await rt.call(plain, node=1, self=2) == {"node": 1, "self": 2}


async def test_a_record_tells_node_arguments_result_and_times() -> None:
    before = datetime.now(UTC)
    async with rt.Session() as session:
        await rt.call(add, 1, second=2)
    (call,) = session.info.calls
    assert (call.id, call.parent_id, call.node, call.attempt) == (1, None, "add", 1)
    assert (call.args, call.kwargs, call.result, call.error) == ((1,), {"second": 2}, 3, None)
    assert call.status is rt.Status.COMPLETED
    assert call.ended_at is not None
    assert before <= call.started_at <= call.ended_at <= datetime.now(UTC)


async def test_calls_made_in_a_node_are_its_children_in_their_order() -> None:
    async with rt.Session() as session:
        assert await rt.call(twice, 3) == 12
        assert await rt.call(double, 1) == 2
    info = session.info
    assert [(call.id, call.parent_id, call.node) for call in info.calls] == [
        (1, None, "twice"),
        (2, 1, "double"),
        (3, 1, "double"),
        (4, None, "double"),
    ]
    assert [call.id for call in info.children(1)] == [2, 3]
    assert [call.id for call in info.roots] == [1, 4]
    assert info.answer == 12


async def test_a_record_is_open_while_its_node_runs() -> None:
    async def look() -> list[str]:
        return [call.status for call in rt.current_session().info.calls]

    async with rt.Session():
        assert await rt.call(look) == ["running"]
        assert await rt.call(look) == ["completed", "running"]


async def test_a_plain_function_is_accepted_and_wrapped_once_a_session() -> None:
    asked = []

    class Named:
        @property
        def __name__(self) -> str:
            asked.append(self)
            return "named"

        async def __call__(self) -> str:
            return "done"

    named = Named()
    async with rt.Session() as session:
        assert await rt.call(named) == "done"
        assert (first := len(asked)) > 0
        assert await rt.call(named) == "done"
        assert len(asked) == first
    assert [call.node for call in session.info.calls] == ["named", "named"]


async def test_methods_of_different_objects_are_different_nodes() -> None:
    class Shop:
        def __init__(self, price: int) -> None:
            self.price = price

        async def total(self, count: int) -> int:
            return self.price * count

    async with rt.Session():
        cheap, dear = Shop(1), Shop(100)
        assert [await rt.call(shop.total, 2) for shop in (cheap, dear, cheap)] == [2, 200, 2]
        # Builtin methods as well: these differ by name on one object.
        words = ["b", "a"]
        await rt.call(words.sort)
        await rt.call(words.append, "c")
        assert words == ["a", "b", "c"]


async def test_the_record_of_a_failed_call_holds_the_error_as_text() -> None:
    async with rt.Session() as session:
        with pytest.raises(ValueError, match="no good"):
            await rt.call(fail, ValueError("no good"))
    (call,) = session.info.calls
    assert (call.status, call.result) == (rt.Status.FAILED, None)
    assert call.error is not None
    assert (call.error.type, call.error.message) == ("ValueError", "no good")
    assert "ValueError: no good" in call.error.traceback
    assert "raise error" in call.error.traceback


# As if awaited in place.


async def test_a_node_runs_in_the_callers_scopes() -> None:
    async def deadline() -> float:
        return trio.current_effective_deadline()

    async with rt.Session():
        with trio.move_on_at(trio.current_time() + 1000) as scope:
            assert await rt.call(deadline) == scope.deadline
        assert await rt.call(deadline) == math.inf


async def test_a_scope_of_the_callers_cancels_the_node(autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        with trio.move_on_after(1) as scope:
            await rt.call(trio.sleep, 5)
        assert scope.cancelled_caught
        assert trio.current_time() == 1
    assert session.status is rt.Status.COMPLETED
    assert [call.status for call in session.info.calls] == [rt.Status.CANCELLED]


async def test_context_variables_behave_as_if_awaited_in_place() -> None:
    async def relabel(label: str) -> str:
        before = LABEL.get()
        LABEL.set(label)
        return before

    async with rt.Session():
        LABEL.set("caller's")
        assert await rt.call(relabel, "node's") == "caller's"
        assert LABEL.get() == "node's"


async def test_a_sync_node_sees_the_callers_context_variables() -> None:
    async with rt.Session():
        LABEL.set("caller's")
        assert await rt.call(LABEL.get) == "caller's"


# Checkpoints.


async def test_a_call_is_a_checkpoint() -> None:
    async with rt.Session():
        with assert_checkpoints():
            await rt.call(double, 1)
        with assert_checkpoints():
            await rt.call(add, 1)
        with assert_checkpoints(), pytest.raises(ValueError, match="no"):
            await rt.call(fail, ValueError("no"))


class Steps(trio.abc.Instrument):
    """Counts the steps of a task; each schedule point begins one."""

    def __init__(self) -> None:
        self.taken: Counter[trio.lowlevel.Task] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken[task] += 1


async def test_a_call_is_a_schedule_point_except_for_a_tasks_first() -> None:
    steps = Steps()
    counted = []

    async def step() -> int:
        return steps.taken[trio.lowlevel.current_task()]

    async def task() -> None:
        counted.extend([await step(), await rt.call(step), await rt.call(step), await rt.call(step)])

    trio.lowlevel.add_instrument(steps)
    async with rt.Session(), trio.open_nursery() as nursery:
        nursery.start_soon(task)
    trio.lowlevel.remove_instrument(steps)
    assert counted == [1, 1, 2, 3]


async def test_a_call_in_a_cancelled_scope_is_recorded_cancelled_and_its_node_has_not_run() -> None:
    has_run = []

    @rt.function_node(name="never")
    async def never() -> None:
        has_run.append(1)

    async with rt.Session() as session:
        with trio.CancelScope() as scope:
            scope.cancel()
            await rt.call(never)
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await rt.call(lambda: has_run.append(2))
        assert scope.cancelled_caught
    assert has_run == []
    assert [call.status for call in session.info.calls] == [rt.Status.CANCELLED] * 2


async def test_a_tasks_first_call_is_a_cancellation_point_too() -> None:
    has_run = []

    async def task() -> None:
        await rt.call(lambda: has_run.append(1))

    async with rt.Session() as session, trio.open_nursery() as nursery:
        nursery.start_soon(task)
        nursery.cancel_scope.cancel()
    assert has_run == []
    assert [call.status for call in session.info.calls] == [rt.Status.CANCELLED]


async def test_a_node_that_answers_its_own_cancel_completes(autojump_clock: MockClock) -> None:
    async def patient() -> str:
        with trio.move_on_after(1):
            await trio.sleep_forever()
        return "gave up"

    async with rt.Session() as session:
        assert await rt.call(patient) == "gave up"
    assert session.info.calls[0].status is rt.Status.COMPLETED


# Without a session, without Trio.


async def test_a_call_without_a_session_opens_one_for_itself() -> None:
    seen = []

    async def look() -> int:
        seen.append(rt.current_session())
        return await rt.call(double, 4)

    assert rt.session_id() is None
    assert await rt.call(look) == 8
    assert await rt.call(look) == 8
    assert rt.session_id() is None
    first, second = seen
    assert first.identifier != second.identifier
    assert first.status is rt.Status.COMPLETED
    assert [call.node for call in first.info.calls] == ["look", "double"]


async def test_a_default_session_fails_with_the_nodes_own_error() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        await rt.call(fail, error)
    assert caught.value is error


def test_without_trio_running_a_call_says_how_to_start() -> None:
    coroutine = rt.call(double, 1)
    with pytest.raises(RuntimeError, match=r"Flow\.invoke.*trio\.run"):
        coroutine.send(None)


# The timeout of a node.


async def test_a_nodes_timeout_ends_it_and_names_node_and_seconds(autojump_clock: MockClock) -> None:
    @rt.function_node(timeout=3)
    async def slow() -> None:
        await trio.sleep(10)

    async with rt.Session() as session:
        with pytest.raises(rt.NodeTimeoutError, match=r"'slow'.* 3 seconds") as caught:
            await rt.call(slow)
        assert trio.current_time() == 3
    assert (caught.value.node, caught.value.seconds) == ("slow", 3)
    assert isinstance(caught.value, TimeoutError)
    assert session.info.calls[0].status is rt.Status.FAILED


async def test_within_its_timeout_a_node_gives_its_result(autojump_clock: MockClock) -> None:
    @rt.function_node(timeout=3)
    async def quick() -> str:
        await trio.sleep(2)
        return "done"

    assert await rt.call(quick) == "done"


async def test_within_its_timeout_a_sync_node_gives_its_result() -> None:
    assert await rt.call(add.with_options(timeout=60), 1) == 2


async def test_a_nodes_own_error_within_its_timeout_is_unchanged() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        await rt.call(fail.with_options(timeout=3), error)
    assert caught.value is error
    assert error.__context__ is None


async def test_an_error_while_the_timeout_unwinds_the_node_replaces_it_and_keeps_it_as_context(
    autojump_clock: MockClock,
) -> None:
    @rt.function_node(timeout=3)
    async def clumsy() -> None:
        try:
            await trio.sleep(10)
        finally:
            raise ValueError("in cleanup")

    with pytest.raises(ValueError, match="in cleanup") as caught:
        await rt.call(clumsy)
    assert isinstance(caught.value.__context__, rt.NodeTimeoutError)


async def test_a_callers_scope_that_ends_first_is_no_timeout_of_the_node(autojump_clock: MockClock) -> None:
    @rt.function_node(timeout=3)
    async def slow() -> None:
        await trio.sleep(10)

    async with rt.Session() as session:
        with trio.move_on_after(1) as scope:
            await rt.call(slow)
        assert scope.cancelled_caught
    assert session.info.calls[0].status is rt.Status.CANCELLED


async def test_a_thread_that_comes_back_after_its_timeout_has_timed_out_all_the_same(mock_clock: MockClock) -> None:
    release = threading.Event()

    @rt.function_node(timeout=3)
    def blocked() -> str:
        trio.from_thread.run_sync(mock_clock.jump, 5)
        release.wait(60)
        return "too late"

    async with rt.Session() as session, trio.open_nursery() as nursery:

        async def let_go() -> None:
            await trio.sleep(4)
            release.set()

        nursery.start_soon(let_go)
        with pytest.raises(rt.NodeTimeoutError):
            await rt.call(blocked)
    assert session.info.calls[0].status is rt.Status.FAILED


async def test_a_thread_that_asks_learns_of_its_nodes_timeout(mock_clock: MockClock) -> None:
    @rt.function_node(timeout=3)
    def asking() -> None:
        trio.from_thread.run_sync(mock_clock.jump, 5)
        while True:
            trio.from_thread.check_cancelled()

    with pytest.raises(rt.NodeTimeoutError):
        await rt.call(asking)


# What is told of a call.


async def test_the_log_tells_every_step_of_a_call(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "RT")
    async with rt.Session() as session:
        await rt.call(twice, 1)
        with pytest.raises(ValueError, match="no"):
            await rt.call(fail, ValueError("no"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await rt.call(functools.partial(add, 1))
    records = [record for record in caplog.records if record.name == "RT"]
    assert [re.sub(r" (in|after) [0-9.]+ m?s$", "", record.getMessage()) for record in records] == [
        "START CREATED twice",
        "twice CREATED double (2)",
        "double (2) DONE",
        "twice CREATED double (3)",
        "double (3) DONE",
        "twice (1) DONE",
        "START CREATED fail (4)",
        "fail (4) FAILED: ValueError: no",
        "START CREATED add (5)",
        "add (5) CANCELLED",
    ]
    assert {record.session_id for record in caplog.records} == {session.identifier}  # type: ignore[attr-defined]
    assert [record.run_id for record in records] == [1, 1, 1, 1, 1, 1, 4, 4, 5, 5]  # type: ignore[attr-defined]


async def test_a_cancel_from_outside_comes_before_the_timeout_of_a_late_thread(mock_clock: MockClock) -> None:
    waits, release = trio.Event(), threading.Event()

    @rt.function_node(timeout=1)
    def keep_waiting() -> str:
        trio.from_thread.run_sync(waits.set)
        release.wait()
        return "late"

    scope = trio.CancelScope()

    async def cancel_and_let_go() -> None:
        await waits.wait()
        scope.cancel()
        # The node's timeout runs out while its thread waits.
        mock_clock.jump(2)
        await wait_all_tasks_blocked()
        release.set()

    async with rt.Session() as session, trio.open_nursery() as nursery:
        nursery.start_soon(cancel_and_let_go)
        with scope:
            await rt.call(keep_waiting)
    assert scope.cancelled_caught
    assert session.info.calls[0].result == "late"


async def test_an_error_of_a_childs_cleanup_under_a_nodes_timeout_is_bare_and_tells_of_the_timeout(
    autojump_clock: MockClock,
) -> None:
    error = ValueError("cleanup")

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    @rt.function_node(timeout=1)
    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="cleanup") as caught:
        await rt.call(parent)
    assert caught.value is error
    assert isinstance(caught.value.__context__, rt.NodeTimeoutError)
