"""The way into a store: opened by the first user of it in a process, closed by the last.

`DurableStore` holds one; sessions, signals and views come to the database through it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import trio
from attrs import define, field
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from railtracks._forks import generation
from railtracks._workers.loop_pauses import loop_pauses
from railtracks.durable._store.address import Address, shown_error
from railtracks.durable._store.backup import write_backup
from railtracks.durable._store.database import Database, Durability, Purpose
from railtracks.durable._store.looking import is_there, looking
from railtracks.durable._store.onlooking import Onlooker
from railtracks.durable._store.ownership import ProcessOwner
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.writer import Writer
from railtracks.durable._values.values import Values
from railtracks.exceptions import StoreError

# The databases that a parent process had open. Nothing here uses them, and they stay referenced to the end of this
# process, whatever becomes of their stores: a connection to PostgreSQL that is closed here ends the parent's
# (test_durable_owners.py::test_a_child_process_is_another_owner). Those to SQLite were closed by `inheriting`.
_inherited: Final[list[Database]] = []


class DatabaseFactory(Protocol):
    """What opens a database: `Database`, or in tests a faulty one."""

    def __call__(self, url: URL, durability: Durability, timeout: float, lease: float) -> Database: ...


@define(eq=False)
class _Opened:
    """The open database of a store, and its users in this process.

    Attributes:
        database: The database.
        owner: This process as an owner.
        users: How many have opened it and not left yet.
        entered: How many of these are `with` blocks of a `DurableStore`.
        writers: The writer of each Trio run, and how many sessions use it.
    """

    database: Database
    owner: ProcessOwner
    users: int = 0
    entered: int = 0
    writers: dict[trio.lowlevel.TrioToken, tuple[Writer, int]] = field(
        factory=dict[trio.lowlevel.TrioToken, tuple[Writer, int]]
    )


@define(eq=False)
class Access:
    """The way into one store for all sessions of this process that are kept in it.

    Attributes:
        address: Where it is.
        durability: What an acknowledgement survives.
        lease: Seconds after which an owner that does not answer loses its sessions.
        commit_timeout: Seconds that a commit may take.
        max_recoveries: How often a session is taken over, without an outcome, from owners that died with it.
        values: Turns users' values into bytes.
        clock: The monotonic clock of this process that leases are counted on.
        database: Opens the database.
        patience: How long sessions wait for other processes and for changed code.
        looks_upgrade: Whether a look at tables of an older library brings them up to date; else it is an error.
    """

    address: Address
    durability: Durability
    lease: float
    commit_timeout: float
    max_recoveries: int
    values: Values
    clock: Callable[[], float] = time.monotonic
    database: DatabaseFactory = Database
    patience: Patience = field(factory=Patience)
    looks_upgrade: bool = True
    _guard: threading.RLock = field(factory=threading.RLock, init=False)
    _opened: _Opened | None = field(default=None, init=False)
    _generation: int = field(factory=generation, init=False)
    # The `with` blocks around this code that a parent process entered.
    _parents_blocks: int = field(default=0, init=False)

    def __str__(self) -> str:
        return str(self.address)

    def open(self) -> tuple[Database, ProcessOwner]:
        """Open the store, or count one user more; blocks.

        Raises:
            StoreError: If the store cannot be opened, or a parent process has entered it around this code.
        """
        self._check_process()
        with self._guard:
            opened = self._opened = self._opened or self._open()
            opened.users += 1
            return opened.database, opened.owner

    def _open(self) -> _Opened:
        database = self.database(self.address.find(), self.durability, self.commit_timeout, self.lease)
        try:
            return _Opened(database, ProcessOwner(database, self.lease, self.max_recoveries, self.clock))
        except DBAPIError as error:
            database.close()
            raise StoreError(f"the store {self} cannot be opened: {shown_error(error, self.address.find())}") from error
        except BaseException:
            database.close()
            raise

    def _forget_parent(self) -> None:
        """In a child process, begin as if nothing had been opened."""
        if self._generation == generation():
            return
        self._generation = generation()
        # A thread of the parent's may have held it when the process was forked.
        self._guard = threading.RLock()
        opened, self._opened = self._opened, None
        if opened is not None:
            self._parents_blocks += opened.entered
            _inherited.append(opened.database)

    def _check_process(self) -> None:
        """In a forked child process, forget what the parent had open.

        Raises:
            StoreError: If this is inside a block that the parent entered.
        """
        self._forget_parent()
        if self._parents_blocks:
            raise StoreError(
                f"the store {self} was entered (`with`) before this process was forked, and belongs to the parent"
                " process in that block: open a store of its own here, rt.DurableStore(...)"
            )

    def enter(self) -> None:
        """Open the store for a `with` block; blocks.

        Raises:
            StoreError: As `open`.
        """
        self.open()
        with self._guard:
            opened = self._here
            opened.entered += 1

    def exit(self) -> None:
        """End what `enter` began; in a child process, leave a block that its parent entered. Blocks.

        Raises:
            StoreError: If nothing was begun.
        """
        self._forget_parent()
        if self._parents_blocks:
            self._parents_blocks -= 1
            return
        with self._guard:
            if self._opened is None or not self._opened.entered:
                raise StoreError(f"the store {self} was not entered, or was left already: use it in 'with store:'")
            self._opened.entered -= 1
        self.leave()

    def count(self, users: int) -> bool:
        """Count users more or less, if the store stays open by that and no other thread does so. Does not block.

        Returns:
            Whether they were counted.

        Raises:
            StoreError: If a parent process has entered the store around this code.
        """
        self._check_process()
        if not self._guard.acquire(blocking=False):
            return False
        try:
            if self._opened is None or self._opened.users + users < 1:
                return False
            self._opened.users += users
            return True
        finally:
            self._guard.release()

    def leave(self) -> None:
        """Count one user less; the last one closes the store. Blocks."""
        with self._guard:
            opened = self._here
            opened.users -= 1
            if opened.users:
                return
            self._opened = None
        is_forgotten = False
        try:
            # Where this fails, other processes see that the owner is gone by its lock or its lease.
            with suppress(DBAPIError, StoreError):
                opened.owner.close()
                is_forgotten = True
        finally:
            opened.database.close(is_forgotten=is_forgotten)

    @property
    def _here(self) -> _Opened:
        assert self._opened is not None  # noqa: S101 - the caller has opened it
        return self._opened

    @property
    def owner(self) -> ProcessOwner:
        """This process as an owner. Only while the store is open."""
        return self._here.owner

    def writer(self) -> Writer:
        """Return the writer for the sessions of this Trio run, and count one user of it more."""
        opened, token = self._here, trio.lowlevel.current_trio_token()
        known = opened.writers.get(token)
        if known is None:
            known = Writer(opened.database, opened.owner, self.commit_timeout, self.patience), 0
            loop_pauses().use()
        writer, users = known
        opened.writers[token] = (writer, users + 1)
        return writer

    def leave_writer(self) -> None:
        """Count one user of this Trio run's writer less."""
        opened, token = self._here, trio.lowlevel.current_trio_token()
        writer, users = opened.writers.pop(token)
        if users > 1:
            opened.writers[token] = (writer, users - 1)
        else:
            loop_pauses().leave()

    @contextmanager
    def reading(self) -> Generator[tuple[Connection, Database | None, Onlooker]]:
        """Look at one state of the store: as this process has it open, or else without writing anything.

        Raises:
            StoreError: If it cannot be read.
        """
        # A database of a test is opened as always.
        is_opened = self.count(1)
        if not is_opened and self.database is Database:
            url = self.address.find()
            with self._told("read"), looking(url, self.durability, self.commit_timeout, self.lease) as seen:
                if seen is not None:
                    yield seen[0], None, seen[1]
                    return
                if not self.looks_upgrade:
                    raise StoreError(
                        f"the store {self} has tables of an older railtracks, which a list leaves as they are: the next"
                        " session that runs in it brings them up to date"
                    )
        # Of an older library: opening it brings its tables up to date.
        with self.opened(is_counted=is_opened) as found:
            yield found

    def is_there(self) -> bool:
        """Return whether there is such a store: looking at one that is not there finds nothing, and makes none.

        Raises:
            StoreError: If it cannot be read.
        """
        with self._told("read"):
            return is_there(self.address.find(), self.durability, self.commit_timeout, self.lease)

    @contextmanager
    def opened(self, *, is_counted: bool = False) -> Generator[tuple[Connection, Database, ProcessOwner]]:
        """Open the store as an owner does, for a look at one state of it.

        Args:
            is_counted: Whether the caller has counted itself as a user already.

        Raises:
            StoreError: If it cannot be opened or read.
        """
        if not is_counted:
            self.open()
        database, owner = self._here.database, self._here.owner
        with self._left("read"), database.reading() as connection:
            yield connection, database, owner

    def back_up(self, path: Path) -> None:
        """Write a backup of the store into a file; blocks.

        Raises:
            StoreError: If it cannot be written.
        """
        database, _ = self.open()
        with self._left("read"):
            write_backup(database, path)

    @contextmanager
    def writing(self, purpose: Purpose = "request") -> Generator[tuple[Connection, Database, ProcessOwner]]:
        """Open the store for one transaction.

        Raises:
            StoreError: If it cannot be written, or is a backup.
        """
        database, owner = self.open()
        with self._left("written"), database.writing(purpose) as connection:
            yield connection, database, owner

    @contextmanager
    def _left(self, done: str) -> Generator[None]:
        """Leave the store after a block; raise an error of the database as a `StoreError`."""
        try:
            with self._told(done):
                yield
        finally:
            self.leave()

    @contextmanager
    def _told(self, done: str) -> Generator[None]:
        """Raise an error of the database as a `StoreError`."""
        try:
            yield
        except DBAPIError as error:
            raise StoreError(f"the store {self} cannot be {done}: {shown_error(error, self.address.find())}") from error
