"""The way into a store: opened by the first who needs it, closed by the last."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress

import trio
from attrs import define, field
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from railtracks.durable._store.database import Database, Durability
from railtracks.durable._store.ownership import Owner
from railtracks.durable._store.writer import Writer
from railtracks.durable._values.values import Values
from railtracks.exceptions import StoreError


@define(eq=False)
class Access:
    """The way into one store for all sessions of this process that are kept in it.

    Attributes:
        url: Where it is.
        durability: What an acknowledgement survives.
        lease: Seconds after which an owner that does not answer loses its sessions.
        commit_timeout: Seconds that a commit may take.
        max_recoveries: How often a session is taken over from owners that died with it.
        values: What turns users' values into bytes.
    """

    url: URL
    durability: Durability
    lease: float
    commit_timeout: float
    max_recoveries: int
    values: Values
    _guard: threading.RLock = field(factory=threading.RLock, init=False)
    _users: int = field(default=0, init=False)
    _process_id: int = field(factory=os.getpid, init=False)
    # What a parent process had open: closed here, SQLite would take its locks away, and PostgreSQL its connections.
    _inherited: list[tuple[Database | None, Owner | None]] = field(
        factory=list[tuple[Database | None, Owner | None]], init=False
    )
    _database: Database | None = field(default=None, init=False)
    _owner: Owner | None = field(default=None, init=False)
    _writers: dict[trio.lowlevel.TrioToken, tuple[Writer, int]] = field(
        factory=dict[trio.lowlevel.TrioToken, tuple[Writer, int]], init=False
    )

    def __str__(self) -> str:
        return self.url.render_as_string()

    def open(self) -> tuple[Database, Owner]:
        """Open the store, or count one more user of it; blocks."""
        self._forget_parent()
        with self._guard:
            if self._database is None or self._owner is None:
                database = Database(self.url, self.durability, self.commit_timeout, self.lease)
                try:
                    self._owner = Owner(database, self.lease, self.max_recoveries)
                except DBAPIError as error:
                    raise StoreError(f"the store {self} cannot be opened: {error.orig}") from error
                finally:
                    if self._owner is None:
                        database.close()
                self._database = database
            self._users += 1
            return self._database, self.owner

    def _forget_parent(self) -> None:
        """In a child process, begin as if nothing had been opened."""
        if self._process_id == os.getpid():
            return
        self._process_id = os.getpid()
        # A thread of the parent's may have had it.
        self._guard = threading.RLock()
        if self._database is not None:
            self._database.forget()
        self._inherited.append((self._database, self._owner))
        self._users, self._database, self._owner, self._writers = 0, None, None, {}

    def count(self, users: int) -> bool:
        """Count users more, or less, if the store stays open by that and nobody else does so; does not block."""
        self._forget_parent()
        if not self._guard.acquire(blocking=False):
            return False
        try:
            if not self._users or self._users + users < 1:
                return False
            self._users += users
            return True
        finally:
            self._guard.release()

    def leave(self) -> None:
        """Count one user less; the last one closes the store. Blocks."""
        with self._guard:
            self._users -= 1
            if self._users:
                return
            database, owner = self.database, self.owner
            self._database = self._owner = None
        try:
            # Where this fails it is dead to the others when its lock or its lease is gone.
            with suppress(DBAPIError, StoreError):
                owner.close()
        finally:
            database.close()

    @property
    def owner(self) -> Owner:
        """This process as an owner; the store is open."""
        assert self._owner is not None  # noqa: S101 - who asks has opened it
        return self._owner

    @property
    def database(self) -> Database:
        """The database; the store is open."""
        assert self._database is not None  # noqa: S101 - the same
        return self._database

    def writer(self) -> Writer:
        """Return what commits for the sessions of this Trio run, and count one user of it more."""
        token = trio.lowlevel.current_trio_token()
        writer, users = self._writers.get(token) or (Writer(self.database, self.commit_timeout), 0)
        self._writers[token] = (writer, users + 1)
        return writer

    def leave_writer(self) -> None:
        """Count one user less of it."""
        token = trio.lowlevel.current_trio_token()
        writer, users = self._writers.pop(token)
        if users > 1:
            self._writers[token] = (writer, users - 1)

    def reading(self) -> AbstractContextManager[tuple[Connection, Database, Owner]]:
        """Open the store for a look at one state of it.

        Raises:
            StoreError: If it cannot be read.
        """
        return self._transaction(Database.reading, "read")

    def writing(self) -> AbstractContextManager[tuple[Connection, Database, Owner]]:
        """Open the store for one transaction.

        Raises:
            StoreError: If it cannot be written.
        """
        return self._transaction(Database.writing, "written")

    @contextmanager
    def _transaction(
        self, begin: Callable[[Database], AbstractContextManager[Connection]], done: str
    ) -> Generator[tuple[Connection, Database, Owner]]:
        database, owner = self.open()
        try:
            with begin(database) as connection:
                yield connection, database, owner
        except DBAPIError as error:
            raise StoreError(f"the store {self} cannot be {done}: {error.orig}") from error
        finally:
            self.leave()
