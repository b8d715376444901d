"""Classes of users that are kept by functions of theirs: `rt.register_durable_value`. Called by users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeGuard, TypeVar

from railtracks._nodes.signature import Kind
from railtracks.durable._values.converter import CONVERTER
from railtracks.durable._values.plain import Plain, stepped, unannotated, unfit
from railtracks.durable._values.storable import problem_of

T = TypeVar("T")


def register_durable_value(kind: type[T], /, dump: Callable[[T], object], load: Callable[[Any], T]) -> None:
    """Have instances of a class kept in durable stores, wherever it is the annotation of a value.

    For this process and all stores: register at import time, in the module that defines the class or uses it. A value
    that `load` makes is dumped again, and has to give the same JSON. Instances of subclasses are refused.

    Args:
        kind: The class.
        dump: Returns an instance as JSON values: dicts with strings as keys, lists, strings, numbers, bools, `None`.
        load: Makes an instance of what `dump` returned.

    Raises:
        TypeError: If `kind` is no class, or a function cannot be called.
        ValueError: If instances of the class are kept already.
    """
    if not _is_class(kind):
        raise TypeError(f"register_durable_value() takes a class, not {kind!r}")
    for name, function in (("dump", dump), ("load", load)):
        if not callable(function):
            raise TypeError(f"{name} of register_durable_value() must be a function, not {function!r}")
    if not CONVERTER.is_derived(kind) and problem_of(kind, CONVERTER) is None:
        raise ValueError(f"instances of {kind.__qualname__} are kept already, without register_durable_value()")

    def write(value: object) -> Plain:
        if not _is_exactly(value, kind):
            raise unfit(value, kind)
        return stepped(value, " (dumped)", None, unannotated, dump(value))

    CONVERTER.add_exactly(kind, write, lambda plain, _: load(plain))
    _in_failures[address_of(kind)] = kind


def register_annotation(
    kind: type[T], dump: Callable[[Any], object], load: Callable[[Any, Kind], object], *, in_failures: bool = False
) -> None:
    """Have values with an annotation kept by functions, whatever their own class is. For packages on top of the core.

    Args:
        kind: The annotation: a class, or one that only stands in annotations.
        dump: Returns a value as JSON values.
        load: Makes a value of what `dump` returned. It gets the annotation, too, with its parameters.
        in_failures: Whether a value of this class may be an attribute of an exception.
    """
    CONVERTER.add_whole(kind, lambda value: stepped(value, " (dumped)", None, unannotated, dump(value)), load)
    if in_failures:
        _in_failures[address_of(kind)] = kind


# The classes whose instances come back with exceptions that have them as attributes, by their addresses.
_in_failures: Final[dict[str, type[object]]] = {}


def address_of(kind: type[object]) -> str:
    """Return the name by which an instance of a class is found again among the attributes of an exception."""
    return f"{kind.__module__}:{kind.__qualname__}"


def kind_in_failures(address: str) -> type[object] | None:
    """Return the class with an address, `None` if none was registered."""
    return _in_failures.get(address)


def _is_class(kind: object) -> bool:
    return isinstance(kind, type)


def _is_exactly(value: object, kind: type[T]) -> TypeGuard[T]:
    return type(value) is kind
