"""The file of a store in SQLite, as it was when it was opened: whether its path still leads to it.

`sqlite` asks before each commit, and before each transaction that reads. SQLite itself goes on in a file that has no
name any more, and everything that it acknowledges there is lost.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from sqlalchemy.engine import Connection

from railtracks.exceptions import StoreError

# SQLite deletes them when the last connection to the store is closed, and nobody else may.
_ENDINGS: Final = ("-wal", "-shm")

_RESTORE: Final = "Restore the newest backup, and resume its sessions"
_PUT_BACK: Final = "Put the file back, and resume the sessions that were interrupted"
# The connections that are open still have the file of SQLite's. The last one to be closed writes what is in it to the
# store. Brought back after that, the file would overwrite what was written since
# (test_durable_place.py::test_what_was_acknowledged_is_in_a_store_whose_log_was_taken_away_once_it_is_closed).
_CLOSE: Final = (
    "Close the store in each process that has it open: leave its `with` blocks, or let the process end. Then all that"
    " was acknowledged is in it: resume the sessions that were interrupted. Do not put the file back after that: it"
    " would overwrite what was written later"
)


class StoreFile:
    """The file of a store, which has to be there when it is made.

    Args:
        path: Its real path.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._found = _identity(self._path)
        # SQLite makes a file of nothing a store, and never empties one again.
        self._was_filled = False
        # Why nothing is written any more, once SQLite's own files were taken away: a new connection would make new
        # ones, without what was in the old ones. That they are back proves nothing: meanwhile another process may have
        # made new ones and written to the store.
        self._lost: str | None = None
        # The connection that writes, and which files SQLite has beside the store, as `_identity` names them.
        self._writer: Connection | None = None
        self._beside: list[tuple[str, tuple[int, int] | None]] = []

    def check(self) -> None:
        """Check that the path leads to the file.

        Raises:
            StoreError: If it does not.
        """
        status = _status(self._path)
        if self._lost is not None or self._found is None or _told_by(status) != self._found:
            raise StoreError(self._lost or self._problem(self._path, _PUT_BACK))
        if status is not None and status.st_size:
            self._was_filled = True
        elif self._was_filled:
            self._lost = f"{self._path} was emptied while it was open: nothing is written to it any more. {_RESTORE}"
            raise StoreError(self._lost)

    def check_all(self) -> None:
        """Check that what is written goes to the file, and that the next process to open it will find that.

        Raises:
            StoreError: If it does not.
        """
        self.check()
        for path, found in self._beside:
            if found is None or _identity(path) != found:
                self._lost = self._problem(path, _CLOSE)
                raise StoreError(self._lost)

    def begin(self, connection: Connection) -> None:
        """Note which files SQLite has beside the store, in the first transaction of a connection that writes."""
        if connection is not self._writer:
            self._writer = connection
            beside = [f"{self._path}{ending}" for ending in _ENDINGS]
            self._beside = [(each, _identity(each)) for each in beside]

    def _problem(self, path: str, remedy: str) -> str:
        happened = "was deleted or moved" if _identity(path) is None else "was replaced by another file"
        return f"{path} {happened} while the store {self._path} was open: nothing is written to it any more. {remedy}"


def kind_problem(mode: int) -> str | None:
    """Return why no store is at a path, by the mode of what is there; `None` if that is a regular file."""
    if stat.S_ISREG(mode):
        return None
    return "it is a folder" if stat.S_ISDIR(mode) else "it is no regular file"


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from all others, `None` if there is none."""
    return _told_by(_status(path))


def _told_by(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_dev, status.st_ino)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - in each commit: a `Path` takes three times as long
    except OSError:
        return None
