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
from railtracks.cli._kinds import MisfitError, from_json, from_text

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
        ("five", int, "expected int"),
        ("yes", bool, "expected true or false"),
        ("GREEN", Color, "expected one of RED, BLUE"),
        ("medium", Literal["fast", "slow"], "expected typing.Literal"),
        ("3", Literal[1, 2], "expected one of 1, 2"),
        ("true", Literal[1], "expected one of 1"),
        ("tomorrow", datetime, "expected datetime"),
        ("five", int | None, "expected int"),
        ("[", list[int], "expected list[int] as JSON"),
        ('["a"]', list[int], "at 0: expected int, not str"),
        ('"abc"', list[str], "expected list[str], not str"),
        ("[1]", tuple[int, int], "expected 2 items, not 1"),
        ("[[]]", set[list[int]], "unhashable"),
        ("3", dict[str, int], "expected dict[str, int], not int"),
        ('{"x": "a"}', Point, "at 'x': expected int, not str"),
        ('{"x": null}', Point, "at 'x': expected int, not null"),
        ('{"z": 1}', Point, "Point has no field 'z'"),
        ("{}", Point, "missing 1 required positional argument"),
        ("{}", Options, "Options needs the key 'name'"),
        ('{"n": "many"}', Model, "n"),
        ('{"n": 3}', Even, "odd"),
        ("{}", bytes, "expected bytes, not dict"),
        ("[true]", list[int], "at 0: expected int, not bool"),
        ("[3]", list[Path], "at 0: expected Path, not int"),
    ],
)
def test_a_text_that_does_not_fit_says_what_is_expected(text: str, kind: object, problem: str) -> None:
    with pytest.raises(MisfitError) as caught:
        from_text(text, kind)
    assert problem in str(caught.value)


def test_a_secret_is_made_of_what_its_annotation_holds() -> None:
    found = from_text("5", rt.Secret[int] | None)
    assert isinstance(found, rt.Secret)
    assert found.reveal() == 5
    assert from_text("x", rt.Secret) == rt.Secret("x")
    assert from_json({"x": 1}, rt.Secret[Point]) == rt.Secret(Point(1))


def test_json_of_no_particular_kind_stays_as_it_is() -> None:
    assert from_json({"a": [1, None]}, Any) == {"a": [1, None]}
