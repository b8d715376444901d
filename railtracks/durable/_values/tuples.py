"""Tuples: each item is written by its own annotation, of which one may stand for any number of items.

Called by `converter`, and by what looks into annotations: `storable`, `shapes` and `schemas`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Unpack, get_args, get_origin

from railtracks._nodes.signature import ANYTHING, Kind
from railtracks.durable._values.hooks import Hooks, Read, Write, is_kind_of
from railtracks.durable._values.plain import Plain, ValueMismatchError, is_tuple, name_of, parts_of, stepped, unfit


def add_tuples(hooks: Hooks) -> None:
    """Add how tuples are written and read."""
    part = functools.partial
    hooks.add(is_kind_of(tuple), part(_tuple_writer, hooks), part(_tuple_reader, hooks))


def kinds_in(kind: Kind) -> list[Kind]:
    """Return the annotations in one of a tuple, with `...` behind one that stands for any number of items.

    Those of a tuple that is unpacked in it, as `*tuple[int, ...]`, stand in its place.
    """
    if not hasattr(kind, "__args__"):
        # A tuple without parameters, or a variable that stands for the parameters of one.
        return [ANYTHING, ...]
    kinds: list[Kind] = []
    for each in get_args(kind):
        inner = unpacked(each)
        kinds += [each] if inner is None else kinds_in(inner)
    return kinds


def unpacked(kind: Kind) -> Kind | None:
    """Return what an annotation unpacks, `*tuple[int, ...]` or `Unpack[tuple[int, ...]]`; `None` if it does not."""
    if get_origin(kind) is Unpack:
        return next(iter(get_args(kind)), None)
    return kind if getattr(kind, "__unpacked__", False) is True else None


def item_kinds(kind: Kind, count: int) -> Sequence[Kind]:
    """Return the annotation of each item of a tuple; another number of them if the tuple does not fit."""
    kinds = kinds_in(kind)
    if ... not in kinds:
        return kinds
    place = kinds.index(...)
    return [*kinds[: place - 1], *[kinds[place - 1]] * (count - len(kinds) + 2), *kinds[place + 1 :]]


def _check_kinds(kind: Kind) -> None:
    """Refuse an annotation that does not tell by which part an item is kept.

    Raises:
        ValueError: If two of its parts stand for any number of items.
    """
    kinds = kinds_in(kind)
    if kinds.count(...) > 1 or kinds[:1] == [...]:
        raise ValueError(f"{kind} does not tell how many items each of its parts is for")


def _tuple_writer(hooks: Hooks, kind: Kind) -> Write:
    _check_kinds(kind)

    def write(value: object) -> Plain:
        if not is_tuple(value):
            raise unfit(value, kind)
        kinds = item_kinds(kind, len(value))
        if len(kinds) != len(value):
            raise ValueMismatchError(value, f"{len(value)} items, where the annotation says {name_of(kind)}")
        return [
            stepped(value, "[{}]", place, hooks.writer(below), each)
            for place, (each, below) in enumerate(zip(value, kinds, strict=True))
        ]

    return write


def _tuple_reader(hooks: Hooks, kind: Kind) -> Read:
    _check_kinds(kind)

    def read(plain: object, _: Kind) -> object:
        parts = parts_of(plain)
        kinds = item_kinds(kind, len(parts))
        return tuple(hooks.read(part, below) for part, below in zip(parts, kinds, strict=True))

    return read
