"""The parts of an exception, and an exception made of parts: no code of its class runs.

Called where exceptions come from: a worker process, or a database.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MemberDescriptorType
from typing import Any, Final

from railtracks._checks import exact, is_text
from railtracks._records.error_parts import args_of, attributes_of, is_group

# Attributes of Python's own classes that are no part of an exception: any object at all, quoted for suggestions in
# tracebacks; and what a group is made of.
_LEFT_OUT: Final = (
    vars(AttributeError)["obj"],
    vars(BaseExceptionGroup)["message"],
    vars(BaseExceptionGroup)["exceptions"],
)
# What Python itself knows of classes and exceptions, past everything that a class may put before it.
_BUILTIN: Final = frozenset(
    each for each in vars(builtins).values() if isinstance(each, type) and issubclass(each, BaseException)
)
_bases_of: Final[Callable[[type], tuple[type, ...]]] = vars(type)["__mro__"].__get__
_names_in: Final[Callable[[type], Mapping[str, object]]] = vars(type)["__dict__"].__get__
_set_args: Final[Callable[[BaseException, object], None]] = vars(BaseException)["args"].__set__


def args_beside_members(error: BaseException) -> tuple[object, ...]:
    """Return the arguments of an exception; of a group without the second one, which is its members."""
    args = args_of(error)
    return (*args[:1], *args[2:]) if is_group(error) else args


def state_of(error: BaseException) -> dict[str, object]:
    """Return the attributes of an exception but its notes: those in its `__dict__`, and those in slots."""
    # The keys can be any objects of users: a text is compared by its exact characters.
    state = {exact(name): value for name, value in attributes_of(error).items() if is_text(name)}
    state.pop("__notes__", None)
    # Python's own classes have slots, too: `errno`, `filename`, the end of the bytes that could not be decoded.
    for kind in _bases_of(type(error)):
        for name, slot in _names_in(kind).items():
            if type(slot) is not MemberDescriptorType or name.startswith("__") or slot in _LEFT_OUT:
                continue
            # An empty slot has no value.
            with suppress(AttributeError):
                value = slot.__get__(error, type(error))
                if not (kind in _BUILTIN and value is None):
                    state[name] = value
    return state


def rebuilt(
    kind: type[BaseException],
    args: tuple[object, ...],
    state: Iterable[tuple[str, object]],
    members: Sequence[BaseException] | None = None,
) -> BaseException:
    """Return an exception of a class with these arguments and attributes.

    Python's own class that it is derived from makes it. The class's own `__new__`, `__init__`, `__setattr__` and
    properties are not called.

    Args:
        kind: The class.
        args: The arguments as `args_beside_members` returns them.
        state: The attributes.
        members: The members of a group.

    Raises:
        TypeError: If Python's class does not take the arguments.
    """
    # Which one it is, the checkers cannot know, and so not what it takes.
    base: Any = next(each for each in _bases_of(kind) if each in _BUILTIN)
    made: BaseException
    if members is not None:
        made = base.__new__(kind, *args[:1], members)
        _set_args(made, (*args[:1], members, *args[1:]))
    else:
        made = base.__new__(kind, *args)
        # Some of Python's classes take their fields here, and refuse what a derived class has put into `args`.
        with suppress(TypeError):
            base.__init__(made, *args)
        _set_args(made, args)
    for name, value in state:
        slot = next((names[name] for names in map(_names_in, _bases_of(kind)) if name in names), None)
        if type(slot) is MemberDescriptorType:
            slot.__set__(made, value)
        elif name != "__notes__":
            attributes_of(made)[name] = value
    return made
