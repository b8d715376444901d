"""What sessions wait for, and what was sent to them, as a person or a program reads it.

Called by the command `signal`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from railtracks._archive import SessionSummary
from railtracks._foreign_text import plain
from railtracks.cli._output import put, put_json
from railtracks.cli._screen import local

if TYPE_CHECKING:
    from railtracks.durable import DurableStore, StoredSignal, StoredWait

# How many characters of a value or a schema a line shows.
_LONGEST: Final = 200


def tell(summary: SessionSummary, store: DurableStore, waits: Sequence[StoredWait], *, as_json: bool) -> int:
    """Tell what a session waits for, and what was sent to it."""
    sent = store.signals(summary.session_id)
    if as_json:
        return put_json(
            {
                "session_id": summary.session_id,
                "status": summary.status,
                "waits": [_document(each) for each in waits],
                "signals": [
                    {
                        "name": each.name,
                        "key": each.key,
                        "value": each.value,
                        "sent_at": each.sent_at.isoformat(),
                        "consumed_at": None if each.consumed_at is None else each.consumed_at.isoformat(),
                        "consumed_by": each.consumed_by,
                    }
                    for each in sent
                ],
            }
        )
    lines = [f"session {plain(summary.session_id)} is {summary.status}"]
    lines += ["", "waits for", lines_of(waits)] if waits else ["it waits for no signal"]
    if sent:
        lines += ["", "was sent", *(_sent_line(each) for each in sent)]
    return put("\n".join([*lines, ""]))


def lines_of(waits: Sequence[StoredWait]) -> str:
    return "\n".join(f"  {plain(each.name)}  {_shortened(each.wanted)}{_notes(each)}" for each in waits)


def _notes(wait: StoredWait) -> str:
    notes = {
        f"session {plain(wait.session_id)}": True,
        "" if wait.until is None else f"until {local(wait.until)}": wait.until is not None,
        "a secret, to be given as @FILE or env:NAME": wait.is_secret,
        "answered, and not heard yet": wait.is_answered,
    }
    return f"  ({', '.join(note for note, is_so in notes.items() if is_so)})"


def _sent_line(signal: StoredSignal) -> str:
    heard = "not heard yet" if signal.consumed_at is None else f"heard {local(signal.consumed_at)}"
    return f"  {plain(signal.name)}  {_shortened(json.dumps(signal.value))}  (sent {local(signal.sent_at)}, {heard})"


def _shortened(text: str) -> str:
    return plain(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def _document(wait: StoredWait) -> dict[str, object]:
    return {
        "session_id": wait.session_id,
        "name": wait.name,
        "call": wait.call,
        "begun_at": wait.begun_at.isoformat(),
        "until": None if wait.until is None else wait.until.isoformat(),
        "schema": wait.schema,
        "is_secret": wait.is_secret,
        "is_answered": wait.is_answered,
    }
