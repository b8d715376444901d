"""The tables of a store, and their rows as typed records.

The modules of the durable package read and write these tables; `reading` makes the records of rows. A change of a table
is a new revision under `migrations`, never an edit of an old one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

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
    null,
    text,
)

# The newest revision under `migrations`, which this library reads and writes.
REVISION: Final = "0005"
# Every revision up to it, oldest first: a store that is at none of these was made by a newer library. A revision only
# adds tables, indexes and nullable columns: processes of the release before run their sessions to the end.
REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005")

metadata = MetaData()

# The column `parent` of what is recorded in the session itself, and not in a call.
ROOT: Final = "root"
# The name of the node of a wait for a signal is this, and then the name of the signal.
WAIT: Final = "wait for signal "
# The name of the node of a flow that is invoked inside a session is this, and then the name of the flow.
FLOW: Final = "flow "
# The name of the node that lists the tools of an MCP server is this, and then the name of the server.
TOOLS: Final = "tools of "


# The column `wakes_at` of a parked session that waits for a session of another store. This store does not hear of that
# one, so `recover` wakes the session at each look.
AT_EACH_LOOK: Final = 0.0
# The name of the fact that a store is a backup. Its value is the moment of which it is, by the clock of the original.
BACKUP: Final = "backup_of"
# The name of the fact that fencing numbers begin above its value.
FENCES: Final = "fences"


class DurableStatus(StrEnum):
    """Whether a session runs, waits or is over, as its store has it. A parked session has the status `waiting`."""

    RUNNING = "running"
    WAITING = "waiting"
    INTERRUPTED = "interrupted"
    STUCK = "stuck"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    # In no store: what `DurableStore.sessions` says of a session whose row cannot be read.
    DAMAGED = "damaged"


# The session is over for good.
FINAL: Final = frozenset(
    [DurableStatus.COMPLETED, DurableStatus.FAILED, DurableStatus.TIMED_OUT, DurableStatus.CANCELLED]
)


class RowStatus(StrEnum):
    """The kinds of rows in `calls`: what has happened, to a call or a broadcast."""

    # Of a call: it began, or how it ended.
    OPENED = "opened"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    # A person had it run again: what its earlier rows say of its end does not count any more.
    RETRIED = "retried"
    # A background call was started.
    STARTED = "started"
    # Something was broadcast, and reached the callback.
    BROADCAST = "broadcast"
    DELIVERED = "delivered"


# The processes that run sessions: one row for each store that is open in a process. Times are the database's, in
# seconds since 1970.
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
    # The fingerprint of the inputs.
    Column("inputs_print", Text),
    # The seed of the session's random numbers; a fork has the seed of the session that it was forked from.
    Column("seed", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("timeout", Float(53)),
    Column("created_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Column("deadline_at", Float(53)),
    # Of a session that waits: when the first timeout of its waits is over, or `AT_EACH_LOOK`.
    Column("wakes_at", Float(53)),
    Column("failure", LargeBinary),
    Column("owner", String(32)),
    # The fencing number: it counts the owners, and only the owner with the last number may write.
    Column("fence", Integer, nullable=False),
    # How often the session was taken over from an owner that died with it; `rt.recover` is not counted.
    Column("recoveries", Integer, nullable=False),
    Column("forked_from", Text),
    # The session in which this one was opened, and which resumes it. It may be in another store.
    Column("parent", String(200)),
    # A random number of this life of the session: an id that is used again has another one. `None` in sessions that
    # were begun with revision 0001.
    Column("life", String(32)),
    # The way in which the fingerprints of the session's calls are made: it keeps it to its end. `None` is the way of
    # revision 0001.
    Column("prints", Integer),
    # How many outcomes were there, of the session and of those inside it, when it was last taken over.
    Column("progress", Integer),
    # When somebody asked for the session's end, and what was given as the reason.
    Column("cancel_asked_at", Float(53)),
    Column("cancel_reason", Text),
    # What ended or interrupted the session, as JSON.
    Column("cause", LargeBinary),
    # The number of the row in which the entry point has its outcome, once it has one.
    Column("outcome_seq", Integer),
    # When a person last had the session's failed calls run again.
    Column("retried_at", Float(53)),
    # The trace of the last run that had one, as W3C's `traceparent`.
    Column("trace", Text),
    # The life of the parent. `None` in sessions without one, in those begun before revision 0005, and in those whose
    # parent has none: then the parent is known by its id alone.
    Column("parent_life", String(32)),
    Index("railtracks_sessions_by_status", "status", "flow_name"),
    Index("railtracks_sessions_by_parent", "parent"),
    Index("railtracks_sessions_by_creation", "created_at", "session_id"),
    # Each owner looks every second for what was asked of its sessions.
    Index(
        "railtracks_sessions_by_request",
        "owner",
        sqlite_where=text("cancel_asked_at is not null"),
        postgresql_where=text("cancel_asked_at is not null"),
    ),
)

# The highest fencing number that the store gave out for an id, also of sessions that are not there any more.
fences = Table(
    "railtracks_fences",
    metadata,
    Column("session_id", String(200), primary_key=True),
    Column("fence", Integer, nullable=False),
)

# What is to be known of the store as a whole, by name: that it is a backup, for example.
facts = Table(
    "railtracks_facts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

# What happened in a session, in the order of its commits.
calls = Table(
    "railtracks_calls",
    metadata,
    Column("session_id", String(200), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    # The key of the attempt, the key of its parent record, and the position there (`Position` of `_replay/strands`).
    Column("key", String(32), nullable=False),
    Column("parent", String(32), nullable=False),
    Column("strand", String(32), nullable=False),
    # `Position.number`, and `Position.place`.
    Column("position", Integer, nullable=False),
    Column("place", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("node", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("arguments", LargeBinary),
    # One of `RowStatus`.
    Column("status", Text, nullable=False),
    # The result or the failure of a call, or what was broadcast. In a row with the status `started`: JSON with the
    # address of the function, and whether it is a service. In the `opened` or `retried` row of a wait for a signal: its
    # deadline.
    Column("outcome", LargeBinary),
    Column("context", LargeBinary),
    # The number of the last commit whose outcome had been handed over when the call began.
    Column("began_after", Integer, nullable=False),
    Column("began_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    # Of the `opened` row of a wait for a signal, as JSON: the JSON Schema of what it waits for, for those who answer,
    # and a text that proves the key of the store. A replay does not read it: it is no part of a `CallRow`.
    Column("wanted", LargeBinary),
)

signals = Table(
    "railtracks_signals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session_id", String(200), nullable=False),
    Column("name", Text, nullable=False),
    # The signal key that the sender gave: two signals with one key are one signal.
    Column("key", Text),
    Column("value", LargeBinary, nullable=False),
    Column("sent_at", Float(53), nullable=False),
    # The key of the wait that this signal ended.
    Column("consumed_by", String(32)),
    Column("consumed_at", Float(53)),
    UniqueConstraint("session_id", "key", name="railtracks_signals_once"),
    Index("railtracks_signals_by_name", "session_id", "name", "id"),
)


class SignalRow(NamedTuple):
    """A row of `signals`, column by column."""

    id: int
    session_id: str
    name: str
    key: str | None
    value: bytes
    sent_at: float
    consumed_by: str | None
    consumed_at: float | None = None


class OwnerRow(NamedTuple):
    """A row of `owners`, column by column."""

    token: str
    host: str
    process_id: int
    lease_until: float


class SessionRow(NamedTuple):
    """A row of `sessions`, column by column."""

    session_id: str
    session_name: str | None
    flow_name: str | None
    version: str | None
    entry_point: str | None
    inputs: bytes | None
    inputs_print: str | None
    seed: str
    status: str
    timeout: float | None
    created_at: float
    ended_at: float | None
    deadline_at: float | None
    wakes_at: float | None
    failure: bytes | None
    owner: str | None
    fence: int
    recoveries: int
    forked_from: str | None
    parent: str | None
    life: str | None = None
    prints: int | None = None
    progress: int | None = None
    cancel_asked_at: float | None = None
    cancel_reason: str | None = None
    cause: bytes | None = None
    outcome_seq: int | None = None
    retried_at: float | None = None
    trace: str | None = None
    parent_life: str | None = None


class SessionOutline(NamedTuple):
    """What the row of a session says of whose it is, who has it, and what it is inside of."""

    session_id: str
    session_name: str | None
    flow_name: str | None
    version: str | None
    status: str
    owner: str | None
    recoveries: int
    parent: str | None
    life: str | None
    parent_life: str | None


class CallRow(NamedTuple):
    """A row of `calls`, column by column."""

    session_id: str
    seq: int
    key: str
    parent: str
    strand: str
    position: int
    place: int
    attempt: int
    node: str
    fingerprint: str
    arguments: bytes | None
    status: str
    outcome: bytes | None
    context: bytes | None
    began_after: int
    began_at: float
    ended_at: float | None


# The columns of `CallRow`.
CALL_COLUMNS: Final = tuple(column for column in calls.c if column.name in CallRow._fields)

# The columns of `SessionRow`, but nothing in the place of those that may be large.
SESSION_HEAD: Final = tuple(
    null().label(column.name) if column.name in {"inputs", "failure"} else column for column in sessions.c
)
