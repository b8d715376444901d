"""A session as plain data, and back: what is written of values that JSON has no word for, and what is left out.

The one room that knows cattrs and the shape of the file. It runs in a thread of its own beside users' tasks, works a call
at a time so that nothing has to be held whole, and never lets a value cost more than itself.
"""

from __future__ import annotations

import base64
import json
import math
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Final
from uuid import UUID

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError

from railtracks._redact import REDACTED, Scrubber, field_names, is_secret, known_secrets, named_items
from railtracks._tree import Call, CallError, ExecutionInfo, utc
from railtracks.exceptions import StateError

SCHEMA: Final = 1

# Deeper values are no data that anyone reads, and end the recursion of readers.
_DEEPEST = 100
_LONGEST_REPR = 1_000
# Python refuses to write or read longer integers in decimal (sys.set_int_max_str_digits).
_LARGEST_INT = 10**4000

_LEAVES: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (bytes | bytearray, lambda value: {"$bytes": base64.b64encode(value).decode("ascii")}),
    (datetime | date | time, lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    (PurePath | UUID | Decimal, str),
)


def chunks(head: ExecutionInfo, calls: Sequence[Call], context: Mapping[str, Any]) -> Iterator[str]:
    """Write a session as JSON, a piece a call, so that no piece keeps other threads waiting long.

    Args:
        head: The session, without its calls.
        calls: The calls.
        context: The context, whose values are not written but say what is secret.
    """
    plain = _Plain(Scrubber(known_secrets(_everything(calls, context))))
    yield f"{json.dumps(_head_document(head, plain), allow_nan=False)[:-1]}, \"calls\": ["
    separator = "\n"
    for call in calls:
        yield separator + json.dumps(_call_document(call, plain), allow_nan=False)
        separator = ",\n"
    yield "\n]}\n"


def payload(head: ExecutionInfo, calls: Sequence[Call], context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same as one value: what a reader of the file would get."""
    document: dict[str, Any] = json.loads("".join(chunks(head, calls, context)))
    return document


def safe_text(text: str, *values: tuple[str | None, Any]) -> str:
    """Return free text without the secrets that some named values hold."""
    return Scrubber(known_secrets(values)).text(text)


def _everything(calls: Sequence[Call], context: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
    yield from context.items()
    for call in calls:
        yield from call.named_values()


def _head_document(head: ExecutionInfo, plain: _Plain) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "session_id": head.session_id,
        "session_name": head.session_name,
        "flow_name": head.flow_name,
        "flow_id": head.flow_id,
        "status": head.status,
        "started_at": _moment(head.started_at),
        "ended_at": _moment(head.ended_at),
        "timeout": head.timeout,
        "error": plain.error(head.error),
        "context_keys": list(head.context_keys),
    }


def _call_document(call: Call, plain: _Plain) -> dict[str, Any]:
    names = call.node.argument_names(len(call.args))
    return {
        "id": call.id,
        "parent_id": call.parent_id,
        "node": call.node.name,
        "status": call.status,
        "attempt": call.attempt,
        "started_at": _moment(utc(call.started_at)),
        "ended_at": None if call.ended_at is None else _moment(utc(call.ended_at)),
        "args": [plain.value(value, name) for value, name in zip(call.args, names, strict=True)],
        "kwargs": {name: plain.value(value, name) for name, value in call.kwargs.items()},
        "result": plain.value(call.result),
        "error": plain.error(call.error),
    }


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
        text = self._scrubber.text
        return {"type": error.type, "message": text(error.message), "traceback": text(error.traceback)}

    def value(self, value: Any, name: str | None = None) -> Any:
        """Return the plain form of a value that is kept under a name."""
        if value is None or value is True or value is False:
            return value
        if is_secret(name, value):
            return REDACTED
        if isinstance(value, Enum):
            return self.value(value.value, name)
        if isinstance(value, str):
            return self._scrubber.exact(str(value))
        if isinstance(value, int) and -_LARGEST_INT < value < _LARGEST_INT:
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": _NOT_FINITE[str(float(value))]}
        for kind, plain_form in _LEAVES:
            if isinstance(value, kind):
                return plain_form(value)
        if isinstance(value, _CONTAINERS) or field_names(type(value)):
            return self._container(value)
        return self._unserializable(value)

    def _container(self, value: Any) -> Any:
        if id(value) in self._open or len(self._open) >= _DEEPEST:
            return self._unserializable(value)
        self._open.add(id(value))
        try:
            if isinstance(value, dict):
                return self._dict(value)
            items = named_items(value)
            if isinstance(value, list | tuple):
                return [self.value(item) for _, item in items]
            if isinstance(value, set | frozenset):
                return {"$set": [self.value(item) for _, item in items]}
            return {name: self.value(item, name) for name, item in items}
        finally:
            self._open.discard(id(value))

    def _dict(self, value: dict[Any, Any]) -> Any:
        items = list(value.items())
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
            return {self.value(str(key)): self.value(item, str(key)) for key, item in items}
        # JSON's keys are strings, and the ones with a dollar are ours: pairs keep every key what it is.
        return {"$dict": [[self.value(key), self.value(item, key if isinstance(key, str) else None)] for key, item in items]}

    def _unserializable(self, value: Any) -> dict[str, Any]:
        if id(value) in self._open:
            text = "<contains itself>"
        elif len(self._open) >= _DEEPEST:
            text = f"<more than {_DEEPEST} levels deep>"
        else:
            text = _repr(value)
        kind = type(value)
        return {"$unserializable": {"type": f"{kind.__module__}.{kind.__qualname__}", "repr": self._scrubber.text(text)}}


_CONTAINERS: Final = (dict, list, tuple, set, frozenset)
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - users' code, whose failure costs its own value only
        return f"<no repr: {type(error).__name__}>"
    return text if len(text) <= _LONGEST_REPR else f"{text[:_LONGEST_REPR]}..."


def _exactly(kind: type[Any], value: Any, _: Any) -> Any:
    """Take a value of JSON's own types as it is, and no other in its place."""
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def _moment_from(value: Any, _: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return moment


def _tuple_of(kind: Any, value: Any, _: Any) -> tuple[Any, ...]:
    items = _exactly(list, value, _)
    return tuple(items if kind is Any else (_exactly(kind, item, _) for item in items))


_converter = Converter()
for _kind in (int, float, str):
    _converter.register_structure_hook_func(partial(operator.is_, _kind), partial(_exactly, _kind))
_converter.register_structure_hook(datetime, _moment_from)
_converter.register_structure_hook_func(lambda kind: kind == dict[str, Any], partial(_exactly, dict))
_converter.register_structure_hook_func(lambda kind: kind == tuple[Any, ...], partial(_tuple_of, Any))
_converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], partial(_tuple_of, str))


def load_state(path: str | os.PathLike[str]) -> ExecutionInfo:
    """Read a saved state.

    Values come back as JSON says them: tuples as lists, times as text, and what had no JSON form tagged, as the schema
    in `railtracks/state.schema.json` tells.

    Args:
        path: The file.

    Raises:
        StateError: If it cannot be read, or is no saved state; names the file and the place in it.
    """
    try:
        document = json.loads(Path(path).read_bytes(), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise StateError(str(path), f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise StateError(str(path), "$", str(error)) from error
    if not isinstance(document, dict):
        raise StateError(str(path), "$", f"expected an object, not {type(document).__name__}")
    if document.get("schema") != SCHEMA:
        raise StateError(str(path), "$.schema", f"expected schema {SCHEMA}, not {document.get('schema')!r}")
    try:
        info = _converter.structure(document, ExecutionInfo)
    except BaseValidationError as error:
        problem, _, place = transform_error(error)[0].partition(" @ ")
        raise StateError(str(path), place, problem) from error
    for place, call in enumerate(info.calls):
        if call.id != place + 1:
            raise StateError(str(path), f"$.calls[{place}].id", f"expected {place + 1}, the call's place")
        if call.parent_id is not None and not 0 < call.parent_id < call.id:
            raise StateError(str(path), f"$.calls[{place}].parent_id", f"there is no earlier call {call.parent_id}")
    return info


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
