"""What a worker tells of its sessions: plain data without secrets, which every engine can carry.

`Feed` is filled on the worker. `read` is called where the session was sent from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from railtracks._records.data import CallError, CallRecord, Status
from railtracks._records.events import CallEvent, EventKind
from railtracks._records.json_values import JsonValues, writable
from railtracks._records.known_secrets import SEEN_AT_ONCE
from railtracks._records.remote_calls import RemoteEnd, RemoteStart
from railtracks._records.slices import Pauses
from railtracks._records.tree import CallTree

# Characters of JSON that an argument or a result may take on its way; a longer one goes as its beginning.
VALUE_LIMIT: Final = 64_000
# How many records are held back at most, and for how many seconds.
AT_ONCE: Final = 50
SECONDS: Final = 0.05

_STARTED: Final = "started"
_ENDED: Final = "ended"

# A start or an end of a call.
Line = list[Any]


class Feed:
    """The records of one session's calls, in the order in which they are to arrive.

    Args:
        send: Sends some records; called with the number of the first of them, counted from 0, and with the records.
    """

    def __init__(self, send: Callable[[int, list[Line]], object]) -> None:
        self._send = send
        self._held: list[Line] = []
        self._sent = 0

    @property
    def count(self) -> int:
        """How many records there were until now."""
        return self._sent + len(self._held)

    def add(self, event: CallEvent) -> None:
        """Take up that a call has started or ended."""
        record = event.record()
        # What is a secret in one value may stand in another, or in an error.
        event.tree.secrets.see_all(event.tree.values_of([record.id]), SEEN_AT_ONCE)
        line = _started(record, event.tree) if event.kind is EventKind.CALL_STARTED else _ended(record, event.tree)
        self._held.append(line)
        if len(self._held) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send what is held back."""
        if self._held:
            self._send(*self.rest())

    def rest(self) -> tuple[int, list[Line]]:
        """Take what is held back: the number of the first record, and the records."""
        held, self._held = self._held, []
        first, self._sent = self._sent, self._sent + len(held)
        return first, held


def _values(tree: CallTree) -> JsonValues:
    return JsonValues(tree.secrets.scrubber, VALUE_LIMIT, Pauses())


def _started(record: CallRecord, tree: CallTree) -> Line:
    values = _values(tree)
    names = tree.argument_names(record.id, len(record.args))
    args = ", ".join(values.value(value, name) for value, name in zip(record.args, names, strict=True))
    pairs = (
        f"{json.dumps(writable(name))}: {values.value(value, tree.keyword_name(record.id, name))}"
        for name, value in record.kwargs.items()
    )
    at = record.started_at.timestamp()
    node = writable(record.node)
    return [
        _STARTED,
        record.id,
        record.parent_id or 0,
        node,
        record.attempt,
        at,
        f"[{args}]",
        f"{{{', '.join(pairs)}}}",
    ]


def _ended(record: CallRecord, tree: CallTree) -> Line:
    values = _values(tree)
    error = record.error
    told = None
    if error is not None:
        told = [error.type, values.free_text(error.message), values.free_text(error.traceback)]
    ended_at = record.ended_at or record.started_at
    return [_ENDED, record.id, str(record.status), ended_at.timestamp(), values.value(record.result), told]


def read(lines: Iterable[Line]) -> Iterator[RemoteStart | RemoteEnd]:
    """Return the records that a worker has sent."""
    for kind, *parts in lines:
        if kind == _STARTED:
            call_id, parent_id, node, attempt, at, args, kwargs = parts
            yield RemoteStart(call_id, parent_id, node, attempt, at, tuple(json.loads(args)), json.loads(kwargs))
        else:
            call_id, status, at, result, error = parts
            told = None if error is None else CallError(*error)
            yield RemoteEnd(call_id, Status(status), at, json.loads(result), told)
