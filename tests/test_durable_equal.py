"""Equal arguments are one call, however they are given; of other ones an error names which, and shows both."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, done_fixture, flow_of  # noqa: F401 - one is a fixture
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import calls, sessions
from railtracks.durable._values.sealing import Sealer
from railtracks.durable._values.values import Values


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of_store(request, tmp_path)


@pytest.fixture
def store(url: str) -> rt.DurableStore:
    return rt.DurableStore(url, durability="process", key="a key")


@attrs.frozen
class Point:
    x: float
    labels: dict[str, int] = attrs.field(factory=dict, hash=False)


# Scalars, in the stores of users: as JSON, by which they are known, too.


@rt.function_node
async def of_scalars(word: str, number: int, share: float, flag: bool, nothing: None) -> None: ...


@pytest.mark.parametrize(
    "given",
    [
        ("", 0, 0.5, True, None),
        ('a "word" \\ \n', -(2**70), -0.0, False, None),
        ("\u00e9", 1, math.inf, True, None),
    ],
)
def test_arguments_that_are_scalars_are_kept_as_json_and_known_by_it(given: Sequence[Any]) -> None:
    values = Values(Sealer(None))
    by_name = dict(zip(["word", "number", "share", "flag", "nothing"], given, strict=True))
    data, fingerprint = values.dump_arguments(of_scalars, tuple(given), {})
    as_json = partial(json.dumps, separators=(",", ":"))
    assert data.decode() == as_json([given])
    assert fingerprint == blake2b(as_json([[], dict(sorted(by_name.items()))]).encode(), digest_size=16).hexdigest()
    assert fingerprint == values.dump_arguments(of_scalars, given[:2], dict([*by_name.items()][2:]))[1]


def test_an_argument_that_python_writes_no_text_of_is_refused() -> None:
    async def count(most: int) -> None: ...

    with pytest.raises(rt.DurableValueError, match="the arguments of 'count'"):
        Values(Sealer(None)).dump_arguments(rt.function_node(count), (10**5_000,), {})


class Call:
    """Arguments for one call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


def annotated(kind: Any) -> Callable[..., Any]:
    async def node(value: Any = None, flag: bool = False) -> str:
        DONE.append(value)
        return f"{flag}"

    node.__annotations__["value"] = kind
    return node


async def two(a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> int:
    DONE.append("two")
    return a + b + c + sum(rest) + sum(more.values())


async def by_place(a: int, b: int = 2, c: int = 3, /) -> int:
    DONE.append("by_place")
    return a + b + c


async def no_storable_default(a: int, b: Any = print) -> int:
    DONE.append(b)
    return a


ALIKE: Sequence[tuple[Callable[..., Any], Call, Call]] = [
    (annotated(dict[str, int]), Call({"a": 1, "b": 2}), Call({"b": 2, "a": 1})),
    (annotated(dict[int, str]), Call({1: "a", 2: "b"}), Call({2: "b", 1: "a"})),
    (annotated(Mapping[float, float]), Call({1: 2, 2.5: 3}), Call({2.5: 3.0, 1.0: 2.0})),
    (annotated(Any), Call({"a": [{"x": 1, "y": 2}]}), Call({"a": [{"y": 2, "x": 1}]})),
    (annotated(set[str]), Call({"a", "b", "c"}), Call({"c", "b", "a"})),
    (annotated(set[float]), Call({10, 9.5}), Call({9.5, 10.0})),
    (annotated(frozenset[Point]), Call(frozenset([Point(1), Point(2)])), Call(frozenset([Point(2.0), Point(1.0)]))),
    (annotated(float), Call(1), Call(1.0)),
    (annotated(float | None), Call(1), Call(1.0)),
    (annotated(list[float]), Call([1, 2.5]), Call([1.0, 2.5])),
    (annotated(tuple[float, ...]), Call((1, 2)), Call((1.0, 2.0))),
    (annotated(dict[str, list[float]]), Call({"a": [1]}), Call({"a": [1.0]})),
    (annotated(Point), Call(Point(1, {"a": 1, "b": 2})), Call(Point(1.0, {"b": 2, "a": 1}))),
    (annotated(rt.Secret[dict[str, int]]), Call(rt.Secret({"a": 1, "b": 2})), Call(rt.Secret({"b": 2, "a": 1}))),
    (annotated(float), Call(10**400), Call(10**400)),
    (two, Call(1, 2), Call(a=1, b=2)),
    (two, Call(1), Call(1, 2)),
    (two, Call(1, 2), Call(1)),
    (two, Call(1, c=3, d=4), Call(1, d=4)),
    (two, Call(1, 2, 5), Call(1, 2, 5, c=3)),
    (two, Call(1, b=2), Call(1, c=3)),
    (two, Call(a=1, d=1, e=2), Call(1, e=2, d=1)),
    (by_place, Call(1), Call(1, 2, 3)),
    (by_place, Call(1, 2, 3), Call(1)),
    (by_place, Call(1, 2), Call(1)),
    (no_storable_default, Call(1), Call(a=1)),
]
OTHER: Sequence[tuple[Callable[..., Any], Call, Call, str, str]] = [
    (annotated(Any), Call(1), Call(1.0), "value = 1", "value = 1.0"),
    (annotated(Any), Call({"a": {"b": 1, "c": 2}}), Call({"a": {"b": 1, "c": 3}}), "['c'] = 2", "['c'] = 3"),
    (annotated(list[int]), Call([1, 2]), Call([2, 1]), "value = [1, 2]", "value = [2, 1]"),
    (annotated(list[int]), Call([1, 2, 3]), Call([1, 5, 3]), "value[1] = 2", "value[1] = 5"),
    (annotated(Decimal), Call(Decimal("1.0")), Call(Decimal("1.00")), 'value = "1.0"', 'value = "1.00"'),
    (annotated(int | float), Call(1), Call(1.0), "value = 1", "value = 1.0"),
    (annotated(str), Call("a" * 500), Call("b"), f'value = "{"a" * 90}', 'value = "b"'),
    (two, Call(1), Call(1, 5), "b left out", "b = 5"),
    (two, Call(1, 5), Call(1), "b = 5", "b left out"),
    (two, Call(1, d=4), Call(1, e=4), "e left out, d = 4", "e = 4, d left out"),
    (two, Call(1, 2, 5), Call(1, 2, 6), "argument 1 = 5", "argument 1 = 6"),
    (two, Call(1, 9, 8, c=7), Call(2, 3, 4, c=5), "a = 1, b = 9, argument 1 = 8, 1 more", "a = 2, b = 3"),
    (by_place, Call(1, 2, 3), Call(1, 2, 4), "argument 3 = 3", "argument 3 = 4"),
    (by_place, Call(1), Call(1, 4), "argument 2 left out", "argument 2 = 4"),
    # A third one is never given without the second.
    (by_place, Call(1, 3), Call(1), "argument 2 = 3", "argument 2 left out"),
    (no_storable_default, Call(1), Call(1, 5), "b left out", "b = 5"),
]


@pytest.mark.parametrize(("node", "first", "second"), ALIKE)
def test_equal_inputs_are_those_of_one_session_and_equal_arguments_those_of_one_call(
    store: rt.DurableStore, node: Callable[..., Any], first: Call, second: Call
) -> None:
    results: list[Any] = []

    async def main() -> None:
        asked = second if results else first
        results.append(await rt.call(node, *asked.args, **asked.kwargs))
        if len(results) == 1:
            raise KeyboardInterrupt

    flow, inputs = flow_of(store, main), flow_of(store, node)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        flow.resume("s")
        assert results[0] == results[1]
        assert len(DONE) == 1
        result = inputs.invoke(*first.args, session_id="inputs", **first.kwargs)
        assert inputs.invoke(*second.args, session_id="inputs", **second.kwargs) == result
    assert len(DONE) == 2


@pytest.mark.parametrize(("node", "first", "second", "then", "now"), OTHER)
def test_other_arguments_are_named_with_both_values(  # noqa: PLR0917 - the table above
    store: rt.DurableStore, node: Callable[..., Any], first: Call, second: Call, then: str, now: str
) -> None:
    begun: list[None] = []

    async def main() -> None:
        asked = second if begun else first
        begun.append(None)
        await rt.call(node, *asked.args, **asked.kwargs)
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        with pytest.raises(rt.ReplayMismatchError) as info:
            flow.resume("s")
        assert info.value.recorded.startswith(f"{rt.function_node(node).name!r} with arguments ")
        assert then in info.value.recorded
        assert now in info.value.asked
        assert len(info.value.recorded) < 200
        inputs = flow_of(store, node)
        inputs.invoke(*first.args, session_id="inputs", **first.kwargs)
        with pytest.raises(rt.ReplayMismatchError) as info:
            inputs.invoke(*second.args, session_id="inputs", **second.kwargs)
    assert info.value.recorded.startswith("the inputs ")
    assert then in info.value.recorded
    assert now in info.value.asked
    assert len(DONE) == 2


def test_an_error_shows_no_secret_of_the_arguments_that_differ(store: rt.DurableStore) -> None:
    async def pay(text: str, token: str, card: rt.Secret[str]) -> None:
        pass

    begun: list[str] = []

    async def main() -> None:
        number = f"{len(begun)}"
        begun.append(number)
        rt.context.put("password", "password-in-context")
        token, card = f"a-token-of-mine-{number}", f"4111-1111-1111-{number}"
        await rt.call(pay, f"{token} {card} password-in-context", token, rt.Secret(card))
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        with pytest.raises(rt.ReplayMismatchError) as info:
            flow.resume("s")
        inputs = flow_of(store, pay)
        inputs.invoke("a", "a-token-of-mine-0", rt.Secret("4111-1111-1111-0"), session_id="inputs")
        with pytest.raises(rt.ReplayMismatchError) as of_inputs:
            inputs.invoke("a", "a-token-of-mine-1", rt.Secret("4111-1111-1111-1"), session_id="inputs")
    for text in (str(info.value), str(of_inputs.value)):
        assert 'token = "[redacted]"' in text
        assert 'card = "[redacted]"' in text
        assert "-of-mine" not in text
        assert "4111" not in text
        assert "in-context" not in text


def test_a_new_parameter_that_is_left_out_is_no_difference(store: rt.DurableStore) -> None:
    async def fetch(item: int) -> int:
        DONE.append(item)
        return item

    async def fetch_now(extra: str = "", /, *, item: int, limit: int = 10) -> int:
        DONE.append((item, limit, extra))
        return item

    fetch_now.__name__ = fetch.__name__
    nodes = iter([rt.function_node(fetch), rt.function_node(fetch_now), rt.function_node(fetch_now)])
    asked = iter([{}, {}, {"limit": 10}])

    async def main() -> None:
        await rt.call(next(nodes), item=1, **next(asked))
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                flow.resume("s")
    assert DONE == [1]


def test_parameters_that_changed_places_are_told_from_the_recorded_ones(store: rt.DurableStore) -> None:
    async def move(source: str, target: str) -> None:
        DONE.append((source, target))

    async def move_now(target: str, source: str) -> None:
        DONE.append((source, target))

    move_now.__name__ = move_now.__qualname__ = "move"
    nodes = iter([move, move_now, move_now])
    calls_of = iter([Call("a", "b"), Call("a", "b"), Call(source="a", target="b")])

    async def main() -> None:
        asked = next(calls_of)
        await rt.call(rt.function_node(next(nodes), name="move"), *asked.args, **asked.kwargs)
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        with pytest.raises(rt.ReplayMismatchError, match=r"'move' with arguments .* of parameters with other names"):
            flow.resume("s")
        with pytest.raises(KeyboardInterrupt):
            flow.resume("s")
    assert DONE == [("a", "b")]


def test_a_parameter_that_is_annotated_otherwise_is_not_told_as_one_of_another_name(store: rt.DurableStore) -> None:
    async def measure(length: int) -> None:
        DONE.append(length)

    async def measure_now(length: float) -> None:
        DONE.append(length)

    nodes = iter([measure, measure_now])

    async def main() -> None:
        await rt.call(rt.function_node(next(nodes), name="measure"), 1)
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        with pytest.raises(rt.ReplayMismatchError, match=r"'measure' with arguments .* names or annotations"):
            flow.resume("s")
    assert DONE == [1]


def test_tasks_of_a_nursery_find_their_calls_with_defaults_given_in_another_way(store: rt.DurableStore) -> None:
    keys: list[str] = []
    runs: list[None] = []

    async def step(number: int, scale: int = 10) -> int:
        DONE.append(number)
        return number * scale

    async def in_task(results: dict[int, int], number: int, *more: int) -> None:
        results[number] = await rt.call(step, number, *more)
        keys.append(rt.idempotency_key())

    async def main() -> dict[int, int]:
        more = [10] if runs else []
        runs.append(None)
        results: dict[int, int] = {}
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(in_task, results, number, *more)
        if len(runs) == 1:
            raise KeyboardInterrupt
        return results

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        assert flow.resume("s") == {number: number * 10 for number in range(4)}
    assert sorted(DONE) == [0, 1, 2, 3]


def test_a_background_call_is_found_again_with_defaults_given_in_another_way(store: rt.DurableStore) -> None:
    runs: list[None] = []

    async def index(inbox: str, depth: int = 1) -> None:
        DONE.append((inbox, depth))

    async def main() -> None:
        more = [1] if runs else []
        runs.append(None)
        rt.current_session().start_soon(index, "inbox", *more)
        await rt.call(two, 1)
        if len(runs) == 1:
            raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        flow.resume("s")
    assert DONE.count("two") == 1


def test_a_call_that_had_begun_goes_on_with_a_default_spelled_out(store: rt.DurableStore) -> None:
    runs: list[str] = []

    async def inner(number: int) -> int:
        return number

    async def outer(number: int, scale: int = 10) -> int:
        runs.append(rt.idempotency_key())
        await rt.call(inner, number)
        if len(runs) == 1:
            raise KeyboardInterrupt
        return number * scale

    async def main() -> int:
        return await rt.call(outer, 1, *([10] if runs else []))

    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        assert flow.resume("s") == 10
        assert flow.resume("s") == 10
    assert runs[0] == runs[1]


def test_a_session_keeps_the_way_of_fingerprints_that_it_was_begun_with(store: rt.DurableStore) -> None:
    runs: list[None] = []

    async def main(item: float) -> int:
        runs.append(None)
        await rt.call(two, 1, b=2)
        if len(runs) < 4:
            raise KeyboardInterrupt
        return 5

    flow = flow_of(store, main)
    values = access_of(store).values
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(1, session_id="s")
        with access_of(store).writing() as (connection, _, _owner):
            # As the release before would have written it.
            _, of_call = values.dump_arguments(rt.function_node(two), (1,), {"b": 2}, None)
            _, of_main = values.dump_arguments(rt.function_node(main), (1,), {}, None)
            for node, fingerprint in (("two", of_call), ("main", of_main)):
                connection.execute(sa.update(calls).where(calls.c.node == node).values(fingerprint=fingerprint))
            connection.execute(sa.update(sessions).values(prints=None, inputs_print=of_main))
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(1, session_id="s")
        with pytest.raises(rt.ReplayMismatchError, match=r"the inputs item = 1, .*the inputs item = 2"):
            flow.invoke(2, session_id="s")
        fork = store.fork("s")
        with pytest.raises(KeyboardInterrupt):
            flow.resume(fork)
        assert flow.resume("s") == 5
    assert DONE == ["two"]


@pytest.mark.parametrize("stored", [b"not JSON", b"5", b"[]", b"[5]"])
def test_damaged_arguments_are_an_error_of_the_store(store: rt.DurableStore, stored: bytes) -> None:
    asked: list[int] = []

    async def main() -> None:
        asked.append(len(asked))
        with suppress(rt.DurableValueError, LookupError, ValueError):
            await rt.call(two, asked[-1])
        raise KeyboardInterrupt

    flow, inputs = flow_of(store, main), flow_of(store, two)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        inputs.invoke(1, session_id="inputs")
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.update(calls).where(calls.c.node == "two").values(arguments=stored))
            connection.execute(sa.update(sessions).where(sessions.c.session_id == "inputs").values(inputs=stored))
        with pytest.raises(rt.StoreError):
            flow.resume("s")
        with pytest.raises(rt.StoreError):
            inputs.invoke(2, session_id="inputs")
    assert len(DONE) == 2


def test_a_builtin_without_a_signature_is_compared_by_places(store: rt.DurableStore) -> None:
    flow = flow_of(store, rt.function_node(max, run_in="thread"))
    with store:
        assert flow.invoke(1, 2, session_id="s") == 2
        assert flow.invoke(1, 2, session_id="s") == 2
        with pytest.raises(rt.ReplayMismatchError, match=r"argument 2 = 2, .* argument 2 = 3"):
            flow.invoke(1, 3, session_id="s")


def test_a_secret_that_another_key_has_encrypted_is_another_argument(url: str) -> None:
    async def pay(amount: int, token: str) -> int:
        DONE.append(token)
        return amount

    for key in ("a key", "another key"):
        flow = flow_of(rt.DurableStore(url, durability="process", key=key), pay)
        if not DONE:
            assert flow.invoke(5, "a-long-token", session_id="s") == 5
            continue
        with pytest.raises(rt.ReplayMismatchError, match=r'inputs token = "\[redacted\]"') as info:
            flow.invoke(5, "a-long-token", session_id="s")
        assert "amount" not in str(info.value)


def test_first_calls_of_tasks_with_other_arguments_are_found_out(store: rt.DurableStore) -> None:
    runs: list[None] = []

    async def main() -> None:
        runs.append(None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, two, len(runs))
        if len(runs) == 1:
            raise KeyboardInterrupt

    store = store_with(store, patience=Patience(order=0.05))
    flow = flow_of(store, main)
    with store:
        with pytest.raises(KeyboardInterrupt):
            flow.invoke(session_id="s")
        with pytest.raises(rt.ReplayMismatchError, match="'two' with arguments"):
            flow.resume("s")
