"""Messages to the outside: items go to one callback, in order, exactly once, before the session ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from railtracks._nodes import is_coroutine_function
from railtracks._scope import open_scope

# How many items may wait for the callback before `broadcast` waits too.
BUFFER = 100


async def broadcast(item: Any) -> None:
    """Hand an item to the session's `broadcast_callback`.

    Items arrive in order, each exactly once, all of them before the session ends. Returns as soon as the item is in the
    buffer, and waits while that is full; a checkpoint. If it is cancelled while it waits the item is not delivered.
    Without a callback it does nothing else. In a worker thread: `trio.from_thread.run(rt.broadcast, item)`.

    Args:
        item: Anything. It is handed over as it is, not copied.

    Raises:
        ContextError: If no session is open here.
    """
    await open_scope().broadcast(item)


async def call_back(callback: Callable[[Any], Any], value: Any) -> None:
    """Call a user's callback: await it, or run it in a thread.

    The thread needs no slot of the sync nodes': these can be waiting for this very callback.
    """
    if is_coroutine_function(callback):
        await callback(value)
        return
    result = await trio.to_thread.run_sync(callback, value, limiter=trio.CapacityLimiter(1))
    if isinstance(result, Awaitable):
        # The function was a plain one that hands on what a coroutine function gave it.
        await result


class Broadcaster:
    """Delivers what one session broadcasts."""

    def __init__(self, callback: Callable[[Any], Any], report: Callable[[str, BaseException, Any], None]) -> None:
        self._callback = callback
        self._report = report
        self._send, self._receive = trio.open_memory_channel[Any](BUFFER)
        self._done = trio.Event()
        self._scope = trio.CancelScope(shield=True)

    async def send(self, item: Any) -> None:
        """Put an item into the buffer."""
        await self._send.send(item)

    async def deliver(self) -> None:
        """Deliver until the session is over. A task of its own, outside of what the session cancels."""
        try:
            with self._scope:
                async for item in self._receive:
                    try:
                        await call_back(self._callback, item)
                    except Exception as error:  # noqa: BLE001 - a callback's failure is logged and changes nothing
                        self._report("broadcast_callback failed", error, item)
        finally:
            self._done.set()

    async def close(self) -> None:
        """Wait until everything is delivered."""
        await self._send.aclose()
        await self._done.wait()

    def abandon(self) -> int:
        """Stop delivering; return how many items were not delivered whole."""
        left = 0 if self._done.is_set() else 1 + self._receive.statistics().current_buffer_used
        self._scope.cancel()
        return left

    async def wait_done(self) -> None:
        """Wait until nothing is being delivered any more."""
        await self._done.wait()
