"""The flows that each of the servers in this folder offers, and what their endpoints answer.

`$FLOW_LOG` is a file to which the flows write a line when they begin and when they have cleaned up.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from pathlib import Path

import trio

import railtracks as rt

# Seconds: short, so that a test is. The default of `rt.asgi.lifespan` is that of SIGTERM under `invoke`.
GRACE = 0.2


def log(line: str) -> None:
    """Write a line for the test."""
    with Path(os.environ["FLOW_LOG"]).open("a") as file:
        file.write(f"{line}\n")


@rt.function_node
async def step(number: int) -> int:
    """Return the number, after a while."""
    await trio.sleep(0.02)
    return number


async def work(count: int) -> int:
    """Return the sum of so many numbers."""
    return sum(await rt.call_batch(step, range(count), return_exceptions=False))


async def hang() -> None:
    """Sleep until it is cancelled, and clean up."""
    log("began")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        log("cleaned up")


async def fail() -> None:
    """Raise an error."""
    raise ValueError("no luck")


WORK = rt.Flow("work", work, save_state=False)
HANG = rt.Flow("hang", hang, save_state=False)
FAIL = rt.Flow("fail", fail, save_state=False)
SLOW = rt.Flow("slow", hang, timeout=0.1, save_state=False)


async def answer(work: Awaitable[object]) -> object:
    """Return what an endpoint answers: the result of a flow, or the name of its error."""
    try:
        return await work
    except (ValueError, TimeoutError, rt.SessionCancelledError) as error:
        return type(error).__name__
