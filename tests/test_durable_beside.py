"""What an instance has beside its fields is not stored: it is made again of these, or the value is refused."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import pytest

import railtracks as rt
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values

T = TypeVar("T")


@attrs.define(eq=False, slots=False)
class Account:
    start: int

    def __attrs_post_init__(self) -> None:
        self._total = self.start

    def add(self, number: int) -> Account:
        self._total += number
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and self._total == other._total

    def __hash__(self) -> int:
        return hash(self._total)


class Seen:
    def __init__(self) -> None:
        self.seen: list[int] = []


@dataclass(eq=False)
class Watcher(Seen):
    name: str

    def __post_init__(self) -> None:
        super().__init__()

    def with_one(self, number: int) -> Watcher:
        self.seen.append(number)
        return self


@dataclass(eq=False)
class Late:
    number: int

    def marked(self) -> Late:
        self.mark = True  # pylint: disable=attribute-defined-outside-init
        return self


@dataclass
class Rows(list[int]):
    source: str

    def of(self, *numbers: int) -> Rows:
        self.extend(numbers)
        return self


@dataclass(eq=False)
class Output(OrderedDict[str, object]):
    """Its fields are items, too, as some libraries of models have it."""

    score: float

    def __post_init__(self) -> None:
        self["score"] = self.score

    def also(self, name: str) -> Output:
        self[name] = 1
        return self


@attrs.define(weakref_slot=False)
class Tags(set[str]):
    name: str

    def of(self, *tags: str) -> Tags:
        self.update(tags)
        return self


@dataclass(eq=False)
class Worker:
    """Has what is made anew for each, and is compared by identity."""

    name: str
    parts: list[str] = field(init=False, default_factory=list[str])

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.upper = self.name.upper()

    @cached_property
    def length(self) -> int:
        return len(self.name)


@dataclass
class Cached:
    name: str

    def remember(self) -> Cached:
        self._known = len(self.name)  # pylint: disable=attribute-defined-outside-init
        return self


@dataclass
class Box(Generic[T]):
    inner: T


@pytest.fixture
def store(tmp_path: Path) -> rt.DurableStore:
    return rt.DurableStore(tmp_path / "store.db", durability="process")


def dump(value: object, kind: Any) -> bytes:
    return Values(Sealer(None)).dump(value, kind, "the value")[0]


@pytest.mark.parametrize(
    ("make", "kind", "lost"),
    [
        (lambda: Account(1).add(9), Account, "the value cannot be stored: its attribute '_total' is no field"),
        (lambda: Watcher("w").with_one(5), Watcher, "the value cannot be stored: its attribute 'seen' is no field"),
        (lambda: Late(1).marked(), Late, "its attribute 'mark' is no field"),
        (lambda: Rows("s").of(1, 2), Rows, "it is a list with fields, and what it holds beside these"),
        (lambda: Output(0.5).also("k"), Output, "it is a dict with fields"),
        (lambda: Tags("t").of("a"), Tags, "it is a set with fields"),
        (
            lambda: [Box(Account(1)), Box(Account(1).add(1))],
            list[Box[Account]],
            r"value\[1\].inner cannot be stored: its",
        ),
        (lambda: {"k": Rows("s").of(1)}, dict[str, Rows], r"value\['k'\] cannot be stored: it is a list with fields"),
    ],
)
def test_what_would_be_lost_beside_the_fields_is_refused_with_the_path_to_it(
    make: Callable[[], object], kind: object, lost: str
) -> None:
    with pytest.raises(rt.DurableValueError, match=lost):
        dump(make(), kind)


def with_length(worker: Worker) -> Worker:
    assert worker.length
    return worker


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Account(1), Account),
        (Watcher("w"), Watcher),
        (Late(1), Late),
        (Rows("s"), Rows),
        (Output(0.5), Output),
        (Tags("t"), Tags),
        (with_length(Worker("name")), Worker),
        # Its class says that it is equal without.
        (Cached("name").remember(), Cached),
        # Python notes the parameter in the instance.
        (Box[int](1), Box[int]),
    ],
)
def test_what_the_fields_make_again_comes_back(value: object, kind: object) -> None:
    values = Values(Sealer(None))
    again: Any = values.load(dump(value, kind), kind)
    assert type(again) is type(value)
    assert dump(again, kind) == dump(value, kind)


def test_a_call_whose_result_would_lose_something_fails_in_its_first_run(store: rt.DurableStore) -> None:
    @rt.function_node
    async def fill() -> Rows:
        return Rows("s").of(1, 2)

    @rt.function_node
    async def main() -> int:
        return len(await rt.call(fill))

    flow = rt.Flow("fills", entry_point=main, durable=store)
    with pytest.raises(rt.DurableValueError, match="the result of 'fill' cannot be stored: it is a list with fields"):
        flow.invoke()


def test_an_argument_that_would_lose_something_is_refused(store: rt.DurableStore) -> None:
    @rt.function_node
    async def total(account: Account) -> int:
        return account.start

    @rt.function_node
    async def main() -> int:
        return await rt.call(total, Account(1).add(1))

    flow = rt.Flow("totals", entry_point=main, durable=store)
    with pytest.raises(rt.DurableValueError, match="argument 'account' of 'total' cannot be stored"):
        flow.invoke()
