"""Worker threads: where the functions of sync nodes run, at most `thread_limit` of them at once.

Called by attempts of sync nodes, and by what the library itself does in threads. A thread that waits for a call it
makes itself gives its slot to others meanwhile. Otherwise functions that call each other could hold every slot, and
each of them would wait for one more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from functools import partial
from types import CoroutineType
from typing import Final, TypeVar, TypeVarTuple, Unpack

import trio
from outcome import Outcome
from trio.lowlevel import RunVar

from railtracks._blocks import block
from railtracks._config import configured_thread_limit
from railtracks._forks import generation
from railtracks._records.errors import caught
from railtracks._workers.loop_pauses import loop_pauses

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Saving has a limiter of its own. In one line with busy worker threads it could wait for ever.
_SAVING_LIMIT: Final = 8

_workers: RunVar[trio.CapacityLimiter] = RunVar("railtracks_worker_threads")
_works: RunVar[set[Work]] = RunVar("railtracks_works")
_savers: RunVar[trio.CapacityLimiter] = RunVar("railtracks_saving_threads")


def worker_limiter() -> trio.CapacityLimiter:
    """Return the limiter of this Trio run's sync nodes, with the limit that is configured now."""
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
    """One piece of work in a thread, a process or an executor, which a task waits for."""

    def __init__(self, *, of_pool: bool, slot: WorkerSlot | None) -> None:
        self.of_pool = of_pool
        self._slot = slot
        self._task = trio.lowlevel.current_task()

    def do(self, fn: Callable[[], T]) -> T:
        """Call a function as this work, in a thread that has a copy of the task's context."""
        _doing.set(self)
        return fn()

    @property
    def is_paused(self) -> bool:
        """Whether the thread waits for Trio: for its slot, or for a function that it has sent there."""
        # Such a function runs in the task, in the thread's context, where `do` has set the variable.
        return self._task.context.get(_doing) is self or (self._slot is not None and self._slot.is_awaited)


# The work that this thread does.
_doing: ContextVar[Work | None] = ContextVar("railtracks_work", default=None)


@block
def working(*, of_pool: bool = False, slot: WorkerSlot | None = None) -> Generator[Work]:
    """Count one more worker at work while the block runs.

    Args:
        of_pool: Whether it is a pool that starts or ends a process, and no call that waits for one.
        slot: The slot of the thread that is the worker, if it has one to lend.
    """
    works, work = _works_here(), Work(of_pool=of_pool, slot=slot)
    works.add(work)
    try:
        yield work
    finally:
        works.remove(work)


@block
def _working_for_loop() -> Generator[Work]:
    """Count one more worker that does something of the library's own while the block runs; a busy loop makes pauses."""
    pauses = loop_pauses()
    pauses.use()
    pauses.begin()
    try:
        with working() as work:
            yield work
    finally:
        pauses.end()
        pauses.leave()


def busy_workers(*, with_pools: bool = True) -> int:
    """Return how many workers of this library are at work in this Trio run: threads, processes, jobs of executors.

    With pools, processes that start or end count, too. A thread that waits for Trio, for example for a call that it
    makes itself, is not at work. A thread that was left behind does not count.
    """
    return sum(not work.is_paused and (with_pools or not work.of_pool) for work in _works_here())


def _works_here() -> set[Work]:
    try:
        return _works.get()
    except LookupError:
        works: set[Work] = set()
        _works.set(works)
        return works


@trio.lowlevel.enable_ki_protection
async def in_thread(
    fn: Callable[[Unpack[Ts]], T],
    *args: *Ts,
    limiter: trio.CapacityLimiter | None = None,
    abandon_on_cancel: bool = False,
) -> T:
    """Run a function of the library's own in a worker thread; without a limiter it waits for no other thread.

    Args:
        fn: The function.
        args: Its arguments.
        limiter: Where it waits for other threads.
        abandon_on_cancel: Whether a cancel leaves the thread behind.
    """
    do = partial(fn, *args)
    with _working_for_loop() as work:
        came = await trio.to_thread.run_sync(
            work.do,
            lambda: caught(do),
            limiter=limiter or trio.CapacityLimiter(1),
            abandon_on_cancel=abandon_on_cancel,
        )
    return came.hand_over()


@trio.lowlevel.enable_ki_protection
async def in_thread_or_here(
    fn: Callable[[Unpack[Ts]], T], *args: *Ts, limiter: trio.CapacityLimiter | None = None
) -> T:
    """Run a function as `in_thread` does; if no thread can be started, in this one.

    CPython 3.12 starts none once the main thread has ended, and sessions may end after that.
    """
    has_begun = False

    def work() -> T:
        nonlocal has_begun
        has_begun = True
        return fn(*args)

    try:
        return await in_thread(work, limiter=limiter)
    except RuntimeError:
        if has_begun:
            raise
    return work()


@trio.lowlevel.enable_ki_protection
async def in_thread_whatever_comes(fn: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Run a function in a worker thread and wait for it; neither a cancel nor Ctrl-C ends the wait.

    A schedule point, and no checkpoint: at a checkpoint a pending Ctrl-C would strike the main task under any shield.
    In a process that is forked meanwhile, which has no such thread, a cancel that comes after the fork does end it.

    Raises:
        RuntimeError: If no thread can be started.
    """
    task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
    made_in, is_aborted = generation(), False

    def deliver(result: Outcome[T]) -> None:
        token.run_sync_soon(go_on, result)

    def go_on(result: Outcome[T]) -> None:
        # A forked process inherits what the thread has sent before the fork.
        if not is_aborted:
            trio.lowlevel.reschedule(task, result)

    def abort(_: object) -> trio.lowlevel.Abort:
        nonlocal is_aborted
        is_aborted = generation() != made_in
        return trio.lowlevel.Abort.SUCCEEDED if is_aborted else trio.lowlevel.Abort.FAILED

    with _working_for_loop() as work:
        run, do = copy_context().run, partial(fn, *args)
        trio.lowlevel.start_thread_soon(lambda: run(work.do, do), deliver)
        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result


class ThreadStarter:
    """Starts threads for work of the library's own in one Trio run, again and again.

    For a busy loop to make pauses meanwhile, its owner uses `loop_pauses`.
    """

    __slots__ = ("_pauses", "_token", "_works")

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._works = _works_here()
        self._pauses = loop_pauses()

    def start(self, fn: Callable[[], T], deliver: Callable[[Outcome[T]], object]) -> None:
        """Run a function in a worker thread, and have Trio's thread call `deliver` with its outcome.

        `deliver` is called between the steps of tasks. It must not raise, and the Trio run must not end before.

        Raises:
            RuntimeError: If no thread can be started.
        """
        work = Work(of_pool=False, slot=None)

        def come(result: Outcome[T]) -> None:
            self._end(work)
            deliver(result)

        self._pauses.begin()
        self._works.add(work)
        try:
            trio.lowlevel.start_thread_soon(fn, lambda result: self._token.run_sync_soon(come, result))
        except RuntimeError:
            self._end(work)
            raise

    def _end(self, work: Work) -> None:
        self._pauses.end()
        self._works.remove(work)


def never_aborted(_: object) -> trio.lowlevel.Abort:
    """Refuse to wake the task that waits with this: no cancel ends its wait."""
    return trio.lowlevel.Abort.FAILED


def checked(name: str, fn: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """Call the function of a sync node, and return its result.

    Raises:
        TypeError: If the function returns a coroutine, and so is no sync function.
    """
    result = fn(*args, **kwargs)
    if type(result) is CoroutineType:
        result.close()
        raise TypeError(f"node {name!r} was made of a sync function, but it returned a coroutine: make it 'async def'")
    return result


class WorkerSlot:
    """The right of one call to occupy a worker thread.

    Attributes:
        was_held: Whether the call has got it; until then it waits for a thread.
        is_awaited: Whether the thread waits to have it back.
    """

    __slots__ = ("_calls", "_is_held", "_limiter", "_taking", "is_awaited", "was_held")

    def __init__(self) -> None:
        self.was_held: bool = False
        self.is_awaited: bool = False
        self._limiter = worker_limiter()
        self._taking = trio.Lock()
        self._calls = 0
        self._is_held = False

    async def __aenter__(self) -> None:
        await self._limiter.acquire_on_behalf_of(self)
        self._is_held = self.was_held = True

    async def __aexit__(self, *_: object) -> None:
        self._release()

    @trio.lowlevel.enable_ki_protection
    def lend(self) -> None:
        """Give the slot back while the thread waits for a call that it makes; `take_back` follows."""
        self._calls += 1
        self._release()

    async def take_back(self, shield: trio.CancelScope | None = None) -> None:
        """End what `lend` began; after the last of several calls, wait until there is a slot again.

        Shielded: the thread goes on even when the call it made was cancelled, and it may only go on with a slot.

        Args:
            shield: The scope of the wait, for a thread that may end meanwhile: then it needs no slot any more.
        """
        self._calls -= 1
        with shield or trio.CancelScope(shield=True):
            async with self._taking:
                if not self._calls and not self._is_held:
                    self.is_awaited = True
                    await self._limiter.acquire_on_behalf_of(self)
                    self.is_awaited, self._is_held = False, True
                    self._release_for_calls()

    def _release_for_calls(self) -> None:
        # Another task of the same thread's call may have begun to wait while this one waited for the slot.
        if self._calls:
            self._release()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._limiter.release_on_behalf_of(self)
