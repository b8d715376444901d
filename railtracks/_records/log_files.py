"""Log files: the handlers that append to one file in this process share its descriptor.

Called by `log`, for sessions with a `log_file` and for `rt.enable_logging`.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

from railtracks._forks import after_fork


class LogFileHandler(logging.Handler):
    """Appends each record as one line to a file, in UTF-8.

    Each line is one write at the end of the file, so that the lines of threads and of forked processes never mix.

    Args:
        path: The file. It is made if it is not there. A later change of the working directory makes no difference.

    Attributes:
        path: The real path of the file.
        given_path: The path as it was given, made absolute: it may lead there through links.

    Raises:
        OSError: If the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        home_found = os.path.expanduser(path)  # noqa: PTH111 - the method raises for a user who is not known
        self.given_path: str = os.path.abspath(home_found)  # noqa: PTH100 - as `logging.FileHandler` keeps its own
        self.path: str = os.path.realpath(home_found)
        if not os.path.exists(self.path) and os.path.exists(self.given_path):  # noqa: PTH110 - texts, as above
            # What is no file has no path of its own: `/dev/stdout` leads to one like `pipe:[4711]`.
            self.path = self.given_path
        self._file: _SharedFile | None = _opened(self.path)
        # From here on `logging` knows the handler, and closes it at the end of the program.
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what cannot be written is told of as by every handler of `logging`."""
        if self._file is None:
            return
        try:
            self._file.write(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - as in the handlers of `logging`
            self.handleError(record)

    def close(self) -> None:
        """Write nothing from now on; the last handler of a file closes it."""
        self.acquire()
        file, self._file = self._file, None
        self.release()
        if file is not None:
            _left(file)
        super().close()


class _SharedFile:
    """One open file, and how many handlers write to it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    @property
    def is_there(self) -> bool:
        """Whether the path still leads to this file: it may have been moved away, as by a rotation of logs."""
        try:
            return os.path.samestat(Path(self.path).stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def write(self, line: bytes) -> None:
        """Append a line."""
        while line:
            line = line[os.write(self._descriptor, line) :]

    def close(self) -> None:
        """Close the file. What could not be written is lost, and was told of at its line."""
        with suppress(OSError):
            os.close(self._descriptor)


# The files that are open in this process, by their real paths, for all threads.
_files: dict[str, _SharedFile] = {}
_guard = Lock()


def _opened(path: str) -> _SharedFile:
    with _guard:
        file = _files.get(path)
        if file is None or not file.is_there:
            file = _files[path] = _SharedFile(path)
        file.users += 1
        return file


def _left(file: _SharedFile) -> None:
    with _guard:
        file.users -= 1
        if not file.users:
            file.close()
            if _files.get(file.path) is file:
                del _files[file.path]


def forget_parent() -> None:
    """In a forked process begin with no files: its parent's handlers, which write to those, are never closed here."""
    global _files, _guard
    _files, _guard = {}, Lock()


after_fork(forget_parent)
