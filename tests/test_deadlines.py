"""Timeouts inside timeouts: whichever is first decides what is raised, by whom, and what the session says of itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing


@rt.function_node
async def sleep() -> None:
    await trio.sleep(100)


@pytest.mark.parametrize(
    ("node", "session", "outer", "raised", "status", "cause"),
    [
        (1, 2, 3, rt.NodeTimeoutError, "failed", "error"),
        (1, 3, 2, rt.NodeTimeoutError, "failed", "error"),
        (2, 1, 3, rt.SessionTimeoutError, "timed_out", "deadline"),
        (3, 1, 2, rt.SessionTimeoutError, "timed_out", "deadline"),
        (2, 3, 1, trio.TooSlowError, "cancelled", "outer_scope"),
        (3, 2, 1, trio.TooSlowError, "cancelled", "outer_scope"),
        # At the very same moment the outermost one decides what is raised, as with Trio's own scopes.
        (2, 1, 1, trio.TooSlowError, None, None),
        (1, 1, 2, rt.SessionTimeoutError, "timed_out", "deadline"),
    ],
)
async def test_the_first_deadline_decides(  # noqa: PLR0917 - pytest gives each by its name
    node: float,
    session: float,
    outer: float,
    raised: type[Exception],
    status: str | None,
    cause: str | None,
    autojump_clock: MockClock,
) -> None:
    run = rt.Session(timeout=session, save_state=False)
    begun = trio.current_time()
    with pytest.raises(raised) as caught:
        with trio.fail_after(outer):
            async with run:
                await rt.call(sleep.with_options(timeout=node))
    assert type(caught.value) is raised
    assert trio.current_time() - begun == min(node, session, outer)
    assert run.status != "completed"
    if status is not None:
        assert run.status == status
        assert run.info.cause is not None
        assert run.info.cause.kind == cause


async def test_a_nodes_timeout_that_its_caller_handles_is_no_end_of_the_session(autojump_clock: MockClock) -> None:
    async with rt.Session(timeout=10, save_state=False) as session:
        with pytest.raises(rt.NodeTimeoutError, match="within its timeout of 1 seconds"):
            await rt.call(sleep.with_options(timeout=1))
        with trio.move_on_after(2):
            await rt.call(sleep)
    assert session.status == "completed"
    assert [call.status for call in session.info.calls] == ["failed", "cancelled"]


async def test_an_inner_sessions_timeout_is_an_error_like_any_other_to_the_outer_one(
    autojump_clock: MockClock,
) -> None:
    flow = rt.Flow("inner", sleep, timeout=1, save_state=False)

    async def node() -> str:
        with pytest.raises(rt.SessionTimeoutError, match="session 'inner' did not finish within its timeout of 1"):
            await flow.ainvoke()
        return "went on"

    async with rt.Session(name="outer", timeout=10, save_state=False) as session:
        assert await rt.call(node) == "went on"
    assert session.status == "completed"


async def test_an_outer_sessions_timeout_ends_the_inner_one_and_names_itself(autojump_clock: MockClock) -> None:
    inner: list[rt.Session] = []

    async def node() -> None:
        async with rt.Session(timeout=50, save_state=False) as session:
            inner.append(session)
            await rt.call(sleep)

    with pytest.raises(rt.SessionTimeoutError, match="session 'outer' did not finish within its timeout of 2"):
        async with rt.Session(name="outer", timeout=2, save_state=False):
            await rt.call(node)
    assert inner[0].status == "cancelled"
    assert inner[0].info.cause == rt.EndCause(rt.CauseKind.OUTER_SCOPE)


@pytest.mark.parametrize("wait", [0.5, 1.5])
async def test_a_sessions_timeout_ends_attempts_and_pauses_of_a_retry(wait: float, autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {"timeout": 1, "retry": rt.Retry(9, wait_initial=10, jitter=0)}
    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(timeout=wait, save_state=False) as session:
            await rt.call(sleep.with_options(**options))
    assert [call.status for call in session.info.calls] == ["cancelled" if wait < 1 else "failed"]


# Nodes that are late because nothing can stop them: each comes back with a result after its deadline.


def pass_seconds() -> None:
    """Let time pass on the mock clock as it does while code computes."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.jump(5)


async def passes_no_checkpoint() -> str:
    pass_seconds()
    return "late"


async def waits_for_a_thread_of_its_own() -> str:
    await trio.to_thread.run_sync(trio.from_thread.run_sync, pass_seconds)
    return "late"


async def shields_itself() -> str:
    with trio.CancelScope(shield=True):
        await trio.sleep(5)
    return "late"


async def swallows_the_cancel() -> str:
    try:
        await trio.sleep(100)
    except trio.Cancelled:  # noqa: ASYNC103 - what a node must not do, and some do
        return "late"  # noqa: ASYNC104 - the same
    return "never"


LATE = [passes_no_checkpoint, waits_for_a_thread_of_its_own, shields_itself, swallows_the_cancel]


@pytest.mark.parametrize("fn", LATE)
async def test_an_async_node_that_is_late_has_timed_out_and_is_named(
    fn: Callable[[], Coroutine[Any, Any, str]], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node = rt.function_node(fn, timeout=1)
    async with rt.Session(save_state=False) as session:
        with pytest.raises(rt.NodeTimeoutError, match="within its timeout of 1"):
            await rt.call(node)
    (call,) = session.info.calls
    assert (call.status, call.result) == ("failed", None)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{fn.__name__} (1) came back with a result after its timeout")


@pytest.mark.parametrize("fn", LATE)
def test_a_flow_whose_entry_point_is_late_has_timed_out(fn: Callable[[], Coroutine[Any, Any, str]]) -> None:
    with pytest.raises(rt.SessionTimeoutError, match="session 'late' did not finish"):
        testing.run_with_mock_clock(rt.Flow("late", fn, timeout=1, save_state=False))


async def test_the_own_error_of_a_late_async_node_stands(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    own = ValueError("from a node that is late")

    @rt.function_node(timeout=1)
    async def node() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        raise own

    with pytest.raises(ValueError, match="from a node that is late") as caught:
        await rt.call(node)
    assert caught.value is own
    assert "came back with a result" not in caplog.text


async def test_a_late_async_attempt_is_tried_again(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    pauses = iter([5.0, 0.0])

    @rt.function_node(timeout=1, retry=rt.Retry(attempts=2, wait_initial=0.1, jitter=0))
    async def node() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(next(pauses))
        return "in time"

    async with rt.Session(save_state=False) as session:
        assert await rt.call(node) == "in time"
    assert [call.status for call in session.info.calls] == ["failed", "completed"]
    assert caplog.text.count("came back with a result after its timeout") == 1


async def test_a_late_item_of_a_batch_is_a_timeout_in_its_place(autojump_clock: MockClock) -> None:
    @rt.function_node(timeout=1)
    async def node(seconds: float) -> float:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        return seconds

    results = await rt.call_batch(node, [0.5, 1.5])
    assert results[0] == 0.5
    assert isinstance(results[1], rt.NodeTimeoutError)


async def test_a_cancel_from_outside_comes_before_the_timeout_of_a_late_async_node(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node = rt.function_node(shields_itself, timeout=1)
    async with rt.Session(save_state=False) as session:
        with trio.move_on_after(2) as scope:
            await rt.call(node)
    assert scope.cancelled_caught
    assert session.info.calls[0].status == "cancelled"
    assert "came back with a result" not in caplog.text


async def test_a_late_async_node_in_a_session_that_ends_leaves_the_sessions_cause(autojump_clock: MockClock) -> None:
    node = rt.function_node(shields_itself, timeout=1)
    session = rt.Session(timeout=2, save_state=False)
    with pytest.raises(rt.SessionTimeoutError):
        async with session:
            await rt.call(node)
    assert session.status == "timed_out"


def test_a_late_call_of_a_durable_session_stays_timed_out_in_a_resume(tmp_path: Path) -> None:
    runs: list[str] = []

    @rt.function_node(timeout=0.1)
    async def late() -> str:
        runs.append("late")
        with trio.CancelScope(shield=True):
            await trio.sleep(0.2)
        return "late"

    async def main() -> str:
        try:
            return await rt.call(late)
        except rt.NodeTimeoutError:
            if len(runs) == 1:
                runs.append("interrupted")
                raise KeyboardInterrupt from None
            return "timed out"

    flow = rt.Flow("f", main, durable=tmp_path / "store.db", save_state=False)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    assert flow.resume("s") == "timed out"
    assert runs == ["late", "interrupted"]
