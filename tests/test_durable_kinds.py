"""Values of annotations that are put together at random come back from a store equal and of the same classes."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from pathlib import PurePosixPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    Optional,
    TypeAlias,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proof_rounds import rounds

from railtracks._records.secret_names import is_secret_name
from railtracks._records.secrets import key_name
from railtracks.durable._values.converter import CONVERTER
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.storable import problem_of
from railtracks.durable._values.values import Values

T = TypeVar("T")
# A union knows its members by their names.
NUMBERS = itertools.count()
# An annotation, its values, and whether these have a hash.
Kind: TypeAlias = "tuple[Any, st.SearchStrategy[Any], bool]"


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Mood(StrEnum):
    RED = "r"


class Level(IntEnum):
    LOW = 1


class Right(IntFlag):
    READ = 1
    WRITE = 2


class Day(Flag):
    FIRST = 1
    SECOND = 2


class Price(Decimal, Enum):
    LOW = "1.5"


@attrs.frozen
class Box(Generic[T]):
    inner: T


@attrs.frozen
class ByKeyword(Generic[T]):
    inner: T = attrs.field(kw_only=True)
    number: int = 0


@dataclass(frozen=True)
class Crate(Generic[T]):
    inner: T


class Row(NamedTuple, Generic[T]):
    inner: T


class Options(TypedDict, Generic[T]):
    inner: T


def literals(*values: object) -> Kind:
    return Literal[values], st.sampled_from(values), True


TEXTS = st.text(st.characters(codec="utf-8"), max_size=3)
LEAVES: list[Kind] = [
    literals(1, True, "r", None),
    literals(Mood.RED, Level.LOW, "RED"),
    literals(Colour.RED, b"r"),
    *[
        (kind, values, True)
        for kind, values in (
            (str, TEXTS),
            (LiteralString, TEXTS),
            (int, st.integers()),
            (float, st.floats(allow_nan=False)),
            (bool, st.booleans()),
            (type(None), st.none()),
            (bytes, st.binary(max_size=2)),
            (Colour, st.sampled_from(Colour)),
            (Mood, st.just(Mood.RED)),
            (Level, st.just(Level.LOW)),
            (Price, st.just(Price.LOW)),
            (Right, st.integers(0, 3).map(Right)),
            (Day, st.integers(0, 3).map(Day)),
            (date, st.dates()),
            (datetime, st.datetimes(timezones=st.none() | st.just(UTC))),
            (time, st.times()),
            (timedelta, st.timedeltas()),
            (UUID, st.uuids()),
            (Decimal, st.decimals(allow_nan=False)),
            (complex, st.complex_numbers(allow_nan=False)),
            (PurePosixPath, st.just(PurePosixPath("a"))),
        )
    ],
]


def around_one(below: Kind) -> st.SearchStrategy[Kind]:
    """Return the annotations that have another one in them."""
    kind, values, is_key = below
    lists = st.lists(values, max_size=3)
    made: list[Kind] = [
        (list[kind], lists, False),
        (Sequence[kind], lists, False),
        (deque[kind], lists.map(deque), False),
        (tuple[kind, ...], lists.map(tuple), is_key),
        (Optional[kind], values | st.none(), is_key),  # noqa: UP045 - of what it is made is not known
        (Annotated[kind, "a remark"], values, is_key),
        (NewType(f"Named{next(NUMBERS)}", kind), values, is_key),  # type: ignore[misc, valid-newtype]
        (Box[kind], values.map(Box), is_key),
        (Crate[kind], values.map(Crate), is_key),
        (Row[kind], values.map(Row), is_key),
        (ByKeyword[kind], values.map(lambda each: ByKeyword(inner=each)), is_key),
        (Options[kind], values.map(lambda each: {"inner": each}), False),
    ]
    if is_key:
        made += [(set[kind], st.sets(values, max_size=3), False)]
        made += [(frozenset[kind], st.frozensets(values, max_size=3), True)]
    return st.sampled_from(made)


def around_two(both: tuple[Kind, Kind]) -> st.SearchStrategy[Kind]:
    """Return the annotations that have two others in them."""
    (kind, values, is_key), (other, others, is_other_key) = both
    are_keys = is_key and is_other_key
    many = st.lists(others, max_size=3)
    made: list[Kind] = [
        (tuple[kind, other], st.tuples(values, others), are_keys),
        (tuple[kind, *tuple[other, ...]], st.tuples(values, many).map(lambda each: (each[0], *each[1])), are_keys),
        (tuple[*tuple[other, ...], kind], st.tuples(many, values).map(lambda each: (*each[0], each[1])), are_keys),
        (Union[kind, other], values | others, are_keys),  # noqa: UP007 - of what it is made is not known
    ]
    if is_key:
        # What stands under the name of a secret is refused, and Hypothesis finds such names in the code.
        keys = values.filter(lambda key: not is_secret_name(key_name(key) or ""))
        dicts = st.dictionaries(keys, others, max_size=3)
        made += [(dict[kind, other], dicts, False), (OrderedDict[kind, other], dicts.map(OrderedDict), False)]
    return st.sampled_from(made)


KINDS: st.SearchStrategy[Kind] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: inner.flatmap(around_one) | st.tuples(inner, inner).flatmap(around_two),
    max_leaves=5,
)


def classes_in(value: Any) -> Any:
    """Return the classes of a value and its parts, in an order that equal values have in common."""
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, Sequence | AbstractSet | deque) and not isinstance(value, str | bytes):
        parts = value
    elif isinstance(value, Box | ByKeyword | Crate):
        parts = [value.inner]
    found = [str(classes_in(part)) for part in parts]
    return type(value), sorted(found) if isinstance(value, AbstractSet) else found


@pytest.mark.proof
def test_whatever_its_annotation_is_made_of_a_value_comes_back() -> None:
    values = Values(Sealer(None))

    @settings(max_examples=rounds(full=4_000, handful=60), deadline=None, suppress_health_check=list(HealthCheck))
    @given(KINDS, st.data())
    def check(described: Kind, data: st.DataObject) -> None:
        kind, given_values, _ = described
        value = data.draw(given_values)
        assert problem_of(kind, CONVERTER) is None
        found = values.load(values.dump(value, kind, "it")[0], kind)
        assert found == value
        assert classes_in(found) == classes_in(value)

    check()
