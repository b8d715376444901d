"""The broadcasts of a session on a worker, on their way to the callback of the session that has sent it.

Called by the record of the session on the worker.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, Never, TypeVar

import trio

from railtracks._calls.frames import SessionScope
from railtracks._records.errors import Caught
from railtracks._records.observers import try_to_log
from railtracks._sessions.trio_thread import caught_in_scope
from railtracks._workers.pickling import unpacked
from railtracks.remote._worker import Job

R = TypeVar("R")

_LOG: Final = logging.getLogger("RT.Session")


class Broadcasts:
    """The broadcasts of one session on a worker. They wait while the buffer of the sending session is full.

    Args:
        scope: The sending session.
        job: What was sent: the session on the worker.
        took: Called for each broadcast that the sending session has taken.
    """

    def __init__(self, scope: SessionScope, job: Job, took: Callable[[], object]) -> None:
        self._scope = scope
        self._job = job
        self._took = took
        # With their numbers. A worker sends no more than `MOST_BROADCASTS` that were not taken.
        self._waiting: deque[tuple[int, object]] = deque()
        self._has_come = trio.Event()
        self._has_delivered = trio.Event()
        self._is_over = False
        self._failure: Exception | None = None

    @property
    def first(self) -> int | None:
        """The number of the first one that waits, `None` if none does."""
        return self._waiting[0][0] if self._waiting else None

    def add(self, number: int, item: object) -> None:
        """Add a broadcast that has come."""
        self._waiting.append((number, item))
        self._has_come.set()

    async def delivered_beside(self, run: Callable[[], Coroutine[object, Never, R]]) -> Caught[R]:
        """Await an async function, and hand the broadcasts that come meanwhile to the sending session, in their order.

        After a cancel they are handed on for the cleanup timeout of the session on the worker at most.
        """
        came: Caught[R] | None = None
        delivery = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, delivery, nursery.cancel_scope)
            try:
                came = await caught_in_scope(run)
                self._end()
                await self._has_delivered.wait()
            finally:
                self._end()
                delivery.deadline = trio.current_time() + self._job.cleanup_timeout
        failure = self._failure
        if failure is not None:
            return Caught(error=failure)
        assert came is not None  # noqa: S101 - else the `Cancelled` has gone on
        return came

    def _end(self) -> None:
        self._is_over = True
        self._has_come.set()

    async def _deliver(self, delivery: trio.CancelScope, around: trio.CancelScope) -> None:
        try:
            with delivery:
                while self._waiting or not self._is_over:
                    while self._waiting:
                        await self._hand_on(self._waiting[0][1])
                        self._waiting.popleft()
                        self._took()
                    self._has_come = trio.Event()
                    if not self._is_over:
                        await self._has_come.wait()
        except Exception as error:  # noqa: BLE001 - raised by the call: the sending session cannot take the item
            self._failure = error
            around.cancel()
        self._has_delivered.set()

    async def _hand_on(self, item: object) -> None:
        if isinstance(self._job.payload, bytes) and isinstance(item, bytes):
            try:
                item = unpacked(self._job.name, item)
            except TypeError as error:
                text = self._scope.record.secrets.text(f"a broadcast of {self._job.name!r} was dropped: {error}")
                try_to_log(partial(_LOG.error, "%s", text), text)
                return
        await self._scope.control.broadcast(item)
