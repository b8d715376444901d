"""A look into a store that nothing of this process has open: no row, no lock, no upgrade, and no right to write needed.

`Access.reading` comes here. A store that is not there yet is looked at as an empty one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import NullPool, StaticPool

from railtracks.durable._store.address import shown
from railtracks.durable._store.connecting import close_what_fails
from railtracks.durable._store.inheriting import at_work_in
from railtracks.durable._store.onlooking import Onlooker
from railtracks.durable._store.postgres import AdvisoryLocks, postgres_engine
from railtracks.durable._store.schema import REVISION, REVISIONS, metadata
from railtracks.durable._store.sqlite import LockFiles, text_of
from railtracks.durable._store.store_file import kind_problem
from railtracks.durable._store.upgrade import revision_of
from railtracks.exceptions import StoreError

# Seconds that a look waits for a lock that somebody holds.
_PATIENCE: Final = 5.0
# Option of connections that look at a store without a journal: it is not there yet, or this process can neither write
# it nor make the files that the journal needs. What SQLite says there of the journal mode is not what the file has.
NO_JOURNAL: Final = "railtracks_no_journal"


class _Locks(Protocol):
    def is_held(self, connection: Connection, token: str) -> bool | None: ...
    def tokens(self) -> Collection[str]: ...


@contextmanager
def looking(url: URL, durability: str, timeout: float, lease: float) -> Generator[tuple[Connection, Onlooker] | None]:
    """Open a transaction that reads one state of a store, and writes nothing.

    Yields:
        The transaction, and who sees which owners live; `None` if the tables are older than this library's.

    Raises:
        StoreError: If the tables are newer, or there is something else than a file.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    path = Path(url.database or "")
    if is_sqlite:
        engine = _file_engine(path, min(_PATIENCE, timeout))
    else:
        engine, _ = postgres_engine(url, durability, timeout, lease)
    locks: _Locks = LockFiles(url) if is_sqlite else AdvisoryLocks(engine)
    with at_work_in(path) if is_sqlite else nullcontext(), _disposed(engine):
        with engine.connect() as connection, connection.begin():
            revision = revision_of(connection)
            if revision == REVISION:
                yield connection, Onlooker(locks)
            elif revision in REVISIONS:
                yield None
            elif revision is not None:
                raise StoreError(
                    f"the store {shown(url)} has schema {revision}, made by a newer railtracks: this one"
                    f" knows {REVISION} and nothing above. Install the newer one"
                )
        if revision is None:
            with _disposed(_empty_engine()) as empty, empty.connect() as connection, connection.begin():
                yield connection, Onlooker(locks)


def is_there(url: URL, durability: str, timeout: float, lease: float) -> bool:
    """Return whether there is a store at a URL: a file or a database with its tables. Makes none.

    Raises:
        StoreError: As `_is_file`.
    """
    path, is_sqlite = Path(url.database or ""), url.get_backend_name() == "sqlite"
    if is_sqlite:
        if not _is_file(path):
            return False
        engine = _file_engine(path, min(_PATIENCE, timeout))
    else:
        engine, _ = postgres_engine(url, durability, timeout, lease)
    at_work = at_work_in(path) if is_sqlite else nullcontext()
    with at_work, _disposed(engine), engine.connect() as connection:
        return revision_of(connection) is not None


@contextmanager
def _disposed(engine: Engine) -> Generator[Engine]:
    try:
        yield engine
    finally:
        engine.dispose()


def _file_engine(path: Path, timeout: float) -> Engine:
    """Return the engine for a look at a file, an empty one if there is no such file.

    Raises:
        StoreError: As `_is_file`.
    """
    if not _is_file(path):
        return _empty_engine()

    is_still = _is_still(path)
    address = _address(path, is_still=is_still)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None)
        # A text that is no UTF-8 is refused with its row, by `reading`.
        connection.text_factory = text_of
        return connection

    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("pragma query_only=1")

    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=NullPool,
        hide_parameters=True,
        execution_options={NO_JOURNAL: is_still},
    )
    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin)
    close_what_fails(engine)
    return engine


def _is_file(path: Path) -> bool:
    """Return whether there is a file.

    Raises:
        StoreError: If there is something else, or what is there cannot be seen.
    """
    try:
        if not path.exists():
            return False
        problem = kind_problem(path.stat().st_mode)
    except OSError as error:
        problem = str(error)
    if problem is not None:
        raise StoreError(f"the store {path} cannot be read: {problem}. Name the file that the store is in")
    return True


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("begin")


def _is_still(path: Path) -> bool:
    """Return whether nobody has a file open, and SQLite cannot make the files by which it would notice who opens it."""
    return not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()


def _address(path: Path, *, is_still: bool) -> str:
    """Return the URI by which SQLite opens a file for a look."""
    where = f"file:{quote(str(path))}"
    if is_still:
        return f"{where}?mode=ro&immutable=1"
    # Nothing is written, but SQLite can tidy up behind writers that were killed.
    is_writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return f"{where}?mode={'rw' if is_writable else 'ro'}"


def _empty_engine() -> Engine:
    """Return the engine of a store in memory, with nothing in it."""
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, execution_options={NO_JOURNAL: True})
    metadata.create_all(engine)
    return engine
