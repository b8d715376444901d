"""The tables of a store. A change here is a new revision under `migrations`, never an edit of an old one."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    select,
)
from sqlalchemy.engine import Connection

# The newest revision under `migrations`, which this library reads and writes.
REVISION: Final = "0001"
# Every revision up to it, oldest first: a store that is at none of these was made by a newer library.
REVISIONS: Final = ("0001",)

metadata = MetaData()

# Who runs sessions: one row for each store that is open in a process. Times are the database's, in seconds since 1970.
owners = Table(
    "railtracks_owners",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("host", Text, nullable=False),
    Column("process_id", Integer, nullable=False),
    Column("lease_until", Float(53), nullable=False),
)

sessions = Table(
    "railtracks_sessions",
    metadata,
    Column("session_id", String(200), primary_key=True),
    Column("session_name", Text),
    Column("flow_name", Text),
    Column("version", Text),
    Column("entry_point", Text),
    Column("inputs", LargeBinary),
    Column("inputs_print", Text),
    # What random numbers are drawn from; a fork keeps that of its past.
    Column("seed", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("timeout", Float(53)),
    Column("created_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Column("deadline_at", Float(53)),
    # Of a session that waits: when a timeout of its waits is over.
    Column("wakes_at", Float(53)),
    Column("failure", LargeBinary),
    Column("owner", String(32)),
    # Counts the owners: only who has the last number may write.
    Column("fence", Integer, nullable=False),
    # How often the session was taken over from an owner that did not let go of it.
    Column("recoveries", Integer, nullable=False),
    Column("forked_from", Text),
    # The session that it was opened in, which goes on with it.
    Column("parent", String(200)),
    Index("railtracks_sessions_by_status", "status", "flow_name"),
    Index("railtracks_sessions_by_parent", "parent"),
)

# What happened in a session, in the order of its commits.
calls = Table(
    "railtracks_calls",
    metadata,
    Column("session_id", String(200), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    # Which call it is, the call it was made in, and where in that.
    Column("key", String(32), nullable=False),
    Column("parent", String(32), nullable=False),
    Column("strand", String(32), nullable=False),
    Column("position", Integer, nullable=False),
    Column("place", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("node", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("arguments", LargeBinary),
    # opened | started | completed | failed | cancelled | broadcast | delivered
    Column("status", Text, nullable=False),
    Column("outcome", LargeBinary),
    Column("context", LargeBinary),
    # The last commit whose outcome had been handed over when it began.
    Column("began_after", Integer, nullable=False),
    Column("began_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
)

signals = Table(
    "railtracks_signals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session_id", String(200), nullable=False),
    Column("name", Text, nullable=False),
    # What the sender calls it, so that sent twice it is one signal.
    Column("key", Text),
    Column("value", LargeBinary, nullable=False),
    Column("sent_at", Float(53), nullable=False),
    # The wait that it ended.
    Column("consumed_by", String(32)),
    UniqueConstraint("session_id", "key", name="railtracks_signals_once"),
    Index("railtracks_signals_by_name", "session_id", "name", "id"),
)


def rows_of(connection: Connection, session_id: str) -> list[Any]:
    """Return what happened in a session, in the order of the commits."""
    return list(connection.execute(select(calls).where(calls.c.session_id == session_id).order_by(calls.c.seq)))
