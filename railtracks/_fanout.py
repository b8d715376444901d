"""Many calls side by side: batches of one node, and groups of different ones.

Each verb finds the call it is made in, or opens a session for its whole block.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

import trio

from railtracks import _invoke
from railtracks._errors import raise_unchanged, without_cancelled
from railtracks._invoke import outcome_of
from railtracks._nodes import Node
from railtracks._pending import CallNursery, PendingCall, leave
from railtracks._scope import Frame, adopt, current_frame, this_task
from railtracks._tree import Status
from railtracks.exceptions import PendingCallError

P = ParamSpec("P")
R = TypeVar("R")

# Between two checkpoints of a feeder, what it started so far cannot run, and nor can anything else.
_FEED = 50


class CallGroup:
    """Calls of different nodes side by side, made by `open_group`."""

    def __init__(self, parent: Frame, nursery: CallNursery) -> None:
        self._parent = parent
        self._nursery = nursery

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around all of its calls."""
        return self._nursery.cancel_scope

    @overload
    def start_soon(self, node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    @overload
    def start_soon(
        self, node: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> PendingCall[R]: ...
    @overload
    def start_soon(self, node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    def start_soon(self, node: Any, /, *args: Any, **kwargs: Any) -> PendingCall[Any]:
        """Start a call in a task of its own and return at once.

        Args:
            node: A node, or a plain function.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Raises:
            NodeCreationError: If a node cannot be made of what was given.
            RuntimeError: If the group is closed.
        """
        pending: PendingCall[Any] = PendingCall(self._parent.scope.node_of(node))
        nursery = self._nursery
        nursery.start_soon(pending.run, self._parent, args, kwargs, nursery.fail, name=pending.node_name)
        return pending


def open_group() -> AbstractAsyncContextManager[CallGroup]:
    """Open a group for calls of different nodes side by side; leaving its block waits for all of them.

    It fails like a nursery: the first error, of a call or of the block, cancels the rest. The one error is raised bare,
    several as an `ExceptionGroup`. Without a session around it, it opens one for the block. Entering is no checkpoint,
    leaving waits as a nursery does.

    Raises:
        ContextError: As from `call`.
        RuntimeError: If Trio is not running.
    """
    return _OpenGroup()


class _OpenGroup:
    """The block of a group, and where there was none around it the session that it is made in."""

    def __init__(self) -> None:
        self._opened: list[AbstractAsyncContextManager[Any]] = []

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> CallGroup:
        frame = _frame_here()
        if frame is None:
            session = _invoke.default_session()
            await session.__aenter__()
            self._opened.append(session)
            frame = cast("Frame", current_frame.get())
        nursery = CallNursery()
        await nursery.__aenter__()
        self._opened.append(nursery)
        return CallGroup(frame, nursery)

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        left = error
        while self._opened:
            left = await leave(self._opened.pop(), left)  # noqa: ASYNC102 - waits as a nursery does
        try:
            if left is not None and left is not error:
                raise_unchanged(left)
            return left is None
        finally:
            # This frame is among those that the error holds.
            del left, error


def _frame_here() -> Frame | None:
    task = this_task()
    frame = current_frame.get()
    return adopt(task) if frame is None or frame.task is not task else frame


@overload
async def call_batch(
    node: Node[..., R],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[False],
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R]: ...
@overload
async def call_batch(
    node: Node[..., R],
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R | Exception]: ...
@overload
async def call_batch(
    node: Callable[..., Coroutine[Any, Any, R]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[False],
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R]: ...
@overload
async def call_batch(
    node: Callable[..., Coroutine[Any, Any, R]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R | Exception]: ...
@overload
async def call_batch(
    node: Callable[..., R],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[False],
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R]: ...
@overload
async def call_batch(
    node: Callable[..., R],
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R | Exception]: ...
async def call_batch(
    node: Any,
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[Any]:
    """Call a node once for each input, side by side, and return the results in the order of the inputs.

    The inputs are the iterables zipped, as `map` does, and are drawn while calls run already: with `limit` one whenever
    there is room, without it at most 50 between two checkpoints. A checkpoint. On a cancellation all calls are
    cancelled and awaited; a cancellation is never an item of the result.

    Args:
        node: A node, or a plain function.
        *iterables: One for each positional argument of the node.
        return_exceptions: Whether a call's exception stands in its place of the result. If not, the first one cancels
            the other calls and is raised.
        limit: How many calls may run at once: a number, or a `trio.CapacityLimiter` that is shared with others, in
            which the pending call is the borrower. `None`: all at once.

    Raises:
        TypeError: If there is no iterable, or `limit` is neither number nor limiter.
        ValueError: If `limit` is less than 1.
        ContextError: As from `call`.
        NodeCreationError: If a node cannot be made of what was given.
        RuntimeError: If Trio is not running.
        Exception: What an iterable raises, after the calls were cancelled.
    """
    if not iterables:
        raise TypeError("call_batch() needs at least one iterable of inputs")
    if not isinstance(return_exceptions, bool):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
        raise TypeError(f"return_exceptions must be True or False, not {type(return_exceptions).__name__}")
    limiter = _limiter(limit)
    frame = _frame_here()
    if frame is None:
        async with _invoke.default_session():
            return await call_batch(node, *iterables, return_exceptions=return_exceptions, limit=limit)
    batch = _Batch(frame, frame.scope.node_of(node), return_exceptions=return_exceptions)
    return await batch.run(zip(*iterables, strict=False), limiter)


def _limiter(limit: object) -> trio.CapacityLimiter | None:
    if limit is None or isinstance(limit, trio.CapacityLimiter):
        return limit
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise TypeError(f"limit must be a number or a trio.CapacityLimiter, not {type(limit).__name__}")
    if not limit >= 1:
        raise ValueError(f"limit must be at least 1, not {limit!r}")
    # Trio refuses a number that is neither an int nor infinite.
    return trio.CapacityLimiter(limit)


class _Batch:
    """The calls of one batch, and what became of them, in the inputs' places."""

    def __init__(self, parent: Frame, node: Node[..., Any], *, return_exceptions: bool) -> None:
        self._landing = parent.landing()
        self._node = node
        self._return_exceptions = return_exceptions
        self._nursery = CallNursery()
        self._results: list[Any] = []

    async def run(self, inputs: Iterable[tuple[Any, ...]], limiter: trio.CapacityLimiter | None) -> list[Any]:
        """Make all calls; return the results and, if asked to, errors."""
        async with self._nursery:
            if limiter is None:
                await self._feed(inputs)
            else:
                await self._feed_limited(iter(inputs), limiter)
        return self._results

    async def _feed(self, inputs: Iterable[tuple[Any, ...]]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        start_soon, call_one, name = self._nursery.start_soon, self._call, self._node.name
        results = self._results
        for place, args in enumerate(inputs):
            results.append(None)
            start_soon(call_one, place, args, name=name)
            if not (place + 1) % _FEED:
                await trio.lowlevel.checkpoint()

    async def _feed_limited(self, inputs: Iterator[tuple[Any, ...]], limiter: trio.CapacityLimiter) -> None:
        while (admitted := await _admit(limiter, self._node, inputs)) is not None:
            self._results.append(None)
            place = len(self._results) - 1
            self._nursery.start_soon(self._call_limited, place, *admitted, limiter, name=self._node.name)

    async def _call(self, place: int, args: tuple[Any, ...]) -> None:
        current_frame.set(self._landing)
        result, error = await outcome_of(self._node, args, {})
        if error is None:
            self._results[place] = result
        elif (real := without_cancelled(error)) is not None:
            self._keep(place, real)
        else:
            raise_unchanged(error)

    async def _call_limited(
        self, place: int, args: tuple[Any, ...], pending: PendingCall[Any], limiter: trio.CapacityLimiter
    ) -> None:
        try:
            await pending.run(self._landing, args, {}, lambda error: self._keep(place, error))
            if pending.status is not Status.FAILED:
                self._results[place] = pending.result()
        except PendingCallError as refusal:
            # The limiter's borrower was cancelled by itself: nothing can stand in its place.
            self._nursery.fail(refusal)
        finally:
            limiter.release_on_behalf_of(pending)

    def _keep(self, place: int, error: BaseException) -> None:
        if self._return_exceptions and isinstance(error, Exception):
            self._results[place] = error
        else:
            self._nursery.fail(error)


async def _admit(
    limiter: trio.CapacityLimiter, node: Node[..., Any], inputs: Iterator[tuple[Any, ...]]
) -> tuple[tuple[Any, ...], PendingCall[Any]] | None:
    """Wait for room and draw the next input then; `None` when there is none left. A checkpoint."""
    pending: PendingCall[Any] = PendingCall(node)
    await limiter.acquire_on_behalf_of(pending)
    args = None
    try:
        args = next(inputs, None)
    finally:
        if args is None:
            limiter.release_on_behalf_of(pending)
    return None if args is None else (args, pending)
