"""Lists, sets, named tuples and dicts: each part is written by its own annotation. Called by `converter`."""

from __future__ import annotations

import functools
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
)
from collections.abc import Set as AbstractSet
from typing import (
    LiteralString,
    NotRequired,
    Required,
    TypeGuard,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from railtracks._nodes.signature import ANYTHING, Kind
from railtracks._records.secrets import is_secret, key_name
from railtracks.durable._values.hooks import Hooks, Read, Write, is_kind_of
from railtracks.durable._values.plain import (
    SCALARS,
    Floats,
    Plain,
    Sealed,
    Unordered,
    are_all,
    check_keys,
    check_names,
    exactly,
    filled_in,
    is_dict,
    is_list,
    parts_of,
    stepped,
    text_key,
    unfit,
)
from railtracks.durable._values.sealing import encoded, laid_open
from railtracks.durable._values.slices import sorted_in_slices

_text = exactly(str)


def add_containers(hooks: Hooks) -> None:
    """Add how containers are written and read."""
    part = functools.partial
    hooks.add(
        is_kind_of(list, Sequence, MutableSequence), part(_items_writer, hooks, list), part(_items_reader, hooks, list)
    )
    hooks.add(
        is_kind_of(set, AbstractSet, MutableSet), part(_items_writer, hooks, set), part(_items_reader, hooks, set)
    )
    hooks.add(is_kind_of(frozenset), part(_items_writer, hooks, frozenset), part(_items_reader, hooks, frozenset))
    hooks.add(is_named_tuple, part(_named_tuple_writer, hooks), part(_named_tuple_reader, hooks))
    hooks.add(is_kind_of(dict, Mapping, MutableMapping), part(_dict_writer, hooks), part(_dict_reader, hooks))
    hooks.add(is_typed_dict, part(_typed_dict_writer, hooks), part(_typed_dict_reader, hooks))


def is_container(kind: Kind) -> bool:
    """Return whether an annotation is a class of containers, which may have parameters."""
    origin: Kind = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Collection)


def _items_writer(hooks: Hooks, container: type[Collection[object]], kind: Kind) -> Write:
    write_item = hooks.writer(_item_kind(kind))
    scalars = _scalars_of(kind)
    made = Floats if float in scalars else list[Plain]

    def write_list(value: object) -> Plain:
        if not is_list(value):
            raise unfit(value, kind)
        if are_all(value, scalars):
            return made(value)
        return [stepped(value, "[{}]", place, write_item, each) for place, each in enumerate(value)]

    def write_set(value: object) -> Plain:
        if type(value) is not container:
            raise unfit(value, kind)
        return Unordered(_in_order([stepped(value, "{{...}}", None, write_item, each) for each in value]))

    return write_list if container is list else write_set


def _in_order(plain: list[Plain]) -> list[Plain]:
    """Return the items of a set in the order of their JSON: their own order differs from process to process."""

    def text_of(each: Plain) -> str:
        return encoded(laid_open(each))

    return sorted_in_slices(plain, text_of)


def _item_kind(kind: Kind) -> Kind:
    return next(iter(get_args(kind)), ANYTHING)


def _scalars_of(kind: Kind) -> frozenset[Kind]:
    """Return the classes of items that are stored as they are, each of which the annotation allows."""
    item = _item_kind(kind)
    # Python takes an int where a float is annotated, too.
    return frozenset((float, int)) if item is float else SCALARS & {item}


def _items_reader(hooks: Hooks, build: Callable[[list[object]], object], kind: Kind) -> Read:
    read_item = hooks.reader(_item_kind(kind))
    scalars = _scalars_of(kind)

    def read(plain: object, _: Kind) -> object:
        parts = parts_of(plain)
        return build(list(parts) if are_all(parts, scalars) else [read_item(each) for each in parts])

    return read


def is_named_tuple(kind: Kind) -> TypeGuard[type[tuple[object, ...]]]:
    """Return whether an annotation is a named tuple, which may have parameters."""
    origin: Kind = get_origin(kind) or kind
    return isinstance(origin, type) and hasattr(origin, "_fields") and issubclass(origin, tuple)


def named_tuple_kinds(kind: type[object]) -> Mapping[str, Kind]:
    """Return the annotations of the fields of a named tuple, in their order."""
    origin: type[object] = get_origin(kind) or kind
    given: dict[object, Kind] = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    kinds: Mapping[str, Kind] = get_type_hints(origin)
    names: tuple[str, ...] = getattr(origin, "_fields", ())
    return {name: filled_in(kinds.get(name, ANYTHING), given) for name in names}


def _named_tuple_writer(hooks: Hooks, kind: type[tuple[object, ...]]) -> Write:
    origin: type[object] = get_origin(kind) or kind
    kinds = named_tuple_kinds(kind)

    def is_one(value: object) -> TypeGuard[tuple[object, ...]]:
        return type(value) is origin

    def write(value: object) -> Plain:
        if not is_one(value):
            raise unfit(value, kind)
        return {
            name: stepped(value, f".{name}", None, hooks.writer(below), item)
            for (name, below), item in zip(kinds.items(), value, strict=True)
        }

    return write


def _named_tuple_reader(hooks: Hooks, kind: type[tuple[object, ...]]) -> Read:
    kinds = named_tuple_kinds(kind)
    defaults: Mapping[str, object] = getattr(kind, "_field_defaults", {})
    known = {name: name not in defaults for name in kinds}
    build: Callable[..., object] = get_origin(kind) or kind

    def read(plain: object, _: Kind) -> object:
        fields = check_names(plain, kind, known)
        return build(**{name: hooks.read(item, kinds[name]) for name, item in fields.items()})

    return read


def is_typed_dict(kind: Kind) -> TypeGuard[type[dict[str, object]]]:
    """Return whether an annotation is a `TypedDict`, which may have parameters."""
    return is_typeddict(get_origin(kind) or kind)


def typed_dict_kinds(kind: type[object]) -> tuple[Mapping[str, Kind], Mapping[str, bool]]:
    """Return the annotations of the keys of a `TypedDict`, and whether it needs each of them."""
    origin: type[object] = get_origin(kind) or kind
    given: dict[object, Kind] = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=False))
    required: frozenset[str] = getattr(origin, "__required_keys__", frozenset())
    # Where annotations are in quotes, Python does not see that some are not required.
    marks: Mapping[str, Kind] = {
        name: get_origin(mark) for name, mark in get_type_hints(origin, include_extras=True).items()
    }
    kinds = {name: filled_in(each, given) for name, each in get_type_hints(origin).items()}
    bases: tuple[Kind, ...] = getattr(origin, "__orig_bases__", ())
    for base in map(functools.partial(filled_in, given=given), filter(is_typed_dict, bases)):
        # A type variable of a base may stand for something else there.
        kinds |= typed_dict_kinds(cast("type[object]", base))[0]
    return (
        kinds,
        {name: mark is Required or (mark is not NotRequired and name in required) for name, mark in marks.items()},
    )


def _typed_dict_writer(hooks: Hooks, kind: type[dict[str, object]]) -> Write:
    kinds, names = typed_dict_kinds(kind)

    def write(value: object) -> Plain:
        if not is_dict(value):
            raise unfit(value, kind)
        check_names(value, kind, names)
        return {
            str(name): stepped(value, "[{}]", name, hooks.writer(kinds[str(name)]), item)
            for name, item in value.items()
        }

    return write


def _typed_dict_reader(hooks: Hooks, kind: type[dict[str, object]]) -> Read:
    kinds, names = typed_dict_kinds(kind)

    def read(plain: object, _: Kind) -> object:
        fields = check_names(plain, kind, names)
        return {name: hooks.read(item, kinds[name]) for name, item in fields.items()}

    return read


def _dict_kinds(kind: Kind) -> tuple[Kind, Kind]:
    key_kind, item_kind = get_args(kind) or (ANYTHING, ANYTHING)
    return key_kind, item_kind


def _dict_writer(hooks: Hooks, kind: Kind) -> Write:
    key_kind, item_kind = _dict_kinds(kind)
    write_key, write_item = hooks.writer(key_kind), hooks.writer(item_kind)

    def write_object(value: object) -> Plain:
        if not is_dict(value):
            raise unfit(value, kind)
        plain: dict[str, Plain] = {}
        for key, item in value.items():
            name = stepped(value, " (its key {})", key, _text, key) if key_kind is str else text_key(value, key)
            plain[name] = stepped(value, "[{}]", key, write_item, item)
        check_keys(value, plain)
        return plain

    def write_pairs(value: object) -> Plain:
        if not is_dict(value):
            raise unfit(value, kind)
        return Unordered(
            [
                stepped(value, " (its key {})", key, write_key, key),
                hidden(key, item, stepped(value, "[{}]", key, write_item, item)),
            ]
            for key, item in value.items()
        )

    # The keys of a JSON object are strings: pairs keep every other key what it is.
    return write_object if key_kind in (str, LiteralString, ANYTHING, object) else write_pairs


def hidden(key: object, item: object, plain: Plain) -> Plain:
    """Return the plain form of an item of a dict, to be encrypted if its key is the name of a secret."""
    name = key_name(key)
    return Sealed(plain, is_secret=False) if is_secret(name, item) and not isinstance(plain, Sealed) else plain


def _dict_reader(hooks: Hooks, kind: Kind) -> Read:
    read_key, read_item = map(hooks.reader, _dict_kinds(kind))
    return lambda plain, _: {read_key(key): read_item(item) for key, item in pairs_of(plain)}


def pairs_of(plain: object) -> Iterable[tuple[object, object]]:
    """Return the pairs of a stored dict, which may have been written as a list of pairs."""
    if is_dict(plain):
        return plain.items()
    return ((key, item) for key, item in map(parts_of, parts_of(plain)))
