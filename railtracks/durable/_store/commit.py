"""One commit of a session, and the task that waits for it.

Journals and runs make commits and hand them to the writer, which writes and decides them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from attrs import define
from sqlalchemy.engine import Connection

from railtracks._workers.threads import never_aborted
from railtracks.exceptions import RailtracksError


@define(eq=False)
class Commit:
    """Rows and work of one session, to be written in one transaction.

    Attributes:
        session_id: The session.
        fence: The fencing number of the session's owner as the owner knows it; `None` for work that takes the session,
            and compares for itself.
        rows: New rows of the session's calls.
        last_row: The number of the last row that it writes, if there are rows or `work` returns something.
        work: What else to do in the same transaction; it may be done again after an answer was lost.
        is_end: Whether it records how the session ended, which is written even where rows of the session were not.
        on_done: Called when the commit is decided, in Trio's thread, in the order of the queue.
        waiter: The task that waits for it.
        result: What `work` returned.
        error: Why the commit was not written.
        is_done: Whether it is decided.
    """

    session_id: str
    fence: int | None
    rows: Sequence[dict[str, object]] = ()
    last_row: int = 0
    work: Callable[[Connection], object] | None = None
    is_end: bool = False
    on_done: Callable[[], None] | None = None
    waiter: CommitWaiter | None = None
    result: object = None
    error: RailtracksError | None = None
    is_done: bool = False

    def wait_here(self) -> CommitWaiter:
        """Have the current task wait for the commit; return its waiter."""
        self.waiter = CommitWaiter()
        return self.waiter

    def do_work(self, connection: Connection) -> None:
        """Call `work` in the transaction of a connection, and keep what it returns as the result."""
        self.result = None if self.work is None else self.work(connection)

    def take(self, connection: Connection) -> None:
        """Do the work of a commit that takes a session; a refusal is its own error, and has written nothing."""
        self.error = None
        try:
            self.do_work(connection)
        except RailtracksError as refusal:
            self.error = refusal

    def fail(self, error: RailtracksError) -> None:
        """Set why the commit was not written."""
        self.error = error

    def finish(self) -> None:
        """Mark the commit as decided, in Trio's thread, and let the task that waits for it go on."""
        self.is_done = True
        if self.on_done is not None:
            self.on_done()
        elif self.waiter is not None:
            self.waiter.wake()


class CommitWaiter:
    """A task that waits for a commit, and that no cancel wakes.

    A cancel scope with a shield for each wait would cost more than the rest of a commit.
    """

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Wait for `wake`, and for nothing else: neither a cancel nor Ctrl-C ends the wait."""
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(never_aborted)

    def wake(self) -> None:
        """Let the task go on, if it waits."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)
