"""What can be told of a value of any class, whatever the class does: the name of the class, and a text.

Called by everything that writes values: saved states and durable stores. What a value's own code raises stays in here.
The texts are short, and so is the time in which they are made.
"""

from __future__ import annotations

import gc
import sys
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Final

from railtracks._checks import is_ctrl_c
from railtracks._records.scrubbing import CUT

# Characters of a text that are kept.
LONGEST_TEXT: Final = 1_000

# How much a value may hold if its repr is to be made: parts, each counted as often as it stands there.
_MOST_PARTS: Final = 100_000
# For how many reprs that are then not made so many parts may be looked at, in all values that are written together. An
# object of Trio's leads to hundreds of others, and each of these to all that runs. A repr that comes later may be one
# of fewer parts only.
_MOST_IN_VAIN: Final = 5
_FEW_PARTS: Final = 100
# Their reprs hold the reprs of all that they hold.
_HOLDERS: Final = (dict, list, tuple, set, frozenset, deque)
_TEXTS: Final = (str, bytes, bytearray, array)
# They refer to much, and their reprs are names.
_NAMED: Final = (type, ModuleType, FunctionType)

_module_of: Final = type.__dict__["__module__"].__get__
_name_of: Final = type.__dict__["__qualname__"].__get__
_bases_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_attributes_of: Final[Callable[[type], Mapping[str, object]]] = type.__dict__["__dict__"].__get__


def class_name(value: object) -> str:
    """Return the name of a value's class; no code of the class runs."""
    name: str = _name_of(type(value))
    return str.__str__(name)


def full_class_name(value: object) -> str:
    """Return the name of a value's class with its module; no code of the class runs."""
    module: object = _module_of(type(value))
    # A class can have anything for its module.
    return f"{module}.{class_name(value)}" if type(module) is str else class_name(value)


class Looks:
    """How far objects are looked at before their reprs are made; one for all values that are written together.

    Args:
        most: How many parts an object may hold; of a few objects that hold more this is found out.
    """

    def __init__(self, most: int = _MOST_PARTS) -> None:
        self._most = most
        self._left_in_vain = _MOST_IN_VAIN * most

    def is_quickly_told(self, value: object) -> bool:
        """Return whether the repr of a value is made in a short time, as far as what it holds tells."""
        most = self._most if self._left_in_vain > 0 else _FEW_PARTS
        if _holds_at_most(value, most):
            return True
        self._left_in_vain -= most
        return False


def safe_repr(value: object, looks: Looks | None = None) -> str:
    """Return the repr of a value, cut if it is long; if it cannot be made, a text that says why."""
    try:
        if not (looks or Looks()).is_quickly_told(value):
            return "<no repr: it holds too much>"
        text = str.__str__(repr(value))
    except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
        if is_ctrl_c(error):
            raise
        return f"<no repr: {class_name(error)}>"  # noqa: ASYNC104 - the same
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}{CUT}"


def _holds_at_most(value: object, left: int) -> bool:
    """Return whether the repr of a value is made of at most `left` parts.

    A repr holds the repr of each part as often as the part stands there. So the repr of 40 lists, each twice in the
    next, never ends, and neither a timeout nor Ctrl-C can end it. Looked at are containers and objects whose class has
    a repr of its own, at any depth, and what the value itself refers to: what all other objects refer to has no end.
    """
    waiting = [value]
    while waiting and left > 0:
        part = waiting.pop()
        # `isinstance` would ask the part for its `__class__`.
        kind = type(part)
        left -= 1 + _weight(part, kind)
        if left > 0 and (part is value or _tells_parts(kind)) and not issubclass(kind, (*_NAMED, *_TEXTS)):
            waiting += gc.get_referents(part)
    return left > 0


def _tells_parts(kind: type) -> bool:
    """Return whether the repr of an object may hold those of others: its class has another repr than `object`'s."""
    return any("__repr__" in _attributes_of(each) for each in _bases_of(kind)[:-1])


def _weight(part: object, kind: type) -> int:
    """Return how many parts a large part counts as, by its size in memory."""
    if issubclass(kind, int):
        # The time in which Python makes the text of a number grows with the square of its length.
        return sys.getsizeof(part) ** 2 >> 14
    return sys.getsizeof(part) >> 6 if issubclass(kind, (*_HOLDERS, *_TEXTS)) else 0
