"""A nursery whose tasks are calls, and the block around it.

Called by `call_batch`, `open_group` and `as_completed`; `leave` also by sessions, for their own nurseries.

The error of a call never passes through Trio's nursery, which would wrap it in a group. The task of the call hands it
to the `CallNursery`, which cancels the other calls and raises the error when all have ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Self, TypeVar, cast

import trio

from railtracks._blocks import AsyncBlock
from railtracks._calls.call import open_default_session
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import frame_here
from railtracks._records.errors import (
    bare,
    came_from_cleanup,
    combined,
    is_ordinary,
    raise_unchanged,
    without_cancelled,
)

T = TypeVar("T")


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
        rest = await leave(self._opened, bare(error) if real is None else None)  # noqa: ASYNC102 - waits as a nursery does
        # The tasks hand their errors over, so a real error out of the nursery is a Ctrl-C that struck while it waited.
        interrupt = None if rest is None else without_cancelled(rest)
        if interrupt is not None:
            self._errors.append(interrupt)
        # If the calls and a scope outside were cancelled together, the errors win over the `Cancelled` in `rest`.
        raised = combined(self._errors)
        if raised is None:
            raised = bare(rest)
        # `self` is in the stack frames that the raised error will hold: a reference from here would be a cycle.
        self._errors.clear()
        try:
            if raised is not None and raised is not error:
                raise_unchanged(raised)
            # `False` lets Python raise the error of the block itself, with its traceback as it is.
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
        # Trio's `Cancelled` of a waiting task leads to this stack frame: with the error in it, a reference cycle.
        del error
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


class CallBlock(AsyncBlock):
    """The context manager of a block with a `CallNursery`; without a session around it, it opens a default session."""

    nursery: CallNursery

    def __init__(self) -> None:
        self._opened: list[AbstractAsyncContextManager[object]] = []

    async def enter(self, make: Callable[[Frame], T]) -> T:
        """Enter the session, if one is needed, and the nursery; return what the block is entered with.

        Args:
            make: Makes that of the frame that is the parent of the calls. If it raises, what was entered is left.
        """
        try:
            return make(await self._open())
        except BaseException as error:
            await CallBlock.__aexit__(self, type(error), error, None)  # noqa: ASYNC102 - waits as a nursery does
            raise

    async def _open(self) -> Frame:
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
        # The nursery first, then the session; each gets what came out of the one before, as nested blocks would.
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
    if not is_ordinary(error):
        return False
    return trio.current_effective_deadline() != -math.inf or not came_from_cleanup(error)
