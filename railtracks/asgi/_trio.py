"""The watch over a client in Trio. Called by `_disconnect` in a Trio task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from railtracks._calls.nursery import CallNursery
from railtracks._records.errors import Caught
from railtracks._sessions.trio_thread import caught_in_scope
from railtracks.exceptions import ClientDisconnectedError

R = TypeVar("R")


async def run_watched(awaitable: Awaitable[R], leaves: Callable[[], Awaitable[None]]) -> R:
    """Await something, and cancel it if the client leaves meanwhile.

    Raises:
        ClientDisconnectedError: If the client has left before there was a result.
        BaseException: What the awaitable raises, as the same object.
    """
    came: Caught[R] | None = None

    async def work() -> R:
        return await awaitable

    async def watch(nursery: CallNursery) -> None:
        await leaves()
        nursery.cancel_scope.cancel("the client has left")

    # Errors go beside Trio's nursery, which would wrap them.
    async with CallNursery() as nursery:
        nursery.start_soon(watch, nursery)
        # The first step of that task comes before the second of these, in whatever order Trio wakes tasks. So nothing
        # begins if the client has left already.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        came = await caught_in_scope(work)
        nursery.cancel_scope.cancel()
    if came is None:
        raise ClientDisconnectedError
    try:
        return came.hand_over()
    finally:
        # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
        del came
