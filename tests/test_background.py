"""Background calls, which the end of the session awaits, and services, which it cancels."""

import logging
import threading
from concurrent import futures
from contextvars import ContextVar
from typing import Any

import pytest
import trio
import worker_functions as functions
from kept_cancels import node_with_a_kept_cancelled
from plain_nodes import fail_in_cleanup
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt


@rt.function_node
async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


@rt.function_node
async def sleep(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


@rt.function_node
async def fail(error: Exception) -> None:
    raise error


@rt.function_node
async def stop() -> None:
    rt.current_session().cancel()


@rt.function_node
async def serve(value: object, *, task_status: trio.TaskStatus[object]) -> str:
    task_status.started(value)
    await trio.sleep(5)
    return "served"


@rt.function_node
async def never_start(*, task_status: trio.TaskStatus[object]) -> None:
    await trio.sleep_forever()


# start_soon


async def test_start_soon_returns_at_once_and_the_end_of_the_block_awaits_it(autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        started = trio.current_time()
        pending = session.start_soon(sleep, 5)
        assert pending.status == "running"
    assert trio.current_time() == started + 5
    assert pending.result() == 5
    assert session.status == "completed"


async def test_start_soon_takes_keyword_arguments_and_plain_functions() -> None:
    def shout(text: str, *, mark: str) -> str:
        return text.upper() + mark

    async with rt.Session() as session:
        pending = session.start_soon(shout, "hi", mark="!")
    assert pending.result() == "HI!"
    assert (session.info.calls[0].node, session.info.calls[0].kwargs) == ("shout", {"mark": "!"})


async def test_background_calls_may_start_more_of_them_while_the_session_ends() -> None:
    @rt.function_node
    async def start_next(left: int) -> None:
        await trio.lowlevel.checkpoint()
        if left:
            session.start_soon(start_next, left - 1)

    async with rt.Session() as session:
        session.start_soon(start_next, 3)
    assert [call.args for call in session.info.calls] == [(3,), (2,), (1,), (0,)]
    assert {call.status for call in session.info.calls} == {"completed"}


async def test_background_call_is_a_top_level_call_whatever_call_starts_it() -> None:
    @rt.function_node
    async def start() -> None:
        session.start_soon(double, 1)
        session.start_service(double, 2)

    async with rt.Session() as session:
        await rt.call(start)
    assert [call.parent_id for call in session.info.calls] == [None, None, None]


async def test_background_call_from_a_task_beside_the_session_runs_under_it() -> None:
    async def start() -> None:
        pending.append(session.start_soon(double, 4))
        pending.append(session.start_service(sleep, 10**9))
        assert await session.start(serve, "ready") == "ready"

    pending: list[rt.PendingCall[object]] = []
    async with trio.open_nursery() as nursery, rt.Session() as session:
        nursery.start_soon(start)
        await wait_all_tasks_blocked()
        session.cancel()
    assert pending[0].result() == 8
    statuses = {call.node: call.status for call in session.info.calls}
    assert statuses == {"double": "completed", "sleep": "cancelled", "serve": "cancelled"}


async def test_background_call_from_a_nested_session_belongs_to_the_one_that_was_asked() -> None:
    async with rt.Session() as outer:
        async with rt.Session() as inner:
            outer.start_soon(double, 4)
        assert inner.info.calls == ()
    assert outer.info.answer == 8


async def test_background_call_from_a_worker_thread() -> None:
    @rt.function_node
    def start() -> None:
        trio.from_thread.run_sync(session.start_soon, double, 4)

    async with rt.Session() as session:
        await rt.call(start)
    assert [call.result for call in session.info.calls] == [None, 8]


async def test_failure_of_a_background_call_cancels_the_session_and_is_raised_bare() -> None:
    error = ValueError("background")
    with pytest.raises(ValueError, match="background") as caught:
        async with rt.Session() as session:
            session.start_soon(fail, error)
            await trio.sleep_forever()
    assert caught.value is error
    assert session.status == "failed"


async def test_failures_of_several_background_calls_are_a_group() -> None:
    go_on = trio.Event()

    @rt.function_node
    async def fail_together(error: Exception) -> None:
        await go_on.wait()
        raise error

    with pytest.RaisesGroup(ValueError, KeyError):
        async with rt.Session() as session:
            session.start_soon(fail_together, ValueError())
            session.start_soon(fail_together, KeyError())
            await wait_all_tasks_blocked()
            go_on.set()


async def test_failure_while_background_calls_are_awaited_cancels_the_others(autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="late"):
        async with rt.Session() as session:
            pending = session.start_soon(sleep, 10**9)
            session.start_soon(fail, ValueError("late"))
    assert pending.status == "cancelled"


@pytest.mark.parametrize("how", ["error", "cancel", "timeout"])
async def test_error_timeout_or_cancel_cancels_and_awaits_all_of_them(how: str, autojump_clock: MockClock) -> None:
    log: list[str] = []

    @rt.function_node
    async def work(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            log.append(name)

    session = rt.Session(timeout=1)

    async def run() -> None:
        async with session:
            session.start_soon(work, "background")
            session.start_service(work, "service")
            await wait_all_tasks_blocked()
            if how == "error":
                raise ValueError("body")
            if how == "cancel":
                session.cancel()
            await trio.sleep_forever()

    if how == "cancel":
        await run()
    else:
        with pytest.raises((ValueError, rt.SessionTimeoutError)):
            await run()
    assert sorted(log) == ["background", "service"]
    assert {call.status for call in session.info.calls} == {"cancelled"}


# start_service


async def test_service_is_cancelled_when_the_block_is_left() -> None:
    async with rt.Session() as session:
        service = session.start_service(sleep, 10**9)
        await wait_all_tasks_blocked()
        assert service.status == "running"
    assert service.status == "cancelled"
    with pytest.raises(rt.PendingCallError, match="the session ended"):
        service.result()
    assert session.status == "completed"


async def test_service_that_ended_before_is_not_touched() -> None:
    async with rt.Session() as session:
        service = session.start_service(double, 4)
        await service.wait()
    assert service.result() == 8


async def test_services_are_cancelled_before_background_calls_are_awaited(autojump_clock: MockClock) -> None:
    log: list[str] = []

    @rt.function_node
    async def work(name: str, seconds: float) -> None:
        try:
            await trio.sleep(seconds)
        finally:
            log.append(name)

    async with rt.Session() as session:
        session.start_soon(work, "background", 1)
        session.start_service(work, "service", 10**9)
        await wait_all_tasks_blocked()
    assert log == ["service", "background"]


async def test_service_that_is_started_while_the_session_ends_is_cancelled_at_once() -> None:
    @rt.function_node
    async def start_late() -> None:
        await wait_all_tasks_blocked()
        service = session.start_service(sleep, 10**9)
        await service.wait()
        statuses.append(service.status)

    statuses: list[rt.Status] = []
    async with rt.Session() as session:
        session.start_soon(start_late)
    assert statuses == ["cancelled"]
    assert session.status == "completed"


async def test_failure_of_a_service_fails_the_session() -> None:
    with pytest.raises(ValueError, match="service"):
        async with rt.Session() as session:
            session.start_service(fail, ValueError("service"))
            await trio.sleep_forever()


async def test_error_in_the_cleanup_of_a_service_is_raised() -> None:
    with pytest.raises(ValueError, match="cleanup"):
        async with rt.Session() as session:
            session.start_service(fail_in_cleanup, ValueError("cleanup"))
            await wait_all_tasks_blocked()
    assert session.status == "failed"


# start


async def test_start_waits_for_started_and_returns_its_value(autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        begun = trio.current_time()
        assert await session.start(serve, "ready") == "ready"
        assert trio.current_time() == begun
    assert trio.current_time() == begun + 5
    (call,) = session.info.calls
    assert (call.node, call.args, call.kwargs, call.parent_id, call.result) == ("serve", ("ready",), {}, None, "served")


async def test_start_takes_a_plain_function_and_a_sync_one_that_starts_from_its_thread() -> None:
    def serve_in_thread(*, task_status: trio.TaskStatus[str]) -> str:
        trio.from_thread.run_sync(task_status.started, "ready")
        return "served"

    async with rt.Session() as session:
        assert await session.start(serve_in_thread) == "ready"
    assert session.info.answer == "served"


@pytest.mark.parametrize("options", [{}, {"abandon_on_cancel": True}, {"run_in": futures.ThreadPoolExecutor(1)}])
async def test_a_sync_node_calls_started_in_its_thread(options: dict[str, Any]) -> None:
    # Trio's own `started` left the nurseries half changed there, and neither a timeout nor Ctrl-C ended the session.
    def serve_in_thread(*, task_status: trio.TaskStatus[str]) -> str:
        task_status.started("ready")
        return "served"

    async with rt.Session() as session:
        assert await session.start(rt.function_node(serve_in_thread, **options)) == "ready"
    assert session.info.answer == "served"


async def test_a_sync_node_that_calls_started_twice_in_its_thread_fails_the_session() -> None:
    def serve_in_thread(*, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("ready")
        task_status.started("again")

    with pytest.raises(RuntimeError, match="twice"):
        async with rt.Session(save_state=False) as session:
            assert await session.start(serve_in_thread) == "ready"
            await trio.sleep_forever()
    assert session.status == "failed"


@pytest.mark.parametrize("run_in", ["process", futures.Executor()])
async def test_a_node_of_another_process_cannot_be_started(run_in: Any) -> None:
    async with rt.Session(save_state=False) as session:
        with pytest.raises(rt.NodeCreationError, match="'add' runs in another process, which cannot call"):
            await session.start(rt.function_node(functions.add, run_in=run_in), 1, 2)
    assert session.status == "completed"


async def test_error_before_started_is_raised_where_it_was_started_and_ends_nothing() -> None:
    error, cause, context = ValueError("early"), KeyError("cause"), KeyError("context")

    async def refuse(*, task_status: trio.TaskStatus[None]) -> None:
        error.__context__ = context
        raise error from cause

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="early") as caught:
            await session.start(refuse)
        assert await rt.call(double, 4) == 8
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (cause, context)
    assert session.status == "completed"


async def test_error_after_started_fails_the_session() -> None:
    async def break_down(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        async with rt.Session() as session:
            await session.start(break_down)
            await trio.sleep_forever()
    assert session.status == "failed"


async def test_node_that_returns_without_having_started_is_a_runtime_error() -> None:
    async def forget(*, task_status: trio.TaskStatus[None]) -> None:
        pass

    async with rt.Session() as session:
        with pytest.raises(RuntimeError, match=r"without calling task_status\.started"):
            await session.start(forget)
    assert session.status == "completed"


async def test_start_that_is_cancelled_cancels_the_node(autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        with trio.move_on_after(1) as scope:
            await session.start(never_start)
        assert scope.cancelled_caught
        assert session.info.calls[0].status == "cancelled"
    assert session.status == "completed"


async def test_error_in_the_cleanup_of_a_cancelled_start_is_raised_there(autojump_clock: MockClock) -> None:
    async def work(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("cleanup")

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="cleanup"), trio.move_on_after(1):
            await session.start(work)
    assert session.status == "completed"


async def test_session_that_is_cancelled_cancels_a_start_in_its_own_task() -> None:
    async with rt.Session() as session:
        session.start_soon(stop)
        await session.start(never_start)
    assert session.status == "cancelled"
    assert {call.node: call.status for call in session.info.calls} == {"stop": "completed", "never_start": "cancelled"}


async def test_session_that_times_out_refuses_a_start_from_a_task_beside_it(autojump_clock: MockClock) -> None:
    async def start() -> None:
        with pytest.raises(rt.ContextError, match="ended before 'never_start' had started"):
            await session.start(never_start)
        # Once more, while the cleanup of the first one keeps the session open.
        with pytest.raises(rt.ContextError, match="ended before 'never_start' had started"):
            await session.start(never_start)
        refused.set()

    @rt.function_node
    async def clean_up_slowly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await refused.wait()

    refused = trio.Event()
    async with trio.open_nursery() as nursery:
        with pytest.raises(rt.SessionTimeoutError):
            async with rt.Session(timeout=1) as session:
                session.start_soon(clean_up_slowly)
                nursery.start_soon(start)
                await trio.sleep_forever()
        assert refused.is_set()


# Where and when


async def test_background_call_sees_the_context_variables_of_the_task_that_started_it() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")

    @rt.function_node
    async def look() -> str:
        return variable.get()

    async with rt.Session() as session:
        variable.set("set")
        pending = session.start_soon(look)
    assert pending.result() == "set"


async def ways(session: rt.Session) -> None:
    for start in (session.start_soon, session.start_service):
        with pytest.raises(rt.ContextError) as caught:
            start(double, 4)
        assert isinstance(caught.value, RuntimeError)
    with pytest.raises(rt.ContextError):
        await session.start(serve, "ready")


async def test_before_the_session_was_entered_they_are_context_errors() -> None:
    session = rt.Session(name="run")
    await ways(session)
    with pytest.raises(rt.ContextError, match="session 'run' was not entered: use 'async with'"):
        session.start_soon(double, 4)


async def test_after_the_session_they_are_context_errors() -> None:
    async with rt.Session(name="run") as session:
        pass
    await ways(session)
    with pytest.raises(rt.ContextError, match="session 'run' takes no more calls"):
        session.start_soon(double, 4)
    assert session.info.calls == ()


async def test_a_start_from_beside_the_session_does_not_outlive_its_end() -> None:
    @rt.function_node
    async def never_starts(task_status: object) -> None:
        await trio.sleep_forever()

    async def go(session: rt.Session) -> None:
        with pytest.raises(rt.ContextError):
            await session.start(never_starts)

    async with trio.open_nursery() as beside, rt.Session() as session:
        beside.start_soon(go, session)
        await trio.testing.wait_all_tasks_blocked()
        session.cancel()
    assert session.status == "cancelled"


async def test_a_session_that_ends_names_the_sync_service_that_it_waits_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go = trio.Event(), threading.Event()

    @rt.function_node
    def poll() -> None:
        trio.from_thread.run_sync(running.set)
        assert go.wait(10)

    def see(record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING:
            go.set()
        return True

    monkeypatch.setattr(caplog.handler, "filters", [see])
    async with rt.Session(name="run", save_state=False) as session:
        session.start_service(poll)
        await running.wait()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["session 'run' is ending and waits for node 'poll': a worker thread cannot be stopped"]


async def test_a_cancelled_that_a_background_call_had_kept_fails_the_session() -> None:
    memo = await node_with_a_kept_cancelled()
    with pytest.raises(rt.PendingCallError, match="nothing has cancelled it"):
        async with rt.Session() as session:
            session.start_soon(memo, 1)
            await trio.sleep_forever()
    assert session.status == "failed"
