"""Messages to the outside: items go to one callback, in order, exactly once, before the session ends.

Called by users as `rt.broadcast`, and by the lifetime and the final work of a session.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

import trio

from railtracks._calls.durable_protocol import SessionJournal
from railtracks._calls.frames import Frame
from railtracks._calls.here import open_scope, own_frame
from railtracks._calls.identity import Identity, carry
from railtracks._nodes.node import is_coroutine_function
from railtracks._options import Callback
from railtracks._records.errors import described
from railtracks._records.log import SessionLog
from railtracks._records.saved_state import safe_text
from railtracks._records.session import SessionRecord
from railtracks._workers.threads import in_thread, saving_limiter
from railtracks.exceptions import ContextError

# How many items may wait for the callback before `broadcast` waits too.
BUFFER = 100


async def broadcast(item: object) -> None:
    """Hand an item to the session's `broadcast_callback`.

    Items arrive in order, each exactly once, all of them before the session ends. Returns as soon as the item is in the
    buffer, and waits while that is full; a checkpoint. If it is cancelled while it waits the item is not delivered.
    Without a callback it does nothing else. In a worker thread: `trio.from_thread.run(rt.broadcast, item)`.

    Args:
        item: Anything. It is handed over as it is, not copied.

    Raises:
        ContextError: If no session is open here.
    """
    await open_scope().control.broadcast(item)


async def call_back(callback: Callback, value: object) -> None:
    """Call a user's callback: await it, or run it in a thread.

    The thread takes no slot of the sync nodes: they can be waiting for this very callback.
    """
    if is_coroutine_function(callback):
        await _awaited(callback(value))
        return
    # In a tuple, because Trio lets no thread return a coroutine: a plain function may hand on what a coroutine function
    # gave it.
    (result,) = await in_thread(lambda: (callback(value),))
    await _awaited(result)


async def _awaited(result: object) -> None:
    if isinstance(result, Awaitable):
        await result


class CallbackFailures:
    """Where the failures of a session's callbacks go: into its log, without its secrets."""

    def __init__(self, record: SessionRecord, log: SessionLog) -> None:
        self._record = record
        self._log = log

    async def report(self, what: str, error: BaseException, item: object) -> None:
        """Log a failure; in a thread, because all values of the session may have to be searched for secrets."""
        text, record = described(error).traceback, self._record
        safe = await in_thread(safe_text, text, record.tree, record.values, item, limiter=saving_limiter())
        line = f"{what}\n{safe}"
        self._log.log(logging.ERROR, line, logger="RT.Session")


class Broadcaster:
    """Delivers what one session broadcasts, in a task outside of what the session cancels."""

    def __init__(
        self,
        callback: Callback,
        nursery: trio.Nursery,
        failures: CallbackFailures,
        journal: SessionJournal[Frame] | None,
    ) -> None:
        self._journal = journal
        self._callback = callback
        self._nursery = nursery
        self._failures = failures
        self._send, self._receive = trio.open_memory_channel[tuple[object, str | None]](BUFFER)
        self._scope = trio.CancelScope(shield=True)
        self._has_begun = False
        self._is_delivering = False
        self._deliverer: trio.lowlevel.Task | None = None
        self._done = trio.Event()

    async def send(self, item: object) -> None:
        """Put an item into the buffer; the first one starts the delivery."""
        if trio.lowlevel.current_task() is self._deliverer:
            raise ContextError("a broadcast_callback cannot broadcast: it would wait for itself")
        key = None
        frame = None if self._journal is None else own_frame()
        if self._journal is not None and frame is not None:
            key = self._journal.broadcasts.record(frame, item)
            if key is None:
                # An earlier run has delivered it.
                await trio.lowlevel.checkpoint()
                return
        await self._put(item, key)

    async def send_again(self) -> None:
        """Deliver what an earlier run of a durable session has not delivered, and no call broadcasts anew."""
        for key, item in () if self._journal is None else self._journal.broadcasts.undelivered():
            await self._put(item, key)

    async def _put(self, item: object, key: str | None) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._nursery.start_soon(self._deliver, name="railtracks: broadcast")
        try:
            await self._send.send((item, key))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ContextError("the session has ended, and broadcasts nothing more") from None

    async def close(self) -> None:
        """Wait until everything is delivered, or given up."""
        await self._send.aclose()
        if self._has_begun:
            await self._done.wait()

    def abandon(self) -> tuple[str, int]:
        """Stop the delivery; return the name of the callback, and how many items it has not taken whole."""
        self._scope.cancel()
        name = str(getattr(self._callback, "__name__", type(self._callback).__name__))
        return name, self._is_delivering + self._receive.statistics().current_buffer_used

    def _identity(self, key: str | None) -> Identity | None:
        journal = self._journal
        if key is None or journal is None:
            return None
        return Identity(f"{journal.session_id}:{key}", key, journal.fence)

    async def _deliver(self) -> None:
        self._deliverer = trio.lowlevel.current_task()
        try:
            with self._scope, self._receive:
                async for item, key in self._receive:
                    self._is_delivering = True
                    carry(self._identity(key))
                    try:
                        await call_back(self._callback, item)
                    except Exception as error:  # noqa: BLE001 - a callback's failure is logged and changes nothing
                        with trio.CancelScope(shield=True):
                            await self._failures.report("broadcast_callback failed", error, item)
                    if key is not None and self._journal is not None:
                        await self._journal.broadcasts.delivered(key)
                    self._is_delivering = False
        finally:
            self._deliverer = None
            self._done.set()
