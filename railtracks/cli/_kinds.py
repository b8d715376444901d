"""Texts of a command line, and values of JSON, as what an annotation asks for.

Called for the arguments of a flow, which `run` takes from its words or from JSON.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import railtracks as rt
from railtracks._checks import is_dict, is_list
from railtracks._nodes.signature import Kind
from railtracks.cli._misfits import MisfitError, given_text, given_value, has_fields, name_of, problem_of, wanted_by


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text]


_ANYTHING: Final[frozenset[Kind]] = frozenset((Any, object))
# For what JSON has words of its own.
_FROM_WORD: Final[dict[Kind, Callable[[str], object]]] = {bool: _bool, float: float, int: int}
# What is a text in JSON as well.
_FROM_TEXT: Final[dict[Kind, Callable[[str], object]]] = {
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
    time: time.fromisoformat,
    Decimal: Decimal,
    Path: Path,
    PurePath: PurePath,
    UUID: UUID,
}
_FROM_LIST: Final[dict[Kind, Callable[[Iterable[object]], object]]] = {
    list: list,
    Sequence: list,
    Iterable: list,
    set: set,
    AbstractSet: set,
    frozenset: frozenset,
}
_FROM_OBJECT: Final[frozenset[Kind]] = frozenset((dict, Mapping))
_EXACT: Final[frozenset[Kind]] = frozenset((str, bool, int, float, NoneType))


def from_text(text: str, kind: Kind) -> object:
    """Return what an annotation asks for, given a text of the command line.

    A `str` is the text as it is. Numbers, `true` and `false`, paths, times and the names of an enum are read as such;
    everything else as JSON. Of a union the first member counts that the text fits, and `str` last.

    Raises:
        MisfitError: If the text does not fit.
    """
    kind = _resolved(kind)
    members = _members(kind)
    if members:
        # Every text is a `str`, so that is the last choice; and beside nothing but `None` it is the only one.
        choices = [str] if {*members} == {str, NoneType} else sorted(members, key=lambda each: each is str)
        return _first_fit(from_text, text, choices)
    if is_secret_kind(kind):
        return rt.Secret(from_text(text, _argument(kind)))
    if kind in _FROM_WORD:
        return _read(_FROM_WORD[kind], text, kind)
    if kind is str or kind in _FROM_TEXT or _is_enum(kind):
        return from_json(text, kind)
    if get_origin(kind) is Literal:
        return _literal_from(text, kind)
    return from_json(_parsed(text, kind), kind)


def _literal_from(text: str, kind: Kind) -> object:
    """Return the value of a `Literal` that is the text, or that the text is the JSON of."""
    if text in get_args(kind):
        return text
    try:
        return from_json(json.loads(text), kind)
    except (ValueError, RecursionError, MisfitError):
        raise MisfitError.of(kind, given_text(text)) from None


def _parsed(text: str, kind: Kind) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if kind in _ANYTHING:
            return text
        if text.lstrip()[:1] not in {"[", "{", '"'}:
            raise MisfitError.of(kind, given_text(text)) from None
        # It was meant as JSON.
        raise MisfitError(f"expected {wanted_by(kind)} as JSON: {error}") from None


def from_json(value: object, kind: Kind) -> object:
    """Return what an annotation asks for, given a value of JSON.

    Raises:
        MisfitError: If the value does not fit.
    """
    kind = _resolved(kind)
    members = _members(kind)
    if kind in _ANYTHING:
        return value
    if members:
        return _first_fit(from_json, value, members)
    if is_secret_kind(kind):
        return rt.Secret(from_json(value, _argument(kind)))
    if kind in _EXACT or kind in _FROM_TEXT or get_origin(kind) is Literal or _is_enum(kind):
        return _scalar_from(value, kind)
    return _whole_from(value, kind)


def _scalar_from(value: object, kind: Kind) -> object:
    found: list[object] = []
    if kind is float and type(value) is int:
        value = float(value)
    if kind in _EXACT:
        found = [value] if type(value) is kind else []
    elif get_origin(kind) is Literal:
        # Not `True` where a 1 is asked for.
        found = [each for each in get_args(kind) if each == value and type(each) is type(value)]
    elif _is_enum(kind):
        found = [each for name, each in kind.__members__.items() if name == value]
    elif isinstance(value, str):
        found = [_read(_FROM_TEXT[kind], value, kind)]
    if not found:
        raise MisfitError.of(kind, given_value(value))
    return found[0]


def is_secret_kind(kind: Kind) -> bool:
    """Return whether an annotation is an `rt.Secret`, with or without what is in it."""
    return (get_origin(kind) or kind) is rt.Secret


def may_be_secret(kind: Kind) -> bool:
    """Return whether an annotation allows an `rt.Secret`."""
    kind = _resolved(kind)
    return is_secret_kind(kind) or any(map(may_be_secret, _members(kind)))


def _whole_from(value: object, kind: Kind) -> object:
    """Return a list, a mapping or an object with fields, each part as its annotation asks for."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is tuple or origin in _FROM_LIST:
        if not is_list(value):
            raise MisfitError.of(kind, given_value(value))
        return _tuple_from(value, arguments) if origin is tuple else _list_from(value, kind, _FROM_LIST[origin])
    if not is_dict(value):
        raise MisfitError.of(kind, given_value(value))
    if origin in _FROM_OBJECT:
        key_kind, item_kind = arguments or (Any, Any)
        return {_item(str(key), key_kind, key, from_text): _item(item, item_kind, key) for key, item in value.items()}
    validate: object = getattr(kind, "model_validate", None)
    return _made(validate, value, kind) if callable(validate) else _object_from(value, kind)


def _list_from(items: list[object], kind: Kind, make: Callable[[Iterable[object]], object]) -> object:
    return _made(make, [_item(each, _argument(kind), place) for place, each in enumerate(items)], kind)


def _tuple_from(items: list[object], kinds: tuple[Kind, ...]) -> object:
    if not kinds or kinds[1:] == (...,):
        kinds = (kinds or (Any,))[:1] * len(items)
    if len(kinds) != len(items):
        raise MisfitError(f"expected {len(kinds)} items, not {len(items)}")
    return tuple(_item(each, kind, place) for place, (each, kind) in enumerate(zip(items, kinds, strict=True)))


def _object_from(value: dict[object, object], kind: Kind) -> object:
    """Return an instance of a class with fields, or a typed dict."""
    cls: Any = get_origin(kind) or kind
    if not has_fields(cls):
        raise MisfitError.of(kind, given_value(value))
    kinds = get_type_hints(cls)
    unknown = [str(key) for key in value if key not in kinds]
    if unknown:
        raise MisfitError(f"{name_of(kind)} has no field {unknown[0]!a}")
    fields = {str(key): _item(item, kinds[str(key)], key) for key, item in value.items()}
    missing = sorted(_required(cls) - fields.keys())
    if missing:
        raise MisfitError(f"{name_of(kind)} needs {', '.join(map(ascii, missing))}")
    return _made(lambda given: cls(**given), fields, kind)


def _required(cls: Any) -> frozenset[str]:
    """Return the fields that a class cannot be made without."""
    keys: frozenset[str] | None = getattr(cls, "__required_keys__", None)
    if keys is not None:
        return keys
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        # Python cannot tell them. The class refuses what it lacks as it is called.
        return frozenset()
    return frozenset(
        each.name
        for each in parameters
        if each.default is each.empty and each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}
    )


def _item(value: object, kind: Kind, place: object, read: Callable[[Any, Kind], object] = from_json) -> object:
    try:
        return read(value, kind)
    except MisfitError as problem:
        where = f"item {place + 1}" if type(place) is int else ascii(place)
        raise MisfitError(f"{where}: {problem}") from None


def _first_fit(read: Callable[[Any, Kind], object], given: object, kinds: Sequence[Kind]) -> object:
    problems: list[MisfitError] = []
    for kind in kinds:
        try:
            return read(given, kind)
        except MisfitError as problem:
            problems.append(problem)
    raise MisfitError.of_union(problems)


def _read(read: Callable[[str], object], text: str, kind: Kind) -> object:
    """Return what a class of the standard library makes of a text."""
    try:
        return read(text)
    except (ArithmeticError, LookupError, ValueError):
        raise MisfitError.of(kind, given_text(text)) from None


def _made(make: Callable[[Any], object], given: object, kind: Kind) -> object:
    try:
        return make(given)
    except Exception as error:
        # Classes of users refuse values with errors of any kind.
        raise MisfitError(f"{name_of(kind)}: {problem_of(error)}") from error


def _resolved(kind: Kind) -> Kind:
    """Return the annotation that a name for one stands for."""
    while True:
        # `NewType`, and from Python 3.12 on `type X = ...`.
        if isinstance(kind, type):
            # A class that only stands in annotations, as that of what an agent is given.
            inner: Kind = vars(kind).get("__railtracks_given_as__")
        else:
            inner = getattr(kind, "__supertype__", None) or getattr(kind, "__value__", None)
        if inner is None:
            return NoneType if kind is None else kind
        kind = inner


def _members(kind: Kind) -> tuple[Kind, ...]:
    """Return the members of a union, none if it is something else."""
    return tuple(map(_resolved, get_args(kind))) if get_origin(kind) in {Union, UnionType} else ()


def _argument(kind: Kind) -> Kind:
    """Return the first argument of a generic annotation."""
    return next(iter(get_args(kind)), str if is_secret_kind(kind) else Any)


def _is_enum(kind: Kind) -> TypeGuard[type[Enum]]:
    return isinstance(kind, type) and issubclass(kind, Enum)
