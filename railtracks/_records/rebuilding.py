"""The parts of an exception, and an exception made of parts: without a call of its class's own code.

Called where exceptions come from another process.
"""

from __future__ import annotations

from contextlib import suppress
from types import MemberDescriptorType
from typing import Any, Final

from railtracks._checks import exact, is_text
from railtracks._records.error_parts import attributes_of

# Attributes of Python's own classes that are no part of an exception: any object at all, quoted for suggestions in
# tracebacks; and what a group is made of.
_LEFT_OUT: Final = (
    vars(AttributeError)["obj"],
    vars(BaseExceptionGroup)["message"],
    vars(BaseExceptionGroup)["exceptions"],
)


def state_of(error: BaseException) -> dict[str, object]:
    """Return the attributes of an exception but its notes: those in its `__dict__`, and those in slots."""
    # The keys can be any objects of users: a text is compared by its exact characters.
    state = {exact(name): value for name, value in attributes_of(error).items() if is_text(name)}
    state.pop("__notes__", None)
    # Python's own classes have slots, too: `errno`, `filename`, the end of the bytes that could not be decoded.
    for kind in type(error).__mro__:
        for name, slot in vars(kind).items():
            if not isinstance(slot, MemberDescriptorType) or name.startswith("__") or slot in _LEFT_OUT:
                continue
            try:
                value = slot.__get__(error, type(error))
            except AttributeError:
                continue
            if not (kind.__module__ == "builtins" and value is None):
                state[name] = value
    return state


def rebuilt(
    kind: type[BaseException],
    args: tuple[object, ...],
    state: dict[str, object],
    members: list[BaseException] | None = None,
) -> BaseException:
    """Return an exception of a class with these arguments and attributes.

    Python's own class that it is derived from makes it. The class's own `__new__` and `__init__` are not called, which
    may take other arguments.

    Args:
        kind: The class.
        args: The arguments; of a group only the message.
        state: The attributes.
        members: The members of a group.

    Raises:
        TypeError: If Python's class does not take the arguments.
    """
    # Of its `__new__` and `__init__` the checkers know nothing, as it is only known by what it does.
    base: Any = next(each for each in kind.__mro__ if each.__module__ == "builtins")
    made: BaseException = base.__new__(kind, *args) if members is None else base.__new__(kind, *args, members)
    if members is None:
        # Some of Python's classes take their fields here, and refuse what a derived class has put into `args`.
        with suppress(TypeError):
            base.__init__(made, *args)
        vars(BaseException)["args"].__set__(made, args)
    for name, value in state.items():
        # Past the `__setattr__` of a frozen class.
        object.__setattr__(made, name, value)
    return made
