"""JSON values checked against a schema that a store has of a wait, before a person's answer is sent.

The views of waits call this. Both sides are input: the schema may be anything that somebody wrote into the store. So a
check ends after a number of steps, and no text of a schema is run as a pattern.
"""

from __future__ import annotations

import json
import operator
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Final, NoReturn
from uuid import UUID

from railtracks._checks import is_dict, is_list, is_text
from railtracks._records.secrets import Secret, is_secret_object
from railtracks.durable._values.schemas import DEFINITIONS, HIDDEN, REFERENCE, WRAPPED

# How many parts of schemas one check looks at, and how deep: Python's own stack ends some way behind that.
_MOST_STEPS: Final = 20_000
_DEEPEST: Final = 60
# How much of values, and how many of them, an error quotes.
_LONGEST: Final = 60
_MOST_NAMED: Final = 20

_TYPES: Final[Mapping[str, tuple[type[object], ...]]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
_WANTED: Final[Mapping[str, str]] = {
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "array": "a list",
    "object": "an object",
}
_EXAMPLES: Final[Mapping[str, str]] = {
    "date-time": "a date and time such as 2026-11-30T09:30",
    "date": "a date such as 2026-11-30",
    "time": "a time such as 09:30",
    "uuid": "a UUID such as 3f2b8c1e-5d0a-4f6e-9b7c-2a1d0e9f8c7b",
    "decimal": "a decimal number such as 9.90, as a text",
    "base64": "a text in base64",
}
_FORMATS: Final[Mapping[str, Callable[[str], object]]] = {
    "date-time": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "uuid": UUID,
    "decimal": Decimal,
}


def _size(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _length(value: object) -> float | None:
    return len(value) if isinstance(value, str) else None


def _count(value: object) -> float | None:
    return len(value) if is_list(value) else None


# Limits: their keyword, what of a value they are for, when they are kept, and how they are told.
_LIMITS: Final[tuple[tuple[str, Callable[[object], float | None], Callable[[float, float], bool], str], ...]] = (
    ("minimum", _size, operator.ge, "be {} at least"),
    ("maximum", _size, operator.le, "be {} at most"),
    ("exclusiveMinimum", _size, operator.gt, "be more than {}"),
    ("exclusiveMaximum", _size, operator.lt, "be less than {}"),
    ("minLength", _length, operator.ge, "have {} characters at least"),
    ("maxLength", _length, operator.le, "have {} characters at most"),
    ("minItems", _count, operator.ge, "have {} items at least"),
    ("maxItems", _count, operator.le, "have {} items at most"),
)


class MisfitError(Exception):
    """A value does not fit a schema. The text names the place and the problem.

    Attributes:
        place: The place.
        wanted: What is wanted in the place of the whole value, in words; `None` if the problem is another one.
        given: The value, in short.
    """

    def __init__(self, problem: str, place: str = "", wanted: str | None = None, given: str = "") -> None:
        self.place = place
        self.wanted = wanted
        self.given = given
        super().__init__(problem)


class _EndlessError(Exception):
    """A schema has more parts than a check looks at."""


def fitted(value: object, schema: Mapping[str, object]) -> object:
    """Return a JSON value with an `rt.Secret` around each part that the schema wants in one.

    Args:
        value: The value, as JSON is read.
        schema: What it has to fit. Keywords that are not known here allow everything.

    Raises:
        MisfitError: If it does not fit.
    """
    definitions = schema.get(DEFINITIONS)
    fitting = _Fitting(definitions if is_dict(definitions) else {})
    try:
        return fitting.fit(value, schema, "")
    except _EndlessError:
        raise MisfitError("the schema has too many parts to be checked") from None


def hides(schema: object, depth: int = 0) -> bool:
    """Return whether a part of a schema is for a secret."""
    if depth >= _DEEPEST:
        return False
    if is_dict(schema):
        return schema.get(HIDDEN) is True or any(hides(each, depth + 1) for each in schema.values())
    return is_list(schema) and any(hides(each, depth + 1) for each in schema)


def takes_text(schema: Mapping[str, object]) -> bool:
    """Return whether a schema is for texts only, or null: then a text can be given as it is."""
    definitions = schema.get(DEFINITIONS)
    return _takes_text(schema, definitions if is_dict(definitions) else {}, 0)


def _takes_text(schema: object, definitions: Mapping[object, object], depth: int) -> bool:
    if not is_dict(schema) or depth >= _DEEPEST:
        return False
    reference, values, choices = schema.get("$ref"), schema.get("enum"), schema.get("anyOf")
    if is_text(reference):
        return _takes_text(definitions.get(reference.removeprefix(REFERENCE)), definitions, depth + 1)
    if is_list(values):
        return all(map(is_text, values))
    if is_list(choices):
        some = [each for each in choices if not (is_dict(each) and each.get("type") == "null")]
        return bool(some) and all(_takes_text(each, definitions, depth + 1) for each in some)
    return schema.get("type") == "string"


def told(schema: Mapping[str, object]) -> str:
    """Return in a few words what fits a schema: for one with parts, the schema itself."""
    kind, values, title = schema.get("type"), schema.get("enum"), schema.get("title")
    if is_list(values):
        return f"one of {_named(values)}"
    if is_text(kind) and kind in _WANTED and kind not in {"array", "object"}:
        form = schema.get("format")
        return f"{_WANTED[kind]} ({form})" if is_text(form) else _WANTED[kind]
    text = json.dumps(schema)
    return f"{title}: {text}" if is_text(title) else text


class _Fitting:
    """One check of a value.

    Args:
        definitions: The schemas that others refer to.
    """

    def __init__(self, definitions: Mapping[object, object]) -> None:
        self._definitions = definitions
        self._steps = 0
        self._depth = 0

    def fit(self, value: object, schema: object, place: str) -> object:
        """Return a value as it is to be sent.

        Raises:
            MisfitError: If it does not fit.
        """
        self._steps += 1
        if self._steps > _MOST_STEPS or self._depth >= _DEEPEST:
            raise _EndlessError
        if schema is False:
            _refuse(place, "nothing is allowed there")
        if not is_dict(schema):
            return value
        self._depth += 1
        try:
            made = self._fit(value, schema, place)
        except MisfitError:
            if schema.get(HIDDEN) is True:
                _refuse(place, "what is given for this secret does not fit")
            raise
        finally:
            self._depth -= 1
        return Secret(made) if schema.get(WRAPPED) is True and not is_secret_object(made) else made

    def _fit(self, value: object, schema: Mapping[object, object], place: str) -> object:
        reference = schema.get("$ref")
        if is_text(reference):
            value = self.fit(value, self._definitions.get(reference.removeprefix(REFERENCE)), place)
        _check_type(value, schema.get("type"), place)
        _check_values(value, schema, place)
        _check_text(value, schema, place)
        _check_limits(value, schema, place)
        for keyword in ("anyOf", "oneOf"):
            choices = schema.get(keyword)
            if is_list(choices) and choices:
                value = self._fit_one(value, choices, place)
        parts = schema.get("allOf")
        for each in parts if is_list(parts) else ():
            value = self.fit(value, each, place)
        if is_dict(value):
            return self._fit_object(value, schema, place)
        return self._fit_items(value, schema, place) if is_list(value) else value

    def _fit_one(self, value: object, choices: list[object], place: str) -> object:
        problems: list[MisfitError] = []
        for each in choices:
            try:
                return self.fit(value, each, place)
            except MisfitError as misfit:
                problems.append(misfit)
        # What is wrong inside a value tells for which choice it is meant.
        inside = [str(each) for each in problems if each.wanted is None or each.place != place]
        if inside:
            raise MisfitError("; or ".join(dict.fromkeys(inside)), place)
        wanted = " or ".join(dict.fromkeys(each.wanted for each in problems if each.wanted is not None))
        raise _instead(place, problems[0].given, wanted)

    def _fit_object(self, value: dict[object, object], schema: Mapping[object, object], place: str) -> object:
        known, rest = schema.get("properties"), schema.get("additionalProperties")
        properties: Mapping[object, object] = known if is_dict(known) else {}
        required = schema.get("required")
        for name in required if is_list(required) else ():
            if is_text(name) and name not in value:
                _refuse(place, f"it has no field {_shown(name)}")
        made: dict[object, object] = {}
        for name, part in value.items():
            if name not in properties and rest is False:
                _refuse(place, f"it has a field {_shown(name)}; known are {_named(properties)}")
            made[name] = self.fit(part, properties.get(name, rest), f"{place}.{name}")
        return made

    def _fit_items(self, value: list[object], schema: Mapping[object, object], place: str) -> object:
        first, rest = schema.get("prefixItems"), schema.get("items")
        prefix = first if is_list(first) else []
        return [
            self.fit(part, prefix[number] if number < len(prefix) else rest, f"{place}[{number}]")
            for number, part in enumerate(value)
        ]


def _check_type(value: object, wanted: object, place: str) -> None:
    names = [name for name in (wanted if is_list(wanted) else [wanted]) if is_text(name)]
    allowed = [kind for name in names for kind in _TYPES.get(name, (type(value),))]
    if allowed and type(value) not in allowed:
        raise _instead(place, _shown(value), " or ".join(map(_WANTED.__getitem__, names)))


def _check_values(value: object, schema: Mapping[object, object], place: str) -> None:
    given = schema.get("enum")
    allowed: list[object] = given if is_list(given) else [schema["const"]] if "const" in schema else []
    # `True` is no 1.
    if allowed and not any(type(each) is type(value) and each == value for each in allowed):
        raise _instead(place, _shown(value), f"one of {_named(allowed)}")


def _check_text(value: object, schema: Mapping[object, object], place: str) -> None:
    if not isinstance(value, str):
        return
    form = schema.get("format")
    read = _FORMATS.get(form) if is_text(form) else None
    if schema.get("contentEncoding") == "base64":
        form, read = "base64", partial(b64decode, validate=True)
    if read is not None:
        try:
            read(value)
        except (ArithmeticError, ValueError):
            raise _instead(place, _shown(value), _EXAMPLES.get(str(form), f"a text of the form {form}")) from None


def _check_limits(value: object, schema: Mapping[object, object], place: str) -> None:
    for keyword, measure, is_kept, told in _LIMITS:
        limit, size = _size(schema.get(keyword)), measure(value)
        if limit is not None and size is not None and not is_kept(size, limit):
            _refuse(place, f"{_shown(value)} is given, which has to {told.format(f'{limit:g}')}")


def _refuse(place: str, problem: str) -> NoReturn:
    raise MisfitError(f"{place.removeprefix('.')}: {problem}" if place else problem, place)


def _instead(place: str, given: str, wanted: str) -> MisfitError:
    problem = f"{given} is given, where {wanted} is wanted"
    return MisfitError(f"{place.removeprefix('.')}: {problem}" if place else problem, place, wanted, given)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _named(values: Mapping[object, object] | list[object]) -> str:
    texts = [_shown(each) for each in values][:_MOST_NAMED]
    return ", ".join([*texts, *["..."] * (len(values) > _MOST_NAMED)]) or "none"
