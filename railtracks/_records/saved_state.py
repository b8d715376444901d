"""A session written as JSON, without its secrets.

Called at the end of a session, and by `Session.payload`. Saving runs in a thread of its own beside users' tasks. It
writes one call after another, so the text of the whole session is never in memory. `json_values` writes the values of
users: one that cannot be written, or is too long, is left out alone, and the rest is saved.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Final

from railtracks._checks import is_dict
from railtracks._options import VALUE_LIMIT
from railtracks._records.data import SCHEMA, CallError, CallRecord, EndCause, ExecutionInfo, RemoteOrigin
from railtracks._records.json_values import JsonValues, writable
from railtracks._records.scrubbing import CUT
from railtracks._records.slices import Pauses, slices
from railtracks._records.tree import CallTree

# Bytes: all that stands before the calls, and the marks that begin them. Who lists files reads no more of each.
HEAD: Final = 2**16
BEFORE_CALLS: Final = ', "calls": ['
# What stands behind the calls in a file whose head would be too long, and how much JSON each text in the head may take
# then. There are seven of them, beside an identifier.
_MOVED: Final = ("context_keys", "left_behind")
_LONGEST_TEXT: Final = 7_000

# One encoder for all calls. `json.dumps` would make a new one for each.
_encode = json.JSONEncoder(allow_nan=False).encode


def beginning_of(session_id: str) -> str:
    """Return what each saved state of a session begins with."""
    return f"{_encode({'schema': SCHEMA, 'session_id': session_id})[:-1]}, "


def chunks(
    head: ExecutionInfo,
    tree: CallTree,
    context: Mapping[str, object],
    limit: float = VALUE_LIMIT,
    cut: Callable[[str], object] = str,
) -> Iterator[str]:
    """Return a session as JSON, in pieces that keep no other thread waiting for long.

    Args:
        head: The session, without its calls.
        tree: The calls.
        context: The context. Its values are not written, but secrets among them are kept out of all other values.
        limit: How many characters of JSON an argument or a result may take; a longer one is cut.
        cut: Is called with a text about the values that were cut, if there were any.
    """
    texts = _texts(head, tree, context, limit, cut)
    yield from slices(f"{next(texts)[:-1]}{BEFORE_CALLS}")
    rest = next(texts)
    separator = "\n"
    for text in texts:
        yield separator
        yield from slices(text)
        separator = ",\n"
    yield "\n]"
    yield from slices(rest)
    yield "}\n"


def _texts(
    head: ExecutionInfo,
    tree: CallTree,
    context: Mapping[str, object],
    limit: float,
    cut: Callable[[str], object],
) -> Iterator[str]:
    """Return the JSON of a session without its calls, what stands behind these, and then the JSON of each call."""
    pauses = Pauses()
    # First of all: a text that is written early may quote a secret that stands in a later value.
    tree.secrets.see_all(pauses.between(chain(context.items(), tree.named_values())), limit)
    values = JsonValues(tree.secrets.scrubber, limit, pauses)
    yield from _head_texts(_head_document(head, values))
    first: CallRecord | None = None
    for call in pauses.between(tree.records()):
        yield _call_text(call, tree, values)
        if values.cut and first is None:
            first = call
    if first is not None:
        cut(_cut_text(values.cut, first, limit))


def payload(
    head: ExecutionInfo,
    tree: CallTree,
    context: Mapping[str, object],
    limit: float = VALUE_LIMIT,
    cut: Callable[[str], object] = str,
) -> dict[str, object]:
    """Return the saved state as one value, which a reader of the file would get."""
    texts = _texts(head, tree, context, limit, cut)
    document: dict[str, object] = json.loads(f"{next(texts)[:-1]}{next(texts)}}}")
    document["calls"] = [json.loads(text) for text in texts]
    return document


def safe_text(text: str, tree: CallTree, context: Mapping[str, object], item: object, limit: float) -> str:
    """Return free text without the secrets of a session and without those of the item that the text is about."""
    tree.secrets.see_all(chain(context.items(), tree.named_values(), [(None, item)]), limit)
    return writable(tree.secrets.text(text))


def _head_document(head: ExecutionInfo, values: JsonValues) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "session_id": head.session_id,
        "session_name": _optional(head.session_name),
        "flow_name": _optional(head.flow_name),
        "flow_id": _optional(head.flow_id),
        "status": head.status,
        "started_at": _moment(head.started_at),
        "ended_at": _moment(head.ended_at),
        "timeout": head.timeout,
        "error": _error_document(head.error, values),
        "cause": _cause_document(head.cause, values),
        "context_keys": [writable(key) for key in head.context_keys],
        "left_behind": [writable(name) for name in head.left_behind],
        "dropped_calls": head.dropped_calls,
    }


def _head_texts(document: dict[str, object]) -> tuple[str, str]:
    """Return the JSON of a head that is not too long, and what stands behind the calls instead."""
    text = _encode(document)
    if len(text) + len(BEFORE_CALLS) <= HEAD:
        return text, ""
    rest = {name: document.pop(name) for name in _MOVED}
    return _encode(_shortened(document)), f", {_encode(rest)[1:-1]}"


def _shortened(document: Mapping[str, object]) -> dict[str, object]:
    """Return a document with the beginnings of its long texts; of a traceback the end, which tells what was raised."""
    return {
        name: _shortened({str(part): text for part, text in value.items()}) if is_dict(value) else _short(name, value)
        for name, value in document.items()
    }


def _short(name: str, text: object) -> object:
    if not isinstance(text, str) or len(_encode(text)) <= _LONGEST_TEXT:
        return text
    longest, is_end = _LONGEST_TEXT, name == "traceback"
    while len(_encode(part := text[-longest:] if is_end else text[:longest])) > _LONGEST_TEXT - len(CUT):
        longest = longest * 3 // 4
    return f"{CUT}{part}" if is_end else f"{part}{CUT}"


def _cause_document(cause: EndCause | None, values: JsonValues) -> dict[str, object] | None:
    if cause is None:
        return None
    reason = None if cause.reason is None else values.free_text(cause.reason)
    return {"kind": cause.kind, "reason": reason, "call_id": cause.call_id}


def _call_text(call: CallRecord, tree: CallTree, values: JsonValues) -> str:
    names = tree.argument_names(call.id, len(call.args))
    document = _encode(
        {
            "id": call.id,
            "parent_id": call.parent_id,
            "node": writable(call.node),
            "status": call.status,
            "attempt": call.attempt,
            "started_at": _moment(call.started_at),
            "ended_at": _moment(call.ended_at),
            **({"replayed": True} if call.is_replayed else {}),
            **({} if call.remote is None else {"remote": _remote_document(call.remote)}),
        }
    )
    args = ", ".join([values.value(value, name) for value, name in zip(call.args, names, strict=True)])
    kwargs = ", ".join(
        [
            f"{_encode(writable(name))}: {values.value(value, tree.keyword_name(call.id, name))}"
            for name, value in call.kwargs.items()
        ]
    )
    return (
        f'{document[:-1]}, "args": [{args}], "kwargs": {{{kwargs}}}, "result": {values.value(call.result)}'
        f', "error": {_encode(_error_document(call.error, values))}}}'
    )


def _remote_document(remote: RemoteOrigin) -> dict[str, object]:
    return {
        "session_id": writable(remote.session_id),
        "worker": writable(remote.worker),
        "call_id": remote.call_id,
        "started_at": _moment(remote.started_at),
        "ended_at": _moment(remote.ended_at),
        "missing": remote.missing,
    }


def _error_document(error: CallError | None, values: JsonValues) -> dict[str, str] | None:
    if error is None:
        return None
    message, traceback = values.free_text(error.message), values.free_text(error.traceback)
    return {"type": error.type, "message": message, "traceback": traceback}


def _cut_text(count: int, first: CallRecord, limit: float) -> str:
    was = "argument or result is" if count == 1 else "arguments and results are"
    return (
        f"{count} {was} longer than {limit:,.0f} characters of JSON, and only the beginning is saved; the first is of"
        f" call {first.id} of {first.node!r}. The option value_limit sets the limit"
    )


def _optional(text: str | None) -> str | None:
    return None if text is None else writable(text)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
