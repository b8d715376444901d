"""Sync functions in executors: any `concurrent.futures.Executor`, waited for from Trio.

Called by attempts of nodes with an executor for `run_in`. An executor of threads shares the caller's context variables
and objects, and a flow in such a thread runs in the task that waits for the thread. Every other executor is taken for
one of other processes: what it carries is pickled by `pickling`, because an exception that cannot be unpickled would
break many pools for good.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, Never, TypeVar, TypeVarTuple, Unpack

import outcome
import trio

from railtracks._records.errors import Caught, caught
from railtracks._traces import with_trace
from railtracks._workers.node_threads import NodeThread
from railtracks._workers.pickling import packed, run_packed, unpacked
from railtracks._workers.threads import checked, working
from railtracks.exceptions import WorkerCrashedError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


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
        if shares_memory(executor):
            came = await _caught_in_pool(executor, partial(checked, name, fn, args, kwargs), leave_behind)
        else:
            with working():
                payload = packed(name, with_trace(fn), args, kwargs)
                reply = await outcome_of(executor.submit(run_packed, payload), leave_behind)
    except BrokenExecutor as error:
        raise WorkerCrashedError(name) from error
    return unpacked(name, reply) if came is None else came.hand_over()


async def _caught_in_pool(
    executor: Executor, do: Callable[[], object], leave_behind: Callable[[], object] | None
) -> Caught[object]:
    """Call a function in a thread of an executor, with the caller's context variables; return what comes of it."""
    thread = _PoolThread(may_be_left=leave_behind is not None)
    with working() as work:
        future = executor.submit(copy_context().run, work.do, partial(thread.do, partial(caught, do)))
        try:
            return await outcome_of(future, leave_behind, thread=thread)
        finally:
            await thread.leave()  # noqa: ASYNC102 - its only task was just cancelled


def shares_memory(executor: Executor) -> bool:
    """Return whether an executor runs what it gets in threads of this process."""
    # By its class, an executor of interpreters is an executor of threads, too; it shares no objects.
    return isinstance(executor, ThreadPoolExecutor) and type(executor).__name__ != "InterpreterPoolExecutor"


class _Request(trio.abc.Instrument, Generic[T]):
    """An async function that a thread has sent to the task that waits for it. Made in the thread.

    An instrument, as an error may go out of the Trio run past all its tasks: that of a signal handler does.
    """

    def __init__(self, async_fn: Callable[[], Coroutine[object, Never, T]]) -> None:
        self._async_fn = async_fn
        self._context = copy_context()
        self._outcome: SimpleQueue[outcome.Outcome[T]] = SimpleQueue()

    def wait(self) -> T:
        """Wait in the thread until the function has ended, and return its result or raise its error."""
        return self._outcome.get().unwrap()

    async def run(self) -> None:
        """Run the function in this task, in the thread's context. It adds no cancellation point."""
        task = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)
        # Trio enters the context of a task when the task takes a step, so each change is followed by a new step.
        context, task.context = task.context, self._context
        await trio.lowlevel.cancel_shielded_checkpoint()
        came = await outcome.acapture(self._async_fn)
        task.context = context
        await trio.lowlevel.cancel_shielded_checkpoint()
        trio.lowlevel.remove_instrument(self)
        self._outcome.put(came)

    def after_run(self) -> None:
        """Let the thread go on: the Trio run has ended before the function."""
        self.refuse()

    def refuse(self) -> None:
        """Let the thread go on with an error: no task waits for it any more."""
        self._outcome.put(outcome.Error(trio.RunFinishedError("no task waits for this thread any more")))


class _PoolThread(NodeThread):
    """The thread of an executor that runs a sync node. Made in the task that waits for it."""

    def __init__(self, *, may_be_left: bool) -> None:
        super().__init__(None, may_be_left=may_be_left)
        self._token = trio.lowlevel.current_trio_token()
        self._deliver: Callable[[_Request[Any]], bool] | None = None

    def listen(self, deliver: Callable[[_Request[Any]], bool]) -> None:
        """Have a function called in the Trio run with each request of the thread; it returns whether it takes it."""
        self._deliver = deliver

    def run(self, async_fn: Callable[[Unpack[Ts]], Coroutine[object, Never, T]], *args: *Ts) -> T:
        request = _Request(partial(async_fn, *args))
        self._token.run_sync_soon(self._hand_on, request)
        return request.wait()

    def _hand_on(self, request: _Request[Any]) -> None:
        # In the Trio run: the task listens before it waits, so it does by now.
        assert self._deliver is not None  # noqa: S101 - as said
        if not self._deliver(request):
            request.refuse()


async def outcome_of(
    future: Future[T],
    leave_behind: Callable[[], object] | None,
    stop: Callable[[], object] | None = None,
    *,
    thread: _PoolThread | None = None,
) -> T:
    """Wait for what an executor runs, and return its result. A checkpoint.

    Args:
        future: What the executor has returned.
        leave_behind: As of `run_in_executor`.
        stop: Called when the caller is cancelled and the work has begun; it makes the work end soon.
        thread: The thread that does the work, if its requests are to be run here.
    """
    token, task = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()
    is_waited_for = True

    def wake(request: _Request[Any] | None = None) -> bool:
        nonlocal is_waited_for
        was_waited_for, is_waited_for = is_waited_for, False
        if was_waited_for:
            trio.lowlevel.reschedule(task, outcome.Value(request))
        return was_waited_for

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

    if thread is not None:
        thread.listen(wake)
    future.add_done_callback(tell)
    while is_waited_for:
        request: _Request[Any] | None = await trio.lowlevel.wait_task_rescheduled(abort)
        if request is not None:
            await request.run()
            # A future of the program's own may have ended meanwhile, before its work has.
            is_waited_for = not future.done()
    return future.result()
