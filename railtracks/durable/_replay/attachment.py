"""The session in this process, as far as its journal needs it: a log for warnings, and two ends.

The journal is made before its session runs. It is attached when the session begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from railtracks._calls.durable_protocol import LogLine
from railtracks._records.ends import EndCause


class AttachedSession:
    """The log and the ends of the session that a journal writes for; until `attach`, they do nothing."""

    def __init__(self) -> None:
        self._log: LogLine = _silent
        self._end: Callable[[BaseException], bool] = bool
        self._interrupt: Callable[[EndCause], object] = bool

    def attach(
        self, log: LogLine, end: Callable[[BaseException], bool], interrupt: Callable[[EndCause], object]
    ) -> None:
        """Connect the journal with the log of its session, and with the functions that end it."""
        self._log = log
        self._end = end
        self._interrupt = interrupt

    def warn(self, text: str) -> None:
        """Log a warning in the name of the session."""
        self._log(logging.WARNING, text, logger="RT.Session")

    def end(self, error: BaseException) -> bool:
        """End the session with an error; return `False` if it was ending already for another reason."""
        return self._end(error)

    def interrupt(self, cause: EndCause) -> None:
        """End the session for a cause whose error is on its way."""
        self._interrupt(cause)


def _silent(*_: object, **__: object) -> None:
    """Drop a log line: no session is attached yet."""
