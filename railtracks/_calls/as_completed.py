"""`rt.as_completed`: call a node once for each input, side by side, and hand out the calls as they end.

Called by users only.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Generic, Never, TypeVar, overload

import trio

from railtracks._blocks import ReadBlock
from railtracks._calls.frames import Frame
from railtracks._calls.inputs import FanOutSlots, Feed, inputs_of, limiter_of
from railtracks._calls.nursery import CallBlock, CallNursery, can_be_handed_out
from railtracks._calls.pending import PendingCall
from railtracks._nodes.making import made_node
from railtracks._nodes.node import Node

if TYPE_CHECKING:
    from railtracks._calls.durable_values import Args

R = TypeVar("R")


@overload
def as_completed(
    node: Node[..., R], /, *iterables: Iterable[object], limit: float | trio.CapacityLimiter | None = None
) -> AbstractAsyncContextManager[AsyncIterator[PendingCall[R]]]: ...
@overload
def as_completed(
    node: Callable[..., Coroutine[object, Never, R]],
    /,
    *iterables: Iterable[object],
    limit: float | trio.CapacityLimiter | None = None,
) -> AbstractAsyncContextManager[AsyncIterator[PendingCall[R]]]: ...
@overload
def as_completed(
    node: Callable[..., R], /, *iterables: Iterable[object], limit: float | trio.CapacityLimiter | None = None
) -> AbstractAsyncContextManager[AsyncIterator[PendingCall[R]]]: ...
def as_completed(
    node: object, /, *iterables: Iterable[object], limit: float | trio.CapacityLimiter | None = None
) -> AbstractAsyncContextManager[AsyncIterator[PendingCall[object]]]:
    """Call a node once for each input, side by side, and hand out the calls in the order in which they end.

        async with rt.as_completed(fetch, urls, limit=20) as finished:
            async for pending in finished:
                print(pending.args, pending.result())

    The inputs are the iterables zipped, as `map` does, and are drawn in a task of the block. The iterator gives each
    call when it has ended, failed and cancelled calls included, and stops after the last one. A failed or cancelled
    call does not cancel the others. The `result` of one whose node raised a `Cancelled` although nothing had cancelled
    it is a `PendingCallError`, as that of any cancelled call. Each step of the iterator is a checkpoint. Several tasks
    may share the iterator; each call goes to one of them.

    Leaving the block cancels the calls that still run, and waits for them. Calls that ended but were not handed out are
    dropped, even if they failed. An error that a call raises in its cleanup is raised out of the block. After the
    block, iterating raises `trio.ClosedResourceError`.

    Without a session around it, it opens one for the block. Entering is not a checkpoint; leaving waits as a nursery
    does.

    Args:
        node: A node, or a plain function.
        *iterables: One for each positional argument of the node.
        limit: How many calls may run at once, as in `call_batch`. The block also draws at most this many inputs whose
            calls it has not handed out, however slow the loop is. A call that has ended gives its slot of a shared
            limiter back at once. `None`: all calls at once, with at most 50 inputs drawn between two checkpoints.

    Raises:
        TypeError: If there is no iterable, one of them is not iterable, or `limit` is neither a number nor a limiter.
        ValueError: If `limit` is less than 1.
        NodeCreationError: If a node cannot be made of `node`.
        ContextError: When the block is entered, as from `call`. If the session began to drain before the last input was
            drawn, the iterator raises it after the last call.
        RuntimeError: When the block is entered, if Trio is not running.
        Exception: What an iterable raises; it is raised out of the block, after all calls were cancelled.
    """
    return _AsCompleted(made_node(node), inputs_of("as_completed", iterables), limiter_of(limit))


class _AsCompleted(CallBlock, ReadBlock, Generic[R]):
    _shown_as = "rt.as_completed(...)"

    def __init__(self, node: Node[..., R], inputs: Iterator[Args], limiter: trio.CapacityLimiter | None) -> None:
        super().__init__()
        self._node = node
        self._inputs = inputs
        self._limiter = limiter
        self._calls: _Calls[R]

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> AsyncIterator[PendingCall[R]]:
        self._calls = await self.enter(self._begin)
        return self._calls

    def _begin(self, parent: Frame) -> _Calls[R]:
        slots = FanOutSlots(parent)
        calls = _Calls(slots, Feed(slots, self._node, self._inputs, self._limiter), self._limiter, self.nursery)
        self.nursery.start_soon(calls.start_all, name=f"railtracks: feed {self._node.name}")
        return calls

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._calls.close()
        try:
            return await super().__aexit__(kind, error, traceback)  # noqa: ASYNC102 - waits as a nursery does
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error


class _Calls(AsyncIterator[PendingCall[R]]):
    """The calls of one block, and the iterator over those that have ended."""

    def __init__(
        self,
        slots: FanOutSlots,
        feed: Feed[R],
        limiter: trio.CapacityLimiter | None,
        nursery: CallNursery,
    ) -> None:
        self._slots = slots
        self._feed = feed
        self._limiter = limiter
        self._nursery = nursery
        # The calls that have not ended, and 1 for the feeding: at 0 the iterator ends. A call whose error is raised out
        # of the block is never subtracted, so the iterator waits until the block's cancel reaches it.
        self._unfinished = 1
        self._not_handed_out = 0
        self._handed_out = trio.lowlevel.ParkingLot()
        # Unbounded, so that a call never waits to be handed out; `_draw` bounds the number of calls.
        self._send, self._receive = trio.open_memory_channel[PendingCall[R]](math.inf)

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> PendingCall[R]:
        try:
            pending = await self._receive.receive()
        except trio.EndOfChannel:
            pending = None
        if pending is None:
            await trio.lowlevel.checkpoint()
            raise self._feed.refusal or StopAsyncIteration
        self._not_handed_out -= 1
        self._handed_out.unpark()
        return pending

    @trio.lowlevel.enable_ki_protection
    async def start_all(self) -> None:
        """Draw all inputs, and start a call for each. Runs in a task of the block."""
        try:
            while (pending := await self._draw()) is not None:
                self._not_handed_out += 1
                self._unfinished += 1
                self._nursery.start_soon(self._run, pending, self._feed.start_frame(pending), name=pending.node_name)
            # Only a complete fan-out can be compared with its journal.
            if self._feed.refusal is None:
                self._slots.close()
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an iterable raises
            self._nursery.fail(error)
        else:
            self._finish_one()

    def close(self) -> None:
        """Cancel the calls that run, and let the iterator raise `trio.ClosedResourceError` from now on."""
        self._receive.close()
        self._nursery.cancel_scope.cancel()

    async def _draw(self) -> PendingCall[R] | None:
        return await self._feed.draw(self._until_few)

    async def _until_few(self) -> None:
        """Wait until fewer calls than the limit were not handed out."""
        # A shared limiter may have 0 tokens. One input is drawn even so; its call waits for the limiter.
        while self._limiter is not None and self._not_handed_out >= max(1, self._limiter.total_tokens):
            await self._handed_out.park()

    @trio.lowlevel.enable_ki_protection
    async def _run(self, pending: PendingCall[R], start_frame: Frame) -> None:
        try:
            error = await pending.run(start_frame)
        finally:
            self._feed.give_back(pending)
        # The slot is free before the call is handed out: the code of the block may take its time.
        try:
            if error is not None and not can_be_handed_out(error):
                self._nursery.fail(error)
                return
            # The receiving end is closed once the block is being left: then nothing more is handed out.
            with suppress(trio.BrokenResourceError):
                self._send.send_nowait(pending)
            self._finish_one()
        finally:
            # As in `PendingCall.run`: no reference cycle.
            del error, pending

    def _finish_one(self) -> None:
        self._unfinished -= 1
        if not self._unfinished:
            self._send.close()
