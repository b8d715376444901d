"""Sync functions in executors: any `concurrent.futures.Executor`, waited for from Trio.

Called by attempts of nodes with an executor for `run_in`. An executor of threads shares the caller's context variables
and objects. Every other executor is taken for one of other processes: what it carries is pickled by `pickling`,
because an exception that cannot be unpickled would break many pools for good.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TypeVar

import trio

from railtracks._records.errors import Caught, caught
from railtracks._traces import with_trace
from railtracks._workers.pickling import packed, run_packed, unpacked
from railtracks._workers.threads import checked, working
from railtracks.exceptions import WorkerCrashedError

T = TypeVar("T")


async def run_in_executor(  # noqa: PLR0917 - as of a thread
    executor: Executor,
    name: str,
    fn: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    leave_behind: Callable[[], object] | None,
) -> object:
    """Run the function of a sync node in an executor and wait for it.

    When the caller is cancelled, work that has not begun never begins. Work that has begun is waited for, unless
    `leave_behind` is given: then that is called, and the work goes on alone.

    Raises:
        WorkerCrashedError: If the executor is broken.
        TypeError: If the function, an argument or the result cannot be pickled for another process.
    """
    came: Caught[object] | None = None
    reply = b""
    try:
        with working():
            if shares_memory(executor):
                run, do = copy_context().run, partial(checked, name, fn, args, kwargs)
                came = await outcome_of(executor.submit(run, caught, do), leave_behind)
            else:
                payload = packed(name, with_trace(fn), args, kwargs)
                reply = await outcome_of(executor.submit(run_packed, payload), leave_behind)
    except BrokenExecutor as error:
        raise WorkerCrashedError(name) from error
    return unpacked(name, reply) if came is None else came.hand_over()


def shares_memory(executor: Executor) -> bool:
    """Return whether an executor runs what it gets in threads of this process."""
    # By its class, an executor of interpreters is an executor of threads, too; it shares no objects.
    return isinstance(executor, ThreadPoolExecutor) and type(executor).__name__ != "InterpreterPoolExecutor"


async def outcome_of(
    future: Future[T], leave_behind: Callable[[], object] | None, stop: Callable[[], object] | None = None
) -> T:
    """Wait for what an executor runs, and return its result. A checkpoint.

    Args:
        future: What the executor has returned.
        leave_behind: As of `run_in_executor`.
        stop: Called when the caller is cancelled and the work has begun; it makes the work end soon.
    """
    token, task = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()
    is_waited_for = True

    def wake() -> None:
        nonlocal is_waited_for
        if is_waited_for:
            is_waited_for = False
            trio.lowlevel.reschedule(task)

    def tell(_: object) -> None:
        # The executor calls this in any of its threads, perhaps when no task waits any more.
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(wake)

    def abort(_: object) -> trio.lowlevel.Abort:
        nonlocal is_waited_for
        is_over = future.cancel()
        if not is_over and leave_behind is not None and not future.done():
            leave_behind()
            is_over = True
        elif not is_over and stop is not None:
            stop()
        is_waited_for = not is_over
        return trio.lowlevel.Abort.SUCCEEDED if is_over else trio.lowlevel.Abort.FAILED

    future.add_done_callback(tell)
    await trio.lowlevel.wait_task_rescheduled(abort)
    return future.result()
