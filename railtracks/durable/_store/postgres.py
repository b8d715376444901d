"""A store in PostgreSQL: how it is connected to, and the advisory locks that show which owners live.

`Database` calls this; what differs from SQLite is in here and in `sqlite`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError

from railtracks.durable._store.address import shown
from railtracks.durable._store.connecting import close_what_fails
from railtracks.durable._store.statements import run
from railtracks.exceptions import StoreError

# What each transaction is begun with, beside its settings.
_WRITING: Final = "begin"
_READING: Final = "begin isolation level repeatable read"
# Milliseconds that a group of commits waits for a lock. Somebody may have it for one of its sessions, and the others
# must not wait for that. The writer tries again: other processes have these locks for a few milliseconds.
_GROUP_PATIENCE: Final = 20
# Seconds after which a server that should have ended a statement itself is given up.
_ANSWER: Final = 1.0
# In `Connection.info`: the settings were read back.
_IS_CHECKED: Final = "railtracks_is_checked"

_SETTINGS: Final = sa.text("select name, setting from pg_settings where name = any(:names)")
_HOLD: Final = sa.text("select pg_backend_pid(), pg_try_advisory_lock(:key)")
_LET_GO: Final = sa.text("select pg_advisory_unlock(:key)")
_PROCESS: Final = sa.text("select pg_backend_pid()")
# The server keeps the number of a lock in two halves.
_STILL_HELD: Final = sa.text(
    "select pg_backend_pid(), exists(select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    " and classid::bigint << 32 | objid::bigint = :key and objsubid = 1 and granted)"
)
# Shared: two processes that ask at once must not take each other for the owner. A server that only repeats what another
# one writes knows none of that server's locks.
_IS_FREE: Final = sa.text("select case when not pg_is_in_recovery() then pg_try_advisory_xact_lock_shared(:key) end")

_POOLED: Final = (
    "a pooler in transaction mode is in between: it shares the server's connections out anew for each transaction, so"
    " the lock of a session's owner is another's, or nobody's. Use the pooler's session mode (pgbouncer: pool_mode ="
    " session), or a URL that leads to the server itself"
)


class _DriverInfo(Protocol):
    def parameter_status(self, name: str, /) -> str | None: ...


class _DriverConnection(Protocol):
    autocommit: bool

    @property
    def info(self) -> _DriverInfo: ...


def postgres_engine(url: URL, durability: str, timeout: float, lease: float) -> tuple[Engine, ServerTransactions]:
    """Return the engine of a store on a server, which need not be there yet, and the transactions that write to it.

    Raises:
        ImportError: If the extra `postgres` is not installed.
    """
    # Less than the lease: a process that hangs in a transaction must not keep its locks for longer than it owns its
    # sessions.
    patience = max(1, int(min(timeout, lease / 2) * 1000))
    seconds = str(max(1, patience // 3000))
    # A server that is cut off is noticed in that time, too: the kernel alone would wait for hours.
    query = {
        "connect_timeout": str(max(2, int(timeout))),
        "tcp_user_timeout": str(patience),
        "keepalives_idle": seconds,
        "keepalives_interval": seconds,
        "keepalives_count": "3",
        **url.query,
    }
    try:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg", query=query), pool_pre_ping=True, hide_parameters=True
        )
    except ImportError as error:
        raise ImportError(
            "a store in PostgreSQL needs psycopg: install it with  pip install 'railtracks-trio[postgres]'"
        ) from error
    settings = {
        "lock_timeout": str(patience),
        "statement_timeout": str(patience),
        "idle_in_transaction_session_timeout": str(patience),
        "synchronous_commit": "on" if durability == "power" else "off",
    }
    # Of each transaction, and not of the connection: a pooler may drop the options of a connection, or give the
    # settings of a session to another one. In one message with "begin", they cost nothing.
    reading = f"{_READING}{_local(settings)}"

    def prepare(connection: _DriverConnection, _: object) -> None:
        # The driver begins no transaction: `begin` does.
        connection.autocommit = True

    def refuse_other_encodings(connection: _DriverConnection, _: object) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                f"the store {shown(url)} cannot be opened: its database has the encoding {encoding}, which does not"
                " hold every text. It has to be UTF8: create database NAME encoding 'UTF8' template template0"
            )

    def begin(connection: Connection) -> None:
        # A transaction that writes has begun before SQLAlchemy hears of it.
        if not connection.get_execution_options().get("railtracks_writes"):
            run(connection, reading)

    # First: SQLAlchemy itself cannot read what some of these databases say.
    event.listen(engine, "connect", refuse_other_encodings, insert=True)
    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    # A class of psycopg's, which is there now.
    answering = import_module("railtracks.durable._store.answering")
    close_what_fails(engine, answering.answered_connection(patience / 1000 + _ANSWER).connect)
    return engine, ServerTransactions(
        settings, {**settings, "lock_timeout": str(min(patience, _GROUP_PATIENCE))}, shown(url)
    )


class ServerTransactions:
    """The transactions that write to a store on a server.

    Args:
        settings: What one is begun with.
        of_groups: What one for a group of sessions is begun with.
        store: What errors call the store.
    """

    def __init__(self, settings: Mapping[str, str], of_groups: Mapping[str, str], store: str) -> None:
        self._settings = {False: settings, True: of_groups}
        self._texts = {is_group: f"{_WRITING}{_local(each)}" for is_group, each in self._settings.items()}
        self._store = store

    def begin(self, connection: Connection, *, is_group: bool) -> None:
        """Begin a transaction, and in the first one of a connection read the settings back.

        Raises:
            StoreError: If the store would be less durable than it was told, or hold locks for longer.
        """
        run(connection, self._texts[is_group])
        if not connection.info.get(_IS_CHECKED):
            _refuse_other_settings(connection, self._settings[is_group], self._store)
            connection.info[_IS_CHECKED] = True

    def check(self, connection: Connection) -> None:
        """Check nothing: a server answers for where it writes to."""


def _local(settings: Mapping[str, str]) -> str:
    """Return the statements that give a transaction its settings, to stand behind the one that begins it."""
    return "".join(f"; set local {name} = {value}" for name, value in settings.items())


def _refuse_other_settings(connection: Connection, given: Mapping[str, str], store: str) -> None:
    """Read back what a transaction was begun with, and whether the server itself syncs what it writes.

    Raises:
        StoreError: If the store would be less durable than it was told, or hold locks for longer.
    """
    # A server that does not sync anything loses with the power what it has acknowledged.
    wanted = {**given, "fsync": "on"} if given["synchronous_commit"] == "on" else given
    found = {row.name: row.setting for row in connection.execute(_SETTINGS, {"names": list(wanted)})}
    for name, setting in wanted.items():
        if found.get(name) != setting:
            raise StoreError(
                f"the store {store} cannot be opened: its server has {name}={found.get(name)} in a transaction, and not"
                f" {setting}. Change the server or the pooler before it"
                + (", or open the store with durability='process'" if name == "fsync" else "")
            )


class AdvisoryLocks:
    """The locks in a PostgreSQL database: one for each owner, held by a connection while its process lives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        # The process of the server that the connection belonged to when the lock was taken.
        self._process = 0
        # What the last look has found, between transactions of other connections.
        self._is_kept = True

    def hold(self, token: str) -> None:
        """Show, for as long as this process lives, that an owner is alive.

        The lock is not taken if another process asks for it at this moment; `hold_again` takes it then.
        """
        connection = self._engine.connect()
        is_locked = False
        try:
            with connection.begin():
                self._process, is_locked = connection.execute(_HOLD, {"key": _number(token)}).one()
                self._is_kept = is_locked
        finally:
            if not is_locked:
                connection.close()
        self._connection = connection if is_locked else None

    def let_go(self, *, is_forgotten: bool) -> None:  # noqa: ARG002 - a lock file is kept or not
        """Drop the connection that holds the lock: other processes see the owner as dead."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Given back to the pool it would keep the lock.
            connection.invalidate()
            connection.close()

    def hold_again(self, token: str) -> None:
        """Take the lock again if the connection that held it was cut, or if it could not be taken before."""
        if self._connection is not None:
            try:
                self._is_kept = self._is_still_held(self._connection, token)
            except DBAPIError:
                self.let_go(is_forgotten=False)
        if self._connection is None:
            self.hold(token)

    def problem(self, connection: Connection, token: str) -> str | None:
        """Return why the lock does not show that its owner lives, `None` if it does, or is to be taken again.

        Args:
            connection: Another connection, with an open transaction: behind a pooler that shares connections out for
                each transaction, it is likely to have the server's connection that took the lock.
            token: The owner.
        """
        if self._connection is None:
            return None
        if connection.execute(_PROCESS).scalar_one() == self._process:
            connection.execute(_LET_GO, {"key": _number(token)})
            return _POOLED
        return None if self._is_kept and self._is_still_held(self._connection, token) else _POOLED

    def _is_still_held(self, connection: Connection, token: str) -> bool:
        """Return whether the server's process that took the lock is still behind its connection, and holds it."""
        with connection.begin():
            found = connection.execute(_STILL_HELD, {"key": _number(token)}).one()
        return tuple(found) == (self._process, True)

    def is_held(self, connection: Connection, token: str) -> bool | None:
        """Return whether the owner with this token lives, `None` if its lock does not tell."""
        found: bool | None = connection.execute(_IS_FREE, {"key": _number(token)}).scalar_one()
        return None if found is None else not found

    def clear(self, token: str) -> None:
        """Do nothing: a lock ends with its connection."""

    def tokens(self) -> list[str]:
        """Return none: these locks have no files."""
        return []

    def clear_others(self, known: Collection[str]) -> None:
        """Do nothing, as `clear`."""


def _number(token: str) -> int:
    """Return the number of an owner's advisory lock."""
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), signed=True)
