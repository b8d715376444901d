"""Users' values come back from a store equal and of the same class, or are refused with the path to what is wrong."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
import types
import typing
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum, auto
from importlib import resources
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypeAlias,
    TypedDict,
    TypeVar,
    Union,
    get_type_hints,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import dateutil.tz
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks._nodes.signature import TypedResult, signature_of
from railtracks._records.secrets import REDACTED
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values

T = TypeVar("T")


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Mood(StrEnum):
    GOOD = "good"


class Word(str):
    __slots__ = ()


class Secrecy(StrEnum):
    PASSWORD = "password"


class Level(IntEnum):
    LOW = 1


class Right(Flag):
    READ = auto()
    WRITE = auto()


@attrs.define
class Point:
    x: int
    y: float = 0.0


@attrs.frozen
class Box(Generic[T]):
    content: T
    label: str | None = None


@attrs.define
class Tree:
    name: str
    below: list[Tree] = attrs.field(factory=list)


@attrs.define
class Counted:
    given: int
    count: int = attrs.field(init=False, default=0)


@dataclasses.dataclass
class Plain:
    name: str
    tags: set[str] = dataclasses.field(default_factory=set)
    seen: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(frozen=True)
class Still:
    name: str
    loud: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "loud", self.name.upper())


class Pair(NamedTuple):
    left: int
    right: str = ""


class Span(NamedTuple, Generic[T]):
    first: T
    rest: list[T]


@attrs.define
class Shelf(Generic[T]):
    box: Box[T]
    named: dict[str, T]


@dataclasses.dataclass
class Painted:
    colour: Literal[Colour.RED]


# What JSON can be, as programs spell it.
Anyhow: TypeAlias = Union[dict[str, "Anyhow"], list["Anyhow"], str, int, None]  # noqa: UP007 - Python reads it


def anyhow() -> Anyhow:
    """Have an annotation that names itself."""


class Movie(TypedDict):
    title: str
    year: int


class Sequel(TypedDict):
    title: Required[str]
    of: NotRequired[list[Sequel]]


class Page(TypedDict, Generic[T]):
    items: list[T]
    last: T
    count: int


@attrs.define
class Account:
    owner: str
    password: str


@attrs.define
class Vault:
    key: rt.Secret[str]
    notes: list[rt.Secret[int]] = attrs.field(factory=list)


Name = NewType("Name", str)


@pytest.fixture
def values() -> Values:
    return Values(Sealer(None))


@pytest.fixture
def keyed() -> Values:
    return Values(Sealer("a key of this test"))


def again(values: Values, value: Any, kind: Any) -> Any:
    data, _ = values.dump(value, kind, "it")
    return values.load(data, kind)


NAIVE = datetime(2026, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001 - such there are

SOME: list[tuple[Any, Any]] = [
    (1, int),
    (2**70, int),
    (1.5, float),
    (1, float),
    (math.inf, float),
    (True, bool),
    ("grüße \U0001f600", str),
    ("half \ud83d", str),
    ({"\ude00\ud83d": "\U0001f600"}, Any),
    (None, None),
    (None, type(None)),
    (b"\x00\xff", bytes),
    (bytearray(b"ab"), bytearray),
    (NAIVE, datetime),
    (datetime(2026, 1, 2, tzinfo=UTC), datetime),
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))), datetime),
    (date(2026, 1, 2), date),
    (time(1, 2, 3), time),
    (timedelta(days=-1, microseconds=3), timedelta),
    (UUID(int=7), UUID),
    (Decimal("1.10"), Decimal),
    (complex(1, -2), complex),
    (Path("/a/b"), Path),
    (PurePosixPath("a"), PurePosixPath),
    (Colour.RED, Colour),
    (Level.LOW, Level),
    (Right.READ, Right),
    (Right.READ | Right.WRITE, Right),
    ([1, 2], list[int]),
    ([1, "a", None, {"b": [True]}], list),
    ([1, 2], Sequence[int]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ((), tuple[()]),
    ((1, "a"), tuple),
    ({3, 1, 2}, set[int]),
    ({1}, AbstractSet[int]),
    (frozenset(["a"]), frozenset[str]),
    ({"a": 1}, dict[str, int]),
    ({1: "a", 2: "b"}, dict[int, str]),
    ({(1, 2): 3}, dict[tuple[int, int], int]),
    ({"a": [1]}, Mapping[str, Any]),
    ({"a": 1}, dict),
    (Point(1, 2.5), Point),
    ([Point(1), Point(2)], list[Point]),
    (Box(Point(1)), Box[Point]),
    (Box([1, 2], "label"), Box[list[int]]),
    (Box("anything"), Box),
    (Tree("a", [Tree("b")]), Tree),
    (Plain("a", {"x"}), Plain),
    (Still("a"), Still),
    (Pair(1, "b"), Pair),
    ({"title": "a", "year": 1}, Movie),
    ({"title": "a"}, Sequel),
    ({"title": "a", "of": [{"title": "b"}]}, Sequel),
    ({"items": [1.5], "last": 2.5, "count": 1}, Page[float]),
    ({"items": ["a"], "last": None, "count": 1}, Page),
    (1, int | str),
    ("1", int | str | None),
    (None, int | None),
    (Point(1), Point | None),
    (None, Optional[Point]),  # noqa: UP045 - the older spelling
    (Point(1), Point | Plain),
    (Plain("a"), Point | Plain),
    ([1], list[int] | dict[str, int]),
    ({"a": 1}, list[int] | dict[str, int]),
    (date(2026, 1, 2), date | datetime),
    (NAIVE, date | datetime),
    (1, Literal[1, "a"]),
    ("a", Literal[1, "a"]),
    (True, Literal[1, "a"]),
    (Colour.RED, Literal[Colour.RED]),
    (Secrecy.PASSWORD, Literal[Secrecy.PASSWORD]),
    (Level.LOW, Literal[Level.LOW, "low"]),
    (None, Literal[Colour.RED, "red"] | None),
    (b"a", Literal[b"a", "a"]),
    ([Colour.RED, 1], list[Literal[Colour.RED, 1]]),
    (Painted(Colour.RED), Painted),
    (Span(date(2026, 1, 2), [date(2026, 1, 3)]), Span[date]),
    (Span(1, ["a"]), Span),
    ([Span(Box(date(2026, 1, 2)), [])], list[Span[Box[date]]]),
    (Box(Box(date(2026, 1, 2))), Box[Box[date]]),
    ({"a": Box([Box(b"a")])}, dict[str, Box[list[Box[bytes]]]]),
    (Shelf(Box(Box(Colour.RED)), {"a": Box(Colour.RED)}), Shelf[Box[Colour]]),
    ({"a": [{"b": [1, None]}]}, get_type_hints(anyhow)["return"]),
    ([[[["a"]]]], get_type_hints(anyhow)["return"]),
    (1, Annotated[int, "metres"]),
    (Name("a"), Name),
    ({"a": [1, 2.5, None]}, Any),
    ([1], object),
    (1, T),
]


@pytest.mark.parametrize(("value", "kind"), SOME, ids=range(len(SOME)))
def test_a_value_comes_back_equal_and_of_the_same_class(values: Values, value: Any, kind: Any) -> None:
    found = again(values, value, kind)
    assert found == value
    assert type(found) is type(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_whatever_json_knows_comes_back(value: Any) -> None:
    assert again(Values(Sealer(None)), value, Any) == value


@given(
    st.datetimes(timezones=st.none() | st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")]))
)
def test_a_moment_keeps_its_zone_and_its_fold(moment: datetime) -> None:
    found = again(Values(Sealer(None)), moment, datetime)
    assert (found, found.fold, found.tzinfo) == (moment, moment.fold, moment.tzinfo)
    assert found + timedelta(days=90) == moment + timedelta(days=90)


class OwnZone(tzinfo):
    """A zone of a user's own, as those of dateutil and pytz are."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        return "own"


class FixedZone(ZoneInfo):
    """A zone of a class derived from one that is kept."""


def zone_from_file(key: str | None) -> ZoneInfo:
    """Return the zone of a file, which may have the name of another zone."""
    with resources.files("tzdata.zoneinfo").joinpath("Asia", "Tokyo").open("rb") as file:
        return ZoneInfo.from_file(file, key=key)


@attrs.define
class Meeting:
    at: datetime


ZONES: list[tzinfo] = [
    OwnZone(),
    dateutil.tz.gettz("Europe/Berlin") or OwnZone(),
    dateutil.tz.tzutc(),
    zone_from_file(None),
    zone_from_file("Europe/Berlin"),
    zone_from_file("No/Where"),
    ZoneInfo.no_cache("Europe/Berlin"),
    FixedZone("Europe/Berlin"),
]


@pytest.mark.parametrize("zone", ZONES, ids=range(len(ZONES)))
def test_a_zone_that_would_come_back_as_another_one_is_refused(zone: tzinfo, values: Values) -> None:
    moment = datetime(2026, 7, 1, tzinfo=zone)
    for value, kind, place in (
        (moment, datetime, "it"),
        (time(1, tzinfo=zone), time, "it"),
        ([moment], list[datetime], r"it\[0\]"),
        ({"a": (1, moment)}, dict[str, tuple[int, datetime]], r"it\['a'\]\[1\]"),
        (Meeting(moment), Meeting, "it.at"),
        (moment, datetime | str, "it"),
    ):
        with pytest.raises(rt.DurableValueError, match=rf"^{place} cannot be stored"):
            values.dump(value, kind, "it")
    with pytest.raises(rt.DurableValueError, match=r"its zone is a .* would come back as another one"):
        values.dump(moment, datetime, "it")


@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=-3, seconds=7)), ZoneInfo("Europe/Berlin")])
def test_a_time_keeps_its_zone(zone: tzinfo | None, values: Values) -> None:
    for value in (time(1, 2, tzinfo=zone), datetime(2026, 7, 1, tzinfo=zone)):
        found = again(values, value, type(value))
        assert (found, found.tzinfo) == (value, zone)


NAMED = timezone(timedelta(hours=2, microseconds=5), "CEST")


@pytest.mark.parametrize("zone", [NAMED, timezone(timedelta(0), "GMT"), timezone(timedelta(hours=-3), "")])
@pytest.mark.parametrize("fold", [0, 1])
def test_a_zone_keeps_the_name_that_it_was_given_as_that_of_the_local_time_has_one(
    zone: timezone, fold: int, values: Values
) -> None:
    for value in (time(1, 2, fold=fold, tzinfo=zone), datetime(2026, 7, 1, fold=fold, tzinfo=zone)):
        found = again(values, value, type(value))
        assert (found, found.fold, found.tzname()) == (value, fold, zone.tzname(None))
    local = datetime(2026, 7, 1).astimezone()
    assert again(values, {local}, set[datetime]).pop().tzname() == local.tzname()


def test_the_name_of_a_zone_makes_no_other_call(values: Values) -> None:
    @rt.function_node
    async def at(moments: list[datetime]) -> None: ...

    def fingerprint(zone: timezone, fold: int) -> str:
        return values.dump_arguments(at, ([datetime(2026, 7, 1, fold=fold, tzinfo=zone)],), {})[1]

    unnamed = timezone(timedelta(hours=2, microseconds=5))
    for fold in (0, 1):
        assert fingerprint(NAMED, fold) == fingerprint(unnamed, fold)
    assert fingerprint(NAMED, 0) != fingerprint(NAMED, 1)


def test_a_stored_name_of_a_zone_without_its_offset_is_refused(values: Values) -> None:
    with pytest.raises(rt.DurableValueError, match="a zone 'CEST' was stored with it, and no offset"):
        values.load(b'["2026-07-01T00:00:00",null,0,"CEST"]', datetime)


@pytest.mark.parametrize(
    ("path", "kind"), [(PureWindowsPath("C:/a"), PurePath), (PureWindowsPath("a"), Path), (PurePosixPath("a"), Path)]
)
def test_a_path_that_would_come_back_as_another_one_is_refused(path: PurePath, kind: type, values: Values) -> None:
    for value, each in ((path, kind), ([path], list[kind]), ({path}, set[kind])):  # type: ignore[valid-type]
        with pytest.raises(rt.DurableValueError, match=f"a {type(path).__name__}, where the annotation says"):
            values.dump(value, each, "it")


@pytest.mark.parametrize(
    ("text", "path", "kind"),
    [
        ("a/b", Path("a/b"), Path),
        (Word("a"), Path("a"), Path),
        ("a", Path("a"), type(Path())),
        ("a", Path("a"), Path | None),
        ("a", Path("a"), Path | int),
        (["a", Path("b")], [Path("a"), Path("b")], list[Path]),
        ({"a": "b"}, {"a": Path("b")}, dict[str, Path]),
        ({"a"}, {Path("a")}, set[Path]),
    ],
)
def test_a_text_that_stands_for_a_path_is_stored_as_the_path(
    text: object, path: object, kind: type, values: Values
) -> None:
    assert values.dump(text, kind, "it") == values.dump(path, kind, "it")
    assert again(values, text, kind) == path


@pytest.mark.parametrize(
    ("value", "kind", "problem"),
    [
        ("a//b", Path, "it would come back as another value"),
        ("a", PurePath, "a str, where the annotation says PurePath"),
        (5, Path, "a int, where the annotation says Path"),
        (None, Path, "a NoneType, where the annotation says Path"),
    ],
)
def test_what_stands_for_no_path_is_refused(value: object, kind: type, problem: str, values: Values) -> None:
    with pytest.raises(rt.DurableValueError, match=problem):
        values.dump(value, kind, "it")


def test_a_number_that_is_none_comes_back_as_none(values: Values) -> None:
    assert math.isnan(again(values, math.nan, float))


def test_fields_that_init_does_not_take_come_back_too(values: Values) -> None:
    counted, plain = Counted(1), Plain("a")
    counted.count, plain.seen = 5, 6
    assert again(values, counted, Counted) == counted
    assert again(values, plain, Plain).seen == 6


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

REFUSED: list[tuple[Any, Any, str]] = [
    (ENDLESS, Any, "a list cannot be kept as JSON value: RecursionError"),
    ([1], set[int], "a list, where the annotation says set"),
    ([], dict[int, str], "a list, where the annotation says dict"),
    ("/a", PurePosixPath, "a str, where the annotation says PurePosixPath"),
    (10**5000, int, "it cannot be stored: Exceeds the limit"),
    ({Secrecy.PASSWORD: "x"}, dict[Secrecy, str], "a secret is stored only encrypted"),
    ({"password": "x"}, dict[Literal["password"], str], "a secret is stored only encrypted"),
    (Level.LOW, int | str, "a Level, where the annotation says"),
    (Mood.GOOD, str, "a Mood, where the annotation says str"),
    ([Mood.GOOD], list[str], "a Mood, where the annotation says str"),
    ("1", int, "it cannot be stored: a str, where the annotation says int"),
    (True, int, "a bool, where the annotation says int"),
    (1, str, "a int, where the annotation says str"),
    (1, None, "where the annotation says NoneType"),
    ([1, "2"], list[int], r"it\[1\] cannot be stored: a str"),
    ((1,), list[int], "a tuple, where the annotation says list"),
    ({"a": [1, {"b": set()}]}, Any, r"it\['a'\]\[1\]\['b'\] cannot be stored: a set is not a JSON value"),
    ({1: 2}, Any, "it has a key of class int, and JSON has strings only"),
    ({"a": {1: 2}}, dict, r"it\['a'\] cannot be stored: it has a key of class int"),
    ({1: 2}, dict, "it has a key of class int"),
    ({"a": 1, "b": "x"}, dict[str, int], r"it\['b'\] cannot be stored"),
    ({"a": 1, 2: 3}, dict[str, int], r"it \(its key 2\) cannot be stored"),
    ({1: "a", "2": "b"}, dict[int, str], r"it \(its key '2'\) cannot be stored"),
    ([], dict[str, int], "a list, where the annotation says dict"),
    ((1, 2), tuple[int, str], r"it\[1\] cannot be stored"),
    ((1, 2, 3), tuple[int, int], "3 items, where the annotation says"),
    ([1], tuple[int, ...], "a list, where"),
    ({1, "a"}, set[int], r"it\{...\} cannot be stored"),
    (Pair("a", "b"), Pair, r"it.left cannot be stored: a str"),  # type: ignore[arg-type]
    ((1, "b"), Pair, "a tuple, where the annotation says Pair"),
    (Point("a"), Point, r"it.x cannot be stored: a str"),  # type: ignore[arg-type]
    (Box([Point(1), Point("a")]), Box[list[Point]], r"it.content\[1\].x cannot be stored"),  # type: ignore[arg-type]
    (Tree("a", [Tree("b", [Tree(1)])]), Tree, r"it.below\[0\].below\[0\].name cannot be stored"),  # type: ignore[arg-type]
    (Plain("a"), Point, "a Plain, where the annotation says Point"),
    (1.5, int | str, "a float, where the annotation says int | str"),
    (Level.LOW, int, "a Level, where the annotation says int"),
    (Level.LOW, Colour, "a Level, where the annotation says Colour"),
    (Colour.RED, Level, "a Colour, where the annotation says Level"),
    (NAIVE, date, "a datetime, where the annotation says date"),
    (rt.Secret("a"), str, "a Secret, where the annotation says str"),
    ("a", rt.Secret[str], "a str, where the annotation says rt.Secret"),
    ({"$sealed": "x"}, Any, "is reserved for the store"),
    ({"$sealed": "x"}, dict[str, str], "is reserved for the store"),
    (object(), Any, "a object is not a JSON value"),
    (OrderedDict(a=1), Any, "a OrderedDict is not a JSON value"),
    (3, Literal[1, 2], r"cannot be stored: a int that is none of typing\.Literal\[1, 2\]"),
    (Colour.BLUE, Literal[Colour.RED], "cannot be stored: a Colour that is none of"),
    ("RED", Literal[Colour.RED, 1], "cannot be stored: a str that is none of"),
    ("YQ==", Literal[b"a", 1], "cannot be stored: a str that is none of"),
    ({"title": "a"}, Movie, "it has no field 'year', and Movie has no default for it"),
    ({"title": "a", "year": 1, "of": []}, Movie, "it has a field 'of', and Movie has none of that name"),
    ({"title": "a", "of": [{"title": 1}]}, Sequel, r"it\['of'\]\[0\]\['title'\] cannot be stored: a int"),
    ([1], Movie, "a list, where the annotation says Movie"),
    ("\ud83d\ude00", str, "two halves of a character"),
    ({Mood.GOOD: 1}, dict[str, int], r"it \(its key .*\) cannot be stored: a Mood, where the annotation says str"),
    (["a\ud83d\ude00"], list[str], "two halves of a character"),
    ({"\ud83d\ude00": 1}, Any, "two halves of a character"),
]


@pytest.mark.parametrize(("value", "kind", "told"), REFUSED, ids=range(len(REFUSED)))
def test_what_would_not_come_back_as_it_is_is_refused_with_the_path(
    values: Values, value: Any, kind: Any, told: str
) -> None:
    with pytest.raises(rt.DurableValueError, match=told):
        values.dump(value, kind, "it")


def test_two_fields_with_the_same_object_are_both_named(values: Values) -> None:
    @attrs.define
    class Twins:
        first: Any
        second: str

    same = object()
    with pytest.raises(rt.DurableValueError, match=r"it.first or .second cannot"):
        values.dump(Twins(same, same), Twins, "it")  # type: ignore[arg-type]


def test_a_class_that_makes_something_else_of_its_fields_is_refused(values: Values) -> None:
    @attrs.define
    class Doubling:
        number: int = attrs.field(converter=lambda given: given * 2)

    with pytest.raises(rt.DurableValueError, match="would come back as another value"):
        values.dump(Doubling(1), Doubling, "it")


def test_a_class_that_cannot_be_made_again_is_refused(values: Values) -> None:
    @attrs.define
    class Fussy:
        number: int = 0

        def __attrs_post_init__(self) -> None:
            if self.number:
                raise ValueError("never")

    fussy = Fussy()
    fussy.number = 1
    with pytest.raises(rt.DurableValueError, match=r"a \S+Fussy cannot be kept as .*Fussy: ValueError: never"):
        values.dump(fussy, Fussy, "it")


@pytest.mark.parametrize("kind", [str, list[str], Account])
def test_more_than_a_row_may_have_is_refused(kind: Any, keyed: Values) -> None:
    small = Values(keyed.sealer, largest=100)
    long = "x" * 101
    value = {str: long, list[str]: [long], Account: Account("a", long)}[kind]
    with pytest.raises(rt.DurableValueError, match="bytes are more than the 100 that a row may have"):
        small.dump(value, kind, "it")


@pytest.mark.parametrize("value", ["a", Colour.RED, b"a"])
def test_a_stored_literal_that_the_annotation_has_no_more_is_refused(value: Any, values: Values) -> None:
    data, _ = values.dump(value, Literal["a", Colour.RED, b"a"], "it")
    with pytest.raises(rt.DurableValueError, match=r"any more: .*it is none of"):
        values.load(data, Literal["b", Colour.BLUE, b"b"])


def test_a_stored_value_that_the_annotation_does_not_fit_any_more_is_told(values: Values) -> None:
    data, _ = values.dump([1, 2], list[int], "it")
    with pytest.raises(rt.DurableValueError, match=r"it is no list.* any more"):
        values.load(data, list[str])
    with pytest.raises(rt.DurableValueError, match=r"it is no .*Point any more"):
        values.load(data, Point)
    with pytest.raises(rt.DurableValueError, match="it is no UUID any more: a list was stored, not a str"):
        values.load(data, UUID)
    data, _ = values.dump("ab", str, "it")
    with pytest.raises(rt.DurableValueError, match="it is no tuple any more: a str was stored, not a list"):
        values.load(data, tuple[str, ...])
    data, _ = values.dump(Point(1), Point | Plain, "it")
    with pytest.raises(rt.DurableValueError, match="Point is not among the classes of"):
        values.load(data, Box[int] | Plain)
    data, _ = values.dump(Point(1), Point, "it")
    with pytest.raises(rt.DurableValueError, match="no secret was stored here"):
        values.load(data, rt.Secret[Any])


@pytest.mark.parametrize(("before", "kind"), [(1, int), (1.5, float), ("1.5", str)])
def test_what_became_a_decimal_since_is_read_as_one(values: Values, before: Any, kind: Any) -> None:
    data, _ = values.dump(before, kind, "it")
    assert values.load(data, Decimal) == Decimal(before)


# Fingerprints.


def test_equal_values_have_equal_fingerprints_whatever_their_order_in_memory(values: Values, keyed: Values) -> None:
    def fingerprint_of(value: Any, kind: Any, by: Values = values) -> str:
        return by.dump(value, kind, "it")[1]

    words = [f"word {number}" for number in range(50)]
    assert fingerprint_of(set(words), set[str]) == fingerprint_of({*words[25:], *words[:25]}, set[str])
    assert fingerprint_of([1, 2], list[int]) != fingerprint_of([2, 1], list[int])
    secret = rt.Secret("a")
    assert fingerprint_of(secret, Any, keyed) == fingerprint_of(rt.Secret("a"), Any, keyed)
    assert fingerprint_of(secret, Any, keyed) != fingerprint_of(secret, Any, Values(Sealer("another key")))
    assert fingerprint_of(secret, Any, keyed) != fingerprint_of("a", Any, keyed)


# Secrets.

CANARY = "canary-5c1f"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (rt.Secret(CANARY), Any),
        (rt.Secret(CANARY), rt.Secret[str]),
        ([{"deep": rt.Secret([CANARY])}], Any),
        ({"password": CANARY}, Any),
        ({"password": {"inner": CANARY}}, dict[str, Any]),
        ({"a": {"api_key": CANARY}, "b": [1]}, Any),
        (Account("ada", CANARY), Account),
        ([Account("ada", CANARY)], list[Account]),
        (Vault(rt.Secret(CANARY), [rt.Secret(1)]), Vault),
        (rt.Secret(Account("ada", CANARY)), rt.Secret[Account]),
        ((1, rt.Secret(CANARY)), tuple[int, rt.Secret[str]]),
        ({"a": rt.Secret(CANARY)}, dict[str, rt.Secret[str]] | None),
    ],
)
def test_a_secret_comes_back_and_is_stored_only_encrypted(keyed: Values, value: Any, kind: Any) -> None:
    data, fingerprint = keyed.dump(value, kind, "it")
    assert CANARY.encode() not in data
    assert CANARY not in fingerprint
    assert CANARY not in json.dumps(keyed.redacted(data))
    assert REDACTED in json.dumps(keyed.redacted(data))
    found = keyed.load(data, kind)
    assert repr(_laid_open(found)) == repr(_laid_open(value))
    assert type(found) is type(value)


def _laid_open(value: Any) -> Any:
    if isinstance(value, rt.Secret):
        return ("secret", _laid_open(value.reveal()))
    if isinstance(value, dict):
        return {key: _laid_open(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_laid_open(item) for item in value]
    return (
        attrs.astuple(value)
        if attrs.has(type(value)) and not isinstance(value, Vault)
        else ([_laid_open(value.key), _laid_open(value.notes)] if isinstance(value, Vault) else value)
    )


def test_a_secret_name_makes_the_value_a_secret(keyed: Values) -> None:
    data, _ = keyed.dump(CANARY, str, "it", "api_key")
    assert CANARY.encode() not in data
    assert keyed.load(data, str) == CANARY


@pytest.mark.parametrize(
    ("value", "kind", "place"),
    [
        (rt.Secret(1), Any, "it"),
        ([1, {"deep": rt.Secret(1)}], Any, r"it\[1\].deep"),
        (Account("a", "b"), Account, "it.password"),
        ({"a": [Account("a", "b")]}, dict[str, list[Account]], r"it.a\[0\].password"),
    ],
)
def test_without_a_key_a_secret_is_refused_with_its_path(values: Values, value: Any, kind: Any, place: str) -> None:
    with pytest.raises(rt.DurableValueError, match=rf"^{place} cannot be stored: a secret is stored only encrypted"):
        values.dump(value, kind, "it")


def test_a_stored_secret_needs_its_key(keyed: Values, values: Values) -> None:
    data, _ = keyed.dump(rt.Secret(CANARY), Any, "it")
    with pytest.raises(rt.DurableValueError, match="without the key"):
        values.load(data, Any)
    with pytest.raises(rt.DurableValueError, match="with another key"):
        Values(Sealer("other")).load(data, Any)
    assert Values(Sealer(b"a key of this test")).load(data, Any).reveal() == CANARY


def test_without_cryptography_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ImportError, match=r"pip install 'railtracks-trio\[durable\]'"):
        rt.DurableStore(key="k")


# What functions say of their values.


def node_of(fn: Callable[..., Any]) -> rt.Node[..., Any]:
    return rt.function_node(fn, name="node")


async def greet(name: str, /, point: Point, *rest: int, loud: bool = False, **more: Decimal) -> Box[str]:
    return Box(name)


class Greeter:
    def method(self, name: str) -> int:
        return 1

    async def __call__(self, name: str) -> float:
        return 1.0


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __call__(self, number: int) -> int:
        return number


class Slotted:
    __slots__ = ()

    def __call__(self, number: int) -> int:
        return number


class Decorated:
    """An object that a decorator puts in the place of a function."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)


class Typed(TypedResult):
    def __init__(self, kind: Any) -> None:
        self.result_kind = kind

    def __call__(self, number: int) -> Any:
        return number


class Unsigned:
    """What Python can make no signature of, in any version."""

    __signature__ = "none"

    def __call__(self, number: int) -> int:
        return number


def test_arguments_are_stored_by_the_annotation_of_their_parameter(values: Values) -> None:
    node = node_of(greet)
    args, kwargs = ("Ada", Point(1), 2, 3), {"loud": True, "price": Decimal("1.5")}
    data, _ = values.dump_arguments(node, args, kwargs)
    assert values.load_arguments(node, data) == (args, kwargs)
    data, _ = values.dump_arguments(node, ("Ada",), {"point": Point(2)})
    assert values.load_arguments(node, data) == (("Ada",), {"point": Point(2)})


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        (("a", 1), {}, "argument 'point' of 'node' cannot be stored: a int"),
        (("a", Point(1), "b"), {}, "argument 'rest' of 'node' cannot be stored: a str"),
        (("a", Point(1)), {"loud": 1}, "argument 'loud' of 'node'"),
        (("a", Point(1)), {"price": 1.5}, "argument 'price' of 'node'"),
        (("a", Point(1)), {"rest": 1.5}, "argument 'rest' of 'node'"),
    ],
)
def test_an_argument_that_cannot_be_stored_is_named(
    values: Values, args: tuple[Any, ...], kwargs: dict[str, Any], told: str
) -> None:
    with pytest.raises(rt.DurableValueError, match=told):
        values.dump_arguments(node_of(greet), args, kwargs)


def test_an_argument_that_no_parameter_takes_is_anything(values: Values) -> None:
    data, _ = values.dump_arguments(node_of(lambda: None), ([1], "a"), {"b": 2})
    assert values.load_arguments(node_of(lambda: None), data) == (([1], "a"), {"b": 2})
    with pytest.raises(rt.DurableValueError, match="argument 1 of 'node' cannot be stored: a set"):
        values.dump_arguments(node_of(lambda: None), (set(),), {})


def test_stored_arguments_that_do_not_fit_any_more_are_told(values: Values) -> None:
    data, _ = values.dump_arguments(node_of(greet), ("Ada", Point(1)), {})

    async def changed(name: int, point: Point) -> None: ...

    with pytest.raises(rt.DurableValueError, match="the stored arguments of 'node'"):
        values.load_arguments(node_of(changed), data)


@pytest.mark.parametrize(
    ("fn", "result"),
    [
        (greet, Box[str]),
        (Greeter().method, int),
        (Greeter(), float),
        (functools.partial(greet, "Ada"), Box[str]),
        (functools.partial(Greeter().method, "Ada"), int),
        (Unhashable(), int),
        (Unsigned(), int),
        (Slotted(), int),
        (Decorated(greet), Box[str]),
        (functools.partial(Decorated(greet), "Ada"), Box[str]),
        (Typed(Box[str]), Box[str]),
        (Typed(None), type(None)),
        (len, Any),
        (lambda: 1, Any),
        (types.SimpleNamespace, Any),
    ],
)
def test_what_a_callable_returns_is_found(fn: Any, result: Any) -> None:
    assert signature_of(fn).result == result


def test_an_annotation_that_means_nothing_is_anything() -> None:
    def odd(number: Nowhere) -> Nothing: ...  # type: ignore[name-defined]  # noqa: F821

    assert signature_of(odd).result is Any
    assert signature_of(Typed(int)).at(0) == ("number", Any)
    assert signature_of(odd).at(0) == ("number", Any)
    assert typing.get_type_hints(greet)["name"] is str


@dataclasses.dataclass(kw_only=True)
class Event:
    number: int


@dataclasses.dataclass
class Paid(Event):
    amount: int


@attrs.define
class Sent:
    number: int = attrs.field(kw_only=True)
    to: str


@pytest.mark.parametrize("value", [Paid(3, number=1), Sent("a", number=1)])
def test_a_field_by_keyword_may_stand_before_one_by_position(value: Any) -> None:
    values = Values(Sealer(None))
    data, _ = values.dump(value, type(value), "it")
    assert values.load(data, type(value)) == value
    with pytest.raises(rt.DurableValueError, match="a str, where the annotation says int"):
        values.load(data.replace(b'"number":1', b'"number":"one"'), type(value))
