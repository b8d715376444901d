"""The verbs: `call`, `call_batch`, `open_group`. Each finds the call it is made in, or opens a session for itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal, ParamSpec, TypeVar, overload

import trio

from railtracks._fanout import CallGroup, run_batch
from railtracks._invoke import invoke
from railtracks._nodes import Node
from railtracks._scope import Frame, adopt, current_frame, current_task
from railtracks._session import Session

P = ParamSpec("P")
R = TypeVar("R")


@overload
async def call(node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(node: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def call(node: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run a node as if awaited in place, and return its result.

    The record of the call is opened before the node starts, and closed on every way out, cancellation included. The node
    runs under the same cancel scopes and context variables as its caller. It may run in another task: it must not take or
    release its caller's `Lock`, `Condition` or limiter slot, nor leave a nursery or a cancel scope open.

    Always a cancellation point, and a schedule point except for a task's first call. A call that is cancelled there is
    recorded as cancelled, and its node has not run. One call after another: side by side is `call_batch` and
    `open_group`.

    Args:
        node: A node, or a plain function, which is made one.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the node returns.

    Raises:
        ContextError: If this task escaped its session, or is a system task of Trio's. The node has not run.
        NodeTimeoutError: If the node has a timeout and took longer.
        NodeCreationError: If a node cannot be made of what was given.
        RuntimeError: If Trio is not running.
        BaseException: Whatever the node raises, as the same object, with a note that names the path of nodes.
    """
    task = current_task()
    frame = current_frame.get()
    is_fresh = frame is None or frame.task is not task
    if is_fresh:
        frame = adopt(task)
    if frame is None:
        async with Session():
            return await call(node, *args, **kwargs)
    if not isinstance(node, Node):
        node = frame.scope.node_of(node)
    return await invoke(frame, task, node, args, kwargs, is_fresh)


@overload
async def call_batch(
    node: Node[..., R],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[True] = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[R | Exception]: ...
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
    node: Callable[..., Coroutine[Any, Any, R]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[True] = True,
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
    node: Callable[..., R],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[True] = True,
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
async def call_batch(
    node: Any,
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: float | trio.CapacityLimiter | None = None,
) -> list[Any]:
    """Call a node once for each input, side by side, and return the results in the order of the inputs.

    The inputs are the iterables zipped, as `map` does, and are drawn while calls run already: with `limit` one whenever
    there is room, without at least 100 between two checkpoints. A checkpoint. On a cancellation all calls are
    cancelled and awaited; a cancellation is never an item of the result.

    Args:
        node: A node, or a plain function.
        *iterables: One for each positional argument of the node.
        return_exceptions: Whether a call's exception stands in its place of the result. If not, the first one cancels the
            other calls and is raised.
        limit: How many calls may run at once: a number, or a `trio.CapacityLimiter` that is shared with others, in which
            the pending call is the borrower. `None`: all at once.

    Raises:
        TypeError: If there is no iterable, or `limit` is neither number nor limiter.
        ValueError: If `limit` is less than 1.
        ContextError: As from `call`.
        Exception: What an iterable raises, after the calls were cancelled.
    """
    if not iterables:
        raise TypeError("call_batch() needs at least one iterable of inputs")
    if not isinstance(return_exceptions, bool):
        raise TypeError(f"return_exceptions must be True or False, not {type(return_exceptions).__name__}")
    limiter = _limiter(limit)
    inputs = zip(*iterables, strict=False)
    async with _frame_or_session() as frame:
        made = node if isinstance(node, Node) else frame.scope.node_of(node)
        return await run_batch(frame, made, inputs, return_exceptions=return_exceptions, limiter=limiter)


def _limiter(limit: object) -> trio.CapacityLimiter | None:
    if limit is None or isinstance(limit, trio.CapacityLimiter):
        return limit
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise TypeError(f"limit must be a number or a trio.CapacityLimiter, not {type(limit).__name__}")
    if not limit >= 1:
        raise ValueError(f"limit must be at least 1, not {limit!r}")
    # Trio refuses a number that is neither whole nor infinite.
    return trio.CapacityLimiter(limit)


@asynccontextmanager
async def open_group() -> AsyncIterator[CallGroup]:
    """Open a group for calls of different nodes side by side; leaving its block waits for all of them.

    It fails like a nursery: the first error, of a call or of the block, cancels the rest. The one error is raised bare,
    several as an `ExceptionGroup`. Without a session around it, it opens one for the block.

    Raises:
        ContextError: As from `call`.
    """
    async with _frame_or_session() as frame, CallGroup(frame) as group:
        yield group


@asynccontextmanager
async def _frame_or_session() -> AsyncIterator[Frame]:
    task = current_task()
    frame = current_frame.get()
    if frame is None or frame.task is not task:
        frame = adopt(task)
    if frame is not None:
        yield frame
        return
    async with Session():
        frame = current_frame.get()
        assert frame is not None
        yield frame
