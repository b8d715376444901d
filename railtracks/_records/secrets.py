"""What is secret among values, and `rt.Secret`.

Called by everything that writes values: saved states, logs, durable stores. A value is secret because of its name
(`secret_names`), or because it is a `Secret`. A name is the key of a mapping, a field or an attribute, the first item
of a pair, or the name of a parameter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from enum import Enum
from itertools import islice
from typing import ClassVar, Final, Generic, Self, TypeAlias, TypeGuard, TypeVar

import attrs

from railtracks._checks import is_ctrl_c, is_dict, is_frozen_set, is_list, is_mapping, is_set, is_tuple
from railtracks._records.scrubbing import REDACTED
from railtracks._records.secret_names import is_secret_name

T_co = TypeVar("T_co", covariant=True)

# The names of the fields that name a value beside them: `{"name": "Authorization", "value": ...}`.
_NAMING: Final = ("name", "key", "header")


class Secret(Generic[T_co]):
    """A value that is never shown: code gets it by `reveal()` only.

    Its `str`, `repr` and `format` are `[redacted]`, and so is its place in a saved state, a log record or the text of
    an error. There the value itself is replaced, too, from the moment when a session has seen it: as an argument of a
    call, in the context, or by `reveal()`.
    """

    __slots__ = ("__value",)

    # Whether this process has made any: calls look for secrets among their arguments only then.
    were_made: ClassVar[bool] = False

    def __init__(self, value: T_co, /) -> None:
        self.__value = value
        Secret.were_made = True

    def __reduce__(self) -> tuple[type[Self], tuple[T_co]]:
        # By `__init__`, so that a process in which a secret is unpickled looks for secrets, too.
        return type(self), (self.__value,)

    def reveal(self) -> T_co:
        """Return the value itself. The session around this code, if there is one, keeps it out of its texts."""
        for tell in _told_of_reveals:
            tell(self)
        return self.__value

    def _hidden(self) -> T_co:
        return self.__value

    def __repr__(self) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        if not is_secret_object(other):
            return NotImplemented
        return bool(self.__value == hidden_in(other))

    def __hash__(self) -> int:
        return hash((Secret, self.__value))


# What is told of each `reveal()`: one function, which finds the session (`_calls.here`).
_told_of_reveals: Final[list[Callable[[Secret[object]], None]]] = []


def register_reveal(tell: Callable[[Secret[object]], None]) -> None:
    """Call a function at each `reveal()`. Called once, as the package is imported: this module knows no sessions."""
    _told_of_reveals.append(tell)


def is_secret_object(value: object) -> TypeGuard[Secret[object]]:
    """Return whether a value is a `Secret`, whatever is in it."""
    # `isinstance` would ask the value for its class, and that may be users' code.
    return issubclass(type(value), Secret)


def hidden_in(secret: Secret[object]) -> object:
    """Return the value of a secret, and tell no session of it."""
    return secret._hidden()  # noqa: SLF001 - of the class above


def is_secret(name: str | None, value: object) -> bool:
    """Return whether a value must not be shown under a name. A number of `tokens` is a count, and no secret."""
    if is_secret_object(value):
        return True
    if name is None or value is None or isinstance(value, bool) or not is_secret_name(name):
        return False
    return not (isinstance(value, int | float) and ("tokens" in (lower := name.lower()) or lower == "pass"))


# An item of a value with its name, if it has one.
Named: TypeAlias = tuple[str | None, object]


def named_items(value: object, most: float = math.inf) -> list[Named]:
    """Return what a container, an error, an attrs or a dataclass instance holds, each item with its name if any.

    Args:
        value: The value.
        most: How many items of a container are wanted at most.
    """
    stop = None if most == math.inf else math.ceil(most)
    if is_dict(value) or is_mapping(value):
        held = list(islice(value.items(), stop))
        return _renamed([(key if type(key) is str else key_name(key), item) for key, item in held])
    if is_tuple(value):
        # Of its class: an attribute of the value itself may be users' code.
        names: object = getattr(type(value), "_fields", ())
        known = zip(names if is_tuple(names) else (), value, strict=False)
        fields: list[Named] = [(key_name(name), item) for name, item in known]
        return _renamed(fields) if fields else _paired(list(islice(value, stop)), is_tuple=True)
    if is_list(value):
        return _paired(value[:stop], is_tuple=False)
    if is_set(value) or is_frozen_set(value):
        return [(None, item) for item in list(islice(value, stop))]
    if isinstance(value, BaseException):
        return [(None, item) for item in value.args]
    items: list[Named] = []
    for name in field_names(value):
        try:
            items.append((name, getattr(value, name)))
        except BaseException as error:  # noqa: ASYNC103 - no cancel can strike users' code that does not await
            # Users' code: a field that cannot be read holds nothing to show.
            if is_ctrl_c(error):
                raise
    return _renamed(items)


def _paired(items: list[object], *, is_tuple: bool) -> list[Named]:
    """Return the items of a tuple or a list; in a pair of a name and a text the first item names the second one.

    A list of two plain words is a list of two words, and no pair: `["password", "username"]`.
    """
    if len(items) == 2:  # noqa: PLR2004 - a pair
        first, second = items
        name = key_name(first) if _is_text(first) else None
        if name is not None and _is_text(second) and is_secret_name(name):
            is_word = isinstance(second, str) and second.replace("_", "").isalpha() and second.islower()
            return [(None, first), (name if is_tuple or not is_word else None, second)]
    return [(None, item) for item in items]


def _renamed(items: list[Named]) -> list[Named]:
    """Return named items; in `{"name": "Authorization", "value": ...}` the value has the name that stands beside it."""
    names = [name for name, _ in items]
    if "value" in names:
        for name, item in items:
            if name in _NAMING and _is_text(item) and is_secret_name(label := str(key_name(item))):
                return [(label if each == "value" else each, held) for each, held in items]
    return items


def _is_text(value: object) -> TypeGuard[str | bytes]:
    # As in `is_secret_object`: an item that raises must not cost its neighbours.
    return issubclass(type(value), str | bytes)


def key_name(key: object) -> str | None:
    """Return a key of a mapping as a name, `None` if it is none. The keys of headers are bytes."""
    if type(key) is str or key is None:
        return key
    try:
        return _told_key(key)
    except Exception:  # noqa: BLE001 - users' code: a key that cannot be told is no name
        return None


def _told_key(key: object) -> str | None:
    if isinstance(key, bytes):
        return key.decode("utf-8", "replace")
    if isinstance(key, Enum):
        # `Header.AUTH = "Authorization"` as well as `Field.PASSWORD = 1`.
        return key.name if is_secret_name(key.name) else key_name(key.value)
    text = "" if isinstance(key, int | float | complex | type) else str(key)
    # An object that does not tell itself tells its address.
    return None if text.startswith("<") else text or None


def field_names(value: object) -> tuple[str, ...]:
    """Return the names of the fields of an attrs instance or a dataclass instance, none for any other value."""
    kind: type = type(value)
    return _fields_of(kind)


@functools.lru_cache(maxsize=1024)
def _fields_of(cls: type) -> tuple[str, ...]:
    if attrs.has(cls):
        return tuple(attribute.name for attribute in attrs.fields(cls))
    if not hasattr(cls, "__dataclass_fields__"):
        return ()
    import dataclasses  # noqa: PLC0415 - whoever made the class has imported it

    return tuple(field.name for field in dataclasses.fields(cls))
