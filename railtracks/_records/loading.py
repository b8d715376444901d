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
from typing import Any, Final, TypeVar, get_args

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError

from railtracks._checks import is_dict
from railtracks._records.data import CallRecord, CauseKind, ExecutionInfo, Status
from railtracks._records.saved_state import SCHEMA
from railtracks.exceptions import StateError

T = TypeVar("T")


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


def _tuple_from(value: Any, kind: Any) -> tuple[Any, ...]:
    item_kind = get_args(kind)[0]
    items = _exactly(list, value, kind)
    list_of: Any = list
    return tuple(items if item_kind is Any else _converter.structure(items, list_of[item_kind]))


_converter = Converter()
for _kind in (int, float, str):
    _converter.register_structure_hook(_kind, partial(_exactly, _kind))
_converter.register_structure_hook(datetime, _moment_from)
_converter.register_structure_hook(Status, lambda value, _: Status(value))
_converter.register_structure_hook(CauseKind, lambda value, _: CauseKind(value))
_converter.register_structure_hook_func(lambda kind: kind == dict[str, Any], partial(_exactly, dict))
for _tuple in (tuple[Any, ...], tuple[str, ...], tuple[CallRecord, ...]):
    _converter.register_structure_hook_func(partial(operator.eq, _tuple), _tuple_from)


def load_state(path: str | os.PathLike[str]) -> ExecutionInfo:
    """Read a saved state; blocks until it is read.

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
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(str(path), "$", str(error)) from error
    if not isinstance(document, dict):
        raise StateError(str(path), "$", f"expected an object, not {type(document).__name__}")
    if document.get("schema") != SCHEMA or isinstance(document["schema"], bool):
        raise StateError(str(path), "$.schema", f"expected schema {SCHEMA}, not {document.get('schema')!r}")
    try:
        info = _converter.structure(document, ExecutionInfo)
    except BaseValidationError as error:
        problem, _, place = transform_error(error)[0].partition(" @ ")
        raise StateError(str(path), place, problem) from error
    known: set[int | None] = {None}
    last = 0
    for index, call in enumerate(info.calls):
        # Where calls were dropped there are gaps, but a call's parent is not dropped before it.
        if call.id != last + 1 and not (info.dropped_calls and call.id > last):
            raise StateError(str(path), f"$.calls[{index}].id", f"expected {last + 1}, the call's place")
        if call.parent_id not in known:
            raise StateError(str(path), f"$.calls[{index}].parent_id", f"there is no earlier call {call.parent_id}")
        last = call.id
        known.add(last)
    return info


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
