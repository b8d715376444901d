"""What a wait for a signal says of the values that it takes, and the check of a person's answer against that."""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    NotRequired,
    TypedDict,
    TypeVar,
    cast,
)
from uuid import UUID

import attrs
import jsonschema
import pydantic
import pytest

import railtracks as rt
from railtracks._nodes.signature import ANYTHING
from railtracks.durable._values.fitting import MisfitError, fitted, hides, takes_text, told
from railtracks.durable._values.registered import register_annotation
from railtracks.durable._values.schemas import schema_of
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values

T = TypeVar("T")
Number = NewType("Number", int)


class Level(enum.Enum):
    LOW = 1
    HIGH = 2
    TOP = 2  # noqa: PIE796 - another name of a member


class Answer(enum.StrEnum):
    YES = "yes"
    NO = "no"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@attrs.define
class Order:
    item: str
    price: float = 1.0
    level: Level | None = None


@dataclasses.dataclass
class Box(Generic[T]):
    inner: T
    times: list[int] = dataclasses.field(default_factory=list[int])


@dataclasses.dataclass
class Chain:
    name: str
    next: Chain | None = None


@dataclasses.dataclass
class Login:
    user: str
    password: str
    pin: rt.Secret[int] | None = None
    is_token: bool = False


class Point(NamedTuple):
    x: int
    y: int = 0


class Options(TypedDict):
    limit: int
    note: NotRequired[str]


class Endless(TypedDict):
    more: list[Endless]


class Model(pydantic.BaseModel):
    count: int = pydantic.Field(ge=3, le=5)
    name: str = pydantic.Field("ab", min_length=2, max_length=3)
    rate: float = pydantic.Field(0.5, gt=0, lt=1)
    below: list[Model] = pydantic.Field([], max_length=2)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


rt.register_durable_value(Money, lambda money: [money.cents], lambda plain: Money(*plain))


@attrs.define
class Whole:
    """A class that a package on top of the core keeps in a way of its own."""

    part: int


class Ink:
    """A class that is not kept."""


@attrs.define
class Spelled:
    """A class whose fields are not what is kept of it."""

    text: str
    ink: Ink = attrs.field(factory=Ink)


rt.register_durable_value(Spelled, lambda word: [*word.text], lambda letters: Spelled("".join(letters)))

register_annotation(Whole, lambda whole: whole.part, lambda plain, _: Whole(plain))

# Annotations, each with answers that a person may give and with some that no wait of it takes.
KINDS: list[tuple[Any, list[Any], list[Any]]] = [
    (bool, [True, False], [1, "true", None]),
    (int, [3, -1], [1.5, True, "3"]),
    (float, [3, 0.5], [True, "3"]),
    (str, ["", "text"], [3, None]),
    (LiteralString, ["", "text"], [3, None]),
    (dict[LiteralString, int], [{"a": 1}], [[["a", 1]]]),
    (type(None), [None], [0, ""]),
    (bytes, ["YWI="], ["a", 3]),
    (datetime, ["2026-11-26T20:00:00+00:00"], ["tomorrow", 3]),
    (date, ["2026-11-26"], ["26.11.", 3]),
    (time, ["20:00"], ["evening"]),
    (timedelta, [[1, 2, 3]], [[1, 2], 3, ["1", 2, 3]]),
    (UUID, ["12345678123456781234567812345678"], ["123"]),
    (Decimal, ["1.5", 1.5], ["one", None]),
    (complex, [[1, 2.5]], [[1], "1+2j"]),
    (Path, ["a/b"], [3]),
    (Level, ["LOW", "HIGH"], ["LOWER", "TOP", "low"]),
    (Answer, ["YES"], ["yes", "maybe"]),
    (Rights, ["READ", 3], ["EXECUTE", 1.5]),
    (Literal["a", 3], ["a", 3], ["b", True, 4]),
    (int | None, [3, None], ["3"]),
    (int | str, [3, "3"], [1.5]),
    (Order | int, [["Order", {"item": "a"}], ["int", 3]], [3, {"item": "a"}, ["str", "a"]]),
    (list[int], [[], [1, 2]], [["1"], 3]),
    (list, [[1, "a"]], [3]),
    (Sequence[str], [["a"]], ["a", [1]]),
    (set[str], [["a", "b"]], [["a", 1]]),
    (AbstractSet[int], [[1]], [["1"]]),
    (frozenset[int], [[1]], [[None]]),
    (tuple[int, str], [[1, "a"]], [[1], [1, "a", 2], ["a", 1]]),
    (tuple[int, ...], [[], [1, 2]], [["a"]]),
    (tuple, [[1, "a"]], [3]),
    (typing.Tuple, [[1, "a"]], [3]),  # noqa: UP006 - the older spelling
    (tuple[int, *tuple[str, ...]], [[1], [1, "a", "b"]], [[]]),
    (tuple[*tuple[str, ...], int, int], [[1, 2], ["a", 1, 2]], [[1]]),
    (tuple[int, *tuple[str, int]], [[1, "a", 2]], [[1, "a"], [1, "a", "b"]]),
    (dict[str, int], [{}, {"a": 1}], [{"a": "1"}, [1]]),
    (Mapping[int, str], [[[1, "a"]]], [{"1": "a"}, [[1]]]),
    (dict, [{"a": [1]}], [3]),
    (Order, [{"item": "a"}, {"item": "a", "price": 2, "level": "LOW"}], [{}, {"item": 1}, {"item": "a", "no": 1}, 3]),
    (Box[int], [{"inner": 3}], [{"inner": "3"}, {"inner": 3, "times": ["now"]}]),
    (Box, [{"inner": {"any": "thing"}}], [{}]),
    (Chain, [{"name": "a", "next": {"name": "b"}}], [{"name": "a", "next": {"name": 1}}, {"name": "a", "next": 3}]),
    (list[Chain], [[{"name": "a"}]], [[{"name": "a", "next": {}}]]),
    (Point, [{"x": 1}, {"x": 1, "y": 2}], [{"y": 2}, [1, 2]]),
    (Options, [{"limit": 1}, {"limit": 1, "note": "a"}], [{}, {"limit": 1, "note": 2}]),
    (Model, [{"count": 3}, {"count": 4, "below": [{"count": 5}]}], [{"count": 2}, {"count": 3, "below": [{}]}]),
    (list[Model], [[{"count": 3}]], [[{"count": 3, "name": "a"}], [{"count": 3, "rate": 1}], [{"count": 9}]]),
    (Number, [3], ["3"]),
    (Annotated[int, "how many"], [3], ["3"]),
    (rt.Secret[str], ["pin"], [3]),
]
PAIRS = [(kind, value) for kind, good, _ in KINDS for value in good]
MISFITS = [(kind, value) for kind, _, bad in KINDS for value in bad]


def schema(kind: Any, name: str = "answer") -> dict[str, Any]:
    made = schema_of(kind, name)
    assert made is not None
    return cast("dict[str, Any]", json.loads(json.dumps(made)))


def heard(value: object, kind: Any) -> object:
    """Return what a wait for values of an annotation makes of a signal."""
    values = Values(Sealer("key"))
    return values.load_as(values.dump(value, ANYTHING, "the value", "answer")[0], kind, "the value")


@pytest.mark.parametrize(("kind", "value"), PAIRS, ids=repr)
def test_an_answer_that_fits_the_schema_is_one_that_the_wait_takes(kind: Any, value: Any) -> None:
    made = schema(kind)
    jsonschema.Draft202012Validator.check_schema(made)
    jsonschema.validate(value, made)
    heard(fitted(value, made), kind)


@pytest.mark.parametrize(("kind", "value"), MISFITS, ids=repr)
def test_an_answer_that_no_wait_takes_does_not_fit_its_schema(kind: Any, value: Any) -> None:
    with pytest.raises(MisfitError):
        fitted(value, schema(kind))


@pytest.mark.parametrize("kind", [Any, object, Money, Spelled, Whole, T, Literal[b"a"], "no such name", print])
def test_an_annotation_that_says_nothing_has_no_schema(kind: Any) -> None:
    assert schema_of(kind, "answer") is None


def test_a_part_of_which_nothing_is_known_is_left_to_the_wait() -> None:
    made = schema(list[Money])
    assert made == {"type": "array", "items": {}}
    assert fitted([[3], "what"], made) == [[3], "what"]


def test_what_is_wrong_with_an_answer_names_the_place() -> None:
    made = schema(list[Order])
    wrong: list[tuple[Any, str]] = [
        ([{"item": "a"}, {"item": 1}], "[1].item: 1 is given, where a text is wanted"),
        ([{"item": "a", "level": "low"}], '[0].level: "low" is given, where one of "LOW", "HIGH" or null is wanted'),
        ([{}], '[0]: it has no field "item"'),
        ([{"item": "a", "no": 1}], 'it has a field "no"; known are "item", "price", "level"'),
        ("x" * 100, '"' + "x" * 59 + "... is given, where a list is wanted"),
    ]
    for value, text in wrong:
        with pytest.raises(MisfitError) as misfit:
            fitted(value, made)
        assert text in str(misfit.value)
    with pytest.raises(MisfitError, match="2 is given, which has to be 3 at least"):
        fitted({"count": 2}, schema(Model))


def test_secrets_come_back_wrapped_and_are_not_quoted() -> None:
    made = schema(Login)
    assert hides(made)
    assert not hides(schema(Order))
    whole = {"user": "ada", "password": "hunter2", "pin": 1234, "is_token": True}
    sent = fitted(whole, made)
    assert sent == {**whole, "pin": rt.Secret(1234)}
    assert heard(sent, Login) == Login("ada", "hunter2", rt.Secret(1234), is_token=True)
    with pytest.raises(MisfitError) as misfit:
        fitted({"user": "ada", "password": 77777}, made)
    assert "77777" not in str(misfit.value)
    assert "password: what is given for this secret does not fit" in str(misfit.value)
    # The name of the signal makes a secret of it, too.
    assert hides(schema(str, "password"))
    assert not hides(schema(bool, "password"))
    assert isinstance(fitted("x", schema(rt.Secret[rt.Secret[str]])), rt.Secret)


@pytest.mark.parametrize(
    ("kind", "is_for_texts"),
    [
        *[(kind, True) for kind in (str, str | None, Answer, rt.Secret[str], Path)],
        *[(kind, False) for kind in (bool, int | str, None | int, Order, Chain, Literal["a", 1], Rights)],
    ],
)
def test_a_schema_for_texts_is_known_as_one(kind: Any, *, is_for_texts: bool) -> None:
    assert takes_text(schema(kind)) is is_for_texts


def test_a_few_words_tell_what_fits() -> None:
    assert told(schema(bool)) == "true or false"
    assert told(schema(datetime)) == "a text (date-time)"
    assert told(schema(Level)) == 'one of "LOW", "HIGH"'
    assert told(schema(Literal["a"])) == 'one of "a"'
    assert told(schema(Order)).startswith('Order: {"title": "Order"')
    assert told(schema(list[int])) == '{"type": "array", "items": {"type": "integer"}}'
    many = enum.Enum("Many", [f"M{number}" for number in range(30)])  # type: ignore[misc]
    assert told(schema(many)).endswith('"M19", ...')


def test_a_schema_that_would_be_too_long_or_never_end_says_nothing() -> None:
    wide = enum.Enum("Wide", [f"A{number:0100}" for number in range(400)])  # type: ignore[misc]
    assert schema_of(wide, "answer") is None

    assert schema_of(tuple[(int,) * 2_000], "answer") is None  # type: ignore[misc]

    assert schema_of(Endless, "answer") is None


class Rude(pydantic.BaseModel):
    @classmethod
    def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
        raise SystemError("no schema today")


def test_a_model_that_cannot_tell_its_schema_costs_the_schema_only() -> None:
    assert schema_of(Rude, "answer") is None


def nested(innermost: Any, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(100):
        innermost = wrap(innermost)
    return innermost


@pytest.mark.parametrize(
    "hostile",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {
            "$ref": "#/$defs/a",
            "$defs": {one: {"anyOf": [{"$ref": f"#/$defs/{other}"}] * 99} for one, other in ("ab", "bc", "cd")}
            | {"d": False},
        },
        nested({"type": "integer"}, lambda inner: {"anyOf": [inner]}),
    ],
    ids=["a circle", "a storm", "deep"],
)
def test_a_schema_that_somebody_wrote_to_keep_us_busy_is_refused(hostile: dict[str, Any]) -> None:
    with pytest.raises(MisfitError, match="too many parts to be checked"):
        fitted("x", hostile)
    assert not takes_text(hostile)
    assert not hides(hostile)


ODD: list[Any] = [
    {"type": 3, "enum": 3, "required": 3, "properties": 3, "items": 3, "prefixItems": 3, "anyOf": 3, "allOf": 3},
    {"type": ["x", None], "format": [], "minimum": "a", "$ref": 7, "$defs": [], "anyOf": [], "required": [[]]},
    {"additionalProperties": 7, "contentEncoding": {}, "maxLength": True, "enum": [], "pattern": "(a+)+$"},
    {"oneOf": [{}], "allOf": [{}, True], "x": nested([], lambda inner: [inner])},
]


@pytest.mark.parametrize("odd", ODD)
def test_keywords_that_mean_nothing_allow_everything(odd: dict[str, Any]) -> None:
    for value in (None, "a", 3, [1], {"a": 1}):
        assert fitted(value, odd) == value
    assert not hides(odd)
    told(odd)


def test_all_parts_of_a_schema_count() -> None:
    both = {"allOf": [{"type": "string"}, {"minLength": 2}]}
    assert fitted("ab", both) == "ab"
    with pytest.raises(MisfitError, match="2 characters at least"):
        fitted("a", both)
    with pytest.raises(MisfitError, match="nothing is allowed there"):
        fitted({"a": 1}, {"properties": {"a": False}})
    with pytest.raises(MisfitError, match='where one of "a" is wanted'):
        fitted("b", {"const": "a"})
    with pytest.raises(MisfitError, match="known are none"):
        fitted({"a": 1}, {"additionalProperties": False})
