"""The one door for observers: who is told of which events.

Called by the core where something happens. The core knows no observer: the log, a live terminal, a viewer, telemetry
and a file of events add themselves with `Observers.add`. An event that no observer listens to is never made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from threading import RLock
from typing import Final, Protocol, TypeAlias
from weakref import ref

from railtracks._forks import after_fork
from railtracks._records.error_parts import answer, class_name
from railtracks._records.events import Event, EventKind


class Observer(Protocol):
    """What is told of events."""

    def on_event(self, event: Event, /) -> None:
        """Take an event, in the thread that runs Trio, and return at once: the call goes on only afterwards.

        An error that it raises is logged and changes nothing.
        """
        ...


Audience: TypeAlias = tuple[Observer, ...]

# The kinds of `SessionEvent` and `CallEvent`, for observers that want nothing else.
SESSION_AND_CALL_KINDS: Final = tuple(kind for kind in EventKind if kind not in (EventKind.BROADCAST, EventKind.LOGGED))

# Held while observers are added or removed, which may be done in any thread.
_changing = RLock()


def renew_lock() -> None:
    """In a forked process take a new lock: a thread that is not here may hold the old one."""
    global _changing  # noqa: PLW0603 - set at the start of a process only
    _changing = RLock()


after_fork(renew_lock)


class Observers:
    """The observers of one session, by the kinds of events that each wants."""

    __slots__ = (
        "__weakref__",
        "broadcast",
        "call_cancelled",
        "call_completed",
        "call_failed",
        "call_overran",
        "call_retried",
        "call_started",
        "logged",
        "session_closed",
        "session_opened",
        "worker_left_behind",
    )

    # One slot for each kind: every call looks at two of them, and finds empty tuples where nobody listens.
    broadcast: Audience
    call_cancelled: Audience
    call_completed: Audience
    call_failed: Audience
    call_overran: Audience
    call_retried: Audience
    call_started: Audience
    logged: Audience
    session_closed: Audience
    session_opened: Audience
    worker_left_behind: Audience

    def __init__(self, others: Observers | None = None) -> None:
        """Begin with the observers of another object, or with none."""
        if others is None:
            for kind in EventKind:
                setattr(self, kind, ())
            return
        # One by one: this is done for each session that is opened, and a loop takes three times as long.
        self.broadcast = others.broadcast
        self.call_cancelled = others.call_cancelled
        self.call_completed = others.call_completed
        self.call_failed = others.call_failed
        self.call_overran = others.call_overran
        self.call_retried = others.call_retried
        self.call_started = others.call_started
        self.logged = others.logged
        self.session_closed = others.session_closed
        self.session_opened = others.session_opened
        self.worker_left_behind = others.worker_left_behind

    def of(self, kind: EventKind) -> Audience:
        """Return the observers of one kind of events, in the order in which they were added."""
        audience: Audience = getattr(self, kind)
        return audience

    def add(self, observer: Observer, kinds: Collection[str] = tuple(EventKind)) -> None:
        """Tell an observer of all events of these kinds from now on; by default of every event."""
        with _changing:
            for kind in kinds:
                setattr(self, kind, (*getattr(self, kind), observer))

    def remove(self, observer: Observer) -> None:
        """Tell an observer of no more events."""
        with _changing:
            for kind in EventKind:
                setattr(self, kind, tuple(each for each in self.of(kind) if each is not observer))


class ProcessObservers(Observers):
    """The observers of all sessions of this process, those that are open now and those that will be opened."""

    __slots__ = ("_sessions",)

    def __init__(self) -> None:
        super().__init__()
        # A session that is over drops its observers, and so it leaves this set.
        # Not a `WeakSet`, which takes ten times as long for each session.
        self._sessions: set[ref[Observers]] = set()

    def for_session(self, log: Observer, kinds: Collection[str]) -> Observers:
        """Return the observers for a session that is being opened.

        Args:
            log: The log of the session.
            kinds: The events that it is told of, after the observers of the process. Plain strings take half the time
                of `EventKind`s.
        """
        with _changing:
            observers = Observers(self)
            observers.add(log, kinds)
            self._sessions.add(ref(observers, self._sessions.discard))
        return observers

    def add(self, observer: Observer, kinds: Collection[str] = tuple(EventKind)) -> None:
        """Tell an observer of all events of these kinds from now on, in every session; by default of every event."""
        with _changing:
            super().add(observer, kinds)
            for session in self._open():
                session.add(observer, kinds)

    def remove(self, observer: Observer) -> None:
        """Tell an observer of no more events, of whatever session."""
        with _changing:
            super().remove(observer)
            for session in self._open():
                session.remove(observer)

    def _open(self) -> list[Observers]:
        # A copy: sessions of other threads end meanwhile.
        references = list(self._sessions)
        return [session for session in (reference() for reference in references) if session is not None]


# The observers of replayed calls: there are none, because the run that was recorded has told of these calls.
NOBODY: Final = Observers()

EVERYWHERE: Final = ProcessObservers()


_PRINTER: Final = logging.Handler()


def try_to_log(act: Callable[[], object], line: str) -> None:
    """Do something with the standard library's logging; whatever it raises changes nothing.

    A full disk, a closed stderr or a filter that raises must not cost a call its result. What is raised is printed as
    the standard library prints it, if `logging.raiseExceptions` is set.

    Args:
        act: What to do.
        line: What is being logged, for that print.
    """

    def failed(_: BaseException) -> None:
        record = logging.LogRecord("RT", logging.ERROR, __file__, 0, line, (), None)
        # Where stderr is closed, printing raises, too.
        answer(lambda: _PRINTER.handleError(record), lambda _: None)

    answer(act, failed)


def tell(audience: Audience, event: Event) -> None:
    """Hand an event to observers, in the order in which they were added."""
    for observer in audience:
        try:
            observer.on_event(event)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: ASYNC103, BLE001 - the event is told in the middle of a call, whose record must be closed
            # Neither the text of the error nor its traceback: they may hold secrets.
            problem = f"{type(observer).__name__}.on_event raised {class_name(error)}"
            line = f"{problem} for the event {event.kind}: the session goes on"
            try_to_log(partial(logging.getLogger("RT").log, logging.ERROR, "%s", line), line)
