"""The way from sync code into Trio: a new Trio run, or the one around a worker thread.

Called by `Flow.invoke` and `Flow.resume`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Never, TypeVar, TypeVarTuple, Unpack, cast

import outcome
import trio

from railtracks._calls.here import is_system_task
from railtracks._calls.no_trio import is_asyncio_running
from railtracks._forks import after_fork
from railtracks._records.errors import Caught
from railtracks._sessions.in_trio_thread import run_in_trio_thread
from railtracks._sessions.sigterm import Runner, Sigterm, leave_parents_handlers, refuse_if_stopping
from railtracks._sessions.trio_thread import caught_in_scope
from railtracks._sessions.waits import wait_for
from railtracks._workers.node_threads import NOTHING_CANCELS, NodeThread, node_thread
from railtracks.exceptions import ContextError

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

# The thread that was forked to begin this process, and the Trio run that it was in; `None` where there is none. Trio's
# marks of a run, and of a worker thread of one, come along with a fork. The run itself does not.
_forked_thread: int | None = None
_inherited_run: trio.lowlevel.TrioToken | None = None


def run_from_sync(
    work: Callable[[], Coroutine[object, Never, R]], on_sigterm: Callable[[], bool] | None, *, in_thread: bool
) -> R:
    """Run an async function from sync code, wait for it, and return its result.

    In a worker thread of a Trio run, the function runs in the task that waits for the thread, and is cancelled with it.
    Elsewhere it gets a Trio run of its own. In a process that was forked from a task that is a run in a new thread,
    because Trio refuses a second run in the thread that was forked.

    Args:
        work: The async function.
        on_sigterm: Called in the Trio run for each SIGTERM that arrives meanwhile, if this is the main thread. Returns
            whether it used the signal.
        in_thread: Whether a Trio run of its own is to be replaced by the one in the process's Trio thread.

    Raises:
        RuntimeError: If an event loop is running in this thread.
        ContextError: If this is a worker thread that may be left behind (`abandon_on_cancel=True`).
        SessionCancelledError: If this is the main thread, and SIGTERM has come during an earlier run.
    """
    if trio.lowlevel.in_trio_run() or is_asyncio_running():
        if is_loop_running():
            raise RuntimeError("Cannot invoke flow synchronously within an active event loop. Use 'ainvoke' instead.")
        # Trio's mark of a run came along with the fork: the run is that of the parent.
        return _run_in_new_thread(_catching(work)).hand_over()
    # Trio runs nothing for others in the main thread.
    is_main = threading.current_thread() is threading.main_thread()
    thread = None if is_main else node_thread()
    if thread is not None or (not is_main and _is_worker_thread()):
        return _run_from_thread(thread, _catching(work)).hand_over()
    if is_main:
        refuse_if_stopping()
    run: Runner = run_in_trio_thread if in_thread else _run_here
    return Sigterm(on_sigterm, run).run(work) if is_main and on_sigterm is not None else run(work)


def _run_here(async_fn: Callable[[Unpack[Ts]], Coroutine[object, Never, R]], *args: *Ts) -> R:
    """Run the function in a Trio run in this thread. Like `trio.run`, but an error is the same object."""
    return trio.run(caught_in_scope, partial(async_fn, *args)).hand_over()


def is_loop_running() -> bool:
    """Return whether an event loop of this process is running in this thread: sync code would hold it up."""
    return (trio.lowlevel.in_trio_run() and not in_parents_run()) or is_asyncio_running()


def in_parents_run() -> bool:
    """Return whether Trio takes this thread for one in a Trio run, which is that of the process it was forked from."""
    return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is _inherited_run


def _catching(work: Callable[[], Coroutine[object, Never, R]]) -> Callable[[], Coroutine[object, Never, Caught[R]]]:
    """Return the function with its error as a value: an error of users must not pass through the end of a Trio run."""
    return partial(caught_in_scope, work)


class _OwnThread:
    """One Trio run in a thread of its own, for which another thread waits."""

    def __init__(self, work: Callable[[], Coroutine[object, Never, object]]) -> None:
        self.is_cancelled = False
        self._work = work
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._is_over = threading.Event()

    def run(self) -> outcome.Outcome[object]:
        """Run the function in a new thread, and wait for its outcome."""
        outcomes: list[outcome.Outcome[object]] = []
        context = copy_context()

        def begin() -> None:
            outcomes.append(outcome.capture(lambda: context.run(lambda: trio.run(self._main))))
            self._is_over.set()

        try:
            threading.Thread(target=begin).start()
            wait_for(self._is_over)
        except BaseException:
            # A signal handler of the program has raised.
            self.cancel()
            wait_for(self._is_over)
            raise
        return outcomes[0]

    def cancel(self, *_: object) -> None:
        """Cancel the run, from another thread. Also a signal handler."""
        # This comes before the token is read, and in `_main` after the token is set: one of them sees the other.
        self.is_cancelled = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._deliver)

    async def _main(self) -> object:
        self._token = trio.lowlevel.current_trio_token()
        self._deliver()
        with self._scope:
            return await self._work()
        return None

    def _deliver(self) -> None:
        if self.is_cancelled:
            self._scope.cancel()


def _run_in_new_thread(work: Callable[[], Coroutine[object, Never, R]]) -> R:
    """Run the function in a Trio run in a thread of its own, and wait for it. Ctrl-C cancels it."""
    own = _OwnThread(work)
    # The waiting thread is the main one in a forked process. A `KeyboardInterrupt` could strike there at any line.
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_default or threading.current_thread() is not threading.main_thread():
        return cast("R", own.run().unwrap())
    signal.signal(signal.SIGINT, own.cancel)
    try:
        result = own.run()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if own.is_cancelled:
        raise KeyboardInterrupt
    return cast("R", result.unwrap())


def _run_from_thread(thread: NodeThread | None, work: Callable[[], Coroutine[object, Never, R]]) -> R:
    """Run the function in the task that waits for this thread: that of a node, or one that the program has started."""
    try:
        if thread is None:
            return trio.from_thread.run(_run_in_waiting_task, work)
        thread.check()
        return thread.run(_run_in_waiting_task, work)
    except trio.RunFinishedError:
        # The thread was left behind, and no task waits for it any more.
        raise ContextError(NOTHING_CANCELS) from None


async def _run_in_waiting_task(work: Callable[[], Coroutine[object, Never, R]]) -> R:
    if is_system_task(trio.lowlevel.current_task()):
        # For an abandonable thread Trio uses a system task instead of the waiting task: no cancel would reach it.
        raise ContextError(NOTHING_CANCELS)
    # Nothing of it runs if the cancel was quicker.
    await trio.lowlevel.checkpoint_if_cancelled()
    return await work()


def _is_worker_thread() -> bool:
    if threading.get_ident() == _forked_thread:
        return False
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    except trio.Cancelled:  # noqa: ASYNC103 - whether it goes on is decided in the Trio run
        return True  # noqa: ASYNC104 - the same
    return True


def leave_parents_run() -> None:
    """Note that this process was forked, maybe in a Trio run of its parent, and take the signal handlers of that back.

    Python calls this at the start of each forked process, in the thread that was forked, which is the main thread from
    then on; tests call it to be in one.
    """
    global _forked_thread, _inherited_run  # noqa: PLW0603 - they are about this process as a whole
    _forked_thread = threading.get_ident()
    _inherited_run = trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None
    leave_parents_handlers()


after_fork(leave_parents_run)
