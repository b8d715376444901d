"""Classes that have changed since a value was stored: what was stored comes back whole, or is refused naming both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import KEEP, Enum, Flag, IntEnum, IntFlag, StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import pydantic
import pytest
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._values.sealing import Sealer, fingerprint_of
from railtracks.durable._values.values import Values

T = TypeVar("T")


def made(name: str, **fields: Any) -> Any:
    """Return an attrs class with fields; of a field with a default the pair of annotation and default is given."""
    given = {
        field: attrs.field(type=kind[0], default=kind[1]) if isinstance(kind, tuple) else attrs.field(type=kind)
        for field, kind in fields.items()
    }
    return attrs.make_class(name, given)


def moved(value: Any, before: Any, now: Any) -> Any:
    """Store a value by one annotation, and load it by another."""
    values = Values(Sealer(None))
    data, _ = values.dump(value, before, "it")
    return values.load(data, now)


OLD, NEW = made("Point", x=int, y=int), made("Point", x=int)
GREW, NEEDS = made("Point", x=int, y=int, z=(int, 7)), made("Point", x=int, y=int, z=int)


@dataclasses.dataclass
class Before:
    x: int
    inner: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class After:
    x: int


class PairBefore(NamedTuple):
    left: int
    right: int = 0


class PairFirst(NamedTuple):
    left: int


class PairAfter(NamedTuple):
    left: int
    middle: int = 5


class MovieBefore(TypedDict):
    title: str
    year: int


class MovieAfter(TypedDict):
    title: str
    length: NotRequired[int]


@attrs.define
class BoxBefore(Generic[T]):
    content: T
    label: str = ""


@attrs.define
class BoxAfter(Generic[T]):
    content: T


class ModelBefore(pydantic.BaseModel):
    x: int
    label: str = "a"


class ModelAfter(pydantic.BaseModel):
    x: int
    other: int = 0


class AroundBefore(pydantic.BaseModel):
    models: list[ModelBefore]
    by_name: dict[str, ModelBefore] = {}


class AroundAfter(pydantic.BaseModel):
    models: list[ModelAfter]
    by_name: dict[str, ModelAfter] = {}


class TextModel(pydantic.BaseModel):
    x: str


class NumberModel(pydantic.BaseModel):
    x: int


@pytest.mark.parametrize(
    ("value", "before", "now", "told"),
    [
        (OLD(1, 2), OLD, NEW, "it has a field 'y', and Point has none"),
        ([OLD(1, 2)], list[OLD], list[NEW], "it has a field 'y', and Point has none"),
        (OLD(1, 2), OLD | None, NEW | None, "it has a field 'y', and Point has none"),
        (OLD(1, 2), OLD, NEEDS, "it has no field 'z', and Point has no default for it"),
        (Before(1, {"a": 1}), Before, After, "it has a field 'inner', and After has none"),
        (PairBefore(1, 2), PairBefore, PairAfter, "it has a field 'right', and PairAfter has none"),
        ({"title": "a", "year": 1}, MovieBefore, MovieAfter, "it has a field 'year', and MovieAfter has none"),
        ({"title": "a"}, MovieAfter, MovieBefore, "it has no field 'year'"),
        (BoxBefore(1, "a"), BoxBefore[int], BoxAfter[int], "it has a field 'label', and BoxAfter has none"),
        (ModelBefore(x=1), ModelBefore, ModelAfter, ".label was stored, and ModelAfter does not take it"),
        (
            AroundBefore(models=[ModelBefore(x=1)]),
            AroundBefore,
            AroundAfter,
            ".models[0].label was stored, and AroundAfter does not take it",
        ),
        (
            AroundBefore(models=[], by_name={"a": ModelBefore(x=1)}),
            AroundBefore,
            AroundAfter,
            ".by_name.a.label was stored, and AroundAfter does not take it",
        ),
        (TextModel(x="5"), TextModel, NumberModel, ".x was stored, and NumberModel does not take it"),
        (OLD(1, 2), OLD, ModelAfter, ".y was stored, and ModelAfter does not take it"),
        ([1], list[int], OLD, "a list was stored, not a dict"),
        (OLD(1, 2), OLD | str, NEEDS | bytes, "it has no field 'z'"),
        (OLD(1, 2), OLD | str, PairAfter | str, "Point is not among the classes of"),
        ("b", Literal["a", "b"], Literal["a", "c"], "b"),
    ],
)
def test_what_a_class_lost_or_needs_now_is_named(value: Any, before: Any, now: Any, told: str) -> None:
    with pytest.raises(rt.DurableValueError) as caught:
        moved(value, before, now)
    assert told in str(caught.value)
    assert "cannot be read back" in str(caught.value)
    assert "cannot be stored" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "before", "now", "found"),
    [
        (OLD(1, 2), OLD, GREW, GREW(1, 2, 7)),
        (After(1), After, Before, Before(1)),
        (PairFirst(1), PairFirst, PairBefore, PairBefore(1, 0)),
        ({"title": "a"}, MovieAfter, MovieAfter, {"title": "a"}),
        (BoxAfter(1), BoxAfter[int], BoxBefore[int], BoxBefore(1)),
        (NumberModel(x=1), NumberModel, ModelAfter, ModelAfter(x=1)),
    ],
)
def test_a_class_that_gained_a_field_with_a_default_reads_what_was_stored(
    value: Any, before: Any, now: Any, found: Any
) -> None:
    assert moved(value, before, now) == found


class Colour(Enum):
    RED = "r"
    BLUE = "b"


def enum_of(base: Callable[..., Any] = Enum, **members: Any) -> Any:
    return base("Colour", members)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (enum_of(BLUE="b"), "'RED' is no member of Colour"),
        (enum_of(CRIMSON="r"), "'RED' is no member of Colour"),
        (enum_of(CRIMSON="r", RED="r"), "'RED' is now another name of Colour.CRIMSON"),
        (enum_of(BLUE="RED"), "'RED' is no member of Colour"),
        (enum_of(BLUE="b", RED="b"), "'RED' is now another name of Colour.BLUE"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda kind: kind, lambda kind: list[kind], lambda kind: dict[kind, int]])
def test_a_member_that_is_gone_or_another_one_now_is_named(now: Any, told: str, wrap: Any) -> None:
    value = {list: [Colour.RED], dict: {Colour.RED: 1}}.get(getattr(wrap(Colour), "__origin__", None), Colour.RED)
    with pytest.raises(rt.DurableValueError) as caught:
        moved(value, wrap(Colour), wrap(now))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("value", "now"),
    [
        (Colour.RED, enum_of(RED="x", BLUE="r")),
        (enum_of(IntEnum, RED=1, BLUE=2)["RED"], enum_of(IntEnum, RED=2, BLUE=1)),
        (enum_of(StrEnum, RED="r", BLUE="b")["RED"], enum_of(StrEnum, RED="b", BLUE="r")),
    ],
)
def test_a_member_whose_value_has_changed_is_the_same_member(value: Any, now: Any) -> None:
    assert moved(value, type(value), now) is now["RED"]


FLAGS: list[Any] = [Flag, IntFlag, partial(Flag, boundary=KEEP)]


@pytest.mark.parametrize("base", FLAGS)
@pytest.mark.parametrize("wrap", [lambda kind: kind, lambda kind: kind | None], ids=["alone", "or nothing"])
def test_flags_that_are_put_together_are_the_same_flags_whatever_their_values_are_now(base: Any, wrap: Any) -> None:
    before = enum_of(base, READ=1, WRITE=2, RUN=4)
    now = enum_of(base, READ=1, RUN=2, LIST=4, WRITE=8)
    assert moved(before.READ | before.WRITE, wrap(before), wrap(now)) is now.READ | now.WRITE
    assert moved(before(7), wrap(before), wrap(now)) is now.READ | now.WRITE | now.RUN
    assert moved(before(0), wrap(before), wrap(now)) is now(0)


@pytest.mark.parametrize("base", FLAGS)
@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"READ": 1, "RUN": 2}, "'WRITE' is no member of Colour"),
        ({"READ": 1, "CHANGE": 2, "WRITE": 2}, "'WRITE' is now another name of Colour.CHANGE"),
    ],
)
def test_a_flag_among_several_that_is_gone_or_another_one_now_is_named(base: Any, now: Any, told: str) -> None:
    before = enum_of(base, READ=1, WRITE=2)
    with pytest.raises(rt.DurableValueError, match=told):
        moved(before.READ | before.WRITE, before, enum_of(base, **now))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (enum_of(IntFlag, READ=1, WRITE=2), 8),
        (enum_of(IntFlag, READ=1, WRITE=2), 9),
        (enum_of(IntFlag, READ=1, WRITE=2), 11),
        (enum_of(Flag, READ=1, WRITE=2, BOTH=3), 3),
        (enum_of(Flag, READ=1, LOOK=1, WRITE=2), 3),
        (enum_of(Flag, NONE=0, READ=1, WRITE=2), 0),
        (enum_of(partial(Flag, boundary=KEEP), BOTH=3, RUN=4), 7),
        (enum_of(partial(Flag, boundary=KEEP), BOTH=3, RUN=4), 1),
    ],
    ids=range(8),
)
def test_flags_with_bits_or_sums_that_have_names_or_none_come_back(kind: Any, value: int) -> None:
    assert moved(kind(value), kind, kind) is kind(value)
    assert moved({kind(value): [kind(value)]}, dict[kind, list[kind]], dict[kind, list[kind]]) == {
        kind(value): [kind(value)]
    }


@pytest.mark.parametrize(("base", "stored"), [(Flag, "3"), (IntFlag, "[3]"), (IntFlag, "3")])
@pytest.mark.parametrize("prints", [None, 1])
def test_flags_that_were_stored_by_their_value_are_read_and_found(base: Any, stored: str, prints: int | None) -> None:
    values, kind = Values(Sealer(None)), enum_of(base, READ=1, WRITE=2)
    assert values.load(stored.encode(), kind) is kind(3)

    async def takes(given: Any) -> None: ...

    takes.__annotations__["given"] = kind
    form = "[3]" if base is IntFlag else "3"
    text = f"[[{form}]]" if prints is None else f'[[],{{"given":{form}}}]'
    found = values.dump_arguments(rt.function_node(takes), (kind(3),), {}, prints)[1]
    assert found == fingerprint_of(text.encode())


@pytest.mark.parametrize("stored", ['["READ","WRITE"]', "[1,2]", "[]"])
def test_several_flags_are_no_member_of_an_enum(stored: str) -> None:
    with pytest.raises(rt.DurableValueError):
        Values(Sealer(None)).load(stored.encode(), enum_of(Enum, READ=1, WRITE=2))


def test_a_member_of_a_str_enum_that_is_gone_is_never_found_by_its_value() -> None:
    before, now = enum_of(StrEnum, RED="r"), enum_of(StrEnum, BLUE="RED")
    with pytest.raises(rt.DurableValueError, match="'RED' is no member of Colour"):
        moved(before["RED"], before, now)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


async def test_a_resumed_session_whose_class_lost_a_field_stays_as_it_is(url: str) -> None:
    kind, crash = OLD, True

    async def produce() -> Any:
        return kind(1, 2)

    async def main() -> str:
        produce.__annotations__["return"] = kind
        result = await rt.call(rt.function_node(produce, name="produce"))
        if crash:
            raise KeyboardInterrupt
        return repr(result)

    store = rt.DurableStore(url, durability="process")
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    kind, crash = NEW, False
    with pytest.raises(rt.StoreError, match="it has a field 'y', and Point has none"):
        await flow.aresume("s")
    assert store.sessions()[0].status == "interrupted"
    kind = OLD
    assert await flow.aresume("s") == "Point(x=1, y=2)"
