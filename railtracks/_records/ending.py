"""Why a session ends, and what it raises: the first cause decides the status, and no error is lost.

Called by the cancellation and the final work of a session.
"""

from __future__ import annotations

from attrs import define, field

from railtracks._records.data import CauseKind, EndCause, Status
from railtracks._records.errors import bare, combined, is_cancelled, set_context
from railtracks.exceptions import SessionCancelledError, SessionTimeoutError

_STATUS = {
    None: Status.COMPLETED,
    CauseKind.ERROR: Status.FAILED,
    CauseKind.DEADLINE: Status.TIMED_OUT,
    CauseKind.CANCEL: Status.CANCELLED,
    CauseKind.OUTER_SCOPE: Status.CANCELLED,
    CauseKind.CTRL_C: Status.CANCELLED,
    CauseKind.SIGTERM: Status.CANCELLED,
}


@define(eq=False)
class Ending:
    """What is known about the end of one session.

    Attributes:
        label: What errors call the session.
        timeout: Its seconds.
        cause: The first cause.
        errors: The errors that reached the session, in their order; no `Cancelled`.
        status: What the session ended as, once that is decided.
    """

    label: str
    timeout: float
    cause: EndCause | None = None
    errors: list[BaseException] = field(factory=list[BaseException])
    status: Status = Status.RUNNING

    def rename(self, before: str, identifier: str) -> None:
        """Follow a change of the session's identifier, if that is what errors call the session."""
        if self.label == before:
            self.label = identifier

    @property
    def kind(self) -> CauseKind | None:
        """What the first cause was."""
        return None if self.cause is None else self.cause.kind

    def note(self, cause: EndCause) -> None:
        """Note a cause if it is the first."""
        if self.cause is None and self.status is Status.RUNNING:
            self.cause = cause

    def add(self, error: BaseException, call_id: int | None) -> None:
        """Add an error, a cause if it is the first."""
        is_interrupt = isinstance(combined([error]), KeyboardInterrupt)
        self.note(EndCause(CauseKind.CTRL_C) if is_interrupt else EndCause(CauseKind.ERROR, call_id=call_id))
        self.errors.append(error)

    def decide(self, outside: BaseException | None) -> BaseException | None:
        """Decide the status and return what is to be raised.

        Args:
            outside: The `Cancelled` of a scope around the session, if one was cancelled before the session had unwound.
        """
        if outside is not None:
            self.note(EndCause(CauseKind.OUTER_SCOPE))
        self.status = _STATUS[self.kind]
        error = combined(self.errors)
        # The frames that raise the errors lead here.
        self.errors.clear()
        if self.kind is CauseKind.DEADLINE and not isinstance(error, KeyboardInterrupt):
            timeout_error = SessionTimeoutError(self.label, self.timeout)
            if error is not None:
                set_context(error, timeout_error)
            elif outside is None:
                return timeout_error
        return error or bare(outside)

    def told(self, raised: BaseException | None) -> BaseException | None:
        """Return the error that the records tell of; of a `Cancelled` they tell nothing, it quotes other errors."""
        if raised is not None and not is_cancelled(raised):
            return raised
        if self.cause is not None and self.kind in {CauseKind.CANCEL, CauseKind.SIGTERM}:
            return SessionCancelledError(self.cause.reason)
        return SessionTimeoutError(self.label, self.timeout) if self.kind is CauseKind.DEADLINE else None
