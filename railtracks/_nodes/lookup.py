"""Functions and classes by name: `module:qualname` addresses, and the way back, in modules that are imported already.

Called for jobs of worker processes and for the journals of durable sessions, which store such names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Final, TypeGuard

# Past what a class of lazy modules, or a metaclass, does when it is asked for an attribute: that may import.
names_in_module: Final[Callable[[object], Mapping[str, object]]] = vars(ModuleType)["__dict__"].__get__
names_in_class: Final[Callable[[object], Mapping[str, object]]] = vars(type)["__dict__"].__get__


def named(module: str, qualname: str) -> object:
    """Return the object with a qualified name in an imported module, `None` if there is none.

    Imports nothing and runs no code: only what a module, and classes in it, have in their own namespaces is found.
    """
    found: object = sys.modules.get(module)
    for name in qualname.split("."):
        names: Mapping[str, object] = {}
        if issubclass(type(found), ModuleType):
            names = names_in_module(found)
        elif issubclass(type(found), type):
            names = names_in_class(found)
        found = names.get(name)
        # As a class hands them out.
        if _is_static_method(found):
            found = found.__func__
    return found


def _is_static_method(found: object) -> TypeGuard[staticmethod[..., object]]:
    # `isinstance` would ask the object for its class, which may be a property.
    return type(found) is staticmethod


def address_of(thing: object) -> str:
    """Return the address of a function or a class, `module:qualname`."""
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"
