"""A session as plain data, and back: what is written of values that JSON has no word for, and what is left out.

The one room that knows cattrs and the shape of the file. It runs in a thread of its own beside users' tasks, works a
call at a time so that nothing has to be held whole, and never lets a value cost more than itself.
"""

# Users' values pass through here: isinstance says what holds them, and nothing says what is in them.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import base64
import json
import math
import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from itertools import chain
from pathlib import Path, PurePath
from time import monotonic, sleep
from typing import Any, Final, TypeVar, get_args
from uuid import UUID

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError

from railtracks._records.data import CallError, CallRecord, CauseKind, EndCause, ExecutionInfo, Status
from railtracks._records.secrets import (
    CUT,
    REDACTED,
    Scrubber,
    field_names,
    is_secret,
    key_name,
    known_secrets,
    named_items,
)
from railtracks._records.tree import CallTree
from railtracks.exceptions import StateError

T = TypeVar("T")

SCHEMA: Final = 1

# Seconds. Shorter turns would let a busy event loop keep the saving thread waiting.
_TURN = 0.002

# Deeper values are no data that anyone reads, and end the recursion of readers.
_DEEPEST = 100
_LONGEST_REPR = 1_000
# What Python writes and reads in decimal under every setting of sys.set_int_max_str_digits.
_LARGEST_INT = 10**sys.int_info.str_digits_check_threshold

# One encoder for all calls: json.dumps would make one for each.
_encode = json.JSONEncoder(allow_nan=False).encode

_LEAVES: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (datetime | date | time, lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    (PurePath | UUID | Decimal, str),
)


def chunks(head: ExecutionInfo, tree: CallTree, context: Mapping[str, Any]) -> Iterator[str]:
    """Write a session as JSON, a piece a call, so that no piece keeps other threads waiting long.

    Args:
        head: The session, without its calls.
        tree: The calls.
        context: The context, whose values are not written but say what is secret.
    """
    plain = _Plain(Scrubber(known_secrets(_gently(chain(context.items(), tree.named_values())))))
    yield f'{_encode(_head_document(head, plain))[:-1]}, "calls": ['
    separator = "\n"
    for call in _gently(tree.records()):
        yield separator + _encode(_call_document(call, tree.argument_names(call.id), plain))
        separator = ",\n"
    yield "\n]}\n"


def _gently(items: Iterable[T]) -> Iterator[T]:
    """Let other threads run in between: of itself Python does so every 5 ms only, and an event loop asks many times."""
    due = monotonic() + _TURN
    for item in items:
        if monotonic() > due:
            sleep(0)
            due = monotonic() + _TURN
        yield item


def payload(head: ExecutionInfo, tree: CallTree, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same as one value: what a reader of the file would get."""
    document: dict[str, Any] = json.loads("".join(chunks(head, tree, context)))
    return document


def safe_text(text: str, tree: CallTree, context: Mapping[str, Any], item: Any) -> str:
    """Return free text without the secrets of a session, nor those of an item that it is about."""
    values = chain(context.items(), tree.named_values(), [(None, item)])
    return _writable(Scrubber(known_secrets(values)).text(text))


def _head_document(head: ExecutionInfo, plain: _Plain) -> dict[str, Any]:
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


def _cause_document(cause: EndCause | None, plain: _Plain) -> dict[str, Any] | None:
    if cause is None:
        return None
    reason = None if cause.reason is None else plain.text(cause.reason)
    return {"kind": cause.kind, "reason": reason, "call_id": cause.call_id}


def _call_document(call: CallRecord, names: Sequence[str | None], plain: _Plain) -> dict[str, Any]:
    return {
        "id": call.id,
        "parent_id": call.parent_id,
        "node": _writable(call.node),
        "status": call.status,
        "attempt": call.attempt,
        "started_at": _moment(call.started_at),
        "ended_at": _moment(call.ended_at),
        "args": [plain.value(value, name) for value, name in zip(call.args, names, strict=True)],
        "kwargs": {_writable(name): plain.value(value, name) for name, value in call.kwargs.items()},
        "result": plain.value(call.result),
        "error": plain.error(call.error),
    }


def _optional(text: str | None) -> str | None:
    return None if text is None else _writable(text)


def _writable(text: str) -> str:
    """Return a text that strict JSON has a place for: without lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


class _Plain:
    """Turns values into what strict JSON can say, without the secrets in them."""

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

    def value(self, value: Any, name: str | None = None) -> Any:
        """Return the plain form of a value that is kept under a name."""
        if value is None or value is True or value is False:
            return value
        try:
            return REDACTED if is_secret(name, value) else self._form(value, name)
        except Exception:  # noqa: BLE001 - users' code, whose failure costs its own value only
            return self._unserializable(value)

    def _form(self, value: Any, name: str | None) -> Any:
        if isinstance(value, Enum):
            return self.value(value.value, name)
        if isinstance(value, str):
            text = self._scrubber.exact(str(value))
            # A lone surrogate has no place in strict JSON: this raises.
            text.encode()
            return text
        if isinstance(value, int | float):
            return self._number(value)
        if isinstance(value, bytes | bytearray):
            is_clean = self._is_clean(value.decode("utf-8", "replace"))
            return {"$bytes": base64.b64encode(value).decode("ascii")} if is_clean else REDACTED
        for kind, plain_form in _LEAVES:
            if isinstance(value, kind):
                return self.value(plain_form(value))
        is_container = isinstance(value, _CONTAINERS) or field_names(value)
        return self._container(value) if is_container else self._unserializable(value)

    def _number(self, value: Any) -> Any:
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": _NOT_FINITE[str(float(value))]}
        if not -_LARGEST_INT < value < _LARGEST_INT:
            return self._unserializable(value)
        return int(value) if self._is_clean(str(int(value))) else REDACTED

    def _is_clean(self, text: str) -> bool:
        return self._scrubber.exact(text) == text

    def _container(self, value: Any) -> Any:
        if id(value) in self._open or len(self._open) >= _DEEPEST:
            return self._unserializable(value)
        self._open.add(id(value))
        try:
            if isinstance(value, dict | Mapping):
                return self._mapping(value)
            items = [(name, self.value(item, name)) for name, item in named_items(value)]
        finally:
            self._open.discard(id(value))
        if isinstance(value, list | tuple):
            return [item for _, item in items]
        if isinstance(value, set | frozenset):
            return {"$set": [item for _, item in items]}
        return dict(items)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        items = [(key, self.value(key), self.value(item, key_name(key))) for key, item in list(value.items())]
        words = {
            plain
            for key, plain, _ in items
            if isinstance(key, str) and isinstance(plain, str) and not plain.startswith("$")
        }
        if len(words) == len(items):
            return {plain: item for _, plain, item in items}
        # JSON's keys are strings, and the ones with a dollar are ours: pairs keep every key what it is.
        return {"$dict": [[plain, item] for _, plain, item in items]}

    def _unserializable(self, value: Any) -> dict[str, Any]:
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


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - users' code, whose failure costs its own value only
        return f"<no repr: {type(error).__name__}>"
    return text if len(text) <= _LONGEST_REPR else f"{text[:_LONGEST_REPR]}{CUT}"
