"""Pending calls, which run side by side with the code that started them.

Called by `call_batch`, `open_group`, `as_completed`, and the background calls of sessions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import trio
from trio.lowlevel import enable_ki_protection

from railtracks._calls.call import outcome_of
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import with_slot_lent
from railtracks._calls.late_slots import LateSlot
from railtracks._nodes.node import Node
from railtracks._records.ends import Status
from railtracks._records.error_parts import text_of
from railtracks._records.errors import holds, raise_cancelled, without_cancelled
from railtracks.exceptions import PendingCallError

if TYPE_CHECKING:
    from railtracks._calls.durable_values import Args, Kwargs
    from railtracks._nodes.retry import Outcome

R_co = TypeVar("R_co", covariant=True)

# Trio's nursery takes it for that of its own scope, which it cancels for any error of a task, and drops it.
STALE: Final = "nothing has cancelled it, and it raised a trio.Cancelled that it had kept from an earlier cancel"


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
        return self._node.passed(self._args, self._kwargs)[0]

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The keyword arguments."""
        return self._node.passed(self._args, self._kwargs)[1]

    def result(self) -> R_co:
        """Return what the node returned, or raise what it raised. Does not wait.

        Raises:
            PendingCallError: If the call is still running or was cancelled; its `reason` tells why it was cancelled.
            BaseException: The error of the node, as the same object each time.
        """
        if self._status is Status.COMPLETED:
            return cast("R_co", self._result)
        if self._error is not None:
            try:
                raise self._error
            finally:
                # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
                del self
        raise PendingCallError(self._node.name, str(self._status), self._reason)

    @enable_ki_protection
    async def wait(self) -> None:
        """Wait until the call has ended, whether it completed, failed or was cancelled.

        A checkpoint. Does not raise the error of the call, and cancelling the wait does not cancel the call.
        """
        if self._status is not Status.RUNNING:
            await trio.lowlevel.checkpoint()
            return
        if self._ended is None:
            self._ended = trio.Event()
        await with_slot_lent(self._ended.wait)

    @enable_ki_protection
    def cancel(self, reason: str | None = None) -> None:
        """Cancel this call and no other. Does nothing if the call has ended.

        Returns at once: the call may go on until its next checkpoint, see `wait`.

        Args:
            reason: The text that `result` will give as the reason.
        """
        if self._status is Status.RUNNING and not self._cancel_scope.cancel_called:
            self._reason = None if reason is None else text_of(reason)
            self._cancel_scope.cancel()

    @property
    def given(self) -> Args:
        """The positional arguments as they were given, before a node under wrappers passes them on."""
        return self._args

    def take_args(self, args: Args) -> None:
        """Set the positional arguments, of a call that waited for a slot before its input was drawn."""
        self._args = args

    def explain(self, reason: str | None) -> None:
        """Set the reason of a call that was cancelled with its nursery. One that is known stays."""
        if self._status is Status.CANCELLED and self._reason is None and not self._cancel_scope.cancel_called:
            self._reason = reason

    @enable_ki_protection
    async def run(self, start_frame: Frame, limiter: trio.CapacityLimiter | None = None) -> BaseException | None:
        """Make the call, in a task that was just started for it.

        With a limiter, wait for a slot first. Raises nothing but the `Cancelled` of a scope around the task.

        Args:
            start_frame: The frame of the call's parent, see `Frame.start_frame`.
            limiter: The limiter of the call's group.

        Returns:
            The error of the call, `None` if it completed or was cancelled by `cancel`. A `PendingCallError` of a call
            with the status `cancelled` says that the node raised a `Cancelled` although nothing had cancelled it.
        """
        # This status stays if a cancel comes before the call has begun, or unwinds it; and after Ctrl-C.
        status = Status.CANCELLED
        error: BaseException | None = None
        kept: BaseException | None = None
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
                    # `Cancelled` alone: the scope that it belongs to catches it, this one or one around the task.
                    raise_cancelled(error)
                self._result = cast("R_co", result)
                if self._error is None:
                    status = Status.COMPLETED
                elif not holds(self._error, KeyboardInterrupt):
                    status = Status.FAILED
        except trio.Cancelled:  # noqa: ASYNC103 - one that no scope waits for is told as an error
            if trio.current_effective_deadline() == -math.inf:
                raise
            self._reason = STALE
            kept = PendingCallError(self._node.name, str(status), STALE)
        finally:
            # No await before this: a waiting task must find the status, the result and the error complete.
            self._status = status
            if self._ended is not None:
                self._ended.set()
            kept = kept if self._error is None else self._error
            # The error's traceback leads to this stack frame, on newer Pythons by way of `f_back`. With the error in
            # it, or with this call, which holds the error, that would be a reference cycle.
            del error, self
        try:
            return kept
        finally:
            del kept

    async def _outcome_within(self, limiter: trio.CapacityLimiter, start_frame: Frame) -> Outcome:
        # The call has no record until its turn: a drain must wait for it all the same.
        with start_frame.scope.unrecorded_call(start_frame):
            # The pending call is the borrower, not its task: with a feed, another task acquires the slot for it.
            slot, journal = LateSlot(limiter, self), start_frame.scope.journal
            try:
                if journal is None or await journal.needs_slot(start_frame, self._node):
                    await slot.take()
                else:
                    slot.begin(journal, start_frame)
                return await outcome_of(self._node, self._args, self._kwargs)
            finally:
                slot.end()
