"""The way from sync code into the process's Trio thread: the calling thread waits, and signal handlers may raise in it.

Called by `event_loops` for flows with the option `in_thread`. An error that a signal handler raises in the middle of a
`trio.run` ends that run without its cleanup. Raised in a thread that only waits, it cancels the flow, and comes out of
the wait when the cleanup is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Generic, Never, TypeVar, TypeVarTuple, Unpack

import trio

from railtracks._calls.frames import current_frame
from railtracks._records.error_parts import set_context
from railtracks._records.errors import Caught, raise_unchanged
from railtracks._sessions.trio_thread import caught_in_scope, trio_thread
from railtracks._sessions.waits import wait_for
from railtracks.exceptions import SessionCancelledError

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


def run_in_trio_thread(async_fn: Callable[[Unpack[Ts]], Coroutine[object, Never, R]], *args: *Ts) -> R:
    """Run an async function in the process's Trio thread, wait for it in this thread, and return its result.

    It sees the context variables of this thread, and belongs to no session.

    Raises:
        SessionCancelledError: If the interpreter is shutting down, and has cancelled the function.
        RuntimeError: If the interpreter is shutting down, and nothing can begin any more.
        BaseException: What a signal handler has raised meanwhile, once the function has ended, or what the function
            raises, as the same object.
    """
    return _Errand(partial(async_fn, *args)).run()


class _Errand(Generic[R]):
    """One run of an async function in the Trio thread, and the wait of a thread for it."""

    def __init__(self, work: Callable[[], Coroutine[object, Never, R]]) -> None:
        self._work = work
        self._thread = trio_thread()
        self._scope = trio.CancelScope()
        self._is_over = threading.Event()
        # What came of the function, `None` if it was cancelled.
        self._came: Caught[R] | None = None
        # In the Trio thread only.
        self._has_begun = False

    def run(self) -> R:
        """Run the function, and return its result or raise."""
        raised = self._raised_meanwhile()
        came, self._came = self._came, None
        try:
            if raised is not None:
                if came is not None and came.error is not None:
                    set_context(raised, came.error)
                raise_unchanged(raised)
            if came is None:
                raise SessionCancelledError("the interpreter is shutting down")
            return came.hand_over()
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del raised, came

    def _raised_meanwhile(self) -> BaseException | None:
        """Run the function, and return the last error that a signal handler has raised in this thread meanwhile."""
        context = copy_context()
        # A session that is open around this code is one of another task's.
        context.run(current_frame.set, None)
        raised: BaseException | None = None
        act: Callable[[], None] = partial(self._thread.start_soon, context, self._run)
        try:
            while not self._is_over.is_set():
                try:
                    act()
                    wait_for(self._is_over)
                except BaseException as error:  # noqa: ASYNC103, BLE001 - raised by `run`
                    raised, act = error, self._cancel_soon
            return raised
        finally:
            # The same.
            del raised

    def _cancel_soon(self) -> None:
        if not self._thread.call_soon(self._cancel):
            # The Trio run has ended, and so has the function, or it never begins.
            self._is_over.set()

    # In the Trio thread.

    def _cancel(self) -> None:
        self._scope.cancel("a signal handler has raised in the thread that waits for it")
        if not self._has_begun:
            self._is_over.set()

    async def _run(self) -> None:
        self._has_begun = True
        try:
            with self._scope:
                # Nothing of it runs if the cancel was quicker.
                await trio.lowlevel.checkpoint_if_cancelled()
                self._came = await caught_in_scope(self._work)
        finally:
            self._is_over.set()
