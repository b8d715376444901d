"""Random flows, cut after every row of their record and resumed, beside a model that knows nothing of sessions.

The model says what a plan gives and which nodes it runs with which arguments. The record of the whole run says which
calls a resume from each of its prefixes has to run: exactly those whose outcome is missing, under the same keys. Trio
shuffles its tasks by a seed that hypothesis draws.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from proof_rounds import rounds

import railtracks as rt
from railtracks.durable._sessions.prefix_replay import cut, whole_record
from railtracks.durable._sessions.store import access_of, store_with
from railtracks.durable._store.patience import Patience

Plan = Any

_small = st.integers(0, 3)
_inputs = st.lists(st.integers(0, 2), max_size=4)
_leaves = st.one_of(
    st.tuples(
        st.sampled_from(
            ["add", "fail", "put", "flaky", "draw", "stop", "late", "first", "background", "thread", "flow"]
        ),
        _small,
    ),
    st.tuples(st.sampled_from(["batch", "strict"]), _inputs),
    st.tuples(st.just("completed"), _inputs, st.integers(1, 3)),
)
_plans = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("branch"), inner, inner, inner),
        st.tuples(st.sampled_from(["node", "unrecorded"]), inner),
        st.tuples(st.sampled_from(["sequence", "group", "tasks"]), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)

# What the nodes of one run did: which began, under which key; what was drawn where; in which order calls came back.
BEGUN: list[tuple[str, int, str]] = []
DRAWN: dict[str, float] = {}
ORDERS: dict[str, list[int]] = {}
STORES: list[rt.DurableStore] = []
# Nodes that others may have stopped before they began: how many of them run is a matter of chance.
LOOSE = frozenset(["hang", "loose", "loose_add", "add_or_hang"])
# Those, and a flow, which is a call of the session that it is invoked in.
QUIET = LOOSE | {"flow inner"}


def begin(node: str, number: int = 0) -> None:
    BEGUN.append((node, number, rt.idempotency_key().rpartition(":")[2]))


@rt.function_node
async def add(number: int) -> int:
    begin("add", number)
    await trio.lowlevel.checkpoint()
    return number + 1


@rt.function_node
async def fail(number: int) -> int:
    begin("fail", number)
    raise LookupError("no", number)


@rt.function_node
async def put(number: int, cell: str) -> int:
    begin("put", number)
    rt.context.put(cell, rt.context.get(cell, 0) + number)
    return int(rt.context.get(cell))


@rt.function_node(retry=rt.Retry(3, wait_initial=0.0, jitter=0.0))
async def flaky(number: int, cell: str) -> int:
    begin("flaky", number)
    # What tells the attempts from one another is recorded as well.
    if await rt.call(put, 1, cell) < 3:
        raise ConnectionError(number)
    return number


@rt.function_node
async def hang() -> int:
    begin("hang")
    await trio.sleep_forever()
    raise AssertionError


@rt.function_node
async def loose_add(number: int) -> int:
    begin("loose_add", number)
    return number + 1


@rt.function_node
async def add_or_hang(number: int) -> int:
    begin("add_or_hang", number)
    return await rt.call(hang) if number < 0 else await rt.call(loose_add, number)


@rt.function_node
async def loose(number: int) -> int:
    begin("loose", number)
    await trio.lowlevel.checkpoint()
    if number == 2:
        raise LookupError("no", number)
    return number


@rt.function_node
async def in_background(number: int) -> None:
    begin("in_background", number)
    await rt.call(add, number)


@rt.function_node
async def start(number: int) -> int:
    begin("start", number)
    rt.current_session().start_soon(in_background, number)
    return number


@rt.function_node
def in_thread(number: int) -> int:
    begin("in_thread", number)
    return trio.from_thread.run(rt.call, add, number)


@rt.function_node
async def in_flow(number: int, path: str) -> int:
    # The keys in here are those of a session of its own, which is another one for each cut.
    drawn(f"{path} in a flow")
    return await rt.call(silent, number)


@rt.function_node
async def silent(number: int) -> int:
    return number + 1


@rt.function_node
async def outer(number: int, path: str) -> int:
    begin("outer", number)
    return await rt.Flow("inner", in_flow, durable=STORES[-1], save_state=False).ainvoke(number, path)


@rt.function_node
async def carry_out(plan: list[Any], path: str, cell: str) -> int:
    begin("carry_out")
    return await interpret(plan, path, cell)


@rt.function_node(durable=False)
async def unrecorded(plan: list[Any], path: str, cell: str) -> int:
    return await interpret(plan, path, cell)


def drawn(path: str) -> None:
    """Draw, and see that it is what was drawn at this place in all runs before."""
    number = rt.random()
    assert DRAWN.setdefault(path, number) == number, path


def plain(plan: Any) -> Any:
    return [plain(each) if isinstance(each, list | tuple) else each for each in plan]


def branches(plans: list[Plan], path: str) -> list[tuple[Plan, str, str]]:
    """Return plans that run side by side, each with a place of its own, in the context too."""
    return [(plain(each), f"{path}.{place}", f"{path}.{place}") for place, each in enumerate(plans)]


def left_by(plans: list[Plan], path: str) -> int:
    """Return what such plans have left in the context."""
    return sum(rt.context.get(f"{path}.{place}", 0) for place in range(len(plans)))


async def interpret(plan: Plan, path: str, cell: str) -> int:  # noqa: C901, PLR0911, PLR0912 - one branch a kind of plan
    kind, what, *more = plan
    match kind:
        case "add":
            return await rt.call(add, what)
        case "fail":
            try:
                return await rt.call(fail, what)
            except LookupError as error:
                return int(error.args[1])
        case "put":
            return await rt.call(put, what, cell)
        case "flaky":
            return await rt.call(flaky, what, f"{path}!")
        case "draw":
            drawn(path)
            return 0
        case "stop":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rt.call, hang)
                added = await rt.call(add, what)
                nursery.cancel_scope.cancel()
            return added
        case "late":
            with trio.move_on_after(0.002):
                await rt.call(hang)
            return 1
        case "first":
            async with rt.as_completed(add_or_hang, [what, -1]) as finished:
                async for pending in finished:
                    return pending.result()
        case "background":
            return await rt.call(start, what)
        case "thread":
            return await rt.call(in_thread, what)
        case "flow":
            return await rt.call(outer, what, path)
        case "batch":
            return sum(await rt.call_batch(add, what, return_exceptions=False))
        case "strict":
            try:
                return sum(await rt.call_batch(loose, what, return_exceptions=False))
            except (LookupError, ExceptionGroup):
                # One of them, or before it could cancel the others several.
                return 2
        case "completed":
            async with rt.as_completed(add, what, limit=more[0]) as finished:
                ORDERS[path] = [pending.result() async for pending in finished]
            return sum(ORDERS[path])
        case "branch":
            is_odd = await interpret(what, f"{path}?", cell) % 2
            return await interpret(more[0] if is_odd else more[1], f"{path}:", cell)
        case "node":
            return await rt.call(carry_out, plain(what), f"{path}n", cell)
        case "unrecorded":
            return await rt.call(unrecorded, plain(what), f"{path}u", cell)
        case "sequence":
            return sum([await interpret(each, f"{path}.{place}", cell) for place, each in enumerate(what)])
        case "group":
            async with rt.open_group() as group:
                calls = [group.start_soon(carry_out, *each) for each in branches(what, path)]
            return sum(each.result() for each in calls) + left_by(what, path)
        case "tasks":
            results: list[int] = []

            async def task(place: int, *each: Any) -> None:
                results.append(await rt.call(carry_out.with_options(key=str(place)), *each))
                results.append(await rt.call(add, place))

            async with trio.open_nursery() as nursery:
                for place, each in enumerate(branches(what, path)):
                    nursery.start_soon(task, place, *each)
            return sum(results) + left_by(what, path)
    raise NotImplementedError(kind)


class Model:
    """What a plan gives, and which nodes run for it."""

    def __init__(self) -> None:
        self.cells: Counter[str] = Counter()
        self.runs: Counter[tuple[str, int]] = Counter()

    def result(self, plan: Plan, path: str, cell: str) -> int:  # noqa: C901, PLR0911, PLR0912 - as above
        kind, what, *more = plan
        match kind:
            case "add" | "stop":
                return self.run("add", what) + 1
            case "fail":
                return self.run("fail", what)
            case "put":
                self.cells[cell] += self.run("put", what)
                return self.cells[cell]
            case "flaky":
                for _ in range(3):
                    self.run("flaky", what)
                    self.run("put", 1)
                return int(what)
            case "draw":
                return 0
            case "late":
                return 1
            case "first":
                return int(what) + 1
            case "background":
                self.run("in_background", self.run("add", what))
                return self.run("start", what)
            case "thread":
                return self.run("in_thread", self.run("add", what)) + 1
            case "flow":
                return self.run("outer", what) + 1
            case "batch" | "completed":
                return sum(self.run("add", number) + 1 for number in what)
            case "strict":
                return 2 if 2 in what else sum(what)
            case "branch":
                is_odd = self.result(what, f"{path}?", cell) % 2
                return self.result(more[0] if is_odd else more[1], f"{path}:", cell)
            case "node":
                self.run("carry_out")
                return self.result(what, f"{path}n", cell)
            case "unrecorded":
                return self.result(what, f"{path}u", cell)
            case "sequence":
                return sum(self.result(each, f"{path}.{place}", cell) for place, each in enumerate(what))
            case "group" | "tasks":
                total = 0
                for place, (each, *where) in enumerate(branches(what, path)):
                    self.run("carry_out")
                    total += self.result(each, *where) + self.cells[f"{path}.{place}"]
                    total += self.run("add", place) + 1 if kind == "tasks" else 0
                return total
        raise NotImplementedError(kind)

    def run(self, node: str, number: int = 0) -> int:
        self.runs[node, number] += 1
        return number


def firm() -> Counter[tuple[str, int, str]]:
    """Return which nodes have begun of those that nobody stops."""
    return Counter(each for each in BEGUN if each[0] not in LOOSE)


class Record:
    """What the record of a whole run says of its prefixes."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows
        self._parents = {row.key: row.parent for row in rows if row.status != "broadcast"}
        # The attempts of a call have its key, and rows of their own.
        places = {(row.strand, row.position, row.place): row.key for row in rows if row.attempt == 1}
        self._names = {row.key: places[row.strand, row.position, row.place] for row in rows}

    def missing(self, count: int) -> Counter[str]:
        """Return the keys of what has to run when so many rows are left, and how often: once for each attempt."""
        ended = {row.key for row in self._rows[:count] if row.status in {"completed", "failed", "cancelled"}}
        return Counter(
            self._names[row.key]
            for row in self._rows
            if row.status in {"completed", "failed"} and row.node not in QUIET and not self._is_within(row.key, ended)
        )

    def _is_within(self, key: str | None, ended: set[str]) -> bool:
        while key is not None:
            if key in ended:
                return True
            key = self._parents.get(key)
        return False

    def left(self, count: int) -> set[str]:
        """Return the keys of what may not run again."""
        return {self._names[row.key] for row in self._rows[:count] if row.status in {"completed", "cancelled"}}


async def prove(plan: Plan, folder: str) -> None:
    model = Model()
    expected = model.result(plan, "", "")

    @rt.function_node
    async def main() -> int:
        begin("main")
        return await interpret(plan, "", "")

    store = rt.DurableStore(Path(folder) / "store.db", durability="process")
    # No flow is to come to its end because a replay has given up the recorded order.
    store = store_with(store, patience=Patience(order=1000.0))
    STORES[:] = [store]
    flow = rt.Flow("random", main, durable=store, save_state=False)
    for known in BEGUN, DRAWN, ORDERS:
        known.clear()
    with store:
        access = access_of(store)
        assert await flow.ainvoke(session_id="whole") == expected
        model.run("main")
        assert Counter(each[:2] for each in firm().elements()) == model.runs
        orders = dict(ORDERS)
        rows = whole_record(access)
        record = Record(rows)
        assert Counter(key for _, _, key in firm().elements()) == +record.missing(0)
        for count in range(len(rows) + 1):
            BEGUN.clear()
            ORDERS.clear()
            cut(access, count, f"cut-{count}")
            with trio.fail_after(60):
                assert await flow.aresume(f"cut-{count}") == expected, count
            assert Counter(key for _, _, key in firm().elements()) == record.missing(count), count
            assert not record.left(count) & {key for _, _, key in BEGUN}, count
            for path, order in ORDERS.items():
                assert sorted(order) == sorted(orders[path])
        # The last one has found everything in the record, in its order.
        assert {path: orders[path] for path in ORDERS} == ORDERS


@pytest.mark.proof
def test_random_flows_do_what_a_model_says_from_every_prefix_of_their_record() -> None:
    @settings(max_examples=rounds(full=400, handful=8), deadline=None)
    @given(plan=_plans, _=st.random_module())
    @example(plan=("branch", ("late", 0), ("background", 0), ("add", 0)), _=None)
    @example(plan=("tasks", [("flaky", 1), ("flow", 2), ("stop", 3)]), _=None)
    @example(plan=("group", [("completed", [0, 1, 2], 2), ("background", 1), ("put", 3)]), _=None)
    @example(plan=("sequence", [("strict", [0, 2, 1]), ("first", 1), ("unrecorded", ("thread", 2))]), _=None)
    def hold(plan: Plan, _: object) -> None:
        with TemporaryDirectory() as folder:
            trio.run(partial(prove, plan, folder))

    hold()
