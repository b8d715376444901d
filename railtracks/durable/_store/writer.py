"""Commits of sessions: first in, first out, all that wait in one transaction; the fault of one session fails no other.

Journals and runs submit commits here. A writer has no task, and a thread only while there is something to write. A
commit is written only if its fencing number is the one that the database has for its
session.
"""

from __future__ import annotations

import functools
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import sqlalchemy as sa
import trio
from outcome import Outcome
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from railtracks._workers.threads import in_thread, start_in_thread
from railtracks.durable._store.cancel_polling import CancelPolling, asked_of
from railtracks.durable._store.commit import Commit
from railtracks.durable._store.database import Database, Purpose
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import calls, sessions
from railtracks.durable._store.signal_polling import SignalPolling
from railtracks.durable._store.statements import Prepared, prepared, rows_of, run_for_each
from railtracks.exceptions import RailtracksError, SessionLostError, StoreError

T = TypeVar("T")

_INSERT: Final = sa.insert(calls)
# Seconds between two tries of a transaction.
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
# Errors after which another try may succeed: a lock, a full disk, a cut connection, a server that restarts, more
# readers than connections.
_PASSING: Final = (OperationalError, InterfaceError, InternalError, NoConnectionError)


class Writer:
    """Writes the commits of all sessions that one Trio run has in one store.

    Args:
        database: The database of the store.
        token: The owner of the sessions.
        timeout: Seconds that a commit may take.
        patience: How long to wait where other processes decide.

    Attributes:
        signal_polling: The wait for signals of these sessions.
        cancel_polling: The look for requests to end these sessions.
        renewing: Held while one of these sessions renews the lease of the process, which they have in common.
    """

    def __init__(self, database: Database, token: str, timeout: float, patience: Patience) -> None:
        self._database = database
        self._timeout = timeout
        self.signal_polling = SignalPolling(self.peek, patience)
        look = partial(self.peek, lambda connection: asked_of(connection, token), "watch")
        self.cancel_polling = CancelPolling(look, patience)
        self.renewing = trio.Lock()
        self._queue: deque[Commit] = deque()
        self._is_writing = False
        # By session and fencing number, why a commit could not be written. Later commits of that owner are not written
        # either: the record would have a hole.
        self._broken: dict[tuple[str, int | None], StoreError] = {}
        # By session and fencing number, the number of the last row that was acknowledged. A store that does not have it
        # was overwritten by an older one.
        self._acknowledged: dict[tuple[str, int | None], int] = {}

    def submit(self, commit: Commit) -> None:
        """Put a commit into the queue, to be written with the commits that come after it, and before them."""
        self._queue.append(commit)

    @property
    def backlog(self) -> int:
        """The number of commits that wait to be written."""
        return len(self._queue)

    @trio.lowlevel.enable_ki_protection
    async def write(self, commit: Commit) -> None:
        """Write a commit, and all that were submitted before it; wait until it is decided. Shielded."""
        waiter = commit.wait_here()
        self.submit(commit)
        self.write_soon()
        while not commit.is_done:
            await waiter.wait()

    def write_soon(self) -> None:
        """Have a thread write all that was submitted, unless one is at work: then that is written after it.

        The thread takes what is in the queue when it gets to run. By then the tasks that the last transaction woke have
        submitted their next commits: that makes a group of them.
        """
        if self._is_writing:
            return
        self._is_writing = True
        try:
            start_in_thread(self._write, self._written)
        except RuntimeError as error:
            batch = self._taken()
            self._give_up(batch, error)
            self._finish(batch)

    # Called by Trio itself, between the steps of tasks.
    def _written(self, result: Outcome[list[Commit]]) -> None:
        self._finish(result.unwrap())
        if any(commit.waiter is not None for commit in self._queue):
            self.write_soon()

    def _finish(self, batch: list[Commit]) -> None:
        self._is_writing = False
        for commit in batch:
            commit.finish()

    async def peek(self, look: Callable[[Connection], T], purpose: Purpose = "poll") -> T:
        """Read something, and try again for as long as a commit may take; a checkpoint.

        Raises:
            StoreError: If it cannot be read.
        """
        deadline = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                return await in_thread(self._read, look, purpose)
            except SQLAlchemyError as error:
                if not _is_passing(error) or time.monotonic() + pause > deadline:
                    raise StoreError(f"the store could not be read: {database_error(error)}") from error
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _read(self, look: Callable[[Connection], T], purpose: Purpose) -> T:
        with self._database.reading(purpose) as connection:
            return look(connection)

    def _taken(self) -> list[Commit]:
        """Take all commits out of the queue."""
        # Trio's thread may add one at any moment, and nobody else takes any.
        take = self._queue.popleft
        return [take() for _ in range(len(self._queue))]

    # In a thread from here on.

    def _write(self) -> list[Commit]:
        """Write what is in the queue; return the commits, all of them decided."""
        batch = self._taken()
        self._commit(batch)
        return batch

    def _commit(self, batch: list[Commit]) -> None:
        deadline = time.monotonic() + self._timeout
        try:
            self._transaction(batch, is_again=False)
        except Exception as error:  # noqa: BLE001 - tried again, or the error of those that wait
            by_session: dict[str, list[Commit]] = {}
            for commit in batch:
                by_session.setdefault(commit.session_id, []).append(commit)
            for own in by_session.values():
                self._insist(own, error, deadline)

    def _insist(self, batch: list[Commit], error: Exception, deadline: float) -> None:
        """Try again with the commits of one session, until they are written or another try cannot help."""
        pause = _FIRST_PAUSE
        is_first = True
        while True:
            is_passing = _is_passing(error)
            # The first try was made with other sessions, and may have failed by their fault: each gets one of its own.
            if time.monotonic() + pause > deadline if is_passing else not is_first:
                self._give_up(batch, error)
                return
            if is_passing:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            is_first = False
            try:
                self._transaction(batch, is_again=True)
            except Exception as again:  # noqa: BLE001 - as above
                error = again
            else:
                return

    def _give_up(self, batch: list[Commit], error: Exception) -> None:
        broken = StoreError(
            f"the store could not write: {database_error(error)}. The session is left as the store has it: resume it"
            " when the cause is gone"
        )
        for commit in batch:
            if commit.fence is not None:
                # Later commits of the session get the same error.
                broken = self._broken.setdefault((commit.session_id, commit.fence), broken)
            commit.fail(commit.error or broken)

    def _transaction(self, batch: list[Commit], *, is_again: bool) -> None:
        with self._database.writing("commit") as connection:
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
        for commit in written:
            self._acknowledge(commit)

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


def _is_passing(error: Exception) -> bool:
    """Return whether another try may succeed."""
    if not isinstance(error, _PASSING):
        return False
    # SQLite's number for a statement that it cannot run, as when a table was dropped.
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def database_error(error: Exception) -> object:
    """Return what the database said, without the statement and the values that SQLAlchemy quotes."""
    return getattr(error, "orig", None) or type(error).__name__ if isinstance(error, SQLAlchemyError) else error
