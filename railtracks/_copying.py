"""Copies of a context, so that the runs of a flow do not share its containers.

Called by `Flow`, `@session` and `set_config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, TypeVar

from railtracks._checks import is_dict, is_list, is_mapping, is_set, is_tuple

T = TypeVar("T", bound=Mapping[str, object] | None)


def copied(context: T) -> T:
    """Return a context for one run: its dicts, lists, tuples and sets are copied at any depth, all else is shared.

    A value that contains itself comes back as a copy that contains itself. What is no mapping is left to be refused.
    """
    twin: Any = _copied(dict(context) if is_mapping(context) else context, {})
    made: T = twin
    return made


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
        # What is in a set is hashable, and so is shared or immutable.
        seen[id(value)] = twin = copy(value)
        return twin
    if is_tuple(value):
        # A tuple of another class is shared, unless it is a named tuple: nothing tells how another class is made.
        make: Any = tuple if type(value) is tuple else getattr(type(value), "_make", None)
        return value if make is None else make([_copied(item, seen) for item in value])
    return value
