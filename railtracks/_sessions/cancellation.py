"""The cancel scope of a session, and the causes that cancel it: the first cause decides how the session ends.

Called by `Session` (users, SIGTERM) and by the lifetime of the session (failing calls, a lost lease, the deadline).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from railtracks._records.ending import Ending
from railtracks._records.ends import CauseKind, EndCause
from railtracks._records.errors import came_from_cleanup, is_fatal
from railtracks._records.session import SessionRecord


class Cancellation:
    """The cancel scope around the calls of one session, and the notes of why it was cancelled.

    A deadline strikes without any code of this library, and Trio wakes the cancelled tasks in any order. So each method
    first notes a cancel that has struck already. Otherwise the error of a cleanup could count as the first cause.

    The scope is not that of the nursery in it, which Trio cancels itself, as soon as a scope around the session has
    cancelled one of the tasks: it would not tell which of the two was cancelled.

    Attributes:
        scope: The cancel scope.
    """

    def __init__(self, record: SessionRecord) -> None:
        self.scope = trio.CancelScope()
        self._record = record

    @property
    def _ending(self) -> Ending:
        return self._record.ending

    @trio.lowlevel.enable_ki_protection
    def cancel(self, cause: EndCause) -> None:
        """Cancel the session for a cause that is no error; its block then ends without raising."""
        # The deadline may have struck already, in this same step of the event loop: then it is the first cause.
        self.note_own_cancel()
        self._ending.note(cause)
        self.scope.cancel()

    @trio.lowlevel.enable_ki_protection
    def fail(self, error: BaseException) -> None:
        """Cancel the session with an error that no task raises any more; the session raises it at its end."""
        self.note_own_cancel()
        # This code runs outside of all calls: a cancel in force here is that of the session's scope, or of a scope
        # around it. That cancel came first, and the error came from a cleanup after it.
        if came_from_cleanup(error) and trio.current_effective_deadline() == -math.inf:
            self.note_source()
        try:
            self._add(error)
        finally:
            # As in `_add`.
            del error

    @trio.lowlevel.enable_ki_protection
    def end(self, error: BaseException, run_id: int = 0) -> bool:
        """Cancel the session with the error of a call; the session raises it at its end.

        Args:
            error: The error.
            run_id: The top-level call that it came out of, or is in; 0 if the session itself found the error.

        Returns:
            Whether the session will raise this error. If the session is ending already, an ordinary error is ignored; a
            fatal one is added.
        """
        self.note_own_cancel()
        # An ordinary error of an ending session goes up in its own task, where other code may still catch it.
        if self._ending.cause is not None and not is_fatal(error):
            return False
        try:
            self._add(error, run_id)
        finally:
            # As in `_add`.
            del error
        return True

    def _add(self, error: BaseException, run_id: int = 0) -> None:
        self._ending.add(error, None if self._ending.cause is not None else self._record.call_of(error), run_id)
        # Trio makes the `Cancelled` of a waiting task in here, with a traceback that leads to this stack frame and to
        # those of its callers. With the error in one of them the two would be a reference cycle.
        del error
        self.scope.cancel()

    def note_own_cancel(self) -> None:
        """Note the session's own cancel or deadline as the cause, if that struck already and no cause is known.

        The watching task may not have run yet: Trio wakes the tasks that a scope cancels in any order
        (test_ending.py::test_timeout_is_the_first_cause_in_whatever_order_tasks_wake).
        """
        if self.scope.cancel_called:
            self.note_source()

    def note_source(self) -> None:
        """Note where a cancel of the session came from, if no cause is known.

        It is the session's own cancel, its deadline, or a scope around the session.
        """
        if not self.scope.cancel_called:
            kind = CauseKind.OUTER_SCOPE
        elif trio.current_time() >= self.scope.deadline:
            # A cancelled scope does not tell which of the two it was: past the deadline, the deadline counts.
            kind = CauseKind.DEADLINE
        else:
            kind = CauseKind.CANCEL
        self._ending.note(EndCause(kind))

    def leave(self, rest: BaseException | None) -> BaseException | None:
        """Leave the cancel scope.

        Args:
            rest: The `Cancelled` that came out of the session's block, or a group of such; `None` if none did.

        Returns:
            `None`, or the `Cancelled` of a scope around the session, which must go on.
        """
        # The scope catches its own `Cancelled` only. If it was cancelled but caught nothing, all tasks had ended
        # before.
        is_caught = self.scope.__exit__(None if rest is None else type(rest), rest, None)
        if self.scope.cancelled_caught:
            self.note_source()
        return None if is_caught else rest


class CancelWatcher:
    """A task that runs a function as soon as the session is cancelled.

    A session has one only when there is something to do then, because a task for each session would be slow.
    """

    def __init__(self, cancellation: Cancellation, nursery: trio.Nursery, on_cancel: Callable[[], None]) -> None:
        self._cancellation = cancellation
        self._on_cancel = on_cancel
        # The scope of the task.
        self._scope = trio.CancelScope()
        nursery.start_soon(self._watch, name="railtracks: watch for cancel")

    def stop(self) -> None:
        """End the task, once all calls have ended: a later cancel of the session has nothing to react to."""
        self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        with self._scope:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                # Cancelled by the session's scope, or by one around it, and not by `stop`.
                if not self._scope.cancel_called:
                    self._cancellation.note_source()
                    self._on_cancel()
                raise
