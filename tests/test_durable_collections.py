"""Containers of the module `collections` come back in their own class with all that they have, or are refused."""

from __future__ import annotations

import enum
import json
import types
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import MutableMapping, MutableSequence, MutableSet, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Generic, NewType, TypeVar

import attrs
import pytest

import railtracks as rt
from railtracks.durable._values.converter import CONVERTER
from railtracks.durable._values.sealing import Sealer, fingerprint_of
from railtracks.durable._values.sizes import fits, is_large
from railtracks.durable._values.storable import problem_of
from railtracks.durable._values.values import Values

K = TypeVar("K")
V = TypeVar("V")


class Colour(enum.Enum):
    RED = "r"
    API_KEY = "k"


class Words(dict[str, int]):
    """A dict with a name."""


class Numbers(dict[int, V], Generic[V]):
    """A dict with numbers as keys."""


class Sorted(OrderedDict[K, V]):
    """An ordered dict with a name."""


class Bare(dict):  # type: ignore[type-arg] # pyright: ignore[reportMissingTypeArgument] - such there are
    """A dict that tells nothing of its parts."""


class Loose(dict[str, V], Generic[V]):
    """A dict with annotated items."""


class Looser(Loose[list[V]], Generic[V]):
    """One with more parameters."""


@attrs.define
class Stats:
    votes: Counter[int]
    places: defaultdict[tuple[int, int], list[str]]
    last: deque[tuple[int, str]]


@attrs.define
class Noted:
    words: Annotated[OrderedDict[int, str], "a remark"]


@pytest.fixture
def values() -> Values:
    return Values(Sealer(None))


def listed(*pairs: tuple[Any, Any]) -> defaultdict[Any, Any]:
    return defaultdict(list, pairs)


KEPT: list[tuple[Any, Any]] = [
    (Counter([1, 1, 2]), Counter[int]),
    (Counter("abb"), Counter[str]),
    (Counter("abb"), Counter),
    (Counter([Colour.RED]), Counter[Colour]),
    (Counter([None, 1]), Counter[int | None]),
    (Counter([(1, "a"), (1, "a")]), Counter[tuple[int, str]]),
    (Counter(), Counter[int]),
    (OrderedDict([(2, "b"), (1, "a")]), OrderedDict[int, str]),
    (OrderedDict([("b", 1), ("a", 2)]), OrderedDict[str, int]),
    (OrderedDict([("b", 1), ("a", 2)]), OrderedDict),
    (OrderedDict([("a", 1), (1, 2)]), OrderedDict[str | int, int]),
    (OrderedDict(a=deque([1])), OrderedDict[str, deque[int]]),
    (listed((1, ["a"])), defaultdict[int, list[str]]),
    (listed(("a", ["b"])), defaultdict[str, list[str]]),
    (listed(("a", ["b"])), defaultdict[str, Any]),
    (listed(("a", ["b"])), defaultdict[str, Sequence[str]]),
    (listed(("a", ["b"]), ("c", [])), defaultdict),
    (listed((1, ["b"])), defaultdict[int, list[str] | None]),
    (defaultdict(None, a=1), defaultdict[str, int]),
    (defaultdict(None, a=1), defaultdict),
    (defaultdict(int, a=1), defaultdict[str, int]),
    (defaultdict(int, {1: 2}), defaultdict[int, float]),
    (defaultdict(Counter, a=Counter([1])), defaultdict[str, Counter[int]]),
    (deque([1, 2], maxlen=2), deque[int]),
    (deque([[1], 2], maxlen=2), deque),
    (deque(maxlen=0), deque[int]),
    (deque([(1, 2)]), deque[tuple[int, int]]),
    (deque([1, "a", None]), deque),
    (deque([{"maxlen": 1, "items": [0]}]), deque),
    (Words(a=1), Words),
    (Numbers({1: "a"}), Numbers[str]),
    (Sorted([(2, 1), (1, 2)]), Sorted[int, int]),
    (Bare(a=[1]), Bare),
    (Looser(a=[Colour.RED]), Looser[Colour]),
    ({1: "a"}, MutableMapping[int, str]),
    ({"a": 1}, MutableMapping[str, int]),
    ([(1, 2)], MutableSequence[tuple[int, int]]),
    ({1}, MutableSet[int]),
    (Stats(Counter([1]), listed(((1, 2), ["a"])), deque([(1, "a")], maxlen=3)), Stats),
    (OrderedDict([(1, None)]), Annotated[OrderedDict[int, None], "a remark"]),
    (Counter({1: 2}), Annotated[Counter[int], "a remark"]),
    (deque([(1, "a")]), NewType("Last", Annotated[deque[tuple[int, str]], "a remark"])),  # type: ignore[valid-newtype]
    (Noted(OrderedDict([(1, "a")])), Noted),
]


def told(value: Any) -> Any:
    """Return a value with what `==` does not look at."""
    if type(value) is Stats:
        return [told(each) for each in (value.votes, value.places, value.last)]
    # Of dicts the text has the order, of a defaultdict the factory, of a deque the length.
    return type(value), repr(value)


@pytest.mark.parametrize(("value", "kind"), KEPT, ids=range(len(KEPT)))
def test_a_collection_comes_back_with_its_class_its_keys_its_length_and_its_factory(
    values: Values, value: Any, kind: Any
) -> None:
    back = values.load(values.dump(value, kind, "it")[0], kind)
    assert back == value
    assert told(back) == told(value)


REFUSED: list[tuple[Any, Any, str]] = [
    ({"a": 1}, OrderedDict[str, int], "a dict, where the annotation says OrderedDict"),
    ({"a": 1}, defaultdict[str, int], "a dict, where the annotation says defaultdict"),
    ([1], deque[int], "a list, where the annotation says deque"),
    (OrderedDict(a=1), MutableMapping[str, int], "a OrderedDict, where the annotation says"),
    (OrderedDict({"$sealed": 1}), OrderedDict, "is reserved for the store"),
    (OrderedDict({"$sealed": 1}), OrderedDict[str, int], "is reserved for the store"),
    (defaultdict(lambda: 5, a=1), defaultdict[str, int], "its default_factory could not be found again"),
    (OrderedDict({1: 2}), OrderedDict, "it has a key of class int"),
    (Counter([None]), Counter, "it has a key of class NoneType"),
    (defaultdict(int, {1: 2}), defaultdict, "it has a key of class int"),
    (OrderedDict([(Colour.RED, 1)]), OrderedDict[str, int], r"it \(its key .*\) cannot be stored: a Colour"),
    (deque([(1, 2)]), deque, r"it\[0\] cannot be stored: a tuple is not a JSON value"),
    (OrderedDict(a=(1, 2)), OrderedDict, r"it\['a'\] cannot be stored: a tuple is not a JSON value"),
    (Counter({1: 1.5}), Counter[int], r"it\[1\] cannot be stored: a float"),
    (ChainMap({1: 2}), ChainMap[int, int], "ChainMap is no class that can be stored"),
]


@pytest.mark.parametrize(("value", "kind", "text"), REFUSED, ids=range(len(REFUSED)))
def test_a_collection_that_would_come_back_as_another_one_is_refused(
    values: Values, value: Any, kind: Any, text: str
) -> None:
    with pytest.raises(rt.DurableValueError, match=text):
        values.dump(value, kind, "it")


def test_a_dict_with_attributes_beside_its_items_is_refused(values: Values) -> None:
    words = Words(a=1)
    vars(words)["language"] = "en"
    with pytest.raises(rt.DurableValueError, match="it has attributes beside its items"):
        values.dump(words, Words, "it")


class Default(defaultdict[str, int]):
    """A defaultdict with a name: nobody knows what it is made of."""


class Queue(deque[int]):
    """A deque with a name."""


@pytest.mark.parametrize(
    "kind",
    [ChainMap, ChainMap[str, int], UserDict, UserList, types.MappingProxyType[str, int], Default, Queue],
    ids=str,
)
def test_a_container_that_nothing_keeps_is_refused_by_its_annotation(kind: Any) -> None:
    assert "is no class that can be stored" in str(problem_of(kind, CONVERTER))


FORMS: list[tuple[Any, Any, str]] = [
    (Counter("abb"), Counter[str], '{"a":1,"b":2}'),
    (Counter([Colour.RED]), Counter[Colour], '{"RED":1}'),
    (OrderedDict(b=1, a=2), OrderedDict, '{"b":1,"a":2}'),
    (listed(("a", ["b"])), defaultdict[str, list[str]], '{"a":["b"]}'),
    (listed(("a", ["b"])), defaultdict, '{"a":["b"]}'),
    (deque([1, 2], maxlen=2), deque[int], "[1,2]"),
    (deque([1]), deque[int], "[1]"),
]


@pytest.mark.parametrize(("value", "kind", "before"), FORMS, ids=range(len(FORMS)))
@pytest.mark.parametrize("prints", [None, 1])
def test_calls_with_collections_are_found_by_the_fingerprints_that_stores_have(
    values: Values, value: Any, kind: Any, before: str, prints: int | None
) -> None:
    async def takes(given: Any) -> None: ...

    takes.__annotations__["given"] = kind
    bytes_before = f"[[{before}]]" if prints is None else f'[[],{{"given":{before_in_order(before)}}}]'
    _, fingerprint = values.dump_arguments(rt.function_node(takes), (value,), {}, prints)
    assert fingerprint == fingerprint_of(bytes_before.encode())
    if not isinstance(value, deque):
        assert values.load(before.encode(), kind) == value


def before_in_order(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_a_moment_in_a_named_zone_has_the_fingerprint_of_the_releases_that_lost_the_name(values: Values) -> None:
    @rt.function_node
    async def takes(given: tuple[datetime, rt.Secret[datetime]], **named: datetime) -> None: ...

    keyed = Values(Sealer("a key of this test"))
    prints: list[str] = []
    for zone in (timezone(timedelta(hours=1)), timezone(timedelta(hours=1), "CET")):
        noon = datetime(2026, 1, 1, tzinfo=zone)
        prints += [keyed.dump_arguments(takes, ((noon, rt.Secret(noon)),), {"a": noon}, None)[1]]
    assert prints[0] == prints[1]


@pytest.mark.parametrize(
    ("stored", "kind", "text"),
    [
        ('["range",{}]', defaultdict, "'range' is no default_factory"),
        ('{"maxlen":"2","items":[]}', deque, "with no number of items"),
        ('{"maxlen":2}', deque, "it has no field 'items'"),
        ("1", deque, "a int was stored"),
        ("1", defaultdict, "a int was stored"),
        ("1", OrderedDict, "a int was stored"),
    ],
)
def test_a_damaged_collection_is_not_read(values: Values, stored: str, kind: Any, text: str) -> None:
    with pytest.raises(rt.DurableValueError, match=text):
        values.load(stored.encode(), kind)


HIDDEN: list[tuple[Any, Any]] = [
    (OrderedDict(api_key="hush"), OrderedDict[str, str]),
    (OrderedDict({Colour.API_KEY: "hush"}), OrderedDict[Colour, str]),
    (OrderedDict({b"password": "hush"}), OrderedDict[bytes, str]),
    (defaultdict(str, password="hush"), defaultdict[str, str]),
    (defaultdict(str, password="hush"), defaultdict),
    (deque([{"password": "hush"}], maxlen=1), deque),
    (deque([rt.Secret("hush")], maxlen=1), deque[rt.Secret[str]]),
]


@pytest.mark.parametrize(("value", "kind"), HIDDEN, ids=range(len(HIDDEN)))
def test_what_has_the_name_of_a_secret_in_a_collection_is_encrypted(values: Values, value: Any, kind: Any) -> None:
    keyed = Values(Sealer("a key of this test"))
    data = keyed.dump(value, kind, "it")[0]
    assert b"hush" not in data
    assert keyed.load(data, kind) == value
    with pytest.raises(rt.DurableValueError, match="a secret is stored only encrypted"):
        values.dump(value, kind, "it")


@pytest.mark.parametrize("build", [deque, Counter, OrderedDict.fromkeys])
def test_a_large_collection_is_written_beside_the_other_tasks(build: Any) -> None:
    large = build(range(3_000))
    assert is_large(large)
    assert not fits(large, 3_000)
    assert not is_large(build(range(3)))


def test_a_collection_in_which_one_stands_again_and_again_is_refused_before_it_is_written(values: Values) -> None:
    value: deque[Any] = deque(["a" * 1_000])
    for _ in range(18):
        value = deque([value, value])
    with pytest.raises(rt.DurableValueError, match="its bytes are more than"):
        values.dump(value, deque, "it")


@attrs.define
class Numbered:
    """A model in the manner of pydantic, which writes keys that are no strings."""

    names: dict[int, str]

    def model_dump(self, **_: object) -> object:
        return {"names": self.names}

    @classmethod
    def model_validate(cls, plain: Any) -> Numbered:
        return cls({int(number): name for number, name in plain["names"].items()})


def test_a_model_that_writes_keys_that_are_no_strings_is_refused(values: Values) -> None:
    with pytest.raises(rt.DurableValueError, match="with keys that are no strings"):
        values.dump(Numbered({1: "a"}), Numbered, "it")


COUNTED: list[str] = []


@rt.function_node
async def count() -> Stats:
    COUNTED.append("ran")
    return Stats(Counter([3, 3]), defaultdict(list, {(1, 2): ["a"]}), deque([(1, "a")], maxlen=1))


async def main() -> str:
    stats = await rt.call(count)
    stats.places[0, 0].append("b")
    stats.last.append((2, "b"))
    if len(COUNTED) == 1:
        COUNTED.append("stopped")
        raise RuntimeError
    return f"{stats.votes[3]} {dict(stats.places)} {list(stats.last)}"


def test_a_session_that_is_tried_again_goes_on_with_the_collections_that_it_had(tmp_path: Path) -> None:
    COUNTED.clear()
    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    flow = rt.Flow("flow", main, durable=store, save_state=False)
    with pytest.raises(RuntimeError):
        flow.invoke(session_id="s")
    forked = store.fork("s")
    assert flow.resume(forked) == "2 {(1, 2): ['a'], (0, 0): ['b']} [(2, 'b')]"
    assert COUNTED == ["ran", "stopped"]
