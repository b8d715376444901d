"""How a session ends: the first cause decides the status, no error is lost, and cleanup always runs."""

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from plain_nodes import fail_in_cleanup
from trio.lowlevel import enable_ki_protection
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt


@rt.function_node
async def double(number: int) -> int:
    return 2 * number


@rt.function_node
async def sleep_forever() -> None:
    await trio.sleep_forever()


@rt.function_node
async def fail(error: BaseException) -> None:
    raise error


@rt.function_node
async def catch(error: BaseException) -> str:
    try:
        await rt.call(fail, error)
    except Exception:  # noqa: BLE001 - what is under test is that this keeps no session alive
        return "caught"
    return "nothing to catch"


# Timeout


async def test_timeout_cancels_everything_runs_cleanup_and_raises_session_timeout_error(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    @rt.function_node
    async def work(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            log.append(name)

    with pytest.raises(rt.SessionTimeoutError) as caught:
        async with rt.Session(name="run", timeout=2) as session:
            started = trio.current_time()
            session.start_soon(work, "background")
            session.start_service(work, "service")
            await rt.call(work, "call")
    assert trio.current_time() == started + 3
    assert sorted(log) == ["background", "call", "service"]
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, rt.GlobalTimeOutError)
    assert (caught.value.session, caught.value.timeout) == ("run", 2)
    assert str(caught.value).startswith("session 'run' did not finish within its timeout of 2 seconds: work (")
    assert session.status == "timed_out"
    assert {call.status for call in session.info.calls} == {"cancelled"}
    assert session.info.error.type == "railtracks.exceptions.SessionTimeoutError"


async def test_timeout_error_names_the_session_that_expired_by_its_flow_or_else_its_identifier(
    autojump_clock: MockClock,
) -> None:
    for session, label in ((rt.Session(timeout=1, flow_name="flow"), "flow"), (unnamed := rt.Session(timeout=1), None)):
        with pytest.raises(rt.SessionTimeoutError) as caught:
            async with session:
                await trio.sleep_forever()
        assert caught.value.session == (label or unnamed.identifier)


async def test_timeout_stops_counting_when_the_block_is_left(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def closing_slowly() -> AsyncIterator[None]:
        yield
        await trio.sleep(4)

    async with rt.Session(timeout=1) as session:
        await session.enter_async_context(closing_slowly())
    assert session.status == "completed"


async def test_timeout_counts_while_background_calls_are_awaited(autojump_clock: MockClock) -> None:
    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(timeout=1) as session:
            session.start_soon(sleep_forever)
    assert session.status == "timed_out"


async def test_body_that_comes_back_after_its_time_has_timed_out(mock_clock: MockClock) -> None:
    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(timeout=1) as session:
            mock_clock.jump(2)
    assert session.status == "timed_out"


async def test_body_that_ends_in_time_has_completed_though_time_runs_out_while_the_session_closes(
    mock_clock: MockClock,
) -> None:
    go_on = trio.Event()
    has_jumped = False

    async def run() -> None:
        session = rt.Session(timeout=1, save_state=False)
        was_late = False
        with contextlib.suppress(rt.SessionTimeoutError):
            async with session:
                await go_on.wait()
                was_late = has_jumped
        assert session.status == ("timed_out" if was_late else "completed")

    async def jump() -> None:
        nonlocal has_jumped
        await go_on.wait()
        mock_clock.jump(2)
        has_jumped = True

    # Trio wakes them in this order or in its reverse: either way a body ends just before the clock jumps.
    async with trio.open_nursery() as nursery:
        for task in (run, jump, run):
            nursery.start_soon(task)
            await wait_all_tasks_blocked()
        go_on.set()


async def test_shielded_body_that_ends_at_the_very_deadline_has_timed_out(autojump_clock: MockClock) -> None:
    # Trio tosses a coin on the order in which it wakes what is due at once.
    for _ in range(8):
        with pytest.raises(rt.SessionTimeoutError):
            async with rt.Session(timeout=1, save_state=False) as session:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
        assert session.status == "timed_out"


async def test_nothing_runs_on_after_a_timeout(autojump_clock: MockClock) -> None:
    ticks: list[float] = []

    @rt.function_node
    async def tick() -> None:
        while True:
            ticks.append(trio.current_time())
            await trio.sleep(0.1)

    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(timeout=1) as session:
            session.start_service(tick)
            await rt.call(tick)
    count = len(ticks)
    await trio.sleep(10)
    assert len(ticks) == count


async def test_error_in_cleanup_replaces_the_timeout_error_which_becomes_its_context(
    autojump_clock: MockClock,
) -> None:
    failure = ValueError("cleanup")

    with pytest.raises(ValueError, match="cleanup") as caught:
        async with rt.Session(name="run", timeout=1) as session:
            await rt.call(fail_in_cleanup, failure)
    assert caught.value is failure
    assert isinstance(failure.__context__, rt.SessionTimeoutError)
    assert failure.__context__.session == "run"
    assert session.status == "timed_out"
    assert session.info.error.message == "cleanup"


async def test_errors_of_several_cleanups_are_a_group_over_the_timeout_error(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(ValueError, KeyError) as caught:
        async with rt.Session(timeout=1) as session:
            session.start_soon(fail_in_cleanup, ValueError("one"))
            await rt.call(fail_in_cleanup, KeyError("two"))
    assert isinstance(caught.value.__context__, rt.SessionTimeoutError)
    assert session.status == "timed_out"


@pytest.mark.parametrize("end_on_error", [False, True])
async def test_timeout_is_the_first_cause_in_whatever_order_tasks_wake(
    end_on_error: bool, autojump_clock: MockClock
) -> None:
    # Trio tosses a coin on it.
    for _ in range(8):
        with pytest.raises(ValueError, match="cleanup") as caught:
            async with rt.Session(timeout=1, end_on_error=end_on_error, save_state=False) as session:
                session.start_soon(fail_in_cleanup, ValueError("cleanup"))
        assert isinstance(caught.value.__context__, rt.SessionTimeoutError)
        assert session.status == "timed_out"


async def test_cancel_from_outside_is_the_first_cause_though_a_background_call_fails_in_its_cleanup() -> None:
    with trio.CancelScope() as outside, pytest.raises(ValueError, match="cleanup"):
        async with rt.Session() as session:
            session.start_soon(fail_in_cleanup, ValueError("cleanup"))
            await wait_all_tasks_blocked()
            outside.cancel()
    assert session.status == "cancelled"


async def test_fatal_error_in_the_cleanup_of_a_group_that_failed_is_a_failure_of_the_session() -> None:
    with pytest.raises(rt.FatalError, match="cleanup"):
        async with rt.Session() as session, rt.open_group() as group:
            group.start_soon(fail_in_cleanup, rt.FatalError("cleanup"))
            await wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert session.status == "failed"


async def test_error_before_the_timeout_is_the_first_cause_though_time_runs_out_in_cleanup(
    autojump_clock: MockClock,
) -> None:
    @rt.function_node
    async def clean_up_slowly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    with pytest.raises(ValueError, match="first") as caught:
        async with rt.Session(timeout=1) as session:
            session.start_soon(clean_up_slowly)
            await wait_all_tasks_blocked()
            raise ValueError("first")
    assert session.status == "failed"
    assert caught.value.__context__ is None


async def test_error_while_the_timeout_is_unwinding_that_is_no_cleanup_is_not_the_first_cause(
    autojump_clock: MockClock,
) -> None:
    @rt.function_node
    async def fail_under_a_shield() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        raise ValueError("late")

    with pytest.raises(ValueError, match="late") as caught:
        async with rt.Session(timeout=1) as session:
            await rt.call(fail_under_a_shield)
    assert session.status == "timed_out"
    assert isinstance(caught.value.__context__, rt.SessionTimeoutError)


async def test_cancel_before_the_timeout_is_the_first_cause_though_time_runs_out_in_cleanup(
    autojump_clock: MockClock,
) -> None:
    async with rt.Session(timeout=1) as session:
        session.cancel("enough")
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
    assert (session.status, session.cancel_reason) == ("cancelled", "enough")


async def test_cancel_after_the_timeout_is_not_the_first_cause(autojump_clock: MockClock) -> None:
    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(timeout=1) as session:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            session.cancel("too late")
    assert (session.status, session.cancel_reason) == ("timed_out", None)


# A scope outside


async def test_scope_outside_alone_cancels_the_session_and_goes_on() -> None:
    with trio.CancelScope() as outside:
        async with rt.Session() as session:
            outside.cancel()
            await rt.call(sleep_forever)
    assert outside.cancelled_caught
    assert session.status == "cancelled"
    assert session.info.error is None


async def test_deadline_that_was_set_without_a_timeout_is_a_timeout_that_speaks_of_no_seconds(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(rt.SessionTimeoutError, match="did not finish before its deadline") as caught:
        async with rt.Session() as session:
            session.cancel_scope.deadline = trio.current_time() + 2
            await rt.call(sleep_forever)
    assert "inf" not in str(caught.value)
    assert session.status == "timed_out"


async def test_deadline_outside_is_not_the_sessions_timeout(autojump_clock: MockClock) -> None:
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(1):
            async with rt.Session(timeout=2) as session:
                await trio.sleep_forever()
    assert session.status == "cancelled"


async def test_scope_outside_that_is_cancelled_too_before_the_session_has_unwound_decides_what_is_raised(
    autojump_clock: MockClock,
) -> None:
    with trio.move_on_after(2) as outside:
        async with rt.Session(timeout=1) as session:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
    assert outside.cancelled_caught
    # The first cause still tells the status.
    assert session.status == "timed_out"


async def test_scope_outside_that_is_cancelled_first_stays_the_first_cause(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as outside:
        async with rt.Session(timeout=2) as session:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
    assert outside.cancelled_caught
    assert session.status == "cancelled"


async def test_scope_outside_over_a_session_that_was_cancelled_too_goes_on() -> None:
    with trio.CancelScope() as outside:
        async with rt.Session() as session:
            session.cancel("enough")
            outside.cancel()
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert (session.status, session.cancel_reason) == ("cancelled", "enough")


async def test_error_in_cleanup_after_a_cancel_from_outside_is_raised() -> None:
    with trio.CancelScope() as outside, pytest.raises(ValueError, match="cleanup"):
        async with rt.Session() as session:
            outside.cancel()
            await rt.call(fail_in_cleanup, ValueError("cleanup"))
    assert session.status == "cancelled"


async def test_scope_outside_that_is_cancelled_while_the_state_is_saved_finds_the_session_completed() -> None:
    @asynccontextmanager
    async def cancelling() -> AsyncIterator[None]:
        yield
        outside.cancel()
        await trio.lowlevel.checkpoint()

    with trio.CancelScope() as outside:
        async with rt.Session() as session:
            await session.enter_async_context(cancelling())
        assert session.state_path.exists()
        assert session.status == "completed"
        await trio.sleep_forever()
    assert outside.cancelled_caught


# Errors


async def test_error_of_the_body_cancels_the_rest_and_is_raised_as_it_is() -> None:
    error = ValueError("body")
    with pytest.raises(ValueError, match="body") as caught:
        async with rt.Session() as session:
            pending = session.start_soon(sleep_forever)
            await wait_all_tasks_blocked()
            raise error
    assert caught.value is error
    assert error.__context__ is None
    assert pending.status == "cancelled"
    assert session.status == "failed"
    assert (session.info.error.type, session.info.error.message) == ("ValueError", "body")


async def test_error_of_a_call_that_nobody_catches_is_the_same_object() -> None:
    error = ValueError("call")
    with pytest.raises(ValueError, match="call") as caught:
        async with rt.Session() as session:
            await rt.call(fail, error)
    assert caught.value is error
    assert session.status == "failed"


async def test_error_that_is_caught_ends_nothing() -> None:
    async with rt.Session() as session:
        assert await rt.call(catch, ValueError("call")) == "caught"
        assert await rt.call(double, 4) == 8
    assert session.status == "completed"
    assert session.info.error is None


async def test_errors_of_body_and_background_are_a_group() -> None:
    ready = trio.Event()

    @rt.function_node
    async def fail_in_cleanup() -> None:
        try:
            ready.set()
            await trio.sleep_forever()
        finally:
            raise KeyError("background")

    with pytest.RaisesGroup(ValueError, KeyError):
        async with rt.Session() as session:
            session.start_soon(fail_in_cleanup)
            await ready.wait()
            raise ValueError("body")
    assert session.status == "failed"


async def test_cancelled_beside_a_real_error_is_dropped() -> None:
    async def cancelled() -> None:
        await trio.sleep_forever()

    async def failing() -> None:
        raise ValueError("real")

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="real")):
        async with rt.Session() as session, trio.open_nursery() as nursery:
            nursery.start_soon(cancelled)
            nursery.start_soon(failing)
    assert session.status == "failed"


async def test_saved_state_tells_the_end_whatever_it_was(autojump_clock: MockClock) -> None:
    async def end(session: rt.Session, error: Exception | None) -> None:
        async with session:
            await rt.call(double, 4)
            if error is not None:
                raise error
            await trio.sleep_forever()

    failed, timed_out, cancelled = rt.Session(), rt.Session(timeout=1), rt.Session()
    with pytest.raises(ValueError, match="body"):
        await end(failed, ValueError("body"))
    with pytest.raises(rt.SessionTimeoutError):
        await end(timed_out, None)
    with trio.move_on_after(1):
        await end(cancelled, None)
    states = [rt.load_state(session.state_path) for session in (failed, timed_out, cancelled)]
    assert [state.status for state in states] == ["failed", "timed_out", "cancelled"]
    assert [state.answer for state in states] == [8, 8, 8]


# end_on_error


async def test_end_on_error_ends_the_session_with_the_error_though_the_caller_catches_it() -> None:
    error = ValueError("call")
    after: list[str] = []
    with pytest.raises(ValueError, match="call") as caught:
        async with rt.Session(end_on_error=True) as session:
            after.append(await rt.call(catch, error))
    assert caught.value is error
    assert after == []
    assert session.status == "failed"
    assert [call.status for call in session.info.calls] == ["cancelled", "failed"]


async def test_end_on_error_ends_the_session_though_a_batch_returns_exceptions() -> None:
    with pytest.raises(ValueError, match="call"):
        async with rt.Session(end_on_error=True):
            await rt.call_batch(fail, [ValueError("call")], return_exceptions=True)


async def test_end_on_error_under_a_shield_raises_in_place_and_ends_the_session_all_the_same() -> None:
    seen: list[str] = []
    with pytest.raises(ValueError, match="call"):
        async with rt.Session(end_on_error=True):
            with trio.CancelScope(shield=True):
                seen.append(await rt.call(catch, ValueError("call")))
            await trio.sleep_forever()
    assert seen == ["caught"]


async def test_end_on_error_raises_the_first_error_only() -> None:
    @rt.function_node
    async def fail_in_cleanup() -> None:
        with pytest.raises(trio.Cancelled):
            await trio.sleep_forever()
        with trio.CancelScope(shield=True):
            assert await rt.call(catch, KeyError("second")) == "caught"

    with pytest.raises(ValueError, match="first"):
        async with rt.Session(end_on_error=True) as session:
            session.start_soon(fail_in_cleanup)
            await wait_all_tasks_blocked()
            await rt.call(fail, ValueError("first"))
    assert session.status == "failed"


async def test_end_on_error_is_not_about_errors_outside_of_calls() -> None:
    async with rt.Session(end_on_error=True) as session:
        with pytest.raises(ValueError, match="body"):
            raise ValueError("body")
        await rt.call(double, 4)
    assert session.status == "completed"


# FatalError


@pytest.mark.parametrize(
    "error",
    [
        rt.FatalError("fatal"),
        ExceptionGroup("several", [ValueError(), rt.FatalError("fatal")]),
        ExceptionGroup("outer", [ExceptionGroup("inner", [rt.FatalError("fatal")])]),
    ],
)
async def test_fatal_error_anywhere_in_an_error_ends_the_session_whatever_the_parent_does(error: Exception) -> None:
    after: list[str] = []
    with pytest.raises((rt.FatalError, ExceptionGroup)) as caught:
        async with rt.Session() as session:
            after.append(await rt.call(catch, error))
    assert caught.value is error
    assert after == []
    assert session.status == "failed"


async def test_fatal_error_is_raised_beside_the_error_that_ends_the_session_already() -> None:
    @rt.function_node
    async def fail_fatally_in_cleanup() -> None:
        with pytest.raises(trio.Cancelled):
            await trio.sleep_forever()
        await rt.call(fail, rt.FatalError("fatal"))

    with pytest.raises(ValueError, match="first"):
        async with rt.Session() as session:
            session.start_soon(fail_fatally_in_cleanup)
            await wait_all_tasks_blocked()
            raise ValueError("first")
    # A call in a session that was cancelled does not run its node.
    assert [call.node for call in session.info.calls] == ["fail_fatally_in_cleanup", "fail"]
    assert session.info.calls[1].status == "cancelled"


async def test_fatal_error_during_cleanup_under_a_shield_is_raised_too() -> None:
    @rt.function_node
    async def fail_fatally_in_cleanup() -> None:
        with pytest.raises(trio.Cancelled):
            await trio.sleep_forever()
        with trio.CancelScope(shield=True):
            assert await rt.call(catch, rt.FatalError("fatal")) == "caught"

    with pytest.RaisesGroup(ValueError, rt.FatalError):
        async with rt.Session() as session:
            session.start_soon(fail_fatally_in_cleanup)
            await wait_all_tasks_blocked()
            raise ValueError("first")
    assert session.status == "failed"


async def test_fatal_error_in_a_nested_session_ends_the_outer_one() -> None:
    @rt.function_node
    async def nest() -> None:
        async with rt.Session():
            await rt.call(catch, rt.FatalError("fatal"))

    @rt.function_node
    async def parent() -> str:
        try:
            await rt.call(nest)
        except rt.FatalError:
            return "caught"
        return "nothing to catch"

    after: list[str] = []
    with pytest.raises(rt.FatalError, match="fatal"):
        async with rt.Session() as outer:
            after.append(await rt.call(parent))
    assert after == []
    assert outer.status == "failed"


async def test_fatal_error_in_a_nested_session_that_a_node_catches_is_nothing_to_the_outer_one() -> None:
    @rt.function_node
    async def nest() -> str:
        try:
            async with rt.Session():
                await rt.call(fail, rt.FatalError("fatal"))
        except rt.FatalError:
            return "caught"
        return "nothing to catch"

    async with rt.Session() as outer:
        assert await rt.call(nest) == "caught"
        assert await rt.call(double, 4) == 8
    assert outer.status == "completed"


async def test_fatal_error_in_a_nested_session_that_no_node_catches_ends_the_outer_one_with_its_body() -> None:
    error = rt.FatalError("fatal")
    after: list[str] = []
    with pytest.raises(rt.FatalError, match="fatal") as caught:
        async with rt.Session() as outer:
            with pytest.raises(rt.FatalError):
                async with rt.Session():
                    await rt.call(fail, error)
            await trio.lowlevel.checkpoint()
            after.append("not reached")
    assert caught.value is error
    assert after == []
    assert outer.status == "failed"


# Session.cancel


async def test_cancel_ends_the_block_quietly() -> None:
    after: list[str] = []
    async with rt.Session() as session:
        session.cancel("enough")
        await rt.call(sleep_forever)
        after.append("not reached")
    assert after == []
    assert (session.status, session.cancel_reason) == ("cancelled", "enough")
    assert session.info.error.message == "the session was cancelled: enough"


async def test_cancel_is_quiet_and_tells_the_status_also_when_the_body_ran_to_its_end() -> None:
    async with rt.Session() as session:
        session.cancel("enough")
    assert (session.status, session.cancel_reason) == ("cancelled", "enough")


async def test_cancel_before_the_session_was_entered_lets_nothing_run() -> None:
    session = rt.Session()
    session.cancel("never")
    async with session:
        await rt.call(double, 4)
    assert (session.status, session.info.calls[0].status) == ("cancelled", "cancelled")


async def test_cancel_from_a_node_and_from_a_worker_thread_ends_the_session() -> None:
    @rt.function_node
    async def stop() -> None:
        rt.current_session().cancel("from a node")
        await trio.sleep_forever()

    @rt.function_node
    def stop_from_thread() -> None:
        trio.from_thread.run_sync(rt.current_session().cancel, "from a thread")

    for node, reason in ((stop, "from a node"), (stop_from_thread, "from a thread")):
        async with rt.Session() as session:
            await rt.call(node)
        assert (session.status, session.cancel_reason) == ("cancelled", reason)


async def test_cancel_twice_keeps_the_first_reason() -> None:
    async with rt.Session() as session:
        session.cancel("first")
        session.cancel("second")
    assert session.cancel_reason == "first"


async def test_cancel_after_the_end_does_nothing() -> None:
    async with rt.Session() as session:
        pass
    session.cancel("too late")
    assert (session.status, session.cancel_reason) == ("completed", None)


async def test_error_after_a_cancel_of_the_scope_is_raised_and_is_not_the_first_cause() -> None:
    with pytest.raises(ValueError, match="late"):
        async with rt.Session() as session:
            session.cancel_scope.cancel()
            raise ValueError("late")
    assert session.status == "cancelled"


async def test_error_in_cleanup_after_a_cancel_is_raised() -> None:
    with pytest.raises(ValueError, match="cleanup"):
        async with rt.Session() as session:
            session.cancel()
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("cleanup")
    assert session.status == "cancelled"


# Worker threads


async def test_worker_thread_over_the_timeout_is_named_recorded_and_the_timeout_raised_all_the_same(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    running, warned = trio.Event(), trio.Event()
    monkeypatch.setattr(caplog.handler, "filters", [lambda record: warned.set() or True])

    @rt.function_node
    def block() -> str:
        trio.from_thread.run_sync(running.set)
        # Not cancelled with the session, so that the thread comes back only after the warning.
        trio.from_thread.run(warned.wait, trio_token=token)
        return "late"

    async def expire() -> None:
        await running.wait()
        mock_clock.jump(2)

    token = trio.lowlevel.current_trio_token()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expire)
        with pytest.raises(rt.SessionTimeoutError):
            async with rt.Session(name="run", timeout=1) as session:
                await rt.call(block)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == (
        "session 'run' is ending and waits for node 'block': a worker thread cannot be stopped"
    )
    assert (record.name, record.session_id) == ("RT.Session", session.identifier)
    assert session.status == "timed_out"
    assert [(call.status, call.result) for call in session.info.calls] == [("completed", "late")]


async def test_worker_thread_that_keeps_a_session_without_timeout_waiting_is_named_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = trio.Event()
    monkeypatch.setattr(caplog.handler, "filters", [lambda record: warned.set() or True])

    @rt.function_node
    def block() -> None:
        trio.from_thread.run_sync(rt.current_session().cancel)
        trio.from_thread.run(warned.wait, trio_token=token)

    token = trio.lowlevel.current_trio_token()
    async with rt.Session():
        await rt.call(block)
    assert "waits for node 'block'" in caplog.text


# Ctrl-C. Each runs Trio itself: an interrupt that got away would end the whole test run.


@enable_ki_protection
def press_ctrl_c() -> None:
    """Press it where Trio takes note of it, and hands it to the main task at its next checkpoint."""
    signal.raise_signal(signal.SIGINT)


def interrupted(body: Callable[[rt.Session], Awaitable[None]], **options: object) -> rt.Session:
    """Run a session that Ctrl-C ends; check what holds for each, and return it."""
    session = rt.Session(**options)

    async def main() -> None:
        async with session:
            await body(session)

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main)
    assert type(caught.value) is KeyboardInterrupt
    assert rt.load_state(session.state_path).session_id == session.identifier
    return session


def test_ctrl_c_in_the_body_runs_cleanup_saves_the_state_and_is_raised_bare() -> None:
    log: list[str] = []

    @rt.function_node
    async def work(name: str) -> None:
        try:
            if name == "call":
                press_ctrl_c()
            await trio.sleep_forever()
        finally:
            log.append(name)

    async def body(session: rt.Session) -> None:
        session.start_soon(work, "background")
        await wait_all_tasks_blocked()
        await rt.call(work, "call")

    session = interrupted(body)
    assert sorted(log) == ["background", "call"]
    assert session.status == rt.load_state(session.state_path).status == "cancelled"


def test_ctrl_c_in_the_last_step_of_the_body_is_raised_bare() -> None:
    async def body(session: rt.Session) -> None:
        press_ctrl_c()

    assert interrupted(body, timeout=60).status == "cancelled"


def test_ctrl_c_in_unprotected_code_of_a_node_is_raised_bare_and_ends_the_session() -> None:
    @rt.function_node
    async def work() -> None:
        signal.raise_signal(signal.SIGINT)

    async def body(session: rt.Session) -> None:
        session.start_soon(work)
        await rt.call(sleep_forever)

    session = interrupted(body)
    assert session.status == "cancelled"


def test_ctrl_c_while_background_calls_are_awaited() -> None:
    log: list[str] = []

    @rt.function_node
    async def work() -> None:
        press_ctrl_c()
        try:
            await trio.sleep_forever()
        finally:
            log.append("cleaned up")

    async def body(session: rt.Session) -> None:
        session.start_soon(work)

    session = interrupted(body)
    assert log == ["cleaned up"]
    assert session.status == "cancelled"
    assert session.info.calls[0].status == "cancelled"


def test_ctrl_c_during_cleanup_lets_the_cleanup_run_to_its_end() -> None:
    log: list[str] = []

    @rt.function_node
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                press_ctrl_c()
                await wait_all_tasks_blocked()
            log.append("cleaned up")

    async def body(session: rt.Session) -> None:
        session.start_soon(work)
        await wait_all_tasks_blocked()
        raise ValueError("body")

    session = interrupted(body)
    assert log == ["cleaned up"]
    assert session.status == "failed"


def test_ctrl_c_after_a_timeout_is_raised_bare_and_not_the_timeout() -> None:
    async def body(session: rt.Session) -> None:
        try:
            await trio.sleep_forever()
        finally:
            press_ctrl_c()
            await trio.lowlevel.checkpoint()

    session = interrupted(body, timeout=0.001)
    assert session.status == "timed_out"


def test_ctrl_c_while_a_resource_closes_still_closes_it_and_saves_the_state() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def resource(name: str) -> AsyncIterator[None]:
        yield
        press_ctrl_c()
        await wait_all_tasks_blocked()
        log.append(name)

    async def body(session: rt.Session) -> None:
        await session.enter_async_context(resource("first"))
        await session.enter_async_context(resource("second"))

    interrupted(body)
    assert log == ["second", "first"]


def test_ctrl_c_in_the_midst_of_the_final_work_does_not_cut_it_short(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def hanging() -> AsyncIterator[None]:
        yield
        await trio.sleep_forever()

    def press(_: object) -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    async def body(session: rt.Session) -> None:
        await rt.call(double, 4)
        await session.enter_async_context(hanging())
        # The warning that cleanup did not finish comes before the state is saved.
        monkeypatch.setattr(caplog.handler, "filters", [press])

    session = interrupted(body, cleanup_timeout=0.001)
    assert rt.load_state(session.state_path).answer == 8
    assert session.status == "completed"


def test_ctrl_c_while_the_payload_is_handed_out_lets_the_callback_run_to_its_end() -> None:
    heard: list[object] = []

    def press(payload: object) -> None:
        trio.from_thread.run_sync(press_ctrl_c)
        heard.append(payload)

    async def body(session: rt.Session) -> None:
        await rt.call(double, 4)

    session = interrupted(body, payload_callback=press)
    assert heard == [session.payload()]


def test_ctrl_c_beside_other_errors_is_raised_bare() -> None:
    async def body(session: rt.Session) -> None:
        session.start_soon(fail_in_cleanup, ValueError("cleanup"))
        await wait_all_tasks_blocked()
        press_ctrl_c()
        await trio.sleep_forever()

    assert interrupted(body).status == "cancelled"


def test_ctrl_c_in_a_nested_session_ends_both(home: Path) -> None:
    inner = rt.Session(name="inner")

    async def body(session: rt.Session) -> None:
        async with inner:
            press_ctrl_c()
            await trio.sleep_forever()

    outer = interrupted(body, name="outer")
    assert (outer.status, inner.status) == ("cancelled", "cancelled")
    assert sorted(path.name for path in home.glob("*.json")) == ["inner.json", "outer.json"]
