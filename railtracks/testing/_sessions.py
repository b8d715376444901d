"""Which sessions a block opens, and what is left of a session that has ended.

Called by tests, by `_cancels` for each of its rounds, and by the fixtures for pytest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextvars import ContextVar

import trio
from trio.lowlevel import Task

from railtracks._blocks import block
from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import is_system_task
from railtracks._records.data import ExecutionInfo, Status
from railtracks._records.events import Event, EventKind, SessionEvent
from railtracks._records.observers import EVERYWHERE
from railtracks._sessions import running, sigterm
from railtracks._sessions.outer_nursery import WATCH
from railtracks._sessions.session import Session
from railtracks._workers.messages import POOL_TASKS


@block
def opened_sessions() -> Generator[list[Session]]:
    """List the sessions that are opened while the block runs, in the order of their opening.

        with testing.opened_sessions() as sessions:
            flow.invoke("Hello!")
        assert len(sessions) == 1

    Sessions of flows and of functions with `@rt.session` count, too. Sessions that are opened in tasks or worker
    threads count if these were started in the block.

    Yields:
        The list, which grows while the block runs.
    """
    listing = _Listing(_listing.get())
    token = _listing.set(listing)
    EVERYWHERE.add(listing, [EventKind.SESSION_OPENED])
    try:
        yield listing.sessions
    finally:
        EVERYWHERE.remove(listing)
        _listing.reset(token)


class _Listing:
    """The observer behind `opened_sessions`. It lists the sessions of its block, and of blocks inside that block."""

    def __init__(self, around: _Listing | None) -> None:
        self.sessions: list[Session] = []
        self.around = around

    def on_event(self, event: Event) -> None:
        """Add a session to the list if it was opened in this block."""
        inner = _listing.get()
        while inner is not None and inner is not self:
            inner = inner.around
        if inner is self and isinstance(event, SessionEvent) and isinstance(event.session, Session):
            self.sessions.append(event.session)


# The listing of the innermost block around this code; tasks and worker threads inherit it.
_listing: ContextVar[_Listing | None] = ContextVar("railtracks_listing", default=None)


def assert_quiescent(session: Session) -> None:
    """Assert that a session has ended and that nothing of it is left.

    The session was entered and has ended, and each of its calls is closed. No task of this Trio run is in the session
    or in a session inside it, and none was started there, in whatever nursery. Outside of Trio there are no tasks to
    check. A thread that was left behind by a node with `abandon_on_cancel=True` is allowed.

    Args:
        session: The session.

    Raises:
        AssertionError: If anything is left. The text names all of it.
    """
    left = [*_unfinished(session.info), *_running(session)]
    if left:
        raise AssertionError(f"of session {label(session)!r} there is left: {'; '.join(left)}")


def label(session: Session) -> str:
    """Return what a test calls a session by: its name, or else that of its flow, or else its identifier."""
    return session.name or session.flow_name or session.identifier


def _unfinished(info: ExecutionInfo) -> Iterator[str]:
    if info.started_at is None:
        yield "everything, it was never entered"
    elif info.status is Status.RUNNING or info.ended_at is None:
        yield "itself, it has not ended"
    for call in info.calls:
        if call.status is Status.RUNNING or call.ended_at is None:
            yield f"call {call.id} of node {call.node!r}, which is {call.status}"


def _running(session: Session) -> Iterator[str]:
    if not trio.lowlevel.in_trio_run():
        return
    for task in tasks_of_run() - {trio.lowlevel.current_task()}:
        frame: Frame | None = task.context.get(current_frame)
        while frame is not None:
            if frame.scope.session is session:
                yield f"task {task.name!r}, in {' > '.join(frame.scope.tree.path(frame.call_id)) or 'its block'}"
                break
            frame = frame.outer


def tasks_of_run() -> set[Task]:
    """Return all tasks of this Trio run except those of Trio itself and of pools of worker processes.

    A pool belongs to the outermost session, which may be around the function that is tested. So does the watch over the
    task of that session, which begins with the pool.
    """
    root = trio.lowlevel.current_root_task()
    found: set[Task] = set()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        found.add(task)
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    others = {task for task in found if not task.name.startswith((POOL_TASKS, WATCH))}
    return {task for task in others if not (task.name.startswith("trio.") and is_system_task(task))}


def forget_sigterm() -> None:
    """Have flows run again after SIGTERM has come during a run in this process, or after `rt.shutdown_on_sigterm`.

    A process in which that has happened is stopping, and refuses later runs. A test that sends SIGTERM calls this when
    it is over. With `railtracks.pytest_plugin` it is called after each test.
    """
    sigterm.go_on()
    running.go_on()
