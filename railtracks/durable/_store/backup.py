"""A copy of a store in one SQLite file, of one moment, and how such a copy is made an ordinary store.

`DurableStore.backup` and `restore` call this. `Database` asks the file whether it is a backup.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from railtracks._records.files import sync_folder
from railtracks.durable._store.database import Database, backed_up_at, now_of
from railtracks.durable._store.schema import BACKUP, FENCES, calls, facts, fences, sessions, signals
from railtracks.exceptions import StoreError

# How many rows are copied at once.
_PIECE: Final = 1_000
# More than all fencing numbers together that the original can have given out since the backup.
_GIVEN_SINCE: Final = 1_000_000
# The rows of owners are left out: no owner of a session in the original has it in the backup.
_COPIED: Final = (sessions, calls, signals, fences, facts)


def write_backup(database: Database, path: Path) -> None:
    """Copy a store into a file that is not there yet; whoever finds the file finds the whole of it.

    Raises:
        StoreError: If there is such a file, or it cannot be written.
    """
    if os.path.lexists(path):
        raise _is_there(path)
    part = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        with _removed(part):
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with database.reading() as connection:
                now = now_of(connection)
                if database.is_sqlite:
                    _copy_file(connection, part)
                else:
                    _copy_rows(connection, part)
            _mark(part, now)
            # Not renamed, which would replace a file that somebody has made meanwhile.
            os.link(part, path)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise _is_there(path) from error
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the backup {path} cannot be written: {error}") from error


def _is_there(path: Path) -> StoreError:
    return StoreError(f"the backup {path} is not written, because there is such a file: name another one")


@contextmanager
def _removed(part: Path) -> Generator[None]:
    """Delete a file and what SQLite keeps beside it, when the block is left."""
    try:
        yield
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                part.with_name(f"{part.name}{ending}").unlink()


def _copy_file(connection: Connection, part: Path) -> None:
    """Copy all pages of a SQLite file, as the transaction of a connection sees them."""
    source = connection.connection.driver_connection
    assert isinstance(source, sqlite3.Connection)  # noqa: S101 - the one driver for SQLite that a store takes
    with closing(sqlite3.connect(part)) as target:
        source.backup(target)


def _copy_rows(connection: Connection, part: Path) -> None:
    """Copy all rows that the transaction of a connection sees into a new store."""
    into = Database(URL.create("sqlite", database=str(part)), "process", 5.0, 30.0)
    try:
        for table in _COPIED:
            found = connection.execution_options(yield_per=_PIECE).execute(sa.select(table))
            for piece in found.mappings().partitions():
                with into.writing("upgrade") as target:
                    target.execute(sa.insert(table), [dict(row) for row in piece])
    finally:
        into.close()


def _mark(part: Path, now: float) -> None:
    """Have the file of a store say that it is a backup, and write it to the disk."""
    with closing(sqlite3.connect(part)) as target:
        target.execute("pragma journal_mode=delete")
        with target:
            target.execute("delete from railtracks_owners")
            # The backup of a backup is of the same moment.
            target.execute("insert or ignore into railtracks_facts (name, value) values (?, ?)", (BACKUP, repr(now)))
    descriptor = os.open(part, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unmark(connection: Connection, store: str) -> float:
    """Make a backup an ordinary store; return the moment of which it is, by the clock of the original.

    Raises:
        StoreError: If the store is no backup.
    """
    moment = backed_up_at(connection)
    if moment is None:
        raise StoreError(f"the store {store} is no backup: there is nothing to restore")
    connection.execute(sa.delete(facts).where(facts.c.name == BACKUP))
    for table in sessions, fences:
        connection.execute(sa.update(table).values(fence=table.c.fence + _GIVEN_SINCE))
    # The original may have given numbers to ids that this store has never seen.
    is_floor = facts.c.name == FENCES
    floor = connection.execute(sa.select(facts.c.value).where(is_floor)).scalar()
    connection.execute(sa.delete(facts).where(is_floor))
    raised = (0 if floor is None else int(floor)) + _GIVEN_SINCE
    connection.execute(sa.insert(facts).values(name=FENCES, value=str(raised)))
    return moment
