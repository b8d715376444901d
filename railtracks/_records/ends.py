"""Where calls and sessions stand, and how they have ended: statuses, causes, and errors as text.

Called by everything that opens or ends a call or a session. The records that users read are in `data`, which exports
these names, too. Pickles name them there: those of workers, of an earlier release and for one.
"""

from __future__ import annotations

from enum import StrEnum

from attrs import define, field


class Status(StrEnum):
    """The status of a call or a session.

    Only a session can be `TIMED_OUT`, and only a durable one `WAITING` or `INTERRUPTED`: it can go on. Only a call can
    be `LOST`: the worker that ran it is gone, and nobody knows how far it came.
    """

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class CauseKind(StrEnum):
    """What can end a session before its time. The last three are of durable sessions: parked, and two interruptions."""

    ERROR = "error"
    DEADLINE = "deadline"
    CANCEL = "cancel"
    OUTER_SCOPE = "outer_scope"
    CTRL_C = "ctrl_c"
    SIGTERM = "sigterm"
    PARKED = "parked"
    LOST_LEASE = "lost_lease"
    STORE = "store"


@define(frozen=True)
class EndCause:
    """What ended a session before its time: the first cause, if there were several.

    Attributes:
        kind: What kind of cause it was.
        reason: The reason of a cancel: the one that `Session.cancel` was given, or the one of a drain or of SIGTERM. Of
            what parks or interrupts a durable session by an error, the text of that.
        call_id: The innermost call that an error came out of, `None` if it came from the body of the session.
    """

    kind: CauseKind
    reason: str | None = None
    call_id: int | None = None


@define(frozen=True)
class CallError:
    """An error as text.

    Attributes:
        type: The qualified name of its class.
        message: Its `str`.
        traceback: Its traceback and those of its causes, each with its innermost stack frames only.
    """

    type: str
    message: str
    traceback: str = field(default="", repr=False)

    @property
    def line(self) -> str:
        """Its class and message as at the end of a traceback; its class alone if it has no message."""
        return f"{self.type}: {self.message}" if self.message else self.type


for _each in (Status, CauseKind, EndCause, CallError):
    _each.__module__ = "railtracks._records.data"
del _each
