"""Durable values that are large, or whose code raises: refused with the path to them, or written beside other tasks."""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from durable_nodes import flow_of, store_fixture  # noqa: F401 - one is a fixture

import railtracks as rt
from railtracks.durable._values.plain import ValueMismatchError, stepped
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.sizes import fits, is_large
from railtracks.durable._values.values import Values

ERRORS = (RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError)


@pytest.fixture
def values() -> Values:
    return Values(Sealer(None))


@attrs.define
class Pair:
    left: Any
    right: Any = None


@dataclasses.dataclass
class Row:
    number: int
    text: str


def twice(levels: int, wrap: Callable[[Any], Any] = lambda below: [below, below]) -> Any:
    """Return lists, each of which stands in the next one twice."""
    value: Any = []
    for _ in range(levels):
        value = wrap(value)
    return value


RATHER_LARGE: list[int] = list(range(20_000))

TOO_LARGE: dict[str, tuple[Callable[[], Any], Any]] = {
    "lists": (lambda: twice(40), Any),
    "dicts": (lambda: twice(40, lambda below: {"a": below, "b": below}), dict[str, Any]),
    "attrs": (lambda: twice(40, lambda below: Pair(below, below)), Pair),
    "tuples": (lambda: (twice(40),), tuple[Any]),
    "secrets": (lambda: rt.Secret(twice(40)), rt.Secret[Any]),
    "numbers": (lambda: [0] * 9_000_000, list[int]),
    "text": (lambda: "x" * (16 * 2**20), str),
    "texts": (lambda: {"x" * 2**20 + str(number) for number in range(17)}, set[str]),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_value_that_is_surely_too_large_is_refused_before_it_is_written(values: Values, case: str) -> None:
    make, kind = TOO_LARGE[case]
    with pytest.raises(
        rt.DurableValueError, match=r"it cannot be stored: .*more than the 16,777,216 that a row may have"
    ):
        values.dump(make(), kind, "it")


def test_a_result_that_is_too_large_costs_its_call_only(store: rt.DurableStore) -> None:
    @rt.function_node
    async def make() -> Any:
        return twice(40)

    async def take(value: Any) -> None: ...

    async def main() -> list[str]:
        told: list[str] = []
        for call in (lambda: rt.call(make), lambda: rt.call(take, twice(40))):
            with pytest.raises(rt.DurableValueError) as caught:
                await call()
            told.append(caught.value.place)
        return told

    assert flow_of(store, main).invoke() == ["the result of 'make'", "argument 'value' of 'take'"]


@pytest.mark.parametrize("wrap", [lambda below: [below], lambda below: {"a": below}], ids=["list", "dict"])
def test_a_value_of_any_depth_is_refused(values: Values, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(rt.DurableValueError, match="RecursionError"):
        values.dump(twice(100_000, wrap), Any, "it")


def test_the_path_to_a_part_that_is_too_deep_is_not_told() -> None:
    with pytest.raises(RecursionError):
        stepped([0], "[{}]", 0, raiser(RecursionError), 0)


def test_whatever_a_part_raises_as_it_is_written_the_place_is_told() -> None:
    with pytest.raises(ValueMismatchError, match="it cannot be written: SystemExit") as caught:
        stepped([0], "[{}]", 0, raiser(SystemExit), 0)
    assert caught.value.path == "[0]"


def raiser(error: type[BaseException]) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


def unreadable(error: type[BaseException]) -> Any:
    @attrs.define
    class Unreadable:
        good: int = 1
        bad: int = 2

        def __getattribute__(self, name: str) -> Any:
            if name == "bad":
                raise error
            return super().__getattribute__(name)

    return Unreadable()


@pytest.mark.parametrize("error", ERRORS)
def test_what_a_values_code_raises_is_an_error_with_the_path_to_it(
    store: rt.DurableStore, error: type[BaseException]
) -> None:
    value = unreadable(error)
    odd = type("Odd", (), {"__class__": property(raiser(error)), "__repr__": raiser(error)})()

    async def make() -> Any:
        return [value]

    make.__annotations__["return"] = list[type(value)]  # type: ignore[misc]

    @rt.function_node
    async def make_odd() -> Any:
        return {"a": [1, odd]}

    async def main() -> list[tuple[str, str]]:
        told: list[tuple[str, str]] = []
        for node in (rt.function_node(make), make_odd):
            with pytest.raises(rt.DurableValueError) as caught:
                await rt.call(node)
            told.append((caught.value.place, caught.value.problem))
        return told

    (place, problem), (odd_place, _) = flow_of(store, main).invoke()
    assert (place, odd_place) == ("the result of 'make'[0].bad", "the result of 'make_odd'['a'][1]")
    assert error.__name__ in problem


# Outside of Trio a `KeyboardInterrupt` in the main thread is the user's.
@pytest.mark.parametrize("error", [each for each in ERRORS if each is not KeyboardInterrupt])
def test_a_member_of_a_union_that_raises_is_not_taken(values: Values, error: type[BaseException]) -> None:
    value = unreadable(error)
    with pytest.raises(rt.DurableValueError, match="where the annotation says"):
        values.dump(value, type(value) | int | str, "it")


def test_a_class_that_cannot_be_asked_for_its_name_is_refused_by_name(values: Values) -> None:
    class Shy(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit

    value = Shy("OfShyClass", (), {})()
    for kind in (int, Any, list[int], rt.Secret[Any], int | str):
        with pytest.raises(rt.DurableValueError, match="OfShyClass"):
            values.dump(value, kind, "it")


def test_a_value_that_cannot_be_measured_is_left_to_the_writer() -> None:
    value = type("Raising", (dict,), {"values": raiser(SystemExit)})(a=1)
    assert fits([value, 1], 100)
    assert not fits([value, 1] * 100, 100)


def test_one_object_in_itself_has_a_size() -> None:
    value: list[Any] = []
    value.append(value)
    assert not is_large(value)
    assert fits([value] * 200, 1_000)
    assert not fits([value] * 200, 100)


def test_an_object_that_stands_twice_counts_twice() -> None:
    text = ["x" * 100]
    assert fits([text], 150)
    assert not fits([text, text], 150)
    assert is_large(twice(20))


class Pressed(dict[str, int]):
    """Is struck by a real Ctrl-C when it is measured, or when it is written."""

    is_told = False

    def values(self) -> Any:
        signal.raise_signal(signal.SIGINT)
        Pressed.is_told = True
        return super().values()


def test_ctrl_c_waits_until_a_value_is_written(store: rt.DurableStore) -> None:
    @rt.function_node
    async def make() -> Any:
        return Pressed(a=1)

    async def main() -> None:
        with pytest.raises(rt.DurableValueError):
            await rt.call(make)

    with pytest.raises(KeyboardInterrupt):
        flow_of(store, main).invoke()
    assert Pressed.is_told


def test_ctrl_c_strikes_where_there_is_no_trio(values: Values) -> None:
    @attrs.define
    class Field:
        number: int = 1

        def __getattribute__(self, name: str) -> Any:
            if name == "number" and sys._getframe(1).f_code.co_name in where:  # noqa: SLF001 - who asks is the subject
                signal.raise_signal(signal.SIGINT)
            return super().__getattribute__(name)

    for asked_by in ("fields_of", "unstructure_Field"):
        where = {asked_by}
        for kind in (Field, Field | int):
            with pytest.raises(KeyboardInterrupt):
                values.dump(Field(), kind, "it")


# Beside other tasks.


async def wakes_during(call: Callable[[], Any]) -> int:
    """Return how often another task ran while a call was made."""
    wakes = 0

    async def watch() -> None:
        nonlocal wakes
        while True:
            await trio.lowlevel.checkpoint()
            wakes += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await call()
        nursery.cancel_scope.cancel()
    return wakes


async def test_other_tasks_run_while_a_large_value_is_written(values: Values) -> None:
    @rt.function_node
    async def take(value: list[int]) -> None: ...

    result = await wakes_during(lambda: values.dump_aside(RATHER_LARGE, list[int], "it"))
    arguments = await wakes_during(lambda: values.dump_arguments_aside(take, (RATHER_LARGE,), {}))
    assert min(result, arguments) > 0
    assert await values.dump_aside(RATHER_LARGE, list[int], "it") == values.dump(RATHER_LARGE, list[int], "it")[0]
    given = ((RATHER_LARGE,), {})
    assert await values.dump_arguments_aside(take, *given) == values.dump_arguments(take, *given)


async def test_a_small_value_is_written_in_place(values: Values) -> None:
    async def dump() -> None:
        await values.dump_aside(1, int, "it")
        await values.dump_aside([1] * 1_000, list[int], "it")

    assert await wakes_during(dump) == 0


async def test_large_values_are_written_one_after_another(values: Values) -> None:
    writing: list[int] = []
    most: list[int] = []

    class Watched(list[int]):
        """Counts those that are read at once: a subclass is refused, after it was looked at."""

        def __iter__(self) -> Any:
            writing.append(1)
            most.append(len(writing))
            yield from super().__iter__()
            writing.pop()

    async def dump() -> None:
        with pytest.raises(rt.DurableValueError):
            await values.dump_aside([RATHER_LARGE, Watched([1])], list[list[int]], "it")

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(dump)
    assert max(most) == 1


async def test_a_large_value_is_written_where_no_thread_can_be_had(
    values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    expected, _ = values.dump(RATHER_LARGE, list[int], "it")
    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", refuse)
    assert await values.dump_aside(RATHER_LARGE, list[int], "it") == expected


def test_a_large_result_is_recorded_though_its_caller_was_cancelled(store: rt.DurableStore) -> None:
    made: list[str] = []

    @rt.function_node
    async def make() -> list[int]:
        made.append("make")
        trio.lowlevel.current_task().parent_nursery.cancel_scope.cancel()
        return RATHER_LARGE

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, make)

    flow = flow_of(store, main)
    flow.invoke(session_id="one")
    (_, call) = store.load("one").calls
    assert (call.node, call.status) == ("make", "completed")
    assert call.result == RATHER_LARGE


def test_a_call_whose_session_is_cancelled_while_its_arguments_are_written_is_not_recorded(
    store: rt.DurableStore,
) -> None:
    @rt.function_node
    async def take(value: Any) -> None: ...

    class Cancelling:
        def __init__(self) -> None:
            self.session: rt.Session | None = None

    @attrs.define
    class Item:
        numbers: list[int]

        def __getattribute__(self, name: str) -> Any:
            if name == "numbers" and threading.current_thread() is not threading.main_thread():
                trio.from_thread.run_sync(cancelled.session.cancel, trio_token=cancelled.token)
            return super().__getattribute__(name)

    cancelled: Any = Cancelling()

    @rt.function_node
    async def take_item(item: Item) -> None: ...

    async def main() -> None:
        cancelled.session, cancelled.token = rt.current_session(), trio.lowlevel.current_trio_token()
        await rt.call(take_item, Item(RATHER_LARGE))

    with pytest.raises(rt.SessionCancelledError):
        flow_of(store, main).invoke(session_id="one")
    assert "take_item" not in [call.node for call in store.load("one").calls]


# The same bytes.


@pytest.mark.parametrize(
    ("value", "kind"),
    [(10**5_000, int), (-(10**5_000), int), (10**5_000, Any), (float("nan"), int), ("\ud800\udc00", str)],
    ids=["long", "long-below-zero", "long-of-any", "other", "halves"],
)
async def test_a_scalar_that_cannot_be_stored_is_refused_aside_as_anywhere(
    values: Values, value: Any, kind: Any
) -> None:
    with pytest.raises(rt.DurableValueError) as found:
        values.dump(value, kind, "it")
    with pytest.raises(rt.DurableValueError) as aside:
        await values.dump_aside(value, kind, "it")
    assert str(aside.value) == str(found.value)
