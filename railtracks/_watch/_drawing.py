"""The thread of the live view: it looks at the sessions from time to time, and writes what it sees.

Started and ended by `watch`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from time import monotonic
from typing import Final, Protocol

# Seconds: how long the terminal may take for the last picture, how long a stream of the user's may, how long a step
# after that, and what is printed within which time is written together.
_LAST: Final = 1.0
_LONGEST_END: Final = 5.0
_STEP: Final = 0.02
_TOGETHER: Final = 0.05
# Seconds between two pictures.
_SHORTEST, _LONGEST = 1 / 30, 60.0


class View(Protocol):
    """What is written of the sessions: a picture or lines."""

    def step(self) -> bool:
        """Write what is new. Return whether all of it was taken.

        Raises:
            OSError: If nobody takes anything any more.
        """
        ...

    def close(self) -> None:
        """End it: the last picture was written, or given up."""
        ...


class Drawing:
    """The thread, from its start to its end."""

    def __init__(self, rate: float) -> None:
        """Begin.

        Args:
            rate: How many pictures a second there are.
        """
        self._pause = min(max(1 / rate, _SHORTEST), _LONGEST)
        self._wake = Event()
        self._over = Event()

    def wake(self) -> None:
        """Have the next picture drawn at once."""
        self._wake.set()

    def start(self, view: View) -> Callable[[], None]:
        """Start the thread, and return what ends it: it draws once more, and waits for a terminal a second at most."""
        # A daemon, since a stream of the user's may never take what it is given.
        thread = Thread(target=self._draw, args=(view,), name="railtracks live view", daemon=True)
        thread.start()

        def end() -> None:
            self._over.set()
            self._wake.set()
            thread.join(_LONGEST_END)

        return end

    def _draw(self, view: View) -> None:
        # Where the terminal is gone, or the program at the other end of the pipe, there is nobody to look.
        with suppress(OSError):
            try:
                self._steps(view)
            finally:
                view.close()

    def _steps(self, view: View) -> None:
        while not self._over.is_set():
            if self._wake.wait(self._pause):
                self._over.wait(_TOGETHER)
            self._wake.clear()
            view.step()
        until = monotonic() + _LAST
        while not view.step() and monotonic() < until:
            self._wake.wait(_STEP)
