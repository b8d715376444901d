"""Resources of a session: usable from any call, left in reverse order, each in a task of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt

Resource = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def resource(log: list[str]) -> Resource:
    @asynccontextmanager
    async def open_resource(name: str, error: Exception | None = None) -> AsyncIterator[str]:
        log.append(f"open {name}")
        try:
            yield name
        finally:
            await trio.lowlevel.checkpoint()
            log.append(f"close {name}")
        if error is not None:
            raise error

    return open_resource


async def test_resource_is_what_its_manager_gives_and_is_open_until_the_session_ends(
    resource: Resource, log: list[str]
) -> None:
    async with rt.Session() as session:
        assert await session.enter_async_context(resource("a")) == "a"
        await trio.lowlevel.checkpoint()
        assert log == ["open a"]
    assert log == ["open a", "close a"]
    assert session.status == "completed"


async def test_what_is_no_async_context_manager_is_refused_and_costs_the_session_nothing(resource: Resource) -> None:
    async with rt.Session() as session:
        for wrong in (resource, nullcontext, memoryview(b"")):
            with pytest.raises(TypeError, match="must be an async context manager"):
                await session.enter_async_context(wrong)  # type: ignore[arg-type]
    assert session.status == "completed"


class _Nameless(type):
    @property
    def __name__(cls) -> str:
        raise RuntimeError("no name")


async def test_a_class_without_a_name_is_refused_as_a_resource_all_the_same() -> None:
    async with rt.Session() as session:
        with pytest.raises(TypeError, match="must be an async context manager"):
            await session.enter_async_context(_Nameless("Odd", (), {})())
    assert session.status == "completed"


async def test_resources_close_in_reverse_order(resource: Resource, log: list[str]) -> None:
    async with rt.Session() as session:
        for name in "abc":
            await session.enter_async_context(resource(name))
    assert log[3:] == ["close c", "close b", "close a"]


async def test_resources_close_after_background_calls_and_cleanup(resource: Resource, log: list[str]) -> None:
    @rt.function_node
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            log.append("cleanup")

    with pytest.raises(ValueError, match="body"):
        async with rt.Session() as session:
            await session.enter_async_context(resource("a"))
            session.start_soon(work)
            await wait_all_tasks_blocked()
            raise ValueError("body")
    assert log == ["open a", "cleanup", "close a"]


async def test_resource_is_usable_from_any_call() -> None:
    @asynccontextmanager
    async def open_server() -> AsyncIterator[trio.MemorySendChannel[tuple[int, trio.Event, list[int]]]]:
        send, receive = trio.open_memory_channel[tuple[int, trio.Event, list[int]]](0)

        async def serve() -> None:
            async for number, done, answer in receive:
                answer.append(2 * number)
                done.set()

        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(serve)
            yield send

    @rt.function_node
    async def ask(number: int) -> int:
        done, answer = trio.Event(), list[int]()
        await rt.context.get("server").send((number, done, answer))
        await done.wait()
        return answer[0]

    @rt.function_node
    def ask_from_thread(number: int) -> int:
        return trio.from_thread.run(rt.call, ask, number)

    @rt.function_node
    async def open_in_a_call() -> None:
        rt.context.put("server", await rt.current_session().enter_async_context(open_server()))

    async with rt.Session() as session:
        await rt.call(open_in_a_call)
        assert await rt.call_batch(ask, range(3)) == [0, 2, 4]
        assert await rt.call(ask_from_thread, 4) == 8
        pending = session.start_soon(ask, 5)
    assert pending.result() == 10


async def test_resource_may_hold_a_nursery_and_scopes_which_do_not_reach_the_caller() -> None:
    entered: list[trio.CancelScope] = []

    @asynccontextmanager
    async def holding() -> AsyncIterator[None]:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                entered.append(scope)
                yield
                nursery.cancel_scope.cancel()

    async with rt.Session() as session:
        # One is left after another was entered, and in another order than that of the blocks around.
        async with trio.open_nursery() as nursery:
            await session.enter_async_context(holding())
            nursery.start_soon(session.enter_async_context, holding())
        entered[0].shield = True
        with trio.CancelScope() as inner:
            await session.enter_async_context(holding())
            inner.cancel()
            await trio.sleep_forever()
        assert inner.cancelled_caught
        assert trio.current_effective_deadline() == float("inf")
    assert session.status == "completed"


async def test_deadline_of_the_caller_does_not_reach_an_open_resource(
    resource: Resource, log: list[str], autojump_clock: MockClock
) -> None:
    async with rt.Session() as session:
        with trio.move_on_after(1):
            await session.enter_async_context(resource("a"))
            await trio.sleep_forever()
        await trio.sleep(1)
        assert log == ["open a"]


async def test_context_variables_of_a_resource_do_not_reach_the_caller() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")
    seen: list[str] = []

    @asynccontextmanager
    async def setting() -> AsyncIterator[None]:
        seen.append(variable.get())
        variable.set("of the resource")
        yield
        seen.append(variable.get())

    variable.set("of the caller")
    async with rt.Session() as session:
        await session.enter_async_context(setting())
        assert variable.get() == "of the caller"
    assert seen == ["of the caller", "of the resource"]


# Failures


async def test_resource_that_fails_fails_the_session() -> None:
    error = ValueError("broken")
    broken = trio.Event()

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        async def watch() -> None:
            await broken.wait()
            raise error

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                yield
        except* ValueError as group:
            raise group.exceptions[0] from None

    with pytest.raises(ValueError, match="broken") as caught:
        async with rt.Session() as session:
            await session.enter_async_context(breaking())
            broken.set()
            await trio.sleep_forever()
    assert caught.value is error
    assert session.status == "failed"


async def test_resource_that_fails_while_it_closes_fails_the_session_and_the_others_close(
    resource: Resource, log: list[str]
) -> None:
    error = ValueError("close")
    with pytest.raises(ValueError, match="close") as caught:
        async with rt.Session() as session:
            await session.enter_async_context(resource("a"))
            await session.enter_async_context(resource("b", error))
    assert caught.value is error
    assert log[2:] == ["close b", "close a"]
    assert session.status == rt.load_state(session.state_path).status == "failed"


async def test_errors_of_body_and_resource_are_a_group(resource: Resource) -> None:
    with pytest.RaisesGroup(KeyError, ValueError):
        async with rt.Session() as session:
            await session.enter_async_context(resource("a", ValueError("close")))
            raise KeyError("body")


async def test_error_of_a_closing_resource_replaces_the_timeout_error(
    resource: Resource, autojump_clock: MockClock
) -> None:
    with pytest.raises(ValueError, match="close") as caught:
        async with rt.Session(timeout=1) as session:
            await session.enter_async_context(resource("a", ValueError("close")))
            await trio.sleep_forever()
    assert isinstance(caught.value.__context__, rt.SessionTimeoutError)
    assert session.status == "timed_out"


async def test_error_on_entering_is_the_same_object_with_context_and_cause_and_ends_nothing() -> None:
    error, cause, context = ValueError("no"), KeyError("cause"), KeyError("context")

    @asynccontextmanager
    async def refusing() -> AsyncIterator[None]:
        error.__context__ = context
        raise error from cause
        yield

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="no") as caught:
            await session.enter_async_context(refusing())
        await trio.lowlevel.checkpoint()
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (cause, context)
    assert session.status == "completed"


async def test_entering_that_is_cancelled_midway_leaves_the_resource_again(
    log: list[str], autojump_clock: MockClock
) -> None:
    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        try:
            await trio.sleep_forever()
            yield
        finally:
            log.append("cleanup")

    async with rt.Session() as session:
        with trio.move_on_after(1) as scope:
            await session.enter_async_context(slow())
        assert scope.cancelled_caught
        assert log == ["cleanup"]
    assert session.status == "completed"


async def test_entering_that_is_cancelled_as_it_succeeds_leaves_the_resource_again(
    resource: Resource, log: list[str]
) -> None:
    async with rt.Session() as session:
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.enter_async_context(resource("a"))
        assert scope.cancelled_caught
        # The cleanup was under the cancelled scope too.
        assert log == ["open a"]
    assert session.status == "completed"


async def test_entering_is_cancelled_with_the_session(log: list[str]) -> None:
    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        try:
            await trio.sleep_forever()
            yield
        finally:
            log.append("cleanup")

    @rt.function_node
    async def stop() -> None:
        session.cancel()

    async with rt.Session() as session:
        session.start_soon(stop)
        await session.enter_async_context(slow())
    assert log == ["cleanup"]
    assert session.status == "cancelled"


@pytest.mark.parametrize("opens_at", [2, 10**9])
async def test_entering_from_a_task_beside_the_session_is_refused_when_the_session_ends(
    opens_at: float, log: list[str], autojump_clock: MockClock
) -> None:
    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        try:
            await trio.sleep(opens_at)
            log.append("open")
            yield
        finally:
            log.append("close")

    async def enter() -> None:
        with pytest.raises(rt.ContextError, match="the session ended before the resource was open"):
            await session.enter_async_context(slow())
        refused.append(True)

    refused: list[bool] = []
    async with trio.open_nursery() as nursery, rt.Session(cleanup_timeout=5) as session:
        nursery.start_soon(enter)
        await wait_all_tasks_blocked()
    assert refused == [True]
    assert log == (["open", "close"] if opens_at == 2 else ["close"])
    assert session.status == "completed"


# The end


async def test_cleanup_timeout_cancels_a_resource_that_hangs_and_closes_the_others_in_order(
    resource: Resource, log: list[str], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    @asynccontextmanager
    async def hanging() -> AsyncIterator[None]:
        yield
        try:
            await trio.sleep_forever()
        finally:
            log.append("cancelled")

    @asynccontextmanager
    async def quick(name: str) -> AsyncIterator[None]:
        yield
        log.append(name)

    async with rt.Session(cleanup_timeout=3, save_state=False) as session:
        for name in "abcdefgh":
            await session.enter_async_context(quick(name))
        await session.enter_async_context(hanging())
        await session.enter_async_context(quick("z"))
        ended = trio.current_time()
    assert trio.current_time() == ended + 3
    assert log == ["z", "cancelled", *"hgfedcba"]
    assert session.status == "completed"
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "RT.Session")
    assert record.getMessage() == (
        "cleanup did not finish within its 3 seconds (cleanup_timeout): "
        "resource 'hanging' was cancelled while it closed, and so were 8 that waited for it"
    )


async def test_a_callback_that_has_taken_everything_is_no_culprit(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow:
        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *_: object) -> None:
            await trio.sleep_forever()

    async with rt.Session(broadcast_callback=print, cleanup_timeout=3, save_state=False) as session:
        await session.enter_async_context(Slow())
    (record,) = caplog.records
    assert record.getMessage().endswith("(cleanup_timeout): resource 'Slow' was cancelled while it closed")


async def test_cleanup_timeout_is_five_seconds_by_default(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def hanging() -> AsyncIterator[None]:
        yield
        await trio.sleep_forever()

    async with rt.Session(save_state=False) as session:
        await session.enter_async_context(hanging())
        ended = trio.current_time()
    assert trio.current_time() == ended + 5


async def test_closing_is_shielded_from_timeout_and_scopes_outside(log: list[str], autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        yield
        await trio.sleep(4)
        log.append("closed")

    with trio.move_on_after(2):
        with pytest.raises(rt.SessionTimeoutError):
            async with rt.Session(timeout=1) as session:
                await session.enter_async_context(slow())
                await trio.sleep_forever()
        assert log == ["closed"]
    assert session.state_path.exists()


async def test_resource_may_broadcast_while_it_closes() -> None:
    heard: list[str] = []

    async def hear(item: str) -> None:
        heard.append(item)

    @asynccontextmanager
    async def telling() -> AsyncIterator[None]:
        yield
        await rt.broadcast("closing")

    async with rt.Session(broadcast_callback=hear) as session:
        await session.enter_async_context(telling())
    assert heard == ["closing"]


async def test_resource_that_closes_starts_no_more_calls() -> None:
    @asynccontextmanager
    async def late() -> AsyncIterator[None]:
        yield
        with pytest.raises(rt.ContextError, match="'run' takes no more calls"):
            session.start_soon(print)

    async with rt.Session(name="run") as session:
        await session.enter_async_context(late())
    assert session.status == "completed"


async def test_before_and_after_the_session_it_is_a_context_error(resource: Resource, log: list[str]) -> None:
    session = rt.Session(name="run")
    with pytest.raises(rt.ContextError, match="was not entered"):
        await session.enter_async_context(resource("a"))
    async with session:
        pass
    with pytest.raises(rt.ContextError, match="takes no more"):
        await session.enter_async_context(resource("a"))
    assert log == []


async def test_a_shared_resource_is_opened_once_by_whichever_call_asks_first(
    resource: Resource, log: list[str]
) -> None:
    @rt.function_node
    async def use(name: str) -> str:
        shared: str = await rt.current_session().shared_resource(("client", name), lambda: resource(name))
        return shared

    async with rt.Session() as session:
        assert await rt.call_batch(use, ["a", "a", "b", "a"]) == ["a", "a", "b", "a"]
        assert await session.shared_resource(("client", "a"), lambda: resource("another")) == "a"
        assert sorted(log) == ["open a", "open b"]
    assert sorted(log) == ["close a", "close b", "open a", "open b"]


async def test_a_shared_resource_that_did_not_open_is_tried_again_by_the_next_call(
    resource: Resource, log: list[str]
) -> None:
    fails = [OSError("no server")]

    @asynccontextmanager
    async def client() -> AsyncIterator[str]:
        await trio.lowlevel.checkpoint()
        if fails:
            raise fails.pop()
        async with resource("client") as value:
            yield value

    async with rt.Session() as session:
        with pytest.raises(OSError, match="no server"):
            await session.shared_resource("client", client)
        assert await session.shared_resource("client", client) == "client"
    assert log == ["open client", "close client"]


async def test_a_call_that_is_cancelled_while_it_opens_a_shared_resource_leaves_the_opening_to_the_next(
    log: list[str],
) -> None:
    opened: list[trio.Event] = []

    @asynccontextmanager
    async def client() -> AsyncIterator[int]:
        opened.append(trio.Event())
        if len(opened) == 1:
            await trio.sleep_forever()
        yield len(opened)

    async def ask(session: rt.Session, scope: trio.CancelScope, got: list[int]) -> None:
        with scope:
            got.append(await session.shared_resource("client", client))

    got: list[int] = []
    first = trio.CancelScope()
    async with rt.Session() as session, trio.open_nursery() as nursery:
        nursery.start_soon(ask, session, first, got)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, session, trio.CancelScope(), got)
        await wait_all_tasks_blocked()
        first.cancel()
    assert got == [2]


async def test_a_shared_resource_needs_a_session_that_is_open(resource: Resource, log: list[str]) -> None:
    session = rt.Session(name="run")
    with pytest.raises(rt.ContextError, match="was not entered"):
        await session.shared_resource("client", lambda: resource("a"))
    async with session:
        pass
    with pytest.raises(rt.ContextError, match="takes no more"):
        await session.shared_resource("client", lambda: resource("a"))
    assert log == []


@pytest.mark.parametrize("in_thread", [False, True])
def test_an_invoked_flow_returns_when_what_outlives_its_calls_has_ended(
    resource: Resource, log: list[str], *, in_thread: bool
) -> None:
    async def deliver(item: str) -> None:
        await trio.lowlevel.checkpoint()
        log.append(f"deliver {item}")

    @rt.function_node
    async def work() -> str:
        await rt.current_session().enter_async_context(resource("a"))
        await rt.broadcast("an item")
        log.append("work")
        return "result"

    def called_back(_: object) -> None:
        log.append("saved")

    flow = rt.Flow("flow", work, broadcast_callback=deliver, payload_callback=called_back, in_thread=in_thread)
    assert flow.invoke() == "result"
    assert log[:2] == ["open a", "work"]
    assert sorted(log[2:4]) == ["close a", "deliver an item"]
    assert log[4:] == ["saved"]


def test_a_resource_that_fails_while_an_invoked_flow_ends_fails_the_flow(resource: Resource, log: list[str]) -> None:
    problem = ValueError("not closed")

    @rt.function_node
    async def work() -> None:
        await rt.current_session().enter_async_context(resource("a", problem))

    with pytest.raises(ValueError, match="not closed") as raised:
        rt.Flow("flow", work).invoke()
    assert raised.value is problem
    assert log == ["open a", "close a"]


async def test_a_shared_resource_is_opened_by_nobody_once_the_session_has_closed_its_resources(
    log: list[str], autojump_clock: MockClock
) -> None:
    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        log.append("open")
        await trio.sleep_forever()
        yield

    refused: list[str] = []

    async def ask(session: rt.Session) -> None:
        with pytest.raises(rt.ContextError) as caught:
            await session.shared_resource("key", slow)
        refused.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        async with rt.Session() as session:
            # Outside of the session's calls: one opens it, the other one waits for that.
            nursery.start_soon(ask, session)
            nursery.start_soon(ask, session)
            await wait_all_tasks_blocked()
        assert session.status == "completed"
    assert log == ["open"]
    assert sorted(refused) == [
        "the session ended before the resource was open",
        "the session has ended: open a resource before its block is left",
    ]
