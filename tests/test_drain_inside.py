"""A drain sees what is inside: sessions that were opened outside of any call are drained with the one around them."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from durable_nodes import store_fixture  # noqa: F401 - a fixture
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks import testing

REFUSED = "session 'app' is draining: it takes no new sessions outside of its calls"
REASON = "calls were still running 5 seconds after the session began to drain"


@rt.function_node
async def work(seconds: float) -> float:
    """Make calls of its own, also while the session drains."""
    for _ in range(2):
        await rt.call(trio.sleep, seconds / 2)
    return seconds


FLOW = rt.Flow("request", work, save_state=False)


async def by_flow(seconds: float) -> object:
    return await FLOW.ainvoke(seconds)


async def by_session(seconds: float) -> object:
    async with rt.Session(name="request", save_state=False):
        return await rt.call(work, seconds)


async def by_decorator(seconds: float) -> object:
    @rt.session(name="request", save_state=False)
    async def run() -> float:
        return await rt.call(work, seconds)

    return (await run())[0]


async def in_the_background(seconds: float) -> object:
    async with rt.Session(name="request", save_state=False) as session:
        pending = session.start_soon(work, seconds)
    return pending.result()


async def in_a_session_inside(seconds: float) -> object:
    async with rt.Session(name="middle", save_state=False), trio.open_nursery() as nursery:
        results: list[object] = []

        async def run() -> None:
            results.append(await by_flow(seconds))

        nursery.start_soon(run)
    return results[0]


async def in_a_thread(seconds: float) -> object:
    return await trio.to_thread.run_sync(FLOW.invoke, seconds)


Way = Callable[[float], Awaitable[object]]
ways = pytest.mark.parametrize(
    "way", [by_flow, by_session, by_decorator, in_the_background, in_a_session_inside], ids=lambda way: way.__name__
)


def app() -> rt.Session:
    return rt.Session(name="app", save_state=False)


@ways
async def test_it_waits_for_what_runs_inside_and_the_results_reach_their_callers(
    way: Way, autojump_clock: MockClock
) -> None:
    results: list[object] = []

    async def request() -> None:
        results.append(await way(3))

    async with app() as session, trio.open_nursery() as server:
        server.start_soon(request)
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        await session.drain(60)
        assert trio.current_time() == begun + 3
        await trio.lowlevel.checkpoint()
        assert results == [3]
    assert session.status == "completed"


async def test_it_waits_for_a_flow_in_a_thread_that_the_block_has_started() -> None:
    async with app() as session, trio.open_nursery() as server:
        with testing.opened_sessions() as opened:
            server.start_soon(in_a_thread, 0.02)
            while not opened:  # noqa: ASYNC110 - a thread opens it
                await trio.sleep(0.001)
        await session.drain(60)
        assert opened[0].status == "completed"


@ways
async def test_what_is_new_is_refused_where_it_is_entered(way: Way) -> None:
    async with app() as session:
        await session.drain(60)
        with testing.opened_sessions() as opened, pytest.raises(rt.ContextError, match=REFUSED):
            await way(1)
        assert opened == []
        with pytest.raises(rt.ContextError, match=REFUSED):
            await in_a_thread(1)


async def test_in_a_task_beside_the_session_nothing_is_refused(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as beside, app() as session:
        await session.drain(60)
        beside.start_soon(by_flow, 1)
    assert session.status == "completed"


async def test_inside_a_session_inside_new_calls_and_sessions_are_refused_too(autojump_clock: MockClock) -> None:
    refused: list[str] = []

    async def request() -> None:
        async with rt.Session(name="inner", save_state=False) as inner:
            service = inner.start_service(trio.sleep_forever)
            await rt.call(work, 3)
            assert service.status == "cancelled"
            for new in (by_flow, by_session):
                with pytest.raises(rt.ContextError, match="session 'inner' is draining: it takes no new sessions"):
                    await new(1)
            with pytest.raises(rt.ContextError, match="'inner' is draining: it takes no new top-level calls"):
                await rt.call(work, 1)
            refused.append("all")

    async with app() as session, trio.open_nursery() as server:
        server.start_soon(request)
        await wait_all_tasks_blocked()
        await session.drain(60)
        assert refused == ["all"]


async def test_sessions_inside_a_running_call_belong_to_it_and_may_be_opened_until_it_ends(
    autojump_clock: MockClock,
) -> None:
    @rt.function_node
    async def serve() -> list[object]:
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by_session, 2)
            await trio.sleep(1)
            return [await by_flow(2), await by_session(2)]

    async with app() as session:
        pending = session.start_soon(serve)
        inner = session.start_soon(by_flow, 1)
        await wait_all_tasks_blocked()
        await session.drain(60)
        assert pending.result() == [2, 2]
        assert inner.result() == 1


@ways
async def test_after_the_grace_what_is_left_inside_is_cancelled_for_the_same_cause(
    way: Way, autojump_clock: MockClock
) -> None:
    cleaned: list[float] = []

    async def request() -> None:
        try:
            await way(1_000)
        finally:
            cleaned.append(trio.current_time())

    with testing.opened_sessions() as opened:
        async with trio.open_nursery() as outside, app() as session, trio.open_nursery() as server:
            server.start_soon(request)
            await wait_all_tasks_blocked()
            begun = trio.current_time()
            outside.start_soon(session.drain, 5)
    assert cleaned == [begun + 5]
    assert len(opened) > 1
    for each in opened:
        assert (each.status, each.cancel_reason) == ("cancelled", REASON)
        testing.assert_quiescent(each)


async def test_under_a_shield_what_is_left_inside_is_cancelled_too(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as outside, app() as session:
        outside.start_soon(session.drain, 5)
        with trio.CancelScope(shield=True), pytest.raises(rt.SessionCancelledError, match=REASON):
            await by_flow(1_000)


async def test_it_returns_when_all_of_them_are_over_their_resources_closed(autojump_clock: MockClock) -> None:
    closed: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncGenerator[None]:
        yield
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        closed.append("closed")

    async def request() -> None:
        async with rt.Session(save_state=False) as inner:
            await inner.enter_async_context(resource())
            await rt.call(trio.sleep_forever)

    async with trio.open_nursery() as outside:
        drained: list[float] = []
        async with app() as session, trio.open_nursery() as server:
            server.start_soon(request)
            await wait_all_tasks_blocked()
            begun = trio.current_time()

            async def drain() -> None:
                await session.drain(5)
                assert closed == ["closed"]
                drained.append(trio.current_time())

            outside.start_soon(drain)
    assert drained == [begun + 6]


async def test_what_has_ended_its_calls_is_not_cancelled_as_it_closes(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def slow_to_close() -> AsyncGenerator[None]:
        yield
        await trio.sleep(3)

    async def request() -> None:
        async with rt.Session(name="inner", save_state=False) as inner:
            await inner.enter_async_context(slow_to_close())
        assert inner.status == "completed"

    async with trio.open_nursery() as outside, app() as session, trio.open_nursery() as server:
        server.start_soon(request)
        await wait_all_tasks_blocked()
        outside.start_soon(session.drain, 1)


@pytest.mark.parametrize("graces", [(100, 5), (5, 100), (5, 5)])
async def test_of_several_drains_the_shortest_grace_counts(
    graces: tuple[float, float], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as outside:
        async with app() as session, trio.open_nursery() as server:
            server.start_soon(by_flow, 1_000)
            await wait_all_tasks_blocked()
            begun = trio.current_time()
            for grace in graces:
                outside.start_soon(session.drain, grace)
        assert trio.current_time() == begun + 5
    assert session.cancel_reason == REASON


async def test_a_session_inside_that_drains_by_itself_is_drained_once_more(autojump_clock: MockClock) -> None:
    opened: list[rt.Session] = []

    async def request() -> None:
        async with rt.Session(save_state=False) as inner:
            opened.append(inner)
            await rt.call(work, 8)

    async with trio.open_nursery() as outside, app() as session, trio.open_nursery() as server:
        server.start_soon(request)
        await wait_all_tasks_blocked()
        outside.start_soon(opened[0].drain, 100)
        begun = trio.current_time()
        await session.drain(100)
        assert trio.current_time() == begun + 8


# Sessions around the code that drains.


async def test_a_drain_in_the_block_of_a_session_inside_waits_for_its_calls_and_that_block_goes_on(
    autojump_clock: MockClock,
) -> None:
    async with app() as session, rt.Session(save_state=False) as inner:
        pending = inner.start_soon(work, 3)
        begun = trio.current_time()
        await session.drain(60)
        assert trio.current_time() == begun + 3
        assert pending.result() == 3
        with pytest.raises(rt.ContextError, match="is draining"):
            await rt.call(work, 1)
    assert (session.status, inner.status) == ("completed", "completed")


async def test_a_node_of_a_session_inside_may_drain_the_one_around_and_does_not_wait_for_itself(
    autojump_clock: MockClock,
) -> None:
    async def drain(session: rt.Session) -> float:
        begun = trio.current_time()
        await session.drain(60)
        return trio.current_time() - begun

    async with app() as session:
        session.start_soon(work, 4)
        async with rt.Session(save_state=False):
            assert await rt.call(drain, session) == 4
    assert session.status == "completed"


async def test_a_drain_that_waits_in_one_session_inside_sees_the_others(autojump_clock: MockClock) -> None:
    async with app() as session, trio.open_nursery() as server:
        server.start_soon(by_flow, 7)
        async with rt.Session(save_state=False), rt.Session(save_state=False):
            await wait_all_tasks_blocked()
            begun = trio.current_time()
            await session.drain(60)
            assert trio.current_time() == begun + 7


# SIGTERM, and durable sessions.


def test_sigterm_drains_what_was_opened_inside_a_session_of_the_flow() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    results: list[object] = []

    async def entry() -> None:
        async with rt.Session(save_state=False), trio.open_nursery() as nursery:

            async def request() -> None:
                results.append(await by_flow(0.02))

            nursery.start_soon(request)
            await wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)

    try:
        rt.Flow("service", entry, save_state=False).invoke()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert results == [0.02]


async def forever() -> None:
    await trio.sleep_forever()


async def test_a_durable_session_inside_is_left_interrupted_for_a_resume(store: rt.DurableStore) -> None:
    flow = rt.Flow("durable", forever, durable=store, save_state=False)
    with testing.opened_sessions() as opened:
        async with trio.open_nursery() as outside, app() as session, trio.open_nursery() as server:
            server.start_soon(flow.ainvoke)
            while len(opened) < 2:  # noqa: ASYNC110 - a thread reads the store first
                await trio.sleep(0.001)
            outside.start_soon(session.drain, 0.01)
    assert [view.status for view in store.sessions()] == ["interrupted"]


async def test_a_durable_flow_that_is_refused_leaves_nothing_in_its_store(store: rt.DurableStore) -> None:
    flow = rt.Flow("durable", forever, durable=store, save_state=False)
    async with app() as session:
        await session.drain(0)
        with pytest.raises(rt.ContextError, match=REFUSED):
            await flow.ainvoke()
        with pytest.raises(rt.ContextError, match=REFUSED):
            await flow.aresume("any")
        with pytest.raises(rt.ContextError, match=REFUSED):
            async with rt.Session(durable=store, save_state=False):
                pytest.fail("it is refused")
    assert list(store.sessions()) == []


async def test_a_durable_session_that_was_being_taken_as_the_drain_began_is_released(store: rt.DurableStore) -> None:
    async def request() -> None:
        with pytest.raises(rt.ContextError, match=REFUSED):
            async with rt.Session(durable=store, session_id="late", save_state=False):
                pytest.fail("it is refused")

    async with app() as session, trio.open_nursery() as server:
        server.start_soon(request)
        # It is in a thread now, which opens the store.
        await wait_all_tasks_blocked()
        await session.drain(60)
    assert [view.status for view in store.sessions()] == ["interrupted"]
    async with rt.Session(durable=store, session_id="late", save_state=False):
        pass
    assert [view.status for view in store.sessions()] == ["completed"]
