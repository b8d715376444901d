"""Where a sync function runs: in a worker thread, and at most `THREAD_LIMIT` of them at once.

A thread that waits for calls it makes itself gives its slot to others meanwhile: otherwise functions that call each
other could hold every slot and wait for one more.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, Final, TypeVar

import trio
from outcome import Outcome
from trio.lowlevel import RunVar

from railtracks._config import configured_thread_limit

T = TypeVar("T")

# Saving needs a turn of its own: behind busy worker threads it would never come to it.
_SAVING_LIMIT: Final = 8

_workers: RunVar[trio.CapacityLimiter] = RunVar("railtracks_worker_threads")
_works: RunVar[set[Work]] = RunVar("railtracks_works")
_savers: RunVar[trio.CapacityLimiter] = RunVar("railtracks_saving_threads")


def worker_limiter() -> trio.CapacityLimiter:
    """Return the limiter of this Trio run's sync nodes, which `set_config` has the last word on."""
    limit = configured_thread_limit()
    limiter = _limiter_in(_workers, limit)
    if limiter.total_tokens != limit:
        limiter.total_tokens = limit
    return limiter


def saving_limiter() -> trio.CapacityLimiter:
    """Return the limiter of this Trio run's threads that save states."""
    return _limiter_in(_savers, _SAVING_LIMIT)


def _limiter_in(place: RunVar[trio.CapacityLimiter], limit: int) -> trio.CapacityLimiter:
    try:
        return place.get()
    except LookupError:
        limiter = trio.CapacityLimiter(limit)
        place.set(limiter)
        return limiter


class Work:
    """What a worker does while a task waits for it."""

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()

    def do(self, fn: Callable[..., T], *args: Any) -> T:
        """Do it, in a thread that has a context of its own."""
        _doing.set(self)
        return fn(*args)

    @property
    def is_paused(self) -> bool:
        """Whether the thread waits for Trio: what it has asked for runs in the task, and in the thread's context."""
        return self._task.context.get(_doing) is self


# The work that a thread does.
_doing: ContextVar[Work | None] = ContextVar("railtracks_work", default=None)


@contextmanager
def working() -> Generator[Work]:
    """Count as a worker at work while the block runs."""
    works, work = _works_here(), Work()
    works.add(work)
    try:
        yield work
    finally:
        works.remove(work)


def busy_workers() -> int:
    """Return how many workers of this library are at work in this Trio run: threads, processes, jobs of executors.

    A thread that waits for Trio, as for a call it makes itself, is not at work, and one that was left behind does not
    count.
    """
    return sum(not work.is_paused for work in _works_here())


def _works_here() -> set[Work]:
    try:
        return _works.get()
    except LookupError:
        works: set[Work] = set()
        _works.set(works)
        return works


async def in_thread(fn: Callable[..., T], *args: Any, limiter: trio.CapacityLimiter | None = None) -> T:
    """Run a function of the library's own in a worker thread, by default one that waits for no other."""
    with working() as work:
        return await trio.to_thread.run_sync(work.do, fn, *args, limiter=limiter or trio.CapacityLimiter(1))


async def in_thread_whatever_comes(fn: Callable[..., T], *args: Any) -> T:
    """Run a function in a worker thread and wait for it: no cancel comes in between, and no Ctrl-C.

    A schedule point, and no checkpoint: a pending Ctrl-C would strike the main task at one, whatever shield is around.

    Raises:
        RuntimeError: If no thread can be started.
    """
    task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()

    def deliver(result: Outcome[T]) -> None:
        token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    with working() as work:
        run = partial(copy_context().run, work.do, fn, *args)
        trio.lowlevel.start_thread_soon(run, deliver)
        result: T = await trio.lowlevel.wait_task_rescheduled(never_aborted)
        return result


def never_aborted(_: object) -> trio.lowlevel.Abort:
    """Let no cancel wake the task that waits with this."""
    return trio.lowlevel.Abort.FAILED


def checked(name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a node's function.

    Raises:
        TypeError: If it gives back a coroutine, and so was no sync function.
    """
    result = fn(*args, **kwargs)
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"node {name!r} was made of a sync function, but it returned a coroutine: make it 'async def'")
    return result


class WorkerSlot:
    """The right of one call to occupy a worker thread."""

    __slots__ = ("_calls", "_is_held", "_limiter", "_taking")

    def __init__(self) -> None:
        self._limiter = worker_limiter()
        self._taking = trio.Lock()
        self._calls = 0
        self._is_held = False

    async def __aenter__(self) -> None:
        await self._limiter.acquire_on_behalf_of(self)
        self._is_held = True

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def lend(self) -> None:
        """Lend the slot to others while the thread waits for a call that it makes."""
        self._calls += 1
        self._release()

    async def take_back(self) -> None:
        """End what `lend` began; with the last of several calls, wait for a slot again.

        Shielded: the thread goes on even when the call it made was cancelled, and may only do so with its slot.
        """
        self._calls -= 1
        with trio.CancelScope(shield=True):
            async with self._taking:
                if not self._calls and not self._is_held:
                    await self._limiter.acquire_on_behalf_of(self)
                    self._is_held = True
                    self._release_for_calls()

    def _release_for_calls(self) -> None:
        # Another task of the same thread's call may have begun to wait while this one waited for the slot.
        if self._calls:
            self._release()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._limiter.release_on_behalf_of(self)


async def run_in_thread(
    slot: WorkerSlot | None, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a function in a worker thread, with the caller's context variables, and wait for it whatever happens.

    Without a slot the function may be left behind: when the caller is cancelled its thread goes on alone, and counts
    against the limit until it ends.

    Raises:
        TypeError: If the function gives back a coroutine, and so was no sync function.
    """
    run = partial(checked, name, fn, args, kwargs)
    if slot is None:
        with working():
            return await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=worker_limiter())
    async with slot:
        with working() as work:
            return await trio.to_thread.run_sync(work.do, run, limiter=trio.CapacityLimiter(1))
