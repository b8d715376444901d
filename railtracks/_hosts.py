"""Which event loop this thread is in, if any, and the way from a script or a worker thread into Trio."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import trio

from railtracks._scope import is_system_task
from railtracks.exceptions import ContextError

R = TypeVar("R")


def run_from_sync(work: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run an async function from sync code, and wait for it.

    In a worker thread of a Trio run it runs in that run, in the task that waits for the thread, and is cancelled with
    it. Elsewhere it gets a Trio run of its own.

    Raises:
        RuntimeError: If an event loop is running in this thread.
        ContextError: If this is a worker thread that may be left behind (`abandon_on_cancel=True`).
    """
    if trio.lowlevel.in_trio_run() or _is_asyncio_running():
        raise RuntimeError("Cannot invoke flow synchronously within an active event loop. Use 'ainvoke' instead.")
    if _is_worker_thread():
        return trio.from_thread.run(_run_in_host, work)
    return trio.run(work)


async def _run_in_host(work: Callable[[], Coroutine[Any, Any, R]]) -> R:
    if is_system_task(trio.lowlevel.current_task()):
        # Trio runs it there for a thread that may be left behind, and nothing would cancel it.
        raise ContextError("a flow cannot be invoked in a thread with abandon_on_cancel=True: nothing would cancel it")
    return await work()


def _is_asyncio_running() -> bool:
    # Importing asyncio costs more than the rest of this package. If nobody did, no loop of it is running.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_worker_thread() -> bool:
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    return True
