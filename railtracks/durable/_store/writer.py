"""Commits: first in, first out, everything that waits in one transaction, and nobody's fault on anybody else.

No task and no thread of its own: who has something to commit while nobody writes, writes for all that wait. What is
written counts only while the fence of its session is the one that the database has.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
import trio
from attrs import define
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from railtracks._workers.threads import in_thread, in_thread_whatever_comes, never_aborted
from railtracks.durable._store.database import Database
from railtracks.durable._store.schema import calls, sessions
from railtracks.durable._store.signal_polling import Lookout
from railtracks.exceptions import RailtracksError, SessionLostError, StoreError

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
# What another try of the same transaction may mend: a lock, a full disk, a cut connection, a server that restarts, more
# readers than connections.
_PASSING: Final = (OperationalError, InterfaceError, InternalError, NoConnectionError)

# Made once: to put it together costs more than to run it.
_FENCES: Final = (
    sa.select(sessions.c.session_id, sessions.c.fence)
    .where(sessions.c.session_id.in_(sa.bindparam("ids", expanding=True)))
    .with_for_update(read=True)
)

# Tests stop or kill the process here: "before", "inside" and "after" the commit; the store's error or lost answer is
# what it raises.
fault: Callable[[str], None] | None = None


@define(eq=False)
class Commit:
    """Something of one session to be written.

    Attributes:
        session_id: The session.
        fence: Its number as its owner knows it; `None` of work that is about to own the session, and looks itself.
        rows: New rows of its calls.
        work: What else to do in the same transaction; it may be done again after an answer was lost.
        is_end: Whether it says how the session ended, which may be told of one whose rows could not be written.
        on_done: Called when it is decided, in the task of whoever wrote, in the order of the queue.
        result: What `work` returned.
        error: Why it was not written.
        is_done: Whether it is decided.
        waiter: Who waits for it, if somebody does.
    """

    session_id: str
    fence: int | None
    rows: Sequence[dict[str, Any]] = ()
    work: Callable[[Connection], Any] | None = None
    is_end: bool = False
    on_done: Callable[[], None] | None = None
    result: Any = None
    error: Exception | None = None
    is_done: bool = False
    waiter: Waiter | None = None


class Waiter:
    """A task that no cancel wakes: a scope of its own with a shield would cost it more than all the rest."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Wait until somebody calls `wake`."""
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(never_aborted)

    def wake(self) -> None:
        """Let the task go on, if it waits."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)


class Writer:
    """What commits for the sessions of one store in one Trio run."""

    def __init__(self, database: Database, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self.lookout = Lookout(self.peek)
        # For the renewal of the one lease that all sessions here have.
        self.renewing = trio.Lock()
        self._waiting: list[Commit] = []
        self._is_writing = False
        # Of what could not be written later things must not be, by the same owner: the record would have a hole.
        self._broken: dict[tuple[str, int], StoreError] = {}

    def submit(self, commit: Commit) -> None:
        """Put something into the queue, to be written with, or before, whatever comes after it."""
        self._waiting.append(commit)

    @property
    def backlog(self) -> int:
        """How many commits wait to be written."""
        return len(self._waiting)

    async def lead(self, commit: Commit) -> None:
        """Wait until something that was submitted is decided, and write meanwhile if nobody else does.

        Shielded; a schedule point.
        """
        waiter = commit.waiter = commit.waiter or Waiter()
        while not commit.is_done:
            await self.step(waiter)

    async def step(self, waiter: Waiter) -> None:
        """Write all that waits, or if somebody else does that, wait to be woken. Shielded; a schedule point."""
        if self._is_writing:
            await waiter.wait()
        else:
            await self._write_all()

    async def peek(self, look: Callable[[Connection], Any]) -> Any:
        """Read something, with as much patience as a commit has; a checkpoint.

        Raises:
            StoreError: If it cannot be read.
        """
        deadline = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                return await in_thread(self._read, look)
            except SQLAlchemyError as error:
                if not isinstance(error, _PASSING) or time.monotonic() + pause > deadline:
                    raise StoreError(f"the store could not be read: {told(error)}") from error
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _read(self, look: Callable[[Connection], Any]) -> Any:
        with self._database.reading() as connection:
            return look(connection)

    # Whoever else waits is woken by this task alone: nothing may take it away, and at a checkpoint Ctrl-C would
    # (test_durable_cancellation.py::test_ctrl_c_leaves_nobody_waiting_for_a_commit).
    @trio.lowlevel.enable_ki_protection
    async def _write_all(self) -> None:
        self._is_writing = True
        # Whoever the last commit woke has its own next one ready by then.
        await trio.lowlevel.cancel_shielded_checkpoint()
        batch, self._waiting = self._waiting, []
        try:
            await in_thread_whatever_comes(self._commit, batch)
        except RuntimeError as error:
            self._give_up(batch, error)
        self._is_writing = False
        for commit in batch:
            commit.is_done = True
            if commit.on_done is not None:
                commit.on_done()
            elif commit.waiter is not None:
                commit.waiter.wake()
        for commit in self._waiting:
            if commit.waiter is not None:
                commit.waiter.wake()
                break

    # In a thread from here on.

    def _commit(self, batch: list[Commit]) -> None:
        deadline = time.monotonic() + self._timeout
        try:
            self._transaction(batch, is_again=False)
        except Exception as error:  # noqa: BLE001 - told to those who wait, or tried again
            by_session: dict[str, list[Commit]] = {}
            for commit in batch:
                by_session.setdefault(commit.session_id, []).append(commit)
            for own in by_session.values():
                self._insist(own, error, deadline)

    def _insist(self, batch: list[Commit], error: Exception, deadline: float) -> None:
        """Try again, for one session alone, until it is written or there is no sense in it."""
        pause = _FIRST_PAUSE
        is_first = True
        while True:
            is_passing = isinstance(error, _PASSING)
            # The fault of another session may have been what the first try met: then this one has had no try yet.
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
            f"the store could not write: {told(error)}. The session is left as the store has it; resume it when the"
            " cause is gone"
        )
        for commit in batch:
            if commit.fence is not None:
                # What comes after it has the same error, and the session one.
                broken = self._broken.setdefault((commit.session_id, commit.fence), broken)
            commit.error = commit.error or broken

    def _transaction(self, batch: list[Commit], *, is_again: bool) -> None:
        _meet("before")
        with self._database.writing() as connection:
            # Who is about to own a session locks its row itself: shared first, two who do so would wait for each other.
            ids = {commit.session_id for commit in batch if commit.fence is not None}
            # No other owner can take a session over until this transaction is through.
            found = connection.execute(_FENCES, {"ids": list(ids)}) if ids else ()
            fences = {row[0]: row[1] for row in found}
            rows: list[dict[str, Any]] = []
            for commit in batch:
                if commit.fence is None:
                    rows = _written(connection, rows)
                    _take(connection, commit)
                    continue
                broken = self._broken.get((commit.session_id, commit.fence))
                if broken is not None and not commit.is_end:
                    commit.error = broken
                    continue
                if fences.get(commit.session_id) != commit.fence:
                    commit.error = SessionLostError(commit.session_id, "another owner has taken it over")
                    continue
                rows += self._missing(connection, commit) if is_again else commit.rows
                if commit.work is not None:
                    rows = _written(connection, rows)
                    commit.result = commit.work(connection)
            _written(connection, rows)
            _meet("inside")
        _meet("after")

    def _missing(self, connection: Connection, commit: Commit) -> list[dict[str, Any]]:
        """Return the rows of a commit that are not there yet: the answer to its first try may have been lost."""
        numbers = [row["seq"] for row in commit.rows]
        query = sa.select(calls.c.seq, calls.c.key, calls.c.status)
        found = connection.execute(query.where(calls.c.session_id == commit.session_id, calls.c.seq.in_(numbers)))
        there = {tuple(row) for row in found}
        # A row of the same number that is another one collides when it is inserted.
        return [row for row in commit.rows if (row["seq"], row["key"], row["status"]) not in there]


def _take(connection: Connection, commit: Commit) -> None:
    """Do the work of who is about to own a session; a refusal is its own, and nothing was written then."""
    commit.error = None
    try:
        commit.result = None if commit.work is None else commit.work(connection)
    except RailtracksError as refusal:
        commit.error = refusal


def _written(connection: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if rows:
        # Said by SQLAlchemy and handed to the driver: its own way through the values costs as much as SQLite's.
        statement, names = _insert(connection.dialect)
        parameters: Any = rows if names is None else [tuple(map(row.__getitem__, names)) for row in rows]
        connection.exec_driver_sql(statement, parameters)
    return []


@functools.lru_cache(maxsize=8)
def _insert(dialect: sa.Dialect) -> tuple[str, tuple[str, ...] | None]:
    """Return what inserts rows of calls, and the order of their values where they have no names."""
    compiled = sa.insert(calls).compile(dialect=dialect)
    order = compiled.positiontup
    return str(compiled), None if order is None else tuple(order)


def told(error: Exception) -> object:
    """Return what the database says, without the statement and the values that SQLAlchemy quotes."""
    return getattr(error, "orig", None) or type(error).__name__ if isinstance(error, SQLAlchemyError) else error


def _meet(place: str) -> None:
    if fault is not None:
        fault(place)
