"""`rt.call_batch`: call a node once for each input, side by side; results in the order of the inputs.

Called by users only.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, Never, TypeVar, overload

import trio

from railtracks._calls.call import open_default_session, outcome_of
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import frame_here
from railtracks._calls.inputs import CHECKPOINT_EVERY, FanOutSlots, Feed, inputs_of, limiter_of, next_of, refusal_of
from railtracks._calls.nursery import CallNursery, can_be_handed_out
from railtracks._calls.pending import STALE, PendingCall
from railtracks._checks import check_flag
from railtracks._nodes.node import Node
from railtracks._records.ends import Status
from railtracks._records.errors import raise_cancelled, without_cancelled
from railtracks.exceptions import ContextError, PendingCallError

if TYPE_CHECKING:
    from railtracks._calls.durable_values import Args

R = TypeVar("R")


@overload
async def call_batch(
    node: Node[..., R],
    /,
    *iterables: Iterable[object],
    return_exceptions: Literal[False],
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R]: ...
@overload
async def call_batch(
    node: Node[..., R],
    /,
    *iterables: Iterable[object],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R | Exception]: ...
@overload
async def call_batch(
    node: Callable[..., Coroutine[object, Never, R]],
    /,
    *iterables: Iterable[object],
    return_exceptions: Literal[False],
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R]: ...
@overload
async def call_batch(
    node: Callable[..., Coroutine[object, Never, R]],
    /,
    *iterables: Iterable[object],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R | Exception]: ...
@overload
async def call_batch(
    node: Callable[..., R],
    /,
    *iterables: Iterable[object],
    return_exceptions: Literal[False],
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R]: ...
@overload
async def call_batch(
    node: Callable[..., R],
    /,
    *iterables: Iterable[object],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R | Exception]: ...
@trio.lowlevel.enable_ki_protection
async def call_batch(
    node: object,
    /,
    *iterables: Iterable[object],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> object:
    """Call a node once for each input, side by side, and return the results in the order of the inputs.

    The inputs are the iterables zipped, as `map` does: they end with the shortest iterable. They are drawn while
    earlier calls run already: with `limit` one whenever there is a slot, without it at most 50 between two checkpoints.

    A checkpoint. If it is cancelled, all calls are cancelled and awaited. A `Cancelled` is never an item of the result.
    Nor is an error that a call raises in its cleanup after such a cancel: that error is raised.

    Without a session around it, it opens one for the whole batch.

    Args:
        node: A node, or a plain function.
        *iterables: One for each positional argument of the node.
        return_exceptions: Whether the exception of a failed call is an item of the result, at the index of its input.
            If not, the first exception cancels the other calls and is raised.
        limit: How many calls may run at once: a number, or a `trio.CapacityLimiter` that is shared with other code, in
            which the pending call is the borrower. `None`: all at once. A call keeps its slot while its node runs. So a
            node that fans out with the limiter of its own call may wait for ever.

    Returns:
        One item for each input: the result of its call, or with `return_exceptions` its exception.

    Raises:
        TypeError: If there is no iterable, one of them is not iterable, or `limit` is neither a number nor a limiter.
        ValueError: If `limit` is less than 1.
        ContextError: As from `call`. Also if the session began to drain before the last input was drawn. Then the
            running calls are awaited first, or with `return_exceptions=False` cancelled.
        NodeCreationError: If a node cannot be made of `node`.
        PendingCallError: If a node raised a `Cancelled` although nothing had cancelled it.
        RuntimeError: If Trio is not running.
        Exception: What an iterable raises, after all calls were cancelled.
    """
    check_flag("return_exceptions", return_exceptions)
    inputs, limiter = inputs_of("call_batch", iterables), limiter_of(limit)
    frame = frame_here()
    if frame is None:
        async with open_default_session():
            return await _batch_in(frame_here(), node, inputs, limiter, return_exceptions=return_exceptions)
    return await _batch_in(frame, node, inputs, limiter, return_exceptions=return_exceptions)


async def _batch_in(
    frame: Frame | None,
    node: object,
    inputs: Iterator[Args],
    limiter: trio.CapacityLimiter | None,
    *,
    return_exceptions: bool,
) -> list[object]:
    assert frame is not None  # noqa: S101 - a session is open here
    batch = _Batch(frame, frame.scope.node_of(node), return_exceptions=return_exceptions)
    return await batch.run(inputs, limiter)


class _Batch:
    """The calls of one batch, and their outcomes in the order of the inputs."""

    def __init__(self, parent: Frame, node: Node[..., object], *, return_exceptions: bool) -> None:
        self._parent = parent
        self._slots = FanOutSlots(parent)
        self._node = node
        self._return_exceptions = return_exceptions
        self._nursery = CallNursery()
        self._results: list[object] = []
        # How many calls ended by a `Cancelled`. The nursery raises it, if something has cancelled the calls.
        self._cancelled = 0

    async def run(self, inputs: Iterator[Args], limiter: trio.CapacityLimiter | None) -> list[object]:
        """Make all calls, and return the results and, with `return_exceptions`, the errors."""
        async with self._nursery:
            if await (self._feed(inputs) if limiter is None else self._feed_limited(inputs, limiter)):
                self._slots.close()
        if self._cancelled:
            raise PendingCallError(self._node.name, "cancelled", STALE)
        return self._results

    async def _feed(self, inputs: Iterator[Args]) -> bool:
        """Start a call for each input, and return whether none was refused."""
        await trio.lowlevel.checkpoint_if_cancelled()
        start_soon, call_one, name = self._nursery.start_soon, self._call, self._node.name
        results, next_frame = self._results, self._slots.next
        index = 0
        while (args := next_of(inputs)) is not None:
            if not index % CHECKPOINT_EVERY:
                if index:
                    await trio.lowlevel.checkpoint()
                # Once for all calls up to the next checkpoint: no session can begin to drain in between.
                refusal = refusal_of(self._parent)
                if refusal is not None:
                    self._refuse(refusal)
                    return False
            results.append(None)
            start_soon(call_one, next_frame(), index, args, name=name)
            index += 1
        return True

    async def _feed_limited(self, inputs: Iterator[Args], limiter: trio.CapacityLimiter) -> bool:
        feed = Feed(self._slots, self._node, inputs, limiter)
        while (pending := await feed.draw()) is not None:
            self._results.append(None)
            index = len(self._results) - 1
            start_frame = feed.start_frame(pending)
            self._nursery.start_soon(self._call_limited, start_frame, index, pending, feed, name=self._node.name)
        if feed.refusal is None:
            return True
        self._refuse(feed.refusal)
        return False

    def _refuse(self, refusal: ContextError) -> None:
        if self._return_exceptions:
            self._nursery.keep(refusal)
        else:
            self._nursery.fail(refusal)

    @trio.lowlevel.enable_ki_protection
    async def _call(self, start_frame: Frame, index: int, args: Args) -> None:
        current_frame.set(start_frame)
        real: BaseException | None = None
        result, error = await outcome_of(self._node, args, {})
        try:
            if error is None:
                self._results[index] = result
            elif (real := without_cancelled(error)) is not None:
                self._put_error(index, real)
            else:
                self._cancelled += 1
                raise_cancelled(error)
        finally:
            # The error's traceback leads to this stack frame, on newer Pythons by way of `f_back`. The frame must lead
            # neither to the error nor to the results, which may hold it: that would be a reference cycle.
            del error, real, self

    @trio.lowlevel.enable_ki_protection
    async def _call_limited(
        self, start_frame: Frame, index: int, pending: PendingCall[object], feed: Feed[object]
    ) -> None:
        try:
            error = await pending.run(start_frame)
        finally:
            feed.give_back(pending)
        try:
            if error is not None and pending.status is Status.CANCELLED:
                # Ctrl-C, or a `Cancelled` that the node had kept.
                self._nursery.fail(error)
            elif error is not None:
                self._put_error(index, error)
            else:
                self._results[index] = pending.result()
        except PendingCallError as refusal:
            # User code found the pending call as a borrower of its limiter, and cancelled it. There is no result.
            self._nursery.fail(refusal)
        finally:
            # As in `_call`: no reference cycle.
            del error, pending, self

    def _put_error(self, index: int, error: BaseException) -> None:
        try:
            if self._return_exceptions and can_be_handed_out(error):
                self._results[index] = error
            else:
                self._nursery.fail(error)
        finally:
            # As in `_call`: no reference cycle.
            del error
