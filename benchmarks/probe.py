"""A task that finds out how long the other tasks of a program have to wait."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

_PAUSE = 0.001


class Probe:
    """Sleeps a millisecond at a time, and keeps by how much it was woken too late.

    Attributes:
        longest: The longest time that it had to wait beyond its sleep, in seconds.
    """

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget what was."""
        self.longest = 0.0
        self._last = trio.current_time()

    async def watch(self) -> None:
        """Watch until it is cancelled."""
        while True:
            await trio.sleep(_PAUSE)
            self.look()

    def look(self) -> None:
        """Take in the wait since the last look; at the end there is one that no wake-up has seen."""
        now = trio.current_time()
        self.longest = max(self.longest, now - self._last - _PAUSE)
        self._last = now


@asynccontextmanager
async def watching() -> AsyncIterator[Probe]:
    """Watch from a task of its own for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        probe = Probe()
        nursery.start_soon(probe.watch)
        yield probe
        probe.look()
        nursery.cancel_scope.cancel()
