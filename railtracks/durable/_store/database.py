"""The database under a store: how it is opened and closed, its transactions, its clock, and the locks of owners.

SQLite on one machine, PostgreSQL for several. `Access` opens it; owners, the writer and the views work in its
transactions. Everything in here blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from railtracks._records.files import sync_folder
from railtracks.durable._store.address import shown, shown_error
from railtracks.durable._store.older import see_older
from railtracks.durable._store.postgres import AdvisoryLocks, postgres_engine
from railtracks.durable._store.reading import moment_in
from railtracks.durable._store.schema import BACKUP, REVISION, REVISIONS, facts, owners
from railtracks.durable._store.sqlite import LockFiles, sqlite_engine
from railtracks.durable._store.statements import commit, prepared, roll_back, rows_of
from railtracks.durable._store.upgrade import prepared_upgrade, revision_of
from railtracks.exceptions import StoreError

Durability: TypeAlias = Literal["power", "process"]
# What a transaction is for: the commits of sessions, the look of all that wait for signals, that for requests to end
# sessions (`watch`), the lease of this process, the beginning and the end of its time as an owner, an upgrade of the
# tables, to make a backup an ordinary store, or what users ask for (`request`).
Purpose: TypeAlias = Literal[
    "commit", "poll", "watch", "renewal", "opening", "closing", "upgrade", "restore", "request"
]
# What a backup refuses. An owner may come and go, because that is part of looking at it.
_REFUSED: Final = frozenset[Purpose](["commit", "request"])

_CLOCKS: Final[dict[str, sa.ColumnElement[float]]] = {
    "sqlite": sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)"),
    "postgresql": sa.literal_column("extract(epoch from clock_timestamp())"),
}
_TIMES: Final = {name: sa.select(clock) for name, clock in _CLOCKS.items()}
_BACKUP: Final = sa.select(facts.c.value).where(facts.c.name == BACKUP)


class OwnerLocks(Protocol):
    """The locks of a database by which processes see which owners live."""

    def hold(self, token: str) -> None: ...
    def let_go(self, *, is_forgotten: bool) -> None: ...
    def hold_again(self, token: str) -> None: ...
    def problem(self, connection: Connection, token: str) -> str | None: ...
    def is_held(self, connection: Connection, token: str) -> bool | None: ...
    def clear(self, token: str) -> None: ...
    def tokens(self) -> list[str]: ...
    def clear_others(self, known: Collection[str]) -> None: ...


class Transactions(Protocol):
    """How the transactions of a database that write begin, and what is checked before they are committed."""

    def begin(self, connection: Connection, *, is_group: bool) -> None: ...
    def check(self, connection: Connection) -> None: ...


class Database:
    """The database of one store as this process has it open: transactions, and the lock of its owner.

    Args:
        url: Where it is.
        durability: What a commit survives.
        timeout: Seconds that a commit may take.
        lease: Seconds after which an owner that does not answer loses its sessions.

    Raises:
        StoreError: If it cannot be opened.
        ImportError: If what it needs is not installed.
    """

    def __init__(self, url: URL, durability: Durability, timeout: float, lease: float) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        # One transaction that writes at a time in this process: SQLite itself only waits and tries again.
        self._turn = threading.Lock()
        self._is_closed = False
        # Where the tables are still those of the release before: what to call when they have been upgraded.
        self._upgraded: Callable[[], None] | None = None
        self._is_backup = False
        self._writer: Connection | None = None
        # The owners that the transaction of the writer has found dead.
        self._dead: list[str] = []
        # What holds up forks: the connections to a server are another matter.
        self._at_work: Callable[[], AbstractContextManager[None]] = nullcontext
        self._locks: OwnerLocks
        self._transactions: Transactions
        if self.is_sqlite:
            self._engine, self._transactions, connections = sqlite_engine(url, durability, timeout)
            self._at_work = connections.at_work
            self._locks = LockFiles(url)
        else:
            self._engine, self._transactions = postgres_engine(url, durability, timeout, lease)
            self._locks = AdvisoryLocks(self._engine)
        try:
            self._upgrade()
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return shown(self.url)

    def close(self, *, is_forgotten: bool = True) -> None:
        """Close all connections and give up the lock of the owner; later transactions that write are refused.

        Args:
            is_forgotten: Whether the owner has no row any more.
        """
        with self._turn, self._at_work():
            self._is_closed = True
            self._drop_writer()
            self._locks.let_go(is_forgotten=is_forgotten)
            self._engine.dispose()

    # Transactions.

    @contextmanager
    def writing(self, purpose: Purpose = "request") -> Generator[Connection]:
        """Open a transaction that may write, and commit it when the block is left.

        Raises:
            StoreError: If the database was closed meanwhile, is a backup, or its tables still cannot be upgraded.
        """
        if self._upgraded is not None and purpose != "upgrade":
            self._upgrade()
        with self._turn, self._at_work():
            self._refuse_closed()
            if self._writer is None:
                self._writer = self._engine.connect().execution_options(railtracks_writes=True)
            writer = self._writer
            self._dead.clear()
            try:
                try:
                    self._transactions.begin(writer, is_group=purpose == "commit")
                    if self._is_backup and purpose in _REFUSED:
                        self._refuse_backup(writer)
                    yield writer
                    self._transactions.check(writer)
                except BaseException:
                    self._roll_back(writer)
                    raise
                commit(writer)
                for token in self._dead:
                    self._locks.clear(token)
            except DBAPIError:
                # The state of this connection is not known: the next transaction gets another one.
                self._drop_writer()
                raise

    @contextmanager
    def reading(self, purpose: Purpose = "request") -> Generator[Connection]:  # noqa: ARG002 - for a faulty database
        """Open a transaction that reads one state of the database."""
        with self._at_work(), self._engine.connect() as connection, connection.begin():
            yield connection

    def _roll_back(self, writer: Connection) -> None:
        try:
            roll_back(writer)
        except DBAPIError:
            # What is raised is why it was to be rolled back.
            self._drop_writer()

    def _refuse_closed(self) -> None:
        # A renewal that comes late, from a thread that nobody waits for any more, would open connections that nobody
        # closes (test_durable_owners.py::test_a_renewal_that_comes_too_late_opens_nothing_again).
        if self._is_closed:
            raise StoreError(f"the store {self} was closed meanwhile")

    def _refuse_backup(self, connection: Connection) -> None:
        # Asked again: another process may have restored it meanwhile. A store never becomes a backup.
        self._is_backup = backed_up_at(connection) is not None
        if self._is_backup:
            raise backup_refusal(str(self))

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.invalidate()
            writer.close()

    def _upgrade(self) -> None:
        revision = None
        try:
            with self.reading("upgrade") as connection:
                revision = revision_of(connection)
                if revision == REVISION:
                    self._is_backup = backed_up_at(connection) is not None
            if revision != REVISION:
                upgrade = prepared_upgrade()
                with self.writing("upgrade") as connection:
                    upgrade(connection, str(self))
        except DBAPIError as error:
            if revision == REVISIONS[-2] and self._upgraded is None:
                # It can be looked at; whoever wants to write tries again.
                with self._at_work():
                    self._upgraded = see_older(self._engine)
                return
            raise StoreError(f"the store {self} cannot be opened: {shown_error(error, self.url)}") from error
        upgraded, self._upgraded = self._upgraded, None
        if upgraded is not None:
            upgraded()
        if self.is_sqlite and revision != REVISION:
            sync_folder(Path(self.url.database or "").parent)

    # Owners.

    def hold(self, token: str) -> None:
        """Show, for as long as this process lives, that an owner is alive.

        Raises:
            StoreError: If the file that shows it cannot be made.
        """
        self._locks.hold(token)

    def hold_again(self, token: str) -> None:
        """Take the lock of an owner again if it was lost with a connection.

        Raises:
            StoreError: If the database was closed meanwhile.
        """
        with self._turn:
            self._refuse_closed()
            self._locks.hold_again(token)

    def let_go(self) -> None:
        """Give up the lock that `hold` took: other processes see the owner as dead."""
        self._locks.let_go(is_forgotten=True)

    def lock_problem(self, connection: Connection, token: str) -> str | None:
        """Return why the lock of this process's owner does not show that it lives, `None` if it does.

        Args:
            connection: A transaction that writes.
            token: The owner.
        """
        return self._locks.problem(connection, token)

    def is_held(self, connection: Connection, token: str) -> bool | None:
        """Return whether the owner with this token lives, `None` if its lock does not tell.

        In a transaction that writes, the lease of an owner that is dead ends with this, and its lock file is deleted
        after the commit: a file that is missing must never be all that tells of a death.
        """
        held = self._locks.is_held(connection, token)
        if held is False and connection is self._writer:
            now = clock_of(connection.dialect)
            dead = sa.update(owners).where(owners.c.token == token, owners.c.lease_until > now)
            connection.execute(dead.values(lease_until=now))
            self._dead.append(token)
        return held

    def tokens(self) -> list[str]:
        """Return the owners that have lock files, dead ones among them."""
        return self._locks.tokens()

    def clear_others(self, known: Collection[str]) -> None:
        """Delete what is left of the locks of owners that have died and are not known any more."""
        self._locks.clear_others(known)


def backed_up_at(connection: Connection) -> float | None:
    """Return the moment of which a store is a backup, by the clock of its original; `None` if it is none."""
    found = connection.execute(_BACKUP).scalar_one_or_none()
    return None if found is None else moment_in(found)


def backup_refusal(store: str) -> StoreError:
    """Return the error for what a backup does not do."""
    return StoreError(
        f"the store {store} is a backup: it can be looked at, and nothing in it runs or changes while its original may"
        " go on. If the original is gone, make this an ordinary store: rt.DurableStore(...).restore(),"
        " or railtracks restore FILE"
    )


def now_of(connection: Connection) -> float:
    """Return the time of a database, in seconds since 1970: the one clock of all owners and waits."""
    statement = _TIMES[connection.dialect.name]
    return float(rows_of(connection, prepared(statement, connection.dialect), {})[0][0])


def clock_of(dialect: sa.Dialect) -> sa.ColumnElement[float]:
    """Return the time of a database as a part of a statement, which saves the statement that asks for it."""
    return _CLOCKS[dialect.name]
