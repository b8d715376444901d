"""Where `Flow.invoke` may be called from: scripts, threads, worker threads of a session; no running event loop."""

import asyncio
import sys
import threading
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import railtracks as rt

MESSAGE = "Cannot invoke flow synchronously within an active event loop. Use 'ainvoke' instead."


@rt.function_node
async def double(number: int) -> int:
    return 2 * number


@rt.function_node
async def which_task() -> tuple[object, str | None]:
    return trio.lowlevel.current_trio_token(), rt.session_id()


async def hang() -> None:
    await trio.sleep_forever()


FLOW = rt.Flow("double", entry_point=double)


async def test_invoke_with_trio_running_is_a_runtime_error() -> None:
    with pytest.raises(RuntimeError) as caught:
        FLOW.invoke(4)
    assert type(caught.value) is RuntimeError
    assert str(caught.value) == MESSAGE


async def test_invoke_inside_a_coroutine_node_is_a_runtime_error() -> None:
    @rt.function_node
    async def nest() -> int:
        return FLOW.invoke(4)

    with pytest.raises(RuntimeError) as caught:
        await rt.call(nest)
    assert str(caught.value) == MESSAGE


def test_invoke_with_asyncio_running_is_a_runtime_error() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError) as caught:
            FLOW.invoke(4)
        assert str(caught.value) == MESSAGE
        # In a thread of its own no loop is running.
        assert await asyncio.to_thread(FLOW.invoke, 4) == 8

    asyncio.run(main())


def test_invoke_does_not_need_asyncio_to_have_been_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "asyncio")
    assert FLOW.invoke(4) == 8
    assert "asyncio" not in sys.modules


@pytest.mark.parametrize("text", [MESSAGE, "no running event loop", "this is not a Trio thread"])
def test_runtime_error_of_the_users_own_node_is_never_relabelled(text: str) -> None:
    error = RuntimeError(text)

    async def fail() -> None:
        raise error

    with pytest.raises(RuntimeError) as caught:
        rt.Flow("fail", entry_point=fail).invoke()
    assert caught.value is error
    assert error.__context__ is None


def test_invoke_in_several_threads_at_once() -> None:
    results: dict[int, int] = {}

    def run(number: int) -> None:
        results[number] = FLOW.invoke(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: 2 * number for number in range(4)}


async def test_invoke_in_a_worker_thread_of_a_session_runs_in_that_host_run() -> None:
    flow = rt.Flow("which", entry_point=which_task)

    @rt.function_node
    def nest() -> tuple[object, str | None]:
        return flow.invoke()

    async with rt.Session() as session:
        token, identifier = await rt.call(nest)
        assert token is trio.lowlevel.current_trio_token()
        assert identifier != session.identifier
        assert await rt.call(double, 4) == 8
    assert [call.node for call in session.info.calls] == ["nest", "double"]


async def test_invoke_in_a_worker_thread_of_a_session_is_cancelled_with_it() -> None:
    log: list[str] = []

    @rt.function_node
    def nest() -> None:
        try:
            rt.Flow("hang", entry_point=hang).invoke()
        finally:
            log.append("thread ended")

    with trio.CancelScope() as outside:
        async with rt.Session() as session:
            session.start_soon(nest)
            await wait_all_tasks_blocked()
            outside.cancel()
    assert log == ["thread ended"]
    assert session.info.calls[0].status == "cancelled"


async def test_invoke_in_a_worker_thread_that_is_cancelled_already_runs_nothing() -> None:
    running, cancelled = trio.Event(), threading.Event()
    ran: list[str] = []

    async def run() -> None:
        ran.append("ran")

    @rt.function_node
    def nest() -> None:
        trio.from_thread.run_sync(running.set)
        cancelled.wait()
        rt.Flow("run", entry_point=run).invoke()

    async with rt.Session() as session:
        session.start_soon(nest)
        await running.wait()
        session.cancel()
        cancelled.set()
    assert ran == []
    assert session.info.calls[0].status == "cancelled"


async def test_invoke_in_a_worker_thread_hands_back_the_error_as_it_is() -> None:
    error = ValueError("inner")

    async def fail() -> None:
        raise error

    @rt.function_node
    def nest() -> None:
        rt.Flow("fail", entry_point=fail).invoke()

    with pytest.raises(ValueError, match="inner") as caught:
        await rt.call(nest)
    assert caught.value is error


async def test_invoke_in_a_thread_that_may_be_left_behind_is_refused_as_nothing_would_cancel_it() -> None:
    @rt.function_node(abandon_on_cancel=True)
    def nest() -> int:
        return FLOW.invoke(4)

    with pytest.raises(rt.ContextError, match="abandon_on_cancel"):
        await rt.call(nest)


async def test_invoke_in_a_thread_that_was_left_behind_is_refused_in_the_same_way() -> None:
    go, over = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    @rt.function_node(abandon_on_cancel=True)
    def nest() -> None:
        begun.set()
        go.wait()
        for run in (lambda: FLOW.invoke(4), lambda: asyncio.run(FLOW.ainvoke(4))):
            with pytest.raises(rt.ContextError, match="abandon_on_cancel") as caught:
                run()
            raised.append(caught.value)
        over.set()

    begun = threading.Event()
    async with rt.Session() as session:
        session.start_soon(nest)
        await trio.to_thread.run_sync(begun.wait)
        session.cancel()
    go.set()
    assert await trio.to_thread.run_sync(over.wait, 30)
    assert len(raised) == 2


@pytest.mark.parametrize("is_run_over", [False, True])
def test_invoke_in_a_thread_of_the_users_own_that_was_left_behind_is_refused(*, is_run_over: bool) -> None:
    begun, go, over = threading.Event(), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def invoke() -> None:
        begun.set()
        go.wait()
        try:
            FLOW.invoke(4)
        except BaseException as error:  # noqa: BLE001 - whichever it is
            raised.append(error)
        over.set()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.to_thread.run_sync, invoke, abandon_on_cancel=True))
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
        if not is_run_over:
            go.set()
            assert await trio.to_thread.run_sync(over.wait, 30)

    trio.run(main)
    go.set()
    assert over.wait(30)
    assert [type(error) for error in raised] == [rt.ContextError]


async def test_invoke_in_a_thread_that_trio_knows_nothing_of_is_a_run_of_its_own() -> None:
    results: list[tuple[object, str | None]] = []

    @rt.function_node
    def nest() -> None:
        thread = threading.Thread(target=lambda: results.append(rt.Flow("which", entry_point=which_task).invoke()))
        thread.start()
        thread.join()

    await rt.call(nest)
    assert results[0][0] is not trio.lowlevel.current_trio_token()
