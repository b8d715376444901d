"""What of telemetry is lost: counted, and told in one WARNING, in place of the many lines of OpenTelemetry's SDK.

Called by the two parts that send: `SpanQueue` and `MetricReader`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import (
    # The one key by which all instrumentations know that a request is of telemetry itself. It has no public name.
    _SUPPRESS_INSTRUMENTATION_KEY,
    attach,
    detach,
    set_value,
)

_LOGGER: Final = "RT.Telemetry"
# Whose loggers write while something is sent.
_SENDERS: Final = ("opentelemetry", "urllib3", "requests")
# Characters.
_LONGEST_REASON: Final = 300


class _Lines(threading.local):
    """The lines that were logged in this thread since it began to send, `None` where it does not."""

    lines: list[str] | None = None


_here: Final = _Lines()


class _Folded(logging.Filter):
    """Keeps lines of threads that send from being shown. Lines of other threads pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _here.lines is None:
            return True
        _here.lines.append(record.getMessage())
        return False


_FOLDED: Final = _Folded()


def fold_lines_of(senders: Iterable[str] = _SENDERS) -> None:
    """Have the loggers of some packages show nothing of what they write while something is sent.

    A filter counts at the logger itself only, and not at those below it.
    """
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] in senders:
            # Adding it once more does nothing.
            logging.getLogger(name).addFilter(_FOLDED)


@contextmanager
def sending() -> Generator[list[str]]:
    """Send something in the block: it is not traced itself, and what is logged of it is only collected."""
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))  # noqa: FBT003 - the value of the key
    lines: list[str] = []
    _here.lines = lines
    try:
        yield lines
    finally:
        _here.lines = None
        detach(token)


class Losses:
    """What was not sent.

    Args:
        what: What is sent: `spans` or `metrics`.
        variable: The environment variable that chooses the exporter, for the text.
    """

    def __init__(self, what: str, variable: str) -> None:
        self._what = what
        self._variable = variable
        self._dropped = 0
        self._failed = 0
        self._reason = ""
        self._told: tuple[int, int] | None = None

    def dropped(self) -> None:
        """Count one that did not fit into the queue."""
        self._dropped += 1

    def failed(self, count: int, reason: str) -> None:
        """Count some that the receiver did not take."""
        self._failed += count
        self._reason = reason[:_LONGEST_REASON]

    def tell(self) -> None:
        """Log a WARNING of what was lost until now, the first time that something was."""
        if self._told is None and (self._dropped or self._failed):
            self._told = self._dropped, self._failed
            logging.getLogger(_LOGGER).warning(
                "telemetry loses %s: %s. Sessions go on; further losses are counted, and logged at the end at INFO",
                self._what,
                self._text(),
            )

    def tell_total(self) -> None:
        """Log what was lost in all, if that is more than the WARNING has told."""
        self.tell()
        if self._told is not None and self._told != (self._dropped, self._failed):
            logging.getLogger(_LOGGER).info("telemetry has lost %s: %s", self._what, self._text())

    def _text(self) -> str:
        parts: list[str] = []
        if self._failed:
            parts.append(
                f"{self._failed} were not taken by the receiver ({self._reason}); is one there?"
                f" $OTEL_EXPORTER_OTLP_ENDPOINT says where, and {self._variable}=none sends none"
            )
        if self._dropped:
            parts.append(f"{self._dropped} did not fit into the queue, see $OTEL_BSP_MAX_QUEUE_SIZE and min_duration=")
        return "; ".join(parts)
