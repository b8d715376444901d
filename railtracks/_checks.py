"""Checks of values: of which kind a value is, and whether users may pass it.

Called wherever users pass a value. A check takes the name of the value, for the error, and the value.
"""

from __future__ import annotations

import functools
import inspect
import io
import math
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeGuard, cast

# `isinstance` tells that a value is a list, and not of what. To the type checkers its items are objects.


def is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    """Return whether a value is a mapping."""
    return isinstance(value, Mapping)


def is_dict(value: object) -> TypeGuard[dict[object, object]]:
    """Return whether a value is a dict."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Return whether a value is a list."""
    return isinstance(value, list)


def is_generator_function(value: object) -> bool:
    """Return whether a call of `value` makes a generator, sync or async: a function, a partial, or an object."""
    while isinstance(value, functools.partial):
        value = value.func
    function = value if inspect.isroutine(value) else type(value).__call__
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def is_text_stream(value: object) -> bool:
    """Return whether a value may be a text stream: it can be written to, and is no stream of bytes."""
    return hasattr(value, "write") and not isinstance(value, io.RawIOBase | io.BufferedIOBase)


def is_set(value: object) -> TypeGuard[set[object]]:
    """Return whether a value is a set."""
    return isinstance(value, set)


def is_frozen_set(value: object) -> TypeGuard[frozenset[object]]:
    """Return whether a value is a frozen set."""
    return isinstance(value, frozenset)


def is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    """Return whether a value is a tuple."""
    return isinstance(value, tuple)


def is_text(value: object) -> TypeGuard[str]:
    """Return whether a value is a string, whatever its class says in `__class__`."""
    return type.__subclasscheck__(str, type(value))


def exact(text: str) -> str:
    """Return a text as a plain string: a subclass of `str` belongs to users, and its methods may raise."""
    return str.__str__(text)


class Number(NamedTuple):
    """A check for numbers.

    Attributes:
        unit: The unit of the number, for the error.
        is_whole: Whether only whole numbers are allowed.
        least: The smallest number that is allowed.
        is_more: Whether `least` itself is refused.
        infinite: What `math.inf` means, for the error; `None` where it is refused.
        beside: What is allowed besides a number, for the error.
    """

    unit: str = ""
    is_whole: bool = False
    least: float = 0
    is_more: bool = False
    infinite: str | None = None
    beside: str = ""

    def __call__(self, name: str, value: object) -> None:
        """Raise `TypeError` or `ValueError` unless the value is such a number."""
        if isinstance(value, float) and value == math.inf and self.infinite is not None:
            return
        if isinstance(value, bool) or not isinstance(value, int if self.is_whole else int | float):
            of_unit = f" of {self.unit}" if self.unit else ""
            kind = f"a {'whole ' * self.is_whole}number{of_unit}"
            raise TypeError(f"{name} must be {self.beside}{kind}, not {type(value).__name__}")
        is_large_enough = value > self.least if self.is_more else value >= self.least
        # In this form the condition is false for nan, which is so refused.
        if not (is_large_enough and value <= (value if self.is_whole else sys.float_info.max)):
            raise ValueError(f"{name} must be {self._range()}, not {value!r}")

    def _range(self) -> str:
        one = self.unit.removesuffix("es" if self.unit.endswith("sses") else "s")
        unit = f" {one if self.least == 1 else self.unit}" if self.unit else ""
        if self.is_more:
            text = f"more than {self.least:g}{unit}"
        else:
            text = f"at least {self.least:g}{unit}" if self.least else f"0{unit} or more"
        if self.infinite:
            return f"{text} (math.inf for {self.infinite})"
        return f"{text}, and finite" if self.infinite is None and not self.is_whole else text


check_timeout: Final = Number("seconds", is_more=True, infinite="none")
check_duration: Final = Number("seconds")
check_grace: Final = Number("seconds", infinite="")
check_count: Final = Number(is_whole=True, least=1)


def check_text(name: str, value: object) -> None:
    """Raise `TypeError` unless the value is a string."""
    if not is_text(value):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")


def check_name(what: str, value: object) -> None:
    """Raise `TypeError` or `ValueError` unless the value is a string with something in it."""
    check_text(what, value)
    if not (is_text(value) and exact(value).strip()):
        raise ValueError(f"{what} must not be empty")


def check_path(name: str, value: object) -> None:
    """Raise `TypeError` or `ValueError` unless the value is a path that a file can have."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, not {type(value).__name__}")
    text = os.fsdecode(cast("str | os.PathLike[str]", value))
    if not text or "\0" in text:
        raise ValueError(f"{name} must be the path of a file, not {text!r}")


def unstorable(text: str) -> str | None:
    """Return what in a text no database keeps, `None` if there is nothing."""
    if "\0" in text:
        return "it has a NUL character in it, which no database keeps"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "it has half of a character in it (a lone surrogate), which no database keeps"
    return None


def check_storable(what: str, text: str | None) -> None:
    """Raise `ValueError` if no database keeps a text."""
    problem = None if text is None else unstorable(text)
    if problem is not None:
        raise ValueError(f"{what} cannot be {text!r}: {problem}")


# Bytes in UTF-8. An entry of an index of PostgreSQL has some 2,700 at most, and some indexes have an identifier beside.
_LONGEST_INDEXED: Final = 1_000


def check_indexed(what: str, text: str | None) -> None:
    """Raise `ValueError` if a text cannot be in an index of a store, which holds no long ones as other columns do."""
    check_storable(what, text)
    size = 0 if text is None else len(exact(text).encode())
    if size > _LONGEST_INDEXED:
        raise ValueError(f"{what} must have at most {_LONGEST_INDEXED:,} bytes in UTF-8, not {size:,}")


def check_flag(name: str, value: object) -> None:
    """Raise `TypeError` unless the value is `True` or `False`."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")


# What a switch in the environment may be.
_SWITCH: Final = {
    **dict.fromkeys(("0", "false", "no", "off"), False),
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    "": None,
}


def switch_in_environment(name: str) -> bool | None:
    """Return what an environment variable says, `None` if it is not set or empty.

    Raises:
        ValueError: If the variable says neither yes nor no. Somebody wanted something of it.
    """
    said = os.environ.get(name)
    if not said:
        return None
    if said.strip().lower() not in _SWITCH:
        raise ValueError(f"the environment variable {name} must be 0 or 1, not {said!r}")
    return _SWITCH[said.strip().lower()]


def check_values(what: str, values: object) -> None:
    """Raise `TypeError` unless the value is a mapping from names to values."""
    if not is_mapping(values):
        raise TypeError(f"{what} must be a mapping from names to values, not {type(values).__name__}")
    for key in values:
        if not is_text(key):
            raise TypeError(f"the keys of {what} must be strings, not {key!r}")


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether an error that came out of a value's own code is a Ctrl-C of the user.

    Ctrl-C strikes the main thread only, and in Trio no code that is protected from it: the library asks values for
    their parts in a worker thread, or protected. What is left is code that runs without Trio, where Python's own
    handler raises Ctrl-C. Every other error of a value's code costs that value only.
    """
    return (
        type.__subclasscheck__(KeyboardInterrupt, type(error))
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
