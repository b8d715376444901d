"""Tuples that are unpacked in others, and annotations of which there are few values or none."""

from __future__ import annotations

import typing
from datetime import date
from pathlib import Path
from typing import (
    Any,
    Generic,
    LiteralString,
    Never,
    NoReturn,
    TypeVarTuple,
    Unpack,
)

import attrs
import pytest

import railtracks as rt
from railtracks.durable._values.converter import CONVERTER
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.storable import problem_of
from railtracks.durable._values.values import Values

Ts = TypeVarTuple("Ts")
DAY = date(2026, 1, 2)
NEXT = date(2026, 1, 3)


@attrs.define
class Row:
    title: LiteralString
    cells: tuple[date, *tuple[int, ...]] = (DAY,)


@attrs.define
class Columns(Generic[*Ts]):
    cells: tuple[*Ts]


@pytest.fixture
def values() -> Values:
    return Values(Sealer(None))


KEPT: list[tuple[Any, Any]] = [
    ((DAY, 1, 2), tuple[date, *tuple[int, ...]]),
    ((DAY,), tuple[date, *tuple[int, ...]]),
    ((1, 2, DAY), tuple[*tuple[int, ...], date]),
    ((1, 2, DAY), tuple[Unpack[tuple[int, ...]], date]),  # noqa: UP044 - the older spelling
    ((1, 2, DAY), typing.Tuple[Unpack[typing.Tuple[int, ...]], date]),  # noqa: UP006, UP044 - the older spelling
    ((DAY, 1, 2, DAY), tuple[date, *tuple[int, ...], date]),
    ((DAY, DAY), tuple[date, *tuple[int, ...], date]),
    ((1, DAY, "a"), tuple[int, *tuple[date, str]]),
    ((DAY, NEXT), tuple[*tuple[date, ...]]),
    ((1, (2, DAY)), tuple[int, tuple[*tuple[int, ...], date]]),
    ((DAY, 1, "a"), tuple[date, *Ts]),
    ((1, "a"), typing.Tuple),  # noqa: UP006 - the older spelling
    ((), tuple[()]),
    (Row("a", (DAY, 1)), Row),
    ("a", LiteralString),
    (["a"], list[LiteralString]),
    ({"a": DAY}, dict[LiteralString, date]),
    ("a", LiteralString | None),
    ("a", int | LiteralString),
    ([], list[Never]),
    ((), tuple[Never, ...]),
    (1, int | Never),  # noqa: RUF020 - what is made by a program may have it
]


@pytest.mark.parametrize(("value", "kind"), KEPT, ids=str)
def test_unpacked_tuples_and_literal_strings_come_back(values: Values, value: Any, kind: Any) -> None:
    assert problem_of(kind, CONVERTER) is None
    data, _ = values.dump(value, kind, "it")
    found = values.load(data, kind)
    assert found == value
    assert type(found) is type(value)


REFUSED: list[tuple[Any, Any, str]] = [
    ((DAY, "a"), tuple[date, *tuple[int, ...]], r"it\[1\] cannot be stored: a str, where the annotation says int"),
    ((), tuple[date, *tuple[int, ...]], "0 items, where"),
    ((DAY,), tuple[date, *tuple[int, ...], date], "1 items, where"),
    ((1, DAY), tuple[int, *tuple[date, str]], "2 items, where"),
    ((1,), tuple[()], "1 items, where"),
    ((1, DAY), tuple[int, *Ts], r"it\[1\] cannot be stored: a date is not a JSON value"),
    (1, LiteralString, "a int, where the annotation says str"),
    ({1: 2}, dict[LiteralString, int], "it has a key of class int"),
    (None, Never, "a NoneType, where the annotation says Never"),
    ([1], list[NoReturn], r"it\[0\] cannot be stored: a int, where the annotation says NoReturn"),
]


@pytest.mark.parametrize(("value", "kind", "told"), REFUSED, ids=str)
def test_what_does_not_fit_them_is_refused_with_the_path(values: Values, value: Any, kind: Any, told: str) -> None:
    with pytest.raises(rt.DurableValueError, match=told):
        values.dump(value, kind, "it")


def test_a_stored_value_of_which_there_is_none_any_more_is_told(values: Values) -> None:
    data, _ = values.dump([1], list[int], "it")
    with pytest.raises(rt.DurableValueError, match="where the annotation says Never"):
        values.load(data, list[Never])


@pytest.mark.parametrize(
    "kind",
    [
        tuple[*tuple[int, ...], *tuple[str, ...]],
        list[tuple[*tuple[int, ...], *tuple[str, ...]]],
        tuple[..., int],  # type: ignore[misc]
        tuple[int, *tuple[object, ...], set[Columns[int]]],
        Columns[int, date],
        Columns,
    ],
    ids=str,
)
def test_what_no_store_can_tell_apart_is_known_before_a_node_runs(kind: Any) -> None:
    assert "no class that can be stored" in str(problem_of(kind, CONVERTER))


async def spread(*items: *tuple[int, *tuple[date, ...]]) -> None: ...


async def start(number: int, *items: *Ts) -> tuple[*Ts]: ...


async def days(*items: Unpack[tuple[date, ...]]) -> None: ...  # noqa: UP044 - the older spelling


async def span(*items: *tuple[date, date]) -> None: ...


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (spread, (1, DAY, NEXT)),
        (spread, (1,)),
        (spread, ()),
        (start, (1, 2, "a")),
        (start, (1,)),
        (days, (DAY, NEXT)),
        (days, ()),
        (span, (DAY, NEXT)),
        (span, (1,)),
    ],
)
def test_arguments_that_a_tuple_describes_come_back(values: Values, fn: Any, args: tuple[object, ...]) -> None:
    node = rt.function_node(fn)
    data, _ = values.dump_arguments(node, args, {})
    assert values.load_arguments(node, data) == (args, {})


def test_an_argument_that_does_not_fit_the_tuple_is_refused(values: Values) -> None:
    with pytest.raises(rt.DurableValueError, match="argument 'items' of 'spread' cannot be stored: a str"):
        values.dump_arguments(rt.function_node(spread), (1, "a"), {})


async def test_the_error_of_a_node_that_never_returns_is_recorded(tmp_path: Path) -> None:
    ran: list[str] = []

    async def give_up(reason: LiteralString) -> Never:
        ran.append(reason)
        raise LookupError(reason)

    async def main() -> tuple[str, *tuple[date, ...]]:
        try:
            await rt.call(give_up, "no such thing")
        except LookupError as error:
            told = str(error)
        if len(ran) == 1 and not rested:
            rested.append(1)
            raise KeyboardInterrupt
        return told, DAY, NEXT

    rested: list[int] = []
    flow = rt.Flow("flow", main, durable=rt.DurableStore(tmp_path / "store.db", durability="process"), save_state=False)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    assert await flow.aresume("s") == ("no such thing", DAY, NEXT)
    assert ran == ["no such thing"]


async def test_a_node_that_returns_all_the_same_is_told_so(tmp_path: Path) -> None:
    def never() -> Any:
        return 3

    never.__annotations__["return"] = Never

    async def main() -> None:
        with pytest.raises(rt.DurableValueError, match="a int, where the annotation says Never"):
            await rt.call(never)

    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    await rt.Flow("flow", main, durable=store, save_state=False).ainvoke()
