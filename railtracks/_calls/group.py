"""`rt.open_group`: calls of different nodes side by side. Called by users only."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Never, ParamSpec, TypeVar, overload

import trio

from railtracks._calls.frames import Frame
from railtracks._calls.inputs import FanOutSlots, limiter_of
from railtracks._calls.nursery import CallBlock, CallNursery, can_be_handed_out
from railtracks._calls.pending import PendingCall
from railtracks._checks import check_flag
from railtracks._nodes.node import Node
from railtracks._records.ends import Status

P = ParamSpec("P")
R = TypeVar("R")


class CallGroup:
    """A group of calls that run side by side. Made by `open_group`; open until that block is left."""

    def __init__(
        self, parent: Frame, nursery: CallNursery, limiter: trio.CapacityLimiter | None, *, keeps_errors: bool
    ) -> None:
        self._parent = parent
        self._keeps_errors = keeps_errors
        self._slots = FanOutSlots(parent, keeps_failures=keeps_errors)
        self._nursery = nursery
        self._limiter = limiter

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The cancel scope around all of its calls."""
        return self._nursery.cancel_scope

    @overload
    def start_soon(self, node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    @overload
    def start_soon(
        self, node: Callable[P, Coroutine[object, Never, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> PendingCall[R]: ...
    @overload
    def start_soon(self, node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    @trio.lowlevel.enable_ki_protection
    def start_soon(self, node: object, /, *args: object, **kwargs: object) -> PendingCall[object]:
        """Start a call in a task of its own, and return at once. Not a checkpoint.

        The call is a child of the call (or session) that opened the group, whatever task starts it.

        Args:
            node: A node, or a plain function.
            *args: Positional arguments of the node.
            **kwargs: Keyword arguments of the node.

        Raises:
            NodeCreationError: If a node cannot be made of `node`.
            ContextError: If it would be a top-level call of a session that drains.
            RuntimeError: If the block of the group was left.
        """
        parent = self._parent
        parent.admit()
        pending = PendingCall(parent.scope.node_of(node), args, kwargs)
        self._nursery.start_soon(self._run, pending, self._slots.next(), name=pending.node_name)
        return pending

    @trio.lowlevel.enable_ki_protection
    async def _run(self, pending: PendingCall[object], start_frame: Frame) -> None:
        nursery = self._nursery
        try:
            error = await pending.run(start_frame, self._limiter)
        finally:
            pending.explain(nursery.reason)
        try:
            # That of a cancelled call is no outcome that a user asked to keep.
            is_kept = self._keeps_errors and pending.status is Status.FAILED
            if error is not None and not (is_kept and can_be_handed_out(error)):
                nursery.fail(error, f"the call of {pending.node_name!r} beside it")
        finally:
            # The error's traceback leads to this stack frame, on newer Pythons by way of `f_back`. Without the `del`
            # that would be a reference cycle.
            del error, pending


def open_group(
    *, limit: float | trio.CapacityLimiter | None = None, return_exceptions: bool = False
) -> AbstractAsyncContextManager[CallGroup]:
    """Open a group for calls of different nodes side by side. Leaving its block waits for all of them.

    It fails like a nursery: the first error, of a call or of the block, cancels the rest. But one error is raised bare,
    and only several as an `ExceptionGroup`. A node that raises a `Cancelled` although nothing has cancelled it fails it
    with a `PendingCallError`. Without a session around it, it opens one for the block. Entering is not a
    checkpoint; leaving waits as a nursery does.

    Args:
        limit: How many of its calls may run at once, as in `call_batch`. The others wait and have no record yet. A call
            that is cancelled while it waits never gets a record.
        return_exceptions: Whether the exception of a failed call is only raised by the `result` of its `PendingCall`,
            and cancels nothing; the log has it as a warning. As in `call_batch`, this is not so for a cancel, nor for
            what an application may not catch.

    Raises:
        TypeError: If `limit` is neither a number nor a limiter, or `return_exceptions` is no bool.
        ValueError: If `limit` is less than 1.
        ContextError: When the block is entered, as from `call`.
        RuntimeError: When the block is entered, if Trio is not running.
    """
    check_flag("return_exceptions", return_exceptions)
    return _OpenGroup(limiter_of(limit), keeps_errors=return_exceptions)


class _OpenGroup(CallBlock):
    _shown_as = "rt.open_group()"

    def __init__(self, limiter: trio.CapacityLimiter | None, *, keeps_errors: bool) -> None:
        super().__init__()
        self._limiter = limiter
        self._keeps_errors = keeps_errors

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> CallGroup:
        return await self.enter(
            lambda parent: CallGroup(parent, self.nursery, self._limiter, keeps_errors=self._keeps_errors)
        )
