"""The lines of the log: what is said of a call and of a session, and how a line looks.

Called by `log`. A line is one line whatever users' names and errors are: it is bounded, and control characters are
escaped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from railtracks._records.ends import CallError, CauseKind, EndCause, Status
from railtracks._records.events import CallEvent, EventKind
from railtracks._records.scrubbing import CUT

# The logger of all sessions.
ROOT: Final = "RT"
# Characters. The whole text of an error is in its record.
_LONGEST_ERROR: Final = 300
_LOOKED_AT: Final = 1_000

_Scrub: TypeAlias = Callable[[str], str]

# The module of our own errors: `rt.` and the name is enough to find one.
_OWN_ERRORS: Final = "railtracks.exceptions."

# What ended a session, in words.
_CAUSES: Final = {
    CauseKind.OUTER_SCOPE: "a cancel scope around it was cancelled",
    CauseKind.CTRL_C: "Ctrl-C",
    CauseKind.SIGTERM: "SIGTERM",
}


class LineFormat(logging.Formatter):
    """One line for each record; times count from the start of the session, or from `enable_logging`."""

    def __init__(self, started: float) -> None:
        super().__init__("[+%(since)-7ss] %(name)-12s: %(levelname)-8s - %(message)s")
        self._started = started

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record; handlers of the application format the same record in their own way."""
        record.since = f"{record.created - self._started:.3f}"
        return super().format(record)


class FileLineFormat(LineFormat):
    """The same line after its date in UTC and its session: several sessions and days append to one file."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record; one that belongs to no session has a `-` in that place."""
        seconds, milliseconds = divmod(round(record.created * 1_000_000) // 1000, 1000)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return f"{at}.{milliseconds:03d}Z {getattr(record, 'session_id', None) or '-'} {super().format(record)}"


def _created(event: CallEvent, _: _Scrub) -> str:
    parent = "START" if event.parent is None else _short_label(event.parent, event.parent_id)
    return f"{parent} CREATED {_short_label(event.node, event.call_id)}{_attempt(event)}"


def _done(event: CallEvent, _: _Scrub) -> str:
    return f"{_label(event)} DONE in {_duration(event)}{_attempt(event)}"


def _cancelled(event: CallEvent, _: _Scrub) -> str:
    return f"{_label(event)} CANCELLED after {_duration(event)}{_attempt(event)}"


def _failed(event: CallEvent, without_secrets: _Scrub) -> str:
    # Or LOST, with the worker that ran it.
    return f"{_label(event)} {event.status.upper()}{_attempt(event)}: {_why(event, without_secrets)}"


def _retried(event: CallEvent, without_secrets: _Scrub) -> str:
    how, why = event.status.upper(), _why(event, without_secrets)
    return f"{_label(event)} {how}, attempt {event.attempt}, and will be tried again: {why}"


def _overran(event: CallEvent, _: _Scrub) -> str:
    return (
        f"{_label(event)} came back with a result after its timeout, and the result is dropped: the node passed no"
        " checkpoint, shielded itself, or caught the Cancelled"
    )


def _left_behind(event: CallEvent, _: _Scrub) -> str:
    return f"{_label(event)} was cancelled, and its worker thread was left behind running"


# What is logged of a call, by the kind of its event: the level, and the function that makes the text.
CALL_LINES: Final[dict[EventKind, tuple[int, Callable[[CallEvent, _Scrub], str]]]] = {
    EventKind.CALL_STARTED: (logging.INFO, _created),
    EventKind.CALL_COMPLETED: (logging.INFO, _done),
    EventKind.CALL_CANCELLED: (logging.INFO, _cancelled),
    EventKind.CALL_FAILED: (logging.ERROR, _failed),
    EventKind.CALL_RETRIED: (logging.WARNING, _retried),
    EventKind.CALL_OVERRAN: (logging.WARNING, _overran),
    EventKind.WORKER_LEFT_BEHIND: (logging.WARNING, _left_behind),
}


def level_of(event: CallEvent) -> int:
    """Return the level of the line for what happened to a call."""
    level = CALL_LINES[event.kind][0]
    return min(level, logging.WARNING) if event.is_kept else level


def call_line(event: CallEvent, without_secrets: _Scrub) -> str:
    """Return the line for what happened to a call.

    Args:
        event: What happened.
        without_secrets: Returns a text without the secrets of the session.
    """
    return _one_line(CALL_LINES[event.kind][1](event, without_secrets))


def session_level(status: Status, error: CallError | None, cause: EndCause | None) -> int:
    """Return the level of the line for a session: an error that came out of a call has its line already."""
    is_told = error is None or cause is None or cause.call_id is not None
    is_quiet = status in {Status.CANCELLED, Status.WAITING} or (cause is not None and cause.kind in _CAUSES)
    return logging.INFO if is_told or is_quiet else logging.ERROR


class EndingLike(Protocol):
    """What the line for a session needs to know of its end."""

    @property
    def status(self) -> Status: ...

    @property
    def cause(self) -> EndCause | None: ...


class SessionLike(Protocol):
    """What the line for a session needs to know of it."""

    @property
    def identifier(self) -> str: ...

    @property
    def name(self) -> str | None: ...

    @property
    def flow_name(self) -> str | None: ...

    @property
    def ending(self) -> EndingLike: ...

    @property
    def error(self) -> CallError | None: ...

    @property
    def started_at(self) -> float | None: ...

    @property
    def ended_at(self) -> float | None: ...


def session_line(kind: EventKind, session: SessionLike, without_secrets: _Scrub) -> str:
    """Return the line for the start or the end of a session.

    Args:
        kind: `SESSION_OPENED` or `SESSION_CLOSED`.
        session: The session.
        without_secrets: Returns a text without the secrets of the session.
    """
    name = session.name or session.flow_name
    label = session.identifier if name is None else repr(name)
    if kind is EventKind.SESSION_OPENED:
        return _one_line(f"session {label} STARTED" + ("" if name is None else f" as {session.identifier}"))
    status, cause = session.ending.status, session.ending.cause
    ending = f"session {label} {status.upper().replace('_', ' ')}"
    verb = "in" if status is Status.COMPLETED else "after"
    why = "" if cause is None else _end(cause, session.error, without_secrets)
    return _one_line(f"{ending} {verb} {_duration(session)}{why}{_going_on(session)}")


def _going_on(session: SessionLike) -> str:
    """Return with which call an interrupted session goes on, as the end of its line."""
    if session.ending.status is not Status.INTERRUPTED:
        return ""
    call = "rt.Session(resume=" if session.flow_name is None else "Flow.resume("
    return f"; {call}{session.identifier!r}) goes on with it"


def _end(cause: EndCause, error: CallError | None, without_secrets: _Scrub) -> str:
    """Return why a session ended before its time, as the end of its line."""
    if cause.kind in {CauseKind.ERROR, CauseKind.DEADLINE}:
        place = "" if cause.call_id is None else f" (call {cause.call_id})"
        return "" if error is None else f": {_in_short(error, without_secrets)}{place}"
    reason = cause.reason or _CAUSES.get(cause.kind)
    return f": {_shortened(without_secrets(reason))}" if reason else ""


def _label(event: CallEvent) -> str:
    return f"{event.node} ({event.call_id})"


def _short_label(node: str, call_id: int | None) -> str:
    """Return what the line of a new call says of a call: of the first call of the session only its name."""
    return node if call_id == 1 else f"{node} ({call_id})"


def _attempt(event: CallEvent) -> str:
    return f", attempt {event.attempt}" if event.attempt > 1 else ""


def _why(event: CallEvent, without_secrets: _Scrub) -> str:
    """Return the error of a call, and the path of nodes to a call that was made in another one."""
    error, path = event.tree.error(event.call_id), event.path()
    place = f" ({' > '.join(path)})" if path[1:] else ""
    return f"{_in_short(error, without_secrets)}{place}" if error is not None else place


def _in_short(error: CallError, without_secrets: _Scrub) -> str:
    message = error.message
    if len(message) > _LOOKED_AT:
        # Three points tell that a secret may be cut in half there.
        message = f"{message[:_LOOKED_AT]}{CUT}"
    message = _shortened(without_secrets(message))
    name = error.type.removeprefix(_OWN_ERRORS)
    return f"{name}: {message}" if message else name


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}{CUT}"


def _duration(of: SessionLike | CallEvent) -> str:
    seconds = 0.0 if of.started_at is None or of.ended_at is None else of.ended_at - of.started_at
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _one_line(text: str) -> str:
    """Return a text with its control characters escaped: a name of users must not begin a line of its own."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
