"""Events as lines of JSON, without the secrets that the session has seen by then.

Called by the recorder of events, in the thread that runs Trio and in the middle of a call: so what is written of a
value, and how far it is looked at, is little.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from railtracks._records.data import CallError, EndCause, ExecutionInfo, Status, utc
from railtracks._records.events import BroadcastEvent, CallEvent, EventKind, SessionEvent
from railtracks._records.json_values import JsonValues, writable
from railtracks._records.known_secrets import SEEN_AT_ONCE
from railtracks._records.process_identity import Identity
from railtracks._records.scrubbing import CUT
from railtracks._records.secrets import Named
from railtracks._records.seen_values import SeenValues
from railtracks._records.slices import NoPauses
from railtracks._records.tree import CallTree
from railtracks._records.value_texts import Looks

# The number of the format of these files.
EVENT_SCHEMA: Final = 1
# Bytes, with the newline.
LONGEST_LINE: Final = 2**16
# Characters: of the JSON of a value, of a text such as the message of an error, and of the name of a node.
_LONGEST_VALUE: Final = 2_000
_LONGEST_TEXT: Final = 2_000
_LONGEST_NAME: Final = 500
# Characters of the JSON of such a text.
_LONGEST_JSON: Final = 12_000
# Characters of all values of a line together. What else is in a line is far below what is left.
_LONGEST_VALUES: Final = 40_000
# How many parts an object may hold whose repr is made.
_MOST_PARTS: Final = 1_000

_PAUSES: Final = NoPauses()
_encode: Final = json.JSONEncoder(allow_nan=False).encode
_FAILED: Final = frozenset({EventKind.CALL_FAILED, EventKind.CALL_RETRIED})


def head_line(
    head: ExecutionInfo,
    identity: Identity,
    parent: tuple[str | None, int | None],
    began_at: datetime,
    *,
    segment: int,
    first_seq: int,
) -> bytes:
    """Return the first line of a file.

    Args:
        head: The session, without its calls.
        identity: The process that writes.
        parent: The session and the call that the session was opened in.
        began_at: When this run of the session began; a durable session may have had others before.
        segment: The number of the file among those of this run, from 1.
        first_seq: The number of the first event in the file.
    """
    parent_session_id, parent_call_id = parent
    document = {
        "schema": EVENT_SCHEMA,
        "session_id": head.session_id,
        "session_name": _optional(head.session_name),
        "flow_name": _optional(head.flow_name),
        "flow_id": _optional(head.flow_id),
        "started_at": None if head.started_at is None else head.started_at.isoformat(),
        "run_began_at": began_at.isoformat(),
        "timeout": head.timeout,
        "parent_session_id": parent_session_id,
        "parent_call_id": parent_call_id,
        **identity,
        "segment": segment,
        "first_seq": first_seq,
    }
    return f"{_encode(document)}\n".encode()


class EventLines:
    """Writes the events of one session as lines.

    Args:
        tree: The calls of the session.
        has_values: Whether arguments, results and the texts of errors are written.
    """

    def __init__(self, tree: CallTree, *, has_values: bool) -> None:
        self._tree = tree
        self._has_values = has_values
        self._seen = SeenValues(tree)

    def call_line(self, seq: int, event: CallEvent) -> bytes:
        """Return the line of an event of a call."""
        at = utc(event.at).isoformat()
        start = (
            f'{{"seq": {seq}, "at": "{at}", "kind": "{event.kind.value}", "call": {event.call_id},'
            f' "parent": {event.parent_id or "null"}, "attempt": {event.attempt}, "status": "{event.status.value}",'
            f' "node": {_encode(_name(event.node))}'
        )
        return f"{start}{''.join(self._rest_of(event))}}}\n".encode()

    def _rest_of(self, event: CallEvent) -> Iterator[str]:
        """Return what a line says of the values of a call."""
        if event.kind in _FAILED:
            error = event.record().error
            assert error is not None  # noqa: S101 - the call failed
            yield f', "error": {_encode(self._error(error))}'
        elif not self._has_values:
            return
        elif event.kind is EventKind.CALL_STARTED:
            tree, call_id, record = self._tree, event.call_id, event.record()
            if not record.args and not record.kwargs:
                return
            values = self._values(tree.values_of([call_id]))
            names = tree.argument_names(call_id, len(record.args))
            left = _Left()
            args = left.within(len(record.args), map(values.value, record.args, names))
            pairs = (
                f"{_encode(_name(name))}: {values.value(value, tree.keyword_name(call_id, name))}"
                for name, value in record.kwargs.items()
            )
            kwargs = left.within(len(record.kwargs), pairs, is_object=True)
            yield f', "args": [{args}], "kwargs": {{{kwargs}}}'
        elif event.kind is EventKind.CALL_COMPLETED:
            result = event.record().result
            if result is not None:
                yield f', "result": {self._values([(None, result)]).value(result)}'

    def _values(self, named: Iterable[Named]) -> JsonValues:
        """Return what writes these values, after a look for secrets in them."""
        secrets = self._tree.secrets
        secrets.see_all(named, SEEN_AT_ONCE)
        return JsonValues(secrets.scrubber, _LONGEST_VALUE, _PAUSES, Looks(_MOST_PARTS))

    def broadcast_line(self, seq: int, event: BroadcastEvent) -> bytes:
        """Return the line of something that was broadcast."""
        document = {"seq": seq, "at": utc(event.at).isoformat(), "kind": event.kind}
        if not self._has_values:
            return f"{_encode(document)}\n".encode()
        item = self._values([(None, event.item)]).value(event.item)
        return f'{_encode(document)[:-1]}, "item": {item}}}\n'.encode()

    def session_line(self, seq: int, event: SessionEvent, head: ExecutionInfo) -> bytes:
        """Return the line of the beginning or the end of the session.

        Args:
            seq: The number of the event.
            event: The event.
            head: The session, without its calls.
        """
        is_end = event.kind is EventKind.SESSION_CLOSED
        status = head.status if is_end else Status.RUNNING
        at = utc(event.at).isoformat()
        document: dict[str, object] = {"seq": seq, "at": at, "kind": event.kind, "status": status}
        if is_end:
            document |= {
                "ended_at": None if head.ended_at is None else head.ended_at.isoformat(),
                "error": None if head.error is None else self._error(head.error),
                "cause": None if head.cause is None else self._cause(head.cause),
                "calls": len(self._tree),
            }
        return f"{_encode(document)}\n".encode()

    def _error(self, error: CallError) -> dict[str, str]:
        told = {"type": _name(error.type), "message": "", "traceback": ""}
        if self._has_values:
            # An error may quote a value of another call.
            self._seen.see()
            told["message"] = self._text(error.message)
            told["traceback"] = self._text(error.traceback, is_end=True)
        return told

    def _text(self, text: str, *, is_end: bool = False) -> str:
        """Return the beginning of a text without secrets, or its end: that of a traceback tells what was raised."""
        clean = self._tree.secrets.text(text)
        # JSON spells what is not ASCII with up to twelve characters.
        longest = _LONGEST_TEXT if len(_encode(clean[:_LONGEST_TEXT])) <= _LONGEST_JSON else _LONGEST_JSON // 12
        if len(clean) <= longest:
            return writable(clean)
        return writable(f"{CUT}{clean[-longest:]}" if is_end else f"{clean[:longest]}{CUT}")

    def _cause(self, cause: EndCause) -> Mapping[str, object]:
        is_told = self._has_values and cause.reason is not None
        reason = self._text(cause.reason or "") if is_told else None
        return {"kind": cause.kind, "reason": reason, "call_id": cause.call_id}


class _Left:
    """How many characters the values of a line may still take."""

    def __init__(self) -> None:
        self._left = _LONGEST_VALUES

    def within(self, count: int, texts: Iterable[str], *, is_object: bool = False) -> str:
        """Return texts joined, as many as there is room for, and how many are left out.

        Args:
            count: How many texts there are.
            texts: The texts, each made when it is asked for.
            is_object: Whether they are the pairs of an object, and not the items of an array.
        """
        kept: list[str] = []
        for text in texts:
            self._left -= len(text) + 2
            if self._left < 0:
                omitted = f'"$omitted": {count - len(kept)}'
                kept.append(omitted if is_object else f"{{{omitted}}}")
                break
            kept.append(text)
        return ", ".join(kept)


def _name(text: str) -> str:
    return writable(text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}{CUT}")


def _optional(text: str | None) -> str | None:
    return None if text is None else _name(text)
