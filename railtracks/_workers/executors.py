"""Sync functions in executors: any `concurrent.futures.Executor`, waited for from Trio.

Threads share the caller's context variables and objects. Whatever else an executor runs on is taken for other
processes, and gets an envelope: an exception that cannot be unpickled would break many a pool for good.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import trio

from railtracks._workers.pickling import packed, run_packed, unpacked
from railtracks._workers.threads import checked, working
from railtracks.exceptions import WorkerCrashedError


async def run_in_executor(  # noqa: PLR0917 - as of a thread
    executor: Executor,
    name: str,
    fn: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    leave_behind: Callable[[], object] | None,
) -> Any:
    """Run a function in an executor and wait for it.

    When the caller is cancelled, work that has not begun never begins. Work that has begun is waited for; if there is
    somebody to tell of it, it is left to itself.

    Raises:
        WorkerCrashedError: If the executor is broken.
        TypeError: If function, arguments or result cannot be brought over a process border.
    """
    try:
        with working():
            if _shares_memory(executor):
                run = copy_context().run
                return await _outcome_of(executor.submit(run, checked, name, fn, args, kwargs), leave_behind)
            payload = packed(name, fn, args, kwargs)
            reply = await _outcome_of(executor.submit(run_packed, payload), leave_behind)
    except BrokenExecutor as error:
        raise WorkerCrashedError(name) from error
    return unpacked(name, reply)


def _shares_memory(executor: Executor) -> bool:
    # An executor of interpreters is one of threads, too, by its class.
    return isinstance(executor, ThreadPoolExecutor) and type(executor).__name__ != "InterpreterPoolExecutor"


async def _outcome_of(future: Future[Any], leave_behind: Callable[[], object] | None) -> Any:
    token, task = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()
    is_waited_for = True

    def wake() -> None:
        nonlocal is_waited_for
        if is_waited_for:
            is_waited_for = False
            trio.lowlevel.reschedule(task)

    def tell(_: object) -> None:
        # Called in whatever thread, perhaps when nobody waits any more.
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(wake)

    def abort(_: object) -> trio.lowlevel.Abort:
        nonlocal is_waited_for
        is_over = future.cancel()
        if not is_over and leave_behind is not None and not future.done():
            leave_behind()
            is_over = True
        is_waited_for = not is_over
        return trio.lowlevel.Abort.SUCCEEDED if is_over else trio.lowlevel.Abort.FAILED

    future.add_done_callback(tell)
    await trio.lowlevel.wait_task_rescheduled(abort)
    return future.result()
