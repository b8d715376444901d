"""Containers of the module `collections`: dicts that are more than dicts, and deques. Called by `converter`.

Each comes back in its own class. A dict whose keys are written as strings is a JSON object, every other one a list of
pairs.
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Final, TypeGuard, get_args, get_origin, is_typeddict

from railtracks._nodes.signature import ANYTHING, Kind
from railtracks.durable._values.containers import hidden, pairs_of
from railtracks.durable._values.hooks import Hooks, Read, Write, is_kind_of
from railtracks.durable._values.plain import (
    DetailedDict,
    DetailedList,
    Plain,
    ValueMismatchError,
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

# What a `defaultdict` makes its values with, by the name that is stored if the annotation does not tell it.
_FACTORIES: Final[Mapping[object, Callable[[], object] | None]] = {
    None: None,
    **{each.__name__: each for each in (bool, int, float, str, bytes, list, tuple, set, frozenset, dict)},
    **{each.__name__: each for each in (OrderedDict, Counter, deque)},
}
_BOUNDED: Final = {"maxlen": True, "items": True}


def add_dicts(hooks: Hooks) -> None:
    """Add how dicts of other classes, and deques, are written and read."""
    part = functools.partial
    hooks.add(is_kind_of(deque), part(_deque_writer, hooks), part(_deque_reader, hooks))
    hooks.add(_is_dict_class, part(_dict_writer, hooks), part(_dict_reader, hooks))
    hooks.add(is_kind_of(defaultdict), part(_default_writer, hooks), part(_default_reader, hooks))


def _is_dict_class(kind: Kind) -> TypeGuard[type[dict[object, object]]]:
    """Return whether an annotation is a class of dicts that are made of a dict, which may have parameters."""
    origin: Kind = get_origin(kind) or kind
    if not isinstance(origin, type) or is_typeddict(origin) or issubclass(origin, defaultdict):
        return False
    return issubclass(origin, dict) and origin is not dict


def _kinds(kind: Kind) -> tuple[Kind, Kind]:
    """Return the annotations of the keys and of the items."""
    origin: Kind = get_origin(kind) or kind
    given: tuple[Kind, ...] = get_args(kind)
    if origin is Counter:
        return (given[0], int) if given else (ANYTHING, ANYTHING)
    if is_kind_of(dict, OrderedDict, defaultdict)(origin):
        key_kind, item_kind = given or (ANYTHING, ANYTHING)
        return key_kind, item_kind
    bases: tuple[Kind, ...] = getattr(origin, "__orig_bases__", ())
    base = next((each for each in bases if _is_dict_class(each) or get_origin(each) is dict), None)
    if base is None:
        return ANYTHING, ANYTHING
    # A class that does not name `Generic` has those of its base.
    names: tuple[object, ...] = getattr(origin, "__parameters__", getattr(base, "__parameters__", ()))
    return _kinds(filled_in(base, dict(zip(names, given, strict=False))))


def _items_writer(hooks: Hooks, kind: Kind) -> Callable[[dict[object, object]], Plain]:
    key_kind, item_kind = _kinds(kind)
    write_item = hooks.writer(item_kind)
    write_key = exactly(str) if key_kind is str else hooks.writer(key_kind)
    is_bare = key_kind in (ANYTHING, object)

    def write(value: dict[object, object]) -> Plain:
        if getattr(value, "__dict__", None):
            raise ValueMismatchError(value, "it has attributes beside its items, which would be lost")
        pairs: list[Plain] = []
        named: dict[str, Plain] = {}
        for key, item in value.items():
            if is_bare:
                text_key(value, key)
            name: Plain = stepped(value, " (its key {})", key, write_key, key)
            plain = hidden(key, item, stepped(value, "[{}]", key, write_item, item))
            pairs.append([name, plain])
            if type(name) is str:
                named[name] = plain
        if len(named) < len(pairs):
            # In their order: of some classes it makes a difference.
            return pairs
        check_keys(value, named)
        return named

    return write


def _items_reader(hooks: Hooks, kind: Kind) -> Callable[[object], dict[object, object]]:
    read_key, read_item = map(hooks.reader, _kinds(kind))
    return lambda plain: {read_key(key): read_item(item) for key, item in pairs_of(plain)}


def _dict_writer(hooks: Hooks, kind: type[dict[object, object]]) -> Write:
    origin: type[object] = get_origin(kind) or kind
    write_items = _items_writer(hooks, kind)

    def is_one(value: object) -> TypeGuard[dict[object, object]]:
        return type(value) is origin

    def write(value: object) -> Plain:
        if not is_one(value):
            raise unfit(value, kind)
        return write_items(value)

    return write


def _dict_reader(hooks: Hooks, kind: type[dict[object, object]]) -> Read:
    build: Callable[[dict[object, object]], object] = get_origin(kind) or kind
    read_items = _items_reader(hooks, kind)
    return lambda plain, _: build(read_items(plain))


def _is_defaultdict(value: object) -> TypeGuard[defaultdict[object, object]]:
    return type(value) is defaultdict


def _factory_of(kind: Kind) -> Callable[[], object] | None:
    """Return what values are made with by the annotation of the items, as `list` for `list[int]`, `None` if nothing."""
    factory: Kind = get_origin(kind) or kind
    return factory if isinstance(factory, type) and factory is not object else None


def _default_writer(hooks: Hooks, kind: Kind) -> Write:
    write_items = _items_writer(hooks, kind)
    usual = _factory_of(_kinds(kind)[1])

    def write(value: object) -> Plain:
        if not _is_defaultdict(value):
            raise unfit(value, kind)
        plain = write_items(value)
        factory = value.default_factory
        if factory is usual:
            return plain
        names = [name for name, each in _FACTORIES.items() if each is factory]
        if not names:
            raise ValueMismatchError(
                value,
                "its default_factory could not be found again: use the class of the items in the annotation, or make a"
                " dict of it",
            )
        return DetailedList(plain, [None if names[0] is None else str(names[0]), plain])

    return write


def _default_reader(hooks: Hooks, kind: Kind) -> Read:
    read_items = _items_reader(hooks, kind)
    usual = _factory_of(_kinds(kind)[1])

    def read(plain: object, _: Kind) -> object:
        if is_dict(plain) or not is_list(plain) or all(map(is_list, plain)):
            return defaultdict(usual, read_items(plain))
        name, items = parts_of(plain)
        if name not in _FACTORIES:
            raise ValueMismatchError(plain, f"{name!r} is no default_factory that is known")
        return defaultdict(_FACTORIES[name], read_items(items))

    return read


def _is_deque(value: object) -> TypeGuard[deque[object]]:
    return type(value) is deque


def _deque_writer(hooks: Hooks, kind: Kind) -> Write:
    write_item = hooks.writer(next(iter(get_args(kind)), ANYTHING))

    def write(value: object) -> Plain:
        if not _is_deque(value):
            raise unfit(value, kind)
        items: list[Plain] = [stepped(value, "[{}]", place, write_item, each) for place, each in enumerate(value)]
        return items if value.maxlen is None else DetailedDict(items, {"maxlen": value.maxlen, "items": items})

    return write


def _deque_reader(hooks: Hooks, kind: Kind) -> Read:
    read_item = hooks.reader(next(iter(get_args(kind)), ANYTHING))

    def read(plain: object, _: Kind) -> object:
        if not is_dict(plain):
            return deque(map(read_item, parts_of(plain)))
        bounded = check_names(plain, kind, _BOUNDED)
        return deque(map(read_item, parts_of(bounded["items"])), _count(bounded["maxlen"]))

    return read


def _count(plain: object) -> int:
    if type(plain) is not int:
        raise ValueMismatchError(plain, "it was stored with no number of items that it may have")
    return plain
