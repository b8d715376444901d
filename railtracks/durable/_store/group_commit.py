"""One transaction for the commits of many sessions: each is written only if its owner still has its session.

The writer calls this, in a thread.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from railtracks.durable._store.address import said_by
from railtracks.durable._store.commit import Commit
from railtracks.durable._store.database import Database
from railtracks.durable._store.schema import calls, sessions
from railtracks.durable._store.statements import Prepared, prepared, rows_of, run_for_each
from railtracks.exceptions import RailtracksError, SessionLostError, StoreError

_INSERT: Final = sa.insert(calls)
# Errors after which another try may succeed: a lock, a full disk, a cut connection, a server that restarts, more
# readers than connections.
_PASSING: Final = (OperationalError, InterfaceError, InternalError, NoConnectionError)
# The class of PostgreSQL's errors for what is larger than it can keep.
_TOO_LARGE: Final = "54"


@frozen
class Failure:
    """Why a transaction with commits has failed.

    Attributes:
        error: What has come of it.
        is_of_store: Whether it did not even begin: then it was not for one of its commits.
    """

    error: Exception
    is_of_store: bool

    @property
    def is_passing(self) -> bool:
        """Whether another try may succeed."""
        return is_passing(self.error)


class GroupCommit:
    """Writes commits, all that it is given in one transaction, and knows what each owner was told before.

    Args:
        database: The database of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # By session and fencing number, why a commit could not be written. Later commits of that owner are not written
        # either: the record would have a hole.
        self._broken: dict[tuple[str, int | None], StoreError] = {}
        # By session and fencing number, the number of the last row that was acknowledged. A store that does not have it
        # was overwritten by an older one.
        self._acknowledged: dict[tuple[str, int | None], int] = {}

    def write(self, batch: list[Commit], *, is_again: bool) -> Failure | None:
        """Write commits in one transaction, or none of them; return why it failed.

        A commit that may not be written, because another owner has its session, fails alone.

        Args:
            batch: The commits, in their order.
            is_again: Whether they were tried before: what the store has of them by now is not written twice.
        """
        has_begun = False
        try:
            with self._database.writing("commit") as connection:
                has_begun = True
                written = self._write(connection, batch, is_again=is_again)
        except Exception as error:  # noqa: BLE001 - tried again, or the error of those that wait
            return Failure(error, is_of_store=not has_begun)
        for commit in written:
            self._acknowledge(commit)
        return None

    def _write(self, connection: Connection, batch: list[Commit], *, is_again: bool) -> list[Commit]:
        """Write what may be written, and return that; all else has its error then."""
        # Work that takes a session locks its row for itself: two owners with a shared lock each would wait for each
        # other.
        ids = {commit.session_id for commit in batch if commit.fence is not None}
        # The lock of these rows: no other owner can take a session over before this transaction has ended.
        states = _fences_of(connection, list(ids)) if ids else {}
        rows: list[dict[str, object]] = []
        written: list[Commit] = []
        for commit in batch:
            if commit.fence is None:
                rows = _written(connection, rows)
                commit.take(connection)
                continue
            refusal = self._refusal(commit, states.get(commit.session_id))
            if refusal is not None:
                commit.fail(refusal)
                continue
            rows += self._missing(connection, commit) if is_again else commit.rows
            written.append(commit)
            if commit.work is not None:
                rows = _written(connection, rows)
                commit.do_work(connection)
        _written(connection, rows)
        return written

    def _refusal(self, commit: Commit, found: tuple[int, int] | None) -> RailtracksError | None:
        """Return why a commit may not be written; found were its session's fencing number and the last row's number."""
        owner = commit.session_id, commit.fence
        if owner in self._broken and not commit.is_end:
            return self._broken[owner]
        if found is None:
            return SessionLostError(commit.session_id, "its row is not in the store any more")
        fence, last_row = found
        if fence == commit.fence and (commit.is_end or last_row >= self._acknowledged.get(owner, 0)):
            return None
        if commit.fence is not None and fence > commit.fence:
            return SessionLostError(commit.session_id, "another owner has taken it over")
        older = StoreError(
            f"what is in the store {self._database} is older than what was acknowledged: it was overwritten or restored"
            f" while session {commit.session_id} ran. Nothing more is written to it; resume the session from the right"
            " store"
        )
        return self._broken.setdefault(owner, older)

    def _acknowledge(self, commit: Commit) -> None:
        """Note which row of a session is the last one in the store."""
        owner = commit.session_id, commit.fence
        if commit.is_end:
            self._acknowledged.pop(owner, None)
        elif commit.rows or commit.result is not None:
            self._acknowledged[owner] = commit.last_row

    def _missing(self, connection: Connection, commit: Commit) -> list[dict[str, object]]:
        """Return the rows of a commit that the store does not have: the answer to its first try may have been lost."""
        numbers = [row["seq"] for row in commit.rows]
        query = sa.select(calls.c.seq, calls.c.key, calls.c.status)
        found = connection.execute(query.where(calls.c.session_id == commit.session_id, calls.c.seq.in_(numbers)))
        there = {tuple(row) for row in found}
        # Another row with the same number collides when this one is inserted, and that is an error of its own.
        return [row for row in commit.rows if (row["seq"], row["key"], row["status"]) not in there]

    def give_up(self, batch: list[Commit], error: Exception) -> None:
        """Fail commits that cannot be written, those of each session with an error of its own."""
        told = (
            f"the store could not write: {database_error(error)}. The session is left as the store has it: resume it"
            " when the cause is gone"
        )
        for commit in batch:
            owner = commit.session_id, commit.fence
            # Later commits of the owner get the same error. Without a fence, nobody owns the session yet.
            broken = StoreError(told) if commit.fence is None else self._broken.setdefault(owner, StoreError(told))
            commit.fail(commit.error or broken)


def _written(connection: Connection, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Insert rows of calls; return a list for the next ones."""
    if rows:
        run_for_each(connection, prepared(_INSERT, connection.dialect), rows)
    return []


def _fences_of(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the fencing number of sessions and the number of the last row of each, and lock their rows."""
    statement, names = _fences(connection.dialect, len(ids))
    found: Sequence[tuple[str, int, int]] = rows_of(connection, statement, dict(zip(names, ids, strict=True)))
    return {session_id: (fence, last_row) for session_id, fence, last_row in found}


# One for each number of sessions.
@functools.lru_cache(maxsize=128)
def _fences(dialect: sa.Dialect, count: int) -> tuple[Prepared, tuple[str, ...]]:
    """Return the statement that reads and locks as many sessions, and the names of its parameters."""
    names = tuple(f"id_{place}" for place in range(count))
    ids = [sa.bindparam(name, type_=sessions.c.session_id.type) for name in names]
    last = sa.select(sa.func.max(calls.c.seq)).where(calls.c.session_id == sessions.c.session_id).scalar_subquery()
    # No parameter more: the rest of the statement is text.
    query = sa.select(sessions.c.session_id, sessions.c.fence, sa.func.coalesce(last, sa.literal_column("0")))
    return prepared(query.where(sessions.c.session_id.in_(ids)).with_for_update(read=True), dialect), names


def is_passing(error: Exception) -> bool:
    """Return whether another try may succeed after an error of the database."""
    if not isinstance(error, _PASSING):
        return False
    cause = getattr(error, "orig", None)
    # SQLite's number for a statement that it cannot run, as when a table was dropped.
    if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        return False
    return not str(getattr(cause, "sqlstate", None)).startswith(_TOO_LARGE)


def database_error(error: Exception) -> str:
    """Return what the database said, without the statement and the values that SQLAlchemy quotes."""
    cause = getattr(error, "orig", None) if isinstance(error, SQLAlchemyError) else error
    return said_by(cause or type(error).__name__)
