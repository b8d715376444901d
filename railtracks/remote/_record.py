"""The record of a session on a worker, as it grows below the call that has sent the session: calls, lines, broadcasts.

Called by `_sending`, and by engines through `JobRecord`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio

from railtracks._calls.frames import Frame
from railtracks._records.data import RemoteOrigin, Status
from railtracks._records.descriptions import described
from railtracks._records.events import EventKind
from railtracks._records.remote_calls import RemoteCalls, RemoteEnd, RemoteStart
from railtracks.exceptions import WorkerLostError
from railtracks.remote._broadcasts import Broadcasts
from railtracks.remote._logged import LoggedLine, log_again
from railtracks.remote._wire import AT_ONCE, Note, read
from railtracks.remote._worker import Job, Reply

# Seconds for which records that are on their way are waited for, after the end of the session.
_LATE: Final = 2.0
_KINDS: Final = {
    Status.RUNNING: EventKind.CALL_STARTED,
    Status.COMPLETED: EventKind.CALL_COMPLETED,
    Status.CANCELLED: EventKind.CALL_CANCELLED,
}


class RemoteRecord:
    """The record of one session on a worker, as it grows below the call that has sent it.

    Messages come in the order in which the worker sent them, but some may be missing, and the last may come after the
    end of the session.

    Args:
        frame: The call that has sent the session.
        job: What was sent.
        acknowledge: Tells the worker that all records before a number were taken.

    Attributes:
        broadcasts: The broadcasts of the session.
    """

    def __init__(self, frame: Frame, job: Job, acknowledge: Callable[[int], object]) -> None:
        self._scope = frame.scope
        self._call_id = frame.call_id
        self._name = job.name
        self._worker = ""
        self._calls: RemoteCalls | None = None
        self._arrived = 0
        # The most by which the worker's clock can be ahead, in seconds: the smallest delay of a message until now.
        self._shift = math.inf
        self._came = trio.Event()
        self._acknowledge = acknowledge
        # How many lines and broadcasts were taken since the worker was told last.
        self._news = 0
        self._position = 0
        self.broadcasts = Broadcasts(frame.scope, job, self._took_news)

    def took(self, worker: str) -> None:
        """Note which worker runs the session, before it has told anything."""
        self._worker = worker

    def take(self, message: dict[str, Any]) -> None:
        """Add what a worker has told."""
        self._shift = min(self._shift, time.time() - message["at"])
        self._worker = self._worker or message["worker"]
        calls = self._calls_of(message["session"])
        self._arrived += len(message["lines"])
        for number, each in enumerate(read(message["lines"]), message["first"]):
            self._position = number + 1
            if isinstance(each, RemoteStart):
                calls.start(each, self._shift)
            elif isinstance(each, RemoteEnd):
                calls.end(each, self._shift)
            elif isinstance(each, Note):
                calls.note(each.call_id, partial(self._scope.tell_of, each.kind))
            elif isinstance(each, LoggedLine):
                session_id, call_id, _ = each.ids
                # A session inside the sent one has ids of its own, and the sending session does not know its calls.
                known = calls.here(call_id if session_id == message["session"] else None)
                log_again(each, self._worker, self._shift, self._scope, known)
                self._took_news()
            else:
                self.broadcasts.add(number, each.item)
        self._came.set()

    def _took_news(self) -> None:
        self._news += 1
        if self._news >= AT_ONCE:
            self._news = 0
            # What was sent before is taken, or got lost.
            waiting = self.broadcasts.first
            self._acknowledge(self._position if waiting is None else waiting)

    async def complete(self, reply: Reply) -> None:
        """Wait for the records that are on their way, and note how many have not come. The session has ended."""
        with trio.move_on_after(_LATE):
            while self._arrived < reply.count:
                self._came = trio.Event()
                await self._came.wait()
        if reply.session_id:
            self._calls_of(reply.session_id).finish(max(0, reply.count - self._arrived))

    def lose(self, worker: str) -> None:
        """Close the calls that are open as lost: nobody knows what becomes of them."""
        if self._calls is not None:
            self._calls.lose(described(WorkerLostError(self._name, worker)))

    def close(self) -> None:
        """Close the calls that are open: the call around them ends."""
        if self._calls is not None:
            self._calls.cancel()

    def _calls_of(self, session_id: str) -> RemoteCalls:
        if self._calls is None:
            origin = RemoteOrigin(session_id, self._worker)
            self._calls = RemoteCalls(self._scope.tree, self._call_id, origin, self._tell)
        return self._calls

    def _tell(self, status: Status, call_id: int) -> None:
        self._scope.tell_of(_KINDS.get(status, EventKind.CALL_FAILED), call_id)
