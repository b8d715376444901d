"""What the asyncio peers share: work that never ends, and what is left of it after a timeout.

Standard library only: it runs in the peers' virtual environments.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from benchmarks.samples import SUBJECT, Plan, take

TIMEOUT = 0.2
TICK = 0.03
AFTERWARDS = 0.3
"""Seconds that the caller goes on after the error, while left-over work would show."""


class Ticking:
    """Work that counts what it does, and how many of it are at it."""

    def __init__(self) -> None:
        self.ticks = 0
        self.active = 0

    async def forever(self) -> None:
        """Work until it is cancelled."""
        self.active += 1
        try:
            while True:
                await asyncio.sleep(TICK)
                self.ticks += 1
        finally:
            self.active -= 1


Work = Callable[[Ticking, int], Awaitable[object]]
"""Starts that many at a time, under the peer's own timeout of TIMEOUT seconds, and raises what that raises."""


async def _outcome(work: Work, errors: tuple[type[Exception], ...], size: int) -> Mapping[str, float]:
    ticking = Ticking()
    start = time.perf_counter()
    try:
        await work(ticking, size)
    except errors:
        late = time.perf_counter() - start - TIMEOUT
    else:
        raise RuntimeError("the timeout did not raise")
    active, ticks = ticking.active, ticking.ticks
    await asyncio.sleep(AFTERWARDS)
    return {"late": 1e3 * late, "active": active, "ticks": ticking.ticks - ticks}


def take_timeouts(plan: Plan, work: Work, *errors: type[Exception]) -> None:
    """Sample how late the timeout's error is, and how much of the work is left after it.

    Args:
        plan: How much to measure; its sizes are how much work is side by side.
        work: What to time out.
        *errors: What it raises then.
    """
    take(plan, {SUBJECT: lambda size: asyncio.run(_outcome(work, errors, size))}, is_long=True)
