"""The worker threads of sync nodes, and what flows in such a thread need of the task that waits for it.

Called by attempts of sync nodes, by `executors`, and by flows that sync or asyncio code invokes. A flow of sync code
runs in the waiting task. A node may also run an event loop of asyncio in its thread, and wait there for a flow.
Meanwhile the thread's slot is free for others, and a cancel that reaches the waiting task goes on to the flow. Then a
task takes the slot back: the event loop never stands still for it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import partial
from typing import Final, Never, TypeVar, TypeVarTuple, Unpack

import trio

from railtracks._forks import generation
from railtracks._records.errors import Caught, caught, raise_unchanged, without_cancelled
from railtracks._workers.threads import WorkerSlot, checked, worker_limiter, working
from railtracks.exceptions import ContextError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Why no flow is invoked in a thread that may be left behind.
NOTHING_CANCELS: Final = (
    "a flow cannot be invoked in a thread that may be left behind (abandon_on_cancel=True): nothing would cancel it."
    " Make the node, or start the thread, without that option"
)


class NodeThread:
    """The thread of one sync node, seen from flows that the node invokes, and from asyncio code that runs in it.

    From `lend` on, the methods run in the task that waits for the thread: `run` takes them there.

    Args:
        slot: The slot of the thread; `None` if it has none to lend.
        may_be_left: Whether the thread may be left behind.
    """

    def __init__(self, slot: WorkerSlot | None, *, may_be_left: bool) -> None:
        self._slot = slot
        self._may_be_left = may_be_left
        # What to call when a cancel reaches the task, as an ordered set.
        self._listeners: dict[Callable[[], object], None] = {}
        # The nursery of the task that waits for a cancel, and of those that take the slot back; and what closes it.
        # Open once the slot was lent.
        self._nursery: trio.Nursery | None = None
        self._closing: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._stop = trio.CancelScope()
        # The scopes of the tasks that take the slot back.
        self._takings: set[trio.CancelScope] = set()
        self._place: tuple[int, int] | None = None

    def do(self, fn: Callable[[], T]) -> T:
        """Call a function in this thread, which `node_thread` finds until the function has ended."""
        self._place = _place_here()
        _thread.set(self)
        try:
            return fn()
        finally:
            # Contexts that were copied meanwhile may come to this thread again, which then works for another task.
            self._place = None

    @property
    def is_here(self) -> bool:
        """Whether this code runs in the thread itself: a thread that it has started inherits its context variables."""
        return self._place == _place_here()

    def check(self) -> None:
        """Check that a flow may be invoked in this thread.

        Raises:
            ContextError: If the thread may be left behind (`abandon_on_cancel=True`).
        """
        if self._may_be_left:
            raise ContextError(NOTHING_CANCELS)

    def run(self, async_fn: Callable[[Unpack[Ts]], Coroutine[object, Never, T]], *args: *Ts) -> T:
        """Run an async function in the task that waits for this thread, and return its result or raise its error.

        Raises:
            trio.RunFinishedError: If no task waits for this thread any more.
        """
        return trio.from_thread.run(async_fn, *args)

    @trio.lowlevel.enable_ki_protection
    async def lend(self, on_cancel: Callable[[], object]) -> None:
        """Give the slot of the thread back, and listen for a cancel. Not a checkpoint. `take_back` follows.

        Args:
            on_cancel: Called when a cancel reaches the task, at once if one has already; perhaps twice.
        """
        if self._slot is not None:
            self._slot.lend()
        self._listeners[on_cancel] = None
        # The task that listens may be slower than the flow, and has told its listeners once only.
        if trio.current_effective_deadline() == -math.inf:
            on_cancel()
        if self._nursery is None:
            # The task that waits for the thread has no nursery open in between: it leaves this one after its wait.
            self._closing = trio.open_nursery()
            self._nursery = await self._closing.__aenter__()
            self._nursery.start_soon(self._listen, name="railtracks: listen for asyncio")

    @trio.lowlevel.enable_ki_protection
    async def take_back(self, on_cancel: Callable[[], object], on_taken: Callable[[], object]) -> None:
        """End what `lend` began. Not a checkpoint: a task waits for the slot. Only a cancel of `leave` ends its wait.

        Args:
            on_cancel: What `lend` was given.
            on_taken: Called when the thread has its slot again, or need not have it yet, as in `WorkerSlot`.
        """
        assert self._nursery is not None  # noqa: S101 - `lend` has opened it
        self._listeners.pop(on_cancel)
        shield = trio.CancelScope(shield=True)
        # Here, and not in the task: the thread may end before that has begun.
        self._takings.add(shield)
        self._nursery.start_soon(self._take_back, shield, on_taken, name="railtracks: take a slot back for asyncio")

    @trio.lowlevel.enable_ki_protection
    async def leave(self) -> None:
        """Stop listening; the thread has ended, and needs no slot. Flows that its asyncio code has abandoned end."""
        closing, self._closing, self._nursery = self._closing, None, None
        if closing is None:
            return
        self._stop.cancel()
        for shield in self._takings:
            shield.cancel()
        try:
            await closing.__aexit__(None, None, None)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - as follows
            # A `Cancelled` strikes the task again at its next checkpoint. Until then it still has the thread's result.
            real = without_cancelled(error)
            if real is not None:
                raise_unchanged(real)

    @trio.lowlevel.enable_ki_protection
    async def _listen(self) -> None:
        with self._stop:
            try:
                await trio.sleep_forever()
            finally:
                for tell in self._listeners:
                    tell()

    @trio.lowlevel.enable_ki_protection
    async def _take_back(self, shield: trio.CancelScope, on_taken: Callable[[], object]) -> None:
        if self._slot is not None:
            await self._slot.take_back(shield)
        self._takings.remove(shield)
        on_taken()


# The thread that runs the node around this code.
_thread: ContextVar[NodeThread | None] = ContextVar("railtracks_node_thread", default=None)


def _place_here() -> tuple[int, int]:
    return threading.get_ident(), generation()


def node_thread() -> NodeThread | None:
    """Return the thread of a sync node, if this code runs in one."""
    thread = _thread.get()
    return thread if thread is not None and thread.is_here else None


async def run_in_thread(
    slot: WorkerSlot | None,
    name: str,
    fn: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> object:
    """Run the function of a sync node in a worker thread, with the caller's context variables.

    With a slot the function is waited for, even if the caller is cancelled. Without one it may be left behind: when
    the caller is cancelled, the thread goes on alone, and counts against the limit until it ends.

    Raises:
        TypeError: If the function returns a coroutine, and so is no sync function.
        RuntimeError: If no thread can be started, as at the end of the interpreter.
    """
    thread = NodeThread(slot, may_be_left=slot is None)

    def run() -> Caught[object]:
        return caught(partial(checked, name, fn, args, kwargs))

    do = partial(thread.do, run)
    if slot is None:
        with working():
            came = await trio.to_thread.run_sync(do, abandon_on_cancel=True, limiter=worker_limiter())
        return came.hand_over()
    async with slot:
        with working(slot=slot) as work:
            try:
                came = await trio.to_thread.run_sync(work.do, do, limiter=trio.CapacityLimiter(1))
            finally:
                await thread.leave()  # noqa: ASYNC102 - its only task was just cancelled
    return came.hand_over()
