"""Where the log is shown: on stderr and in files, for the process or for one session.

Called by users as `rt.enable_logging`, and by the log of a session that has a display of its own.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from functools import partial
from typing import get_args

from railtracks._checks import check_path
from railtracks._options import LoggingSetting
from railtracks._records.log_files import LogFileHandler
from railtracks._records.log_lines import ROOT, FileLineFormat, LineFormat
from railtracks._records.log_places import is_shown_by_others


def enable_logging(level: LoggingSetting | None = None, log_file: str | os.PathLike[str] | None = None) -> None:
    """Show the log of all sessions of this process, on stderr and, if asked for, in a file.

    A session with a `logging_setting` of its own is shown by that on stderr, and not twice. Nor is a line shown that
    the application shows itself: by a handler that writes to stdout or stderr, or to the same file. A line of a file
    begins with its date in UTC and its session. Calling this again replaces what an earlier call set up.

    Args:
        level: The lowest level that is shown, by default `$RT_LOG_LEVEL`, else `INFO`. `NONE` shows nothing on stderr,
            and a file gets what is `INFO` or higher.
        log_file: A file to append to as well, by default `$RT_LOG_FILE`, else none.

    Raises:
        TypeError: If `log_file` is no path.
        ValueError: If there is no such level, or no file can have that path.
        OSError: If the file cannot be opened.
    """
    if log_file is not None:
        check_path("log_file", log_file)
    chosen = level if level is not None else os.environ.get("RT_LOG_LEVEL") or "INFO"
    if chosen not in get_args(LoggingSetting):
        what = "the level" if level is not None else "the environment variable RT_LOG_LEVEL"
        raise ValueError(f"{what} must be one of {', '.join(get_args(LoggingSetting))}, not {chosen!r}")
    path = log_file if log_file is not None else os.environ.get("RT_LOG_FILE") or None
    logger = logging.getLogger(ROOT)
    handlers = handlers_for(chosen, path, time.time())
    for handler in handlers:
        handler.addFilter(partial(_is_to_be_shown, handler))
    for handler in [handler for handler in logger.handlers if isinstance(handler.formatter, LineFormat)]:
        logger.removeHandler(handler)
        handler.close()
    for handler in handlers:
        logger.addHandler(handler)
    silent = logging.NOTSET if path is None else logging.INFO
    logger.setLevel(silent if chosen == "NONE" else chosen)


def _is_to_be_shown(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Return whether a handler of `enable_logging` is the one that shows a record in its place."""
    if getattr(record, "has_display", False) and not isinstance(handler, LogFileHandler):
        return False
    return not is_shown_by_others(record, handler)


def handlers_for(setting: str | None, path: str | os.PathLike[str] | None, started: float) -> list[logging.Handler]:
    """Return new handlers for stderr, if there is a setting, and for a file, if there is a path."""
    handlers: list[logging.Handler] = []
    if path is not None:
        handlers.append(LogFileHandler(path))
    if setting == "NONE":
        # It stands for "show nothing": without any handler the standard library would print warnings on stderr.
        handlers.append(logging.NullHandler())
    elif setting is not None:
        handlers.append(logging.StreamHandler(sys.stderr))
    level = "INFO" if setting is None or setting == "NONE" else setting
    for handler in handlers:
        handler.setLevel(level)
        handler.setFormatter((FileLineFormat if isinstance(handler, LogFileHandler) else LineFormat)(started))
    return handlers
