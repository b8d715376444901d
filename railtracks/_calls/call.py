"""The call of a node: open the record, pass a checkpoint, run the node in its caller's task, close the record.

Called by users as `rt.call`, and by everything that makes calls side by side. There is one way for a call. It parts
where a node is tried again, where Python's stack gets deep, and where a durable session records the outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, Never, ParamSpec, TypeVar, cast, overload

import trio
from trio.lowlevel import Task, checkpoint, checkpoint_if_cancelled, current_task

from railtracks._calls.attempt import run_attempt
from railtracks._calls.durable_protocol import Args, Kwargs, SessionJournal
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import NO_TRIO, adopt
from railtracks._nodes.node import Attempt, Node
from railtracks._nodes.retry import Outcome, Retry
from railtracks._records.errors import describe_once, is_fatal, raise_unchanged, without_cancelled
from railtracks._records.events import EventKind
from railtracks._records.observers import NOBODY, Observers
from railtracks._workers.threads import WorkerSlot

P = ParamSpec("P")
R = TypeVar("R")

# A call costs one of Python's stack frames besides what its node adds. From this level on it runs in a task of its own:
# often enough to stay far from the recursion limit and to keep checkpoints quick, rarely enough not to cost a task a
# call.
_FRESH_STACK_EVERY: Final = 32


_open_default_session: Callable[[], AbstractAsyncContextManager[object]]


def register_default_session(open_session: Callable[[], AbstractAsyncContextManager[object]]) -> None:
    """Register what opens a session for calls that have none around them. Sessions lie above this room."""
    global _open_default_session  # noqa: PLW0603 - set once, when the package is imported
    _open_default_session = open_session


def open_default_session() -> AbstractAsyncContextManager[object]:
    """Open a session for one call, or for one block of calls."""
    return _open_default_session()


@overload
async def call(node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(node: Callable[P, Coroutine[object, Never, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def call(  # noqa: C901, PLR0912, PLR0915 - on the path of every call, where each function costs
    node: object, /, *args: object, **kwargs: object
) -> object:
    """Run a node as if awaited in place, and return its result.

    The record of the call is opened before the node starts, and closed on every way out, cancellation included. The
    node runs under the same cancel scopes and context variables as its caller. It may run in another task: it must not
    take or release its caller's `Lock`, `Condition` or limiter slot, nor leave a nursery or a cancel scope open.

    Always a cancellation point, and a schedule point except for a task's first call. A call that is cancelled there is
    recorded as cancelled, and its node has not run. Calls are made one after another; for calls side by side there are
    `call_batch`, `as_completed` and `open_group`.

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
    if parent is None or (parent.task is not task and not parent.is_landing):
        parent = adopt(task)
        if parent is None:
            async with open_default_session():
                return await _call(node, *args, **kwargs)
    attempt: Attempt | None = None
    made: Node[..., object]
    if isinstance(node, Node):
        # isinstance cannot tell a node's parameters.
        made = node  # pyright: ignore[reportUnknownVariableType]
    elif isinstance(node, Attempt):
        # Given by `_call_again_and_again` in place of its node.
        made, attempt = node.node, node
    else:
        made = parent.scope.node_of(node)
    if made.retry is not None and attempt is None:
        return await _call_again_and_again(parent, made, made.retry, args, kwargs)
    scope = parent.scope
    # A landing was admitted when its fan-out began, and a further attempt goes on with a call that was admitted.
    if scope.is_draining and not parent.is_landing and (attempt is None or attempt.number == 1):
        parent.admit()
    if parent.depth >= _FRESH_STACK_EVERY:
        return await _call_on_a_fresh_stack(parent, task, made, attempt, args, kwargs)
    # The task of a fresh frame has only just been started: that was a schedule point.
    is_fresh = parent.is_fresh
    if is_fresh:
        parent.lose_freshness()
    if scope.journal is not None:
        return await _call_durably(scope.journal, parent, task, made, attempt, args, kwargs, is_fresh=is_fresh)
    tree = scope.tree
    call_id = tree.open(made, parent.call_id, args, kwargs, attempt)
    observers = scope.observers
    if observers.call_started:
        scope.tell(EventKind.CALL_STARTED, observers.call_started, parent, call_id)
    slot = parent.slot
    depth = 0 if is_fresh else parent.depth + 1
    frame = Frame(scope, call_id, parent, task, depth, len(task.child_nurseries), parent.run_id or call_id, slot)
    token = current_frame.set(frame)
    if slot is not None:
        slot.lend()
    try:
        if is_fresh:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
        result = await (made.fn(*args, **kwargs) if made.is_direct else run_attempt(frame, made, args, kwargs))
    except BaseException as error:
        frame.close(token)
        await _leave_with(error, parent, call_id, attempt, observers)  # noqa: ASYNC102 - shielded, or to be cancelled
        raise
    frame.close(token)
    tree.complete(call_id, result)
    if observers.call_completed:
        scope.tell(EventKind.CALL_COMPLETED, observers.call_completed, parent, call_id)
    if slot is not None or not made.is_async:
        await _come_back(slot, is_thread=not made.is_async)
    return result


# The same without its overloads, which know nothing of attempts.
_call: Final = cast("Callable[..., Coroutine[object, Never, object]]", call)


async def _come_back(slot: WorkerSlot | None, *, is_thread: bool) -> None:
    """Return from a call to a worker thread that waits for it, or from a worker thread."""
    if slot is not None:
        await slot.take_back()
    if is_thread:
        # A thread cannot be stopped: it comes back with a result after the session's timeout as well.
        await checkpoint_if_cancelled()


async def outcome_of(node: Node[..., object] | Attempt, args: Args, kwargs: Kwargs) -> Outcome:
    """Make a call, or one attempt of a call; return its result, or else its error, to be raised or kept.

    An error holds the stack frames that it went through, and is caught in here so that none of them holds the error.
    """
    try:
        return await _call(node, *args, **kwargs), None
    except BaseException as error:  # noqa: ASYNC103, BLE001 - the caller decides what is raised
        return None, error  # noqa: ASYNC104 - the same


async def _leave_with(
    error: BaseException, parent: Frame, call_id: int, attempt: Attempt | None, observers: Observers
) -> None:
    """Close the record of a call that raised, and wait for the session's cancel if the error ends the session."""
    ends_session = _close_with(error, parent, call_id, attempt, observers)
    if parent.slot is not None:
        await parent.slot.take_back()
    if ends_session:
        # The session's cancel reaches this task: let it unwind by that, which no `except Exception` of a parent can
        # hold up. The session raises the error itself.
        await trio.sleep_forever()


def _close_with(
    error: BaseException, parent: Frame, call_id: int, attempt: Attempt | None, observers: Observers
) -> bool:
    """Close the record of a call that raised; return whether the session ends by that and its cancel reaches this task.

    Nothing here may await: a `Cancelled` can be in flight, and the record must be closed before anyone looks at it
    (test_cancellation.py::test_a_record_is_closed_before_the_error_goes_on).
    """
    scope = parent.scope
    real = without_cancelled(error)
    is_tried_again = attempt is not None and attempt.is_worth_another(error)
    if real is None:
        scope.tree.cancel(call_id)
        kind, audience = EventKind.CALL_CANCELLED, observers.call_cancelled
    else:
        scope.tree.fail(call_id, describe_once(error, lambda: scope.tree.path(call_id)))
        if is_tried_again:
            kind, audience = EventKind.CALL_RETRIED, observers.call_retried
        else:
            kind, audience = EventKind.CALL_FAILED, observers.call_failed
    scope.tell(kind, audience, parent, call_id)
    if real is None or is_tried_again:
        return False
    if not (is_fatal(real) or (scope.end_on_error and isinstance(real, Exception))):
        return False
    # Under a shield the cancel does not come here: then the error goes up in place, and the session ends all the same.
    return scope.control.end(real) and trio.current_effective_deadline() == -math.inf


async def _call_durably(  # noqa: PLR0917 - what a call is made of
    journal: SessionJournal[Frame],
    parent: Frame,
    task: Task,
    node: Node[..., object],
    attempt: Attempt | None,
    args: Args,
    kwargs: Kwargs,
    *,
    is_fresh: bool,
) -> object:
    """Make a call of a durable session: it hands its recorded outcome over, or runs and records its outcome.

    The same steps as of any call, in the same order. A flow inside a durable session is a call made here, too.
    """
    scope, slot = parent.scope, parent.slot
    tree = scope.tree
    call_id = tree.open(node, parent.call_id, args, kwargs, attempt)
    durable = journal.enter(parent, node, 1 if attempt is None else attempt.number, args, kwargs)
    observers = scope.observers
    if durable.is_replayed:
        tree.mark_replayed(call_id)
        observers = NOBODY
    scope.tell(EventKind.CALL_STARTED, observers.call_started, parent, call_id)
    depth = 0 if is_fresh else parent.depth + 1
    frame = Frame(scope, call_id, parent, task, depth, len(task.child_nurseries), parent.run_id or call_id, slot)
    frame.enter_strand(durable.strand)
    token = current_frame.set(frame)
    if slot is not None:
        slot.lend()
    try:
        if durable.is_replayed:
            await durable.pass_checkpoint()
        elif is_fresh:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
        result = await durable.run(frame, args, kwargs)
    except BaseException as error:
        frame.close(token)
        durable.left(error)
        await _leave_with(error, parent, call_id, attempt, observers)  # noqa: ASYNC102 - shielded, or to be cancelled
        raise
    frame.close(token)
    durable.left(None)
    tree.complete(call_id, result)
    scope.tell(EventKind.CALL_COMPLETED, observers.call_completed, parent, call_id)
    # A result that is in the store reaches its caller in any case.
    await _come_back(slot, is_thread=not (node.is_async or durable.has_outcome))
    return result


async def _call_again_and_again(
    parent: Frame, node: Node[..., object], retry: Retry, args: Args, kwargs: Kwargs
) -> object:
    """Make attempts of a call, each a call of its own, and return what the last one gives."""
    slot, journal = parent.slot, parent.scope.journal
    pause = trio.sleep if journal is None else partial(journal.pause, parent)
    if slot is not None:
        # In the pauses too the worker thread does nothing but wait.
        slot.lend()
    try:
        with parent.scope.promise(parent):
            result, error = await retry.outcome_of(
                lambda number: outcome_of(Attempt(node, number, retry), args, kwargs), pause
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


async def _call_on_a_fresh_stack(  # noqa: PLR0917 - what a call is made of
    parent: Frame, task: Task, node: Node[..., object], attempt: Attempt | None, args: Args, kwargs: Kwargs
) -> object:
    """Make the call in a task of its own that behaves like the caller's: same scopes, same context variables."""
    outcome: Outcome = (None, None)

    async def run() -> None:
        nonlocal outcome
        own = trio.lowlevel.current_task()
        own.context = task.context
        # The context takes effect with the task's next step.
        await trio.lowlevel.cancel_shielded_checkpoint()
        token = current_frame.set(parent.landing())
        outcome = await outcome_of(node if attempt is None else attempt, args, kwargs)
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
