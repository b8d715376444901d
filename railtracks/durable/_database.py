"""The database under a store: how it is opened, what its clock says, and how one sees that an owner is alive.

SQLite on one machine, PostgreSQL for several. What differs between the two is said in here and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.engine import URL, Connection, Engine, make_url

from railtracks._store import sync_folder
from railtracks.durable._schema import REVISION, REVISIONS
from railtracks.exceptions import StoreError

Durability: TypeAlias = Literal["power", "process"]

# Between machines no file system that SQLite can trust with its locks and its shared memory.
_REMOTE: Final = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs")
_MIGRATION_LOCK: Final = 0x7261696C747261  # "railtra"


class Database:
    """One database, opened in one process. Everything in here blocks."""

    def __init__(self, url: URL, durability: Durability, timeout: float, lease: float) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._durability = durability
        self._timeout = timeout
        self._lease = lease
        # One writer at a time in this process; SQLite itself only waits and asks again.
        self._turn = threading.Lock()
        self._writer: Connection | None = None
        self._holding: Any = None
        self.engine: Engine = self._opened()
        try:
            self._migrate()
        except BaseException:
            self.engine.dispose()
            raise

    def close(self) -> None:
        """Let go of everything."""
        with self._turn:
            self._drop_writer()
            self.let_go()
            self.engine.dispose()

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Open a transaction that may write, and commit it when the block is left."""
        with self._turn:
            if self._writer is None:
                self._writer = self.engine.connect().execution_options(railtracks_writes=True)
            try:
                with self._writer.begin():
                    yield self._writer
            except sa.exc.DBAPIError:
                # Its state is not known: the next one gets another.
                self._drop_writer()
                raise

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Open a transaction that reads one state of the database."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def now(self, connection: Connection) -> float:
        """Return the time of the database, in seconds since 1970."""
        return float(connection.execute(clock_of(connection.dialect.name)).scalar_one())

    # Owners.

    def hold(self, token: str) -> None:
        """Show, for as long as this process lives, that an owner is alive."""
        if self.is_sqlite:
            folder = self._owners_folder()
            folder.mkdir(mode=0o700, exist_ok=True)
            self._holding = FileLock(folder / f"{token}.lock", timeout=0, thread_local=False, mode=0o600)
            self._holding.acquire()
            return
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._holding = connection
        connection.execute(sa.text("select pg_advisory_lock(:key)"), {"key": _number(token)})

    def let_go(self) -> None:
        """End what `hold` began."""
        holding, self._holding = self._holding, None
        if isinstance(holding, Connection):
            with suppress(sa.exc.DBAPIError):
                holding.invalidate()
                holding.close()
        elif holding is not None:
            path = Path(holding.lock_file)
            holding.release()
            path.unlink(missing_ok=True)

    def hold_again(self, token: str) -> None:
        """Take the lock again if the connection that held it was cut."""
        if isinstance(self._holding, Connection):
            try:
                self._holding.execute(sa.text("select 1"))
            except sa.exc.DBAPIError:
                self.let_go()
                self.hold(token)

    def is_held(self, connection: Connection, token: str) -> bool:
        """Say whether the owner with this token lives, as far as its lock can tell."""
        if not self.is_sqlite:
            key = {"key": _number(token)}
            if not connection.execute(sa.text("select pg_try_advisory_xact_lock(:key)"), key).scalar_one():
                return True
            return False
        path = self._owners_folder() / f"{token}.lock"
        if not path.exists():
            return False
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return True
        lock.release()
        path.unlink(missing_ok=True)
        return False

    def _owners_folder(self) -> Path:
        path = Path(self.url.database or "")
        return path.with_name(f"{path.name}-owners")

    # Opening.

    def _opened(self) -> Engine:
        if self.is_sqlite:
            return self._opened_sqlite()
        if self.url.get_backend_name() != "postgresql":
            raise ValueError(f"a store is SQLite or PostgreSQL, not {self.url.get_backend_name()}")
        return self._opened_postgres()

    def _opened_sqlite(self) -> Engine:
        name = self.url.database
        if not name or name == ":memory:":
            raise ValueError("a store in memory would outlive nothing: name a file")
        path = Path(name).absolute()
        _refuse_network(path)
        try:
            _make_private(path)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from error
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"check_same_thread": False, "timeout": min(5.0, self._timeout), "isolation_level": None},
        )
        level = 2 if self._durability == "power" else 1

        def prepare(connection: sqlite3.Connection, _: object) -> None:
            mode = connection.execute("pragma journal_mode=wal").fetchone()[0]
            connection.execute(f"pragma synchronous={level}")
            found = connection.execute("pragma synchronous").fetchone()[0]
            if mode != "wal" or found != level:
                raise StoreError(f"SQLite keeps {path} in mode {mode!r} and synchronous={found}, and not as it was told to")

        def begin(connection: Connection) -> None:
            is_writing = connection.get_execution_options().get("railtracks_writes", False)
            connection.exec_driver_sql("begin immediate" if is_writing else "begin")

        _listen(engine, "connect", prepare)
        _listen(engine, "begin", begin)
        return engine

    def _opened_postgres(self) -> Engine:
        # Below the lease: who hangs in here must not keep a lock longer than it owns its sessions.
        patience = int(min(self._timeout, self._lease / 2) * 1000)
        commit = "on" if self._durability == "power" else "off"
        options = (
            f"-c lock_timeout={patience} -c statement_timeout={patience}"
            f" -c idle_in_transaction_session_timeout={patience} -c synchronous_commit={commit}"
        )
        try:
            return sa.create_engine(
                self.url.set(drivername="postgresql+psycopg"),
                connect_args={"options": options, "connect_timeout": max(2, int(self._timeout))},
                pool_pre_ping=True,
            )
        except ImportError:
            raise ImportError(
                "a store in PostgreSQL needs psycopg: install it with  pip install 'railtracks-trio[postgres]'"
            ) from None

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(sa.exc.DBAPIError):
                writer.invalidate()
            writer.close()

    def _migrate(self) -> None:
        try:
            with self.engine.connect() as connection:
                revision = self._revision(connection)
            if revision == REVISION:
                return
            with self.writing() as connection:
                if not self.is_sqlite:
                    connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                # Somebody else may have done it meanwhile.
                revision = self._revision(connection)
                if revision is not None and revision not in REVISIONS:
                    raise StoreError(
                        f"the store {self.url.render_as_string()} has schema {revision}, made by a newer railtracks:"
                        f" this one knows {REVISION} and nothing above"
                    )
                if revision != REVISION:
                    _upgrade(connection)
        except sa.exc.DBAPIError as error:
            raise StoreError(f"the store {self.url.render_as_string()} cannot be opened: {error.orig}") from error
        if self.is_sqlite:
            sync_folder(Path(self.url.database or "").absolute().parent)

    def _revision(self, connection: Connection) -> str | None:
        if not sa.inspect(connection).has_table("railtracks_version"):
            return None
        found: str | None = connection.execute(sa.text("select version_num from railtracks_version")).scalar()
        return found


def _upgrade(connection: Connection) -> None:
    # Only for a store that is not up to date: importing alembic takes longer than everything else here.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _listen(engine: Engine, event: str, act: Callable[..., None]) -> None:
    sa.event.listen(engine, event, act)


def _number(token: str) -> int:
    """Return the number that stands for an owner among PostgreSQL's advisory locks."""
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), signed=True)


def _make_private(path: Path) -> None:
    """Make the file, and its folder if there is none, for the owner's eyes only, before anything is written to it."""
    if not path.parent.exists():
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
            sync_folder(path.parent.parent)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _refuse_network(path: Path) -> None:
    """Refuse a place on a network file system, where SQLite's locks and its shared memory do not hold."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return
    there = path
    while not there.exists():
        there = there.parent
    best = ("", "")
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_rest = line.split(" ")
        point = point.replace("\\040", " ")
        if there.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    if best[1].startswith(_REMOTE):
        raise StoreError(f"{path} is on a network file system ({best[1]}): SQLite cannot keep its promises there")


def clock_of(dialect: str) -> sa.TextClause:
    """Return what asks a database for its time, in seconds since 1970."""
    is_sqlite = dialect == "sqlite"
    return sa.text(
        "select (julianday('now') - 2440587.5) * 86400.0" if is_sqlite else "select extract(epoch from clock_timestamp())"
    )


def database_url(url: str | os.PathLike[str] | None, home: Path) -> URL:
    """Return where a store is: a URL, a path, or by default a file of its own under the home of saved states."""
    if url is None:
        return sa.URL.create("sqlite", database=str(home / "durable" / "sessions.db"))
    if isinstance(url, os.PathLike) or "://" not in url:
        return sa.URL.create("sqlite", database=os.fspath(url))
    return make_url(url)
