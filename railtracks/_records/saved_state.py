"""A session written as JSON: the form of values that JSON has no word for, and what is left out.

Called at the end of a session, and by `Session.payload`. Saving runs in a thread of its own beside users' tasks. It
writes one call after another, so the text of the whole session is never in memory. A value that cannot be written is
left out alone, and the rest is saved.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import chain
from pathlib import PurePath
from time import monotonic, sleep
from typing import Final, TypeVar
from uuid import UUID

from railtracks._checks import exact, is_dict, is_mapping
from railtracks._records.data import CallError, CallRecord, EndCause, ExecutionInfo
from railtracks._records.scrubbing import CUT, REDACTED, Scrubber
from railtracks._records.secrets import field_names, is_secret, named_items
from railtracks._records.tree import CallTree

T = TypeVar("T")

SCHEMA: Final = 1

# Seconds of work between two pauses. With less of it a busy event loop would keep the saving thread waiting.
_SLICE: Final = 0.002

# A deeper value is not written: many readers of JSON fail at some depth.
_DEEPEST: Final = 100
_LONGEST_REPR: Final = 1_000
# Python writes and reads smaller numbers in decimal under every setting of sys.set_int_max_str_digits.
_LARGEST_INT: Final = 10**sys.int_info.str_digits_check_threshold

# One encoder for all calls. `json.dumps` would make a new one for each.
_encode = json.JSONEncoder(allow_nan=False).encode


def chunks(head: ExecutionInfo, tree: CallTree, context: Mapping[str, object]) -> Iterator[str]:
    """Return a session as JSON, one piece for each call, so that no piece keeps other threads waiting for long.

    Args:
        head: The session, without its calls.
        tree: The calls.
        context: The context. Its values are not written, but secrets among them are kept out of all other values.
    """
    # First of all: a text that is written early may quote a secret that stands in a later value.
    tree.secrets.see_all(_gently(chain(context.items(), tree.named_values())))
    plain = _Plain(tree.secrets.scrubber)
    yield f'{_encode(_head_document(head, plain))[:-1]}, "calls": ['
    separator = "\n"
    for call in _gently(tree.records()):
        yield separator + _encode(_call_document(call, tree, plain))
        separator = ",\n"
    yield "\n]}\n"


def _gently(items: Iterable[T]) -> Iterator[T]:
    """Return the items, and let other threads run in between.

    Python itself switches threads only every 5 ms, and an event loop has to wait for that at each of its steps.
    """
    due = monotonic() + _SLICE
    for item in items:
        if monotonic() > due:
            sleep(0)
            due = monotonic() + _SLICE
        yield item


def payload(head: ExecutionInfo, tree: CallTree, context: Mapping[str, object]) -> dict[str, object]:
    """Return the saved state as one value, which a reader of the file would get."""
    document: dict[str, object] = json.loads("".join(chunks(head, tree, context)))
    return document


def safe_text(text: str, tree: CallTree, context: Mapping[str, object], item: object) -> str:
    """Return free text without the secrets of a session and without those of the item that the text is about."""
    tree.secrets.see_all(chain(context.items(), tree.named_values(), [(None, item)]))
    return _writable(tree.secrets.text(text))


def _head_document(head: ExecutionInfo, plain: _Plain) -> dict[str, object]:
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
        "error": plain.error(head.error),
        "cause": _cause_document(head.cause, plain),
        "context_keys": [_writable(key) for key in head.context_keys],
        "left_behind": [_writable(name) for name in head.left_behind],
        "dropped_calls": head.dropped_calls,
    }


def _cause_document(cause: EndCause | None, plain: _Plain) -> dict[str, object] | None:
    if cause is None:
        return None
    reason = None if cause.reason is None else plain.text(cause.reason)
    return {"kind": cause.kind, "reason": reason, "call_id": cause.call_id}


def _call_document(call: CallRecord, tree: CallTree, plain: _Plain) -> dict[str, object]:
    names = tree.argument_names(call.id)
    return {
        "id": call.id,
        "parent_id": call.parent_id,
        "node": _writable(call.node),
        "status": call.status,
        "attempt": call.attempt,
        "started_at": _moment(call.started_at),
        "ended_at": _moment(call.ended_at),
        "args": [plain.value(value, name) for value, name in zip(call.args, names, strict=True)],
        "kwargs": {
            _writable(name): plain.value(value, tree.keyword_name(call.id, name)) for name, value in call.kwargs.items()
        },
        "result": plain.value(call.result),
        "error": plain.error(call.error),
    }


def _optional(text: str | None) -> str | None:
    return None if text is None else _writable(text)


def _writable(text: str) -> str:
    """Return a text without lone surrogates, which strict JSON does not allow."""
    return exact(text).encode("utf-8", "backslashreplace").decode()


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


class _Plain:
    """The plain forms of values, for strict JSON, without the secrets in them."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._open: set[int] = set()

    def error(self, error: CallError | None) -> dict[str, str] | None:
        """Return an error with its texts scrubbed."""
        if error is None:
            return None
        return {"type": error.type, "message": self.text(error.message), "traceback": self.text(error.traceback)}

    def text(self, text: str) -> str:
        """Return free text without secrets."""
        return _writable(self._scrubber.text(text))

    def value(self, value: object, name: str | None = None) -> object:
        """Return the plain form of a value that is kept under a name."""
        if value is None or value is True or value is False:
            return value
        try:
            return REDACTED if is_secret(name, value) else self._form(value, name)
        except Exception:  # noqa: BLE001 - users' code, whose failure costs its own value only
            return self._unserializable(value)

    def _form(self, value: object, name: str | None) -> object:
        if isinstance(value, Enum):
            return self.value(value.value, name)
        if isinstance(value, str):
            text = self._scrubber.value(str(value))
            # This raises for a lone surrogate, which strict JSON does not allow.
            text.encode()
            return text
        if isinstance(value, int | float):
            return self._float(value) if isinstance(value, float) else self._int(value)
        if isinstance(value, bytes | bytearray):
            is_clean = self._is_clean(value.decode("utf-8", "replace"))
            return {"$bytes": base64.b64encode(value).decode("ascii")} if is_clean else REDACTED
        leaf = _leaf(value)
        if leaf is not None:
            return self.value(leaf)
        return self._container(value) if _is_container(value) else self._unserializable(value)

    def _float(self, value: float) -> object:
        return float(value) if math.isfinite(value) else {"$float": _NOT_FINITE[str(float(value))]}

    def _int(self, value: int) -> object:
        if not -_LARGEST_INT < value < _LARGEST_INT:
            return self._unserializable(value)
        return int(value) if self._is_clean(str(int(value))) else REDACTED

    def _is_clean(self, text: str) -> bool:
        return self._scrubber.exact(text) == text

    def _container(self, value: object) -> object:
        if id(value) in self._open or len(self._open) >= _DEEPEST:
            return self._unserializable(value)
        self._open.add(id(value))
        try:
            if is_dict(value) or is_mapping(value):
                return self._mapping(value)
            items = [(name, self.value(item, name)) for name, item in named_items(value)]
        finally:
            self._open.discard(id(value))
        if isinstance(value, list | tuple):
            return [item for _, item in items]
        if isinstance(value, set | frozenset):
            return {"$set": [item for _, item in items]}
        return dict(items)

    def _mapping(self, value: Mapping[object, object]) -> object:
        held = dict(value.items())
        items = [
            (key, self.value(key), self.value(item, name))
            for (key, item), (name, _) in zip(held.items(), named_items(held), strict=True)
        ]
        words = {
            plain
            for key, plain, _ in items
            if isinstance(key, str) and isinstance(plain, str) and not plain.startswith("$")
        }
        if len(words) == len(items):
            return {plain: item for _, plain, item in items}
        # JSON's keys are strings, and those that begin with a dollar are tags of this file: so these become pairs.
        return {"$dict": [[plain, item] for _, plain, item in items]}

    def _unserializable(self, value: object) -> dict[str, object]:
        if id(value) in self._open:
            text = "<contains itself>"
        elif len(self._open) >= _DEEPEST:
            text = f"<more than {_DEEPEST} levels deep>"
        else:
            text = _repr(value)
        kind = type(value)
        return {
            "$unserializable": {
                "type": self.text(f"{kind.__module__}.{kind.__qualname__}"),
                "repr": self.text(text),
            }
        }


_CONTAINERS: Final = (dict, list, tuple, set, frozenset, Mapping)
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _leaf(value: object) -> str | float | None:
    """Return the text of a time, a path, a UUID or a `Decimal`, the seconds of a duration, `None` for other values."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, PurePath | UUID | Decimal) else None


def _is_container(value: object) -> bool:
    return isinstance(value, _CONTAINERS) or bool(field_names(value))


def _repr(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - users' code, whose failure costs its own value only
        return f"<no repr: {type(error).__name__}>"
    return text if len(text) <= _LONGEST_REPR else f"{text[:_LONGEST_REPR]}{CUT}"
