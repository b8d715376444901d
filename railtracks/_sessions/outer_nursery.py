"""The outer nursery of a session, for the tasks that outlive its calls and that its cancel does not reach.

Made as the session is opened, and left by its lifetime. In it run its resources, its broadcasts, the tasks of its
worker processes, the task that keeps its lease, and its final work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any, Final, TypeAlias, TypeVarTuple, Unpack

import trio

from railtracks._records.errors import raise_cancelled, without_cancelled
from railtracks._sessions.plan import OpenNursery

Ts = TypeVarTuple("Ts")

# The name of the task that sees whether the task of a session in the main task ends.
WATCH: Final = "railtracks: watch the session's task"
_CLOSED: Final = "the outer nursery of this session is closed"


class EnteredNursery:
    """An outer nursery that is entered with the session, in the task of its block."""

    def __init__(self, entered: OpenNursery) -> None:
        self._entered = entered

    @property
    def nursery(self) -> trio.Nursery:
        """The nursery."""
        return self._entered.nursery

    def start_soon(self, async_fn: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts, name: object = None) -> None:
        """Start a task."""
        self.nursery.start_soon(async_fn, *args, name=name)

    async def start(self, async_fn: Callable[..., Awaitable[object]]) -> Any:
        """Start a task and wait until it calls `task_status.started()`."""
        return await self.nursery.start(async_fn)

    def abandon(self) -> None:
        """Cancel the tasks. Called in a forked process that leaves the block: the tasks are the parent's."""
        self.nursery.cancel_scope.cancel()

    def clean_up_by(self, clean_up: Callable[[], Awaitable[object]]) -> None:
        """Do nothing: Trio itself takes care of what is in a nursery that was not left."""

    async def finish(self, work: Callable[[], Awaitable[object]] | None) -> BaseException | None:
        """Do the last work in a task of the nursery, leave it, and return the error that comes out of it, if any.

        That is a Ctrl-C that struck the waiting task, or a `Cancelled`: no task of an outer nursery raises an error.

        Args:
            work: An async function; `None` if there is nothing left to do but to wait for the other tasks.
        """
        if work is not None:
            self.nursery.start_soon(work)
        return await self._entered.leave(None)


class NurseryOfTrio:
    """Trio's own nursery around the main task of a run, in place of an outer nursery, for a session in the main task.

    Most of these sessions, such as a flow that `invoke` runs, start no task in it: they save the time of entering one.
    Trio's nursery is outside of whatever the main task has opened, and ends after that task.

    What a nursery of the session's own would do is done here by hand: it waits for the tasks of the session, keeps
    their errors from Trio, and lets none of them outlive the task that it was entered in.

    Args:
        nursery: Trio's nursery.
        task: The task that the session is opened in.
        fail: Called with an error that a task raises.
    """

    def __init__(
        self, nursery: trio.Nursery, task: trio.lowlevel.Task, fail: Callable[[BaseException], object]
    ) -> None:
        self._nursery = nursery
        self._task = task
        self._fail = fail
        self._clean_up: Callable[[], Awaitable[object]]
        # Broken by Trio if the session's task ends. Made with the first task that is started here.
        self._end_of_task: trio.lowlevel.ParkingLot | None = None
        # How many tasks run, or are being started.
        self._running = 0
        self._is_closed = False
        self._is_watched_no_more = False
        # Made by the first wait.
        self._has_changed: trio.lowlevel.ParkingLot | None = None

    # Protected: between the count and the start Ctrl-C would leave a task that never runs, and is waited for.
    @trio.lowlevel.enable_ki_protection
    def start_soon(self, async_fn: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts, name: object = None) -> None:
        """Start a task."""
        self._begin_one()
        try:
            self._nursery.start_soon(self._run, partial(async_fn, *args), name=name or async_fn)
        except RuntimeError:
            # Trio's nursery is closed: the main task has ended.
            self._end_one()
            raise

    @trio.lowlevel.enable_ki_protection
    async def start(self, async_fn: Callable[..., Awaitable[object]]) -> Any:
        """Start a task and wait until it calls `task_status.started()`."""
        # The task counts for itself from its first step on. Until then its start counts, as in a nursery.
        self._begin_one()
        try:
            return await self._nursery.start(self._run_started, async_fn, name=async_fn)
        finally:
            self._end_one()

    def clean_up_by(self, clean_up: Callable[[], Awaitable[object]]) -> None:
        """Have the tasks ended by this function, if the task of the session ends before `finish`."""
        self._clean_up = clean_up

    def abandon(self) -> None:
        """Do nothing: each task here is shielded, and ends when its resource or broadcast is told to."""

    async def finish(self, work: Callable[[], Awaitable[object]] | None) -> BaseException | None:
        """Do the last work in a nursery that is opened for it, and wait there for the other tasks.

        Not a checkpoint if there is nothing to do. Arguments and result are those of `EnteredNursery.finish`.
        """
        self._watch_no_more()
        if work is None and not self._running:
            self._is_closed = True
            return None
        last = await OpenNursery.enter()
        # In a task of its own, see `FinalWork.run`.
        last.nursery.start_soon(self._finish, work, name=work)
        return await last.leave(None)

    @trio.lowlevel.enable_ki_protection
    async def _finish(self, work: Callable[[], Awaitable[object]] | None) -> None:
        try:
            if work is not None:
                await work()
        finally:
            with trio.CancelScope(shield=True):
                while self._running:
                    if self._has_changed is None:
                        self._has_changed = trio.lowlevel.ParkingLot()
                    await self._has_changed.park()
            self._is_closed = True

    @trio.lowlevel.enable_ki_protection
    async def _run_started(  # noqa: ASYNC128 - `async_fn` calls `started`
        self, async_fn: Callable[..., Awaitable[object]], *, task_status: trio.TaskStatus[Any]
    ) -> None:
        self._begin_one()
        await self._run(partial(async_fn, task_status=task_status))

    @trio.lowlevel.enable_ki_protection
    async def _run(self, async_fn: Callable[[], Awaitable[object]]) -> None:
        try:
            await async_fn()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - handed to the session
            # A fault of the library. In Trio's nursery it would cancel the main task.
            if without_cancelled(error) is None:
                raise_cancelled(error)
            self._fail(error)  # noqa: ASYNC104 - the same
        finally:
            self._end_one()

    def _begin_one(self) -> None:
        if self._is_closed:
            raise RuntimeError(_CLOSED)
        if self._end_of_task is None and not self._is_watched_no_more:
            self._end_of_task = self._watched()
        self._running += 1

    def _watched(self) -> trio.lowlevel.ParkingLot:
        """Start to watch the session's task, and return the lot that Trio breaks when the task ends."""
        lot = trio.lowlevel.ParkingLot()
        try:
            trio.lowlevel.add_parking_lot_breaker(self._task, lot)
        except trio.BrokenResourceError:
            # It has ended in the middle of the block.
            raise RuntimeError(_CLOSED) from None
        # Without the context of a call: the watch is no part of that.
        watch = partial(self._watch, lot)
        Context().run(partial(self._nursery.start_soon, watch, name=WATCH))
        # It counts as the others do: the session is over when it has ended, too.
        self._running += 1
        return lot

    @trio.lowlevel.enable_ki_protection
    async def _watch(self, end_of_task: trio.lowlevel.ParkingLot) -> None:
        """Clean up if the session's task ends in the middle of the block: an async generator was left there."""
        try:
            # Shielded: a system task that crashes cancels everything in Trio's nursery before the session's task ends.
            with trio.CancelScope(shield=True):
                if not self._is_watched_no_more:
                    await end_of_task.park()
        except trio.BrokenResourceError:
            await self._clean_up()
        finally:
            self._end_one()

    @trio.lowlevel.enable_ki_protection
    def _watch_no_more(self) -> None:
        self._is_watched_no_more = True
        end_of_task = self._end_of_task
        if end_of_task is not None and not end_of_task.broken_by:
            trio.lowlevel.remove_parking_lot_breaker(self._task, end_of_task)
            end_of_task.unpark_all()

    def _end_one(self) -> None:
        self._running -= 1
        if self._has_changed is not None:
            self._has_changed.unpark_all()


OuterNursery: TypeAlias = EnteredNursery | NurseryOfTrio
