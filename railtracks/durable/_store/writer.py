"""Commits of sessions: first in, first out, all that wait in one transaction; the fault of one session fails no other.

Journals and runs submit commits here. A writer has no task, and a thread only while there is something to write.
`GroupCommit` writes what waits, in one transaction. If that fails, its halves are tried, theirs in turn, and at last
each session by itself, while new commits of other sessions are written in between.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Final, TypeVar

import trio
from attrs import define
from outcome import Outcome
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from railtracks._workers.threads import ThreadStarter, in_thread_whatever_comes
from railtracks.durable._store.commit import Commit
from railtracks.durable._store.database import Database, Purpose
from railtracks.durable._store.group_commit import GroupCommit, database_error, is_passing
from railtracks.durable._store.keeping import Keeping, asked_of
from railtracks.durable._store.ownership import ProcessOwner
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.signal_polling import SignalPolling
from railtracks.exceptions import StoreError

T = TypeVar("T")

# Seconds between two tries of a transaction.
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
# Seconds that each half of a group has at least, although the whole group may have spent all its time.
_ALLOWANCE: Final = 1.0


@define(eq=False)
class _Group:
    """Commits that are tried together.

    Attributes:
        commits: The commits, in the order of the queue.
        until: When the last try may begin, on the monotonic clock.
        due: When the next try may begin.
        pause: Seconds between that try and the one after it.
    """

    commits: list[Commit]
    until: float
    due: float = 0.0
    pause: float = _FIRST_PAUSE


class Writer:
    """Writes the commits of all sessions that one Trio run has in one store.

    Args:
        database: The database of the store.
        owner: This process as the owner of the sessions.
        timeout: Seconds that a commit may take.
        patience: How long to wait where other processes decide.

    Attributes:
        signal_polling: The wait for signals of these sessions.
        keeping: What keeps these sessions.
    """

    def __init__(self, database: Database, owner: ProcessOwner, timeout: float, patience: Patience) -> None:
        self._database = database
        self._timeout = timeout
        self.signal_polling = SignalPolling(self.peek, patience)
        look = partial(self.peek, lambda connection: asked_of(connection, owner.token), "watch")
        self.keeping = Keeping(owner, look, patience)
        self._queue: deque[Commit] = deque()
        self._is_writing = False
        self._thread = ThreadStarter()
        self._group_commit = GroupCommit(database)
        # What could not be written yet. No two of these groups have commits of one session.
        self._left: list[_Group] = []
        self._more = threading.Event()

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
            if self._left:
                # The thread may be waiting for its next try.
                self._more.set()
            return
        self._is_writing = True
        try:
            self._thread.start(self._write, self._written)
        except RuntimeError as error:
            batch = [*chain.from_iterable(group.commits for group in self._left), *self._taken()]
            self._left.clear()
            self._group_commit.give_up(batch, error)
            self._finish(batch)

    # Called by Trio itself, between the steps of tasks.
    def _written(self, result: Outcome[list[Commit]]) -> None:
        self._finish(result.unwrap())
        if self._left or any(commit.waiter is not None for commit in self._queue):
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
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                return await in_thread_whatever_comes(self._read, look, purpose)
            except SQLAlchemyError as error:
                if not is_passing(error) or time.monotonic() + pause > deadline:
                    raise StoreError(f"the store could not be read: {database_error(error)}") from error
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _read(self, look: Callable[[Connection], T], purpose: Purpose) -> T:
        with self._database.reading(purpose) as connection:
            return look(connection)

    # In a thread from here on.

    def _write(self) -> list[Commit]:
        """Write what is in the queue, and try once to write what is left; return the commits that are decided."""
        if self._left:
            self._wait()
        decided: list[Commit] = []
        if fresh := self._fresh():
            decided += self._try(fresh, is_again=False)
        # One at a time: what a slow try holds up is told what the tries before it have brought.
        first = min(self._left, key=attrgetter("due"), default=None)
        if first is not None and first.due <= time.monotonic():
            self._left.remove(first)
            decided += self._try(first, is_again=True)
        return decided

    def _wait(self) -> None:
        """Wait until there is something in the queue, or it is time for the next try of what is left."""
        self._more.clear()
        due = min(each.due for each in self._left)
        self._more.wait(0.0 if self._queue else max(0.0, due - time.monotonic()))

    def _taken(self) -> list[Commit]:
        """Take all commits out of the queue."""
        # Trio's thread may add one at any moment, and nobody else takes any.
        take = self._queue.popleft
        return [take() for _ in range(len(self._queue))]

    def _fresh(self) -> _Group | None:
        """Take all commits out of the queue; those of sessions with earlier ones that are left go behind these."""
        batch = self._taken()
        if self._left:
            left = {commit.session_id: each for each in self._left for commit in each.commits}
            for commit in batch:
                if commit.session_id in left:
                    left[commit.session_id].commits.append(commit)
            batch = [commit for commit in batch if commit.session_id not in left]
        return _Group(batch, until=time.monotonic() + self._timeout) if batch else None

    def _try(self, group: _Group, *, is_again: bool) -> list[Commit]:
        """Try to write a group. Return its commits, or none of them if it is left for another try."""
        failure = self._group_commit.write(group.commits, is_again=is_again)
        if failure is None:
            return group.commits
        now = time.monotonic()
        ids = list(dict.fromkeys(commit.session_id for commit in group.commits))
        if len(ids) > 1 and not failure.is_of_store:
            # One of the sessions may have failed the others: halves find that one.
            first, until = set(ids[: len(ids) // 2]), max(group.until, now + min(_ALLOWANCE, self._timeout))
            for is_first in (True, False):
                half = [commit for commit in group.commits if (commit.session_id in first) is is_first]
                self._left.append(_Group(half, until=until, due=now))
        elif failure.is_passing and now + group.pause <= group.until:
            group.due, group.pause = now + group.pause, min(2 * group.pause, _LONGEST_PAUSE)
            self._left.append(group)
        else:
            self._group_commit.give_up(group.commits, failure.error)
            return group.commits
        return []
