"""The node call: open the record, pass a checkpoint, run the node in its caller's task, close the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

import trio
from trio.lowlevel import Task, checkpoint, checkpoint_if_cancelled, current_task

from railtracks._calls.attempt import attempt
from railtracks._calls.frames import LANDING, NO_TRIO, Frame, adopt, current_frame
from railtracks._nodes.node import Node
from railtracks._nodes.retry import Retry
from railtracks._records.errors import describe, is_fatal, raise_unchanged, without_cancelled
from railtracks._records.events import NOBODY, Observer, Observers

P = ParamSpec("P")
R = TypeVar("R")

# A call costs one Python frame besides what its node adds. From this level on it runs in a task of its own: often
# enough to stay far from the recursion limit and to keep checkpoints quick, rarely enough not to pay a task a call.
_FRESH_STACK_EVERY = 32

# What opens a session for a call that has none around it. The room above, which makes sessions of calls, puts it here.
default_session: Callable[[], AbstractAsyncContextManager[object]]


@overload
async def call(node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(node: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def call(  # noqa: C901, PLR0912, PLR0915 - on the path of every call, where each function costs
    node: Any, /, *args: Any, **kwargs: Any
) -> Any:
    """Run a node as if awaited in place, and return its result.

    The record of the call is opened before the node starts, and closed on every way out, cancellation included. The
    node runs under the same cancel scopes and context variables as its caller. It may run in another task: it must not
    take or release its caller's `Lock`, `Condition` or limiter slot, nor leave a nursery or a cancel scope open.

    Always a cancellation point, and a schedule point except for a task's first call. A call that is cancelled there is
    recorded as cancelled, and its node has not run. One call after another: side by side are `call_batch`,
    `as_completed` and `open_group`.

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
    try:
        task = current_task()
    except RuntimeError:
        raise RuntimeError(NO_TRIO) from None
    parent = current_frame.get()
    if parent is None or (parent.task is not task and parent.depth != LANDING):
        parent = adopt(task)
        if parent is None:
            async with default_session():  # noqa: F821 - the room of sessions has put it here
                return await call(node, *args, **kwargs)
    # isinstance cannot tell a node's parameters.
    made: Node[..., Any] = node if isinstance(node, Node) else parent.scope.node_of(node)  # pyright: ignore[reportUnknownVariableType]
    if made.retry is not None:
        return await _call_again_and_again(parent, made, made.retry, args, kwargs)
    depth = parent.depth + 1
    if depth > _FRESH_STACK_EVERY:
        return await _call_on_a_fresh_stack(parent, task, made, args, kwargs)
    is_fresh = depth < 1
    if is_fresh:
        # The task has only just been started: that was a schedule point.
        depth = 0
        if parent.task is task:
            parent.depth = 0
    scope = parent.scope
    if not parent.call_id and scope.is_draining and parent.depth != LANDING and made.attempt == 1:
        parent.admit()
    tree = scope.tree
    call_id = tree.open(made, parent.call_id, args, kwargs)
    observers = scope.observers
    durable = None
    if scope.journal is not None:
        durable = scope.journal.enter(parent, made, args, kwargs)
        if durable.is_replayed:
            tree.mark_replayed(call_id)
            observers = NOBODY
    if observers.started:
        _tell(observers.started, parent, call_id)
    slot = parent.slot
    run_id = parent.run_id or call_id
    frame = Frame(scope, call_id, parent, task, depth, len(task.child_nurseries), run_id, slot)
    token = current_frame.set(frame)
    if slot is not None:
        slot.lend()
    try:
        if durable is not None and durable.is_replayed:
            await durable.pass_checkpoint()
        elif is_fresh:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
        if durable is not None:
            frame.strand = durable.strand
            result = await durable.run(frame, args, kwargs)
        elif made.is_direct:
            result = await made.fn(*args, **kwargs)
        else:
            result = await attempt(frame, made, args, kwargs)
    except BaseException as error:
        frame.task = None
        current_frame.reset(token)
        if durable is not None:
            durable.left(error)
        ends_session = _close_without_result(parent, call_id, made, error, observers)
        if slot is not None:
            await slot.take_back()  # noqa: ASYNC102 - shielded in there
        if ends_session:
            # The session's cancel reaches this task: let it unwind by that, which no `except Exception` of a parent can
            # hold up. The session raises the error itself.
            await trio.sleep_forever()  # noqa: ASYNC102 - to be cancelled is its purpose
        raise
    frame.task = None
    current_frame.reset(token)
    if durable is not None:
        durable.left(None)
    tree.complete(call_id, result)
    if observers.completed:
        _tell(observers.completed, parent, call_id)
    if slot is not None:
        await slot.take_back()
    if not made.is_async and (durable is None or not durable.has_outcome):
        # A thread cannot be stopped: it comes back with a result after the session's timeout as well.
        await checkpoint_if_cancelled()
    return result


async def outcome_of(
    node: Node[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Make a call; return its result, or else its error, to be raised or kept.

    An error holds the frames that it went through, and is caught in here so that none of them holds the error.
    """
    try:
        return await call(node, *args, **kwargs), None
    except BaseException as error:  # noqa: ASYNC103, BLE001 - whoever asked decides
        return None, error  # noqa: ASYNC104 - the same


def _close_without_result(
    parent: Frame, call_id: int, node: Node[..., Any], error: BaseException, observers: Observers
) -> bool:
    """Close the record of a call that raised; say whether the session ends by it and its cancel reaches this task.

    Nothing here may await: a `Cancelled` can be in flight, and the record must be closed before anyone looks at it
    (test_cancellation.py::test_a_record_is_closed_before_the_error_goes_on).
    """
    scope = parent.scope
    real = without_cancelled(error)
    is_tried_again = node.again is not None and node.again.is_worth(error)
    if real is None:
        scope.tree.cancel(call_id)
        audience = observers.cancelled
    else:
        scope.tree.fail(call_id, describe(error, lambda: scope.tree.path(call_id)))
        audience = observers.retried if is_tried_again else observers.failed
    _tell(audience, parent, call_id)
    if real is None or is_tried_again:
        return False
    if not (is_fatal(real) or (scope.end_on_error and isinstance(real, Exception))):
        return False
    # Under a shield the cancel does not come here: then the error goes up in place, and the session ends all the same.
    return scope.end(real) and trio.current_effective_deadline() == -math.inf


def _tell(audience: tuple[Observer, ...], parent: Frame, call_id: int) -> None:
    if audience:
        event = parent.event(call_id)
        for tell in audience:
            tell(event)


async def _call_again_and_again(
    parent: Frame, node: Node[..., Any], retry: Retry, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Make attempts of a call, each a call of its own, and return what the last one gives."""
    slot, journal = parent.slot, parent.scope.journal

    pause = trio.sleep if journal is None else partial(journal.pause, parent)
    if slot is not None:
        # In the pauses too the worker thread does nothing but wait.
        slot.lend()
    try:
        with parent.promise():
            result, error = await retry.outcome_of(
                lambda number: outcome_of(node.as_attempt(number, retry), args, kwargs), pause
            )
    finally:
        if slot is not None:
            await slot.take_back()  # noqa: ASYNC102 - shielded in there
    if error is None:
        return result
    try:
        if journal is not None and journal.is_cut:
            # There is no other attempt because the session is interrupted. This is no outcome: a resume makes it.
            await checkpoint_if_cancelled()
        raise_unchanged(error)
    finally:
        # This frame is among those that the error holds.
        del error


async def _call_on_a_fresh_stack(
    parent: Frame, task: Task, node: Node[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Make the call in a task of its own that behaves like the caller's: same scopes, same context variables."""
    outcome: tuple[Any, BaseException | None] = (None, None)

    async def run() -> None:
        nonlocal outcome
        own = trio.lowlevel.current_task()
        own.context = task.context
        # The context takes effect with the task's next step.
        await trio.lowlevel.cancel_shielded_checkpoint()
        token = current_frame.set(parent.landing())
        outcome = await outcome_of(node, args, kwargs)
        current_frame.reset(token)

    try:
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - the task is the purpose
            nursery.start_soon(run, name=node.name)
    except BaseExceptionGroup as group:
        # The task above raises nothing: this is Ctrl-C, which strikes the main task while it waits here.
        outcome = (None, group.exceptions[0])
    result, error = outcome
    if error is None:
        return result
    try:
        # Outside of the nursery, which would make a group of it.
        raise_unchanged(error)
    finally:
        # This frame is among those that the error holds.
        outcome = (None, None)
        del error
