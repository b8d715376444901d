"""A session that drains takes no new top-level calls, lets the running ones finish, and cancels the rest in the end."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks._sessions.access import drain_soon

REFUSED = "is draining: it takes no new top-level calls"


async def work(seconds: float) -> float:
    """Make calls of its own, also while the session drains."""
    for _ in range(3):
        await rt.call(trio.sleep, seconds / 3)
    return seconds


async def test_in_the_body_it_waits_for_what_runs_and_the_body_goes_on(autojump_clock: MockClock) -> None:
    async with rt.Session(save_state=False) as session:
        pending = [session.start_soon(work, seconds) for seconds in (3, 6)]
        begun = trio.current_time()
        await session.drain(60)
        assert trio.current_time() == begun + 6
        assert [call.result() for call in pending] == [3, 6]
    assert (session.status, session.info.cause) == ("completed", None)
    assert len(session.info.calls) == 8


async def new_call(session: rt.Session) -> None:
    await rt.call(work, 1)


async def new_call_from_a_nursery(session: rt.Session) -> None:
    refused = []

    async def call() -> None:
        with pytest.raises(rt.ContextError, match=REFUSED) as caught:
            await rt.call(work, 1)
        refused.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
    raise refused[0]


async def new_background_call(session: rt.Session) -> None:
    session.start_soon(work, 1)


async def new_service(session: rt.Session) -> None:
    session.start_service(work, 1)


async def new_start(session: rt.Session) -> None:
    await session.start(work, 1)


async def new_batch(session: rt.Session) -> None:
    await rt.call_batch(work, [1, 2])


async def new_limited_batch(session: rt.Session) -> None:
    await rt.call_batch(work, [1, 2], limit=1)


async def new_group(session: rt.Session) -> None:
    async with rt.open_group() as group:
        group.start_soon(work, 1)


async def new_as_completed(session: rt.Session) -> None:
    async with rt.as_completed(work, [1, 2]) as finished:
        async for _ in finished:
            pass


@pytest.mark.parametrize(
    "begin",
    [
        new_call,
        new_call_from_a_nursery,
        new_background_call,
        new_service,
        new_start,
        new_batch,
        new_limited_batch,
        new_group,
        new_as_completed,
    ],
)
async def test_new_top_level_calls_are_refused(begin: Callable[[rt.Session], Awaitable[None]]) -> None:
    async with rt.Session(save_state=False) as session:
        await session.drain(5)
        with pytest.raises(rt.ContextError, match=REFUSED):
            await begin(session)
    assert session.info.calls == ()


async def test_after_the_grace_what_is_left_is_cancelled_and_the_block_ends_quietly(autojump_clock: MockClock) -> None:
    cleaned: list[float] = []

    async def endless() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(trio.current_time())

    async with rt.Session(save_state=False) as session:
        session.start_soon(endless)
        quick = session.start_soon(work, 3)
        begun = trio.current_time()
        await session.drain(5)
        pytest.fail("the body is cancelled, too")
    assert cleaned == [begun + 5]
    assert quick.result() == 3
    assert session.status == "cancelled"
    cause = session.info.cause
    assert cause == rt.EndCause(
        rt.CauseKind.CANCEL, "calls were still running 5 seconds after the session began to drain"
    )


async def test_a_flow_that_is_drained_in_vain_has_no_result(autojump_clock: MockClock) -> None:
    opened: list[rt.Session] = []

    async def entry() -> None:
        opened.append(rt.current_session())
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            await wait_all_tasks_blocked()
            await opened[0].drain(2)
            assert opened[0].info.calls[0].status == "cancelled"

        nursery.start_soon(drain)
        with pytest.raises(rt.SessionCancelledError, match="still running 2 seconds after"):
            await rt.Flow("drained", entry, save_state=False).ainvoke()


@pytest.mark.parametrize("grace", [0, math.inf])
async def test_the_grace_may_be_none_or_endless(grace: float, autojump_clock: MockClock) -> None:
    async with rt.Session(save_state=False) as session:
        session.start_soon(work, 300)
        await session.drain(grace)
    assert session.status == ("completed" if grace else "cancelled")


@pytest.mark.parametrize("grace", [0, 1e-9])
async def test_a_session_at_rest_is_not_cancelled_however_short_the_grace(grace: float) -> None:
    async with rt.Session(save_state=False) as session:
        await rt.call(work, 0)
        await session.drain(grace)
        assert session.status == "running"
    assert session.status == "completed"


async def test_from_outside_it_returns_when_no_call_runs(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:

        async def drain(session: rt.Session) -> None:
            await session.drain(60)
            assert {call.status for call in session.info.calls} == {"completed"}
            assert trio.current_time() == begun + 6

        async with rt.Session(save_state=False) as session:
            begun = trio.current_time()
            nursery.start_soon(drain, session)
            assert await rt.call(work, 6) == 6
            with pytest.raises(rt.ContextError, match=REFUSED):
                await rt.call(work, 1)
            await trio.sleep(10)


async def test_services_are_cancelled_at_once_as_at_the_end_of_the_block(autojump_clock: MockClock) -> None:
    async with rt.Session(save_state=False) as session:
        service = session.start_service(trio.sleep_forever)
        begun = trio.current_time()
        await session.drain(60)
        assert trio.current_time() == begun
        assert service.status == "cancelled"
    assert session.status == "completed"


async def test_further_attempts_of_a_running_call_are_no_new_calls(autojump_clock: MockClock) -> None:
    attempts = 0

    @rt.function_node(retry=rt.Retry(3, wait_initial=2, jitter=0))
    async def flaky() -> str:
        nonlocal attempts
        attempts += 1
        await trio.sleep(1)
        if attempts < 3:
            raise OSError
        return "done"

    async with trio.open_nursery() as nursery, rt.Session(save_state=False) as session:
        background = session.start_soon(flaky)
        await trio.sleep(2)
        nursery.start_soon(session.drain, 60)
        begun = trio.current_time()
        await session.drain(60)
        assert trio.current_time() == begun + 7
        assert background.result() == "done"


async def test_a_pause_between_attempts_is_part_of_a_call_of_the_body(autojump_clock: MockClock) -> None:
    outcomes = [OSError()]

    @rt.function_node(retry=rt.Retry(2, wait_initial=10, jitter=0))
    async def flaky() -> str:
        if outcomes:
            raise outcomes.pop()
        await trio.sleep(1)
        return "done"

    async with trio.open_nursery() as nursery, rt.Session(save_state=False) as session:

        async def drain() -> None:
            await trio.sleep(5)
            await session.drain(60)
            assert [call.status for call in session.info.calls] == ["failed", "completed"]

        nursery.start_soon(drain)
        assert await rt.call(flaky) == "done"


async def test_a_batch_that_is_being_fed_finishes_what_runs_and_says_what_was_refused(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery, rt.Session(save_state=False) as session:

        async def drain() -> None:
            await trio.sleep(1)
            await session.drain(60)

        nursery.start_soon(drain)
        with pytest.raises(rt.ContextError, match=REFUSED):
            await rt.call_batch(work, [3, 3, 3, 3, 3], limit=2)
    tops = [call for call in session.info.calls if call.parent_id is None]
    assert [call.status for call in tops] == ["completed", "completed"]


async def test_calls_that_wait_for_room_in_a_group_were_promised(autojump_clock: MockClock) -> None:
    async with rt.Session(save_state=False) as session, rt.open_group(limit=1) as group:
        pending = [group.start_soon(work, 3) for _ in range(3)]
        begun = trio.current_time()
        await session.drain(60)
        assert trio.current_time() == begun + 9
        assert [call.result() for call in pending] == [3, 3, 3]


async def test_a_nested_session_is_a_call_that_goes_on(autojump_clock: MockClock) -> None:
    async def nested() -> int:
        await trio.sleep(1)
        async with rt.Session(save_state=False) as inner:
            inner.start_soon(work, 3)
            return len(await rt.call_batch(work, [3, 6]))

    async with rt.Session(save_state=False) as session:
        pending = session.start_soon(nested)
        await session.drain(60)
        assert pending.result() == 2


async def test_a_node_cannot_drain_the_session_it_runs_in() -> None:
    refused: list[str] = []

    async def try_it(session: rt.Session) -> None:
        text = "a node of session 'outer' cannot drain that session, because it would wait for itself"
        with pytest.raises(RuntimeError, match=text):
            await session.drain(5)
        refused.append("node")

    async def nested(session: rt.Session) -> None:
        async with rt.Session(save_state=False):
            await rt.call(try_it, session)

    def in_thread(session: rt.Session) -> None:
        trio.from_thread.run(try_it, session)

    async with rt.Session(name="outer", save_state=False) as session:
        await rt.call(try_it, session)
        await rt.call(nested, session)
        await rt.call(in_thread, session)
        # Nothing of it began.
        assert await rt.call(work, 0) == 0
    assert refused == ["node"] * 3


async def test_a_node_may_drain_another_session(autojump_clock: MockClock) -> None:
    async def drain(session: rt.Session) -> None:
        await session.drain(5)

    async with rt.Session(save_state=False) as other:
        other.start_soon(work, 3)

        async def beside() -> None:
            async with rt.Session(save_state=False):
                await rt.call(drain, other)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside)


async def test_a_drain_that_is_cancelled_leaves_the_session_closed_to_new_calls(autojump_clock: MockClock) -> None:
    async with rt.Session(save_state=False) as session:
        pending = session.start_soon(work, 30)
        with trio.move_on_after(1):
            await session.drain(60)
        with pytest.raises(rt.ContextError, match=REFUSED):
            await rt.call(work, 1)
    assert pending.result() == 30


async def test_while_the_block_waits_for_background_calls_a_drain_bounds_them(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            await trio.sleep(1)
            await session.drain(2)

        async with rt.Session(save_state=False) as session:
            session.start_soon(trio.sleep_forever)
            nursery.start_soon(drain)
    assert session.status == "cancelled"


async def test_before_the_session_it_is_refused_and_after_it_there_is_nothing_to_drain() -> None:
    session = rt.Session(save_state=False)
    with pytest.raises(rt.ContextError, match="was not entered"):
        await session.drain(1)
    async with session:
        pass
    await session.drain(1)


async def test_while_the_session_closes_there_is_nothing_to_drain() -> None:
    drained: list[bool] = []

    @asynccontextmanager
    async def resource() -> AsyncGenerator[None]:
        yield
        await session.drain(1)
        drained.append(drain_soon(session, 1))

    async with rt.Session(save_state=False) as session:
        await session.enter_async_context(resource())
    assert drained == [False]
    assert session.status == "completed"


async def test_sigterm_after_the_session_finds_nothing_to_drain_and_before_it_the_session_is_cancelled() -> None:
    async with rt.Session(save_state=False) as session:
        pass
    assert drain_soon(session, 1) is False
    early = rt.Session(save_state=False)
    assert drain_soon(early, 1) is True
    async with early:
        await trio.sleep_forever()
    assert early.info.cause == rt.EndCause(rt.CauseKind.SIGTERM, "SIGTERM")


@pytest.mark.parametrize(
    ("grace", "error"), [(-1, ValueError), (math.nan, ValueError), (True, TypeError), ("5", TypeError)]
)
async def test_a_grace_that_is_none_is_refused(grace: Any, error: type[Exception]) -> None:
    async with rt.Session(save_state=False) as session:
        with pytest.raises(error, match="grace must be"):
            await session.drain(grace)
        assert await rt.call(work, 0) == 0
