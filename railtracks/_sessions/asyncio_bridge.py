"""The bridge from asyncio: an asyncio task waits for an async function that runs in the process's Trio thread.

Called by `from_async` where asyncio is running. Nothing here blocks the event loop of asyncio, but for short steps in
the thread of a sync node: each waits until the node's Trio run takes it, and for no slot.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Final, Generic, Never, TypeVar

import trio

from railtracks._calls.frames import current_frame
from railtracks._records.error_parts import set_context
from railtracks._records.errors import Caught, is_ordinary, raise_unchanged
from railtracks._sessions.trio_thread import caught_in_scope, trio_thread
from railtracks._workers.node_threads import NodeThread, node_thread

R = TypeVar("R")
T = TypeVar("T")

# Seconds. In a Jupyter kernel an interrupt does not wake the event loop: it strikes at the loop's next step, whenever
# that comes (ipython/ipykernel#881). So there each wait for a flow takes a step from time to time.
_TICK: Final = 0.2


async def run_from_asyncio(work: Callable[[], Coroutine[object, Never, R]]) -> R:
    """Run an async function in the process's Trio thread, and wait for its outcome in this asyncio task.

    It sees the context variables of this task, and belongs to no session. If the task is cancelled, the function is
    cancelled, and the task goes on when the function has ended.

    In the thread of a sync node the slot of the thread is free meanwhile, and the task goes on when the thread has it
    again. A cancel of the node cancels the function. Then Trio's `Cancelled` goes up through the asyncio code of the
    node.

    Raises:
        asyncio.CancelledError: If the task was cancelled meanwhile, or the interpreter is shutting down.
        trio.Cancelled: If this is the thread of a sync node, and the node was cancelled.
        ContextError: If this is the thread of a sync node that may be left behind (`abandon_on_cancel=True`).
        BaseException: What the function raises, as the same object.
    """
    crossing = _Crossing(work)
    thread = node_thread()
    if thread is None:
        crossing.begin()
        return crossing.outcome(await crossing.end())
    thread.check()
    thread.run(thread.lend, crossing.cancel)
    crossing.begin()
    cancelled = await crossing.end()
    try:
        cancelled = await crossing.take_back(thread) or cancelled
        if cancelled is None and crossing.was_cancelled:
            thread.run(trio.lowlevel.checkpoint_if_cancelled)
        return crossing.outcome(cancelled)
    finally:
        # As in `_wait_for`: no reference cycle.
        del cancelled


class _Crossing(Generic[R]):
    """One run of an async function in the Trio thread, and the wait of an asyncio task for it."""

    def __init__(self, work: Callable[[], Coroutine[object, Never, R]]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._thread = trio_thread()
        self._scope = trio.CancelScope()
        # What came of the function, `None` if it was cancelled.
        self._came: asyncio.Future[Caught[R] | None] = self._loop.create_future()

    def begin(self) -> None:
        """Start the function in the Trio thread.

        Raises:
            RuntimeError: If the interpreter is shutting down.
        """
        context = copy_context()
        # A session that is open around this task is one of another task's.
        context.run(current_frame.set, None)
        self._thread.start_soon(context, self._run)

    def cancel(self) -> None:
        """Cancel the function, and return at once. For all threads."""
        self._thread.call_soon(partial(self._scope.cancel, "the task that waits for it was cancelled"))

    async def end(self) -> asyncio.CancelledError | None:
        """Wait until the function has ended, and return the last cancel of this task, if there was one meanwhile."""
        return await self._wait_for(self._came)

    async def take_back(self, thread: NodeThread) -> asyncio.CancelledError | None:
        """Wait until the thread has its slot again, and return the last cancel of this task, likewise."""
        taken: asyncio.Future[None] = self._loop.create_future()
        thread.run(thread.take_back, self.cancel, partial(self._set_soon, taken, None))
        return await self._wait_for(taken)

    async def _wait_for(self, future: asyncio.Future[T]) -> asyncio.CancelledError | None:
        cancelled: asyncio.CancelledError | None = None
        tick = _TICK if "ipykernel" in sys.modules else None
        while not future.done():
            try:
                # A plain `await` would have asyncio cancel the future together with the task that waits for it.
                await asyncio.wait((future,), timeout=tick)
            except asyncio.CancelledError as error:  # noqa: ASYNC103 - raised by `outcome`
                cancelled = error
                self.cancel()
            except BaseException:
                # This coroutine is being closed, or a signal handler has raised: nobody waits here any more.
                self.cancel()
                raise
        try:
            return cancelled
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del cancelled

    @property
    def was_cancelled(self) -> bool:
        """Whether the function has ended with the cancel of a scope around it."""
        return self._came.result() is None

    def outcome(self, cancelled: asyncio.CancelledError | None) -> R:
        """Return what the function returned, or raise what this task is to raise.

        Args:
            cancelled: The last cancel of this task meanwhile. It goes before an ordinary error, which becomes its
                context. An error that is to end the program goes before it.
        """
        came = self._came.result()
        error = None if came is None else came.error
        try:
            if cancelled is not None and (error is None or is_ordinary(error)):
                if error is not None:
                    set_context(cancelled, error)
                raise_unchanged(cancelled)
            if came is None:
                raise asyncio.CancelledError("the interpreter is shutting down")
            return came.hand_over()
        finally:
            # The same.
            del cancelled, error, came

    # In the Trio thread; `_set_soon` in the Trio run of a sync node, too.

    async def _run(self) -> None:
        came: Caught[R] | None = None
        self._thread.rest()
        try:
            with self._scope:
                # Nothing of it runs if the cancel was quicker.
                await trio.lowlevel.checkpoint_if_cancelled()
                came = await caught_in_scope(self._work)
        finally:
            self._set_soon(self._came, came)
            self._thread.rest()

    def _set_soon(self, future: asyncio.Future[T], result: T) -> None:
        # The event loop may have been closed meanwhile. Then nobody waits for this.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(future.set_result, result)
