"""What happens in a session, as frozen records, and the one door for those who watch.

Called by the core where something happens. The core knows no observer: the log, a live terminal, a viewer, telemetry
and a file of events add themselves with `Observers.add`. An event that no observer listens to is never made.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from time import time
from typing import Final, Protocol, TypeAlias

from attrs import define, field

from railtracks._records.tree import CallRecord, CallTree, Status, utc


class EventKind(StrEnum):
    """What an event tells of."""

    SESSION_OPENED = "session_opened"
    SESSION_CLOSED = "session_closed"
    CALL_STARTED = "call_started"
    CALL_COMPLETED = "call_completed"
    CALL_FAILED = "call_failed"
    CALL_RETRIED = "call_retried"
    CALL_CANCELLED = "call_cancelled"
    WORKER_LEFT_BEHIND = "worker_left_behind"
    BROADCAST = "broadcast"
    LOGGED = "logged"


@define(frozen=True)
class SessionEvent:
    """A session was opened or closed.

    Attributes:
        kind: `SESSION_OPENED` or `SESSION_CLOSED`.
        session: The session.
        at: When it happened, in UTC.
    """

    kind: EventKind
    session: ObservedSession
    at: datetime


@define(frozen=True)
class CallEvent:
    """Something happened to a call.

    Attributes:
        kind: What happened. `CALL_RETRIED`: an attempt failed, and another one follows.
        session_id: The session of the call.
        call_id: The call.
        parent_id: The call it was made in, `None` for a top-level call.
        run_id: The top-level call that it belongs to.
        node: The name of its node.
        parent: The name of the node it was made in, `None` for a top-level call.
        attempt: Which attempt of the call this is, counted from 1.
        status: Where the call stands.
        started_at: When it started, in UTC.
        ended_at: When it ended, in UTC; `None` while it runs.
    """

    kind: EventKind
    session_id: str
    call_id: int
    parent_id: int | None
    run_id: int
    node: str
    parent: str | None
    attempt: int
    status: Status
    started_at: datetime
    ended_at: datetime | None
    _tree: CallTree = field(repr=False, eq=False)

    def record(self) -> CallRecord:
        """Return the record of the call as it stands now, with its arguments, result and error.

        To be asked for while the event is handed over: with `history_limit` the record may be dropped later.

        Raises:
            KeyError: If the record was dropped.
        """
        return self._tree.record(self.call_id)


@define(frozen=True)
class BroadcastEvent:
    """An item was broadcast.

    Attributes:
        kind: `BROADCAST`.
        session_id: The session.
        item: The item itself, not a copy.
        at: When it happened, in UTC.
    """

    kind: EventKind
    session_id: str
    item: object
    at: datetime


@define(frozen=True)
class LogEvent:
    """A line was logged.

    Attributes:
        kind: `LOGGED`.
        session_id: The session.
        level: The level, as of `logging`.
        text: The line, without secrets.
        call_id: The call that it is about, if it is about one.
        at: When it happened, in UTC.
    """

    kind: EventKind
    session_id: str
    level: int
    text: str
    call_id: int | None
    at: datetime


Event: TypeAlias = SessionEvent | CallEvent | BroadcastEvent | LogEvent


class Observer(Protocol):
    """What watches sessions."""

    def on_event(self, event: Event, /) -> None:
        """Take an event; must neither block nor raise, and may be called in any task or thread of the session."""
        ...


class ObservedSession(Protocol):
    """A session, as an observer sees it: an `rt.Session`."""

    @property
    def identifier(self) -> str:
        """The identifier of the session."""
        ...

    @property
    def status(self) -> Status:
        """Where the session stands."""
        ...


Audience: TypeAlias = tuple[Observer, ...]


class Observers:
    """The observers of one session, or of all sessions, by the kinds of events that each wants."""

    __slots__ = (
        "broadcast",
        "call_cancelled",
        "call_completed",
        "call_failed",
        "call_retried",
        "call_started",
        "logged",
        "session_closed",
        "session_opened",
        "worker_left_behind",
    )

    # One slot a kind: the path of every call asks for one, and finds an empty tuple where nobody listens.
    broadcast: Audience
    call_cancelled: Audience
    call_completed: Audience
    call_failed: Audience
    call_retried: Audience
    call_started: Audience
    logged: Audience
    session_closed: Audience
    session_opened: Audience
    worker_left_behind: Audience

    def __init__(self, others: Observers | None = None) -> None:
        """Begin with the observers of another one, or with none."""
        for kind in EventKind:
            setattr(self, kind, () if others is None else getattr(others, kind))

    def add(self, observer: Observer, kinds: Collection[EventKind] = tuple(EventKind)) -> None:
        """Hand an observer every event of these kinds from now on; by default every event."""
        for kind in kinds:
            setattr(self, kind, (*getattr(self, kind), observer))

    def remove(self, observer: Observer) -> None:
        """Hand an observer no more events."""
        for kind in EventKind:
            setattr(self, kind, tuple(each for each in getattr(self, kind) if each is not observer))


# For replayed calls, of which no event is made.
NOBODY: Final = Observers()

# The observers of every session of this process that is opened from now on. A session begins with those that are here.
EVERYWHERE: Final = Observers()


def tell(audience: Audience, event: Event) -> None:
    """Hand an event to observers, in the order in which they were added."""
    for observer in audience:
        observer.on_event(event)


def call_event(  # noqa: PLR0917 - made for each call that somebody observes
    kind: EventKind, session_id: str, tree: CallTree, call_id: int, parent_id: int, run_id: int
) -> CallEvent:
    """Return the event that tells what happened to a call just now."""
    started_at, ended_at = tree.times(call_id)
    return CallEvent(
        kind,
        session_id,
        call_id,
        parent_id or None,
        run_id,
        tree.name(call_id) or "",
        tree.name(parent_id),
        tree.attempt(call_id),
        tree.status(call_id),
        started_at,
        ended_at,
        tree,
    )


def now() -> datetime:
    """Return the wall time, in UTC."""
    return utc(time())
