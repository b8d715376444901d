"""What the live view knows of sessions: which there are, and what has happened in them.

An observer hears of the beginnings and ends of sessions and of warnings. Calls are not heard of: the session counts
them, and the thread that draws looks at these counts. So a call costs no more than without a live view.
"""

from __future__ import annotations

from collections import Counter, deque
from datetime import datetime
from logging import ERROR, INFO
from typing import Final, NamedTuple

from attrs import define, field

from railtracks._forks import generation
from railtracks._records.data import Counts, Status, utc
from railtracks._records.events import Event, EventKind, LogEvent, ObservedSession, SessionEvent

KINDS: Final = (EventKind.SESSION_OPENED, EventKind.SESSION_CLOSED, EventKind.LOGGED)
# How many sessions that have ended are kept, and how many warnings of each session.
_MOST_ENDED: Final = 5
_MOST_TROUBLES: Final = 20


class Trouble(NamedTuple):
    """A warning or an error that was logged.

    Attributes:
        at: When.
        text: The line of the log, without secrets.
        is_error: Whether it is an error.
    """

    at: datetime
    text: str
    is_error: bool


@define(eq=False)
class WatchedSession:
    """One session.

    Attributes:
        session: The session itself, until it has ended and its calls were counted.
        identifier: Its identifier.
        name: What it is called.
        parent_id: The identifier of the session that it was opened in.
        began_at: When it was opened.
        ended_at: When it was closed, `None` while it is open.
        status: Where it stood when `look` was called last.
        counts: Its calls as they were then.
        troubles: Its last warnings and errors.
        trouble_count: How many there were.
    """

    session: ObservedSession | None
    identifier: str
    name: str
    parent_id: str | None
    began_at: datetime
    ended_at: datetime | None = None
    status: Status = Status.RUNNING
    counts: Counts = field(factory=lambda: Counts({}, {}, ()))
    troubles: deque[Trouble] = field(factory=lambda: deque[Trouble](maxlen=_MOST_TROUBLES))
    trouble_count: int = 0

    @property
    def calls(self) -> int:
        """How many calls it has had."""
        return sum(self.counts.by_status.values())

    def look(self) -> None:
        """Count its calls once more."""
        session = self.session
        if session is None:
            return
        # Before its calls are counted: a session that ends meanwhile is counted next time, too.
        is_over = self.ended_at is not None
        self.counts, self.status = session.counts, session.status
        if is_over:
            # With it all its calls would be held.
            self.session = None


class Watched:
    """The observer of all sessions of the process, and what it has heard.

    Told of events in the threads that run Trio, and looked at by the thread that draws.
    """

    def __init__(self) -> None:
        self._made_in = generation()
        self._sessions: dict[str, WatchedSession] = {}
        # How many sessions have ended and are not kept, by status.
        self.forgotten: Counter[Status] = Counter()

    def on_event(self, event: Event) -> None:
        """Note that a session was opened or closed, or has logged a warning."""
        if self._made_in != generation():
            # A forked process has no thread that draws.
            return
        if isinstance(event, SessionEvent):
            self._note(event)
        elif isinstance(event, LogEvent) and event.session_id in self._sessions and event.level > INFO:
            watched = self._sessions[event.session_id]
            watched.troubles.append(Trouble(utc(event.at), event.text, event.level >= ERROR))
            watched.trouble_count += 1

    def _note(self, event: SessionEvent) -> None:
        session = event.session
        if event.kind is EventKind.SESSION_OPENED:
            # One that was resumed comes last again.
            self._sessions.pop(session.identifier, None)
            name = session.name or session.flow_name or session.identifier
            self._sessions[session.identifier] = WatchedSession(
                session, session.identifier, name, event.parent_session_id, utc(event.at)
            )
        elif session.identifier in self._sessions:
            self._sessions[session.identifier].ended_at = utc(event.at)

    def look(self) -> list[WatchedSession]:
        """Return the sessions in the order of their beginnings; the calls of those that have ended were counted.

        Those of the others are not: there may be thousands, and few are shown.
        """
        sessions = list(self._sessions.values())
        for session in sessions:
            if session.ended_at is not None:
                session.look()
        return sessions

    def forget(self, keep: int = _MOST_ENDED) -> None:
        """Drop the sessions that have ended, but for the last `keep` of them.

        Sessions that were opened in others are not kept: what they were for is told by the calls of those.
        """
        ended = [(key, session) for key, session in list(self._sessions.items()) if session.session is None]
        kept = [key for key, session in ended if session.parent_id is None][-keep:] if keep else []
        for key, _ in ended:
            if key not in kept:
                self.forgotten[self._sessions.pop(key).status] += 1
