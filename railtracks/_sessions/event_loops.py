"""Which event loop this thread is in, if any, and the way from a script or a worker thread into Trio."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Never, TypeVar

import trio

from railtracks._calls.here import is_system_task
from railtracks.exceptions import ContextError

R = TypeVar("R")


def run_from_sync(work: Callable[[], Coroutine[object, Never, R]], on_sigterm: Callable[[], bool] | None) -> R:
    """Run an async function from sync code, and wait for it.

    In a worker thread of a Trio run it runs in that run, in the task that waits for the thread, and is cancelled with
    it. Elsewhere it gets a Trio run of its own.

    Args:
        work: The function.
        on_sigterm: What SIGTERM does meanwhile, if this is the main thread: called in the Trio run. Says whether that
            was of use; if not, whoever handled the signal before gets it afterwards.

    Raises:
        RuntimeError: If an event loop is running in this thread.
        ContextError: If this is a worker thread that may be left behind (`abandon_on_cancel=True`).
    """
    if trio.lowlevel.in_trio_run() or _is_asyncio_running():
        raise RuntimeError("Cannot invoke flow synchronously within an active event loop. Use 'ainvoke' instead.")
    if _is_worker_thread():
        return trio.from_thread.run(_run_in_host, work)
    if on_sigterm is None or threading.current_thread() is not threading.main_thread():
        return trio.run(work)
    return _Sigterm(on_sigterm).run(work)


class _Sigterm:
    """SIGTERM on its way into one Trio run."""

    def __init__(self, act: Callable[[], bool]) -> None:
        self._on_sigterm = act
        self._token: trio.lowlevel.TrioToken | None = None
        self._undelivered = 0

    def run(self, work: Callable[[], Coroutine[object, Never, R]]) -> R:
        """Handle the signal while the function runs, and hand on afterwards what came too late for it."""
        previous = signal.getsignal(signal.SIGTERM)
        if previous is None or previous is signal.SIG_IGN:
            # Set by other means than Python's, which could not set it again afterwards; or not wanted.
            return trio.run(work)
        signal.signal(signal.SIGTERM, self._receive)
        try:
            return trio.run(self._main, work)
        finally:
            signal.signal(signal.SIGTERM, previous)
            if self._undelivered:
                signal.raise_signal(signal.SIGTERM)

    async def _main(self, work: Callable[[], Coroutine[object, Never, R]]) -> R:
        self._token = trio.lowlevel.current_trio_token()
        self._deliver()
        return await work()

    def _receive(self, _: int, __: object) -> None:
        # Between any two steps of the main thread: nothing here may wait, or touch what Trio is working on.
        self._undelivered += 1
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._deliver)

    def _deliver(self) -> None:
        while self._undelivered and self._on_sigterm():
            self._undelivered -= 1


async def _run_in_host(work: Callable[[], Coroutine[object, Never, R]]) -> R:
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
