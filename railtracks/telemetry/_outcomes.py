"""How a span tells of an end that is no result: of errors, cancels and timeouts, and why it came to them.

Called by `Tracing` as a call or a session ends. Texts are told without the secrets that the session has seen.
"""

from __future__ import annotations

from typing import Final

import trio
from opentelemetry.trace import Span, StatusCode
from opentelemetry.trace import Status as SpanStatus

from railtracks._records.data import CallError, CauseKind, ExecutionInfo, Status
from railtracks._records.events import CallEvent, EventKind, SessionEvent
from railtracks._records.json_values import writable
from railtracks._records.open_calls import Timeouts
from railtracks._records.scrubbing import CUT
from railtracks._records.seen_values import SeenValues
from railtracks.telemetry import _names as names

# Characters.
_LONGEST_MESSAGE: Final = 4_000
_LONGEST_TRACEBACK: Final = 16_000
_OWN_ERRORS: Final = "railtracks.exceptions."
# A session that ends so has not gone wrong: it has a result, or it is resumed when what it waits for has come.
_WELL: Final = frozenset({Status.COMPLETED, Status.WAITING})

# What has ended a session before its time, for the calls that it has cancelled.
_CAUSES: Final = {
    CauseKind.ERROR: "an error has ended the session",
    CauseKind.DEADLINE: "the timeout of the session",
    CauseKind.OUTER_SCOPE: "a cancel scope around the session",
    CauseKind.CTRL_C: "Ctrl-C",
    CauseKind.SIGTERM: "SIGTERM",
    CauseKind.PARKED: "the session waits, and is resumed later",
    CauseKind.LOST_LEASE: "the session has lost its lease",
    CauseKind.STORE: "the store of the session has failed",
}


def set_end_of_session(span: Span, head: ExecutionInfo, seen: SeenValues) -> None:
    """Set the status of a session that has ended, and if it has not ended well, why."""
    span.set_attribute(names.STATUS, head.status.value)
    if head.cause is not None:
        span.set_attribute(names.CAUSE, head.cause.kind.value)
    if head.status in _WELL:
        return
    seen.see()
    if head.error is not None:
        _set_error(span, head.error, seen)
    else:
        _set_reason(span, f"{head.status}: {_why(head)}", seen, head.status.value)


def set_failure(span: Span, event: CallEvent, seen: SeenValues, opened: SessionEvent | None) -> None:
    """Set the status of a call that has failed or was cancelled, and why.

    Args:
        span: Its span.
        event: Its end.
        seen: The search for secrets in the session.
        opened: The opening of the session; `None` if telemetry was not enabled then.
    """
    span.set_attribute(names.STATUS, event.status.value)
    seen.see()
    error = event.record().error
    if error is not None:
        if event.kind is EventKind.CALL_RETRIED:
            span.set_attribute(names.IS_RETRIED, True)  # noqa: FBT003 - the value of the attribute
        _set_error(span, error, seen)
        return
    head = None if opened is None else opened.head()
    if head is not None and head.cause is not None:
        span.set_attribute(names.CAUSE, head.cause.kind.value)
    why = _expired(event, opened.timeouts) if opened is not None else None
    _set_reason(span, f"cancelled: {why or _why(head)}", seen, names.CANCELLED)


def _expired(event: CallEvent, timeouts: Timeouts) -> str | None:
    """Return which timeout around a call has expired, the innermost one first; `None` if none has."""
    now, call_id = trio.current_time(), event.call_id
    while call_id:
        call_id = event.tree.parent(call_id)
        if timeouts.has_expired(call_id, now):
            name = event.tree.name(call_id)
            return "the timeout of the session" if name is None else f"the timeout of {name} ({call_id})"
    return None


def error_type_of(event: CallEvent) -> str:
    """Return the value of `error.type` for a call that has failed or was cancelled."""
    error = event.record().error
    return names.CANCELLED if error is None else _type_of(error)


def _why(head: ExecutionInfo | None) -> str:
    """Return what has ended a session before its time, or a call in it."""
    cause = None if head is None else head.cause
    if cause is None:
        return "a cancel scope in the code around it"
    if cause.kind is CauseKind.CANCEL:
        return "the session was cancelled" if cause.reason is None else f"the session was cancelled: {cause.reason}"
    place = "" if cause.call_id is None else f" (call {cause.call_id})"
    return f"{_CAUSES[cause.kind]}{place}"


def _set_error(span: Span, error: CallError, seen: SeenValues) -> None:
    kind, message = _type_of(error), _safe(error.message, seen, _LONGEST_MESSAGE)
    span.set_attribute(names.ERROR_TYPE, kind)
    attributes = {
        names.EXCEPTION_TYPE: writable(error.type),
        names.EXCEPTION_MESSAGE: message,
        names.EXCEPTION_STACKTRACE: _safe(error.traceback, seen, _LONGEST_TRACEBACK),
    }
    span.add_event(names.EXCEPTION_EVENT, attributes)
    span.set_status(SpanStatus(StatusCode.ERROR, f"{kind}: {message}" if message else kind))


def _set_reason(span: Span, why: str, seen: SeenValues, kind: str) -> None:
    """Set the status of a span that no error of users has ended."""
    span.set_attribute(names.ERROR_TYPE, kind)
    span.set_status(SpanStatus(StatusCode.ERROR, _safe(why, seen, _LONGEST_MESSAGE)))


def _type_of(error: CallError) -> str:
    return writable(error.type).removeprefix(_OWN_ERRORS)


def _safe(text: str, seen: SeenValues, longest: int) -> str:
    """Return a text without secrets, and not longer than it may be; three points tell where it is cut."""
    if len(text) > longest:
        text = f"{text[:longest]}{CUT}"
    return writable(seen.without_secrets(text))
