"""Annotations as msgspec takes them: aliases resolved, the notes of `Annotated` read. What cannot be served is refused.

Called where schemas are made. The kinds inside of users' classes are left as they are, `classes` looks at them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, time
from types import UnionType
from typing import Annotated, Any, Final, Literal, NewType, TypeAlias, TypeGuard, Union, get_args, get_origin

import msgspec
from annotated_types import BaseMetadata, GroupedMetadata

from railtracks._checks import is_list

# An annotation: a class, a generic alias, a union, or any other object that Python accepts as one.
Kind: TypeAlias = object

_BOUNDS: Final = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")

# Told in addition to `"type": "string"`, which is all that msgspec says where a time zone is optional.
_FORMATS: Final[dict[object, str]] = {datetime: "date-time", time: "time"}


class UnservableError(ValueError):
    """A kind cannot be served; the text tells why, and what to do."""


def adapted(kind: Kind, aliases: Collection[Kind] = ()) -> Kind:
    """Return a kind as msgspec takes it.

    Args:
        kind: The kind.
        aliases: The type aliases around it.

    Raises:
        UnservableError: If it holds a note that msgspec cannot check, or an alias that leads to itself.
    """
    if is_class(kind):
        return _adapted_class(kind)
    if isinstance(kind, NewType):
        return adapted(kind.__supertype__, aliases)
    # The class is there since Python 3.12.
    if type(kind).__name__ == "TypeAliasType":
        if kind in aliases:
            raise UnservableError(f"the type {kind} is made of itself: use a dataclass or a TypedDict in its place")
        return adapted(_form(kind).__value__, (*aliases, kind))
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _with_notes(adapted(parts[0], aliases), parts[1:])
    if origin is Literal or any(map(is_list, parts)) or not parts:
        return kind
    inner = tuple(adapted(each, aliases) for each in parts)
    return _form(Union if origin is UnionType else list if origin is Iterable else origin)[inner]


def _adapted_class(kind: type[object]) -> Kind:
    if kind is object:
        return Any
    told = _FORMATS.get(kind)
    return kind if told is None else _form(Annotated)[kind, msgspec.Meta(extra_json_schema={"format": told})]


def is_class(kind: Kind) -> TypeGuard[type[object]]:
    """Return whether a kind is a class."""
    return isinstance(kind, type)


def is_union(kind: Kind) -> bool:
    """Return whether a kind is a union."""
    return get_origin(kind) in {Union, UnionType}


def text_in(notes: Iterable[object]) -> str | None:
    """Return the last text for the model in the notes of an `Annotated`, `None` if there is none."""
    texts = [text for text in map(_text, notes) if text is not None]
    return texts[-1] if texts else None


def bounds_in(notes: Iterable[object]) -> Iterator[tuple[str, Any]]:
    """Return the bounds that the notes of an `Annotated` put on values, but those of `msgspec.Meta`.

    Raises:
        UnservableError: If a note of `annotated_types` is none of the bounds that a schema can tell.
    """
    for note in notes:
        if isinstance(note, GroupedMetadata):
            yield from bounds_in(note)
        elif _is_pydantic_field(note):
            yield from bounds_in(note.metadata)
        elif not isinstance(note, msgspec.Meta) and _text(note) is None:
            found = [(name, bound) for name in _BOUNDS if (bound := getattr(note, name, None)) is not None]
            if not found and isinstance(note, BaseMetadata):
                raise UnservableError(f"a schema cannot tell {note!r}: check that in the function")
            yield from found


def _with_notes(kind: Kind, notes: tuple[object, ...]) -> Kind:
    metas = [each for each in notes if isinstance(each, msgspec.Meta)]
    metas += [msgspec.Meta(**{name: bound}) for name, bound in bounds_in(notes)]
    for meta in metas:
        kind = _bounded(kind, meta)
    text = text_in(notes)
    return kind if text is None else _form(Annotated)[kind, msgspec.Meta(description=text)]


def _bounded(kind: Kind, meta: msgspec.Meta) -> Kind:
    if not is_union(kind):
        return _form(Annotated)[kind, meta]
    # A bound on an optional number is one on the number.
    return _form(Union)[tuple(each if each is type(None) else _form(Annotated)[each, meta] for each in get_args(kind))]


def _text(note: object) -> str | None:
    if isinstance(note, msgspec.Meta):
        return note.description
    text = note.description if _is_pydantic_field(note) else getattr(note, "documentation", note)
    return text if isinstance(text, str) else None


def _is_pydantic_field(note: object) -> TypeGuard[Any]:
    # Known by its name: pydantic is never imported here.
    return type(note).__name__ == "FieldInfo" and hasattr(note, "metadata")


def _form(kind: object) -> Any:
    """Return a special form, to be put together at run time, where the type checkers know nothing of it."""
    return kind
