"""The way from async code into Trio: in Trio there is none, and from asyncio it leads to the process's Trio thread.

Called by `Flow.ainvoke` and `Flow.aresume`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Never, TypeVar

import trio

from railtracks._calls.no_trio import is_asyncio_running, no_trio
from railtracks._sessions.event_loops import in_parents_run

R = TypeVar("R")


async def run_from_async(work: Callable[[], Coroutine[object, Never, R]]) -> R:
    """Await an async function that needs Trio: in a Trio task right here, in an asyncio task in the Trio thread.

    Raises:
        RuntimeError: If neither Trio nor asyncio is running.
        BaseException: What the function raises, as the same object; in asyncio also as from `run_from_asyncio`.
    """
    # Trio first: asyncio's loop is visible in a Trio run that is its guest, too. A process that was forked from a Trio
    # task looks like that task, and may have an asyncio loop of its own.
    if is_asyncio_running() and (not trio.lowlevel.in_trio_task() or in_parents_run()):
        # Imports asyncio, which the program has imported.
        from railtracks._sessions.asyncio_bridge import run_from_asyncio  # noqa: PLC0415

        return await run_from_asyncio(work)
    if not trio.lowlevel.in_trio_task():
        raise no_trio()
    return await work()
