"""Members of enums that are texts, numbers or other values, too, come back as themselves, or are refused."""

from __future__ import annotations

import dataclasses
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import Any, Literal

import attrs
import pytest

import railtracks as rt
from railtracks.durable._values.converter import CONVERTER
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.storable import problem_of
from railtracks.durable._values.values import Values


class Mood(StrEnum):
    GOOD = "good"


class Weather(StrEnum):
    GOOD = "good"


class Level(IntEnum):
    LOW = 1


class Step(IntEnum):
    LOW = 1


class Right(IntFlag):
    READ = 1
    WRITE = 2


class Duty(IntFlag):
    READ = 1
    WRITE = 2


class Price(Decimal, Enum):
    LOW = "1.5"


class Mark(bytes, Enum):
    END = b"\0"


class Holiday(date, Enum):
    NEW_YEAR = 2026, 1, 1


class Corner(tuple[int, int], Enum):
    __slots__ = ()

    FIRST = 0, 0


class Rate(float, Enum):
    FULL = 1.0


@dataclasses.dataclass(frozen=True)
class Size:
    width: int


class Paper(Size, Enum):
    A4 = 210


@attrs.define
class Painted:
    mood: Mood


class Word(str):
    """A text with a name."""

    __slots__ = ()


@pytest.fixture
def values() -> Values:
    return Values(Sealer(None))


KEPT: list[tuple[Any, Any]] = [
    (Mood.GOOD, Mood),
    (Price.LOW, Price),
    ([Price.LOW], list[Price]),
    (Mark.END, Mark),
    (Holiday.NEW_YEAR, Holiday),
    (Holiday.NEW_YEAR, date | Holiday),
    (Corner.FIRST, Corner),
    (Rate.FULL, Rate),
    (Paper.A4, Paper),
    (Right.READ | Right.WRITE, Right),
    (Mood.GOOD, str | Literal[Mood.GOOD]),
    (Mood.GOOD, Literal["good"] | Mood),
    ([Level.LOW], list[int] | list[Level]),
    (Level.LOW, str | int | Level),
]


@pytest.mark.parametrize(("value", "kind"), KEPT, ids=str)
def test_a_member_comes_back_whatever_else_it_is(values: Values, value: Any, kind: Any) -> None:
    assert problem_of(kind, CONVERTER) is None
    data, _ = values.dump(value, kind, "it")
    found = values.load(data, kind)
    assert found == value
    assert type(found) is type(value)


REFUSED: list[tuple[Any, Any, str]] = [
    (Weather.GOOD, Mood, "a Weather, where the annotation says Mood"),
    (Step.LOW, Level, "a Step, where the annotation says Level"),
    (Duty.READ | Duty.WRITE, Right, "a Duty, where the annotation says Right"),
    (Level.LOW, Mood, "a Level, where the annotation says Mood"),
    ([Weather.GOOD], list[Mood], r"it\[0\] cannot be stored: a Weather, where the annotation says Mood"),
    ({Weather.GOOD: 1}, dict[Mood, int], "a Weather, where the annotation says Mood"),
    (Painted(Weather.GOOD), Painted, r"it\.mood cannot be stored: a Weather"),  # type: ignore[arg-type]
    (Weather.GOOD, Mood | None, "a Weather, where the annotation says"),
    (Weather.GOOD, Mood | int, "a Weather, where the annotation says"),
    ("good", Mood, "a str, where the annotation says Mood"),
    (1, Level, "a int, where the annotation says Level"),
    (Mood.GOOD, str, "a Mood, where the annotation says str"),
    (Level.LOW, float, "a Level, where the annotation says float"),
    (Price.LOW, Decimal, "a Price, where the annotation says Decimal"),
    (Mood.GOOD, Literal["good", "bad"], r"a Mood that is none of typing\.Literal\['good', 'bad'\]"),
    (Level.LOW, Literal[1], "a Level that is none of"),
    (Word("a"), Literal["b", "a"], "a Word that is none of"),
    (Mood.GOOD, Literal["good"] | int, "a Mood, where the annotation says"),
    ([Mood.GOOD], list[Literal["good"]], r"it\[0\] cannot be stored: a Mood that is none of"),
    ({Mood.GOOD: 1}, dict[Literal["good"], int], "a Mood that is none of"),
    (Weather.GOOD, Literal[Mood.GOOD], "a Weather that is none of"),
    ("good", Literal[Mood.GOOD], "a str that is none of"),
]


@pytest.mark.parametrize(("value", "kind", "told"), REFUSED, ids=str)
def test_what_is_equal_to_a_member_or_a_literal_and_of_another_class_is_refused(
    values: Values, value: Any, kind: Any, told: str
) -> None:
    with pytest.raises(rt.DurableValueError, match=told):
        values.dump(value, kind, "it")


def test_members_that_are_texts_or_numbers_are_still_stored_in_a_list(values: Values) -> None:
    stored = [values.dump(*each, "it")[0] for each in ((Mood.GOOD, Mood), (Right(3), Right), (Price.LOW, Price))]
    assert stored == [b'["GOOD"]', b'[["READ","WRITE"]]', b'"LOW"']


def test_a_member_is_no_text_and_no_number_if_its_annotation_has_changed_to_one(values: Values) -> None:
    for value, kind in ((Mood.GOOD, str), (Level.LOW, int), (Rate.FULL, float)):
        data, _ = values.dump(value, type(value), "it")
        with pytest.raises(rt.DurableValueError, match="a member of an enum is stored, where the annotation says"):
            values.load(data, kind)
