"""One attempt of a node that takes more than an `await`: its timeout, and the worker that a sync function runs in.

Called by `call`, and by the calls of durable sessions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import trio

from railtracks._calls.durable_protocol import Args, Kwargs
from railtracks._calls.frames import Frame
from railtracks._calls.identity import identified
from railtracks._nodes.node import Node
from railtracks._records.errors import came_from_cleanup, raise_unchanged, set_context, without_cancelled
from railtracks._workers.threads import WorkerSlot, run_in_thread
from railtracks.exceptions import NodeTimeoutError

if TYPE_CHECKING:
    from concurrent.futures import Executor


async def run_attempt(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    """Run a node that has a timeout or runs in a worker.

    Raises:
        NodeTimeoutError: If the node's own timeout was what ended it.
    """
    if node.timeout is None:
        return await _run_in_worker(frame, node, args, kwargs)
    result: object = None
    with trio.CancelScope(relative_deadline=node.timeout) as scope:
        try:
            if node.is_async:
                return await node.fn(*args, **kwargs)
            result = await _run_in_worker(frame, node, args, kwargs)
        except BaseException as error:  # noqa: ASYNC103 - goes on in either branch
            real = without_cancelled(error)
            if real is None or not (scope.cancel_called and came_from_cleanup(error)):
                raise
            set_context(real, NodeTimeoutError(node.name, node.timeout))
            raise_unchanged(real)
        if not scope.cancel_called:
            return result
    if not node.is_async and trio.current_effective_deadline() == -math.inf:
        # A thread cannot be stopped: who cancelled it from outside meanwhile comes first, at the next checkpoint.
        return result
    raise NodeTimeoutError(node.name, node.timeout)


async def _run_in_worker(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    scope = frame.scope
    if node.run_in == "process":
        # A process is killed: it keeps nobody waiting.
        return await scope.control.worker_processes().run(node.name, identified(frame, node.fn), args, kwargs)
    if node.abandon_on_cancel:
        return await _run_abandonable(frame, node, args, kwargs)
    scope.control.watch()
    scope.workers[frame] = node.name
    try:
        if node.run_in is not None:
            return await _run_in_executor(frame, node, args, kwargs, None)
        slot = WorkerSlot()
        frame.occupy(slot)
        return await run_in_thread(slot, node.name, node.fn, args, kwargs)
    finally:
        del scope.workers[frame]


async def _run_abandonable(frame: Frame, node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    def leave_behind() -> None:
        frame.scope.left_behind(frame, node.name)

    # Such a thread can make no calls, so it has no slot to lend.
    frame.occupy(None)
    if node.run_in is not None and node.run_in != "process":
        return await _run_in_executor(frame, node, args, kwargs, leave_behind)
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
        raise


async def _run_in_executor(
    frame: Frame,
    node: Node[..., object],
    args: Args,
    kwargs: Kwargs,
    leave_behind: Callable[[], object] | None,
) -> object:
    # A program that has an executor has imported this already; no other program has to wait for the import.
    from railtracks._workers.executors import run_in_executor  # noqa: PLC0415

    executor = cast("Executor", node.run_in)
    return await run_in_executor(executor, node.name, identified(frame, node.fn), args, kwargs, leave_behind)
