"""Nodes in executors of the user's own: waited for from Trio, never begun once cancelled, never broken by an error."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import worker_functions as functions
from trio.testing import wait_all_tasks_blocked

import railtracks as rt
from railtracks.testing import opened_sessions, run_with_mock_clock


@pytest.fixture
def threads() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        yield executor


class Held:
    """A function that tells when it has begun, and goes on when it may."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        self.go.wait()
        return "done"

    async def wait_until_begun(self) -> None:
        await trio.to_thread.run_sync(self.begun.wait)


async def test_in_a_thread_pool_a_node_sees_context_and_session(threads: concurrent.futures.Executor) -> None:
    def look(key: str) -> tuple[Any, str | None, str]:
        return rt.context.get(key), rt.session_id(), threading.current_thread().name

    async with rt.Session(context={"a": 1}, save_state=False) as session:
        value, identifier, thread = await rt.call(rt.function_node(look, run_in=threads), "a")
    assert (value, identifier) == (1, session.identifier)
    assert thread.startswith("ThreadPoolExecutor")


async def test_in_a_thread_pool_an_error_is_the_same_object(threads: concurrent.futures.Executor) -> None:
    error = functions.LockedError("the same")

    def fail() -> None:
        raise error

    with pytest.raises(functions.LockedError) as caught:
        await rt.call(rt.function_node(fail, run_in=threads))
    assert caught.value is error
    assert error.__notes__ == ["in fail"]


async def test_in_a_thread_pool_a_coroutine_is_no_result(threads: concurrent.futures.Executor) -> None:
    with pytest.raises(TypeError, match="it returned a coroutine"):
        await rt.call(rt.function_node(functions.hand_on_a_coroutine, run_in=threads))


async def test_work_that_has_not_begun_when_it_is_cancelled_never_begins(threads: concurrent.futures.Executor) -> None:
    held, never = Held(), Held()
    async with rt.Session(save_state=False) as session:
        session.start_soon(rt.function_node(held, run_in=threads, name="held"))
        await held.wait_until_begun()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rt.call, rt.function_node(never, run_in=threads, name="never"))
                await wait_all_tasks_blocked()
                scope.cancel()
        assert session.info.calls[1].status == "cancelled"
        held.go.set()
    assert not never.begun.is_set()
    assert [call.status for call in session.info.calls] == ["completed", "cancelled"]


async def test_work_that_has_begun_is_waited_for_and_the_one_who_waits_is_named(
    threads: concurrent.futures.Executor, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    async with rt.Session(save_state=False) as session:
        session.start_soon(rt.function_node(held, run_in=threads, name="held"))
        await held.wait_until_begun()
        session.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            assert session.info.calls[0].status == "running"
            held.go.set()
    (record,) = session.info.calls
    assert (record.status, record.result) == ("completed", "done")
    assert "waits for node 'held'" in caplog.text


async def test_abandon_on_cancel_leaves_what_has_begun_and_says_so_in_log_and_record(
    threads: concurrent.futures.Executor, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    async with rt.Session(save_state=False) as session:
        session.start_soon(rt.function_node(held, run_in=threads, name="held", abandon_on_cancel=True))
        await held.wait_until_begun()
        session.cancel()
    assert session.info.calls[0].status == "cancelled"
    assert session.info.left_behind == ("held",)
    assert "held (1) was cancelled, and its worker thread was left behind running" in caplog.text
    held.go.set()


async def test_abandon_on_cancel_gives_results_like_any_other(threads: concurrent.futures.Executor) -> None:
    node = rt.function_node(functions.add, run_in=threads, abandon_on_cancel=True)
    assert await rt.call(node, 1, 2) == 3


async def test_a_cancel_that_comes_when_the_work_is_done_waits_for_its_result() -> None:
    class Late(concurrent.futures.Executor):
        """Has done the work before anyone can wait for it."""

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            future.set_running_or_notify_cancel()
            future.set_result(fn(*args, **kwargs))
            scope.cancel()
            return future

    node = rt.function_node(functions.add, run_in=Late(), abandon_on_cancel=True)
    async with rt.Session(save_state=False) as session:
        with trio.CancelScope() as scope:
            await rt.call(node, 1, 2)
    assert session.info.calls[0].result == 3
    assert session.info.left_behind == ()


async def test_an_executor_that_is_shut_down_says_so_itself() -> None:
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        await rt.call(rt.function_node(functions.add, run_in=executor), 1, 2)


# Flows in a node's thread of a pool.


async def where() -> tuple[object, int]:
    return trio.lowlevel.current_trio_token(), rt.current_call().id


WHERE = rt.Flow("where", where)


async def test_a_flow_in_the_thread_of_a_pool_runs_in_the_run_of_its_session(
    threads: concurrent.futures.Executor,
) -> None:
    node = rt.function_node(lambda: [WHERE.invoke(), WHERE.invoke()], name="node", run_in=threads)
    with opened_sessions() as sessions:
        async with rt.Session() as session:
            here = trio.lowlevel.current_trio_token()
            assert await rt.call(node) == [(here, 1), (here, 1)]
            assert await rt.call(functions.add, 1, 2) == 3
    assert len(sessions) == 3
    assert [call.node for call in session.info.calls] == ["node", "add"]


async def test_a_flow_in_the_thread_of_a_pool_hands_back_its_error_as_it_is(
    threads: concurrent.futures.Executor,
) -> None:
    error = functions.LockedError("inner")

    async def fail() -> None:
        raise error

    node = rt.function_node(lambda: rt.Flow("fail", fail).invoke(), name="node", run_in=threads)
    with pytest.raises(functions.LockedError) as caught:
        await rt.call(node)
    assert caught.value is error


def invoked(flow: rt.Flow[[], Any]) -> Any:
    return flow.invoke()


def awaited_in_asyncio(flow: rt.Flow[[], Any]) -> Any:
    return asyncio.run(flow.ainvoke())


@pytest.mark.usefixtures("no_trio_thread_afterwards")
@pytest.mark.parametrize("run", [invoked, awaited_in_asyncio])
async def test_a_flow_in_the_thread_of_a_pool_is_cancelled_with_its_node(
    run: Callable[[rt.Flow[[], Any]], Any], threads: concurrent.futures.Executor
) -> None:
    log: list[str] = []
    begun = threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            log.append("cleanup of the flow")

    def node() -> None:
        try:
            run(rt.Flow("hang", hang))
        finally:
            log.append("thread ended")

    async with rt.Session() as session:
        session.start_soon(rt.function_node(node, run_in=threads))
        await trio.to_thread.run_sync(begun.wait)
        session.cancel()
    assert log == ["cleanup of the flow", "thread ended"]
    assert session.info.calls[0].status == "cancelled"


@pytest.mark.usefixtures("no_trio_thread_afterwards")
@pytest.mark.parametrize("run", [invoked, awaited_in_asyncio])
async def test_in_the_thread_of_a_pool_that_is_cancelled_already_no_flow_begins(
    run: Callable[[rt.Flow[[], Any]], Any], threads: concurrent.futures.Executor
) -> None:
    held = Held()
    ran: list[str] = []

    async def never() -> None:
        await trio.lowlevel.checkpoint()
        ran.append("ran")

    def node() -> None:
        held()
        run(rt.Flow("never", never))

    async with rt.Session() as session:
        session.start_soon(rt.function_node(node, run_in=threads))
        await held.wait_until_begun()
        session.cancel()
        held.go.set()
    assert ran == []
    assert session.info.calls[0].status == "cancelled"


@pytest.mark.parametrize("run", [invoked, awaited_in_asyncio])
async def test_in_the_thread_of_a_pool_that_may_be_left_behind_a_flow_is_refused(
    run: Callable[[rt.Flow[[], Any]], Any], threads: concurrent.futures.Executor
) -> None:
    node = rt.function_node(lambda: run(WHERE), name="node", run_in=threads, abandon_on_cancel=True)
    with pytest.raises(rt.ContextError, match="abandon_on_cancel"):
        await rt.call(node)


@pytest.mark.usefixtures("no_trio_thread_afterwards")
async def test_a_flow_of_asyncio_in_the_thread_of_a_pool_gives_its_result(threads: concurrent.futures.Executor) -> None:
    async def both() -> list[Any]:
        return await asyncio.gather(WHERE.ainvoke(), WHERE.ainvoke())

    (first, second) = await rt.call(rt.function_node(lambda: asyncio.run(both()), name="node", run_in=threads))
    assert first == second
    assert first[0] is not trio.lowlevel.current_trio_token()


async def test_flows_in_pools_in_flows_in_pools_are_cancelled_with_the_outermost_session(
    threads: concurrent.futures.Executor,
) -> None:
    log: list[object] = []
    begun = threading.Event()

    async def hang() -> None:
        log.append(trio.lowlevel.current_trio_token())
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            log.append("inner flow")

    with concurrent.futures.ThreadPoolExecutor(1) as others:
        inner = rt.function_node(rt.Flow("hang", hang).invoke, name="inner", run_in=others)

        async def between() -> None:
            try:
                await rt.call(inner)
            finally:
                log.append("outer flow")

        outer = rt.function_node(rt.Flow("between", between).invoke, name="outer", run_in=threads)
        async with rt.Session() as session:
            session.start_soon(outer)
            await trio.to_thread.run_sync(begun.wait)
            session.cancel()
    assert log == [trio.lowlevel.current_trio_token(), "inner flow", "outer flow"]
    assert session.info.calls[0].status == "cancelled"


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")


async def test_a_flow_in_the_thread_of_a_pool_sees_the_context_variables_of_its_node(
    threads: concurrent.futures.Executor,
) -> None:
    seen: list[str | None] = []

    async def look() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("the flow's")
        await trio.lowlevel.checkpoint()
        seen.append(VARIABLE.get())

    def node() -> None:
        VARIABLE.set("the node's")
        rt.Flow("look", look, context={"key": "the flow's"}).invoke()
        seen.extend((VARIABLE.get(), rt.context.get("key"), rt.session_id()))

    async with rt.Session(context={"key": "the session's"}) as session:
        await rt.call(rt.function_node(node, run_in=threads))
        assert VARIABLE.get() == "nobody's"
    assert seen == ["the node's", "the flow's", "the node's", "the session's", session.identifier]


def test_ctrl_c_ends_a_flow_in_the_thread_of_a_pool(threads: concurrent.futures.Executor) -> None:
    log: list[str] = []
    begun = threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            log.append("cleanup of the flow")

    def node() -> None:
        try:
            rt.Flow("hang", hang).invoke()
        except KeyboardInterrupt:
            log.append("Ctrl-C in the node")
            raise

    # It would strike an unprotected task in place of the main one.
    @trio.lowlevel.enable_ki_protection
    async def press() -> None:
        await trio.to_thread.run_sync(begun.wait)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        trio.lowlevel.spawn_system_task(press)
        await rt.call(rt.function_node(node, run_in=threads))

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert log == ["cleanup of the flow", "Ctrl-C in the node"]


async def test_a_thread_of_a_pool_that_has_ended_its_node_is_nobodys_thread(
    threads: concurrent.futures.ThreadPoolExecutor,
) -> None:
    contexts: list[contextvars.Context] = []
    await rt.call(rt.function_node(lambda: contexts.append(contextvars.copy_context()), name="node", run_in=threads))
    # Work of the program's own in the same thread, which runs in the context of the node.
    token, _ = await trio.to_thread.run_sync(threads.submit(contexts[0].run, WHERE.invoke).result)
    assert token is not trio.lowlevel.current_trio_token()


class Impatient(concurrent.futures.ThreadPoolExecutor):
    """Gives out futures of its own, which may end before their work has."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        super().submit(fn, *args, **kwargs)
        self.given.set_running_or_notify_cancel()
        return self.given

    def give_up(self) -> None:
        self.given.set_exception(TimeoutError("given up"))


@pytest.mark.parametrize("is_run_over", [False, True])
def test_a_flow_in_the_thread_of_a_pool_is_refused_when_no_task_waits_for_it_any_more(*, is_run_over: bool) -> None:
    held = Held()
    over = threading.Event()
    raised: list[rt.ContextError] = []

    def node() -> None:
        held()
        with pytest.raises(rt.ContextError, match="nothing would cancel it") as caught:
            WHERE.invoke()
        raised.append(caught.value)
        over.set()

    async def give_up() -> None:
        await held.wait_until_begun()
        executor.give_up()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up)
            with pytest.raises(TimeoutError, match="given up"):
                await rt.call(rt.function_node(node, run_in=executor))
        if not is_run_over:
            held.go.set()
            assert await trio.to_thread.run_sync(over.wait, 30)

    with Impatient() as executor:
        try:
            trio.run(main)
        finally:
            held.go.set()
    assert len(raised) == 1


async def test_a_flow_in_the_thread_of_a_pool_goes_on_to_its_end_though_its_future_is_over() -> None:
    ends: list[str] = []

    async def give_up() -> None:
        executor.give_up()
        await trio.lowlevel.checkpoint()
        ends.append("ended")

    with Impatient() as executor:
        node = rt.function_node(rt.Flow("give up", give_up).invoke, name="node", run_in=executor)
        with pytest.raises(TimeoutError, match="given up"):
            await rt.call(node)
    assert ends == ["ended"]


# An error of the clock goes out of the Trio run as that of a signal handler does: past all tasks.
BROKEN_RUN = """
import threading, time
from concurrent.futures import ThreadPoolExecutor

import trio
import railtracks as rt

class Broken(trio.abc.Clock):
    def start_clock(self):
        pass
    def current_time(self):
        return time.monotonic()
    def deadline_to_sleep_time(self, deadline):
        if begun.is_set():
            raise ArithmeticError
        return 1.0

async def hang():
    begun.set()
    await trio.sleep_forever()

def node():
    try:
        rt.Flow("hang", hang, save_state=False).invoke()
    except rt.ContextError:
        ends.append("refused")

ends = []
begun = threading.Event()
with ThreadPoolExecutor(1) as pool:
    try:
        trio.run(rt.call, rt.function_node(node, run_in=pool), clock=Broken())
    except trio.TrioInternalError:
        ends.append("broken")
print(*sorted(ends))
"""


@pytest.mark.usefixtures("measured_processes")
def test_a_trio_run_that_breaks_leaves_no_thread_of_a_pool_waiting() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", BROKEN_RUN], capture_output=True, text=True, check=True, timeout=60, env=os.environ
    )
    assert ended.stdout == "broken refused\n"


def test_a_flow_in_the_thread_of_a_pool_does_not_hold_a_mock_clock(threads: concurrent.futures.Executor) -> None:
    flow = rt.Flow("nap", functools.partial(trio.sleep, 1_000))
    outer = rt.function_node(flow.invoke, name="outer", run_in=threads)
    run_with_mock_clock(rt.Flow("outer", outer, timeout=2_000))
    with pytest.raises(rt.SessionTimeoutError):
        run_with_mock_clock(rt.Flow("outer", outer, timeout=500))


async def test_a_call_that_outlives_its_run_wakes_nobody(threads: concurrent.futures.Executor) -> None:
    held = Held()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rt.call, rt.function_node(held, run_in=threads, abandon_on_cancel=True, name="held"))
                await held.wait_until_begun()
                scope.cancel()

    await trio.to_thread.run_sync(trio.run, main)
    held.go.set()
    assert await rt.call(rt.function_node(functions.add, run_in=threads), 1, 2) == 3


async def use_a_pool(executor: concurrent.futures.Executor) -> None:
    async with rt.Session(save_state=False, logging_setting="NONE"):
        for fn, error in (
            (functions.fail_with_keyword, functions.KeywordError),
            (functions.fail_locked, functions.LockedError),
            (functions.fail_locally, rt.RemoteError),
            (functions.make_lock, TypeError),
        ):
            with pytest.raises(error):
                await rt.call(rt.function_node(fn, run_in=executor))
        with pytest.raises(functions.UserError) as caught:
            await rt.call(rt.function_node(functions.fail_with_cause, run_in=executor), "why")
        assert caught.value.__notes__[-1] == "in fail_with_cause"
        assert await rt.call(rt.function_node(functions.process_id.fn, run_in=executor)) != os.getpid()
        with pytest.raises(rt.WorkerCrashedError) as crashed:
            await rt.call(rt.function_node(functions.crash.fn, run_in=executor), 3)
        assert crashed.value.exit_code is None
        assert isinstance(crashed.value.__cause__, concurrent.futures.BrokenExecutor)


async def test_no_exception_breaks_a_pool_of_processes() -> None:
    executor = concurrent.futures.ProcessPoolExecutor(1)
    try:
        await use_a_pool(executor)
    finally:
        await trio.to_thread.run_sync(executor.shutdown)


@pytest.mark.proof
def test_no_exception_breaks_a_pool_of_lokys() -> None:
    # In an interpreter of its own: loky keeps processes for the next pool.
    code = "import loky, trio, test_executors as t; trio.run(t.use_a_pool, loky.ProcessPoolExecutor(1))"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
