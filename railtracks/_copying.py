"""Copies of a context, so that the sessions of a flow do not share its containers.

Called by `Flow`, `@session` and `set_config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import TypeVar, cast

from railtracks._checks import is_dict, is_list, is_mapping, is_set, is_tuple

T = TypeVar("T", bound=Mapping[str, object] | None)


def copied(context: T) -> T:
    """Return a context for one run: its dicts, lists, tuples and sets are copied at any depth, all else is shared.

    A value that contains itself comes back as a copy that contains itself. What is no mapping comes back as it is: its
    check, which comes later, refuses it.
    """
    return cast("T", _copied(dict(context) if is_mapping(context) else context, {}))


def _copied(value: object, seen: dict[int, object]) -> object:
    if id(value) in seen:
        return seen[id(value)]
    if is_dict(value):
        pairs = seen[id(value)] = copy(value)
        for key, item in value.items():
            pairs[key] = _copied(item, seen)
        return pairs
    if is_list(value):
        items = seen[id(value)] = copy(value)
        items[:] = [_copied(item, seen) for item in value]
        return items
    if is_set(value):
        # The items of a set are hashable: they are immutable, or objects that are shared anyway.
        seen[id(value)] = twin = copy(value)
        return twin
    return _copied_tuple(value, seen) if is_tuple(value) else value


def _copied_tuple(value: tuple[object, ...], seen: dict[int, object]) -> object:
    items = [_copied(item, seen) for item in value]
    kind: type = type(value)
    if kind is tuple:
        return tuple(items)
    # A tuple of another class is shared, unless it is a named tuple: nothing tells how another class is made.
    make: Callable[[list[object]], object] | None = getattr(kind, "_make", None)
    return value if make is None else make(items)
