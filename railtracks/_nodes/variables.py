"""Nodes and flows by the variables that hold them: pickled as a module and a name, and found again by them.

Called by the `__reduce__` of nodes and flows. Who unpickles one gets what the variable holds there, as for a function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import TypeAlias, TypeGuard

from railtracks._nodes.lookup import named, names_in_class, names_in_module
from railtracks._nodes.worker_modules import MAINS

_Names: TypeAlias = list[tuple[str, object]]
Reduced: TypeAlias = tuple[Callable[[str, str], object], tuple[str, str]]


def reduced(thing: object, what: str, module: str, qualname: str) -> Reduced:
    """Return what `__reduce__` returns for an object that a variable holds.

    Args:
        thing: The object.
        what: What an error calls it.
        module: The module that probably holds it.
        qualname: The name that it probably has there.

    Raises:
        PicklingError: If no variable of a module holds the object.
    """
    if _held(module, qualname) is thing:
        return in_variable, (module, qualname)
    for name, names in _modules(module):
        for variable, value in names:
            if value is thing:
                return in_variable, (name, variable)
        # There are very many classes in a program, so only this module's are looked into.
        for variable, value in _attributes(name, names) if name == module else ():
            if value is thing:
                return in_variable, (name, variable)
    # Imported here: only who pickles gets here, and so has imported it.
    from pickle import PicklingError  # noqa: PLC0415

    raise PicklingError(
        f"{what} cannot be pickled, because no variable of a module holds it: assign it to a variable at module level"
    )


def _modules(first: str) -> Iterator[tuple[str, _Names]]:
    """Return the modules with their variables: a given one first, and the main module last.

    A program that is run as `__main__` can be imported from elsewhere only by its file, or not at all.
    """
    modules = list(sys.modules.items())
    modules.sort(key=lambda item: (item[0] != first, item[0] in MAINS))
    for name, module in modules:
        # Anything may stand in `sys.modules`.
        if _is_module(module):
            yield name, list(names_in_module(module).items())


def _attributes(module: str, names: _Names, around: str = "") -> Iterator[tuple[str, object]]:
    """Return the attributes of the classes that a module defines, with their qualified names."""
    for name, value in names:
        qualname = f"{around}{name}"
        if not _is_class(value):
            continue
        own = names_in_class(value)
        # A class that was imported, or has another name, too, is found where it is at home.
        if (own.get("__module__"), value.__qualname__) == (module, qualname):
            attributes = [(each, _plain(found)) for each, found in own.items()]
            yield from ((f"{qualname}.{each}", found) for each, found in attributes)
            yield from _attributes(module, attributes, f"{qualname}.")


def _is_class(value: object) -> TypeGuard[type]:
    return issubclass(type(value), type)


def _is_module(value: object) -> bool:
    # `isinstance` would ask the value for its class, and a lazy module might import itself for that.
    return issubclass(type(value), ModuleType)


def in_variable(module: str, qualname: str) -> object:
    """Return what a variable of a module holds. Imports the module, as unpickling does.

    Raises:
        AttributeError: If the module has no such variable.
    """
    import_module(module)
    found = _held(module, qualname)
    if found is None:
        raise AttributeError(
            f"the module {module!r} of this process has no variable {qualname!r}: define it in a module that both"
            " processes import"
        )
    return found


def _held(module: str, qualname: str) -> object:
    return _plain(named(module, qualname))


def _plain(found: object) -> object:
    """Return the function, or the node, inside of a static method or a class method."""
    return found.__func__ if _is_descriptor(found) else found


def _is_descriptor(found: object) -> TypeGuard[staticmethod[..., object] | classmethod[object, ..., object]]:
    return type(found) is staticmethod or type(found) is classmethod
