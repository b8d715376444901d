"""The log: what happens in a session, on the standard library's loggers under `RT`.

Called by each session as it is opened. Nothing is configured unless a user asks for it (`log_displays`). A session
shows its own records through handlers that belong to no logger. So the lines of two sessions never mix, and no logger's
level has to change.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from railtracks._options import Settings
from railtracks._records.error_parts import answer
from railtracks._records.events import CallEvent, Event, EventKind, LogEvent, now
from railtracks._records.log_lines import CALL_LINES, ROOT, call_line, level_of, session_level, session_line
from railtracks._records.observers import EVERYWHERE, NOBODY, Observers, tell, try_to_log
from railtracks._records.seen_values import SeenValues
from railtracks._records.session import SessionRecord

# What is always observed: a logger of the application that is configured later still gets warnings and errors.
_WARNINGS: Final = tuple(kind.value for kind, (level, _) in CALL_LINES.items() if level >= logging.WARNING)
# Those whose lines quote errors.
_ERRORS: Final = (EventKind.CALL_FAILED, EventKind.CALL_RETRIED)
_ALL: Final = tuple(kind.value for kind in (*CALL_LINES, EventKind.SESSION_OPENED))


@functools.cache
def _root_logger() -> logging.Logger:
    # Looked up once: each lookup takes a lock, and every session asks twice what is shown. Not at the import, which
    # makes no logger.
    return logging.getLogger(ROOT)


class SessionLog:
    """The log of one session: an observer that writes to the process's loggers, and to the session's own display."""

    def __init__(self, record: SessionRecord, settings: Settings) -> None:
        setting = settings.get("logging_setting")
        self._record = record
        # Made by the first line that quotes an error.
        self._values: SeenValues | None = None
        self._has_display = setting is not None
        path = settings.get("log_file")
        self._handlers: list[logging.Handler] = []
        if setting is not None or path is not None:
            from railtracks._records.log_displays import handlers_for  # noqa: PLC0415 - few sessions have a display

            self._handlers = handlers_for(setting, path, time.time())
        self._observers = NOBODY

    def close(self) -> None:
        """Close the session's own display."""
        for handler in self._handlers:
            # It writes what it holds back, for which a full disk has no room.
            try_to_log(handler.close, f"the end of session {self._record.identifier}")
        self._observers = NOBODY

    def new_observers(self) -> Observers:
        """Return the observers of the session: those of the process, and this log for what is shown somewhere.

        The observers are told of each line of the log.
        """
        kinds = _ALL if self._shows(logging.INFO) else _WARNINGS
        self._observers = observers = EVERYWHERE.for_session(self, kinds)
        return observers

    def _shows(self, level: int) -> bool:
        """Return whether a record of a level is shown somewhere."""
        logger = _root_logger()
        if logger.isEnabledFor(level) and (not self._handlers or logger.hasHandlers()):
            return True
        # No generator: this is asked as each session opens and ends, and most have no handlers.
        for handler in self._handlers:
            if handler.level <= level and not isinstance(handler, logging.NullHandler):
                return True
        return False

    @property
    def tells_end(self) -> bool:
        """Whether the end of the session is told somewhere. If so, the log is to be told of it after all observers.

        It does not observe the end: without a line to write, each session would make an event for nobody.
        """
        # A logger of the program's own is asked. If it raises, `tell` reports that, and the end goes on.
        return not self._record.is_inherited and answer(lambda: self._is_wanted(self._level()), lambda _: True)

    def _level(self) -> int:
        """Return the level of the line for the session as it stands now."""
        ending = self._record.ending
        return session_level(ending.status, self._record.error, ending.cause)

    def on_event(self, event: Event) -> None:
        """Log what happened to a call, or that the session was opened or closed."""
        if isinstance(event, CallEvent):
            level = level_of(event)
            if self._is_wanted(level):
                if event.kind in _ERRORS:
                    self._see_values()
                line = call_line(event, self._record.secrets.text)
                self._write(level, line, node_id=event.call_id, run_id=event.run_id)
        else:
            # The beginning is observed where it is shown, and of the end the log is told if it `tells_end`.
            record = self._record
            if record.ending.cause is not None:
                self._see_values()
            line = session_line(event.kind, record, record.secrets.text)
            self._write(self._level(), line, logger="RT.Session")

    def _see_values(self) -> None:
        if self._values is None:
            self._values = SeenValues(self._record.tree)
        self._values.see()

    def _is_wanted(self, level: int) -> bool:
        """Return whether a line of a level is shown somewhere, or is a warning that observers are told of."""
        return self._shows(level) or (level >= logging.WARNING and bool(self._observers.logged))

    def log(self, level: int, text: str, *, logger: str = ROOT) -> None:
        """Log a text about the session, without its secrets.

        Args:
            level: The level, as of `logging`.
            text: The text.
            logger: The name of the logger.
        """
        self._write(level, self._record.secrets.text(text), logger=logger)

    def _write(
        self, level: int, text: str, *, logger: str = ROOT, node_id: int | None = None, run_id: int | None = None
    ) -> None:
        session_id = self._record.identifier
        extra: dict[str, object] = {"session_id": session_id, "node_id": node_id, "run_id": run_id}
        extra["has_display"] = self._has_display
        try_to_log(partial(self._show, level, text, logging.getLogger(logger), extra), text)
        if self._observers.logged:
            event = LogEvent(EventKind.LOGGED, session_id, logger, level, text, node_id, now())
            tell(self._observers.logged, event)

    def _show(self, level: int, text: str, target: logging.Logger, extra: Mapping[str, object]) -> None:
        """Show a line on the session's own display and on a logger of the process."""
        record = target.makeRecord(target.name, level, __file__, 0, text, (), None, None, extra)
        # Without any handler the standard library prints warnings on stderr: what the session shows would come twice.
        is_handed_on = target.isEnabledFor(level) and (not self._handlers or target.hasHandlers())
        if is_handed_on:
            try_to_log(partial(target.handle, record), text)
        if not self._handlers:
            return
        from railtracks._records.log_places import is_shown_by_others  # noqa: PLC0415 - imported with the handlers

        for handler in self._handlers:
            if level >= handler.level and not (is_handed_on and is_shown_by_others(record, handler)):
                try_to_log(partial(handler.handle, record), text)
