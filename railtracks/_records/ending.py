"""Why a session ends, and what it raises: the first cause decides the status, and no error is lost.

Called by the cancellation and the final work of a session.
"""

from __future__ import annotations

from railtracks._records.ends import CauseKind, EndCause, Status
from railtracks._records.error_parts import set_context
from railtracks._records.errors import bare, combined, is_cancelled, is_interrupt
from railtracks._records.open_calls import Timeouts
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


class Ending:
    """What is known about the end of one session.

    Attributes:
        label: What errors call the session: its name, its flow's name, or its identifier.
        timeout: Its timeout in seconds, infinite for none.
        cause: The first cause.
        errors: The errors that reached the session, in their order, without `Cancelled`.
        heard: Those of them that the body of the session has raised out of a call of its own, until `forget_heard`.
        status: `RUNNING` until `decide` says how the session ended.
        timeouts: The timeouts of the session and of its calls.
    """

    __slots__ = ("_first", "cause", "errors", "heard", "label", "status", "timeout", "timeouts")

    def __init__(self, label: str, timeout: float) -> None:
        self.label: str = label
        self.timeout: float = timeout
        self.cause: EndCause | None = None
        self.errors: list[BaseException] = []
        self.heard: list[BaseException] = []
        self.status: Status = Status.RUNNING
        self.timeouts: Timeouts = Timeouts()
        # The error that is the first cause, and the top-level call that it came out of.
        self._first: tuple[BaseException, int] | None = None

    def rename(self, before: str, identifier: str) -> None:
        """Replace the session's identifier, if errors call the session by it."""
        if self.label == before:
            self.label = identifier

    @property
    def kind(self) -> CauseKind | None:
        """The kind of the first cause, `None` if there is none."""
        return None if self.cause is None else self.cause.kind

    @property
    def is_cancel(self) -> bool:
        """Whether a cancel has ended the session, and no error, also if it can go on because it is durable."""
        cause = self.cause
        return cause is not None and self.status is not Status.RUNNING and _STATUS.get(cause.kind) is Status.CANCELLED

    def suspend(self, status: Status, kind: CauseKind | None, reason: str | None) -> None:
        """Note that the session can go on, because it is durable, after `decide` has said how it ended here.

        Args:
            status: `WAITING` or `INTERRUPTED`.
            kind: The kind of its cause, if that is known better than here.
            reason: The text of the error that has ended it, if one has.
        """
        cause = self.cause
        self.status = status
        if cause is not None and cause.kind is CauseKind.ERROR:
            self.cause = EndCause(kind or cause.kind, reason, cause.call_id)

    def note(self, cause: EndCause) -> None:
        """Record a cause, if there is none yet and the session has not ended."""
        if self.cause is None and self.status is Status.RUNNING:
            self.cause = cause

    def add(self, error: BaseException, call_id: int | None, run_id: int = 0) -> None:
        """Add an error that reached the session, and record it as the cause if there is none yet.

        Args:
            error: The error, no `Cancelled`.
            call_id: The innermost call that it came out of, `None` if it came from the body of the session.
            run_id: The top-level call that it ended the session from, 0 if no call did.
        """
        if self.cause is None and run_id:
            self._first = error, run_id
        by_user = is_interrupt(combined([error]))
        self.note(EndCause(CauseKind.CTRL_C) if by_user else EndCause(CauseKind.ERROR, call_id=call_id))
        self.errors.append(error)

    def hear(self, run_id: int, error: BaseException | None) -> BaseException | None:
        """Return the error of the session that its body hears of as a call of its own ends, `None` if there is none.

        Args:
            run_id: The top-level call, which the body has made and awaits.
            error: The error of that call, `None` if it was cancelled.
        """
        if error is None:
            if self._first is None or self._first[1] != run_id:
                return None
            error, _ = self._first
        elif not any(each is error for each in self.errors):
            return None
        self.heard.append(error)
        return error

    def is_heard(self, error: BaseException) -> bool:
        """Return whether the body has heard of an error."""
        return any(each is error for each in self.heard)

    def leave_to_body(self, error: BaseException | None) -> None:
        """Drop the errors that the body has heard of: it was left without a `Cancelled`, so it has dealt with them.

        Args:
            error: What the body raises instead, if anything.
        """
        if self.heard:
            dealt_with = {id(each) for each in self.heard} - {id(error)}
            self.errors = [each for each in self.errors if id(each) not in dealt_with]

    def forget_heard(self) -> None:
        """Drop the errors that `heard` holds: they hold the stack frames that they went through."""
        self.heard.clear()

    def decide(self, outside: BaseException | None) -> BaseException | None:
        """Decide the status and return the error that the session raises, if any.

        Args:
            outside: The `Cancelled` of a scope around the session, if one was cancelled before the session had unwound.
        """
        if outside is None and self.cause is None and not self.errors:
            self.status = Status.COMPLETED
            return None
        if outside is not None:
            self.note(EndCause(CauseKind.OUTER_SCOPE))
        kind = self.kind
        self.status = _STATUS[kind]
        error = combined(self.errors) if self.errors else None
        # The errors hold the stack frames that they went through, and some of these lead here: a cycle.
        self.errors.clear()
        self._first = None
        if kind is CauseKind.DEADLINE and not is_interrupt(error):
            timeout_error = self._timeout_error()
            if error is not None:
                set_context(error, timeout_error)
            elif outside is None:
                return timeout_error
        return bare(outside) if error is None else error

    def overrule(self, cause: EndCause) -> None:
        """Have another cause count, although the status was decided already."""
        self.cause, self.status = cause, _STATUS[cause.kind]

    def told(self, raised: BaseException | None) -> BaseException | None:
        """Return the error that the record shows, if any: never a `Cancelled`, whose text quotes other errors."""
        if raised is not None and not is_cancelled(raised):
            return raised
        cause = self.cause
        if cause is not None and cause.kind in {CauseKind.CANCEL, CauseKind.SIGTERM}:
            return SessionCancelledError(cause.reason)
        if cause is not None and cause.kind is CauseKind.DEADLINE:
            return self._timeout_error()
        # The body has dealt with the error that ended the session, and nothing is raised.
        return self.heard[0] if self.heard else None

    def _timeout_error(self) -> SessionTimeoutError:
        return SessionTimeoutError(self.label, self.timeout, self.timeouts.running[0].open_calls)
