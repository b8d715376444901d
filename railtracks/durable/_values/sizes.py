"""How large a value is at least, found out without writing it: a walk that ends where the answer is certain.

Called by `values` before it writes a value. 22 lists, each twice in the next, are more than a row may have, and the
time to write them all would tell that too late.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Final

from railtracks._checks import is_ctrl_c, is_dict, is_frozen_set, is_list, is_set, is_tuple
from railtracks._records.secrets import is_secret_object
from railtracks._records.value_parts import fields_of
from railtracks.durable._values.plain import SCALARS, SLICE

# A value with more than this takes several milliseconds to write.
_FEW_PARTS: Final = 2_000
_FEW_BYTES: Final = 2**18
# How many containers are kept that are still to be looked into. Deeper than that Python cannot write a value.
_MOST_WAITING: Final = 100_000
_TEXTS: Final = frozenset((str, bytes, bytearray))


def is_large(value: object) -> bool:
    """Return whether other tasks should not have to wait until a value is written."""
    if type(value) in SCALARS:
        return type(value) is str and len(value) > _FEW_BYTES
    return not fits(value, _FEW_PARTS, _FEW_BYTES)


def fits(value: object, most_parts: float, most_bytes: float) -> bool:
    """Return whether a value may have no more parts and take no more bytes of JSON than given.

    It takes more bytes than are counted here: each part counts for two, and a text for its characters. What cannot be
    looked at counts for nothing: the writer finds out why.
    """
    waiting: list[Iterator[object]] = [iter((value,))]
    while waiting:
        try:
            chunk: list[Any] = list(islice(waiting[-1], SLICE))
            if not chunk:
                waiting.pop()
                continue
            most_parts -= len(chunk)
            most_bytes -= 2 * len(chunk) + sum([len(item) for item in chunk if type(item) in _TEXTS])
            if most_parts < 0 or most_bytes < 0:
                return False
            if len(waiting) < _MOST_WAITING:
                waiting += [_parts_of(item) for item in chunk if type(item) not in SCALARS]
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            waiting.pop()
    return True


def _parts_of(value: object) -> Iterator[object]:
    """Return the parts of a value; a value without parts has none. Nothing is asked of it before the first part."""
    if is_secret_object(value):
        yield value.reveal()
    elif is_dict(value):
        yield from chain(value, value.values())
    elif is_list(value) or is_tuple(value) or is_set(value) or is_frozen_set(value):
        yield from value
    else:
        for _, item in fields_of(value):
            yield item
