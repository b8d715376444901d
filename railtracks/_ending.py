"""Why a session ends, and what it raises: the first cause decides the status, and no error is lost."""

from __future__ import annotations

from enum import Enum, auto

import trio
from attrs import define, field

from railtracks._errors import bare, combined, set_context
from railtracks._tree import Status
from railtracks.exceptions import SessionCancelledError, SessionTimeoutError


class Cause(Enum):
    """What can end a session before its time."""

    ERROR = auto()
    TIMEOUT = auto()
    CANCEL = auto()
    OUTSIDE = auto()
    INTERRUPT = auto()


_STATUS = {
    None: Status.COMPLETED,
    Cause.ERROR: Status.FAILED,
    Cause.TIMEOUT: Status.TIMED_OUT,
    Cause.CANCEL: Status.CANCELLED,
    Cause.OUTSIDE: Status.CANCELLED,
    Cause.INTERRUPT: Status.CANCELLED,
}


@define(eq=False)
class Ending:
    """What is known about the end of one session.

    Attributes:
        label: What errors call the session.
        timeout: Its seconds.
        cause: The first cause.
        reason: What `Session.cancel` was given.
        errors: The errors that reached the session, in their order; no `Cancelled`.
        status: What the session ended as, once that is decided.
    """

    label: str
    timeout: float
    cause: Cause | None = None
    reason: str | None = None
    errors: list[BaseException] = field(factory=list[BaseException])
    status: Status = Status.RUNNING

    def note(self, cause: Cause) -> bool:
        """Note a cause; say whether it is the first."""
        if self.cause is not None or self.status is not Status.RUNNING:
            return False
        self.cause = cause
        return True

    def note_cancel(self, scope: trio.CancelScope) -> None:
        """Note, if nothing is known yet, whose cancel reached the session that has this scope."""
        if not scope.cancel_called:
            self.note(Cause.OUTSIDE)
        elif trio.current_time() >= scope.deadline:
            self.note(Cause.TIMEOUT)
        else:
            self.note(Cause.CANCEL)

    def add(self, error: BaseException) -> None:
        """Add an error, a cause if it is the first."""
        self.note(Cause.INTERRUPT if isinstance(combined([error]), KeyboardInterrupt) else Cause.ERROR)
        self.errors.append(error)

    def decide(self, outside: BaseException | None) -> BaseException | None:
        """Decide the status and return what is to be raised.

        Args:
            outside: The `Cancelled` of a scope around the session, if one was cancelled before the session had unwound.
        """
        if outside is not None:
            self.note(Cause.OUTSIDE)
        self.status = _STATUS[self.cause]
        error = combined(self.errors)
        # The frames that raise the errors lead here.
        self.errors.clear()
        if self.cause is Cause.TIMEOUT and not isinstance(error, KeyboardInterrupt):
            timeout_error = SessionTimeoutError(self.label, self.timeout)
            if error is not None:
                set_context(error, timeout_error)
            elif outside is None:
                return timeout_error
        return error or bare(outside)

    def told(self, raised: BaseException | None) -> BaseException | None:
        """Return the error that the records tell of; of a `Cancelled` they tell nothing, it quotes other errors."""
        if raised is not None and not isinstance(raised, trio.Cancelled):
            return raised
        if self.cause is Cause.CANCEL:
            return SessionCancelledError(self.reason)
        return SessionTimeoutError(self.label, self.timeout) if self.cause is Cause.TIMEOUT else None
