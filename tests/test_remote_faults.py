"""Sessions in executors that fail, cancel what they have, or have no workers: what comes out and is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import remote_flows as flows
import trio
from remote_sessions import session
from trio.testing import wait_all_tasks_blocked

import railtracks as rt


class Begun(Executor):
    """An executor that has begun what it gets, and tells nothing by itself."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.future


@pytest.mark.parametrize("error", [BrokenExecutor("its process died"), OSError("no pipe"), CancelledError()])
async def test_a_cancelled_session_is_waited_for_no_longer_when_its_executor_fails_and_stays_cancelled(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    executor = Begun()
    async with session() as here:
        # Without a timeout.
        pending = await rt.submit(executor, flows.total_flow.bind(3))
        await wait_all_tasks_blocked()
        pending.cancel()
        await wait_all_tasks_blocked()
        assert pending.status == "running"
        executor.future.set_exception(error)
        with trio.fail_after(10):
            await pending.wait()
    assert [each.status for each in here.info.roots] == ["cancelled"]
    assert f"Begun does not tell how the session of 'flow total' that was cancelled has ended ({name_of(error)})" in (
        caplog.text
    )


def name_of(error: Exception) -> str:
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


async def test_an_executor_that_ends_the_program_does_so_after_a_cancel_too() -> None:
    executor = Begun()
    with pytest.raises(SystemExit):
        async with session():
            pending = await rt.submit(executor, flows.total_flow.bind(3))
            await wait_all_tasks_blocked()
            pending.cancel()
            await wait_all_tasks_blocked()
            executor.future.set_exception(SystemExit(3))
            await pending.wait()


class Dropping(Executor):
    """An executor of processes that is shut down before it has begun what it gets."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        return future


class DroppingThreads(ThreadPoolExecutor):
    """A pool of threads that is shut down before it has begun what it gets."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        is_over = threading.Event()
        super().submit(is_over.wait)
        sent = super().submit(fn, *args, **kwargs)
        self.shutdown(wait=False, cancel_futures=True)
        is_over.set()
        return sent


@pytest.mark.parametrize("make", [Dropping, partial(DroppingThreads, 1)])
async def test_what_a_closing_executor_drops_says_that_it_never_began(make: Callable[[], Executor]) -> None:
    executor = make()
    wanted = f"{type(executor).__name__} has cancelled 'flow total' before it began"
    with pytest.raises(rt.SessionCancelledError, match=wanted):
        async with session():
            await (await rt.submit(executor, flows.total_flow.bind(3))).wait()


def run_at_once(fn: Callable[..., object], *args: object, **kwargs: object) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(fn(*args, **kwargs))
    return future


class Inline(Executor):
    """An executor that has no workers, as of tests."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return run_at_once(fn, *args, **kwargs)


class InlineThreads(ThreadPoolExecutor):
    """The same, made of a pool of threads."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return run_at_once(fn, *args, **kwargs)


@pytest.mark.parametrize("make", [Inline, InlineThreads])
async def test_an_executor_that_runs_sessions_where_trio_runs_is_told_from_one_with_workers(
    make: Callable[[], Executor],
) -> None:
    with make() as pool, pytest.raises(RuntimeError, match="use an executor that has threads or processes of its own"):
        async with session():
            await (await rt.submit(pool, flows.total_flow.bind(3))).wait()
