"""The classes with fields that a kind is made of. Refused are those with code of their own that would not run.

Called where schemas are made. msgspec sets the fields of an object itself, then it runs validators and `__post_init__`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from attrs import field, frozen

from railtracks.agents._schemas.docstrings import documentation_in
from railtracks.agents._schemas.hooks import is_model
from railtracks.agents._schemas.kinds import Kind, UnservableError, bounds_in, is_class, text_in

# What a key of a JSON object cannot be turned into.
_NO_KEYS: Final = (tuple, frozenset)


@frozen(eq=False)
class Classes:
    """The classes with fields that kinds are made of, each looked at once.

    Attributes:
        texts: The texts on the fields of each class, or generic alias of one, by their names.
    """

    texts: dict[Kind, Mapping[str, str]] = field(factory=dict[Kind, Mapping[str, str]])

    def look_at(self, kind: Any, place: str | None = None) -> None:
        """Take up the classes that a kind is made of.

        Args:
            kind: The kind.
            place: The field that the kind is in, `None` outside of classes.

        Raises:
            UnservableError: If one of them cannot be served.
        """
        origin, parts = get_origin(kind), get_args(kind)
        cls = origin if is_class(origin) else kind
        if parts and is_class(cls):
            _check_keys(cls, parts[0])
        if place is not None and origin is Annotated and next(bounds_in(parts[1:]), None) is not None:
            raise UnservableError(f"the bound on {place} would not be checked there: write it as msgspec.Meta(...)")
        if is_class(cls) and kind not in self.texts and not is_model(cls):
            self._take_up(kind, cls, _fields_of(cls))
        for each in parts:
            self.look_at(each, place)

    def _take_up(self, kind: Kind, cls: type, names: list[str]) -> None:
        if not names:
            return
        try:
            hints = get_type_hints(cls, include_extras=True)
        except Exception as error:
            raise UnservableError(
                f"the annotations of {cls.__qualname__} cannot be evaluated ({error}): what they name must be in its"
                " module"
            ) from error
        said = documentation_in(cls.__doc__).parameters
        # Listed before its fields are looked at: a class may be made of itself.
        texts = self.texts[kind] = {name: said[name] for name in names if name in said}
        for name in names:
            hint = hints.get(name, Any)
            if (text := text_in(_notes_on(hint))) is not None:
                texts[name] = text
            self.look_at(hint, f"{cls.__qualname__}.{name}")


def _notes_on(hint: Kind) -> tuple[object, ...]:
    """Return the notes on a field: those of its `Annotated`, which may be inside of `NotRequired`."""
    parts = get_args(hint)
    if get_origin(hint) is Annotated:
        return parts[1:]
    return _notes_on(parts[0]) if len(parts) == 1 and "Required" in repr(get_origin(hint)) else ()


def _check_keys(cls: type[object], kind: Kind) -> None:
    key = get_origin(kind) or kind
    if issubclass(cls, Mapping) and is_class(key) and (issubclass(key, _NO_KEYS) or _fields_of(key)):
        raise UnservableError("the keys of a JSON object are texts: take a dict whose keys are texts or numbers")


def _fields_of(cls: Any) -> list[str]:
    """Return the names of the fields of a class, none if it is no class with fields.

    Raises:
        UnservableError: If msgspec would not make an object of it as the class itself does.
    """
    if hasattr(cls, "__attrs_attrs__"):
        return _attrs_fields(cls)
    if dataclasses.is_dataclass(cls):
        return _dataclass_fields(cls)
    if hasattr(cls, "__struct_fields__"):
        return list(cls.__struct_fields__)
    # A TypedDict, or a NamedTuple.
    return list(cls.__annotations__ if hasattr(cls, "__total__") else getattr(cls, "_fields", ()))


def _attrs_fields(cls: Any) -> list[str]:
    name = cls.__qualname__
    if hasattr(cls, "__attrs_init__") or hasattr(cls, "__attrs_pre_init__"):
        raise UnservableError(f"{name} has an __init__ or __attrs_pre_init__ of its own, which would not run")
    for each in cls.__attrs_attrs__:
        if each.converter is not None:
            raise UnservableError(f"the converter of {name}.{each.name} would not run: take a class without it")
        if not each.init:
            raise UnservableError(f"{name}.{each.name} has init=False, and would be asked for: take it out")
        if each.alias != each.name:
            raise UnservableError(f"{name}.{each.name} has another name in __init__, {each.alias!r}: give it one name")
        if getattr(each.default, "takes_self", False):
            raise UnservableError(
                f"the default of {name}.{each.name} looks at the object: set it in __attrs_post_init__"
            )
    return [each.name for each in cls.__attrs_attrs__]


def _dataclass_fields(cls: Any) -> list[str]:
    name = cls.__qualname__
    if hasattr(cls, "__pydantic_validator__"):
        raise UnservableError(f"{name} is a dataclass of pydantic, whose checks would not run: use a BaseModel")
    # The generated one has no file.
    if not cls.__dataclass_params__.init or cls.__init__.__code__.co_filename != "<string>":
        raise UnservableError(f"{name} has an __init__ of its own, which would not run: use __post_init__")
    for each in dataclasses.fields(cls):
        if not each.init:
            raise UnservableError(f"{name}.{each.name} has init=False, and would be asked for: take it out")
    return [each.name for each in dataclasses.fields(cls)]
