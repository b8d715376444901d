"""A saved state read back as an `ExecutionInfo`, and checked: a file is untrusted input.

Called by users as `rt.load_state`. One of the two rooms that know cattrs.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, get_type_hints

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError

from railtracks._checks import is_dict, is_list
from railtracks._records.data import CallRecord, CauseKind, ExecutionInfo, Status
from railtracks._records.saved_state import SCHEMA
from railtracks.exceptions import StateError

T = TypeVar("T")


def _exactly(kind: type[T], value: object, _: object) -> T:
    """Take a value of one of JSON's own types as it is, and refuse every other."""
    # A bool is an int, but JSON's `true` is no number.
    if type(value) is not kind or not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def _float_from(value: object, _: object) -> float:
    return value if type(value) is int else _exactly(float, value, _)


def _moment_from(value: str, _: object) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return moment


def _list_from(value: object) -> list[object]:
    if not is_list(value):
        raise TypeError(f"expected list, not {type(value).__name__}")
    return value


def _values_from(value: object, _: object) -> tuple[object, ...]:
    return tuple(_list_from(value))


def _texts_from(value: object, _: object) -> tuple[str, ...]:
    return tuple(_converter.structure(_list_from(value), list[str]))


def _calls_from(value: object, _: object) -> tuple[CallRecord, ...]:
    return tuple(_converter.structure(_list_from(value), list[CallRecord]))


_converter = Converter()
_converter.register_structure_hook(int, partial(_exactly, int))
_converter.register_structure_hook(str, partial(_exactly, str))
_converter.register_structure_hook(float, _float_from)
_converter.register_structure_hook(datetime, _moment_from)
_converter.register_structure_hook(Status, lambda value, _: Status(value))
_converter.register_structure_hook(CauseKind, lambda value, _: CauseKind(value))
_hooks_of_fields: Final[dict[str, Callable[[object, object], object]]] = {
    "args": _values_from,
    "kwargs": partial(_exactly, dict),
}
for _name, _hook in _hooks_of_fields.items():
    _converter.register_structure_hook_func(partial(operator.eq, get_type_hints(CallRecord)[_name]), _hook)
_converter.register_structure_hook_func(partial(operator.eq, tuple[str, ...]), _texts_from)
_converter.register_structure_hook_func(partial(operator.eq, tuple[CallRecord, ...]), _calls_from)


def load_state(path: str | os.PathLike[str]) -> ExecutionInfo:
    """Read a saved state; blocks until it is read.

    Values come back as JSON says them: tuples as lists, and times as text. What has no JSON form comes back as a tag,
    which the schema in `railtracks/state.schema.json` explains.

    Args:
        path: The file.

    Raises:
        StateError: If the file cannot be read, or is no saved state. It names the file and the place in it.
    """
    file = str(path)
    try:
        document: object = json.loads(Path(path).read_bytes(), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise StateError(file, f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(file, "$", str(error)) from error
    if not is_dict(document):
        raise StateError(file, "$", f"expected an object, not {type(document).__name__}")
    schema = document.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise StateError(file, "$.schema", f"expected schema {SCHEMA}, not {schema!r}")
    try:
        info = _converter.structure(document, ExecutionInfo)
    except BaseValidationError as error:
        problem, _, place = transform_error(error)[0].partition(" @ ")
        raise StateError(file, place, problem) from error
    _check_tree(file, info)
    return info


def _check_tree(file: str, info: ExecutionInfo) -> None:
    """Raise `StateError` unless the calls are numbered in their order and each follows its parent."""
    known: set[int | None] = {None}
    last = 0
    for index, call in enumerate(info.calls):
        # Where calls were dropped there are gaps, but a call's parent is not dropped before the call.
        if call.id != last + 1 and not (info.dropped_calls and call.id > last):
            raise StateError(file, f"$.calls[{index}].id", f"expected {last + 1}, the call's place")
        if call.parent_id not in known:
            raise StateError(file, f"$.calls[{index}].parent_id", f"there is no earlier call {call.parent_id}")
        last = call.id
        known.add(last)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
