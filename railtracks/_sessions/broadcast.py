"""Broadcasts: items go to the session's callback, in order, each exactly once, before the session ends.

Called by users as `rt.broadcast`, and by the lifetime and the final work of a session.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, cast

import trio

from railtracks._calls.ctrl_c import users_code
from railtracks._calls.frames import Frame
from railtracks._calls.here import leave_calls, open_scope, own_frame, this_task, with_slot_lent
from railtracks._calls.identity import Identity, use_identity
from railtracks._nodes.making import is_coroutine_function
from railtracks._options import Callback
from railtracks._records.descriptions import described
from railtracks._records.error_parts import answer, class_name, shown_name
from railtracks._records.errors import is_ordinary, raise_cancelled, without_cancelled
from railtracks._records.log import SessionLog
from railtracks._records.session import SessionRecord
from railtracks._sessions.outer_nursery import OuterNursery
from railtracks._workers.threads import in_thread_or_here, saving_limiter
from railtracks.exceptions import ContextError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import SessionJournal

# How many items may wait for the callback; if there are more, `broadcast` waits.
BUFFER = 100


@trio.lowlevel.enable_ki_protection
async def broadcast(item: object) -> None:
    """Hand an item to the session's `broadcast_callback`.

    Items arrive in order, each exactly once, and all of them before the session ends. The function returns as soon as
    the item is in a buffer of 100 items, and waits while the buffer is full. A checkpoint. If it is cancelled while it
    waits, the item is not delivered. Without a callback it only passes the checkpoint. In a worker thread use
    `trio.from_thread.run(rt.broadcast, item)`.

    Args:
        item: Any object. It is not copied.

    Raises:
        ContextError: If no session is open here, if the session has ended, or if it is called in the callback itself.
        RuntimeError: If Trio is not running in this thread.
    """
    this_task()
    await open_scope().control.broadcast(item)


async def call_back(callback: Callback, value: object) -> None:
    """Call a user's callback: await an async function, run any other in a worker thread and wait for it.

    The thread does not count against the limit of the sync nodes: all of these may be waiting for this callback.
    """
    if is_coroutine_function(callback):
        await users_code(cast("Callable[..., Awaitable[object]]", callback), value)
        return
    # A plain function may return a coroutine, which is then awaited here. Trio refuses a coroutine as the result of a
    # thread, so the thread puts it into a list.
    results: list[object] = []
    try:
        await in_thread_or_here(lambda: results.append(callback(value)))
        await _awaited(results[0])
    finally:
        # A cancel or Ctrl-C may come between the two. Python warns of a coroutine that was never awaited nor closed.
        for each in results:
            if type(each) is CoroutineType:
                each.close()


async def failure_of(callback: Callback, value: object) -> BaseException | None:
    """Call a user's callback as `call_back` does, and return the error that it raised, if any, but no `Cancelled`.

    The error is a value, so it does not pass through the caller's cancel scope, which would ask its class to split it.
    """
    try:
        await call_back(callback, value)
    except BaseException as error:  # noqa: ASYNC103, BLE001 - Cancelled goes on, beside an error it is dropped
        real = without_cancelled(error)
        try:
            if real is None:
                raise_cancelled(error)
            return real  # noqa: ASYNC104 - the caller logs it or hands it on
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del real
    return None


@trio.lowlevel.disable_ki_protection
async def _awaited(result: object) -> None:
    if isinstance(result, Awaitable):
        await result


class CallbackFailures:
    """Writes the failures of a session's callbacks to the session's log, without its secrets."""

    def __init__(self, record: SessionRecord, log: SessionLog) -> None:
        self._record = record
        self._log = log

    async def report(self, what: str, error: BaseException, item: object) -> None:
        """Log the failure of a callback.

        The text is made in a thread: all values of the session may have to be searched for secrets.

        Args:
            what: The first line of the log entry.
            error: The error of the callback.
            item: The item that the callback was given, `None` if there was none.
        """
        text, record = described(error).traceback, self._record
        values = record.tree, record.values, item, record.value_limit

        def searched() -> str:
            from railtracks._records.saved_state import safe_text  # noqa: PLC0415 - few sessions come here

            return safe_text(text, *values)

        def search() -> str:
            return answer(searched, lambda failure: f"<not shown: {class_name(failure)}>")

        safe = await in_thread_or_here(search, limiter=saving_limiter())
        self._log.log(logging.ERROR, f"{what}\n{safe}", logger="RT.Session")


class Broadcaster:
    """Delivers the broadcasts of one session, in one task of the session's outer nursery.

    The task is shielded, so that a cancelled session still delivers the items that were sent before.
    """

    def __init__(
        self,
        callback: Callback,
        nursery: OuterNursery,
        failures: CallbackFailures,
        journal: SessionJournal[Frame] | None,
        fail: Callable[[BaseException], object],
    ) -> None:
        self._fail = fail
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
        """Put an item into the buffer, and start the delivery if it is the first. A checkpoint.

        Raises:
            ContextError: If the callback calls it, or the session has ended.
        """
        if trio.lowlevel.current_task() is self._deliverer:
            raise ContextError(
                "a broadcast_callback cannot broadcast, because it would wait for itself: broadcast in a node"
            )
        key = None
        frame = None if self._journal is None else own_frame()
        if self._journal is not None and frame is not None:
            key = self._journal.broadcasts.record(frame, item)
            if key is None:
                # An earlier run of the durable session has delivered the item.
                await trio.lowlevel.checkpoint()
                return
        await self._put(item, key)

    @trio.lowlevel.enable_ki_protection
    async def send_again(self) -> None:
        """Send the recorded items of a durable session that were not delivered and that no call will send again."""
        for key, item in () if self._journal is None else self._journal.broadcasts.undelivered():
            await self._put(item, key)

    async def _put(self, item: object, key: str | None) -> None:
        if not self._has_begun:
            self._nursery.start_soon(self._deliver, name="railtracks: broadcast")
            # Not before: `close` waits for a delivery that has begun.
            self._has_begun = True
        try:
            send = partial(self._send.send, (item, key))
            # Only where it waits: a thread that broadcasts often is not to stand in line for its slot each time.
            is_full = self._receive.statistics().current_buffer_used >= BUFFER
            await (with_slot_lent(send) if is_full else send())
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ContextError(
                "the session has ended, so this item cannot be broadcast any more: broadcast before its block is left"
            ) from None

    async def close(self) -> None:
        """Wait until all items are delivered, or `abandon` was called."""
        await self._send.aclose()
        if self._has_begun:
            await self._done.wait()

    def abandon(self) -> tuple[str, int]:
        """Stop the delivery.

        Returns:
            The name of the callback, and the number of items that it did not finish.
        """
        self._scope.cancel()
        return shown_name(self._callback), self._is_delivering + self._receive.statistics().current_buffer_used

    def _identity(self, key: str | None) -> Identity | None:
        journal = self._journal
        if key is None or journal is None:
            return None
        return Identity(f"{journal.session_id}:{key}", key, journal.fence)

    @trio.lowlevel.enable_ki_protection
    async def _deliver(self) -> None:
        self._deliverer = trio.lowlevel.current_task()
        # The context is that of the first sender, whose call has nothing to do with the callback.
        leave_calls()
        has_ended = False
        try:
            with self._scope, self._receive:
                async for item, key in self._receive:
                    self._is_delivering = True
                    use_identity(self._identity(key))
                    error = await failure_of(self._callback, item)
                    if error is not None and not is_ordinary(error):
                        # It is to end the program, as Ctrl-C is. One that comes again with a further item ends no more.
                        if not has_ended:
                            self._fail(error)
                        has_ended = True
                    elif error is not None:
                        # A callback's failure is logged and changes nothing.
                        with trio.CancelScope(shield=True):
                            await self._failures.report("broadcast_callback failed", error, item)
                    del error, item
                    if key is not None and self._journal is not None:
                        await self._journal.broadcasts.delivered(key)
                    self._is_delivering = False
        finally:
            self._deliverer = None
            self._done.set()
