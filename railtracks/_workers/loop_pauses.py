"""Pauses of a busy event loop, for the threads in which the library works for it.

A loop that always has a task to run gives Python's lock up for a moment only, at each look for input. A thread that
waits for the lock wakes up too late for that moment, again and again: it never has the lock, and a commit beside a long
replay took seconds (test_loop_pauses.py). So such a loop sleeps now and then, which is long enough for the thread.

Called by `threads`, and by what works in a thread again and again, as the writer of a store does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio
from trio.lowlevel import RunVar

# Seconds of work of the loop between two pauses, and of a pause: about as long as a thread takes to wake up, twice.
_WORK: Final = 0.002
_PAUSE: Final = 0.0001

_pauses: RunVar[LoopPauses] = RunVar("railtracks_loop_pauses")


class LoopPauses(trio.abc.Instrument):
    """Pauses the event loop of one Trio run while threads of the library work for it, if it is busy.

    A loop that waits for something needs no pause, and gets none.

    Args:
        clock: A monotonic clock.
        sleep: What a pause is.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._users = 0
        self._threads = 0
        self._due = 0.0

    def use(self) -> None:
        """Count one user more, who calls `begin` and `end`; `leave` follows."""
        if not self._users:
            trio.lowlevel.add_instrument(self)
        self._users += 1

    def leave(self) -> None:
        """Count one user less. Without any, the loop is as it was before."""
        self._users -= 1
        if not self._users:
            # Trio has dropped it if a pause raised, as where a signal handler of the user's raises in it.
            with suppress(KeyError):
                trio.lowlevel.remove_instrument(self)

    def begin(self) -> None:
        """Count one thread more that works; `end` follows."""
        if not self._threads:
            self._due = self._clock() + _WORK
        self._threads += 1

    def end(self) -> None:
        """Count one thread less."""
        self._threads -= 1

    @trio.lowlevel.enable_ki_protection
    def before_io_wait(self, timeout: float) -> None:
        """Pause, if the loop goes on at once, and it is time. Called by Trio."""
        if self._threads and not timeout and self._clock() > self._due:
            self._sleep(_PAUSE)
            self._due = self._clock() + _WORK


def loop_pauses() -> LoopPauses:
    """Return the pauses of this Trio run."""
    try:
        return _pauses.get()
    except LookupError:
        pauses = LoopPauses()
        _pauses.set(pauses)
        return pauses
