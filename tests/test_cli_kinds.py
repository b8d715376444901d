"""Texts of a command line and values of JSON as what annotations ask for."""

import dataclasses
import enum
import typing
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import attrs
import pydantic
import pytest

import railtracks as rt
from railtracks.cli._kinds import from_json, from_text
from railtracks.cli._misfits import MisfitError

Number = NewType("Number", int)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@attrs.define
class Order:
    item: str
    at: datetime | None = None
    points: list[Point] = attrs.field(factory=list)


class Pair(NamedTuple):
    first: int
    second: str = ""


class Options(TypedDict, total=False):
    name: typing.Required[str]
    color: Color


class Model(pydantic.BaseModel):
    n: int


class Several(pydantic.BaseModel):
    many: list[int]


class _ToldError(ValueError):
    """An error whose `errors` is not that of pydantic."""

    def errors(self, locale: str) -> list[str]:
        return [locale]


class Untold:
    @classmethod
    def model_validate(cls, _: object) -> object:
        raise _ToldError("no")


class _Odd(type):
    @property
    def __signature__(cls) -> int:
        return 5


@dataclasses.dataclass
class Unsigned(metaclass=_Odd):
    x: int


@attrs.define
class Refusing:
    def __attrs_post_init__(self) -> None:
        raise LookupError


@dataclasses.dataclass
class Even:
    n: int

    def __post_init__(self) -> None:
        if self.n % 2:
            raise ValueError("odd")


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", str, "5"),
        ('"quoted"', str, '"quoted"'),
        ("5", int, 5),
        ("-5", Number, -5),
        ("5", float, 5.0),
        ("1e3", float, 1000.0),
        ("true", bool, True),
        ("false", bool, False),
        ("a/b", Path, Path("a/b")),
        ("RED", Color, Color.RED),
        ("2026-11-26T09:00:00+00:00", datetime, datetime(2026, 11, 26, 9, tzinfo=UTC)),
        ("2026-11-26", date, date(2026, 11, 26)),
        ("09:30", time, time(9, 30)),
        ("1.10", Decimal, Decimal("1.10")),
        ("12345678123456781234567812345678", UUID, UUID("12345678123456781234567812345678")),
        ("null", int | None, None),
        ("5", int | None, 5),
        ("null", str | None, "null"),
        ("fast", Literal["fast", "slow"], "fast"),
        ("2", Literal[1, 2], 2),
        ("5", int | str, 5),
        ("five", str | int, "five"),
        ("5", str | list[int] | None, "5"),
        ("[5]", str | list[int], [5]),
        ("[1, 2]", list[int], [1, 2]),
        ('["a"]', set[str], {"a"}),
        ("[1, 1]", frozenset[int], frozenset({1})),
        ("[1]", Sequence[float], [1.0]),
        ("[1]", list, [1]),
        ('[1, "a"]', tuple[int, str], (1, "a")),
        ("[1, 2, 3]", tuple[int, ...], (1, 2, 3)),
        ("[1, null]", tuple, (1, None)),
        ('{"a": 1}', dict[str, float], {"a": 1.0}),
        ('{"1": "RED"}', Mapping[int, Color], {1: Color.RED}),
        ('{"a": 1}', dict, {"a": 1}),
        ('{"x": 1}', Point, Point(1)),
        ('{"item": "tea", "points": [{"x": 1, "y": 2}]}', Order, Order("tea", None, [Point(1, 2.0)])),
        ('{"first": 1}', Pair, Pair(1)),
        ('{"name": "n", "color": "BLUE"}', Options, {"name": "n", "color": Color.BLUE}),
        ('{"n": 1}', Model, Model(n=1)),
        ("[1]", object, [1]),
        ("no JSON", Any, "no JSON"),
        ("null", None, None),
    ],
)
def test_a_text_becomes_what_the_annotation_asks_for(text: str, kind: object, value: object) -> None:
    found = from_text(text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "problem"),
    [
        ("five", int, "expected a whole number, not 'five'"),
        ("1.5", int, "expected a whole number, not '1.5'"),
        ("much", float, "expected a number, not 'much'"),
        ("maybe", bool, "expected true or false, not 'maybe'"),
        ("GREEN", Color, "expected one of RED, BLUE, not 'GREEN'"),
        ("medium", Literal["fast", "slow"], "expected one of fast, slow, not 'medium'"),
        ("3", Literal[1, 2], "expected one of 1, 2, not '3'"),
        ("true", Literal[1], "expected one of 1, not 'true'"),
        ("tomorrow", datetime, "expected a date and time such as 2026-11-30T09:30, not 'tomorrow'"),
        ("2026-13-01", date, "expected a date such as 2026-11-30, not '2026-13-01'"),
        ("25:00", time, "expected a time such as 09:30, not '25:00'"),
        ("much", Decimal, "expected a decimal number such as 9.90, not 'much'"),
        ("3f2b", UUID, "expected a UUID such as 3f2b8c1e-5d0a-4f6e-9b7c-2a1d0e9f8c7b, not '3f2b'"),
        ("five", int | None, "expected a whole number or null, not 'five'"),
        ("maybe", bool | Color, "expected true or false or one of RED, BLUE, not 'maybe'"),
        ("a", list[int], "expected a JSON list (list[int]), not 'a'"),
        ("[", list[int], "expected a JSON list (list[int]) as JSON: Expecting value: line 1 column 2 (char 1)"),
        ('["a"]', list[int], "item 1: expected a whole number, not 'a'"),
        ('"abc"', Sequence[str], "expected a JSON list (Sequence[str]), not 'abc'"),
        ("3", list, "expected a JSON list, not 3"),
        ("[1]", tuple[int, int], "expected 2 items, not 1"),
        ("[[]]", set[list[int]], "set[list[int]]: unhashable type: 'list'"),
        ("3", dict[str, int], "expected a JSON object (dict[str, int]), not 3"),
        ('{"a": 1}', dict[int, int], "'a': expected a whole number, not 'a'"),
        ('{"x": "a"}', Point, "'x': expected a whole number, not 'a'"),
        ('{"x": null}', Point, "'x': expected a whole number, not null"),
        ('{"x": "a"}', Point | None, "'x': expected a whole number, not 'a'"),
        ("3", Point | None, "expected a JSON object for Point or null, not 3"),
        ("[]", Point, "expected a JSON object for Point, not a list"),
        ('{"z": 1}', Point, "Point has no field 'z'"),
        ("{}", Point, "Point needs 'x'"),
        ("{}", Options, "Options needs 'name'"),
        ('{"item": "tea", "points": [{}]}', Order, "'points': item 1: Point needs 'x'"),
        ('{"n": "many"}', Model, "Model: 'n': Input should be a valid integer, unable to parse string as an integer"),
        ('{"many": ["x"]}', Several, "Several: 'many': item 1: Input should be a valid integer, unable to parse"),
        ("many", Model, "expected a JSON object for Model, not 'many'"),
        ('{"n": 3}', Even, "Even: odd"),
        ("{}", bytes, "expected bytes, not an object"),
        ("[true]", list[int], "item 1: expected a whole number, not true"),
        ("[3]", list[Path], "item 1: expected a path, not 3"),
        ("x" * 100, int, f"expected a whole number, not '{'x' * 60}...'"),
        ("\x1b[2J", int, r"expected a whole number, not '\x1b[2J'"),
        ("{}", Refusing, "Refusing: LookupError"),
        ("{}", Untold, "Untold: no"),
        ("{}", Unsigned, "Unsigned: "),
    ],
)
def test_a_text_that_does_not_fit_says_what_is_expected(text: str, kind: object, problem: str) -> None:
    with pytest.raises(MisfitError) as caught:
        from_text(text, kind)
    assert str(caught.value).startswith(problem)


def test_a_secret_is_made_of_what_its_annotation_holds() -> None:
    found = from_text("5", rt.Secret[int] | None)
    assert isinstance(found, rt.Secret)
    assert found.reveal() == 5
    assert from_text("x", rt.Secret) == rt.Secret("x")
    assert from_json({"x": 1}, rt.Secret[Point]) == rt.Secret(Point(1))


def test_json_of_no_particular_kind_stays_as_it_is() -> None:
    assert from_json({"a": [1, None]}, Any) == {"a": [1, None]}
