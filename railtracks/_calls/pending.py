"""Pending calls, which run side by side with the code that started them, and a nursery for them.

Called by `call_batch`, `open_group`, `as_completed`, and the background calls of sessions.

The error of a call never passes through Trio's nursery, which would wrap it in a group. The task of the call hands it
to the `CallNursery`, which cancels the other calls and raises the error when all have ended.
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
from railtracks._records.errors import bare, came_from_cleanup, combined, raise_unchanged, without_cancelled
from railtracks._records.tree import Status
from railtracks.exceptions import PendingCallError

R_co = TypeVar("R_co", covariant=True)


class PendingCall(Generic[R_co]):
    """A call that runs side by side with the code that started it.

    Returned by the `start_soon` of groups and sessions, by `Session.start_service`, and by the iterator of
    `as_completed`. Users do not construct it.
    """

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
        """The state of the call: running (also while it waits for a slot), completed, failed or cancelled."""
        return self._status

    @property
    def node_name(self) -> str:
        """The name of the node, as in records."""
        return self._node.name

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments. In `as_completed` these are the input of the call."""
        return self._args

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The keyword arguments."""
        return self._kwargs

    def result(self) -> R_co:
        """Return what the node returned, or raise what it raised. Does not wait.

        Raises:
            PendingCallError: If the call is still running or was cancelled; its `reason` tells why it was cancelled.
            BaseException: The error of the node, as the same object each time.
        """
        if self._status is Status.COMPLETED:
            return cast("R_co", self._result)
        if self._error is not None:
            raise self._error
        raise PendingCallError(self._node.name, str(self._status), self._reason)

    async def wait(self) -> None:
        """Wait until the call has ended, whether it completed, failed or was cancelled.

        A checkpoint. Does not raise the error of the call, and cancelling the wait does not cancel the call.
        """
        if self._status is not Status.RUNNING:
            await trio.lowlevel.checkpoint()
            return
        if self._ended is None:
            self._ended = trio.Event()
        await self._ended.wait()

    def cancel(self, reason: str | None = None) -> None:
        """Cancel this call and no other. Does nothing if the call has ended.

        Returns at once: the call may go on until its next checkpoint, see `wait`.

        Args:
            reason: The text that `result` will give as the reason.
        """
        if self._status is Status.RUNNING and not self._cancel_scope.cancel_called:
            self._reason = reason
            self._cancel_scope.cancel()

    def take_args(self, args: Args) -> None:
        """Set the positional arguments, of a call that waited for a slot before its input was drawn."""
        self._args = args

    def explain(self, reason: str | None) -> None:
        """Set the reason of a call that was cancelled with its nursery. A reason given to `cancel` stays."""
        if self._status is Status.CANCELLED and not self._cancel_scope.cancel_called:
            self._reason = reason

    async def run(self, start_frame: Frame, limiter: trio.CapacityLimiter | None = None) -> BaseException | None:
        """Make the call, in a task that was just started for it.

        With a limiter, wait for a slot first. Raises nothing but the `Cancelled` of a scope around the task.

        Args:
            start_frame: The frame of the call's parent, see `Frame.start_frame`.
            limiter: The limiter of the call's group.

        Returns:
            The error of the call, `None` if it completed or was cancelled by `cancel`.
        """
        status = Status.CANCELLED
        try:
            with self._cancel_scope:
                current_frame.set(start_frame)
                if limiter is None:
                    result, error = await outcome_of(self._node, self._args, self._kwargs)
                else:
                    result, error = await self._outcome_within(limiter, start_frame)
                # This must stay inside the scope. A cancel can leave a group of a `Cancelled` and a real error. The
                # scope would remove the `Cancelled` and let a group with one member out; here the error itself is kept.
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

    async def _outcome_within(self, limiter: trio.CapacityLimiter, start_frame: Frame) -> Outcome:
        # The call has no record until its turn: a drain must wait for it all the same.
        with start_frame.scope.unrecorded_call(start_frame):
            journal = start_frame.scope.journal
            if journal is not None and not await journal.needs_slot(start_frame):
                return await outcome_of(self._node, self._args, self._kwargs)
            await limiter.acquire_on_behalf_of(self)
            try:
                return await outcome_of(self._node, self._args, self._kwargs)
            finally:
                limiter.release_on_behalf_of(self)


async def leave(cm: AbstractAsyncContextManager[object], error: BaseException | None) -> BaseException | None:
    """Leave the block of a context manager with an error or with none, and return the error that comes out of it."""
    try:
        if await cm.__aexit__(None if error is None else type(error), error, None):
            return None
    except BaseException as raised:  # noqa: ASYNC103, BLE001 - handed on, for the caller to decide what is raised
        return raised  # noqa: ASYNC104 - the same
    return error


class CallNursery:
    """A nursery whose tasks are calls.

    The first error, of a call or of the block, cancels the rest. When all calls have ended, one error is raised bare,
    several as a group. A `Cancelled` beside an error is dropped; a `Cancelled` alone goes on.

    Attributes:
        reason: Why its calls were cancelled, if an error did so. `None` if the cancel came from outside.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._opened = trio.open_nursery()
        self._errors: list[BaseException] = []
        self._nursery: trio.Nursery

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The cancel scope around all of its calls."""
        return self._nursery.cancel_scope

    # Ctrl-C must not strike between the two halves of entering or leaving: the nursery would stay open.

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Self:
        self._nursery = await self._opened.__aenter__()
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        real = None if error is None else without_cancelled(error)
        if real is not None:
            self.fail(real)
        # Only `Cancelled` passes through Trio's nursery; a real error waits in `_errors`.
        rest = await leave(self._opened, error if real is None else None)  # noqa: ASYNC102 - waits as a nursery does
        # The tasks hand their errors over, so a real error out of the nursery is a Ctrl-C that struck while it waited.
        interrupt = None if rest is None else without_cancelled(rest)
        if interrupt is not None:
            self._errors.append(interrupt)
        raised = combined(self._errors) or bare(rest)
        # `self` is in the stack frames that the raised error will hold: a reference from here would be a cycle.
        self._errors.clear()
        try:
            if raised is not None and raised is not error:
                raise_unchanged(raised)
            return raised is None
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del raised, real, error, rest, interrupt

    def fail(self, error: BaseException, failed: str = "the block around it") -> None:
        """Cancel all calls, and raise the error when they have ended.

        Args:
            error: The error.
            failed: What has failed, for the `reason` of the calls that are cancelled.
        """
        self.keep(error)
        # Once a cancel from outside has struck, that is the reason, and not an error of the cleanup after it.
        if trio.current_effective_deadline() != -math.inf:
            self.reason = f"{failed} failed"
        self._nursery.cancel_scope.cancel()

    def keep(self, error: BaseException) -> None:
        """Raise the error when all calls have ended, and cancel nothing."""
        self._errors.append(error)

    @property
    def start_soon(self) -> Callable[..., None]:
        """The `start_soon` of Trio's nursery."""
        return self._nursery.start_soon


class CallBlock:
    """The context manager of a block with a `CallNursery`; without a session around it, it opens a default session."""

    nursery: CallNursery

    def __init__(self) -> None:
        self._opened: list[AbstractAsyncContextManager[object]] = []

    async def open(self) -> Frame:
        """Enter the session, if one is needed, and the nursery; return the frame that is the parent of the calls."""
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
            # As in `CallNursery`: no reference cycle.
            del left, error


def can_be_handed_out(error: BaseException) -> bool:
    """Return whether the error of a call may be given to the user as its outcome, instead of being raised.

    An error that ends the program, such as `KeyboardInterrupt`, must be raised. So must an error of the cleanup after a
    cancel from outside: the code that would look at the outcome is cancelled, so the error would be lost.
    """
    if not isinstance(error, Exception):
        return False
    return trio.current_effective_deadline() != -math.inf or not came_from_cleanup(error)
