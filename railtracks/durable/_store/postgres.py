"""A store in PostgreSQL: how it is connected to, and the advisory locks that show which owners live.

`Database` calls this; what differs from SQLite is in here and in `sqlite`.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError

from railtracks.durable._store.connecting import close_what_fails


def postgres_engine(url: URL, durability: str, timeout: float, lease: float) -> Engine:
    """Return the engine of a store on a server, which need not be there yet.

    Raises:
        ImportError: If the extra `postgres` is not installed.
    """
    # Less than the lease: a process that hangs in a transaction must not keep its locks for longer than it owns its
    # sessions.
    patience = max(1, int(min(timeout, lease / 2) * 1000))
    commit = "on" if durability == "power" else "off"
    seconds = str(max(1, patience // 3000))
    given = url.query
    # A server that is cut off is noticed in that time, too: the kernel alone would wait for hours.
    query = {
        "connect_timeout": str(max(2, int(timeout))),
        "tcp_user_timeout": str(patience),
        "keepalives_idle": seconds,
        "keepalives_interval": seconds,
        "keepalives_count": "3",
        **given,
        "options": f"{given.get('options', '')} -c lock_timeout={patience} -c statement_timeout={patience}"
        f" -c idle_in_transaction_session_timeout={patience} -c synchronous_commit={commit}",
    }
    try:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg", query=query), pool_pre_ping=True, hide_parameters=True
        )
    except ImportError as error:
        raise ImportError(
            "a store in PostgreSQL needs psycopg: install it with  pip install 'railtracks-trio[postgres]'"
        ) from error
    close_what_fails(engine)
    return engine


class AdvisoryLocks:
    """The locks in a PostgreSQL database: one for each owner, held by a connection while its process lives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def hold(self, token: str) -> None:
        """Show, for as long as this process lives, that an owner is alive.

        The lock is not taken if another process asks for it at this moment; `hold_again` takes it then.
        """
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        is_locked = False
        try:
            statement = sa.text("select pg_try_advisory_lock(:key)")
            is_locked = bool(connection.execute(statement, {"key": _number(token)}).scalar_one())
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
                self._connection.execute(sa.text("select 1"))
            except DBAPIError:
                self.let_go(is_forgotten=False)
        if self._connection is None:
            self.hold(token)

    def is_held(self, connection: Connection, token: str) -> bool | None:
        """Return whether the owner with this token lives, `None` if its lock does not tell.

        A server that only repeats what another one writes knows none of that server's locks.
        """
        # Shared: two processes that ask at once must not take each other for the owner.
        is_free = sa.text("select case when not pg_is_in_recovery() then pg_try_advisory_xact_lock_shared(:key) end")
        found: bool | None = connection.execute(is_free, {"key": _number(token)}).scalar_one()
        return None if found is None else not found

    def clear(self, token: str) -> None:
        """Do nothing: a lock ends with its connection."""

    def tokens(self) -> list[str]:
        """Return none: these locks have no files."""
        return []


def _number(token: str) -> int:
    """Return the number of an owner's advisory lock."""
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), signed=True)
