"""The watch over a client in asyncio. Called by `_disconnect` where asyncio is running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from railtracks.exceptions import ClientDisconnectedError

R = TypeVar("R")


async def run_watched(awaitable: Awaitable[R], leaves: Callable[[], Coroutine[object, object, None]]) -> R:
    """Await something in this task, and cancel it if the client leaves meanwhile.

    Raises:
        ClientDisconnectedError: If the client has left before there was a result.
        asyncio.CancelledError: If the task was cancelled by somebody else.
        BaseException: What the awaitable raises, as the same object.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine of asyncio
    cancels_before = task.cancelling()
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        await leaves()
        # No step lies between the two, and once this function has ended, neither comes: its end cancels the watcher. A
        # cancel that came later would strike its caller.
        has_left = True
        task.cancel("the client has left")

    watcher = asyncio.create_task(watch())
    try:
        # The first step of the watcher: the client may have left already, and then nothing begins.
        await asyncio.sleep(0)
        return await awaitable
    except asyncio.CancelledError as cancelled:
        # As `asyncio.timeout` does: the cancel of this function is taken back, and one from outside goes first.
        if not has_left or task.uncancel() > cancels_before:
            raise
        raise ClientDisconnectedError from cancelled  # noqa: ASYNC104 - the cancel was that of `watch`
    finally:
        watcher.cancel()
