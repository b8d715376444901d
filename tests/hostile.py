"""Classes of errors and of texts whose methods and attributes raise: what users' classes can do at their worst."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import attrs

import railtracks as rt

# What an attack raises.
RAISED: tuple[type[BaseException], ...] = (
    KeyError,
    AttributeError,
    RuntimeError,
    RecursionError,
    MemoryError,
    StopIteration,
    GeneratorExit,
    SystemExit,
    KeyboardInterrupt,
)


def raising(kind: type[BaseException]) -> Callable[..., Any]:
    """Return a method that raises whatever it is asked."""

    def method(*_: object, **__: object) -> object:
        raise kind("hostile")

    return method


METHODS = (
    "__str__",
    "__repr__",
    "__format__",
    "__eq__",
    "__hash__",
    "__bool__",
    "__len__",
    "__iter__",
    "__setattr__",
    "__delattr__",
    "__getattr__",
    "__getattribute__",
    "__reduce__",
    "__reduce_ex__",
    "__setstate__",
    "add_note",
    "with_traceback",
    "split",
    "subgroup",
    "derive",
)
PROPERTIES = (
    "__notes__",
    "__cause__",
    "__context__",
    "__suppress_context__",
    "__traceback__",
    "__class__",
    "__dict__",
    "args",
    "exceptions",
    "message",
)
# Of the class of the class. Without `__subclasscheck__`: Python itself calls it for each `raise`, up to 3.11.
OF_THE_CLASS = (
    "__getattribute__",
    "__instancecheck__",
    "__eq__",
    "__hash__",
    "__repr__",
    "__str__",
    "__bool__",
)
ATTACKS = (*METHODS, *PROPERTIES, *(f"class {name}" for name in OF_THE_CLASS))


def hostile_class(
    base: type[BaseException], attacks: Collection[str], raised: type[BaseException]
) -> type[BaseException]:
    """Return a class of errors whose attacked methods and attributes raise."""
    parts: dict[str, object] = {"__module__": __name__}
    meta_parts: dict[str, object] = {}
    for attack in attacks:
        if attack.startswith("class "):
            meta_parts[attack.removeprefix("class ")] = raising(raised)
        elif attack in PROPERTIES:
            parts[attack] = property(raising(raised))
        else:
            parts[attack] = raising(raised)
    meta = type("HostileMeta", (type(base),), meta_parts)
    made: type[BaseException] = meta("HostileError", (base,), parts)
    return made


def hostile_error(
    base: type[BaseException],
    attacks: Collection[str],
    raised: type[BaseException],
    members: Sequence[BaseException] = (),
) -> BaseException:
    """Return an error of such a class; with members, a group."""
    kind = hostile_class(base, attacks, raised)
    # As by `raise kind(...)`, past what the class of the class does at a call.
    return kind("text", list(members)) if members else kind("text")


OF_TEXTS = (
    "__str__",
    "__repr__",
    "__format__",
    "__len__",
    "__bool__",
    "__iter__",
    "__getitem__",
    "__contains__",
    "__add__",
    "__mod__",
    "__lt__",
    "__reduce__",
    "encode",
    "format",
    "isprintable",
    "join",
    "lower",
    "partition",
    "replace",
    "rstrip",
    "splitlines",
    "startswith",
    "strip",
    "upper",
)


def hostile_text(text: str, attacks: Collection[str], raised: type[BaseException]) -> str:
    """Return a text of a class whose attacked methods raise."""
    kind = type("HostileText", (str,), {name: raising(raised) for name in attacks})
    made: str = kind(text)
    return made


# Frozen in each way that Python and its libraries have.


@dataclass(frozen=True)
class FrozenDataclassError(Exception):
    code: int = 5


@dataclass(frozen=True, slots=True)
class FrozenSlotsDataclassError(Exception):
    code: int = 5


@attrs.frozen
class FrozenAttrsError(Exception):
    code: int = 5


@attrs.frozen(slots=False)
class FrozenAttrsDictError(Exception):
    code: int = 5


class SlotsError(Exception):
    __slots__ = ("code",)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"frozen: {name}")


@attrs.frozen
class FrozenFatalError(rt.FatalError):
    code: int = 5


FROZEN: tuple[type[Exception], ...] = (
    FrozenDataclassError,
    FrozenSlotsDataclassError,
    FrozenAttrsError,
    FrozenAttrsDictError,
    SlotsError,
)


def deep_group(error: BaseException, levels: int = 5_000) -> BaseException:
    """Return an error in a group in a group, and so on: deeper than any recursion."""
    for _ in range(levels):
        error = BaseExceptionGroup("deep", [error])
    return error
