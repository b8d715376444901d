"""The database under a store: how it is opened, what its clock says, and how one sees that an owner is alive.

SQLite on one machine, PostgreSQL for several. What differs between the two is said in here and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import sqlalchemy as sa
from filelock import BaseFileLock, FileLock, Timeout
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from railtracks._records.files import sync_folder
from railtracks.durable._store.schema import REVISION, REVISIONS
from railtracks.exceptions import StoreError

Durability: TypeAlias = Literal["power", "process"]

# Between machines no file system that SQLite can trust with its locks and its shared memory.
_REMOTE: Final = (
    "9p", "afs", "beegfs", "ceph", "cifs", "gcsfuse", "gfs2", "glusterfs", "gpfs", "juicefs", "lustre", "ncpfs", "nfs",
    "ocfs2", "rclone", "s3fs", "smb", "sshfs", "vboxsf",
)  # fmt: skip
_MOUNTS: Final = Path("/proc/self/mounts")
_MIGRATION_LOCK: Final = 0x7261696C747261  # "railtra"
# Seconds between two looks at something that another process decides.
LOOK: Final = 0.1
# Two who ask at once whether an owner lives must not take one another for it.
_ASKED_AGAIN: Final = 0.01
_CLOCKS: Final[dict[str, sa.ColumnElement[float]]] = {
    "sqlite": sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)"),
    "postgresql": sa.literal_column("extract(epoch from clock_timestamp())"),
}
# What alembic's scripts import is one for the whole process.
_UPGRADING: Final = threading.Lock()


class Database:
    """One database, opened in one process. Everything in here blocks."""

    def __init__(self, url: URL, durability: Durability, timeout: float, lease: float) -> None:
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._durability = durability
        self._timeout = timeout
        self._lease = lease
        # One writer at a time in this process; SQLite itself only waits and asks again.
        self._turn = threading.Lock()
        self._is_closed = False
        self._writer: Connection | None = None
        self._lock_file: BaseFileLock | None = None
        self._lock_connection: Connection | None = None
        self.url = url
        self.engine: Engine = self._opened_sqlite() if self.is_sqlite else self._opened_postgres()
        # SQLite's readers see one state anyway.
        level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._readers = self.engine.execution_options(**level)
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of everything."""
        with self._turn:
            self._is_closed = True
            self._drop_writer()
            self.let_go()
            self.engine.dispose()

    def forget(self) -> None:
        """In a child process, let go of connections that are its parent's, without a word to the database."""
        self.engine.dispose(close=False)

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Open a transaction that may write, and commit it when the block is left."""
        with self._turn:
            self._refuse_closed()
            if self._writer is None:
                self._writer = self.engine.connect().execution_options(railtracks_writes=True)
            try:
                with self._writer.begin():
                    yield self._writer
            except DBAPIError:
                # Its state is not known: the next one gets another.
                self._drop_writer()
                raise

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Open a transaction that reads one state of the database."""
        with self._readers.connect() as connection, connection.begin():
            yield connection

    # Owners.

    def hold(self, token: str) -> None:
        """Show, for as long as this process lives, that an owner is alive.

        Raises:
            StoreError: If the file that shows it cannot be made.
        """
        if not self.is_sqlite:
            self._lock_connection = self._locked(token)
            return
        folder = self._owners_folder()
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = FileLock(folder / f"{token}.lock", timeout=0, thread_local=False, mode=0o600)
            lock.acquire()
        except OSError as error:
            raise StoreError(f"the store {self.url.database} cannot be opened: {error}") from error
        self._lock_file = lock

    def let_go(self) -> None:
        """End what `hold` began."""
        connection, self._lock_connection = self._lock_connection, None
        if connection is not None:
            # Given back to the pool it would keep the lock.
            connection.invalidate()
            connection.close()
        lock, self._lock_file = self._lock_file, None
        if lock is not None:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def hold_again(self, token: str) -> None:
        """Take the lock again if the connection that held it was cut."""
        if self.is_sqlite:
            return
        with self._turn:
            self._refuse_closed()
            if self._lock_connection is not None:
                try:
                    self._lock_connection.execute(sa.text("select 1"))
                except DBAPIError:
                    self.let_go()
            # Also where the last try found no server.
            if self._lock_connection is None:
                self.hold(token)

    def is_held(self, connection: Connection, token: str) -> bool:
        """Say whether the owner with this token lives, as far as its lock can tell."""
        if not self.is_sqlite:
            # Shared: two who ask at once must not take one another for the owner.
            is_free = sa.text("select pg_try_advisory_xact_lock_shared(:key)")
            return not connection.execute(is_free, {"key": _number(token)}).scalar_one()
        path = self._owners_folder() / f"{token}.lock"
        if not path.exists():
            return False
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=_ASKED_AGAIN, poll_interval=_ASKED_AGAIN / 2)
        except Timeout:
            return True
        lock.release()
        path.unlink(missing_ok=True)
        return False

    def _locked(self, token: str) -> Connection | None:
        """Return a connection that has the lock of an owner; none if somebody just asks for that lock."""
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        is_locked = False
        try:
            statement = sa.text("select pg_try_advisory_lock(:key)")
            is_locked = connection.execute(statement, {"key": _number(token)}).scalar_one()
        finally:
            if not is_locked:
                connection.close()
        return connection if is_locked else None

    def _owners_folder(self) -> Path:
        path = Path(self.url.database or "")
        return path.with_name(f"{path.name}-owners")

    # Opening.

    def _opened_sqlite(self) -> Engine:
        path = Path(self.url.database or "")
        try:
            _refuse_network(path)
            _make_private(path)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from error
        patience = min(5.0, self._timeout)
        engine = sa.create_engine(
            self.url, connect_args={"check_same_thread": False, "timeout": patience, "isolation_level": None}
        )
        level = 2 if self._durability == "power" else 1

        def prepare(connection: sqlite3.Connection, _: object) -> None:
            mode = connection.execute("pragma journal_mode=wal").fetchone()[0]
            connection.execute(f"pragma synchronous={level}")
            found = connection.execute("pragma synchronous").fetchone()[0]
            if mode != "wal" or found != level:
                raise StoreError(
                    f"SQLite keeps {path} in mode {mode!r} and synchronous={found}, and not as it was told to"
                )

        def begin(connection: Connection) -> None:
            is_writing = connection.get_execution_options().get("railtracks_writes", False)
            connection.exec_driver_sql("begin immediate" if is_writing else "begin")

        event.listen(engine, "connect", prepare)
        event.listen(engine, "begin", begin)
        return engine

    def _opened_postgres(self) -> Engine:
        # Below the lease: who hangs in here must not keep a lock longer than it owns its sessions.
        patience = max(1, int(min(self._timeout, self._lease / 2) * 1000))
        commit = "on" if self._durability == "power" else "off"
        seconds = str(max(1, patience // 3000))
        given = self.url.query
        # A server that is cut off is noticed in that time, too: the kernel's own patience is hours.
        query = {
            "connect_timeout": str(max(2, int(self._timeout))),
            "tcp_user_timeout": str(patience),
            "keepalives_idle": seconds,
            "keepalives_interval": seconds,
            "keepalives_count": "3",
            **given,
            "options": f"{given.get('options', '')} -c lock_timeout={patience} -c statement_timeout={patience}"
            f" -c idle_in_transaction_session_timeout={patience} -c synchronous_commit={commit}",
        }
        url = self.url.set(drivername="postgresql+psycopg", query=query)
        try:
            return sa.create_engine(url, pool_pre_ping=True)
        except ImportError as error:
            raise ImportError(
                "a store in PostgreSQL needs psycopg: install it with  pip install 'railtracks-trio[postgres]'"
            ) from error

    def _refuse_closed(self) -> None:
        # A renewal of a lease that nobody waits for any more would open connections that nobody closes.
        if self._is_closed:
            raise StoreError(f"the store {self.url.render_as_string()} was closed meanwhile")

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.invalidate()
            writer.close()

    def _migrate(self) -> None:
        try:
            with self.reading() as connection:
                revision = _revision(connection)
            if revision == REVISION:
                return
            # Only for a store that is not up to date: importing alembic takes longer than all else here. Not in the
            # transaction, which the others wait for.
            from alembic import command  # noqa: PLC0415
            from alembic.config import Config  # noqa: PLC0415

            config = Config()
            config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
            config.set_main_option("path_separator", "os")
            with _UPGRADING, self.writing() as connection:
                if not self.is_sqlite:
                    connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                # Somebody else may have done it meanwhile.
                revision = _revision(connection)
                if revision is not None and revision not in REVISIONS:
                    raise StoreError(
                        f"the store {self.url.render_as_string()} has schema {revision}, made by a newer railtracks:"
                        f" this one knows {REVISION} and nothing above"
                    )
                if revision != REVISION:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
        except DBAPIError as error:
            raise StoreError(f"the store {self.url.render_as_string()} cannot be opened: {error.orig}") from error
        if self.is_sqlite:
            sync_folder(Path(self.url.database or "").parent)


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("railtracks_version"):
        return None
    found: str | None = connection.execute(sa.text("select version_num from railtracks_version")).scalar()
    return found


def _number(token: str) -> int:
    """Return the number that stands for an owner among PostgreSQL's advisory locks."""
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), signed=True)


def _local(url: URL) -> URL:
    """Return the URL of SQLite's file by its one true path: all who open it have to meet at the same locks."""
    name = url.database
    if not name or name == ":memory:":
        raise ValueError("a store in memory would outlive nothing: name a file")
    if url.host or url.username or url.password or url.query or url.get_driver_name() != "pysqlite":
        raise ValueError(f"a store in SQLite is a path and nothing else, not {url.render_as_string()}")
    return sa.URL.create("sqlite", database=os.path.realpath(name))


def _make_private(path: Path) -> None:
    """Make the file, and the folders that are missing, for the owner's eyes only, before anything is written."""
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _refuse_network(path: Path) -> None:
    """Refuse a place on a network file system, where SQLite's locks and its shared memory do not hold."""
    if not _MOUNTS.exists():
        return
    best = ("", "")
    for line in _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").strip("\n").split("\n"):
        _, point, kind, *_rest = line.split(" ")
        # The kernel writes spaces and the like in octal.
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)
        # Of two in one place the later one covers the other.
        if path.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    if best[1].removeprefix("fuse.").startswith(_REMOTE):
        raise StoreError(f"{path} is on a network file system ({best[1]}): SQLite cannot keep its promises there")


def now_of(connection: Connection) -> float:
    """Return the time of a database, in seconds since 1970: the one clock that all owners and waits go by."""
    return float(connection.execute(sa.select(clock_of(connection))).scalar_one())


def clock_of(connection: Connection) -> sa.ColumnElement[float]:
    """Return what stands for that time in a statement, which saves one that asks for it."""
    return _CLOCKS[connection.dialect.name]


def database_url(url: str | os.PathLike[str] | None, home: Path) -> URL:
    """Return where a store is: a URL, a path, or by default a file of its own under the home of saved states."""
    if url is None:
        return sa.URL.create("sqlite", database=str(home / "durable" / "sessions.db"))
    if isinstance(url, os.PathLike) or "://" not in url:
        return _local(sa.URL.create("sqlite", database=os.fspath(url)))
    try:
        made = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"a store is SQLite or PostgreSQL: {error}") from None
    if made.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ValueError(f"a store is SQLite or PostgreSQL, not {made.get_backend_name()}")
    return _local(made) if made.get_backend_name() == "sqlite" else made
