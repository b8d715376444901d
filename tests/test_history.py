"""A session with a limit keeps the last calls that have finished, all that run, and the count of the others."""

from __future__ import annotations

import functools
import gc
import math
import sys
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar
from weakref import ref

import pytest
import trio
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks._records.data import CallError
from railtracks._records.history import BoundedCallTree
from railtracks._records.tree import CallTree


@define
class Made:
    """What a tree needs to know of a node."""

    name: str
    attempt: int = 1

    secret_parameters: ClassVar[None] = None

    def keyword_name(self, name: str) -> str:
        return name

    def argument_names(self, count: int) -> tuple[str | None, ...]:
        return ("number",) * count


async def double(number: int) -> int:
    return 2 * number


async def test_the_last_finished_calls_are_kept_and_the_others_counted() -> None:
    async with rt.Session(history_limit=3, save_state=False) as session:
        for number in range(10):
            await rt.call(double, number)
    info = session.info
    assert [(call.id, call.args, call.result) for call in info.calls] == [(8, (7,), 14), (9, (8,), 16), (10, (9,), 18)]
    assert info.dropped_calls == 7


async def test_running_calls_are_kept_with_their_ancestors_whatever_finishes_meanwhile() -> None:
    async def inner() -> None:
        for number in range(5):
            await rt.call(double, number)
        info = rt.current_session().info
        assert [(call.node, call.status) for call in info.calls] == [("outer", "running"), ("inner", "running")]
        assert info.children(1) == info.calls[1:]
        assert info.dropped_calls == 5

    async def outer() -> str:
        await rt.call(inner)
        return "answer"

    async with rt.Session(history_limit=0, save_state=False):
        assert await rt.call(outer) == "answer"


async def test_by_default_and_with_inf_all_calls_are_kept() -> None:
    rt.set_config(history_limit=1)
    async with rt.Session(history_limit=float("inf"), save_state=False) as session:
        await rt.call_batch(double, range(5))
    assert (len(session.info.calls), session.info.dropped_calls) == (5, 0)


def test_the_answer_of_a_flow_is_never_that_of_another_call() -> None:
    async def late() -> str:
        await trio.lowlevel.checkpoint()
        return "late"

    async def main() -> str:
        rt.current_session().start_soon(late)
        return "the answer"

    for limit, answer in ((1, None), (2, "the answer")):
        connection = rt.Flow("flow", main, history_limit=limit).connect()
        assert connection.invoke() == "the answer"
        assert connection.info is not None
        assert connection.info.answer == answer


async def test_a_flows_answer_is_kept_as_its_entry_point_finishes_last(home: Path) -> None:
    async def entry() -> int:
        return len(await rt.call_batch(double, range(100)))

    assert await rt.Flow("bounded", entry, history_limit=1).ainvoke() == 100
    (path,) = home.iterdir()
    state = rt.load_state(path)
    assert (state.answer, state.dropped_calls, [call.id for call in state.calls]) == (100, 100, [1])


async def test_what_is_saved_of_a_session_that_forgot_comes_back(home: Path) -> None:
    async def fail(number: int, *, token: str) -> None:
        raise ValueError(f"{number} {token}")

    async with rt.Session(history_limit=2) as session:
        for number in range(4):
            with pytest.raises(ValueError, match=f"^{number} "):
                await rt.call(fail, number, token="canary-of-the-history")  # type: ignore[misc]
    assert session.state_path is not None
    assert "canary" not in session.state_path.read_text("utf-8")
    state = rt.load_state(session.state_path)
    assert state.dropped_calls == 2
    assert [(call.id, call.parent_id, call.status) for call in state.calls] == [
        (3, None, "failed"),
        (4, None, "failed"),
    ]


async def test_a_session_that_calls_new_functions_all_the_time_does_not_keep_them() -> None:
    seen: list[ref[Any]] = []
    async with rt.Session(history_limit=1, save_state=False):
        for number in range(2_000):

            async def fresh(number: int = number) -> int:
                return number

            seen.append(ref(fresh))
            assert await rt.call(fresh) == number
        assert sum(function() is not None for function in seen) <= 1_001


async def redefined() -> None: ...


async def test_a_name_of_a_module_that_is_defined_again_and_again_does_not_keep_all_its_functions() -> None:
    module, seen = sys.modules[__name__], list[ref[FunctionType]]()
    async with rt.Session(history_limit=0, save_state=False) as session:
        for _ in range(1_100):
            fresh = FunctionType(redefined.__code__, globals())
            seen.append(ref(fresh))
            setattr(module, "redefined", fresh)  # noqa: B010 - as a cell of a notebook does
            await rt.call(fresh)
        assert sum(function() is not None for function in seen) <= 1_001
    assert session.counts.by_node == {"redefined": 1_100}


class Argument:
    """Something that lives as long as the record of a call holds it."""


def made(arguments: list[ref[Argument]]) -> Iterator[Argument]:
    for _ in range(100):
        argument = Argument()
        arguments.append(ref(argument))
        yield argument


async def nap(argument: Argument) -> None:
    await trio.sleep(1)


@pytest.mark.parametrize("limit", [0, 1, 5])
async def test_calls_that_finish_side_by_side_are_forgotten_as_they_finish(
    limit: int, autojump_clock: MockClock
) -> None:
    arguments: list[ref[Argument]] = []
    async with rt.Session(history_limit=limit, save_state=False) as session:
        await rt.call_batch(nap, made(arguments))
        gc.collect()
        assert len(session.info.calls) == limit
        assert sum(argument() is not None for argument in arguments) == limit
    assert len(arguments) == 100


class Document:
    """What one call works on, and what the next call has no use for."""

    def __init__(self, size: int = 1) -> None:
        self.text = bytearray(size)

    async def read(self) -> None:
        await trio.lowlevel.checkpoint()

    def parse(self) -> None: ...

    def index(self) -> None:
        trio.from_thread.run(rt.call, self.read)

    async def fail(self) -> None:
        raise ValueError

    def fail_in_thread(self) -> None:
        raise ValueError

    async def hang(self) -> None:
        await trio.sleep_forever()

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    async def __call__(self) -> None: ...

    @rt.function_node
    async def node(self) -> None: ...

    @rt.function_node(timeout=1, retry=rt.Retry(attempts=2, wait_initial=0, jitter=0))
    async def node_with_options(self) -> None:
        raise ValueError


async def take(document: Document) -> None: ...


async def give(document: Document) -> Document:
    return document


async def fail_with(document: Document) -> None:
    raise ValueError


async def hang_with(document: Document) -> None:
    await trio.sleep_forever()


async def dive(levels: int, fn: Callable[[], Awaitable[None]]) -> None:
    await (rt.call(dive, levels - 1, fn) if levels else rt.call(fn))


async def closure(document: Document) -> None:
    async def read() -> None:
        await document.read()

    await rt.call(read)


async def default(document: Document) -> None:
    async def read(document: Document = document) -> None: ...

    await rt.call(read)


async def group(document: Document) -> None:
    async with rt.open_group() as group:
        group.start_soon(document.read)
        group.start_soon(take, document)


async def failing_group(document: Document) -> None:
    with suppress(ValueError):
        async with rt.open_group() as group:
            group.start_soon(hang_with, document)
            group.start_soon(document.fail)


async def cancelled_in_a_group(document: Document) -> None:
    async with rt.open_group() as group:
        pending = group.start_soon(hang_with, document)
        await wait_all_tasks_blocked()
        pending.cancel()


async def as_completed(document: Document) -> None:
    async with rt.as_completed(fail_with, [document]) as finished:
        async for pending in finished:
            assert pending.status is rt.Status.FAILED


async def failing_batch(document: Document) -> None:
    with suppress(ValueError):
        await rt.call_batch(fail_with, [document], return_exceptions=False)


async def cancelled(document: Document) -> None:
    with trio.move_on_after(0.001):
        await rt.call(document.hang)


async def cancelled_batch(document: Document) -> None:
    with trio.move_on_after(0.001):
        await rt.call_batch(hang_with, [document])


async def background(document: Document) -> None:
    await rt.current_session().start_soon(document.read).wait()


async def service(document: Document) -> None:
    service = rt.current_session().start_service(document.hang)
    await wait_all_tasks_blocked()
    service.cancel()
    await service.wait()


async def started(document: Document) -> None:
    await rt.current_session().start(document.serve)
    await wait_all_tasks_blocked()


async def failing(fn: Callable[[], object], **options: Any) -> None:
    with suppress(ValueError, rt.NodeTimeoutError):
        await rt.call(rt.function_node(fn, **options))


RETRY = rt.Retry(attempts=2, wait_initial=0, jitter=0)
WAYS: dict[str, Callable[[Document], Awaitable[object]]] = {
    "bound method": lambda document: rt.call(document.read),
    "bound method in a thread": lambda document: rt.call(document.parse),
    "method that is a node": lambda document: rt.call(document.node),
    "method that is a node with options": lambda document: failing(document.node_with_options),
    "node made of a bound method": lambda document: rt.call(rt.function_node(document.read)),
    "partial": lambda document: rt.call(functools.partial(take, document)),
    "lambda": lambda document: rt.call(lambda: document.parse()),  # noqa: PLW0108 - it is the point
    "closure": closure,
    "default of a parameter": default,
    "callable object": rt.call,
    "argument": lambda document: rt.call(take, document),
    "keyword argument": lambda document: rt.call(take, document=document),
    "result": lambda document: rt.call(give, document),
    "failure": lambda document: failing(document.fail),
    "failure in a thread": lambda document: failing(document.fail_in_thread),
    "timeout": lambda document: failing(document.hang, timeout=0.001),
    "retries": lambda document: failing(document.fail, retry=RETRY),
    "call from a thread": lambda document: rt.call(document.index),
    "deep call": lambda document: rt.call(dive, 40, document.read),
    "cancelled call": cancelled,
    "group": group,
    "failing group": failing_group,
    "call cancelled in a group": cancelled_in_a_group,
    "batch": lambda document: rt.call_batch(take, [document]),
    "failing batch": failing_batch,
    "cancelled batch": cancelled_batch,
    "as_completed": as_completed,
    "background call": background,
    "service": service,
    "started call": started,
}


@pytest.fixture
def counted_only() -> Iterator[None]:
    """Leave everything to reference counts: what is part of a cycle stays."""
    gc.disable()
    yield
    gc.enable()


async def held_after(way: Callable[[Document], Awaitable[object]], documents: int = 10, limit: int = 0) -> int:
    """Return how many documents are there after each was worked on in a way, and dropped; at most so many are right."""
    seen: list[ref[Document]] = []
    for _ in range(documents):
        document = Document()
        seen.append(ref(document))
        await way(document)
        del document
    # Trio itself keeps the last `Cancelled` of a task until the task goes on.
    await wait_all_tasks_blocked()

    def held() -> int:
        return sum(document() is not None for document in seen)

    # A thread that has just handed over its result may hold what it ran for a moment.
    deadline = time.monotonic() + 10
    while held() > limit and time.monotonic() < deadline:
        time.sleep(0.01)  # noqa: ASYNC251 - it is about that thread; the clock of the test would jump
    return held()


@pytest.mark.parametrize("limit", [0, 3])
@pytest.mark.parametrize("way", WAYS)
async def test_of_calls_without_a_record_nothing_is_held(
    way: str, limit: int, counted_only: None, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.001
    async with rt.Session(history_limit=limit, save_state=False, logging_setting="NONE") as session:
        assert await held_after(WAYS[way], limit=limit) <= limit
        assert len(session.info.calls) == limit
        assert session.info.dropped_calls >= 10 - limit


@pytest.mark.parametrize("way", ["bound method", "closure", "failure", "argument", "group", "retries", "started call"])
async def test_of_calls_of_a_durable_session_without_a_record_nothing_is_held(
    way: str, counted_only: None, tmp_path: Path
) -> None:
    # An argument that cannot be stored is a failure.
    async def work(document: Document) -> None:
        with suppress(rt.DurableValueError):
            await WAYS[way](document)

    async with rt.Session(
        history_limit=0, save_state=False, logging_setting="NONE", durable=tmp_path / "store.db"
    ) as session:
        assert await held_after(work, 3) == 0
        assert session.info.calls == ()


@pytest.mark.parametrize("way", ["bound method", "partial", "closure", "callable object", "result"])
async def test_a_hundred_large_documents_take_the_memory_of_one(way: str, counted_only: None) -> None:
    tracemalloc.start()
    try:
        async with rt.Session(history_limit=0, save_state=False):
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(100):
                await WAYS[way](Document(2**20))
            assert tracemalloc.get_traced_memory()[1] - before < 3 * 2**20
    finally:
        tracemalloc.stop()


async def test_a_session_that_forgets_does_not_grow() -> None:
    async def call_many(times: int) -> int:
        for number in range(times):
            await rt.call(double, number=number)
            with trio.CancelScope() as cancelled:
                cancelled.cancel()
                await rt.call(double, number)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        async with rt.Session(history_limit=10, save_state=False):
            before = await call_many(200)
            # Less than 20 bytes a call; one that is kept takes some hundreds.
            assert await call_many(1_000) - before < 40_000
    finally:
        tracemalloc.stop()


# What happens to a tree: a call opens in an open one, or the innermost of some open ones closes in some way.
steps = st.lists(st.tuples(st.sampled_from(["open", "complete", "fail", "cancel"]), st.integers(0, 20)), max_size=60)


def close(tree: CallTree, call_id: int, what: str, pick: int) -> None:
    """Close a call as a step of a test says."""
    match what:
        case "complete":
            tree.complete(call_id, pick)
        case "fail":
            tree.fail(call_id, CallError("ValueError", str(pick)))
        case _:
            tree.cancel(call_id)


@given(steps=steps, limit=st.integers(0, 5))
def test_a_bounded_tree_is_the_whole_one_without_what_finished_long_ago(
    steps: list[tuple[str, int]], limit: int
) -> None:
    whole, bounded = CallTree(), BoundedCallTree(limit)
    children: dict[int, set[int]] = {0: set()}
    finished: list[int] = []
    for what, pick in steps:
        running = sorted(children)
        if what == "open":
            parent = running[pick % len(running)]
            made, kwargs = Made(f"node {pick}", 1 + pick % 2), {"more": pick} if pick % 2 else {}
            ids = {tree.open(made, parent, (pick,), kwargs) for tree in (whole, bounded)}
            assert ids == {len(whole)} == {len(bounded)}
            children[parent] |= ids
            children[len(whole)] = set()
            continue
        leaves = [call_id for call_id in running if call_id and not children[call_id]]
        if not leaves:
            continue
        call_id = leaves[pick % len(leaves)]
        for tree in (whole, bounded):
            close(tree, call_id, what, pick)
        del children[call_id]
        for brothers in children.values():
            brothers.discard(call_id)
        finished.append(call_id)
    kept = {*(children.keys() - {0}), *(finished[-limit:] if limit else [])}
    expected = [record for record in whole.records() if record.id in kept]
    assert [timeless(record) for record in bounded.records()] == [timeless(record) for record in expected]
    assert bounded.dropped == len(whole) - len(kept)
    assert bounded.open_roots() == whole.open_roots()
    assert list(bounded.named_values()) == [
        value
        for record in expected
        for value in (
            *(("number", number) for number in record.args),
            *record.kwargs.items(),
            *([(None, record.result)] if record.status in {"completed", "running"} else []),
        )
    ]
    bounded.cancel_what_is_open()
    assert not bounded.open_roots()


def timeless(record: rt.CallRecord) -> tuple[Any, ...]:
    return record.id, record.parent_id, record.node, record.status, record.attempt, record.args, record.kwargs


class Named:
    """A node that counts how often its name is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.asked = 0

    @property
    def name(self) -> str:
        self.asked += 1
        return self._name

    secret_parameters: ClassVar[None] = None

    def keyword_name(self, name: str) -> str:
        return name

    def argument_names(self, count: int) -> tuple[str | None, ...]:
        return (None,) * count


# As `steps`, and a look at the counts in between.
steps_and_looks = st.lists(
    st.tuples(st.sampled_from(["open", "open", "complete", "fail", "cancel", "look"]), st.integers(0, 20)), max_size=80
)


@given(steps=steps_and_looks, limit=st.none() | st.integers(0, 3))
def test_counts_are_right_at_any_moment(steps: list[tuple[str, int]], limit: int | None) -> None:
    tree = CallTree() if limit is None else BoundedCallTree(limit)
    # What is counted is checked against a tree that nobody has asked to count, and that drops nothing.
    whole = CallTree()
    running: list[int] = []
    for what, pick in steps:
        if what == "open":
            made = Made(f"node {pick % 3}")
            assert tree.open(made, 0, (), {}) == whole.open(made, 0, (), {})
            running.append(len(whole))
        elif what == "look":
            check_counts(tree, whole)
        elif running:
            call_id = running.pop(pick % len(running))
            for each in (tree, whole):
                close(each, call_id, what, pick)
    check_counts(tree, whole)
    tree.cancel_what_is_open()
    whole.cancel_what_is_open()
    check_counts(tree, whole)


def check_counts(tree: CallTree, whole: CallTree) -> None:
    calls = list(whole.records())
    counts = tree.counts()
    assert counts.by_status == {
        status: sum(call.status is status for call in calls)
        for status in (rt.Status.RUNNING, rt.Status.COMPLETED, rt.Status.FAILED, rt.Status.CANCELLED)
    }
    assert counts.by_node == {
        name: sum(call.node == name for call in calls) for name in dict.fromkeys(call.node for call in calls)
    }
    assert [timeless(call) for call in counts.running] == [
        timeless(call) for call in calls if call.status is rt.Status.RUNNING
    ]


@pytest.mark.parametrize("limit", [None, 3])
def test_a_second_look_costs_only_what_is_new(limit: int | None) -> None:
    tree = CallTree() if limit is None else BoundedCallTree(limit)
    node = Named("node")
    tree.open(node, 0, (), {})
    for _ in range(1_000):
        tree.complete(tree.open(node, 0, (), {}), None)
    assert tree.counts().by_node == {"node": 1_001}
    before = node.asked
    for _ in range(10):
        tree.complete(tree.open(node, 0, (), {}), None)
    assert tree.counts().by_status[rt.Status.COMPLETED] == 1_010
    # The ten new calls, and the record of the one that runs.
    assert node.asked == before + 11
    tree.counts()
    assert node.asked == before + 12


@pytest.mark.parametrize("limit", [None, 3])
def test_at_most_100_running_calls_are_listed_in_the_order_of_their_start(limit: int | None) -> None:
    tree = CallTree() if limit is None else BoundedCallTree(limit)
    for number in range(150):
        tree.open(Made(f"node {number}"), 0, (), {})
        if number % 10 == 0:
            tree.counts()
    for call_id in range(1, 150, 2):
        tree.complete(call_id, None)
    tree.open(Made("last"), 0, (), {})
    counts = tree.counts()
    assert counts.by_status == {"running": 76, "completed": 75, "failed": 0, "cancelled": 0}
    assert [call.id for call in counts.running] == [*range(2, 151, 2), 151]
    for number in range(100):
        tree.open(Made(f"more {number}"), 0, (), {})
    assert [call.id for call in tree.counts().running] == [*range(2, 151, 2), *range(151, 176)]


@pytest.mark.parametrize("limit", [math.inf, 2])
async def test_looks_from_threads_count_right_while_calls_run(limit: float) -> None:
    async def work() -> None:
        for number in range(300):
            await rt.call(double, number)
            with pytest.raises(ZeroDivisionError):
                await rt.call(divide, number)

    async def divide(number: int) -> float:
        return number / 0

    def look(session: rt.Session) -> None:
        last = 0
        while not over.is_set():
            counts = session.counts
            assert min(counts.by_status.values()) >= 0
            assert sum(counts.by_status.values()) == sum(counts.by_node.values()) >= last
            last = sum(counts.by_status.values())
            assert {call.node for call in session.info.calls} <= {"work", "double", "divide"}

    over = threading.Event()
    async with rt.Session(history_limit=limit, save_state=False) as session, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(trio.to_thread.run_sync, look, session)
        try:
            await rt.call(work)
        finally:
            over.set()
    assert session.counts.by_node == {"work": 1, "double": 300, "divide": 300}
    assert session.counts.by_status == {"running": 0, "completed": 301, "failed": 300, "cancelled": 0}


async def test_a_session_that_keeps_no_finished_call_logs_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    async with rt.Session(history_limit=0, save_state=False, logging_setting="INFO") as session:
        await rt.call(double, 1)
    assert (session.info.calls, session.info.dropped_calls) == ((), 1)
    lines = [line.partition(" - ")[2].partition(" in ")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines[1:3] == ["START CREATED double", "double (1) DONE"]


async def test_a_session_that_keeps_no_finished_call_logs_failures_and_cancels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with rt.Session(history_limit=0, save_state=False, logging_setting="INFO"):
        await failing(Document().fail)
        await cancelled_in_a_group(Document())
    lines = [line.partition(" - ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line.split(":")[0].partition(" after ")[0] for line in lines[1:-1]] == [
        "START CREATED fail",
        "fail (1) FAILED",
        "START CREATED hang_with (2)",
        "hang_with (2) CANCELLED",
    ]
