"""Stand-ins for public names whose extra is not installed: they can be looked at, and say what is missing when used.

Called by `railtracks/__init__`. `help(rt)`, `from railtracks import *` and whatever else only lists names ask for each
of them, and must not fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any


@cache
def stand_in(name: str, package: Callable[[], ModuleType], problem: str) -> object:
    """Return what stands for a public name: a class if the name is that of a class, else a function.

    Args:
        name: The name.
        package: Imports and returns the module with the name, or raises an ImportError. Each use asks it again, so that
            an extra which is installed meanwhile counts.
        problem: The text of that error, for the docstring.
    """
    text = f"Not there: {problem}"

    def real() -> Any:
        return getattr(package(), name)

    if name[0].isupper():
        return _StandIn(name, (), {"__doc__": text, "__module__": "railtracks", "_real": staticmethod(real)})

    def function(*args: object, **kwargs: object) -> object:
        return real()(*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = "railtracks", text
    return function


class _StandIn(type):
    """The class of the stand-ins for classes. They have a name and a docstring; whatever else is asked is a use."""

    _real: Callable[[], Any]

    def __call__(cls, *args: object, **kwargs: object) -> object:
        return cls._real()(*args, **kwargs)

    def __getattr__(cls, name: str) -> object:
        # help() and editors look for private names, and take an AttributeError for an answer.
        if name.startswith("_"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        found: object = getattr(cls._real(), name)
        return found

    def __iter__(cls) -> Iterator[object]:
        return iter(cls._real())

    def __getitem__(cls, name: object) -> object:
        return cls._real()[name]
