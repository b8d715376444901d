"""Literals: a value is written as its own class is, and read as the one literal that is written so.

Called by `converter`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, get_args

from railtracks._nodes.signature import Kind
from railtracks._records.value_texts import class_name
from railtracks.durable._values.hooks import Hooks, Read, Write, is_kind_of
from railtracks.durable._values.plain import SCALARS, Plain, ValueMismatchError


def add_literals(hooks: Hooks) -> None:
    """Add how values of `Literal` are written and read."""
    part = functools.partial
    hooks.add(is_kind_of(Literal), part(_literal_writer, hooks), part(_literal_reader, hooks))


def _literal_writer(hooks: Hooks, kind: Kind) -> Write:
    literals: tuple[object, ...] = get_args(kind)

    def write(value: object) -> Plain:
        if _is_among(value, literals):
            return hooks.write(value, type(value))
        raise ValueMismatchError(value, f"a {class_name(value)} that is none of {kind}")

    return write


def _literal_reader(hooks: Hooks, kind: Kind) -> Read:
    literals: tuple[object, ...] = get_args(kind)
    written = [(hooks.write(each, type(each)), each) for each in literals]
    _refuse_alike(kind, [plain for plain, _ in written])

    def read(plain: object, _: Kind) -> object:
        for stored, each in written:
            if type(plain) is type(stored) and plain == stored:
                return each
        if _is_among(plain, literals):
            return plain
        raise ValueMismatchError(plain, f"it is none of {kind}")

    return read


def _is_among(value: object, literals: Sequence[object]) -> bool:
    """Return whether a value is one of some literals; as to Python, `True` is the literal 1."""
    kinds = SCALARS if type(value) in SCALARS else {type(value)}
    return any(type(each) in kinds and value == each for each in literals)


def _refuse_alike(kind: Kind, written: Sequence[Plain]) -> None:
    """Refuse literals that would be taken for each other when they are read.

    Raises:
        ValueError: If two of them are stored alike, as a member of an enum is and its name.
    """
    for place, plain in enumerate(written):
        if any(type(plain) is type(other) and plain == other for other in written[:place]):
            raise ValueError(f"two of the literals of {kind} are stored alike, as {plain!r}")
