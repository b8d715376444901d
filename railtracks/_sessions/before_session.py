"""A run of a durable flow before there is a session: it may wait for one that another process owns.

Made by connections. SIGTERM and shutdowns end it, as they end a session (`OpenSession`).
"""

from __future__ import annotations

import trio

from railtracks._calls.frames import SessionScope
from railtracks._calls.here import enclosing_frame, this_task
from railtracks._records.ends import CauseKind, EndCause
from railtracks._sessions.running import enter, leave


class BeforeSession:
    """The time before the session of a run, in the task of that run.

    A shutdown knows it as one more outermost session, unless it is in a session: then the drain of that one ends it.

    Args:
        flow: The name of the flow.

    Attributes:
        token: The Trio run of the task.
        scope: `None`.
        cleanup_timeout: 0, as no cleanup is waited for.
        left: What it is, in words.
        cancel_scope: The scope to await the run in.
        reason: Why it was ended, if it was.
    """

    def __init__(self, flow: str) -> None:
        self.token = trio.lowlevel.current_trio_token()
        # The calls of the session, which is not there yet.
        self.scope: SessionScope | None = None
        self.cleanup_timeout = 0.0
        self.left = f"flow {flow!r}, which waits for its session"
        self.cancel_scope = trio.CancelScope()
        self.reason = ""
        self._is_over = False
        if enclosing_frame(this_task()) is None:
            enter(self)

    def end(self) -> None:
        """Note that the session begins, or that there will be none. What comes later is not about this object."""
        self._is_over = True
        leave(self)

    def stop(self, reason: str) -> None:
        """End the run, unless its session has begun."""
        if not self._is_over:
            self.reason = reason
            self.cancel_scope.cancel(reason)

    def shut_down(self, grace: float, kind: CauseKind) -> None:  # noqa: ARG002 - there is no work that could end by itself
        """End the run at once."""
        self.stop("SIGTERM" if kind is CauseKind.SIGTERM else "the program is shutting down")

    def cancel(self, cause: EndCause) -> None:
        """End the run."""
        self.stop(cause.reason or "SIGTERM")
