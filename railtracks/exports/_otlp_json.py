"""A session as spans in the JSON form of OpenTelemetry's protocol, which collectors and viewers of traces take.

Called by `export`. The attributes have the names that `rt.enable_telemetry` gives them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from railtracks._foreign_text import plain
from railtracks._records.data import CallError, CallRecord, Status
from railtracks.exports._outline import Outline
from railtracks.exports._words import session_name, word

_encode = json.JSONEncoder(allow_nan=False).encode
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Numbers of OpenTelemetry's protocol: a span inside a program, and the one status that libraries set.
_INTERNAL, _ERROR = 1, 2
# A waiting session goes on, and a running one may end well.
_WELL: Final = frozenset({Status.COMPLETED, Status.WAITING, Status.RUNNING})
# Characters.
_LONGEST_MESSAGE: Final = 4_000
_LONGEST_TRACEBACK: Final = 16_000


def otlp_json(outline: Outline) -> Iterator[str]:
    """Return a session as one trace, in pieces: a span for the session, and in it one for each call.

    The ids of the trace and of its spans follow from the session's identifier and the numbers of its calls. So a
    session that is exported twice is one trace.
    """
    info = outline.info
    resource = {"attributes": _attributes({"service.name": info.flow_name or "railtracks"})}
    yield f'{{"resourceSpans": [{{"resource": {_encode(resource)}, '
    yield '"scopeSpans": [{"scope": {"name": "railtracks"}, "spans": [\n'
    span = _span(outline, 0, session_name(info), (outline.start, outline.end), outline.status, info.error)
    facts = {
        "railtracks.session.id": info.session_id,
        "railtracks.session.name": info.session_name,
        "railtracks.flow.name": info.flow_name,
        "railtracks.cause": None if info.cause is None else info.cause.kind.value,
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": info.flow_name,
    }
    yield _encode(_with(span, facts, outline.status, info.error))
    known = {call.id for call in info.calls}
    for call in info.calls:
        yield ",\n"
        yield _encode(_span_of_call(outline, call, call.parent_id if call.parent_id in known else 0))
    yield "\n]}]}]}\n"


def _span_of_call(outline: Outline, call: CallRecord, parent_id: int | None) -> dict[str, object]:
    span = _span(outline, call.id, call.node, (call.started_at, outline.ended_at(call)), call.status, call.error)
    facts: dict[str, str | int | bool | None] = {
        "railtracks.session.id": outline.info.session_id,
        "railtracks.call.id": call.id,
        "railtracks.node": call.node,
        "railtracks.attempt": call.attempt,
        "railtracks.is_replayed": call.is_replayed or None,
    }
    return _with(span, facts, call.status, call.error) | {"parentSpanId": _span_id(outline, parent_id or 0)}


def _with(
    span: dict[str, object], facts: Mapping[str, str | int | bool | None], status: str, error: CallError | None
) -> dict[str, object]:
    """Return a span with its attributes."""
    kind = None if status in _WELL else status
    ending = {"railtracks.status": str(status), "error.type": kind if error is None else error.type}
    return span | {"attributes": _attributes({**facts, **ending})}


def _span(  # noqa: PLR0917 - what every span has
    outline: Outline,
    call_id: int,
    name: str,
    times: tuple[datetime, datetime],
    status: str,
    error: CallError | None,
) -> dict[str, object]:
    span: dict[str, object] = {
        "traceId": sha256(outline.info.session_id.encode("utf-8", "replace")).hexdigest()[:32],
        "spanId": _span_id(outline, call_id),
        "name": plain(name),
        "kind": _INTERNAL,
        "startTimeUnixNano": _nanoseconds(times[0]),
        "endTimeUnixNano": _nanoseconds(times[1]),
    }
    if status not in _WELL:
        message = word(status) if error is None else error.line
        span["status"] = {"code": _ERROR, "message": _clean(message[:_LONGEST_MESSAGE])}
    if error is not None:
        told = {
            "exception.type": error.type,
            "exception.message": error.message[:_LONGEST_MESSAGE],
            "exception.stacktrace": error.traceback[-_LONGEST_TRACEBACK:],
        }
        event = {"name": "exception", "timeUnixNano": span["endTimeUnixNano"], "attributes": _attributes(told)}
        span["events"] = [event]
    return span


def _span_id(outline: Outline, call_id: int) -> str:
    return sha256(f"{outline.info.session_id}/{call_id}".encode("utf-8", "replace")).hexdigest()[:16]


def _nanoseconds(moment: datetime) -> str:
    return str((moment - _EPOCH) // _MICROSECOND * 1000)


def _attributes(facts: Mapping[str, str | int | bool | None]) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in facts.items() if value is not None]


def _value(value: str | int | bool) -> dict[str, object]:  # noqa: FBT001 - a value of an attribute
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": _clean(value)}


def _clean(text: str) -> str:
    """Return a text as plain text; its lines stay lines."""
    return "\n".join(map(plain, text.split("\n")))
