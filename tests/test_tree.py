"""Records of calls: their transitions, the queries over them, and what they do not keep."""

import gc
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import railtracks as rt
from railtracks._records.events import EventKind, call_event
from railtracks._records.observers import Observers
from railtracks._records.tree import CallTree


@rt.function_node
async def leaf(value: int) -> int:
    return value


@rt.function_node
async def branch(*values: int) -> int:
    return sum([await rt.call(leaf, value) for value in values])


@rt.function_node
async def sleep() -> None:
    await trio.sleep_forever()


ENDS: dict[str, Callable[[CallTree, int], None]] = {
    "completed": lambda tree, call_id: tree.complete(call_id, 1),
    "failed": lambda tree, call_id: tree.fail(call_id, rt.CallError("ValueError", "broken")),
    "cancelled": lambda tree, call_id: tree.cancel(call_id),
}


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
def test_a_call_ends_once(first: str, second: str) -> None:
    tree = CallTree()
    call_id = tree.open(leaf, 0, (1,), {})
    assert (tree.record(call_id).status, tree.record(call_id).ended_at) == ("running", None)
    ENDS[first](tree, call_id)
    ended = tree.record(call_id)
    assert ended.status == first
    with pytest.raises(RuntimeError, match=f"call 1 of 'leaf' is already {first}"):
        ENDS[second](tree, call_id)
    assert tree.record(call_id) == ended


def test_what_is_open_at_the_end_is_cancelled() -> None:
    tree = CallTree()
    done = tree.open(leaf, 0, (1,), {})
    tree.open(leaf, done, (2,), {})
    tree.complete(done, 1)
    tree.cancel_what_is_open()
    assert [call.status for call in tree.records()] == ["completed", "cancelled"]
    assert all(call.ended_at is not None for call in tree.records())


def test_the_path_of_a_call_leaves_out_the_middle_of_a_long_way() -> None:
    tree = CallTree()
    call_id = 0
    for number in range(20):
        call_id = tree.open(leaf.with_options(name=f"n{number}"), call_id, (), {})
    assert tree.path(3) == ("n0", "n1", "n2")
    assert tree.path(call_id)[-1] == "n19"
    assert "..." in tree.path(call_id)
    assert len(tree.path(call_id)) < 12


async def test_calls_are_numbered_from_1_in_the_order_of_their_start() -> None:
    async with rt.Session() as session:
        await rt.call(branch, 1, 2)
        await rt.call(leaf, 3)
    calls = session.info.calls
    assert [(call.id, call.parent_id, call.node) for call in calls] == [
        (1, None, "branch"),
        (2, 1, "leaf"),
        (3, 1, "leaf"),
        (4, None, "leaf"),
    ]
    assert all(first.started_at <= second.started_at for first, second in pairwise(calls))


async def test_roots_children_and_answer() -> None:
    async with rt.Session() as session:
        assert session.info.answer is None
        await rt.call(branch, 1, 2)
        await rt.call(leaf, 30)
    info = session.info
    assert [call.id for call in info.roots] == [1, 4]
    assert [call.result for call in info.children(1)] == [1, 2]
    assert info.children(2) == ()
    assert info.answer == 3
    with pytest.raises(KeyError):
        info.children(5)
    with pytest.raises(KeyError):
        info.children(0)


async def test_the_answer_is_of_the_first_top_level_call_not_of_the_first_that_ended() -> None:
    async with rt.Session() as session:
        service = session.start_service(sleep)
        await wait_all_tasks_blocked()
        await rt.call(leaf, 1)
        assert session.info.answer is None
        service.cancel()
    assert session.info.answer is None
    assert [call.status for call in session.info.roots] == ["cancelled", "completed"]


async def test_a_record_says_what_was_called_with_what_and_when() -> None:
    before = datetime.now(UTC)
    async with rt.Session(name="name", flow_name="flow", flow_id="id", timeout=50, context={"key": 1}) as session:
        await rt.call(leaf, value=1)
        (call,) = session.info.calls
        assert session.info.ended_at is None
    assert call == rt.CallRecord(
        id=1,
        parent_id=None,
        node="leaf",
        status=rt.Status.COMPLETED,
        attempt=1,
        started_at=call.started_at,
        ended_at=call.ended_at,
        args=(),
        kwargs={"value": 1},
        result=1,
        error=None,
    )
    info = session.info
    assert attrs.evolve(info, calls=()) == rt.ExecutionInfo(
        session_id=session.identifier,
        session_name="name",
        flow_name="flow",
        flow_id="id",
        status=rt.Status.COMPLETED,
        started_at=info.started_at,
        ended_at=info.ended_at,
        timeout=50,
        error=None,
        context_keys=("key",),
        calls=(),
    )
    assert info.started_at is not None
    assert call.ended_at is not None
    assert info.ended_at is not None
    assert before <= info.started_at <= call.started_at <= call.ended_at <= info.ended_at <= datetime.now(UTC)
    assert info.started_at.tzinfo is UTC


async def test_info_is_a_snapshot() -> None:
    async with rt.Session() as session:
        pending = session.start_soon(sleep)
        await wait_all_tasks_blocked()
        early = session.info
        pending.cancel()
        await pending.wait()
        await rt.call(leaf, 1)
    assert early.status == "running"
    assert [call.status for call in early.calls] == ["running"]
    assert [call.status for call in session.info.calls] == ["cancelled", "completed"]


async def test_a_snapshot_cannot_change_the_session() -> None:
    async with rt.Session() as session:
        await rt.call(leaf, value=1)
    session.info.calls[0].kwargs.clear()
    assert session.info.calls[0].kwargs == {"value": 1}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        session.info.calls[0].result = 2  # type: ignore[misc]  # that it is refused is the subject
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        session.info.status = rt.Status.FAILED  # type: ignore[misc]  # the same


def test_a_session_that_was_not_entered_has_no_start() -> None:
    info = rt.Session().info
    assert (info.status, info.started_at, info.ended_at, info.calls) == ("running", None, None, ())


class BreakdownError(Exception):
    pass


class Held:
    pass


async def test_a_finished_record_holds_its_error_as_text_not_the_error_nor_its_frames() -> None:
    seen: list[weakref.ref[object]] = []

    @rt.function_node
    async def fail() -> None:
        held = Held()
        seen.append(weakref.ref(held))
        error = BreakdownError("deep inside")
        seen.append(weakref.ref(error))
        raise error

    @rt.function_node
    async def outer() -> None:
        await rt.call(fail)

    async with rt.Session() as session:
        with pytest.raises(BreakdownError):
            await rt.call(outer)
        await trio.lowlevel.checkpoint()
        gc.collect()
        assert [ref() for ref in seen] == [None, None]
    for call in session.info.calls:
        assert call.error is not None
        assert call.error.message == "deep inside"
        assert call.error.type.endswith("BreakdownError")
        assert "raise error" in call.error.traceback


async def test_a_failed_session_holds_its_error_as_text_not_the_error() -> None:
    seen: list[weakref.ref[object]] = []

    @rt.function_node
    async def fail() -> None:
        error = BreakdownError("deep inside")
        seen.append(weakref.ref(error))
        raise error

    session = rt.Session()
    try:
        async with session:
            await rt.call(fail)
    except BreakdownError:
        pass
    await trio.lowlevel.checkpoint()
    gc.collect()
    assert [ref() for ref in seen] == [None]
    assert session.status == "failed"
    assert session.info.error is not None
    assert session.info.error.message == "deep inside"


async def test_only_a_failed_call_has_an_error_and_only_a_completed_one_a_result() -> None:
    async with rt.Session() as session:
        with pytest.raises(TypeError):
            await rt.call(leaf)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]  # the wrong call
        with trio.move_on_after(0):
            await rt.call(sleep)
        await rt.call(leaf, 1)
    assert [(call.status, call.error is None, call.result) for call in session.info.calls] == [
        ("failed", False, None),
        ("cancelled", True, None),
        ("completed", True, 1),
    ]


def test_statuses_are_the_words_of_the_saved_state() -> None:
    ends = ["completed", "failed", "timed_out", "cancelled"]
    assert [str(status) for status in rt.Status] == ["running", *ends, "waiting", "interrupted", "lost"]


async def test_a_deep_tree_is_queried_as_it_was_called() -> None:
    @rt.function_node
    async def down(levels: int) -> int:
        return 0 if levels == 0 else 1 + await rt.call(down, levels - 1)

    async with rt.Session() as session:
        assert await rt.call(down, 500) == 500
    info = session.info
    assert len(info.roots) == 1
    call = info.roots[0]
    for _ in range(500):
        (call,) = info.children(call.id)
    assert info.children(call.id) == ()


async def test_the_counts_of_a_session_agree_with_its_records() -> None:
    looks: list[rt.Counts] = []

    @rt.function_node
    async def look() -> None:
        session = rt.current_session()
        looks.append(session.counts)
        calls = session.info.calls
        assert looks[-1].running == tuple(call for call in calls if call.status is rt.Status.RUNNING)
        for status, number in looks[-1].by_status.items():
            assert number == sum(call.status is status for call in calls)

    @rt.function_node
    async def fail() -> None:
        await rt.call(look)
        raise BreakdownError

    async with rt.Session() as session:
        assert session.counts == rt.Counts({"running": 0, "completed": 0, "failed": 0, "cancelled": 0}, {}, ())
        await rt.call(branch, 1, 2)
        with pytest.raises(BreakdownError):
            await rt.call(fail)
        with trio.move_on_after(0):
            await rt.call(sleep)
        await rt.call(look)
    assert [(look.by_status["running"], look.by_node) for look in looks] == [
        (2, {"branch": 1, "leaf": 2, "fail": 1, "look": 1}),
        (1, {"branch": 1, "leaf": 2, "fail": 1, "look": 2, "sleep": 1}),
    ]
    assert session.counts.by_status == {"running": 0, "completed": 5, "failed": 1, "cancelled": 1}


def test_an_event_is_frozen_and_nobody_listens_unless_asked() -> None:
    tree = CallTree()
    outer = tree.open(branch, 0, (), {})
    inner = tree.open(leaf, outer, (), {})
    event = call_event(EventKind.CALL_STARTED, "s", tree, inner, outer, outer)
    with pytest.raises(AttributeError):
        event.node = "other"  # type: ignore[misc]  # that it is refused is the subject
    assert (event.call_id, event.run_id, event.node, event.parent) == (2, 1, "leaf", "branch")
    assert [getattr(Observers(), kind) for kind in EventKind] == [()] * len(EventKind)
