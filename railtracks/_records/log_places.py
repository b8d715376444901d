"""Where log handlers show records, so that no line is shown twice in one place: on the console, or in one file.

Called by `log` for each record that it would show. The application's handlers go first. They are looked at anew for
each record, because the application may configure logging at any time.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from io import IOBase

from railtracks._records.error_parts import answer
from railtracks._records.log_files import LogFileHandler
from railtracks._records.log_lines import LineFormat


def is_shown_by_others(record: logging.LogRecord, own: logging.Handler) -> bool:
    """Return whether the handlers of the application show a record in the place of a handler of ours.

    A filter of the application that only its handlers in that place have is asked here, too. A file that
    `rt.enable_logging` writes counts among these places; what it shows on the console does not.

    Args:
        record: The record, which its logger is enabled for and hands on.
        own: The handler of ours.
    """
    logger = logging.getLogger(record.name)
    shown_by = [
        each
        for each in _handlers_of(logger)
        if each is not own and record.levelno >= each.level and _is_in_place_of(each, own)
    ]
    # What a filter raises has cost the application this line.
    return bool(shown_by) and answer(
        lambda: bool(logger.filter(record)) and any(each.filter(record) for each in shown_by), lambda _: False
    )


def _handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Return the handlers that get the records of a logger, its own and those of the loggers above."""
    above: logging.Logger | None = logger
    while above is not None:
        yield from above.handlers
        above = above.parent if above.propagate else None


def _is_in_place_of(other: logging.Handler, own: logging.Handler) -> bool:
    if isinstance(own, LogFileHandler):
        if isinstance(other, LogFileHandler):
            return other.path == own.path
        return isinstance(other, logging.FileHandler) and other.baseFilename in {own.path, own.given_path}
    return not isinstance(other.formatter, LineFormat) and _is_on_console(other)


def _is_on_console(handler: logging.Handler) -> bool:
    """Return whether a handler writes to stdout or stderr: one of `logging`, of `rich`, or another with a stream."""
    if isinstance(handler, logging.FileHandler | logging.NullHandler):
        return False
    stream: object = getattr(handler, "stream", None)
    if stream is None:
        stream = getattr(getattr(handler, "console", None), "file", None)
    if stream is None:
        return False
    if any(stream is standard for standard in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)):
        return True
    # A stream that was wrapped anew. One without a descriptor raises.
    return isinstance(stream, IOBase) and answer(lambda: stream.fileno() in {1, 2}, lambda _: False)
