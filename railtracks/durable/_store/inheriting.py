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
from collections import Counter
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final
from weakref import WeakSet

import trio

from railtracks.exceptions import StoreError


class FileConnection(sqlite3.Connection):
    """A connection to the file of a store. Unlike its base class, it can be referred to weakly."""


class OpenFiles:
    """The files of stores that a process has open, and those that it cannot open because of how it was forked.

    Args:
        patience: Seconds that a fork waits for transactions to end.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self._open: WeakSet[FileConnections] = WeakSet()
        self._at_work: Counter[FileConnections] = Counter()
        self._unusable: set[tuple[int, int]] = set()
        # Several threads may fork at once.
        self._forks = 0
        self._gate = threading.Condition()

    def add(self, connections: FileConnections) -> None:
        """Add the connections to a file.

        Raises:
            StoreError: If this process was forked while its parent was at work in the file.
        """
        if _identity(connections.path) in self._unusable:
            raise StoreError(
                f"the store {connections.path} cannot be opened: this process was forked while its parent process was"
                " at work in it, and SQLite cannot open it again here. Fork while no session runs, or start the process"
                " anew ('spawn')"
            )
        with self._gate:
            self._open.add(connections)

    @contextmanager
    def at_work(self, connections: FileConnections) -> Generator[None]:
        """Hold up forks while something is done with a connection; wait for the end of a fork before it."""
        with self._gate:
            self._gate.wait_for(lambda: not self._forks)
            self._at_work[connections] += 1
        try:
            yield
        finally:
            with self._gate:
                # In a process that was forked in here there is nothing to count down.
                if self._at_work[connections] > 1:
                    self._at_work[connections] -= 1
                else:
                    del self._at_work[connections]
                self._gate.notify_all()

    # Python loses what is raised in these three, and with it a Ctrl-C. Protected, it comes later: in a Trio run.

    @trio.lowlevel.enable_ki_protection
    def begin_fork(self) -> None:
        """Let no connection begin, and wait until none is at work, while there is patience."""
        with self._gate:
            self._forks += 1
            self._gate.wait_for(lambda: not self._at_work, self._patience)

    @trio.lowlevel.enable_ki_protection
    def end_fork(self) -> None:
        """Let connections work again."""
        with self._gate:
            # Outside of a Trio run, a Ctrl-C may have struck before this fork was counted.
            self._forks = max(0, self._forks - 1)
            self._gate.notify_all()

    @trio.lowlevel.enable_ki_protection
    def leave_to_parent(self) -> None:
        """Close all connections in a child process. A file in which one was at work cannot be opened there."""
        # Another thread of the parent's may have held the old one.
        self._gate, self._forks = threading.Condition(), 0
        at_work, self._at_work = self._at_work, Counter()
        for each in list(self._open):
            if each not in at_work:
                each.close()
            # What SQLite holds in memory for a connection at work would never be let go of.
            elif (found := _identity(each.path)) is not None:
                self._unusable.add(found)
        self._open.clear()


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
        self._files = files
        files.add(self)

    def add(self, connection: FileConnection) -> None:
        """Add a connection, which a child of this process closes."""
        self._connections.add(connection)

    def at_work(self) -> AbstractContextManager[None]:
        """Hold up forks while something is done with a connection; wait for the end of a fork before it."""
        return self._files.at_work(self)

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            connection.close()


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
