"""Unions: a value is written with the name of its class, unless JSON itself tells the members apart.

Called by `converter`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Collection, Mapping
from typing import Union, get_args, get_origin

from railtracks._checks import is_ctrl_c
from railtracks._nodes.signature import Kind
from railtracks._records.value_texts import class_name
from railtracks.durable._values.hooks import Hooks, Read, Write, is_kind_of
from railtracks.durable._values.plain import SCALARS, Plain, ValueMismatchError, name_of, parts_of
from railtracks.durable._values.sealing import encoded, laid_open
from railtracks.durable._values.slices import encoded_in_slices


def add_unions(hooks: Hooks) -> None:
    """Add how values of unions are written and read."""
    part = functools.partial
    hooks.add(is_kind_of(Union, types.UnionType), part(_union_writer, hooks), part(_union_reader, hooks))


def members_of(kind: Kind) -> Mapping[str, Kind]:
    """Return the members of a union by the names that they are stored under: for classes of one name, with modules."""
    members = get_args(kind)
    short = {name_of(member) if isinstance(member, type) else str(member): member for member in members}
    return short if len(short) == len(members) else {_long_name(member): member for member in members}


def _long_name(kind: Kind) -> str:
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else str(kind)


def _union_writer(hooks: Hooks, kind: Kind) -> Write:
    members = members_of(kind)
    is_plain = is_plain_union(members.values())

    def write(value: object) -> Plain:
        # The member that is the value's own class comes first; of the others the first one that takes it.
        ranked = sorted(members.items(), key=lambda each: (get_origin(each[1]) or each[1]) is not type(value))
        for name, member in ranked:
            try:
                plain = hooks.write(value, member)
                # cattrs hands on what it does not know as it is: only the encoder refuses that.
                encoded_in_slices(laid_open(plain), encoded)
            except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
                # Another member may take it.
                if is_ctrl_c(error):
                    raise
                continue  # noqa: ASYNC104 - the same
            return plain if is_plain else [name, plain]
        raise ValueMismatchError(value, f"a {class_name(value)}, where the annotation says {kind}")

    return write


def _union_reader(hooks: Hooks, kind: Kind) -> Read:
    members = members_of(kind)
    others = [member for member in members.values() if member is not type(None)]

    def read_plain(plain: object, _: Kind) -> object:
        if plain is None or (type(plain) in SCALARS and type(plain) in others):
            return plain
        return hooks.read(plain, next((member for member in others if member not in SCALARS), others[0]))

    def read_named(plain: object, _: Kind) -> object:
        name, inner = parts_of(plain)
        if name not in members:
            raise ValueMismatchError(plain, f"{name} is not among the classes of {kind}")
        return hooks.read(inner, members[str(name)])

    return read_plain if is_plain_union(members.values()) else read_named


def is_plain_union(members: Collection[Kind]) -> bool:
    """Return whether JSON itself tells the members of a union apart: all scalars, or one class or `None`."""
    kinds = [member for member in members if member is not type(None)]
    return all(kind in SCALARS for kind in kinds) or len(kinds) == 1
