"""The plain form of users' values: what JSON has a word for, and marks around what may be written only encrypted.

Every module of this folder uses it. It knows no converter and no key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Final, Protocol, TypeAlias, TypeGuard, TypeVar

from attrs import define

from railtracks._checks import is_ctrl_c
from railtracks._nodes.signature import ANYTHING, Kind
from railtracks._records.error_parts import line_of
from railtracks._records.secrets import is_secret_object
from railtracks._records.value_texts import class_name, safe_repr

T = TypeVar("T")

Scalar: TypeAlias = "bool | int | float | str | None"
Json: TypeAlias = "Scalar | list[Json] | tuple[Json, ...] | dict[str, Json]"
Plain: TypeAlias = "Scalar | Sealed | list[Plain] | tuple[Plain, ...] | dict[str, Plain]"

# The one key of the object that stands in a store for an encrypted value.
SEALED: Final = "$sealed"
SCALAR_CLASSES: Final[tuple[type[Scalar], ...]] = (str, int, float, bool, type(None))
SCALARS: Final[frozenset[Kind]] = frozenset(SCALAR_CLASSES)
# How many items are handed to code in C at once: it lets no other thread run.
SLICE: Final = 1_000


@define(frozen=True, eq=False)
class Sealed:
    """A plain value that may be written only encrypted.

    Attributes:
        plain: The value.
        is_secret: Whether it was wrapped in a `Secret`, and is to come back in one.
    """

    plain: Plain
    is_secret: bool


class Whole(int):
    """An int where a float is annotated: for a fingerprint it is that float."""


class Floats(list["Plain"]):
    """A list of ints and floats where floats are annotated."""


class Unordered(list["Plain"]):
    """The items of a set, or the pairs of a dict: for a fingerprint their order makes no difference."""


class DetailedList(list["Plain"]):
    """A list that stands for a value and for what `==` does not look at, as the name of a zone: no fingerprint does.

    Args:
        equal: The plain form without the details.
        parts: What is stored.
    """

    def __init__(self, equal: Plain, parts: Iterable[Plain]) -> None:
        super().__init__(parts)
        self.equal = equal


class DetailedDict(dict[str, "Plain"]):
    """A dict that stands for a value and for what `==` does not look at: no fingerprint does.

    Args:
        equal: The plain form without the details.
        parts: What is stored.
    """

    def __init__(self, equal: Plain, parts: Mapping[str, Plain]) -> None:
        super().__init__(parts)
        self.equal = equal


class ValueMismatchError(Exception):
    """A value is not what its annotation says. Turned into a `DurableValueError` before it leaves this folder.

    Attributes:
        value: The part that does not fit; as the error passes a container on its way out, that container.
        problem: Why it does not fit.
        path: The steps from `value` to the part that does not fit.
    """

    def __init__(self, value: object, problem: str) -> None:
        self.value = value
        self.problem = problem
        self.path = ""
        super().__init__(problem)

    def passed(self, container: object, step: str) -> None:
        """Note that the error leaves a container, and by which step the part is reached from there."""
        self.value = container
        self.path = step + self.path


def is_list(value: object) -> TypeGuard[list[object]]:
    """Return whether a value is a list, and not of a subclass."""
    return type(value) is list


def is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    """Return whether a value is a tuple, and not of a subclass."""
    return type(value) is tuple


def is_dict(value: object) -> TypeGuard[dict[object, object]]:
    """Return whether a value is a dict, and not of a subclass."""
    return type(value) is dict


def are_all(items: Collection[object], kinds: frozenset[Kind] = SCALARS) -> TypeGuard[Collection[Scalar]]:
    """Return whether items are all of some classes, by default the scalars, and none of a subclass."""
    if len(items) <= SLICE:
        return kinds.issuperset(map(type, items))
    remaining = iter(items)
    return all(kinds.issuperset(map(type, islice(remaining, SLICE))) for _ in range(0, len(items), SLICE))


def unfit(value: object, kind: Kind) -> ValueMismatchError:
    """Return the error for a value of another class than its annotation says."""
    return ValueMismatchError(value, f"a {class_name(value)}, where the annotation says {name_of(kind)}")


def stored(kind: type[T]) -> Callable[[object], T]:
    """Return a function that hands on what was stored as one class, and refuses everything else."""

    def check(plain: object) -> T:
        if type(plain) is not kind:
            raise _stored_otherwise(plain, kind)
        return plain

    return check


def parts_of(plain: object) -> list[object]:
    """Return a list that was stored, or refuse what is no list."""
    if is_list(plain):
        return plain
    raise _stored_otherwise(plain, list)


def check_names(fields: object, kind: Kind, names: Mapping[str, bool]) -> dict[str, object]:
    """Return a dict of fields, or refuse one that has other fields than a class, or lacks one that the class needs.

    Args:
        fields: The dict: a value, or what was stored.
        kind: The class.
        names: The names of its fields, and whether it needs each of them.
    """
    if not is_dict(fields):
        raise _stored_otherwise(fields, dict)
    for name in fields:
        if name not in names:
            raise ValueMismatchError(fields, f"it has a field {name!r}, and {name_of(kind)} has none of that name")
    for name, is_required in names.items():
        if is_required and name not in fields:
            raise ValueMismatchError(fields, f"it has no field {name!r}, and {name_of(kind)} has no default for it")
    return {str(name): item for name, item in fields.items()}


class _Generic(Protocol):
    """A generic class, or an alias of one, with type variables in it."""

    __parameters__: tuple[object, ...]

    def __getitem__(self, kinds: tuple[Kind, ...], /) -> Kind: ...


def has_parameters_left(kind: Kind) -> TypeGuard[_Generic]:
    """Return whether an annotation has type variables in it."""
    return bool(getattr(kind, "__parameters__", ()))


def filled_in(kind: Kind, given: Mapping[object, Kind]) -> Kind:
    """Return an annotation with what was given for its type variables; a class without parameters has none of them."""
    if isinstance(kind, TypeVar):
        return given.get(kind, ANYTHING)
    if isinstance(kind, type):
        return kind
    return kind[tuple(given.get(each, ANYTHING) for each in kind.__parameters__)] if has_parameters_left(kind) else kind


def meant_by(kind: Kind) -> list[Kind]:
    """Return the annotation that a `NewType` or a type alias stands for, none for every other annotation."""
    if isinstance(kind, type):
        return []
    return [getattr(kind, name) for name in ("__supertype__", "__value__") if hasattr(kind, name)]


def _stored_otherwise(plain: object, kind: type[object]) -> ValueMismatchError:
    return ValueMismatchError(plain, f"a {type(plain).__name__} was stored, not a {kind.__name__}")


def name_of(kind: Kind) -> str:
    """Return the name of an annotation for a message."""
    if kind is ANYTHING:
        return "JSON value"
    return str(getattr(kind, "__qualname__", None) or kind)


def exactly(kind: type[T]) -> Callable[[object], T]:
    """Return a function that hands on instances of one class, not of a subclass, and refuses all other values."""

    def check(value: object) -> T:
        if type(value) is not kind:
            raise unfit(value, kind)
        return value

    return check


def stepped(container: object, step: str, place: object, write: Callable[[object], T], part: object) -> T:
    """Write one part of a container; if that fails, whatever is raised, note in the error where the part stands.

    Args:
        container: The container.
        step: The step from the container to the part, with `{}` for the place.
        place: The number or the key of the part.
        write: Writes it.
        part: The part.

    Raises:
        ValueMismatchError: If the part cannot be written.
    """
    try:
        return write(part)
    except ValueMismatchError as mismatch:
        mismatch.passed(container, step.format(safe_repr(place)))
        raise
    except RecursionError:
        # A path of a thousand steps tells nobody anything.
        raise
    except BaseException as error:  # noqa: BLE001 - users' code: the call fails with the path to it
        raise mismatch_of(error, container, step.format(safe_repr(place))) from None  # noqa: ASYNC104 - the same


def mismatch_of(error: BaseException, container: object, step: str) -> ValueMismatchError:
    """Return what users' code raised while a part of a container was written, with the step to that part.

    Raises:
        KeyboardInterrupt: If the error is a real Ctrl-C.
    """
    if is_ctrl_c(error):
        raise error
    mismatch = ValueMismatchError(container, f"it cannot be written: {line_of(error)}")
    mismatch.path = step
    return mismatch


def unannotated(value: object) -> Plain:
    """Return the plain form of a value that no annotation describes.

    Raises:
        ValueMismatchError: If it is not a JSON value.
    """
    if _is_scalar(value):
        return value
    if is_list(value):
        if are_all(value):
            return list[Plain](value)
        return [stepped(value, "[{}]", place, unannotated, item) for place, item in enumerate(value)]
    if is_dict(value):
        plain: dict[str, Plain] = {}
        for key, item in value.items():
            name = text_key(value, key)
            plain[name] = item if _is_scalar(item) else stepped(value, "[{}]", key, unannotated, item)
        check_keys(value, plain)
        return plain
    if is_secret_object(value):
        return Sealed(unannotated(value.reveal()), is_secret=True)
    raise ValueMismatchError(
        value,
        f"a {class_name(value)} is not a JSON value: annotate it with a class that can be stored, or make a text of it",
    )


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    return type(value) in SCALARS


def text_key(container: object, key: object) -> str:
    """Return a key of a dict. Raises `ValueMismatchError` unless it is a string."""
    if type(key) is str:
        return key
    raise ValueMismatchError(
        container,
        f"it has a key of class {class_name(key)}, and JSON has strings only: annotate the dict and its keys",
    )


def check_keys(container: object, plain: dict[str, Plain]) -> None:
    """Refuse a dict that would be taken for an encrypted value when it is read."""
    if len(plain) == 1 and SEALED in plain:
        raise ValueMismatchError(container, f"the key {SEALED!r} is reserved for the store")
