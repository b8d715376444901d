"""Timeouts inside timeouts: whichever is first decides what is raised, by whom, and what the session says of itself."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import railtracks as rt


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
