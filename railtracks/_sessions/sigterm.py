"""SIGTERM while a flow runs in the main thread: the signal drains the run, and then the process is stopping.

Called by `event_loops`, and by `railtracks.testing`, which takes the mark that the process is stopping away again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import MethodType
from typing import Final, Never, TypeVar

import trio

from railtracks._forks import after_fork
from railtracks.exceptions import SessionCancelledError

R = TypeVar("R")

# Whether SIGTERM has come during a run of this process, and no handler of the program's own decides what is next.
_is_stopping = False


def refuse_if_stopping() -> None:
    """Raise `SessionCancelledError` if SIGTERM has come during an earlier run: the process is stopping since then.

    Without this a loop of short runs would go on until it is killed, and each signal would drain one run.
    """
    if _is_stopping:
        raise SessionCancelledError("SIGTERM")


def go_on() -> None:
    """Take the mark that this process is stopping away."""
    _set_stopping(is_stopping=False)


def _set_stopping(*, is_stopping: bool) -> None:
    global _is_stopping  # noqa: PLW0603 - it is about this process as a whole
    _is_stopping = is_stopping


class Sigterm:
    """The handling of SIGTERM during one Trio run in the main thread.

    Attributes:
        previous: The handler that was set before, and is set again afterwards.
    """

    def __init__(self, on_sigterm: Callable[[], bool]) -> None:
        self.previous = signal.getsignal(signal.SIGTERM)
        self._on_sigterm = on_sigterm
        self._token: trio.lowlevel.TrioToken | None = None
        self._has_come = False
        self._undelivered = 0
        self._process_id = os.getpid()

    def run(self, work: Callable[[], Coroutine[object, Never, R]]) -> R:
        """Run the function in a Trio run, set the previous handler again, and have it or the process hear of a signal.

        A handler of the program's own is called once. Without one the process is stopping: the run gives its result or
        its error, and a later run is refused. It does not matter whether the signal came too late to drain the run.
        """
        previous = self.previous
        if previous is None or previous is signal.SIG_IGN:
            # `None`: the handler was not set by Python, which could not set it again afterwards. SIG_IGN: the program
            # ignores the signal, and so does this run.
            return trio.run(work)
        signal.signal(signal.SIGTERM, self.receive)
        try:
            return trio.run(self._main, work)
        finally:
            signal.signal(signal.SIGTERM, previous)
            # Not in a process that was forked in the run and leaves it here.
            if self._has_come and self._process_id == os.getpid():
                if previous is signal.SIG_DFL:
                    _set_stopping(is_stopping=True)
                else:
                    signal.raise_signal(signal.SIGTERM)

    async def _main(self, work: Callable[[], Coroutine[object, Never, R]]) -> R:
        self._token = trio.lowlevel.current_trio_token()
        self._deliver()
        return await work()

    def receive(self, _: int, __: object) -> None:
        """Count a signal, and have it delivered in the Trio run."""
        # Python calls this between any two bytecodes of the main thread, also in the middle of Trio's own code. So it
        # may only count, and ask Trio to call `_deliver` at its next opportunity.
        if self._process_id != os.getpid():
            # A child process got it before it could take the handlers of its parent back.
            leave_parents_handlers()
            signal.raise_signal(signal.SIGTERM)
            return
        self._has_come = True
        self._undelivered += 1
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._deliver)

    def _deliver(self) -> None:
        while self._undelivered and self._on_sigterm():
            self._undelivered -= 1


_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def leave_parents_handlers() -> None:
    """Take back what a Trio run of the parent process has set in this process: its signal handlers count no more.

    Nor is this process stopping because its parent is.
    """
    go_on()
    # In an interpreter that is not the main one there are no signal handlers.
    with suppress(ValueError):
        # Bytes that are written there for a signal would wake the event loop of the parent process.
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if isinstance(handler, MethodType) and isinstance(handler.__self__, Sigterm):
                signal.signal(number, handler.__self__.previous)
            elif str(getattr(handler, "__module__", "")).startswith("trio."):
                # Trio's own, which it sets in place of Python's only.
                signal.signal(number, signal.default_int_handler)


after_fork(leave_parents_handlers)
