"""A saved state's JSON as records: the one module of the core that knows cattrs.

Called by `load_state`, which imports this module on first use: cattrs takes a good part of the time of an import.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar, get_type_hints

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, override

from railtracks._checks import is_list
from railtracks._records.data import CallRecord, CauseKind, ExecutionInfo, Status
from railtracks.exceptions import StateError

T = TypeVar("T")

# A count or an id may be as large.
_LARGEST: Final = 2**63 - 1


def _exactly(kind: type[T], value: object, _: object) -> T:
    """Take a value of one of JSON's own types as it is, and refuse every other."""
    # A bool is an int, but JSON's `true` is no number.
    if type(value) is not kind or not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def _int_from(value: object, _: object) -> int:
    number = _exactly(int, value, _)
    if abs(number) > _LARGEST:
        raise ValueError(f"a number beyond {_LARGEST:,}, the largest that is read")
    return number


def _float_from(value: object, _: object) -> float:
    if type(value) is not int:
        return _exactly(float, value, _)
    # Raises for what is larger than any float.
    float(value)
    return value


def _moment_from(value: str, _: object) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    # Raises for what no datetime in UTC can hold.
    return moment.astimezone(UTC)


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
_converter.register_structure_hook(int, _int_from)
_converter.register_structure_hook(bool, partial(_exactly, bool))
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
# What a saved state calls otherwise than the record.
_converter.register_structure_hook(
    CallRecord, make_dict_structure_fn(CallRecord, _converter, is_replayed=override(rename="replayed"))
)


def structured(file: str, document: dict[object, object]) -> ExecutionInfo:
    """Return the session that a document of JSON tells of.

    Raises:
        StateError: If something in it has another type than its place asks for. It names the file and the place.
    """
    try:
        return _converter.structure(document, ExecutionInfo)
    except BaseValidationError as error:
        problem, _, place = transform_error(error)[0].partition(" @ ")
        raise StateError(file, place, problem) from error
