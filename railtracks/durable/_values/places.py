"""Where the classes of recorded exceptions are: found again by name among the modules that the program has imported.

Called by `failures`. The program itself is the module `__main__`, whichever program that is. So a class of it is kept
under the name that `python -m` was given, or with the file of the program, and found in whatever module has that file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Final, NamedTuple, TypeGuard

from railtracks._nodes.lookup import named, names_in_module
from railtracks._records.error_parts import class_address

_MAIN: Final = "__main__"
# What the main module is called in a worker of `multiprocessing`.
_WORKERS_MAIN: Final = "__mp_main__"


class Place(NamedTuple):
    """The place of a class.

    Attributes:
        module: The name of the module.
        qualname: The qualified name of the class in it.
        file: The file of the module; empty for a program without one, `None` if it is not known.
        is_main: Whether the module was the program.
    """

    module: str
    qualname: str
    file: str | None
    is_main: bool

    @property
    def address(self) -> str:
        """The module and the name in one text."""
        return f"{self.module}:{self.qualname}"


def place_of(error: BaseException) -> Place:
    """Return the place of an error's class."""
    module, _, qualname = class_address(error).partition(":")
    if module not in {_MAIN, _WORKERS_MAIN}:
        return Place(module, qualname, _file_of(module), is_main=False)
    return Place(_name_of_program() or _MAIN, qualname, _file_of(_MAIN) or "", is_main=True)


def class_at(place: Place) -> type[Exception] | None:
    """Return the exception class at a place, `None` if this process has none there."""
    for module in _modules_at(place):
        found = named(module, place.qualname)
        if _is_class(found) and issubclass(found, Exception):
            return found
    return None


def missing(place: Place) -> str:
    """Return why there is no class at a place, and what to do, to be said behind the name of what is of that class."""
    if place.module == _MAIN:
        program = place.file or "without a file"
        return f"is of a class of the program {program}: resume the session in it, or import it as a module before"
    if place.module not in sys.modules:
        return f"cannot be made again: import {place.module} before the session is resumed"
    return f"is of a class that is no exception of module {place.module} any more"


def _modules_at(place: Place) -> Iterator[str]:
    """Return the names of the modules that may have the class, the likeliest first."""
    was_main, is_main = place.is_main or place.module == _MAIN, _is_program(place)
    if was_main and is_main:
        yield _MAIN
    if place.module != _MAIN:
        yield place.module
    if is_main and not was_main:
        yield _MAIN
    if was_main and place.file:
        # The program has become a module since.
        yield from (name for name in list(sys.modules) if name != _MAIN and _file_of(name) == place.file)


def _is_program(place: Place) -> bool:
    """Return whether the module of a place is the program that this process runs."""
    if place.file is None:
        # A row of an earlier release.
        return place.module in {_MAIN, _name_of_program()}
    return place.module == _name_of_program() or place.file == (_file_of(_MAIN) or "")


def _name_of_program() -> str | None:
    """Return the name that `python -m` was given."""
    name: object = getattr(_names_in(_MAIN).get("__spec__"), "name", None)
    return name if isinstance(name, str) else None


def _file_of(module: str) -> str | None:
    file = _names_in(module).get("__file__")
    return os.path.realpath(file) if isinstance(file, str) else None


def _names_in(module: str) -> Mapping[str, object]:
    found: object = sys.modules.get(module)
    # `isinstance` would ask the module for its class, which may import it.
    return names_in_module(found) if issubclass(type(found), ModuleType) else {}


def _is_class(found: object) -> TypeGuard[type[object]]:
    # `isinstance` would ask the object for its class, which may be a property.
    return issubclass(type(found), type)
