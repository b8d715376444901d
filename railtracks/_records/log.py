"""Records to the log: what happens in a session, on stdlib loggers under `RT`.

Nothing is configured unless asked for. A session that shows its own records does so through handlers that no logger
knows, so two sessions cannot mix, and no logger's level has to change.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

from railtracks._options import LoggingSetting
from railtracks._records.events import CallEvent, Observers

_ROOT = "RT"


class _Format(logging.Formatter):
    """One line a record, its time counted from when the session started, or the logging was enabled."""

    def __init__(self, started: float) -> None:
        super().__init__("[+%(since)-7ss] %(name)-12s: %(levelname)-8s - %(message)s")
        self._started = started

    def format(self, record: logging.LogRecord) -> str:
        """Format a record that others may format in their own way."""
        record.since = f"{record.created - self._started:.3f}"
        return super().format(record)


def enable_logging(level: LoggingSetting | None = None, log_file: str | os.PathLike[str] | None = None) -> None:
    """Show the log of all sessions of this process, on stderr and, if asked for, in a file.

    Calling it again replaces what an earlier call set up.

    Args:
        level: The lowest level that is shown, by default `$RT_LOG_LEVEL`, else `INFO`. `NONE` shows nothing on stderr,
            and a file gets what is `INFO` or higher.
        log_file: A file to append to as well, by default `$RT_LOG_FILE`, else none.

    Raises:
        ValueError: If the level is none that there is.
        OSError: If the file cannot be opened.
    """
    chosen = level if level is not None else os.environ.get("RT_LOG_LEVEL") or "INFO"
    if chosen not in get_args(LoggingSetting):
        raise ValueError(f"the level must be one of {', '.join(get_args(LoggingSetting))}, not {chosen!r}")
    path = log_file if log_file is not None else os.environ.get("RT_LOG_FILE") or None
    logger = logging.getLogger(_ROOT)
    handlers = _handlers(chosen, path, time.time())
    for handler in handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(_has_no_display)
    for handler in [handler for handler in logger.handlers if isinstance(handler.formatter, _Format)]:
        logger.removeHandler(handler)
        handler.close()
    for handler in handlers:
        logger.addHandler(handler)
    silent = logging.NOTSET if path is None else logging.INFO
    logger.setLevel(silent if chosen == "NONE" else chosen)


def _has_no_display(record: logging.LogRecord) -> bool:
    """Say whether a record is of no session that was told itself what to show on stderr."""
    return not getattr(record, "has_display", False)


def _handlers(setting: str | None, path: str | os.PathLike[str] | None, started: float) -> list[logging.Handler]:
    """Make the handlers for a setting, `None` for no display on stderr, and a file."""
    handlers: list[logging.Handler] = []
    if path is not None:
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
    if setting == "NONE":
        # Where a logger has no handler at all, stdlib prints warnings as a last resort.
        handlers.append(logging.NullHandler())
    elif setting is not None:
        handlers.append(logging.StreamHandler(sys.stderr))
    level = "INFO" if setting is None or setting == "NONE" else setting
    for handler in handlers:
        handler.setLevel(level)
        handler.setFormatter(_Format(started))
    return handlers


class SessionLog:
    """The records of one session: to the process's loggers, and to the session's own display."""

    def __init__(
        self, session_id: str, setting: LoggingSetting | None, log_file: str | os.PathLike[str] | None
    ) -> None:
        self._session_id = session_id
        self._has_display = setting is not None
        self._handlers = _handlers(setting, log_file, time.time())

    def close(self) -> None:
        """Let go of the session's own display."""
        for handler in self._handlers:
            handler.close()

    def observers(self) -> Observers:
        """Return who listens to calls; where nobody reads a kind of record, nobody listens for it."""
        observers = Observers(
            failed=(self._observer(logging.ERROR, "{0.node} FAILED"),),
            retried=(self._observer(logging.WARNING, "{0.node} FAILED, and will be tried again"),),
            left_behind=(
                self._observer(
                    logging.WARNING, "{0.node} was cancelled, and its worker thread was left behind running"
                ),
            ),
        )
        if self._handlers or logging.getLogger(_ROOT).isEnabledFor(logging.INFO):
            observers.started = (self._observer(logging.INFO, "{1} CREATED {0.node}"),)
            observers.completed = (self._observer(logging.INFO, "{0.node} DONE"),)
            observers.cancelled = (self._observer(logging.INFO, "{0.node} CANCELLED"),)
        return observers

    def _observer(self, level: int, text: str) -> Callable[[CallEvent], None]:
        return partial(self._observe, level, text)

    def _observe(self, level: int, text: str, event: CallEvent) -> None:
        self.log(level, text.format(event, event.parent or "START"), node_id=event.call_id, run_id=event.run_id)

    def log(
        self, level: int, text: str, *, logger: str = _ROOT, node_id: int | None = None, run_id: int | None = None
    ) -> None:
        """Log a text that holds no secrets."""
        target = logging.getLogger(logger)
        extra: dict[str, Any] = {"session_id": self._session_id, "node_id": node_id, "run_id": run_id}
        extra["has_display"] = self._has_display
        record = target.makeRecord(target.name, level, __file__, 0, text, (), None, None, extra)
        for handler in self._handlers:
            if level >= handler.level:
                handler.handle(record)
        # Where no logger has a handler, stdlib would print warnings as a last resort: once is enough.
        if target.isEnabledFor(level) and (not self._handlers or target.hasHandlers()):
            target.handle(record)
