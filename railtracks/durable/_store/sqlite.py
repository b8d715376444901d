"""A store in SQLite: how its file is opened, and the lock files that show which owners live.

`Database` calls this; what differs from PostgreSQL is in here and in `postgres`.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from filelock import BaseFileLock, FileLock, Timeout
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine

from railtracks._records.files import is_mine, is_safe_name, sync_folder
from railtracks.durable._store.connecting import close_what_fails
from railtracks.durable._store.inheriting import FileConnection, FileConnections
from railtracks.durable._store.statements import run
from railtracks.durable._store.store_file import StoreFile, kind_problem
from railtracks.exceptions import StoreError

# File systems between machines: SQLite cannot trust them with its locks and its shared memory.
_REMOTE: Final = (
    "9p", "afs", "beegfs", "ceph", "cifs", "gcsfuse", "gfs2", "glusterfs", "gpfs", "juicefs", "lustre", "ncpfs", "nfs",
    "ocfs2", "rclone", "s3fs", "smb", "sshfs", "vboxsf",
)  # fmt: skip
_MOUNTS: Final = Path("/proc/self/mounts")
# The files of a store by their endings, and the modes that they may have at most. The last one is a folder: of locks.
_PARTS: Final = {"": 0o600, "-wal": 0o600, "-shm": 0o600, "-journal": 0o600, "-owners": 0o700}
# Bytes. The log is cut back to it when all of it is in the file and it begins anew, as after a reader that stayed long.
# Twice as much as SQLite lets it grow by itself, so that this costs nothing else.
_LONGEST_LOG: Final = 8 * 2**20
# Seconds. A lock file as old, of which the database knows nothing, was left by a process that died at its beginning.
_LEFT_BEHIND: Final = 86_400.0
# Seconds between two tries to take a lock of somebody's who holds it for a moment: a file of which the journal mode is
# being changed, or the lock file of an owner, which each of two processes that ask at once whether it lives holds.
_ASKED_AGAIN: Final = 0.01


class FileTransactions:
    """The transactions that write to the file of a store.

    Args:
        file: The file.
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def begin(self, connection: Connection, *, is_group: bool) -> None:  # noqa: ARG002 - of PostgreSQL
        """Begin a transaction; the file is checked before its commit, where it counts."""
        run(connection, "begin immediate")
        self._file.begin(connection)

    def check(self, connection: Connection) -> None:  # noqa: ARG002 - of PostgreSQL
        """Check where a transaction goes that is about to be committed.

        Raises:
            StoreError: If the path of the store does not lead there any more.
        """
        self._file.check_all()


def sqlite_engine(
    url: URL, durability: str, timeout: float, mounts: Path = _MOUNTS
) -> tuple[Engine, FileTransactions, FileConnections]:
    """Return the engine of a store's file, which is made if it is not there, what writes to it, and its connections.

    Args:
        url: Where the file is, by its real path.
        durability: What a commit survives, "power" or "process".
        timeout: Seconds that a commit may take.
        mounts: The table of mounts, as Linux writes it; where there is none, every path is taken for a local one.

    Raises:
        StoreError: If the file cannot be made, or is on a network file system. Also in a process that was forked while
            its parent was at work in it.
    """
    path = Path(url.database or "")
    try:
        _refuse_network(path, mounts)
        _make_private(path)
        for ending, mode in _PARTS.items():
            _keep_private(path, path.with_name(f"{path.name}{ending}"), mode)
    except OSError as error:
        raise StoreError(f"the store {path} cannot be opened: {error}") from error
    file, connections = StoreFile(path), FileConnections(path)
    patience = min(5.0, timeout)
    engine = sa.create_engine(
        url,
        connect_args={
            "check_same_thread": False,
            "timeout": patience,
            "isolation_level": None,
            "factory": FileConnection,
        },
        # A parameter is a row of a session, which an error must not quote.
        hide_parameters=True,
    )
    level = 2 if durability == "power" else 1

    def connect(*_: object) -> None:
        # SQLite would make another file.
        file.check()

    def prepare(connection: FileConnection, _: object) -> None:
        connections.add(connection)
        # A text that is no UTF-8 is refused with its row, by `reading`. By default the whole query would fail.
        connection.text_factory = text_of
        mode = _kept_in_wal(connection, patience)
        connection.execute(f"pragma journal_size_limit={_LONGEST_LOG}")
        connection.execute(f"pragma synchronous={level}")
        found = connection.execute("pragma synchronous").fetchone()[0]
        if mode != "wal" or found != level:
            raise StoreError(
                f"the store {path} cannot be opened: SQLite keeps it in journal mode {mode!r} with synchronous={found},"
                f" and not with 'wal' and {level}. Put it on another disk"
            )

    def begin(connection: Connection) -> None:
        # A transaction that writes has begun before SQLAlchemy hears of it.
        if not connection.get_execution_options().get("railtracks_writes"):
            file.check()
            run(connection, "begin")

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    close_what_fails(engine)
    return engine, FileTransactions(file), connections


def _kept_in_wal(connection: sqlite3.Connection, patience: float) -> str:
    """Ask for write-ahead logging, and return the journal mode that the file has then.

    The file's first connections change it at the same time. To the one that must give way SQLite says "locked" at once,
    without waiting for its timeout, since two that waited for each other would wait for ever: it asks again.

    Raises:
        sqlite3.OperationalError: If the file is still locked after `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return str(connection.execute("pragma journal_mode=wal").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(_ASKED_AGAIN)


def text_of(data: bytes) -> str:
    """Return a text of a file; what is no UTF-8 in it comes as lone surrogates, which `reading` refuses."""
    return str(data, "utf-8", "surrogateescape")


class LockFiles:
    """The lock files beside a store in SQLite: one for each owner, locked while its process lives."""

    def __init__(self, url: URL) -> None:
        path = Path(url.database or "")
        self._store = path
        self._folder = path.with_name(f"{path.name}-owners")
        self._lock: BaseFileLock | None = None

    def hold(self, token: str) -> None:
        """Show, for as long as this process lives, that an owner is alive.

        Raises:
            StoreError: If the lock file cannot be made.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            lock = FileLock(self._path(token), timeout=0, thread_local=False, mode=0o600)
            lock.acquire()
        except OSError as error:
            raise StoreError(f"the store {self._store} cannot be opened: {error}") from error
        self._lock = lock

    def let_go(self, *, is_forgotten: bool) -> None:
        """Unlock the lock file, and delete it if the database has forgotten the owner.

        Else the file has to stay, for it shows that the owner is dead.
        """
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
            if is_forgotten:
                Path(lock.lock_file).unlink(missing_ok=True)

    def hold_again(self, token: str) -> None:
        """Do nothing: the lock of a file is lost with its process only."""

    def problem(self, connection: Connection, token: str) -> None:
        """Return nothing: the lock of a file is not shared."""

    def is_held(self, connection: Connection, token: str) -> bool | None:  # noqa: ARG002 - PostgreSQL asks by it
        """Return whether the owner with this token lives, `None` if its lock does not tell.

        A file that is missing tells nothing: somebody may have deleted it. So does one that this process may not open.
        """
        return _is_locked(self._path(token))

    def clear(self, token: str) -> None:
        """Delete the lock file of an owner that was found dead and whose lease has ended."""
        # Where it may not be deleted, the next owner of the store tries again.
        with suppress(OSError):
            self._path(token).unlink(missing_ok=True)

    def tokens(self) -> list[str]:
        """Return the owners that have lock files."""
        # Where there is no folder there is no file either.
        return sorted(path.stem for path in self._folder.glob("*.lock") if is_safe_name(path.stem))

    def clear_others(self, known: Collection[str]) -> None:
        """Delete the old lock files that no owner holds, of owners that the database does not know."""
        old = time.time() - _LEFT_BEHIND
        for path in self._folder.glob("*.lock"):
            with suppress(OSError):
                if path.stem not in known and path.lstat().st_mtime < old and _is_locked(path) is False:
                    path.unlink()

    def _path(self, token: str) -> Path:
        # The database names it, and a database is input: the name of a file, which leads nowhere else.
        if not is_safe_name(token):
            raise StoreError(f"the store {self._store} names an owner that cannot be one: {token[:40]!r}")
        return self._folder / f"{token}.lock"


def _is_locked(path: Path) -> bool | None:
    """Return whether a process holds a lock file, `None` if that cannot be told."""
    if path.is_symlink() or not path.is_file():
        # To open a link would truncate what it leads to.
        return None
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=_ASKED_AGAIN, poll_interval=_ASKED_AGAIN / 2)
    except OSError as error:
        # Somebody holds it, or this process may not open it.
        return True if isinstance(error, Timeout) else None
    lock.release()
    return False


def _refuse_network(path: Path, mounts: Path) -> None:
    """Refuse a path on a network file system, where SQLite's locks and its shared memory do not hold."""
    if not mounts.exists():
        return
    best = ("", "")
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").strip("\n").split("\n"):
        _, point, kind, *_rest = line.split(" ")
        # The kernel writes spaces and the like in octal.
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)
        # Of two mounts at one point the later one covers the other.
        if path.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    if best[1].removeprefix("fuse.").startswith(_REMOTE):
        raise StoreError(
            f"the store {path} cannot be opened: it is on a network file system ({best[1]}), where SQLite can lose what"
            " it has written. Put it on a local disk, or use PostgreSQL"
        )


def _make_private(path: Path) -> None:
    """Make the file, and the folders that are missing, for its owner alone, before anything is written."""
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
    with suppress(FileExistsError):
        _make_empty(path)


def _make_empty(path: Path) -> None:
    """Make a file without opening it.

    Another thread may have it open in SQLite at once: a close here would take the locks away that it has there.
    """
    try:
        os.mknod(path, stat.S_IFREG | 0o600)
    except PermissionError:
        # Of some systems other than Linux only root may do so.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _keep_private(store: Path, part: Path, mode: int) -> None:
    """Take the rights of others at a part of a store away, if the part was there before.

    Raises:
        StoreError: If it is no file or folder of the store's own, or those rights cannot be taken away.
    """
    try:
        status = part.lstat()
    except FileNotFoundError:
        return
    is_expected = stat.S_ISDIR if mode & stat.S_IXUSR else stat.S_ISREG
    if part == store and (problem := kind_problem(status.st_mode)) is not None:
        raise StoreError(f"the store {store} cannot be opened: {problem}. Name the file that the store is to be in")
    if not is_expected(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not what a store has there"
        raise StoreError(
            f"the store {store} cannot be opened: {part} is {what}, so it is not the store's own. Remove it"
        )
    found = stat.S_IMODE(status.st_mode)
    if not found & ~mode:
        return
    if not is_mine(status):
        raise StoreError(
            f"the store {store} cannot be opened: {part} belongs to another user, and its mode {found:o} gives others"
            f" access to it. Have its owner set the mode {mode:o}, or name another file"
        )
    part.chmod(found & mode)
