"""The process's one Trio thread: flows of asyncio code, and those with `in_thread`, run there in one Trio run.

Called by the ways from asyncio and from sync code into it. The thread starts on first use, and is idle while no flow
runs. At the end of the interpreter its flows are cancelled, and their cleanup and saving are waited for. A forked
process starts its own.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import partial

# The functions themselves: a test of the program's may put others into the module.
from time import perf_counter, sleep
from typing import Final, Never, TypeVar

import trio

from railtracks._forks import after_fork
from railtracks._records.errors import Caught, raise_cancelled, without_cancelled
from railtracks._sessions.run_processes import RunProcesses

R = TypeVar("R")

# Seconds. A thread that computes hands on the GIL every 5 ms, and an event loop that starts flows asks for it up to
# four times in each turn: when it waits for events, starts a flow, and is woken by one that ended. Both numbers were
# measured on CPython 3.11 with 200 flows: turns of the loop of 20 ms became turns of 7 to 9.
_LONG: Final = 0.001
_SHORT: Final = 1e-6


async def caught_in_scope(work: Callable[[], Coroutine[object, Never, R]]) -> Caught[R]:
    """Await an async function, and return what comes of it; a cancel of a scope around it goes on."""
    try:
        return Caught(await work())
    except BaseException as error:  # noqa: ASYNC103, BLE001 - raised where the function is waited for
        if without_cancelled(error) is None:
            raise_cancelled(error)
        return Caught(error=error)  # noqa: ASYNC104 - the same


class TrioThread:
    """A thread with a Trio run that other threads start tasks in. `begin` starts it."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._ending = trio.Event()
        self._has_begun = threading.Event()
        self._problem: OSError | None = None
        # A daemon: Python waits for other threads before it calls what is to end this one.
        self._thread = threading.Thread(target=self._run, name="railtracks: Trio", daemon=True)
        # Held where a task is started and where the end begins: no task is started after that.
        self._starting = threading.Lock()
        self._is_closed = False
        # Of `perf_counter`.
        self._rested_at = 0.0

    def begin(self) -> None:
        """Start the thread, and wait until its Trio run takes tasks.

        Raises:
            RuntimeError: If no thread can be started.
            OSError: If the system has no resources for an event loop.
        """
        self._thread.start()
        self._has_begun.wait()
        if self._problem is not None:
            raise self._problem

    def start_soon(self, context: Context, async_fn: Callable[[], Awaitable[object]]) -> None:
        """Start a task that raises no errors, with these context variables, and return at once. For all threads.

        Raises:
            RuntimeError: If the interpreter is shutting down.
        """
        with self._starting:
            if self._is_closed:
                raise RuntimeError("no flow can begin any more: the interpreter is shutting down")
            assert self._token is not None  # noqa: S101 - set by `begin`
            assert self._nursery is not None  # noqa: S101 - the same
            name = "railtracks: flow in the Trio thread"
            self._token.run_sync_soon(context.run, partial(self._nursery.start_soon, async_fn, name=name))

    def rest(self) -> None:
        """Let other threads run for a moment if many flows begin and end one after another. In the Trio thread."""
        assert self._nursery is not None  # noqa: S101 - set by `begin`
        if perf_counter() - self._rested_at > _LONG and len(self._nursery.child_tasks) > 1:
            sleep(_SHORT)
            self._rested_at = perf_counter()

    def call_soon(self, fn: Callable[[], object]) -> bool:
        """Have the Trio run call a function that raises no errors, and return at once. For all threads.

        Returns:
            Whether the run has not ended yet.
        """
        assert self._token is not None  # noqa: S101 - set by `begin`
        try:
            self._token.run_sync_soon(fn)
        except trio.RunFinishedError:
            return False
        return True

    def close(self) -> None:
        """Cancel all tasks, and wait until they and the worker processes have ended. From then on none can start."""
        with self._starting:
            self._is_closed = True
            assert self._token is not None  # noqa: S101 - set by `begin`
            # Trio calls these in their order: every task that was to be started is in the nursery by then.
            self._token.run_sync_soon(self._ending.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except OSError as problem:
            self._problem = problem
        finally:
            self._has_begun.set()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        # The tasks of the worker processes outlive the flows.
        async with trio.open_nursery() as outer:
            processes = RunProcesses(outer)
            processes.share()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._has_begun.set()
                await self._ending.wait()
                nursery.cancel_scope.cancel("the interpreter is shutting down")
            await processes.close()


_thread: TrioThread | None = None
# Held while the thread begins.
_beginning = threading.Lock()


def trio_thread() -> TrioThread:
    """Return the Trio thread of this process, which is started on first use.

    Raises:
        RuntimeError: If no thread can be started.
        OSError: If the system has no resources for an event loop.
    """
    global _thread  # noqa: PLW0603 - there is one in a process
    with _beginning:
        if _thread is None:
            thread = TrioThread()
            thread.begin()
            atexit.register(thread.close)
            _thread = thread
        return _thread


def forget_parents_thread() -> None:
    """Have this process start a Trio thread of its own. Python calls this at the start of each forked process.

    Tests call it to be in one.
    """
    global _thread, _beginning
    if _thread is not None:
        atexit.unregister(_thread.close)
    # Another thread of the parent may have held the lock, and is not here to release it.
    _thread, _beginning = None, threading.Lock()


after_fork(forget_parents_thread)
