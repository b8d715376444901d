"""A call that runs side by side with its starter; a nursery for such calls, and the block around it.

An error of a call never goes through Trio's nursery, which would wrap it in a group: the task keeps it, cancels the
rest, and it is raised when all have ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Self, TypeVar, cast

import trio

from railtracks._calls.call import open_default_session, outcome_of
from railtracks._calls.durable_protocol import Args, Kwargs
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import frame_here
from railtracks._nodes.node import Node
from railtracks._nodes.retry import Outcome
from railtracks._records.data import Status
from railtracks._records.errors import bare, came_from_cleanup, combined, raise_unchanged, without_cancelled
from railtracks.exceptions import PendingCallError

R_co = TypeVar("R_co", covariant=True)


class PendingCall(Generic[R_co]):
    """A call that runs side by side with its starter."""

    __slots__ = (
        "__weakref__",
        "_args",
        "_cancel_scope",
        "_ended",
        "_error",
        "_kwargs",
        "_node",
        "_reason",
        "_result",
        "_status",
    )

    def __init__(self, node: Node[..., R_co], args: Args, kwargs: Kwargs) -> None:
        self._node = node
        self._args = args
        self._kwargs = kwargs
        self._cancel_scope = trio.CancelScope()
        self._ended: trio.Event | None = None
        self._status = Status.RUNNING
        self._result: R_co | None = None
        self._error: BaseException | None = None
        self._reason: str | None = None

    def __repr__(self) -> str:
        return f"<railtracks.PendingCall of {self._node.name!r}: {self._status}>"

    @property
    def status(self) -> Status:
        """Where the call stands."""
        return self._status

    @property
    def node_name(self) -> str:
        """The name of the node."""
        return self._node.name

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments: of `as_completed`, the input."""
        return self._args

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The keyword arguments."""
        return self._kwargs

    def result(self) -> R_co:
        """Return what the node returned, or raise what it raised.

        Raises:
            PendingCallError: If the call is still running or was cancelled.
        """
        if self._status is Status.COMPLETED:
            return cast("R_co", self._result)
        if self._error is not None:
            raise self._error
        raise PendingCallError(self._node.name, str(self._status), self._reason)

    async def wait(self) -> None:
        """Wait until the call has ended, in whatever way; raises nothing of the call's own. A checkpoint."""
        if self._status is not Status.RUNNING:
            await trio.lowlevel.checkpoint()
            return
        if self._ended is None:
            self._ended = trio.Event()
        await self._ended.wait()

    def cancel(self, reason: str | None = None) -> None:
        """Cancel this call and nothing else. Does nothing to one that has ended.

        Args:
            reason: What `result` will say about it.
        """
        if self._status is Status.RUNNING and not self._cancel_scope.cancel_called:
            self._reason = reason
            self._cancel_scope.cancel()

    def take_args(self, args: Args) -> None:
        """Set the positional arguments of a call that had to wait before they were drawn."""
        self._args = args

    def explain(self, reason: str | None) -> None:
        """Set why the call was cancelled, unless it was cancelled by `cancel`."""
        if self._status is Status.CANCELLED and not self._cancel_scope.cancel_called:
            self._reason = reason

    async def run(self, landing: Frame, limiter: trio.CapacityLimiter | None = None) -> BaseException | None:
        """Make the call in a task that was just started for it; return its error.

        Raises nothing but the `Cancelled` of a scope around it. With a limiter the call waits for a slot first.
        """
        status = Status.CANCELLED
        try:
            with self._cancel_scope:
                current_frame.set(landing)
                if limiter is None:
                    result, error = await outcome_of(self._node, self._args, self._kwargs)
                else:
                    result, error = await self._outcome_within(limiter, landing)
                # Inside the scope, which would take its `Cancelled` out of a group and leave a group of the rest.
                self._error = None if error is None else without_cancelled(error)
                if error is not None and self._error is None:
                    raise_unchanged(error)
                self._result = cast("R_co", result)
                status = Status.COMPLETED if error is None else Status.FAILED
        finally:
            self._status = status
            if self._ended is not None:
                self._ended.set()
        return self._error

    async def _outcome_within(self, limiter: trio.CapacityLimiter, landing: Frame) -> Outcome:
        with landing.scope.promise(landing):
            journal = landing.scope.journal
            if journal is not None and not await journal.needs_slot(landing):
                return await outcome_of(self._node, self._args, self._kwargs)
            await limiter.acquire_on_behalf_of(self)
            try:
                return await outcome_of(self._node, self._args, self._kwargs)
            finally:
                limiter.release_on_behalf_of(self)


async def leave(cm: AbstractAsyncContextManager[object], error: BaseException | None) -> BaseException | None:
    """Leave the block of a context manager with an error, or with none; return what comes out instead of raising."""
    try:
        if await cm.__aexit__(None if error is None else type(error), error, None):
            return None
    except BaseException as raised:  # noqa: ASYNC103, BLE001 - handed on, for the caller to decide what is raised
        return raised  # noqa: ASYNC104 - the same
    return error


class CallNursery:
    """A nursery whose tasks are calls.

    The first error, of a call or of the block, cancels the rest. What is raised is the one error, or a group if there
    are several; `Cancelled` beside an error is dropped, alone it goes on.

    Attributes:
        reason: Why its calls were cancelled, if it was by one of these errors and not from outside.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._opened = trio.open_nursery()
        self._errors: list[BaseException] = []
        self._nursery: trio.Nursery

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around all of its calls."""
        return self._nursery.cancel_scope

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Self:
        self._nursery = await self._opened.__aenter__()
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        real = None if error is None else without_cancelled(error)
        if real is not None:
            self.fail(real)
        rest = await leave(self._opened, error if real is None else None)  # noqa: ASYNC102 - waits as a nursery does
        interrupt = None if rest is None else without_cancelled(rest)
        if interrupt is not None:
            self._errors.append(interrupt)
        raised = combined(self._errors) or bare(rest)
        # It would stand in the frame of its own traceback.
        self._errors.clear()
        try:
            if raised is not None and raised is not error:
                raise_unchanged(raised)
            return raised is None
        finally:
            # This frame is among those that the error holds.
            del raised, real, error, rest, interrupt

    def fail(self, error: BaseException, whose: str = "the block around it") -> None:
        """Cancel everything, and raise this when all have ended."""
        self.keep(error)
        if trio.current_effective_deadline() != -math.inf:
            self.reason = f"{whose} failed"
        self._nursery.cancel_scope.cancel()

    def keep(self, error: BaseException) -> None:
        """Raise this when all have ended, and cancel nothing."""
        self._errors.append(error)

    @property
    def start_soon(self) -> Callable[..., None]:
        """Start a task, as Trio's nurseries do."""
        return self._nursery.start_soon


class CallBlock:
    """A block with a nursery for calls, and where there is no session around it one that it is made in."""

    nursery: CallNursery

    def __init__(self) -> None:
        self._opened: list[AbstractAsyncContextManager[object]] = []

    async def open(self) -> Frame:
        """Return the call, or the session, whose calls the block makes."""
        frame = frame_here()
        if frame is None:
            session = open_default_session()
            await session.__aenter__()
            self._opened.append(session)
            frame = cast("Frame", current_frame.get())
        self.nursery = CallNursery()
        await self.nursery.__aenter__()
        self._opened.append(self.nursery)
        return frame

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


def can_be_handed_out(error: BaseException) -> bool:
    """Return whether an error of a call may be handed out as its result, to be looked at later.

    Not an error that ends the program, such as `KeyboardInterrupt`. Nor an error of the cleanup after a cancel: the
    code that would look at it is cancelled.
    """
    if not isinstance(error, Exception):
        return False
    return trio.current_effective_deadline() != -math.inf or not came_from_cleanup(error)
