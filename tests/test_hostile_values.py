"""Values of users that raise, lie or have no end: each costs itself only, and a bounded time."""

from __future__ import annotations

import collections
import dataclasses
import enum
import itertools
import json
import logging
import math
import signal
import sys
import threading
import time
import types
import weakref
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proof_rounds import rounds

import railtracks as rt
from railtracks._records.json_values import JsonValues
from railtracks._records.scrubbing import Scrubber
from railtracks._records.slices import Pauses
from railtracks._records.value_texts import safe_repr

ERRORS = (
    RuntimeError,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    RecursionError,
    MemoryError,
    StopIteration,
    UnicodeDecodeError,
)
# Seconds; far more than such a session takes. Where coverage is measured, our lines take many times as long.
LONG = 20.0 if sys.gettrace() is None else 120.0


@rt.function_node
async def give(value: Any) -> Any:
    return value


@rt.function_node
def give_from_thread(value: Any) -> Any:
    return value


def raiser(error: type[BaseException]) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def saved(value: Any, **options: Any) -> tuple[Any, rt.Session]:
    """Return what is saved of a value that a node takes and returns, and its session; all around it is as usual."""

    async def main() -> rt.Session:
        async with rt.Session(name="hostile", **options) as session:
            assert await rt.call(give, value) is value
            await rt.call(give, "after")
            told = session.payload()
        assert session.status == "completed"
        assert session.state_path is not None
        state = json.loads(session.state_path.read_bytes())
        assert told["calls"] == state["calls"]
        first, after = rt.load_state(session.state_path).calls
        assert (first.args[0], after.result) == (first.result, "after")
        return session

    started = time.monotonic()
    session = trio.run(main)
    assert time.monotonic() - started < LONG
    return session.state_path and rt.load_state(session.state_path).calls[0].result, session


def twice(levels: int) -> list[Any]:
    """Return lists, each of which stands in the next one twice."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value, value]
    return value


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = None
    for _ in range(levels):
        value = wrap(value)
    return value


@attrs.define
class Node:
    below: Any
    beside: Any = None


ASKED: list[int] = []
"""How often each endless value has been asked for another item."""


def counted() -> Iterator[int]:
    ASKED.append(0)
    for number in itertools.count():
        ASKED[-1] += 1
        yield number


class Endless(Mapping[Any, int]):
    def __getitem__(self, key: Any) -> int:
        return 1

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Any]:
        return counted()


class EndlessList(list[int]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[int]:
        return counted()


class Boundless(EndlessList):
    def __len__(self) -> int:
        return 10**12


def of_shy_class() -> Any:
    """Return an instance of a class that can be asked nothing; made in here, as pytest looks at all that it sees."""

    class Shy(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit

    return Shy("OfShyClass", (), {})()


class Answering:
    """Has every attribute, as a mock has."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter([])


class NoFormat:
    def __format__(self, spec: str) -> str:
        raise SystemExit


class OddModule:
    pass


OddModule.__module__ = NoFormat()  # type: ignore[assignment]


class LongText(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise SystemExit


class OddRepr:
    def __repr__(self) -> str:
        return LongText("odd")


class OddFields(tuple[int]):
    __slots__ = ()

    @property
    def _fields(self) -> Any:
        raise SystemExit


class ManyFields(tuple[str]):
    __slots__ = ()
    _fields = ("password", "one", "too", "many")


@dataclasses.dataclass
class HalfReadable:
    good: int
    bad: int

    def __getattribute__(self, name: str) -> Any:
        if name == "bad":
            raise SystemExit
        return super().__getattribute__(name)


class Telling:
    """Its repr holds that of what it holds."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"Telling({self.held!r})"


def unserializable(kind: str, text: str) -> dict[str, Any]:
    return {"$unserializable": {"type": kind, "repr": text}}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("base", [object, dict, list, tuple, set, str, int, float, bytes])
@pytest.mark.parametrize("name", ["__repr__", "__str__", "__len__", "__iter__", "items", "__float__", "__int__"])
def test_what_a_value_raises_costs_that_value_only(base: type, name: str, error: type[BaseException]) -> None:
    value = type("Raising", (base,), {name: raiser(error)})()
    found, _ = saved([1, value, 2])
    assert (found[0], found[2]) == (1, 2)


@pytest.mark.parametrize("error", ERRORS)
def test_a_class_that_cannot_be_asked_for_costs_that_value_only(error: type[BaseException]) -> None:
    value = type("NoClass", (), {"__class__": property(raiser(error))})()
    found, _ = saved([1, value, 2])
    assert found[1]["$unserializable"]["type"] == f"{__name__}.NoClass"


# Made when they are needed: pytest asks the values of its parameters for much.
OF_NO_FORM: dict[str, Callable[[], Any]] = {
    "OddModule": OddModule,
    "tests.OfShyClass": of_shy_class,
    "tests.Answering": Answering,
    "weakref.ProxyType": lambda: weakref.proxy(OddRepr()),
    "tests.Endless": Endless,
    "tests.EndlessList": EndlessList,
    "builtins.generator": lambda: (each for each in ()),
    "_thread.lock": threading.Lock,
    "types.SimpleNamespace": types.SimpleNamespace,
}


@pytest.mark.parametrize("kind", OF_NO_FORM)
def test_of_a_value_without_a_form_the_class_is_told(kind: str) -> None:
    ASKED.clear()
    found, _ = saved([OF_NO_FORM[kind](), 1])
    assert sum(ASKED) <= 2_000_000
    assert found[0]["$unserializable"]["type"] == kind.replace("tests", __name__)
    assert found[1] == 1


TOO_MUCH = "<no repr: it holds too much>"
ODD: dict[str, tuple[Callable[[], Any], Any]] = {
    "repr": (OddRepr, unserializable(f"{__name__}.OddRepr", "odd")),
    "_fields": (lambda: OddFields([1]), [1]),
    "too many _fields": (lambda: ManyFields(["s3cret-s3cret", "b"]), ["[redacted]", "b"]),
    "field": (lambda: HalfReadable(1, 2), {"good": 1}),
    "number": (lambda: 10**1_000_000, unserializable("builtins.int", TOO_MUCH)),
    "deque": (lambda: collections.deque(range(200_000)), unserializable("collections.deque", TOO_MUCH)),
    "array": (lambda: array("d", range(1_000_000)), unserializable("array.array", TOO_MUCH)),
    "lists in a deque": (lambda: collections.deque([twice(40)]), unserializable("collections.deque", TOO_MUCH)),
    "lists in an object": (lambda: Telling(twice(40)), unserializable(f"{__name__}.Telling", TOO_MUCH)),
    "list in an object": (lambda: Telling([1]), unserializable(f"{__name__}.Telling", "Telling([1])")),
    "class": (lambda: OddRepr, unserializable("builtins.type", f"<class '{__name__}.OddRepr'>")),
    "enum": (lambda: enum.Enum("Of", {"A": {"password": "s3cret-s3cret"}}).A, {"password": "[redacted]"}),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_saved_of_an_odd_value(case: str) -> None:
    make, expected = ODD[case]
    assert saved([make()])[0] == [expected]


def test_objects_that_all_lead_to_one_large_value_are_looked_at_in_vain_a_few_times_only() -> None:
    # A `trio.Event` with a waiting task leads to hundreds of objects of Trio's, each of which leads to all the others.
    shared = [[number] for number in range(200_000)]
    value = [*(Telling(shared) for _ in range(1_000)), Telling([1])]
    start = time.thread_time()
    text = JsonValues(Scrubber(), 2**20, Pauses()).value(value)
    # Of this thread alone: a look takes about 0.03 s, and a thousand of them half a minute.
    assert time.thread_time() - start < 5.0
    *others, last = json.loads(text)
    assert all(each["$unserializable"]["repr"] == TOO_MUCH for each in others)
    assert last["$unserializable"]["repr"] == "Telling([1])"


@pytest.mark.parametrize(
    "wrap", [lambda below: [below], lambda below: {"a": below}, Node], ids=["list", "dict", "attrs"]
)
def test_a_value_of_any_depth_is_saved_and_freed(wrap: Callable[[Any], Any]) -> None:
    found, _ = saved([nested(20_000, wrap), 1])
    assert found[1] == 1


# The limit.


LARGE: dict[str, Callable[[], Any]] = {
    "lists": lambda: twice(40),
    "dicts": lambda: nested(40, lambda below: {"a": below, "b": below}),
    "mixed": lambda: nested(40, lambda below: (below, {"a": below})),
    "attrs": lambda: nested(40, lambda below: Node(below, below)),
    "many": lambda: [twice(40)] * 100,
    "endless": Boundless,
    "text": lambda: "x" * 5_000_000,
    "bytes": lambda: b"x" * 5_000_000,
    "numbers": lambda: list(range(50_000)),
    "keys": lambda: {str(number): number for number in range(20_000)},
    "empty": lambda: [[]] * 100_000,
}


@pytest.mark.parametrize("case", LARGE)
def test_a_value_over_the_limit_is_saved_as_its_class_length_and_beginning(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = LARGE[case]()
    found, session = saved(value, value_limit=20_000)
    told = found["$large"]
    assert told["type"].endswith(type(value).__name__)
    assert told["len"] == (None if isinstance(value, Node) else len(value))
    assert 100 < len(told["beginning"]) <= 1_003
    assert session.state_path is not None
    assert session.state_path.stat().st_size < 10_000
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("2 arguments and results are longer than 20,000 characters of JSON")
    assert "call 1 of 'give'" in warning


def test_the_limit_is_a_megabyte() -> None:
    assert saved("x" * (2**20 - 2))[0] == "x" * (2**20 - 2)
    assert saved("x" * (2**20 - 1))[0]["$large"]["len"] == 2**20 - 1


def test_the_beginning_is_that_of_the_json() -> None:
    value = {"rows": [{"id": 1, "ok": True}, {"id": 2, "text": "x" * 100}], "more": [0] * 1_000}
    found, _ = saved(value, value_limit=100)
    assert found["$large"]["beginning"] == '{"rows": [{"id": 1, "ok": true}, {"id": 2, "text": "' + "x" * 100 + "..."


def test_one_value_over_the_limit_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> rt.Session:
        async with rt.Session(value_limit=50) as session:
            for value in ([1], ["x" * 49], [2] * 10):
                await rt.call(give, value)
        return session

    session = trio.run(main)
    _, large, small = rt.load_state(session.state_path or "").calls
    assert large.result["$large"]["type"] == "builtins.list"
    assert small.result == [2] * 10
    assert any("2 arguments and results" in record.getMessage() for record in caplog.records)


def test_one_value_over_the_limit_is_told_in_the_singular(caplog: pytest.LogCaptureFixture) -> None:
    @rt.function_node
    async def make() -> str:
        return "x" * 100

    async def main() -> None:
        async with rt.Session(value_limit=50, save_state=False, payload_callback=payloads.append):
            await rt.call(make)

    payloads: list[Any] = []
    trio.run(main)
    assert payloads[0]["calls"][0]["result"]["$large"]["len"] == 100
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith("1 argument or result is longer than 50 characters")


def test_the_limit_of_a_session_comes_before_the_configured_one() -> None:
    rt.set_config(value_limit=10)
    assert "$large" in saved("x" * 20)[0]
    assert saved("x" * 20, value_limit=100)[0] == "x" * 20


@pytest.mark.parametrize(
    "value",
    [
        list(range(30_000)),
        [*range(1_500), None, True, 0.5, -3],
        ["text", "\N{GRINNING FACE}", "ä"] * 1_000,
        ["x" * 1_100_000, "y"],
        "\N{GRINNING FACE}" * 1_200_000,
        {"a": [{"b": number, "c": "x"} for number in range(3_000)]},
    ],
    ids=["numbers", "mixed", "texts", "long text in a list", "long text", "rows"],
)
def test_without_a_limit_a_value_is_saved_whole(value: Any) -> None:
    assert saved(value, value_limit=math.inf)[0] == value


def test_bytes_of_any_length_are_saved_whole_without_a_limit() -> None:
    found, _ = saved(b"abc" * 300_000, value_limit=math.inf)
    assert found == {"$bytes": "YWJj" * 300_000}


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (math.nan, {"$float": "NaN"}),
        (10**640, unserializable("builtins.int", "1" + "0" * 640)),
        (-(10**640), unserializable("builtins.int", "-1" + "0" * 640)),
        ("\ud800", unserializable("builtins.str", r"'\ud800'")),
    ],
    ids=["nan", "large", "small", "surrogate"],
)
@pytest.mark.parametrize("others", [[1, 2], ["a", "b"], [None, 3]], ids=str)
def test_one_odd_item_of_a_long_list_costs_itself_only(odd: Any, expected: Any, others: list[Any]) -> None:
    found, _ = saved([*others, odd] * 500, value_limit=math.inf)
    assert found[0:2] == others
    assert found[2] == expected
    assert len(found) == 1_500


def test_a_list_whose_classes_have_no_hash_is_saved_item_by_item() -> None:
    kind = type("NoHash", (type,), {"__hash__": None})
    found, _ = saved([1, kind("Of", (), {})(), 2])
    assert (found[0], found[2]) == (1, 2)


def test_a_secret_is_found_across_the_slices_of_a_long_value() -> None:
    canary = "c4n4ry-c4n4ry"

    async def main(value: Any) -> str:
        async with rt.Session(context={"password": canary}, value_limit=math.inf) as session:
            await rt.call(give, value)
        assert session.state_path is not None
        return session.state_path.read_text()

    for length in (2**20 - 5, 3 * 2**16 - 5):
        text = "x" * length + canary + "x" * 1_000
        assert canary not in trio.run(main, text)
        state = trio.run(main, text.encode())
        assert '"result": "[redacted]"' in state


def test_a_secret_is_not_in_the_beginning_of_a_cut_value() -> None:
    canary = "c4n4ry-c4n4ry"

    async def main(value: Any) -> str:
        async with rt.Session(context={"password": canary}, value_limit=2_000) as session:
            await rt.call(give, value)
        assert session.state_path is not None
        return session.state_path.read_text()

    for before in (0, 990, 995):
        text = "x" * before + canary + "x" * 10_000
        for value in (text, text.encode(), [text], {"a": text}, {"password": canary, "b": text}):
            assert "c4n4" not in trio.run(main, value)


async def test_other_tasks_run_while_a_large_value_is_saved() -> None:
    value = list(range(1_000_000))
    wakes = 0

    async def watch() -> None:
        nonlocal wakes
        while True:
            await trio.lowlevel.checkpoint()
            wakes += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        async with rt.Session(value_limit=math.inf):
            await rt.call(give, value)
            wakes = 0
        assert wakes > 5
        nursery.cancel_scope.cancel()


# Ctrl-C.


class Pressing:
    """Its repr is struck by a real Ctrl-C."""

    def __init__(self) -> None:
        self.is_told = False

    def __repr__(self) -> str:
        signal.raise_signal(signal.SIGINT)
        self.is_told = True
        return "pressing"


def test_ctrl_c_is_not_taken_for_a_values_own() -> None:
    value, payloads = Pressing(), list[Any]()

    async def main() -> None:
        async with rt.Session(save_state=False) as session:
            await rt.call(give, value)
            payloads.append(session.payload())

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    # In Trio it waits until the payload is made.
    assert payloads[0]["calls"][0]["result"]["$unserializable"]["repr"] == "pressing"


def test_ctrl_c_strikes_a_payload_that_is_made_outside_of_trio() -> None:
    async def main() -> rt.Session:
        async with rt.Session(save_state=False) as session:
            await rt.call(give, Pressing())
        return session

    session = trio.run(main)
    with pytest.raises(KeyboardInterrupt):
        session.payload()
    with pytest.raises(KeyboardInterrupt):
        safe_repr(Pressing())


class PressingParts(Mapping[str, int]):
    """Is struck by a real Ctrl-C where it is asked for one thing."""

    def __init__(self, where: str) -> None:
        self.where = where

    def _press(self, where: str) -> None:
        if where == self.where:
            signal.raise_signal(signal.SIGINT)

    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        self._press("iter")
        return iter("a")

    def __len__(self) -> int:
        self._press("len")
        return 1

    @property
    def __dict__(self) -> Any:
        self._press("dict")
        return {}


def test_ctrl_c_strikes_wherever_a_payload_asks_a_value() -> None:
    @attrs.define
    class Pressed:
        field: int = 1

        def __getattribute__(self, name: str) -> Any:
            if name == "field":
                signal.raise_signal(signal.SIGINT)
            return super().__getattribute__(name)

    class NoHash(type):
        def __hash__(cls) -> int:
            signal.raise_signal(signal.SIGINT)
            return 1

    async def main(value: Any, limit: float) -> rt.Session:
        async with rt.Session(save_state=False, value_limit=limit) as session:
            await rt.call(give, value)
        return session

    for value in (
        PressingParts("iter"),
        PressingParts("len"),
        PressingParts("dict"),
        Pressed(),
        [NoHash("Of", (), {})()],
    ):
        session = trio.run(main, value, 10_000)
        with pytest.raises(KeyboardInterrupt):
            session.payload()


# Whatever a value does.

RESULTS = st.sampled_from([None, -1, 10**9, "x", b"x", (), print])
BEHAVIOURS = st.sampled_from(ERRORS).map(raiser) | RESULTS.map(lambda result: lambda *_: result)
METHODS = ["__repr__", "__str__", "__len__", "__iter__", "items", "keys", "__getitem__", "__float__", "__int__"]
METHODS += ["__hash__", "__eq__", "__lt__", "__gt__", "__bool__", "__getattribute__", "__getattr__", "__format__"]
METHODS += ["isoformat", "decode", "__bytes__", "__contains__", "__sizeof__", "__reduce_ex__", "__instancecheck__"]
ATTRIBUTES = ["__class__", "_fields", "__dict__", "__attrs_attrs__", "__dataclass_fields__", "__module__", "value"]
BASES = [object, dict, list, tuple, set, str, int, float, bytes, collections.deque, Exception, Endless, EndlessList]
# Not `__subclasscheck__`: of a subclass of an abstract class Python keeps its answers, for every value of later tests.
METHODS_OF_CLASSES = ["__getattribute__", "__hash__", "__eq__", "__repr__"]


@pytest.mark.parametrize("limit", [5, 10_000])
def test_ctrl_c_strikes_whenever_a_payload_asks_a_value(limit: int) -> None:
    asked = 0

    def ask(answer: Any) -> Callable[..., Any]:
        def answered(*_: object) -> Any:
            nonlocal asked
            asked += 1
            if asked == when:
                signal.raise_signal(signal.SIGINT)
            return answer

        return answered

    kind = type("Asked", (type,), {"__hash__": ask(1)})
    value = type("Sized", (list,), {"__len__": ask(1)})([kind("Of", (), {})()])

    async def main() -> rt.Session:
        async with rt.Session(save_state=False, value_limit=limit) as session:
            await rt.call(give, [value, value[0]])
            await rt.call(give, value)
        return session

    when = 0
    session = trio.run(main)
    # The first time more is asked: what classes answer is kept.
    session.payload()
    asked = 0
    session.payload()
    for when in range(1, asked + 1):  # noqa: B007 - used by what is asked
        asked = 0
        with pytest.raises(KeyboardInterrupt):
            session.payload()


@st.composite
def hostile(draw: st.DrawFn) -> Callable[[], Any]:
    """Return a function that makes a value whose methods, attributes and class raise or lie."""
    namespace: dict[str, Any] = draw(st.dictionaries(st.sampled_from(METHODS), BEHAVIOURS, max_size=4))
    for name in draw(st.sets(st.sampled_from(ATTRIBUTES), max_size=2)):
        namespace[name] = property(draw(BEHAVIOURS))
    of_class = draw(st.dictionaries(st.sampled_from(METHODS_OF_CLASSES), BEHAVIOURS, max_size=1))
    base = draw(st.sampled_from(BASES))

    def make() -> Any:
        try:
            # What raises while it is made is no value.
            return type("Meta", (type(base),), of_class)("Hostile", (base,), namespace)()
        except BaseException:  # noqa: BLE001 - see above
            return type("Hostile", (object,), {"__repr__": raiser(SystemExit)})()

    return make


Make: TypeAlias = Callable[[], Any]


def constant(value: Any) -> Make:
    return lambda: value


def repeated(below: Make) -> Make:
    def make() -> Any:
        value = below()
        return [value, value]

    return make


# Functions that make the values: Hypothesis looks at what it draws, and the values may raise then.
VALUES: st.SearchStrategy[Make] = st.recursive(
    hostile()
    | st.integers().map(constant)
    | st.text(st.characters(codec=None)).map(constant)
    | st.just(lambda: twice(30)),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda each: lambda: [make() for make in each])
        | st.tuples(inner, inner).map(lambda each: lambda: tuple(make() for make in each))
        | st.dictionaries(st.text(), inner, max_size=3).map(
            lambda each: lambda: {key: make() for key, make in each.items()}
        )
        | inner.map(repeated)
        | st.tuples(inner, inner).map(lambda each: lambda: Node(*(make() for make in each)))
        | inner.map(lambda make: lambda: Telling(make()))
    ),
    max_leaves=5,
)


@pytest.mark.proof
@given(make=VALUES)
@settings(max_examples=rounds(5_000, 8), suppress_health_check=list(HealthCheck))
def test_whatever_a_value_does_the_session_ends_and_its_file_is_whole(make: Make) -> None:
    value, payloads = make(), list[Any]()

    async def main() -> Path | None:
        options: Any = {"value_limit": 5_000, "cleanup_timeout": LONG, "payload_callback": payloads.append}
        async with rt.Session(name="hostile", logging_setting="NONE", **options) as session:
            for node in (give, give_from_thread):
                assert await rt.call(node, value) is value
            await rt.call(give, "after")
            session.payload()
        assert session.status == "completed"
        return session.state_path

    started = time.monotonic()
    path = trio.run(main)
    assert time.monotonic() - started < LONG
    assert path is not None
    first, second, after = rt.load_state(path).calls
    assert (first.status, second.status, after.result) == ("completed", "completed", "after")
    assert len(payloads[0]["calls"]) == 3
