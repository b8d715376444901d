"""Generic classes with generic bases: each type variable stands for what it does in its own class."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable
from enum import Enum
from typing import Any, Generic, NamedTuple, NewType, TypedDict, TypeVar

import attrs
import pytest

import railtracks as rt
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values

T = TypeVar("T")
U = TypeVar("U")


class Colour(Enum):
    RED = "r"


@dataclasses.dataclass
class Pair(Generic[T, U]):
    left: T
    right: U


@dataclasses.dataclass
class Numbered(Pair[int, T], Generic[T]):
    more: T


@dataclasses.dataclass
class Swapped(Pair[U, T], Generic[T, U]):
    """The same names for other parameters."""


@attrs.define
class Page(Generic[T]):
    items: list[T]


@attrs.define
class Named(Page[dict[str, T]], Generic[T]):
    name: T
    next: Named[T] | None = None


@attrs.define
class Coloured(Named[Colour]):
    """A class without parameters."""


@attrs.define
class Loose(Page, Generic[T]):  # type: ignore[type-arg]
    """A class whose base is given no parameters."""

    one: T


@attrs.define
class Firm(Page[Colour]):
    items: list[Any]


class Shelf(NamedTuple, Generic[T]):
    any_page: Page  # type: ignore[type-arg]
    page: Page[T]


class Row(TypedDict, Generic[T]):
    value: T


class Wide(Row[list[T]], Generic[T]):
    last: T


@attrs.define
class Box(Generic[T]):
    inner: T


Boxed = NewType("Boxed", Box[Colour])

KEPT: list[tuple[Any, Any]] = [
    (Box(Boxed(Box(Colour.RED))), Box[Boxed]),
    (Box([Boxed(Box(Colour.RED))]), Box[list[Boxed]]),
    (Numbered(1, Colour.RED, Colour.RED), Numbered[Colour]),
    (Numbered(1, Numbered(2, "a", "b"), Numbered(3, "c", "d")), Numbered[Numbered[str]]),
    (Swapped(1, Colour.RED), Swapped[Colour, int]),
    (Named([{"a": Colour.RED}], Colour.RED, Named([], Colour.RED)), Named[Colour]),
    (Coloured([{"a": Colour.RED}], Colour.RED), Coloured),
    (Loose([1, "a"], Colour.RED), Loose[Colour]),
    (Firm([1]), Firm),
    (Shelf(Page([1]), Page([Colour.RED])), Shelf[Colour]),
    ({"value": [Colour.RED], "last": Colour.RED}, Wide[Colour]),
]


@pytest.mark.parametrize(("value", "kind"), KEPT, ids=range(len(KEPT)))
def test_a_type_variable_of_a_base_stands_for_what_it_does_there(value: Any, kind: Any) -> None:
    values = Values(Sealer(None))
    back = values.load(values.dump(value, kind, "it")[0], kind)
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Numbered("a", "b", "c"), Numbered[str]),  # type: ignore[arg-type]
        (Swapped(1, Colour.RED), Swapped[int, Colour]),
        (Named([{"a": 1}], "a"), Named[str]),  # type: ignore[dict-item]
        ({"value": ["a"], "last": 1}, Wide[int]),
    ],
    ids=range(4),
)
def test_a_part_that_the_base_does_not_allow_is_refused(value: Any, kind: Any) -> None:
    with pytest.raises(rt.DurableValueError, match="where the annotation says"):
        Values(Sealer(None)).dump(value, kind, "it")


def _point_of(module: str) -> type:
    point = attrs.make_class("Point", {"x": attrs.field(type=int)})
    point.__module__ = module
    return point


def _union_of(members: Iterable[type]) -> Any:
    return functools.reduce(operator.or_, members)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_classes_of_one_name_in_a_union_are_told_apart_by_their_modules(number: int) -> None:
    members = _point_of("first"), _point_of("second"), _point_of("third")
    values, value = Values(Sealer(None)), members[number](1)
    data, _ = values.dump(value, _union_of(members), "it")
    # Also where the annotation has them in another order by then.
    for each in (members, members[::-1], (type(None), *members)):
        found = values.load(data, _union_of(each))
        assert found == value
        assert type(found) is type(value)
