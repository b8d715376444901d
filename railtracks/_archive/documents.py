"""The parts of a JSON document that nobody vouches for: each is checked as it is taken out.

Called by what reads saved states and events. All of it raises `ValueError` for what is of the wrong kind.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

from railtracks._checks import is_dict
from railtracks._records.data import CallError, CauseKind, EndCause, Status

Document: TypeAlias = Mapping[object, object]


def _float(text: str) -> object:
    found = float(text)
    return found if math.isfinite(found) else _not_finite(f"{'-' * (found < 0)}Infinity")


def _not_finite(word: str) -> object:
    """Return a number that JSON has not as saved states write it: what is read here is shown as JSON again."""
    return {"$float": word}


# One decoder for all. `json.loads` would look for the encoding of each text first.
_decode: Final = json.JSONDecoder(parse_float=_float, parse_constant=_not_finite).decode
_STATUSES: Final[dict[str, Status]] = {status.value: status for status in Status}
_CAUSES: Final = frozenset(CauseKind)


def document_of(data: bytes) -> Document:
    """Return the object that a JSON text is."""
    try:
        found: object = _decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError("is no JSON") from error
    if not is_dict(found):
        raise ValueError("is no JSON object")
    return found


def text_in(document: Document, key: str) -> str:
    """Return a text."""
    found = document.get(key)
    # JSON has no other kind of text.
    if type(found) is not str:
        raise ValueError(f"has no text as {key!r}")
    return found


def optional_text_in(document: Document, key: str) -> str | None:
    """Return a text, `None` if there is none."""
    return None if document.get(key) is None else text_in(document, key)


def number_in(document: Document, key: str) -> int:
    """Return a whole number from 0 up."""
    found = document.get(key)
    if type(found) is not int or not 0 <= found < 2**63:
        raise ValueError(f"has no number as {key!r}")
    return found


def optional_number_in(document: Document, key: str) -> int | None:
    """Return a whole number from 0 up, `None` if there is none."""
    return None if document.get(key) is None else number_in(document, key)


def moment_in(document: Document, key: str) -> datetime:
    """Return a time, in UTC."""
    text = text_in(document, key)
    try:
        moment = datetime.fromisoformat(text)
        # A time without a zone would be taken for one of this machine's zone.
        known = moment if moment.tzinfo is UTC else None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        known = None
    if known is None:
        raise ValueError(f"has no time as {key!r}")
    return known


def optional_moment_in(document: Document, key: str) -> datetime | None:
    """Return a time in UTC, `None` if there is none."""
    return None if document.get(key) is None else moment_in(document, key)


def status_in(document: Document) -> Status:
    """Return the status of a session."""
    status = _STATUSES.get(text_in(document, "status"))
    if status is None:
        raise ValueError("has no status as 'status'")
    return status


def error_in(document: Document) -> CallError | None:
    """Return the error of a session or a call, `None` if there is none."""
    found = document.get("error")
    if found is None:
        return None
    if not is_dict(found):
        raise ValueError("has no object as 'error'")
    return CallError(text_in(found, "type"), text_in(found, "message"), text_in(found, "traceback"))


def cause_in(document: Document) -> EndCause | None:
    """Return what ended a session before its time, `None` if nothing did."""
    found = document.get("cause")
    if found is None:
        return None
    if not is_dict(found):
        raise ValueError("has no object as 'cause'")
    kind = text_in(found, "kind")
    if kind not in _CAUSES:
        raise ValueError("has no cause as 'cause'")
    return EndCause(CauseKind(kind), optional_text_in(found, "reason"), optional_number_in(found, "call_id"))
