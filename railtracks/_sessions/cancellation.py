"""What ends a session before its time: its cancel scope, and the causes that cancel the scope.

Called by everything that can end a session: users, failing calls, SIGTERM, a lost lease, the session's own deadline.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from railtracks._records.data import CauseKind, EndCause
from railtracks._records.ending import Ending
from railtracks._records.errors import came_from_cleanup, is_fatal
from railtracks._records.session import SessionRecord


class Cancellation:
    """The scope around the calls of one session. The first cause decides how the session ends.

    Attributes:
        scope: The cancel scope.
    """

    def __init__(self, record: SessionRecord) -> None:
        self.scope = trio.CancelScope()
        self._record = record

    @property
    def _ending(self) -> Ending:
        return self._record.ending

    def cancel(self, cause: EndCause) -> None:
        """End the session quietly."""
        self.note()
        self._ending.note(cause)
        self.scope.cancel()

    def fail(self, error: BaseException) -> None:
        """End the session with an error that has left its task, and that no other code raises."""
        self.note()
        # Out here no scope is left but the session's and those around it.
        if came_from_cleanup(error) and trio.current_effective_deadline() == -math.inf:
            self.note_whose()
        self._add(error)

    def end(self, error: BaseException) -> bool:
        """End the session with the error of a call; return whether that was of use.

        It is of none if the session is ending already and the error is an ordinary one.
        """
        self.note()
        if self._ending.cause is not None and not is_fatal(error):
            return False
        self._add(error)
        return True

    def _add(self, error: BaseException) -> None:
        self._ending.add(error, None if self._ending.cause is not None else self._record.call_of(error))
        self.scope.cancel()

    def note(self) -> None:
        """Note the session's own cancel or deadline as the cause, if that struck already.

        The task that watches may not have had its turn: Trio wakes what a scope cancels in any order
        (test_ending.py::test_timeout_is_the_first_cause_in_whatever_order_tasks_wake).
        """
        if self.scope.cancel_called:
            self.note_whose()

    def note_whose(self) -> None:
        """Note whose cancel reached the session, if no cause is known: its own, its deadline's, or one from outside."""
        if not self.scope.cancel_called:
            kind = CauseKind.OUTER_SCOPE
        elif trio.current_time() >= self.scope.deadline:
            kind = CauseKind.DEADLINE
        else:
            kind = CauseKind.CANCEL
        self._ending.note(EndCause(kind))

    def leave(self, rest: BaseException | None) -> BaseException | None:
        """Leave the scope with a `Cancelled` or with nothing; return a `Cancelled` that belongs to a scope outside."""
        is_caught = self.scope.__exit__(None if rest is None else type(rest), rest, None)
        if self.scope.cancelled_caught:
            self.note_whose()
        return None if is_caught else rest


class CancelWatcher:
    """A task that sees at once when a session is cancelled; it is started only where that matters."""

    def __init__(self, cancellation: Cancellation, nursery: trio.Nursery, meet_cancel: Callable[[], None]) -> None:
        self._cancellation = cancellation
        self._nursery = nursery
        self._meet_cancel = meet_cancel
        self._scope = trio.CancelScope()
        self._is_started = False

    def start(self) -> None:
        """Start to watch, unless that was done before."""
        if not self._is_started:
            self._is_started = True
            self._nursery.start_soon(self._watch, name="railtracks: watch for cancel")

    def stop(self) -> None:
        """Stop watching: the session ends without a cancel."""
        self._scope.cancel()

    async def _watch(self) -> None:
        with self._scope:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                if not self._scope.cancel_called:
                    self._cancellation.note_whose()
                    self._meet_cancel()
                raise
