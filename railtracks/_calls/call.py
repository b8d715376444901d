"""A call of a node: open the record, pass a checkpoint, run the node in its caller's task, close the record.

Called by users as `rt.call`, and by the modules that make calls side by side. `call` handles the plain case itself. It
hands on: a node with `retry`, one under a `functools.partial`, a deep Python stack, and a durable session.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Final, Never, ParamSpec, TypeGuard, TypeVar, cast, overload

import trio
from trio.lowlevel import (
    Task,
    cancel_shielded_checkpoint,
    checkpoint_if_cancelled,
    current_task,
    disable_ki_protection,
    enable_ki_protection,
)

from railtracks._calls.attempt import run_attempt
from railtracks._calls.expiry import note_cancelled
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import find_frame
from railtracks._calls.no_trio import no_trio
from railtracks._nodes.node import AsyncNode, Attempt, Node, SyncNode
from railtracks._records.descriptions import describe_once
from railtracks._records.errors import holds, is_fatal, is_ordinary, raise_unchanged, without_cancelled
from railtracks._records.events import EventKind
from railtracks._records.observers import NOBODY, Observers
from railtracks._workers.threads import WorkerSlot
from railtracks.exceptions import WorkerLostError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import SessionJournal
    from railtracks._calls.durable_values import Args, Kwargs
    from railtracks._nodes.retry import Outcome, Retry

P = ParamSpec("P")
R = TypeVar("R")

# After this many nested calls in one task, the next call runs in a task of its own, with an empty Python stack.
# Nested calls are nested Python frames: they run into the recursion limit, and make each checkpoint slower. A lower
# number would cost a new task more often.
_FRESH_STACK_EVERY: Final = 32
_NODES: Final = frozenset[type]([AsyncNode, SyncNode])


_new_frame: Final = Frame.__new__

_open_default_session: Callable[[], AbstractAsyncContextManager[object]]


def register_default_session(open_session: Callable[[], AbstractAsyncContextManager[object]]) -> None:
    """Set the function that opens a session for calls that have none around them.

    Called once, as the package is imported: this module cannot import `Session`, which imports it.
    """
    global _open_default_session  # noqa: PLW0603 - set once, when the package is imported
    _open_default_session = open_session


def open_default_session() -> AbstractAsyncContextManager[object]:
    """Return a new session for one call, or for one block of calls, that has no session around it."""
    return _open_default_session()


@overload
async def call(node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(node: Callable[P, Coroutine[object, Never, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
# Ctrl-C strikes a node at once. What it leaves open in here the session's end closes: see `_calls.ctrl_c`.
@disable_ki_protection
async def call(  # noqa: C901, PLR0912, PLR0915 - on the path of every call, where each function costs
    node: object, /, *args: object, **kwargs: object
) -> object:
    """Run a node as if awaited in place, and return its result.

    The record of the call is opened before the node starts, and closed on every way out, cancellation included. Without
    a session around it, the call opens a default session for itself.

    The node runs under the same cancel scopes and context variables as its caller. A sync node runs in a worker, by
    default a thread. An async node may run in another task than its caller. So it must not take or release its caller's
    `Lock`, `Condition` or limiter slot, nor leave a nursery or a cancel scope open.

    Always a cancellation point, and a schedule point except for the first call of a new task. If the call is cancelled
    there, it is recorded as cancelled and its node does not run. For calls side by side see `call_batch`,
    `as_completed` and `open_group`.

    Args:
        node: A node, or a plain function, of which a node is made.
        *args: Positional arguments of the node.
        **kwargs: Keyword arguments of the node.

    Returns:
        What the node returns.

    Raises:
        ContextError: If this task runs outside its session or outlived it, or is a system task of Trio's. Also if this
            would be a top-level call of a session that drains. The node has not run.
        NodeTimeoutError: If an attempt took longer than the node's timeout, and no further attempt follows.
        NodeCreationError: If a node cannot be made of `node`.
        RuntimeError: If Trio is not running.
        BaseException: Whatever the node raises, as the same object, with a note that names the path of nodes.
    """
    try:
        task = current_task()
    except RuntimeError as error:
        # A full stack is a RuntimeError, too.
        raise error if isinstance(error, RecursionError) else no_trio() from None
    parent = current_frame.get()
    if parent is None or (parent.task is not task and not parent.is_start_frame):
        parent = find_frame(task)
        if parent is None:
            return await _call_in_default_session(node, args, kwargs)
    attempt: Attempt | None = None
    target: Node[..., object]
    # Not `isinstance`: a proxy around a node says that it is of its class. And no `cast`, which would be a call of a
    # function in every call of a node.
    if type(node) in _NODES:
        target = node  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    elif type(node) is Attempt:
        # `_call_with_retry` calls an attempt in place of its node.
        target, attempt = node.node, node
    else:
        target = parent.scope.node_of(node)
    if not target.is_plain and attempt is None:
        return await _call_in_steps(parent, target, args, kwargs)
    scope = parent.scope
    # A draining session refuses new top-level calls. Not new are a call of a fan-out, which was admitted when it was
    # started, and a further attempt of a call that runs.
    if scope.is_draining and not parent.is_start_frame and (attempt is None or attempt.number == 1):
        parent.admit()
    if parent.depth >= _FRESH_STACK_EVERY:
        return await _call_on_a_fresh_stack(parent, task, target, attempt, args, kwargs)
    depth = parent.depth + 1
    if not depth:
        parent.mark_used()
    if scope.journal is not None:
        return await _call_durably(scope.journal, parent, task, target, attempt, args, kwargs, depth)
    tree, observers = scope.tree, scope.observers
    if observers.call_started:
        call_id = scope.open_told(target, parent, args, kwargs, attempt)
    else:
        call_id = tree.open(target, parent.call_id, args, kwargs, attempt)
    # The same as `Frame(...)`, written out: to call a class costs more than all that its `__init__` does.
    frame = _new_frame(Frame)
    frame.scope = scope
    frame.call_id = call_id
    frame.outer = parent
    frame.task = task
    frame.depth = depth
    frame.nursery_count = len(task.child_nurseries)
    frame.run_id = parent.run_id or call_id
    frame.slot = slot = parent.slot
    frame.strand = None
    token = current_frame.set(frame)
    if slot is not None:
        slot.lend()
    try:
        # Together a checkpoint. In a task that was just started for this call, its start was the schedule point.
        if depth:
            await cancel_shielded_checkpoint()
        await checkpoint_if_cancelled()
        if not target.is_direct:
            result = await run_attempt(frame, target, args, kwargs)
        elif kwargs:
            result = await target.fn(*args, **kwargs)
        else:  # The same, without an empty dictionary for each call.
            result = await target.fn(*args)
    except BaseException as error:
        frame.close(token)
        await _leave_with_error(error, parent, call_id, attempt, observers)  # noqa: ASYNC102 - shielded, or to be cancelled
        raise
    # The same as `frame.close`, written out: this is on the path of every call.
    frame.task = None
    current_frame.reset(token)
    if observers.call_completed:
        scope.complete_told(call_id, parent, result, observers)
    else:
        tree.complete(call_id, result)
    if slot is not None or not target.is_async:
        await _leave_with_result(slot, is_thread=not target.is_async)
    return result


# The same without its overloads, which know nothing of attempts.
_call: Final = cast("Callable[..., Coroutine[object, Never, object]]", call)


@enable_ki_protection
async def _call_in_default_session(node: object, args: Args, kwargs: Kwargs) -> object:
    async with open_default_session():
        return await _call(node, *args, **kwargs)


@enable_ki_protection
async def _leave_with_result(slot: WorkerSlot | None, *, is_thread: bool) -> None:
    """End a call that has a result and has to do with worker threads.

    Args:
        slot: The slot of the worker thread that made this call and waits for it; the thread needs its slot back.
        is_thread: Whether the node of this call ran in a worker.
    """
    if slot is not None:
        await slot.take_back()
    if is_thread:
        # A worker thread cannot be stopped, so it may return a result after the session was cancelled. The cancel wins.
        await checkpoint_if_cancelled()


@enable_ki_protection
async def outcome_of(node: Node[..., object] | Attempt, args: Args, kwargs: Kwargs) -> Outcome:
    """Make a call, or one attempt of a call, and return the pair of its result and its error, one of them `None`.

    The caller decides whether the error is raised or kept. An error holds the stack frames that it passed through. It
    is caught in here so that none of these frames holds the error: that would be a reference cycle.
    """
    try:
        return await _call(node, *args, **kwargs), None
    except BaseException as error:  # noqa: ASYNC103, BLE001 - the caller decides what is raised
        return None, error  # noqa: ASYNC104 - the same


@enable_ki_protection
async def _leave_with_error(
    error: BaseException, parent: Frame, call_id: int, attempt: Attempt | None, observers: Observers
) -> None:
    """End a call that raised: close its record, and if the error ends the session see to that it is not caught.

    An error that ends the session could be caught by an `except Exception` of a parent node, which would then go on. So
    the call waits for the session's `Cancelled` instead of raising it, and the session raises the error at its end.

    The body of the session has no parent node. It hears of the error: its own call raises that, also in place of the
    `Cancelled` if the error came out of a call inside. The session is cancelled all the same.
    """
    real = without_cancelled(error)
    is_tried_again = attempt is not None and attempt.is_worth_another(error)
    tree = parent.scope.tree
    tree.hold(call_id)
    is_to_wait = _close_record(error, real, parent, call_id, observers, is_tried_again=is_tried_again)
    tree.let_go()
    heard: BaseException | None = None
    try:
        if parent.slot is not None:
            await parent.slot.take_back()
        if parent.is_body:
            heard = None if is_tried_again else parent.scope.record.ending.hear(call_id, real)
            if heard is not None and heard is not error:
                raise_unchanged(heard)
        elif is_to_wait:
            await trio.sleep_forever()
    finally:
        # What is raised from here has this stack frame in its traceback: without the `del` that is a reference cycle.
        del heard, real, error


def _is_lost(error: BaseException) -> TypeGuard[WorkerLostError]:
    # `isinstance` would ask the error for its class, which may be a property that does anything.
    return type(error) is WorkerLostError


def _close_record(
    error: BaseException,
    real: BaseException | None,
    parent: Frame,
    call_id: int,
    observers: Observers,
    *,
    is_tried_again: bool,
) -> bool:
    """Close the record of a call that raised, and end the session if the error is to end it.

    That is a fatal error, or in a session with `end_on_error` any other, unless another attempt of the call follows.

    Nothing here may await: a `Cancelled` can be in flight, and the record must be closed before any other code sees it
    (test_cancellation.py::test_a_record_is_closed_before_the_error_goes_on).

    Returns:
        Whether the error ends the session and the session's cancel reaches this task.
    """
    scope = parent.scope
    # Ctrl-C is no failure of the call that it happens to strike.
    if real is None or holds(real, KeyboardInterrupt):
        scope.tree.cancel(call_id)
        kind, audience = EventKind.CALL_CANCELLED, observers.call_cancelled
    else:
        told = describe_once(error, lambda: scope.tree.path(call_id), scope.tree.secrets.told)
        is_lost = _is_lost(real) and real.node == scope.tree.name(call_id)
        # The calls around it fail: they run here.
        (scope.tree.lose if is_lost else scope.tree.fail)(call_id, told)
        if is_tried_again:
            kind, audience = EventKind.CALL_RETRIED, observers.call_retried
        else:
            kind, audience = EventKind.CALL_FAILED, observers.call_failed
    scope.tell(kind, audience, parent, call_id)
    note_cancelled(parent, call_id, was_open=real is None)
    if real is None or is_tried_again:
        return False
    if not (is_fatal(real) or (scope.end_on_error and is_ordinary(real))):
        return False
    # In a shielded scope the session's cancel does not reach this task, and waiting for it would never end. Then the
    # error is raised here, and the session ends all the same.
    try:
        return scope.control.end(real, parent.run_id or call_id) and trio.current_effective_deadline() == -math.inf
    finally:
        # As in `Cancellation.end`: no reference cycle.
        del real, error


@enable_ki_protection
async def _call_durably(  # noqa: PLR0917 - what a call is made of
    journal: SessionJournal[Frame],
    parent: Frame,
    task: Task,
    node: Node[..., object],
    attempt: Attempt | None,
    args: Args,
    kwargs: Kwargs,
    depth: int,
) -> object:
    """Make a call of a durable session: return or raise its recorded outcome, or run the node and record its outcome.

    The steps and their order are those of `call`. A flow that runs inside a durable session is a call made here, too.
    """
    scope, slot = parent.scope, parent.slot
    tree = scope.tree
    call_id = tree.open(node, parent.call_id, args, kwargs, attempt)
    durable = await journal.enter(parent, node, 1 if attempt is None else attempt.number, args, kwargs)
    observers = scope.observers
    if durable.past is not None:
        for _ in tree.recall(call_id, durable.past):
            # Many calls were made in it. No cancellation point: it is over in the record.
            await cancel_shielded_checkpoint()
    if durable.is_replayed:
        observers = NOBODY
    scope.tell(EventKind.CALL_STARTED, observers.call_started, parent, call_id)
    frame = Frame(scope, call_id, parent, task, depth, len(task.child_nurseries), parent.run_id or call_id, slot)
    frame.enter_strand(durable.strand)
    token = current_frame.set(frame)
    if slot is not None:
        slot.lend()
    try:
        await durable.pass_checkpoint(is_new_task=not depth)
        result = await durable.run(frame, args, kwargs)
    except BaseException as error:
        frame.close(token)
        journal.see(error)
        durable.left(error)
        await _leave_with_error(error, parent, call_id, attempt, observers)  # noqa: ASYNC102 - shielded, or to be cancelled
        raise
    frame.close(token)
    durable.left(None)
    scope.complete_told(call_id, parent, result, observers)
    # A result that is in the store must reach its caller, even if the session was cancelled meanwhile: a resume will
    # take it as delivered. So no cancellation point here.
    await _leave_with_result(slot, is_thread=not (node.is_async or durable.has_outcome))
    return result


@enable_ki_protection
async def _call_in_steps(parent: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    """Make the call of the node inside of a `functools.partial`, or the attempts of a node with `retry`."""
    if node.retry is None or node.core is not node:
        args, kwargs = node.passed(args, kwargs)
        return await _call(node.core, *args, **kwargs)
    return await _call_with_retry(parent, node, node.retry, args, kwargs)


@enable_ki_protection
async def _call_with_retry(parent: Frame, node: Node[..., object], retry: Retry, args: Args, kwargs: Kwargs) -> object:
    """Make the attempts of a call, each with a record of its own, and return or raise the outcome of the last one."""
    slot, journal = parent.slot, parent.scope.journal
    pause = trio.sleep if journal is None else partial(journal.pause, parent)
    if slot is not None:
        # The worker thread that makes this call waits during the pauses, too.
        slot.lend()
    try:
        with parent.scope.unrecorded_call(parent):
            result, error = await retry.outcome_of(
                lambda number: outcome_of(Attempt(node, number, retry), args, kwargs), pause
            )
    finally:
        if slot is not None:
            await slot.take_back()  # noqa: ASYNC102 - shielded in there
    if error is None:
        return result
    try:
        if journal is not None and journal.is_cut and not parent.scope.record.ending.is_heard(error):
            # The session is being ended, and so no further attempt was made. The error is then not the call's outcome:
            # a resumed session makes the next attempt. Let the session's `Cancelled` take its place.
            await checkpoint_if_cancelled()
        raise_unchanged(error)
    finally:
        # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
        del error


@enable_ki_protection
async def _call_on_a_fresh_stack(  # noqa: PLR0917 - what a call is made of
    parent: Frame, task: Task, node: Node[..., object], attempt: Attempt | None, args: Args, kwargs: Kwargs
) -> object:
    """Make a call in a new task, with an empty Python stack, under the caller's cancel scopes and context variables."""
    outcome: Outcome = (None, None)

    @enable_ki_protection
    async def run() -> None:
        nonlocal outcome
        own = trio.lowlevel.current_task()
        own.context = task.context
        # Trio enters a task's context at the start of each step, so pass on to the next step.
        await trio.lowlevel.cancel_shielded_checkpoint()
        token = current_frame.set(parent.fresh_stack_frame())
        outcome = await outcome_of(node if attempt is None else attempt, args, kwargs)
        current_frame.reset(token)

    try:
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - the task is the purpose
            nursery.start_soon(run, name=node.name)
    except BaseExceptionGroup as group:
        # `run` raises nothing, so this is the `KeyboardInterrupt` of a Ctrl-C while the main task waited here.
        outcome = (None, group.exceptions[0])
    result, error = outcome
    if error is None:
        return result
    try:
        # Raised outside of the nursery, which would wrap the error in a group.
        raise_unchanged(error)
    finally:
        # As above: no reference cycle.
        outcome = (None, None)
        del error
