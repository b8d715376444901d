"""The parts of users' values: items, pairs, fields, and the texts of values that have no parts.

Called by `json_values`, and by the durable package. A value's own code runs here, and may raise anything: where nothing
else is said, that goes on to the caller, who leaves the value out.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import PurePath
from typing import Any, Final, TypeVar

from railtracks._checks import is_ctrl_c
from railtracks._records.secrets import field_names

T = TypeVar("T")

_CONTAINERS: Final = (dict, list, tuple, set, frozenset, Mapping)


def is_container(value: object) -> bool:
    return isinstance(value, _CONTAINERS) or bool(field_names(value))


def leaf_of(value: object) -> str | float | None:
    """Return the text of a time, a path, a UUID or a `Decimal`, the seconds of a duration, `None` for other values."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, PurePath) or any(_is_of(value, *names) for names in _RARE) else None


# Classes whose modules take as long to import as the rest of what saves a state.
_RARE: Final = (("uuid", "UUID"), ("decimal", "Decimal"))


def _is_of(value: object, module: str, name: str) -> bool:
    """Return whether a value is of a class. If its module has not been imported, or not this far, no value is."""
    return isinstance(value, getattr(sys.modules.get(module), name, ()))


def length_of(value: Any) -> int | None:
    try:
        return len(value)
    except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
        if is_ctrl_c(error):
            raise
        return None  # noqa: ASYNC104 - the same


def items_of(value: Collection[object]) -> Iterator[object]:
    return _counted(iter(value), len(value))


def pairs_of(value: Mapping[object, object]) -> Iterator[tuple[object, object]]:
    return _counted(iter(value.items()), len(value))


def _counted(items: Iterator[T], length: int) -> Iterator[T]:
    """Return as many items as the length says.

    Raises:
        ValueError: If there are more: they may have no end.
    """
    yield from islice(items, length)
    if next(items, items) is not items:
        raise ValueError("more items than its len() says")


def fields_of(value: object) -> Iterator[tuple[object, object]]:
    """Return the fields of an attrs or dataclass instance by their names; one that cannot be read is left out."""
    for name in field_names(value):
        try:
            item: object = getattr(value, name)
        except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
            if is_ctrl_c(error):
                raise
            continue  # noqa: ASYNC104 - the same
        yield name, item
