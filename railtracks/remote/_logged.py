"""Lines that a session on a worker logs: caught on the worker, and logged again by the program that has sent it.

`LineCatcher` is a handler of the worker's logging. `log_again` is called with what it has caught.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, cast

from railtracks._calls.frames import SessionScope
from railtracks._calls.here import context_frame
from railtracks._records.events import EventKind, LogEvent, now
from railtracks._records.json_values import JsonValues, writable
from railtracks._records.observers import tell, try_to_log
from railtracks._records.scrubbing import CUT, REDACTED, Scrubber

T = TypeVar("T")

# Characters that a line, or the traceback below it, may have on its way.
_LONGEST: Final = 8_000
# The logger of the library, below which its other loggers are.
ROOT: Final = "RT"
# What every record has; all else comes from users' `extra`.
_STANDARD: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "has_display"})
_IDS: Final = ("session_id", "node_id", "run_id")
_FORMATTER: Final = logging.Formatter()


class LoggedLine(NamedTuple):
    """A line that was logged on a worker.

    Attributes:
        logger: The name of the logger.
        level: The level, as of `logging`.
        text: The line.
        error: The traceback below it, empty if there is none.
        at: When it was logged, in seconds by the worker's clock.
        place: The file, the line and the function that logged it.
        ids: Its session and its call on the worker, and the top-level call that this call belongs to.
        extra: The other attributes of the record, by name; on its way as JSON.
    """

    logger: str
    level: int
    text: str
    error: str
    at: float
    place: tuple[str, int, str]
    ids: tuple[str | None, int | None, int | None]
    extra: dict[str, object] | str

    def without_secrets(self, values: JsonValues) -> LoggedLine:
        """Return the line as it may go over the wire: plain data without secrets."""
        path, number, function = self.place
        extra = self.extra if isinstance(self.extra, dict) else {}
        pairs = (f"{json.dumps(values.free_text(name))}: {values.value(value, name)}" for name, value in extra.items())
        return self._replace(
            logger=writable(self.logger),
            text=values.free_text(self.text),
            error=values.free_text(self.error),
            at=float(self.at),
            place=(writable(path), int(number), writable(function)),
            extra=f"{{{', '.join(pairs)}}}",
        )


class LineCatcher(logging.Handler):
    """The handler that hands lines of sessions on this worker on.

    Args:
        take_here: Returns what takes the lines of the session around this code, `None` if this worker runs
            it for no other process.
    """

    def __init__(self, take_here: Callable[[], Callable[[LoggedLine], object] | None]) -> None:
        super().__init__()
        self._take_here = take_here

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, in the thread that logs it."""
        try_to_log(partial(self._print, record), record.name)
        take = self._take_here()
        if take is not None:
            try_to_log(lambda: take(_line_of(record)), record.name)

    def _print(self, record: logging.LogRecord) -> None:
        """Print a record as the standard library does where the program has no handler: with this one, too."""
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and self._is_alone(record):
            last.handle(record)

    def _is_alone(self, record: logging.LogRecord) -> bool:
        """Return whether no other handler gets a record, and its session has no display of its own."""
        if vars(record).get("has_display"):
            return False
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(each is not self for each in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


def _line_of(record: logging.LogRecord) -> LoggedLine:
    error = record.exc_text or (_FORMATTER.formatException(record.exc_info) if record.exc_info else "")
    parts = [each for each in (error, record.stack_info) if each]
    # Users' `extra` may have keys of any kind.
    named = ((name if type(name) is str else str(name), value) for name, value in vars(record).items())
    left_out = {*_STANDARD, *_IDS} if _is_of_library(record.name) else _STANDARD
    return LoggedLine(
        record.name,
        int(record.levelno),
        _shortened(record.getMessage()),
        _shortened("\n".join(parts)),
        record.created,
        (record.pathname, record.lineno, record.funcName or ""),
        _ids_of(record),
        {name: value for name, value in named if name not in left_out},
    )


def _is_of_library(logger: str) -> bool:
    return logger.partition(".")[0] == ROOT


def _ids_of(record: logging.LogRecord) -> tuple[str | None, int | None, int | None]:
    if _is_of_library(record.name):
        # The library's own: the line may be about another call than that around this code.
        session_id, node_id, run_id = (record.__dict__.get(each) for each in _IDS)
        return _if_a(str, session_id), _if_a(int, node_id), _if_a(int, run_id)
    frame = context_frame()
    if frame is None:
        return None, None, None
    return frame.scope.record.identifier, frame.call_id or None, frame.run_id or None


def _if_a(kind: type[T], value: object) -> T | None:
    # Users may log on a logger below that of the library.
    return value if isinstance(value, kind) else None


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}{CUT}"


def line_from(parts: list[Any]) -> LoggedLine:
    """Return the line that has come over the wire as a list."""
    line = LoggedLine(*parts)
    path, number, function = line.place
    session_id, node_id, run_id = line.ids
    extra: dict[str, object] = json.loads(str(line.extra))
    return line._replace(place=(path, number, function), ids=(session_id, node_id, run_id), extra=extra)


def log_again(line: LoggedLine, worker: str, shift: float, scope: SessionScope, call_id: int) -> None:
    """Log a line of a session on a worker in this program, on the logger of the same name.

    Args:
        line: The line.
        worker: The worker; the record has it as `worker`, unless users' `extra` has a value of that name.
        shift: The seconds to add to the worker's clock.
        scope: The sending session.
        call_id: The call of the sending session that the line is about.
    """
    # The worker need not know what is a secret of the sending session.
    secrets = scope.record.secrets
    text, error = secrets.text(line.text), secrets.text(line.error)
    try_to_log(partial(_handle, line._replace(text=text, error=error), worker, shift, secrets.scrubber), text)
    if scope.observers.logged:
        session_id = scope.record.identifier
        tell(
            scope.observers.logged,
            LogEvent(EventKind.LOGGED, session_id, line.logger, line.level, text, call_id, now()),
        )


def _handle(line: LoggedLine, worker: str, shift: float, scrubber: Scrubber) -> None:
    logger = logging.getLogger(line.logger)
    if not logger.isEnabledFor(line.level):
        return
    path, number, function = line.place
    # Without arguments the text is taken as it is.
    record = logger.makeRecord(line.logger, line.level, path, number, line.text, (), None, function)
    record.created = line.at + shift
    record.msecs = record.created % 1 * 1_000
    record.exc_text = line.error or None
    ids = zip(_IDS, line.ids, strict=True)
    # Users' own values win.
    vars(record).update({"worker": worker, **dict(ids), **_scrubbed(line.extra, scrubber)})
    logger.handle(record)


def _scrubbed(value: Any, scrubber: Scrubber) -> Any:
    """Return a value that was JSON without known secrets, at any depth."""
    if isinstance(value, str):
        return scrubber.value(value)
    if isinstance(value, list):
        return [_scrubbed(each, scrubber) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return {scrubber.value(name): _scrubbed(each, scrubber) for name, each in pairs}
    is_secret = type(value) is int and scrubber.exact(str(value)) != str(value)
    return REDACTED if is_secret else value
