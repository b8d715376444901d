"""SIGTERM: while a flow runs in the main thread it drains the run; for the whole process it begins a shutdown.

Called by `event_loops` and `shutdown`, and by `railtracks.testing`, which takes the mark that the process is stopping
away again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from types import FrameType, MethodType
from typing import Final, Never, Protocol, TypeAlias, TypeVar, TypeVarTuple, Unpack, cast

import trio

from railtracks._forks import after_fork
from railtracks._sessions.running import shut_down_for_sigterm
from railtracks.exceptions import SessionCancelledError

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None

# Those of `signal` without the enums that it makes of numbers: a run calls each twice, and an enum takes ten times as
# long as the call. For SIG_DFL and SIG_IGN they return these two numbers, compared by `is`: `==` would run code of the
# program's own handler.
_SYSTEM: Final = import_module("_signal")
_handler_of: Final = cast("Callable[[int], _Handler]", _SYSTEM.getsignal)
_set_handler: Final = cast("Callable[[int, _Handler], _Handler]", _SYSTEM.signal)
_DEFAULT: Final[object] = _SYSTEM.SIG_DFL
_IGNORED: Final[object] = _SYSTEM.SIG_IGN

# Whether the handler before that of the process is being called. It may lead to another such handler, for which this is
# still the same signal.
_is_handed_on = False
# Whether SIGTERM has come during a run of this process, and no handler of the program's own decides what is next.
_is_stopping = False


def is_stopping() -> bool:
    """Return whether SIGTERM has come during a run of this process, and nobody but the process is to end for it."""
    return _is_stopping


def refuse_if_stopping() -> None:
    """Raise `SessionCancelledError` if SIGTERM has come during an earlier run: the process is stopping since then.

    Without this a loop of short runs would go on until it is killed, and each signal would drain one run.
    """
    if is_stopping():
        raise SessionCancelledError("SIGTERM")


def go_on() -> None:
    """Take the mark that this process is stopping away."""
    _set_stopping(is_stopping=False)


def _set_stopping(*, is_stopping: bool) -> None:
    global _is_stopping  # noqa: PLW0603 - it is about this process as a whole
    _is_stopping = is_stopping


class Runner(Protocol):
    """What runs an async function in Trio, and waits for it: `trio.run`, or `run_in_trio_thread`."""

    def __call__(self, async_fn: Callable[[Unpack[Ts]], Coroutine[object, Never, R]], /, *args: *Ts) -> R:
        """Run the function with these arguments, and return its result."""
        ...


class Sigterm:
    """The handling of SIGTERM during one run of a flow in the main thread.

    Args:
        on_sigterm: Called in the Trio run for each signal. Returns whether it used the signal.
        run: Runs the flow.

    Attributes:
        previous: The handler that was set before, and is set again afterwards.
    """

    def __init__(self, on_sigterm: Callable[[], bool], run: Runner) -> None:
        self.previous: _Handler = _handler_of(signal.SIGTERM)
        self._on_sigterm = on_sigterm
        self._run = run
        self._token: trio.lowlevel.TrioToken | None = None
        self._has_come = False
        self._is_over = False
        self._undelivered = 0
        self._process_id = os.getpid()

    def run(self, work: Callable[[], Coroutine[object, Never, R]]) -> R:
        """Run the function in a Trio run, set the previous handler again, and have it or the process hear of a signal.

        A handler of the program's own is called once. Without one the process is stopping: the run gives its result or
        its error, and a later run is refused. It does not matter whether the signal came too late to drain the run.
        """
        previous = self.previous
        if previous is None or previous is _IGNORED:
            # `None`: the handler was not set by Python, which could not set it again afterwards. SIG_IGN: the program
            # ignores the signal, and so does this run.
            return self._run(work)
        _set_handler(signal.SIGTERM, self.receive)
        try:
            return self._run(self._main, work)
        finally:
            self._is_over = True
            # A handler that shuts the process down may have been set meanwhile, and stays.
            if _process_handler() is None:
                _set_handler(signal.SIGTERM, previous)
            # Not in a process that was forked in the run and leaves it here.
            if self._has_come and self._process_id == os.getpid():
                if previous is _DEFAULT:
                    _set_stopping(is_stopping=True)
                elif isinstance(owner := _owner(previous), ProcessSigterm):
                    # It has heard of the signal when that came.
                    owner.hand_on(signal.SIGTERM, None)
                elif _process_handler() is None:
                    signal.raise_signal(signal.SIGTERM)
                else:
                    _call(previous, signal.SIGTERM, None)

    @trio.lowlevel.enable_ki_protection
    def _main(self, work: Callable[[], Coroutine[object, Never, R]]) -> Coroutine[object, Never, R]:
        # No coroutine around that of `work`: each one takes time.
        self._token = trio.lowlevel.current_trio_token()
        self._deliver()
        return work()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Count a signal, and have it delivered in the Trio run."""
        # Python calls this between any two bytecodes of the main thread, also in the middle of Trio's own code. So it
        # may only count, and ask Trio to call `_deliver` at its next opportunity.
        if self._process_id != os.getpid():
            # A child process got it before it could take the handlers of its parent back.
            leave_parents_handlers()
            signal.raise_signal(signal.SIGTERM)
            return
        if self._is_over:
            # From a handler that was set during the run, and chains to this one.
            _call(self.previous, number, frame)
            return
        self._has_come = True
        self._undelivered += 1
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._deliver)
        if isinstance(owner := _owner(self.previous), ProcessSigterm):
            owner.shut_down()

    def _deliver(self) -> None:
        while self._undelivered and self._on_sigterm():
            self._undelivered -= 1


class ProcessSigterm:
    """The handling of SIGTERM for the whole process: the signal begins a shutdown, and goes on to the handler before.

    Args:
        grace: Seconds that running sessions have to end by themselves.

    Attributes:
        grace: The same.
        previous: The handler that was set before.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.previous = signal.getsignal(signal.SIGTERM)
        self._process_id = os.getpid()

    def remove(self) -> None:
        """Set the handler before again, unless another one was set over this one meanwhile."""
        if _process_handler() is self:
            signal.signal(signal.SIGTERM, self.previous)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Begin the shutdown, and call the handler before. Waits for nothing."""
        if self._process_id != os.getpid():
            leave_parents_handlers()
            signal.raise_signal(signal.SIGTERM)
            return
        is_busy = self.shut_down()
        if self.previous is signal.SIG_DFL and not is_busy:
            # Nothing has to be cleaned up: the process ends as it would without this handler.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
            return
        self.hand_on(number, frame)

    def shut_down(self) -> bool:
        """Begin the shutdown of the process, or, the second time, cancel what is left; return whether anything runs."""
        return _is_handed_on or shut_down_for_sigterm(self.grace)

    def hand_on(self, number: int, frame: FrameType | None) -> None:
        """Call the handler before this one."""
        global _is_handed_on  # noqa: PLW0603 - it is about this process as a whole
        _is_handed_on = True
        try:
            _call(self.previous, number, frame)
        finally:
            _is_handed_on = False


def handle_for_process(grace: float) -> ProcessSigterm | None:
    """Have SIGTERM shut the process down, and return the handler; `None` if there is one already, with its own grace.

    Raises:
        ValueError: If this is not the main thread.
    """
    if _process_handler() is not None:
        return None
    handler = ProcessSigterm(grace)
    signal.signal(signal.SIGTERM, handler.receive)
    return handler


def _process_handler() -> ProcessSigterm | None:
    """Return the handling for the whole process, if no other handler was set over it."""
    owner = _owner(_handler_of(signal.SIGTERM))
    return owner if isinstance(owner, ProcessSigterm) else None


def _owner(handler: object) -> object:
    """Return the object that a handler is a method of, `None` if it is none."""
    return handler.__self__ if isinstance(handler, MethodType) else None


def _call(handler: object, number: int, frame: FrameType | None) -> None:
    # SIG_DFL and SIG_IGN cannot be called.
    if callable(handler):
        handler(number, frame)


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
            while isinstance(owner := _owner(handler), Sigterm | ProcessSigterm):
                handler = owner.previous
                signal.signal(number, handler)
            if str(getattr(handler, "__module__", "")).startswith("trio."):
                # Trio's own, which it sets in place of Python's only.
                signal.signal(number, signal.default_int_handler)


after_fork(leave_parents_handlers)
