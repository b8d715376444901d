"""What ended or interrupted a session, as its row keeps it.

Written at the end of a run, and read by the views.
"""

from __future__ import annotations

import json

from railtracks._checks import is_dict
from railtracks._records.data import CauseKind, EndCause
from railtracks.durable._store.reading import damaged
from railtracks.durable._store.schema import SessionRow
from railtracks.durable._values.stored import parsed
from railtracks.exceptions import DurableValueError


def dumped_cause(cause: EndCause, *, is_quiet: bool = False) -> bytes:
    """Return a cause as JSON. The id of a call is left out: calls have other numbers in a store.

    Args:
        cause: What ended the session.
        is_quiet: Whether the session raised nothing at its end, because its body has dealt with the error.
    """
    seldom = {"quiet": True} if is_quiet else {}
    return json.dumps({"kind": cause.kind, "reason": cause.reason, **seldom}).encode()


def cause_of(row: SessionRow) -> EndCause | None:
    """Return what ended or interrupted a session, `None` if nothing did, or if that was not recorded.

    Raises:
        StoreError: If something else stands in its place.
    """
    if row.cause is None:
        return None
    stored = _stored(row, row.cause)
    kind, reason = stored.get("kind"), stored.get("reason")
    if kind not in set(CauseKind) or not (reason is None or type(reason) is str):
        raise damaged(row.session_id, "its cause is none that a session can have")
    return EndCause(CauseKind(str(kind)), reason)


def ended_quietly(row: SessionRow) -> bool:
    """Return whether a session that has failed raised nothing, because its body has dealt with the error."""
    return row.cause is not None and _stored(row, row.cause).get("quiet") is True


def _stored(row: SessionRow, data: bytes) -> dict[object, object]:
    try:
        stored = parsed(data)
    except DurableValueError as error:
        raise damaged(row.session_id, "its cause is no JSON") from error
    return stored if is_dict(stored) else {}
