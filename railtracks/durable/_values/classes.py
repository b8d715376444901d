"""Classes with fields, of attrs and dataclasses, and `Secret`. Called by `converter`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ForwardRef, Literal, TypeGuard, cast, get_args, get_origin, get_type_hints

import attrs
from attrs import define

from railtracks._nodes.signature import ANYTHING, Kind
from railtracks._records.secrets import Secret, field_names, is_secret_object
from railtracks._records.value_parts import fields_of
from railtracks._records.value_texts import class_name
from railtracks.durable._values.beside import Beside
from railtracks.durable._values.hooks import Hooks, Read, Write, is_kind_of
from railtracks.durable._values.plain import (
    Plain,
    Sealed,
    ValueMismatchError,
    check_names,
    filled_in,
    has_parameters_left,
    meant_by,
    mismatch_of,
    unfit,
)
from railtracks.durable._values.sealing import as_read

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def add_classes(hooks: Hooks) -> None:
    """Add how instances of classes with fields are written and read."""
    part = functools.partial
    hooks.add(is_kind_of(Secret), part(_secret_writer, hooks), part(_secret_reader, hooks))
    hooks.add(has_fields, part(_class_writer, hooks), part(_class_reader, hooks))


def _secret_writer(hooks: Hooks, kind: Kind) -> Write:
    write_inner = hooks.writer(_inner_kind(kind))

    def write(value: object) -> Plain:
        if not is_secret_object(value):
            raise ValueMismatchError(value, f"a {class_name(value)}, where the annotation says rt.Secret")
        return Sealed(write_inner(value.reveal()), is_secret=True)

    return write


def _secret_reader(hooks: Hooks, kind: Kind) -> Read:
    read_inner = hooks.reader(_inner_kind(kind))

    def read(plain: object, _: Kind) -> object:
        if not is_secret_object(plain):
            raise ValueMismatchError(plain, "no secret was stored here")
        return Secret(read_inner(plain.reveal()))

    return read


def _inner_kind(kind: Kind) -> Kind:
    return next(iter(get_args(kind)), ANYTHING)


def has_fields(kind: Kind) -> TypeGuard[type[object]]:
    """Return whether an annotation is an attrs class or a dataclass, which may have parameters."""
    origin: Kind = get_origin(kind) or kind
    return _is_class(origin) and (attrs.has(origin) or dataclasses.is_dataclass(origin))


def _is_class(kind: Kind) -> TypeGuard[type[object]]:
    return isinstance(kind, type)


def _class_writer(hooks: Hooks, kind: type[object]) -> Write:
    origin: type[object] = get_origin(kind) or kind
    write_fields = hooks.fields_writer(_filled(kind), _forward_kinds(origin) | _generic_kinds(kind, origin))
    beside = Beside(origin, frozenset(each.name for each in stored_fields(origin)))

    def written(value: object) -> Plain:
        plain = write_fields(value)
        if beside.may_be_any(value):
            beside.check(value, lambda: hooks.read(as_read(plain), kind))
        return plain

    def write(value: object) -> Plain:
        if type(value) is not origin:
            raise unfit(value, origin)
        try:
            return written(value)
        except ValueMismatchError as mismatch:
            part = mismatch.value
            mismatch.passed(value, _step_to(value, lambda item: item is part))
            raise
        except BaseException as error:  # noqa: BLE001 - users' code: the call fails with the path to it
            raise mismatch_of(error, value, _step_to(value, lambda _: False)) from None  # noqa: ASYNC104 - the same

    return write


def _step_to(value: object, is_it: Callable[[object], bool]) -> str:
    """Return the step to the field of an instance that holds what failed, or that cannot be read.

    cattrs does not name the field. Where two fields have the same object in them, both are named.
    """
    items = dict(fields_of(value))
    names = [name for name in field_names(value) if name not in items or is_it(items[name])]
    return " or ".join(f".{name}" for name in names)


def _class_reader(hooks: Hooks, kind: type[object]) -> Read:
    origin: type[object] = get_origin(kind) or kind
    names = {each.name: each.is_required for each in stored_fields(origin)}
    kinds = _forward_kinds(origin) | _generic_kinds(kind, origin)
    by_keyword = [each.is_by_keyword for each in stored_fields(origin)]
    read_fields = hooks.fields_reader(
        _filled(kind),
        kinds,
        _fields_that_cannot_be_set(origin),
        has_keyword_first=by_keyword != sorted(by_keyword),
    )

    def read(plain: object, _: Kind) -> object:
        check_names(plain, origin, names)
        return read_fields(plain, kind)

    return read


def _filled(kind: Kind) -> Kind:
    """Return a generic class that was annotated without its parameters with `Any` for each of them."""
    return kind[(ANYTHING,) * len(kind.__parameters__)] if has_parameters_left(kind) else kind


@define(frozen=True)
class StoredField:
    """A field of an attrs class or a dataclass, as it is stored.

    Attributes:
        name: The name.
        kind: The annotation as the class has it: of one in quotes a text.
        is_required: Whether the class cannot be made without it.
        is_by_keyword: Whether it is given to the class by keyword only.
    """

    name: str
    kind: Kind
    is_required: bool
    is_by_keyword: bool


def stored_fields(origin: type[object]) -> list[StoredField]:
    """Return the fields of an attrs class or a dataclass."""
    if attrs.has(origin):
        fields: tuple[attrs.Attribute[object], ...] = attrs.fields(origin)
        return [
            StoredField(each.name, each.type, each.init and each.default is attrs.NOTHING, bool(each.kw_only))
            for each in fields
        ]
    assert _is_dataclass(origin)  # noqa: S101 - `has_fields` knows no third kind
    return [
        StoredField(
            each.name,
            each.type,
            each.init and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING,
            bool(each.kw_only),
        )
        for each in dataclasses.fields(origin)
    ]


def field_kinds(origin: type[object]) -> Mapping[str, Kind]:
    """Return the annotations of the fields of a class, those in quotes as what they say; none if they lead nowhere."""
    try:
        return get_type_hints(origin)
    except Exception:  # noqa: BLE001 - an annotation in quotes is user code, and may raise any error
        try:
            # A class in a function may name itself.
            return get_type_hints(origin, localns={origin.__name__: origin})
        except Exception:  # noqa: BLE001 - the same
            return {}


def _forward_kinds(origin: type[object]) -> dict[str, Kind]:
    """Return the annotations of those fields that have a part in quotes, as `Optional["Node"]` has."""
    fields = [each.name for each in stored_fields(origin) if _has_quotes(each.kind)]
    kinds: Mapping[str, Kind] = field_kinds(origin) if fields else {}
    return {name: kinds[name] for name in fields if name in kinds}


def _generic_kinds(kind: type[object], origin: type[object]) -> dict[str, Kind]:
    """Return the annotations of the fields of a generic class that cattrs would take for others; none of another class.

    Of a class that has itself as a parameter, as `Box[Box[int]]`, it takes the inner one for one without parameters. Of
    one with a generic base it takes type variables of the same name for one.
    """
    given: tuple[Kind, ...] = get_args(kind)
    if any(_has_class(each, origin) for each in given) or any(map(_has_generic_base, origin.__mro__)):
        return _kinds_by_bases(kind)
    return {}


def _has_generic_base(origin: type[object]) -> bool:
    return any(has_fields(base) and bool(get_args(base) or has_parameters_left(base)) for base in _bases_of(origin))


def _bases_of(origin: type[object]) -> tuple[Kind, ...]:
    """Return the bases of a class as they are written, with their parameters."""
    bases: tuple[Kind, ...] = vars(origin).get("__orig_bases__", origin.__bases__)
    return bases


def _kinds_by_bases(kind: type[object]) -> dict[str, Kind]:
    """Return the annotations of the fields of a class, each with what its type variables stand for in its own class."""
    origin: type[object] = get_origin(kind) or kind
    given = dict[object, Kind](zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    kinds: dict[str, Kind] = {}
    for base in reversed(_bases_of(origin)):
        if has_fields(base):
            kinds |= _kinds_by_bases(cast("type[object]", filled_in(base, given)))
    hints, own = field_kinds(origin), inspect.get_annotations(origin)
    names = [each.name for each in stored_fields(origin) if each.name in own and each.name in hints]
    return kinds | {name: filled_in(hints[name], given) for name in names}


def _has_class(kind: Kind, origin: type[object]) -> bool:
    """Return whether an annotation is a class, or has it in a part."""
    parts: tuple[Kind, ...] = () if get_origin(kind) is Literal else (*get_args(kind), *meant_by(kind))
    return get_origin(kind) is origin or any(_has_class(part, origin) for part in parts)


def _has_quotes(kind: Kind) -> bool:
    """Return whether a part of an annotation stands in quotes; what does as a whole, cattrs evaluates."""
    parts: tuple[Kind, ...] = () if get_origin(kind) is Literal else get_args(kind)
    return any(isinstance(part, str | ForwardRef) or _has_quotes(part) for part in parts)


def _is_dataclass(origin: type[object]) -> TypeGuard[type[DataclassInstance]]:
    return dataclasses.is_dataclass(origin)


def _fields_that_cannot_be_set(origin: type[object]) -> list[str]:
    """Return the fields of a frozen class that `__init__` does not take: it computes them again."""
    if attrs.has(origin):
        return [each.name for each in attrs.fields(origin) if not each.init and attrs.inspect(origin).is_frozen]
    assert _is_dataclass(origin)  # noqa: S101 - `has_fields` knows no third kind
    is_frozen: bool = getattr(origin, "__dataclass_params__").frozen  # noqa: B009 - unknown to the checkers
    return [each.name for each in dataclasses.fields(origin) if is_frozen and not each.init]


def lost_parameter(origin: type[object]) -> str | None:
    """Return a parameter of a dataclass without which none is made, and that is no field, as one of `InitVar`."""
    if attrs.has(origin) or not _is_dataclass(origin):
        return None
    names = {each.name for each in dataclasses.fields(origin)}
    needed = (
        each.name
        for each in inspect.signature(origin).parameters.values()
        if each.default is each.empty and each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
    )
    return next((name for name in needed if name not in names), None)
