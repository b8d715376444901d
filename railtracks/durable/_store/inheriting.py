"""The connections to the file of a store in SQLite, and what becomes of them in a forked process.

SQLite keeps the locks of a file in a table of its process. A forked process inherits that table, and not the locks. A
connection that it opened beside an inherited one would take no lock that other processes see: the parent would delete
the log that the child writes to, with what the child has acknowledged. So a fork waits until no connection is at work,
and the child closes those that it has inherited. Closing them there touches no lock of the parent's.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from weakref import WeakSet

from railtracks.exceptions import StoreError

# Seconds that a fork waits for transactions to end.
_PATIENCE: Final = 1.0


class FileConnection(sqlite3.Connection):
    """A connection to the file of a store. Unlike its base class, it can be referred to weakly."""


class OpenFiles:
    """The files of stores that a process has open, and those that it cannot open because of how it was forked."""

    def __init__(self) -> None:
        self._open: WeakSet[FileConnections] = WeakSet()
        self._unusable: set[tuple[int, int]] = set()
        self._guard = threading.Lock()

    def add(self, path: Path, connections: FileConnections) -> None:
        """Add the connections to a file.

        Raises:
            StoreError: If this process was forked while its parent was at work in the file.
        """
        if _identity(path) in self._unusable:
            raise StoreError(
                f"the store {path} cannot be opened: this process was forked while its parent process was at work in"
                " it, and SQLite cannot open it again here. Fork while no session runs, or start the process anew"
                " ('spawn')"
            )
        with self._guard:
            self._open.add(connections)

    def begin_fork(self) -> None:
        """Wait until no connection is at work, for a second with each file at most, and let none begin."""
        for each in self._all():
            each.begin_fork()

    def end_fork(self) -> None:
        """Let connections work again."""
        for each in self._all():
            each.end_fork()

    def leave_to_parent(self) -> None:
        """Close all connections in a child process. A file in which one was at work cannot be opened there."""
        # Another thread of the parent's may have held the old one.
        self._guard = threading.Lock()
        for each in self._all():
            found = None if each.close_inherited() else _identity(each.path)
            if found is not None:
                self._unusable.add(found)
        self._open.clear()

    def _all(self) -> list[FileConnections]:
        with self._guard:
            return list(self._open)


# Of this process.
_files: Final = OpenFiles()


class FileConnections:
    """The connections of this process to the file of one store.

    Args:
        path: The file.
        files: What has to know of them.

    Attributes:
        path: The file.

    Raises:
        StoreError: If this process was forked while its parent was at work in the file.
    """

    def __init__(self, path: Path, files: OpenFiles = _files) -> None:
        self.path = path
        self._connections: WeakSet[FileConnection] = WeakSet()
        self._at_work = 0
        self._is_forking = False
        self._gate = threading.Condition()
        files.add(path, self)

    def add(self, connection: FileConnection) -> None:
        """Add a connection, which a child of this process closes."""
        self._connections.add(connection)

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Hold up forks while something is done with a connection; wait for the end of a fork before it."""
        with self._gate:
            self._gate.wait_for(lambda: not self._is_forking)
            self._at_work += 1
        try:
            yield
        finally:
            with self._gate:
                self._at_work -= 1
                self._gate.notify_all()

    def begin_fork(self) -> None:
        """Wait until no connection is at work, for a second at most, and let none begin."""
        with self._gate:
            self._is_forking = True
            self._gate.wait_for(lambda: not self._at_work, _PATIENCE)

    def end_fork(self) -> None:
        """Let connections work again."""
        with self._gate:
            self._is_forking = False
            self._gate.notify_all()

    def close_inherited(self) -> bool:
        """Close all connections in a child process; close none if one was at work, and return `False`."""
        # Another thread of the parent's may have held the old one.
        self._gate, self._is_forking = threading.Condition(), False
        if self._at_work:
            # What SQLite holds for that in memory would never be let go of.
            return False
        for connection in list(self._connections):
            connection.close()
        return True


@contextmanager
def at_work_in(path: Path) -> Generator[None]:
    """Hold up forks while a connection to a file is opened, used and closed.

    Raises:
        StoreError: If this process was forked while its parent was at work in the file.
    """
    with FileConnections(path).at_work():
        yield


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


# Windows has no forks.
with suppress(AttributeError):
    os.register_at_fork(
        before=_files.begin_fork, after_in_parent=_files.end_fork, after_in_child=_files.leave_to_parent
    )
