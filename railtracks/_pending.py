"""A call that runs side by side with its starter, and a nursery for such calls.

An error of a call never goes through Trio's nursery, which would wrap it in a group: the task keeps it, cancels the
rest, and it is raised when all have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Self, TypeVar, cast

import trio

from railtracks._errors import bare, combined, raise_unchanged, without_cancelled
from railtracks._invoke import outcome_of
from railtracks._nodes import Node
from railtracks._scope import Frame, current_frame
from railtracks._tree import Status
from railtracks.exceptions import PendingCallError

R = TypeVar("R")


class PendingCall(Generic[R]):
    """A call that runs side by side with its starter."""

    __slots__ = ("__weakref__", "_cancel_scope", "_ended", "_error", "_node", "_reason", "_result", "_status")

    def __init__(self, node: Node[..., R]) -> None:
        self._node = node
        self._cancel_scope = trio.CancelScope()
        self._ended: trio.Event | None = None
        self._status = Status.RUNNING
        self._result: R | None = None
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

    def result(self) -> R:
        """Return what the node returned, or raise what it raised.

        Raises:
            PendingCallError: If the call is still running or was cancelled.
        """
        if self._status is Status.COMPLETED:
            return cast("R", self._result)
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

    async def run(
        self, parent: Frame, args: tuple[Any, ...], kwargs: dict[str, Any], fail: Callable[[BaseException], object]
    ) -> None:
        """Make the call in a task that was just started for it; an error is kept and handed to `fail`."""
        status = Status.CANCELLED
        try:
            with self._cancel_scope:
                current_frame.set(parent.landing())
                result, error = await outcome_of(self._node, args, kwargs)
                # Inside the scope, which would take its `Cancelled` out of a group and leave a group of the rest.
                self._error = None if error is None else without_cancelled(error)
                if error is not None and self._error is None:
                    raise_unchanged(error)
                self._result = result
                status = Status.COMPLETED if error is None else Status.FAILED
            if self._error is not None:
                # Out here the scopes are those of the one who is told: what reaches this task reaches them.
                fail(self._error)
        finally:
            self._status = status
            if self._ended is not None:
                self._ended.set()


async def leave(cm: AbstractAsyncContextManager[Any], error: BaseException | None) -> BaseException | None:
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
    """

    def __init__(self) -> None:
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

    def fail(self, error: BaseException) -> None:
        """Cancel everything, and raise this when all have ended."""
        self._errors.append(error)
        self._nursery.cancel_scope.cancel()

    @property
    def start_soon(self) -> Callable[..., None]:
        """Start a task, as Trio's nurseries do."""
        return self._nursery.start_soon
