"""The way from sync code into Trio: a new Trio run or the one around a worker thread, and SIGTERM meanwhile.

Called by `Flow.invoke` and `Flow.resume`.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Never, TypeVar

import trio

from railtracks._calls.here import is_system_task
from railtracks._records.errors import Caught
from railtracks.exceptions import ContextError

R = TypeVar("R")


def run_from_sync(work: Callable[[], Coroutine[object, Never, R]], on_sigterm: Callable[[], bool] | None) -> R:
    """Run an async function from sync code, wait for it, and return its result.

    In a worker thread of a Trio run, the function runs in the task that waits for the thread, and is cancelled with it.
    Elsewhere it gets a Trio run of its own.

    Args:
        work: The async function.
        on_sigterm: Called in the Trio run for each SIGTERM that arrives meanwhile, if this is the main thread. Returns
            whether it used the signal; if not, the previous signal handler gets the signal afterwards.

    Raises:
        RuntimeError: If an event loop is running in this thread.
        ContextError: If this is a worker thread that may be left behind (`abandon_on_cancel=True`).
    """
    if trio.lowlevel.in_trio_run() or _is_asyncio_running():
        raise RuntimeError("Cannot invoke flow synchronously within an active event loop. Use 'ainvoke' instead.")
    if _is_worker_thread():
        caught = trio.from_thread.run(_run_in_waiting_task, _catching(work))
    elif on_sigterm is None or threading.current_thread() is not threading.main_thread():
        caught = trio.run(_catching(work))
    else:
        caught = _Sigterm(on_sigterm).run(_catching(work))
    return caught.hand_over()


def _catching(work: Callable[[], Coroutine[object, Never, R]]) -> Callable[[], Coroutine[object, Never, Caught[R]]]:
    """Return the function with its error as a value: an error of users must not pass through the end of a Trio run."""

    async def catch() -> Caught[R]:
        try:
            return Caught(await work())
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised by `hand_over`
            return Caught(error=error)  # noqa: ASYNC104 - the same

    return catch


class _Sigterm:
    """The handling of SIGTERM during one Trio run in the main thread."""

    def __init__(self, on_sigterm: Callable[[], bool]) -> None:
        self._on_sigterm = on_sigterm
        self._token: trio.lowlevel.TrioToken | None = None
        self._undelivered = 0

    def run(self, work: Callable[[], Coroutine[object, Never, R]]) -> R:
        """Run the function in a Trio run; afterwards pass a signal that it did not use to the previous handler."""
        previous = signal.getsignal(signal.SIGTERM)
        if previous is None or previous is signal.SIG_IGN:
            # `None`: the handler was not set by Python, which could not set it again afterwards. SIG_IGN: the program
            # ignores the signal, and so does this run.
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
        # Python calls this between any two bytecodes of the main thread, also in the middle of Trio's own code. So it
        # may only count, and ask Trio to call `_deliver` at its next opportunity.
        self._undelivered += 1
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._deliver)

    def _deliver(self) -> None:
        while self._undelivered and self._on_sigterm():
            self._undelivered -= 1


async def _run_in_waiting_task(work: Callable[[], Coroutine[object, Never, R]]) -> R:
    if is_system_task(trio.lowlevel.current_task()):
        # For an abandonable thread Trio uses a system task instead of the waiting task: no cancel would reach it.
        raise ContextError(
            "a flow cannot be invoked in the thread of a node with abandon_on_cancel=True: nothing would cancel it."
            " Make the node without that option"
        )
    return await work()


def _is_asyncio_running() -> bool:
    # asyncio is slow to import. If the program has not imported it, no event loop of asyncio is running.
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
