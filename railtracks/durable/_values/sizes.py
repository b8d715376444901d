"""How large a value is at least, found out without writing it: a walk that ends where the answer is certain.

Called by `values` before it writes a value. 22 lists, each twice in the next, are more than a row may have, and the
time to write them all would tell that too late.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final, TypeGuard, cast

from railtracks._checks import is_ctrl_c, is_dict, is_frozen_set, is_list, is_set, is_tuple
from railtracks._records.secrets import is_secret_object
from railtracks._records.value_parts import fields_of
from railtracks.durable._values.plain import SCALARS, SLICE

# A value with more than this takes several milliseconds to write.
_FEW_PARTS: Final = 2_000
_FEW_BYTES: Final = 2**18
_TEXTS: Final = frozenset((str, bytes, bytearray))
_NUMBERS: Final = SCALARS - _TEXTS


def is_large(value: object) -> bool:
    """Return whether other tasks should not have to wait until a value is written."""
    if type(value) in SCALARS:
        return type(value) is str and len(value) > _FEW_BYTES
    return _Measure(_FEW_BYTES, _FEW_PARTS).of(value) > _FEW_BYTES


def fits(value: object, most: int) -> bool:
    """Return whether a value may fit into `most` bytes of JSON, by what it takes at least."""
    return _Measure(most, math.inf).of(value) <= most


class _Measure:
    """Counts the bytes that a value takes at least: two for each part, and the characters of texts.

    An object that stands in a value many times is looked into once, and counted each time. What cannot be looked at
    counts for nothing: the writer finds out why.
    """

    def __init__(self, most: int, parts: float) -> None:
        self._most = most
        # How many more parts are looked at. With more the value counts as one that is over the limit.
        self._parts = parts
        self._known: dict[int, int] = {}
        # Alive as long as their ids are known: an id may be used again.
        self._seen: list[object] = []

    def of(self, value: object) -> int:
        """Return the count of a part, or a number over the limit as soon as that is certain."""
        if type(value) in _TEXTS:
            return 2 + len(cast("str", value))
        if type(value) in SCALARS:
            return 2
        known = self._known.get(id(value))
        if known is not None:
            return known
        # In itself it counts for nothing: the writer refuses it.
        self._known[id(value)] = 0
        self._seen.append(value)
        total = self._known[id(value)] = self._inside(value)
        return total

    def _inside(self, value: object) -> int:
        total = 2
        try:
            parts = _parts_of(value)
            while total <= self._most and (chunk := list(islice(parts, SLICE))):
                self._parts -= len(chunk)
                if self._parts < 0:
                    return self._most + 1
                if _NUMBERS.issuperset(map(type, chunk)):
                    total += 2 * len(chunk)
                    continue
                for item in chunk:
                    total += self.of(item)
                    if total > self._most:
                        break
        except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
            if is_ctrl_c(error):
                raise
        return total


def _parts_of(value: object) -> Iterator[object]:
    """Return the parts of a value; a value without parts has none. Nothing is asked of it before the first part."""
    if is_secret_object(value):
        yield value.reveal()
    elif is_dict(value):
        yield from chain(value, value.values())
    elif is_list(value) or is_tuple(value) or is_set(value) or is_frozen_set(value) or _is_deque(value):
        yield from value
    else:
        for _, item in fields_of(value):
            yield item


def _is_deque(value: object) -> TypeGuard[deque[object]]:
    return isinstance(value, deque)
