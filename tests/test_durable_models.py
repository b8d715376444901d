"""Models of pydantic, and classes that users register, come back from a store equal, or are refused."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from zoneinfo import ZoneInfo

import attrs
import pydantic
import pytest

import railtracks as rt
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values

T = TypeVar("T")


class Colour(Enum):
    RED = "r"


class Line(pydantic.BaseModel):
    item: str
    price: Decimal
    tags: set[str] = set()


class Order(pydantic.BaseModel):
    number: int
    at: datetime
    lines: list[Line] = []
    colour: Colour = Colour.RED
    by_name: dict[str, Line] = {}
    next: Order | None = None


class Express(Order):
    fee: int = 1


class Aliased(pydantic.BaseModel):
    name: str = pydantic.Field(default="none", alias="theName")
    seen: int = pydantic.Field(default=0, validation_alias="wasSeen", serialization_alias="seenAs")


class Names(pydantic.RootModel[list[str]]):
    pass


class Prices(pydantic.RootModel[dict[str, Decimal]]):
    pass


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Computed(pydantic.BaseModel):
    side: int

    @pydantic.computed_field
    def area(self) -> int:
        return self.side**2


class Open(pydantic.BaseModel, extra="allow"):
    x: int


class Hiding(pydantic.BaseModel):
    x: int
    _hidden: int = 0

    def hide(self, number: int) -> None:
        self._hidden = number


class Leaving(pydantic.BaseModel):
    x: int
    left_out: int = pydantic.Field(default=0, exclude=True)


class Keyed(pydantic.BaseModel):
    token: pydantic.SecretStr


class Account(pydantic.BaseModel):
    owner: str
    password: str


class Duck:
    """No model of pydantic, but with what is asked of one."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duck) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return {"x": self.x}

    @classmethod
    def model_validate(cls, plain: Any) -> Self:
        return cls(plain["x"])


class Goose(Duck):
    @classmethod
    def model_validate(cls, plain: Any) -> Any:
        return Duck(plain["x"])


@attrs.define
class Around:
    order: Order
    others: list[Order | None] = attrs.field(factory=list)


@pytest.fixture
def values() -> Values:
    return Values(Sealer(None))


def again(values: Values, value: Any, kind: Any) -> Any:
    data, _ = values.dump(value, kind, "it")
    return values.load(data, kind)


LINE = Line(item="a", price=Decimal("1.10"), tags={"x", "y", "z"})
ORDER = Order(number=1, at=datetime(2026, 1, 2, tzinfo=UTC), lines=[LINE], by_name={"l": LINE})
HIDING = Hiding(x=1)
HIDING.hide(5)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (ORDER, Order),
        (ORDER.model_copy(update={"next": ORDER}), Order),
        (Express(number=1, at=ORDER.at), Express),
        ([ORDER], list[Order]),
        ((ORDER, None), tuple[Order, Order | None]),
        ({"a": ORDER}, dict[str, Order]),
        (ORDER, Order | str),
        (ORDER, Express | Order),
        (Around(ORDER, [None, ORDER]), Around),
        (Aliased(theName="a", wasSeen=3), Aliased),
        (Names(["a"]), Names),
        (Prices({"a": Decimal("1.50")}), Prices),
        (Page[int](items=[1]), Page[int]),
        (Page[Line](items=[LINE]), Page[Line]),
        (Computed(side=2), Computed),
        (Open.model_validate({"x": 1, "y": {"z": [1]}}), Open),
        (Hiding(x=1), Hiding),
        (Duck(1), Duck),
    ],
)
def test_a_model_comes_back_equal_and_of_the_same_class(value: Any, kind: Any, values: Values) -> None:
    found = again(values, value, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        (Express(number=1, at=ORDER.at), Order, "a Express, where the annotation says Order"),
        ([Express(number=1, at=ORDER.at)], list[Order], "a Express, where the annotation says Order"),
        (ORDER.model_copy(update={"next": Express(number=1, at=ORDER.at)}), Order, "make another value of it"),
        (HIDING, Hiding, "make another value of it"),
        (Leaving(x=1, left_out=2), Leaving, "make another value of it"),
        (Keyed(token=pydantic.SecretStr("a")), Keyed, "make another value of it"),
        ({"number": 1}, Order, "a dict, where the annotation says Order"),
        (Goose(1), Goose, "make another value of it|a Duck, where the annotation says Goose"),
        (Account(owner="a", password="b"), Account, r"it.password cannot be stored: a secret is stored only encrypted"),
        (ORDER, Any, "is not a JSON value: annotate it"),
    ],
)
def test_a_model_that_would_not_come_back_equal_is_refused(value: Any, kind: Any, told: str, values: Values) -> None:
    with pytest.raises(rt.DurableValueError, match=told):
        values.dump(value, kind, "it")


def test_a_secret_in_a_model_is_encrypted() -> None:
    keyed = Values(Sealer("key"))
    data, _ = keyed.dump(Account(owner="a", password="canary-5c1f"), Account, "it")
    assert b"canary" not in data
    assert keyed.load(data, Account) == Account(owner="a", password="canary-5c1f")


def test_equal_models_have_equal_fingerprints_whatever_the_order_of_their_sets(values: Values) -> None:
    words = [f"word {number}" for number in range(50)]
    first, second = (Line(item="a", price=Decimal(1), tags=set(each)) for each in (words, words[::-1]))
    both = [values.dump(Page[Line](items=[each]), Page[Line], "it") for each in (first, second)]
    assert both[0] == both[1]
    assert b'"word 0","word 1","word 10"' in both[0][0]


async def test_models_are_arguments_and_results_and_come_back_in_a_resume(tmp_path: Path) -> None:
    ran: list[Any] = []
    seen: list[Any] = []

    async def ship(order: Order, *, lines: list[Line]) -> Order | None:
        ran.append(order)
        return order.model_copy(update={"lines": lines})

    async def main(order: Order) -> Page[Order]:
        seen.append(await rt.call(ship, order, lines=[LINE]))
        if len(seen) == 1:
            raise KeyboardInterrupt
        return Page[Order](items=[seen[-1]])

    # The classes of a function are no names that an annotation in quotes finds.
    flow = rt.Flow("flow", main, durable=rt.DurableStore(tmp_path / "store.db"), save_state=False)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(ORDER, session_id="s")
    found = await flow.aresume("s")
    assert found == Page[Order](items=[ORDER])
    assert await flow.aresume("s") == found
    assert (len(ran), seen[0]) == (1, seen[1])


# Registered classes.


class Money:
    def __init__(self, amount: int, currency: str) -> None:
        self.amount, self.currency = amount, currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Coin(Money):
    pass


class Amount(Decimal):
    """Derived from a class that is kept, whose instances would come back as instances of that one."""


@attrs.define
class Bill:
    total: Money
    parts: list[Money] = attrs.field(factory=list)


class Forgetful:
    pass


@attrs.define
class Held:
    """A class with fields of which one cannot be stored."""

    lock: Forgetful
    number: int = 0


class Broken:
    pass


def _refuse(plain: Any) -> Broken:
    raise ValueError("never")


rt.register_durable_value(Money, lambda money: [money.amount, money.currency], lambda plain: Money(*plain))
rt.register_durable_value(Amount, str, Amount)
rt.register_durable_value(Held, lambda held: held.number, lambda number: Held(Forgetful(), number))
rt.register_durable_value(Broken, lambda _: None, _refuse)


def test_a_registered_class_is_kept_wherever_it_is_annotated(values: Values) -> None:
    money = Money(5, "EUR")
    for value, kind in (
        (money, Money),
        ([money], list[Money]),
        ({"a": money}, dict[str, Money]),
        (money, Money | None),
        (money, Money | int),
        (Bill(money, [money]), Bill),
        (Amount("1.10"), Amount),
    ):
        found = again(values, value, kind)
        assert found == value
        assert type(found) is type(value)
    assert again(values, Held(Forgetful(), 5), Held).number == 5


async def test_a_node_whose_result_is_of_a_registered_class_runs_whatever_the_fields_of_that_are(
    tmp_path: Path,
) -> None:
    async def hold() -> list[Held]:
        return [Held(Forgetful(), 5)]

    async def main() -> Held:
        return (await rt.call(hold))[0]

    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    assert (await flow.ainvoke(session_id="s")).number == 5
    assert (await flow.aresume("s")).number == 5


def test_what_a_registered_class_cannot_keep_is_refused_with_the_path(values: Values) -> None:
    for value, kind, told in (
        (Coin(1, "EUR"), Money, "a .*Coin, where the annotation says Money"),
        (Bill(Money(1, object())), Bill, r"it.total \(dumped\)\[1\] cannot be stored: a object is not a JSON value"),  # type: ignore[arg-type]
        ([Broken()], list[Broken], "ValueError: never"),
    ):
        with pytest.raises(rt.DurableValueError, match=told):
            values.dump(value, kind, "it")


def test_a_store_that_is_open_keeps_a_class_from_when_it_is_registered(values: Values) -> None:
    class Late:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Late)

        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(rt.DurableValueError):
        values.dump(Late(), Late, "it")
    rt.register_durable_value(Late, lambda _: 0, lambda _: Late())
    assert again(values, [Late()], list[Late]) == [Late()]


@pytest.mark.parametrize("kind", [int, str, datetime, Path, Colour, Order, Duck, Around, Money, dict])
def test_a_class_that_is_kept_already_is_refused(kind: type[Any]) -> None:
    with pytest.raises(ValueError, match="are kept already"):
        rt.register_durable_value(kind, str, str)


def test_what_is_no_class_or_no_function_is_refused() -> None:
    given: Any
    for given in (list[int], "Money", None, Money(1, "EUR")):
        with pytest.raises(TypeError, match="takes a class"):
            rt.register_durable_value(given, str, str)
    not_callable: Any = 5
    with pytest.raises(TypeError, match="dump of register_durable_value"):
        rt.register_durable_value(Forgetful, not_callable, lambda _: Forgetful())
    with pytest.raises(TypeError, match="load of register_durable_value"):
        rt.register_durable_value(Forgetful, str, not_callable)


class Meeting(pydantic.BaseModel):
    at: datetime
    others: list[time] = []
    by_name: dict[str, datetime] = {}
    days: frozenset[datetime] = frozenset()
    then: Meeting | None = None


class Zoned(pydantic.BaseModel, arbitrary_types_allowed=True):
    at: datetime

    @pydantic.field_validator("at")
    @classmethod
    def in_berlin(cls, at: datetime) -> datetime:
        return at.astimezone(BERLIN)


class Moments(pydantic.RootModel[list[datetime]]):
    pass


class Moved(pydantic.BaseModel):
    last: deque[datetime]
    all: Moments


class Tags(pydantic.RootModel[set[str]]):
    pass


BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 3, 28, 12, tzinfo=BERLIN)


@pytest.mark.parametrize(
    "meeting",
    [
        Meeting(at=NOON),
        Meeting(at=NOON.astimezone(UTC), by_name={"x": NOON}),
        Meeting(at=NOON.astimezone(UTC), days=frozenset([NOON])),
        Meeting(at=NOON.astimezone(UTC), then=Meeting(at=NOON)),
        Moments([NOON]),
        Moved(last=deque(), all=Moments([NOON])),
        Moved(last=deque([NOON]), all=Moments([])),
    ],
)
def test_a_model_that_makes_an_offset_of_a_zone_is_refused(values: Values, meeting: pydantic.BaseModel) -> None:
    with pytest.raises(rt.DurableValueError, match="makes a fixed offset of a zone: keep the zone's name"):
        values.dump(meeting, type(meeting), "it")


def test_a_set_that_is_a_whole_model_has_one_order_in_all_processes(values: Values) -> None:
    tags = {f"{number}" for number in range(9)}
    data, _ = values.dump(Tags(tags), Tags, "it")
    assert data == b'["0","1","2","3","4","5","6","7","8"]'
    assert values.load(data, Tags) == Tags(tags)


def test_a_model_that_keeps_its_zones_or_has_none_comes_back(values: Values) -> None:
    zoned = again(values, Zoned(at=NOON), Zoned)
    assert zoned.at.tzinfo is BERLIN
    times = [time(1), time(2, tzinfo=UTC)]
    meeting = Meeting(at=NOON.astimezone(UTC), others=times, days=frozenset([NOON.astimezone(UTC)]))
    assert again(values, meeting, Meeting) == meeting
