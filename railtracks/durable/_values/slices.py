"""Large plain data as JSON, a slice at a time.

Called by `values` for what is large, and for the records of a session. The encoder and the sort are code in C, which
lets no other thread run: an event loop would wait until all is done.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from railtracks.durable._values.plain import SLICE, Json, are_all

T = TypeVar("T")
K = TypeVar("K", str, float)


def sorted_in_slices(items: Sequence[T], key: Callable[[T], K]) -> list[T]:
    """Return items in the order of their keys. Code in C sorts, and lets no other thread run meanwhile."""
    slices = [sorted(items[start : start + 10 * SLICE], key=key) for start in range(0, len(items), 10 * SLICE)]
    return list(heapq.merge(*slices, key=key)) if slices[1:] else [each for part in slices for each in part]


def encoded_in_slices(plain: Json, encode: Callable[[Json], str]) -> str:
    """Return plain data as compact JSON, the same text as the encoder makes of it at once."""
    if isinstance(plain, dict):
        if len(plain) <= SLICE and are_all(plain.values()):
            return encode(plain)
        pairs = [f"{encode(key)}:{encoded_in_slices(item, encode)}" for key, item in plain.items()]
        return f"{{{','.join(pairs)}}}"
    if isinstance(plain, list | tuple):
        texts: list[str] = []
        for start in range(0, len(plain), SLICE):
            chunk = plain[start : start + SLICE]
            if are_all(chunk):
                texts.append(encode(cast("Json", chunk))[1:-1])
            else:
                texts.append(",".join([encoded_in_slices(item, encode) for item in chunk]))
        return f"[{','.join(texts)}]"
    return encode(plain)
