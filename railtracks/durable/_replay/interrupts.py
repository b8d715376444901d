"""What interrupts a durable session: errors that no resume repeats, and cancels that come from such an error.

Calls tell of the errors that they are left with, and the journal asks as a call begins. The session ends here at the
first of them, and records nothing more. Otherwise code that runs before the error has reached the session, as in a
`finally` or in another task, would record what no resume could repeat: there the error does not come again.
"""

from __future__ import annotations

import re
import sys
from typing import Final

import trio

from railtracks._records.ends import CauseKind, EndCause
from railtracks._records.error_parts import context_of, is_a
from railtracks._records.errors import bare, holds, is_fatal, is_ordinary, without_cancelled
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.commits import Commits
from railtracks.exceptions import ReplayMismatchError, SessionLostError, SessionWaiting, StoreError

# Errors that are no outcome of the call that raises them: they end the session and leave its record as it is, for a
# resume.
INTERRUPTING: Final = (StoreError, ReplayMismatchError, SessionLostError, SessionWaiting)

# How Trio tells in a `Cancelled` that a nursery has cancelled its tasks because one of them, or its block, has raised.
_RAISED: Final = re.compile(
    r"raised exception (?:BaseExceptionGroup\(.*?)?\b(KeyboardInterrupt|SystemExit)\(", re.DOTALL
)


class Interrupts:
    """Ends one session at the first sign of an interrupt.

    Args:
        session: The session.
        commits: Its commits.
    """

    def __init__(self, session: AttachedSession, commits: Commits) -> None:
        self._session = session
        self._commits = commits
        # What the code around the session deals with, as where a flow cleans up after a Ctrl-C, is none of its own.
        # By their ids: the errors hold stack frames.
        self._outside = frozenset(map(id, _dealt_with()))

    def look(self) -> None:
        """See the errors that the running code deals with, as in a `finally`.

        A `SessionWaiting` is none of them before it leaves a call: the result of a call that deals with it is recorded.
        """
        waiting = [] if sys.exception() is None else _dealt_with()
        while waiting:
            error = waiting.pop()
            try:
                if id(error) not in self._outside and not is_a(error, SessionWaiting):
                    self.see(error)
            finally:
                # As in `see`.
                del error

    def see(self, error: BaseException) -> None:
        """End the session if an error is one that no resume repeats. Does not wait: a `Cancelled` can be in flight."""
        if self._commits.is_cut or is_a(error, GeneratorExit):
            return
        real = without_cancelled(error)
        try:
            if real is None:
                self._see_cancel(bare(error))
            # A fatal error ends the session itself.
            elif not is_fatal(real) and (not is_ordinary(real) or holds(real, SessionWaiting)):
                self._commits.cut()
                self._session.end(real)
        finally:
            # Trio makes the `Cancelled` of waiting tasks in here, with a traceback that leads to this stack frame: with
            # the error in it, a reference cycle.
            del error, real

    def _see_cancel(self, cancelled: BaseException | None) -> None:
        """End the session if a nursery has cancelled the code because of an interrupt, which is on its way here."""
        source = cancelled.source if isinstance(cancelled, trio.Cancelled) else None
        reason = cancelled.reason if isinstance(cancelled, trio.Cancelled) else None
        raised = _RAISED.search(reason) if source == "nursery" and reason is not None else None
        if source == "KeyboardInterrupt" or (raised is not None and raised[1] == "KeyboardInterrupt"):
            self._interrupt(CauseKind.CTRL_C)
        elif raised is not None:
            self._interrupt(CauseKind.OUTER_SCOPE)

    def _interrupt(self, kind: CauseKind) -> None:
        self._commits.cut()
        self._session.interrupt(EndCause(kind))


def _dealt_with() -> list[BaseException]:
    """Return the error that the running code deals with, and those in whose handling it was raised: it is the first."""
    error, found = sys.exception(), dict[int, BaseException]()
    while error is not None and id(error) not in found:
        found[id(error)] = error
        error = context_of(error)
    return list(found.values())
