"""Sessions and calls as JSON: what `--json` prints. Times are in UTC.

Called by the commands that show sessions, and by `run`. A session has the form of a saved state.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from railtracks._archive import Elsewhere, SessionSummary
from railtracks._records.data import SCHEMA, CallError, CallRecord, EndCause, ExecutionInfo, Status
from railtracks._records.json_values import JsonValues
from railtracks._records.scrubbing import Scrubber
from railtracks._records.slices import Pauses
from railtracks.cli._output import json_text


def summary_document(summary: SessionSummary) -> dict[str, object]:
    """Return one line of a list."""
    return {
        "session_id": summary.session_id,
        "session_name": summary.name,
        "flow_name": summary.flow_name,
        "status": summary.status,
        "started_at": moment_document(summary.started_at),
        "ended_at": moment_document(summary.ended_at),
        "error": _error_document(summary.error),
        "cause": _cause_document(summary.cause),
        "calls": summary.calls,
        "waiting_for": list(summary.waiting_for),
        "elsewhere": _elsewhere_document(summary.elsewhere),
        "origins": [{"kind": each.kind, "place": each.place} for each in summary.origins],
    }


def session_pieces(info: ExecutionInfo, status: str | None = None) -> Iterator[str]:
    """Return the JSON of a session with its calls, in pieces: one for each call.

    Args:
        info: Its record.
        status: What the list says of it. Of one that runs as far as its record tells, that counts: it may have died.
    """
    document: dict[str, object] = {
        "schema": SCHEMA,
        "session_id": info.session_id,
        "session_name": info.session_name,
        "flow_name": info.flow_name,
        "flow_id": info.flow_id,
        "status": status if status is not None and info.status is Status.RUNNING else info.status,
        "started_at": moment_document(info.started_at),
        "ended_at": moment_document(info.ended_at),
        "timeout": None if info.timeout == math.inf else info.timeout,
        "error": _error_document(info.error),
        "cause": _cause_document(info.cause),
        "context_keys": list(info.context_keys),
        "left_behind": list(info.left_behind),
        "dropped_calls": info.dropped_calls,
        "calls": [],
    }
    yield json_text(document).removesuffix(_NO_CALLS)
    separator = "["
    for call in info.calls:
        # A text in JSON has no line break.
        lines = json_text(call_document(call)).split("\n")
        yield "\n    ".join([separator, *lines])
        separator = ","
    yield f"\n  ]{_END}" if info.calls else f"[]{_END}"


_END: Final = "\n}\n"
_NO_CALLS: Final = "[]\n}"


def call_document(call: CallRecord) -> dict[str, object]:
    """Return a call."""
    return {
        "id": call.id,
        "parent_id": call.parent_id,
        "node": call.node,
        "status": call.status,
        "attempt": call.attempt,
        "started_at": moment_document(call.started_at),
        "ended_at": moment_document(call.ended_at),
        **({"replayed": True} if call.is_replayed else {}),
        "args": [value_document(value) for value in call.args],
        "kwargs": {name: value_document(value, name) for name, value in call.kwargs.items()},
        "result": value_document(call.result),
        "error": _error_document(call.error),
    }


def value_document(value: object, name: str | None = None) -> object:
    """Return a value as a saved state has it: what JSON has no word for has a tag, and secrets are left out."""
    return json.loads(saved_value(value, name))


def saved_value(value: object, name: str | None = None) -> str:
    """Return a value as the JSON of a saved state."""
    return JsonValues(Scrubber(), math.inf, Pauses()).value(value, name)


def moment_document(moment: datetime | None) -> str | None:
    """Return a time in UTC, in ISO format."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _elsewhere_document(place: Elsewhere | None) -> dict[str, object] | None:
    return None if place is None else {"host": place.host, "last_event_at": moment_document(place.heard_at)}


def _error_document(error: CallError | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "traceback": error.traceback}


def _cause_document(cause: EndCause | None) -> dict[str, object] | None:
    return None if cause is None else {"kind": cause.kind, "reason": cause.reason, "call_id": cause.call_id}
