"""What a value of the command line was to be and is not, in words for people.

Called by the conversion of arguments, which raises a `MisfitError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, Final, Literal, Self, get_args, get_origin, is_typeddict
from uuid import UUID

import attrs

from railtracks._checks import is_dict, is_list, is_tuple
from railtracks._nodes.signature import Kind

_WORDS: Final[dict[Kind, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "null",
    date: "a date such as 2026-11-30",
    datetime: "a date and time such as 2026-11-30T09:30",
    time: "a time such as 09:30",
    Decimal: "a decimal number such as 9.90",
    Path: "a path",
    PurePath: "a path",
    UUID: "a UUID such as 3f2b8c1e-5d0a-4f6e-9b7c-2a1d0e9f8c7b",
}
_FORMS: Final[dict[Kind, str]] = {
    **dict.fromkeys((list, tuple, set, frozenset, Sequence, Iterable, AbstractSet), "a JSON list"),
    **dict.fromkeys((dict, Mapping), "a JSON object"),
}
# How much of a value an error quotes.
_LONGEST: Final = 60


class MisfitError(Exception):
    """A text or a value is not what an annotation asks for.

    Attributes:
        wanted: What is asked for in its place, in words; `None` if the problem is inside it.
        given: What is given, in words.
    """

    def __init__(self, problem: str, wanted: str | None = None, given: str = "") -> None:
        self.wanted = wanted
        self.given = given
        super().__init__(problem)

    @classmethod
    def of(cls, kind: Kind, given: str) -> Self:
        """Return the error for a value that is something else altogether."""
        wanted = wanted_by(kind)
        return cls(f"expected {wanted}, not {given}", wanted, given)

    @classmethod
    def of_union(cls, problems: Sequence[MisfitError]) -> Self:
        """Return the error for a value that fits no member of a union, given the problem of each."""
        inside = [str(each) for each in problems if each.wanted is None]
        if inside:
            # The value is meant for one of these: what else it might have been does not matter.
            return cls(", or ".join(dict.fromkeys(inside)))
        wanted = " or ".join(dict.fromkeys(each.wanted for each in problems if each.wanted is not None))
        return cls(f"expected {wanted}, not {problems[0].given}", wanted, problems[0].given)


def wanted_by(kind: Kind) -> str:
    """Return what an annotation asks for, in words."""
    origin, name = get_origin(kind) or kind, name_of(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(kind.__members__)}"
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    form = _FORMS.get(origin)
    if form is None:
        return f"a JSON object for {name}" if has_fields(origin) or hasattr(origin, "model_validate") else name
    return f"{form} ({name})" if get_args(kind) else form


def has_fields(cls: Any) -> bool:
    """Return whether an object of JSON can become an instance of a class, field by field."""
    if is_typeddict(cls) or is_dataclass(cls):
        return True
    return isinstance(cls, type) and (attrs.has(cls) or ("_fields" in vars(cls) and issubclass(cls, tuple)))


def name_of(kind: Kind) -> str:
    """Return the name of an annotation, without the modules of its parts."""
    if isinstance(kind, type) and not get_args(kind):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("collections.abc.", "")


def given_text(text: str) -> str:
    """Return a text of the command line as an error quotes it."""
    return ascii(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def given_value(value: object) -> str:
    """Return a value of JSON as an error tells it."""
    if is_list(value):
        return "a list"
    if is_dict(value):
        return "an object"
    return given_text(value) if isinstance(value, str) else json.dumps(value)


def problem_of(error: Exception) -> str:
    """Return what a class of a user's says of the value that it refuses; of a model of pydantic's in one line."""
    told: Any = getattr(type(error), "errors", None) if isinstance(error, ValueError) else None
    try:
        problems: object = told(error) if callable(told) else None
    except Exception:  # noqa: BLE001 - an error of another library than pydantic may have an `errors` of its own
        problems = None
    if not is_list(problems):
        return str(error) or type(error).__name__
    return "; ".join(_problem_in(each) for each in problems if is_dict(each))


def _problem_in(problem: dict[object, object]) -> str:
    place, text = problem.get("loc"), problem.get("msg")
    steps = place if is_tuple(place) else ()
    where = "".join(f"item {each + 1}: " if isinstance(each, int) else f"{each!a}: " for each in steps)
    return f"{where}{text}"
