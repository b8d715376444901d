"""Values without parts: JSON's scalars, enums, moments, paths, numbers and bytes. Called by `converter`."""

from __future__ import annotations

import functools
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path, PurePath
from typing import Final, ForwardRef, LiteralString, Never, NoReturn, TypeGuard, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from railtracks._nodes.signature import ANYTHING, Kind
from railtracks._records.value_texts import class_name
from railtracks.durable._values.hooks import Hooks, Read, Write
from railtracks.durable._values.plain import (
    SCALAR_CLASSES,
    DetailedList,
    Plain,
    Scalar,
    ValueMismatchError,
    Whole,
    exactly,
    is_list,
    parts_of,
    stored,
    unannotated,
    unfit,
)

T = TypeVar("T")
E = TypeVar("E", bound=Enum)
Moment = TypeVar("Moment", datetime, time)

# As the checkers cannot know, an enum may have one of them as a base.
_SCALAR_BASES: Final[tuple[type[object], ...]] = SCALAR_CLASSES
_text: Final = stored(str)
_number: Final = stored(int)
_float: Final = exactly(float)


def add_scalars(hooks: Hooks) -> None:
    """Add how values without parts are written and read."""
    for scalar in SCALAR_CLASSES:
        hooks.add_class(scalar, _scalar_writer(scalar), _scalar_reader(scalar))
    _add_leaf(hooks, bytes, _base64, lambda plain: b64decode(_text(plain), validate=True))
    _add_leaf(hooks, bytearray, _base64, lambda plain: bytearray(b64decode(_text(plain))))
    _add_leaf(hooks, datetime, _moment, lambda plain: _moment_from(datetime, plain))
    _add_leaf(hooks, date, date.isoformat, lambda plain: date.fromisoformat(_text(plain)))
    _add_leaf(hooks, time, _moment, lambda plain: _moment_from(time, plain))
    _add_leaf(hooks, timedelta, lambda value: [value.days, value.seconds, value.microseconds], _delta_from)
    _add_leaf(hooks, UUID, str, lambda plain: UUID(_text(plain)))
    _add_leaf(hooks, Decimal, str, _decimal_from)
    _add_leaf(hooks, complex, lambda value: [value.real, value.imag], _complex_from)
    hooks.add(is_path, _path_writer, lambda _: _path_from)
    # Of these cattrs has a way of its own, which takes any value.
    hooks.add_class(Path, _path_or_text, _path_from)
    hooks.add_enums(_member_as_plain, _enum_from)
    hooks.add(is_literal_string, lambda _: _scalar_writer(str), lambda _: _scalar_reader(str))
    hooks.add(_is_never, _never_writer, _never_reader)
    hooks.add(_is_anything, lambda _: unannotated, lambda _: lambda plain, _: plain)


def _is_anything(kind: Kind) -> TypeGuard[Kind]:
    # Python leaves an annotation that names itself in quotes unread at some depth, as one of all JSON values does.
    return kind is ANYTHING or kind is object or isinstance(kind, TypeVar | ForwardRef)


def is_literal_string(kind: Kind) -> TypeGuard[Kind]:
    """Return whether an annotation is `LiteralString`, which is `str` at run time."""
    return kind is LiteralString


def _is_never(kind: Kind) -> TypeGuard[Kind]:
    return kind is Never or kind is NoReturn


def _never_writer(kind: Kind) -> Write:
    def write(value: object) -> Plain:
        raise unfit(value, kind)

    return write


def _never_reader(_: Kind) -> Read:
    def read(plain: object, kind: Kind) -> object:
        raise unfit(plain, kind)

    return read


def _scalar_check(scalar: type[Scalar]) -> Callable[[object], Scalar]:
    return _float_or_int if scalar is float else exactly(scalar)


def _float_or_int(value: object) -> float:
    # Python takes an int where a float is annotated, too.
    return value if type(value) is int else _float(value)


def _float_or_whole(value: object) -> float:
    return Whole(value) if type(value) is int else _float(value)


def _scalar_writer(scalar: type[Scalar]) -> Write:
    return _float_or_whole if scalar is float else exactly(scalar)


def _scalar_reader(scalar: type[Scalar]) -> Read:
    check = _scalar_check(scalar)

    def read(plain: object, _: Kind) -> object:
        if is_list(plain):
            raise ValueMismatchError(
                plain, f"a list, as which a member of an enum is stored, where the annotation says {scalar.__name__}"
            )
        return check(plain)

    return read


def _add_leaf(hooks: Hooks, kind: type[T], write: Callable[[T], Plain], read: Callable[[object], T]) -> None:
    def write_exactly(value: object) -> Plain:
        # An instance of a subclass would come back as less than it is.
        if type(value) is not kind:
            raise unfit(value, kind)
        return write(value)

    hooks.add_class(kind, write_exactly, lambda plain, _: read(plain))


def _base64(value: bytes | bytearray) -> str:
    return b64encode(value).decode("ascii")


def _delta_from(plain: object) -> timedelta:
    days, seconds, microseconds = map(_number, parts_of(plain))
    return timedelta(days, seconds, microseconds)


def _decimal_from(plain: object) -> Decimal:
    # A number, if the annotation was int or float when the value was stored.
    return Decimal(plain if isinstance(plain, int | float) else _text(plain))


def _complex_from(plain: object) -> complex:
    return complex(*map(_float_or_int, parts_of(plain)))


def _moment(value: datetime | time) -> Plain:
    """Return a moment as text; beside it its zone, its fold and the zone's name, if they are not in the text."""
    zone = value.tzinfo
    if _is_found_by_key(zone):
        return [value.replace(tzinfo=None).isoformat(), zone.key, value.fold]
    if zone is not None and type(zone) is not timezone:
        raise ValueMismatchError(
            value,
            f"its zone is a {class_name(zone)} that would come back as another one: use datetime.timezone or"
            " ZoneInfo(key)",
        )
    text = value.isoformat()
    plain: Plain = [text, None, 1] if value.fold else text
    # As of the local time: `datetime.now().astimezone()`.
    name = None if zone is None else zone.tzname(None)
    if zone is None or name == timezone(zone.utcoffset(None)).tzname(None):
        return plain
    return DetailedList(plain, [text, None, value.fold, name])


def _is_found_by_key(zone: tzinfo | None) -> TypeGuard[ZoneInfo]:
    """Return whether a zone is the one that `ZoneInfo` finds by its key: one made from a file may be any other."""
    if type(zone) is not ZoneInfo or not zone.key:
        return False
    try:
        return ZoneInfo(zone.key) is zone
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return False


def _moment_from(kind: type[Moment], plain: object) -> Moment:
    if isinstance(plain, str):
        return kind.fromisoformat(plain)
    text, zone, fold, *names = parts_of(plain)
    moment = kind.fromisoformat(_text(text)).replace(fold=_number(fold))
    if zone is not None:
        return moment.replace(tzinfo=ZoneInfo(_text(zone)))
    return _with_name(moment, _text(*names)) if names else moment


def _with_name(moment: Moment, name: str) -> Moment:
    """Return a moment whose zone has a name of its own."""
    if not isinstance(moment.tzinfo, timezone):
        raise ValueMismatchError(moment, f"a zone {name!r} was stored with it, and no offset")
    return moment.replace(tzinfo=timezone(moment.tzinfo.utcoffset(None), name))


def is_path(kind: Kind) -> TypeGuard[type[PurePath]]:
    """Return whether an annotation is a class of paths."""
    return isinstance(kind, type) and issubclass(kind, PurePath)


def _path_writer(kind: type[PurePath]) -> Write:
    def write(value: object) -> Plain:
        # A path's own class is one of its system: what is made of Path is a PosixPath or a WindowsPath. To one of the
        # other system it is not equal.
        if not isinstance(value, kind) or kind(str(value)) != value:
            raise unfit(value, kind)
        return str(value)

    return write


def _path_or_text(value: object) -> Plain:
    # A text stands for a path that this system can open. Sessions that have it in their records must be resumed.
    return str(value) if isinstance(value, str) else _path_writer(Path)(value)


def _path_from(plain: object, kind: Kind) -> PurePath:
    assert is_path(kind)  # noqa: S101 - it was found by its class
    return kind(_text(plain))


def is_enum(kind: Kind) -> TypeGuard[type[Enum]]:
    """Return whether an annotation is an enum."""
    return isinstance(kind, type) and issubclass(kind, Enum)


def _enum_as_plain(value: Enum) -> Plain:
    if value.name in type(value).__members__:
        return value.name
    # The check that a value comes back refuses what is no JSON.
    by_value: Plain = value.value
    return _flags_as_plain(value, by_value) if isinstance(value, Flag) else by_value


def _flags_as_plain(value: Flag, by_value: Plain) -> Plain:
    """Return flags that are put together as the names of them, and a number for bits without a name.

    The releases that stored the value had fingerprints of it.
    """
    kind = type(value)
    named = [each for each in kind.__members__.values() if _is_bit(each.value) and each.value & value.value]
    rest: int = functools.reduce(lambda bits, each: bits & ~each.value, named, value.value)
    parts: list[Plain] = [each.name for each in dict.fromkeys(named)]
    return DetailedList(by_value, [*parts, rest] if rest else parts) if named else by_value


def _is_bit(number: int) -> bool:
    return number > 0 and not number & (number - 1)


def _member_as_plain(kind: type[Enum], value: object) -> Plain:
    if type(value) is not kind:
        raise unfit(value, kind)
    plain = _enum_as_plain(value)
    # A member that is a text or a number, too, is in a list, which no text and no number is read from.
    return [plain] if issubclass(kind, _SCALAR_BASES) else plain


def _enum_from(plain: object, kind: Kind) -> Enum:
    assert is_enum(kind)  # noqa: S101 - it was found by its class
    if is_list(plain) and len(plain) == 1:
        # As `_member_as_plain` writes one that is a text or a number, too.
        (plain,) = plain
    if is_list(plain) and issubclass(kind, Flag):
        return _flags_from(plain, kind)
    # Of flags before names of several were stored, and members without a name, the value.
    return _member_of(kind, plain) if isinstance(plain, str) else kind(plain)


def _flags_from(plain: list[object], kind: type[Flag]) -> Flag:
    bits = 0
    for part in plain:
        bits |= _member_of(kind, part).value if isinstance(part, str) else _number(part)
    return kind(bits)


def _member_of(kind: type[E], name: str) -> E:
    member = kind.__members__.get(name)
    if member is None:
        raise ValueMismatchError(name, f"{name!r} is no member of {kind.__qualname__}")
    if member.name != name:
        raise ValueMismatchError(name, f"{name!r} is now another name of {kind.__qualname__}.{member.name}")
    return member
