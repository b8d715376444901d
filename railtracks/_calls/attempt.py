"""One attempt of a node that has a timeout or middleware, or runs in a worker: a thread, a process, or an executor.

Called by `_calls.call`, and by the calls of durable sessions. A node without any of these is awaited directly.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import trio
from trio.lowlevel import enable_ki_protection

from railtracks._calls.ctrl_c import users_code
from railtracks._calls.expiry import note_cancelled, waited
from railtracks._calls.frames import Frame
from railtracks._calls.identity import with_identity
from railtracks._calls.middleware import run_with_middleware
from railtracks._nodes.node import Node
from railtracks._records.error_parts import set_context
from railtracks._records.errors import (
    came_from_cleanup,
    is_cancelled,
    raise_cancelled,
    raise_unchanged,
    without_cancelled,
)
from railtracks._records.open_calls import Expiry
from railtracks._workers.node_threads import run_in_thread
from railtracks._workers.threads import WorkerSlot
from railtracks.exceptions import NodeTimeoutError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from railtracks._calls.durable_values import Args, Kwargs


@enable_ki_protection
async def run_attempt(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    """Run the function of a node, in a worker if it is sync, with its middleware around it, within the node's timeout.

    Raises:
        NodeTimeoutError: If the node's own timeout ended it.
        BaseException: What the function raises. An error that it raised while the timeout cancelled it gets the
            `NodeTimeoutError` as its `__context__`.
    """
    if node.timeout is None:
        return await _run(frame, node, args, kwargs)
    result: object = None
    error: BaseException | None = None
    is_late = False
    timeouts = frame.scope.record.ending.timeouts
    scope = trio.CancelScope(relative_deadline=node.timeout)
    expiry = timeouts.begin(frame.call_id, scope, trio.current_time())
    with scope:
        try:
            result = await _run(frame, node, args, kwargs)
        except BaseException as raised:  # noqa: ASYNC103, BLE001 - `Cancelled` goes on, and so does the error, below
            error = without_cancelled(raised)
            if error is None:
                # To its scope: this one, which then catches it, or one outside.
                raise_cancelled(raised)
            if scope.cancel_called and came_from_cleanup(raised):
                # It comes from a cleanup that this timeout caused: say so.
                set_context(error, _timeout_error(frame, node.name, node.timeout, expiry))
            else:
                # An error that the function raised by itself, even if it came after the deadline.
                error = raised
        finally:
            del timeouts.running[frame.call_id]
        # The scope looks at the clock when it is asked: a node that has passed no checkpoint is late, too.
        is_late = scope.cancel_called
        if error is None and not is_late:
            return result
    if error is not None:
        try:
            # Not out of the scope: Trio would look into a group, which only its class can split.
            raise_unchanged(error)
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error
    if is_late:
        return await _come_back_late(frame, node, node.timeout, expiry, result)
    raise _timeout_error(frame, node.name, node.timeout, expiry)


async def _come_back_late(
    frame: Frame, node: Node[..., object], seconds: float, expiry: Expiry, result: object
) -> object:
    """End an attempt whose node came back with a result after its timeout.

    Raises:
        NodeTimeoutError: Unless a cancel from outside goes first.
    """
    if trio.current_effective_deadline() == -math.inf:
        # Such a node, like a worker thread, is not stopped by a cancel from outside, either. That cancel goes before
        # the timeout. The result of a thread is recorded: `call` passes a checkpoint before it returns that, and there
        # the cancel takes effect.
        if node.is_async:
            await trio.lowlevel.checkpoint_if_cancelled()
        return result
    if node.is_async:
        frame.scope.overran(frame)
    raise _timeout_error(frame, node.name, seconds, expiry)


async def _run(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    if node.middleware:
        return await run_with_middleware(frame, node, partial(_run_function, frame, node), args, kwargs)
    return await _run_function(frame, node, args, kwargs)


async def _run_function(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    if node.is_async:
        return await users_code(node.fn, *args, **kwargs)
    return await _run_in_worker(frame, node, args, kwargs)


async def _run_in_worker(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    scope = frame.scope
    if node.run_in == "process":
        # A cancel kills the process at once, so no warning has to name this node as one that delays the end.
        return await _run_in_process(frame, node, args, kwargs)
    if node.abandon_on_cancel:
        return await _run_abandonable(frame, node, args, kwargs)
    # From here on a cancelled session may have to wait for this worker: the log will name the node.
    scope.control.watch()
    scope.workers[frame] = node.name
    try:
        if node.run_in is not None:
            return await _run_in_executor(frame, node, args, kwargs, None)
        # The calls that the thread makes find the slot in the frame, and lend it to others while the thread waits.
        slot = WorkerSlot()
        frame.set_slot(slot)
        try:
            return await run_in_thread(slot, node.name, node.fn, args, kwargs)
        except trio.Cancelled:
            if not slot.was_held:
                _note_wait_for_thread(frame)
            raise
    finally:
        del scope.workers[frame]
        if not is_cancelled(sys.exception()):
            # A thread that was not stopped by a cancel. Of another call the cancel tells that it was open.
            note_cancelled(frame.outer or frame, frame.call_id, was_open=True)


async def _run_in_process(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    control, waits, call_id = frame.scope.control, frame.scope.record.ending.timeouts.waits, frame.call_id
    waits[call_id] = "until a worker process had started or was free"
    # Of a wait that a timeout ends its error tells. In any case `note_cancelled` takes it away.
    return await control.worker_processes().run(
        node, with_identity(frame, node.fn), args, kwargs, partial(waits.pop, call_id)
    )


def _timeout_error(frame: Frame, name: str, seconds: float, expiry: Expiry) -> NodeTimeoutError:
    return NodeTimeoutError(name, seconds, expiry.open_calls or waited(frame, seconds))


def _note_wait_for_thread(frame: Frame) -> None:
    frame.scope.record.ending.timeouts.waits[frame.call_id] = "until a worker thread was free"


async def _run_abandonable(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    """Run a sync function whose thread may go on after a cancel (`abandon_on_cancel=True`)."""

    def leave_behind() -> None:
        frame.scope.left_behind(frame, node.name)

    # Its call may end first, so such a thread cannot make calls, and has no slot to lend.
    frame.set_slot(None)
    if node.run_in is not None and node.run_in != "process":
        return await _run_in_executor(frame, node, args, kwargs, leave_behind)
    # Set by the worker thread, read by this task after a cancel. A thread that has not begun, or has ended by then, is
    # not left behind. A function that ends between the two is reported once too often, which does no harm.
    is_running = False

    def work() -> object:
        nonlocal is_running
        is_running = True
        try:
            return node.fn(*args, **kwargs)
        finally:
            is_running = False

    try:
        return await run_in_thread(None, node.name, work, (), {})
    except trio.Cancelled:
        if is_running:
            leave_behind()
        else:
            _note_wait_for_thread(frame)
        raise


async def _run_in_executor(
    frame: Frame,
    node: Node[..., object],
    args: Args,
    kwargs: Kwargs,
    leave_behind: Callable[[], object] | None,
) -> object:
    # Imported here because it imports concurrent.futures, which is slow; a program with an executor has it already.
    from railtracks._workers.executors import run_in_executor  # noqa: PLC0415

    executor = cast("Executor", node.run_in)
    return await run_in_executor(executor, node.name, with_identity(frame, node.fn), args, kwargs, leave_behind)
