"""Fan-outs with a limit in a resume: what is replayed waits for no slot, and what runs anew keeps to the limit.

A slot that a replay waited for would be a stall: the store here gives no recorded order up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from retry_nodes import (
    BROKEN,
    RAN,
    flow_of,
    ran,
    status_of,
    store_fixture,  # noqa: F401 - a fixture
    world_fixture,  # noqa: F401 - a fixture
)

import railtracks as rt
from railtracks._calls.late_slots import LateSlot

# How many calls of a node run, and how many of them ran at once at most.
RUNNING: Counter[str] = Counter()
# Far more than any of these resumes takes. A stall lasts for ever.
LONG = 60.0


@pytest.fixture(autouse=True)
def nothing_runs() -> None:
    RUNNING.clear()


@rt.function_node
async def slow(what: Any) -> Any:
    RUNNING["now"] += 1
    RUNNING["most"] = max(RUNNING["most"], RUNNING["now"])
    try:
        RAN.append((what, ""))
        await trio.testing.wait_all_tasks_blocked()
        if what in BROKEN:
            raise ConnectionError(what)
        return what
    finally:
        RUNNING["now"] -= 1


@rt.function_node
async def note(what: Any) -> Any:
    return what


@rt.function_node
async def deep(what: Any) -> Any:
    return await rt.call(slow, await rt.call(note, what))


again = slow.with_options(retry=rt.Retry(attempts=2, wait_initial=0.0, jitter=0.0))


@rt.function_node
async def stop() -> None:
    if "stop" in BROKEN:
        raise KeyboardInterrupt


@rt.function_node(durable=False)
async def loose(what: Any) -> Any:
    return what


def checked(found: list[Any]) -> int:
    failed = [each for each in found if isinstance(each, Exception)]
    if failed:
        raise ExceptionGroup("some failed", failed)
    return len(found)


async def in_batch(node: Any, limit: Any) -> int:
    return checked(await rt.call_batch(node, range(9), limit=limit))


def outcome_of(pending: rt.PendingCall[Any]) -> Any:
    try:
        return pending.result()
    except ConnectionError as error:
        return error


async def in_as_completed(node: Any, limit: Any) -> int:
    async with rt.as_completed(node, range(9), limit=limit) as finished:
        return checked([outcome_of(each) async for each in finished])


async def in_group(node: Any, limit: Any) -> int:
    async with rt.open_group(limit=limit, return_exceptions=True) as group:
        pending = [group.start_soon(node, each) for each in range(9)]
    return checked([*map(outcome_of, pending)])


async def in_batches(node: Any, limit: Any) -> int:
    async def part(_: int) -> int:
        return await in_batch(node, limit)

    return checked(await rt.call_batch(part, range(2), limit=limit))


async def after_a_group_that_is_not_recorded(node: Any, limit: Any) -> int:
    return await in_group(loose, limit) + await in_batch(node, limit)


async def in_a_task(node: Any, limit: Any) -> int:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_group, node, limit)
    return 9


def user_limit(count: int) -> Callable[[], Any]:
    """Return what makes a limiter of a user."""
    return lambda: trio.CapacityLimiter(count)


def most_of(limit: Any) -> int:
    return int(limit.total_tokens) if isinstance(limit, trio.CapacityLimiter) else int(limit)


Shape = Callable[[Any, Any], Awaitable[int]]
SHAPES: list[Shape] = [in_batch, in_as_completed, in_group, in_batches, after_a_group_that_is_not_recorded, in_a_task]
NODES = [slow, deep, again]


def flow_in(store: rt.DurableStore, shape: Shape, node: Any, limit: Callable[[], Any]) -> rt.Flow[[], int]:
    async def main() -> int:
        found = await shape(node, limit())
        await rt.call(stop)
        return found

    return flow_of(store, main)


async def resume_soon(flow: rt.Flow[..., Any]) -> Any:
    with trio.fail_after(LONG):
        return await flow.aresume("s")


LIMITS = pytest.mark.parametrize("limit", [lambda: 1, lambda: 2, user_limit(2)], ids=["1", "2", "limiter"])


@pytest.mark.proof
@LIMITS
@pytest.mark.parametrize("node", NODES, ids=["slow", "deep", "again"])
@pytest.mark.parametrize("shape", [in_batch, in_as_completed, in_group, after_a_group_that_is_not_recorded])
async def test_a_call_that_runs_again_holds_up_no_recorded_one_by_its_slot(
    store: rt.DurableStore, shape: Shape, node: Any, limit: Callable[[], Any]
) -> None:
    flow = flow_in(store, shape, node, limit)
    BROKEN.update({0, 4})
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    ran()
    store.retry("s")
    BROKEN.add("stop")
    with pytest.raises(KeyboardInterrupt):
        await resume_soon(flow)
    assert sorted(ran()) == [0, 4]
    # Now the record has the outcomes in another order than the one in which calls get their slots.
    BROKEN.clear()
    assert await resume_soon(flow) in {9, 18}
    assert ran() == []
    assert RUNNING["most"] <= most_of(limit())
    assert status_of(store) == "completed"


@pytest.mark.proof
@LIMITS
@pytest.mark.parametrize("node", [slow, deep], ids=["slow", "deep"])
@pytest.mark.parametrize("shape", [in_batch, in_as_completed, in_group])
async def test_calls_that_run_again_keep_to_the_limit(
    store: rt.DurableStore, shape: Shape, node: Any, limit: Callable[[], Any]
) -> None:
    flow = flow_in(store, shape, node, limit)
    BROKEN.update(range(9))
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    ran()
    store.retry("s")
    assert await resume_soon(flow) == 9
    assert sorted(ran()) == [*range(9)]
    assert RUNNING["most"] == most_of(limit())


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_batch_in_a_batch_is_retried_without_a_stall(store: rt.DurableStore, limit: int) -> None:
    flow = flow_in(store, in_batches, slow, lambda: limit)
    BROKEN.update({0, 4})
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    ran()
    store.retry("s")
    assert await resume_soon(flow) == 2
    assert sorted(ran()) == [0, 0, 4, 4]


@LIMITS
@pytest.mark.parametrize("node", [slow, deep], ids=["slow", "deep"])
@pytest.mark.parametrize("shape", [*SHAPES[:3], *SHAPES[4:]])
async def test_a_crash_amid_a_fan_out_with_a_limit(
    store: rt.DurableStore, shape: Shape, node: Any, limit: Callable[[], Any]
) -> None:

    crashes = [True]

    async def main() -> int:
        async def crash(what: Any) -> Any:
            if what == 5 and crashes:
                crashes.clear()
                raise KeyboardInterrupt
            return await rt.call(node, what)

        return await shape(rt.function_node(crash, name="crash"), limit())

    flow = flow_of(store, main)
    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        await flow.ainvoke(session_id="s")
    assert await resume_soon(flow) in {9, 18}
    assert status_of(store) == "completed"


@pytest.mark.parametrize("shape", [in_batch, in_as_completed])
async def test_a_fan_out_with_a_limit_in_a_task_of_a_nursery_is_resumed_without_a_stall(
    store: rt.DurableStore, shape: Shape
) -> None:
    async def main() -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shape, slow, 2)
        await rt.call(stop)
        return 9

    flow = flow_of(store, main)
    BROKEN.add("stop")
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    assert ran() != []
    assert await resume_soon(flow) == 9
    assert ran() == []


async def test_two_tasks_in_a_call_that_runs_again_need_one_slot(store: rt.DurableStore) -> None:
    @rt.function_node
    async def both(what: int) -> int:
        await rt.call(note, what)
        return checked(await rt.call_batch(slow, [what, what + 10]))

    flow = flow_in(store, in_batch, both, lambda: 1)
    BROKEN.update({0, 10, 4, 14, 8, 18})
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    ran()
    store.retry("s")
    assert await resume_soon(flow) == 9
    assert sorted(ran()) == [0, 4, 8, 10, 14, 18]
    # The two in one call, and none in another beside them.
    assert RUNNING["most"] == 2


async def test_waits_for_signals_that_begin_again_need_no_slot(store: rt.DurableStore) -> None:
    @rt.function_node
    async def ask(what: int) -> str:
        await rt.call(note, what)
        if what == 1:
            return "yes"
        return await rt.wait_for_signal(f"answer {what}", str, timeout=0.05)

    async def main() -> int:
        found = await rt.call_batch(ask, range(3), limit=1)
        failed = [each for each in found if isinstance(each, Exception)]
        if failed:
            raise failed[0]
        return len(found)

    flow = flow_of(store, main)
    BROKEN.update({0, 2})
    with pytest.raises(TimeoutError):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    store.retry("s")
    for each in (2, 0):
        await rt.send_signal("s", f"answer {each}", "yes", store=store)
    assert await resume_soon(flow) == 3


async def test_a_call_that_is_cancelled_before_it_has_its_slot_does_not_run(store: rt.DurableStore) -> None:
    limiter = trio.CapacityLimiter(1)

    async def main() -> int:
        async with rt.open_group(limit=limiter, return_exceptions=True) as group:
            calls = [group.start_soon(slow, each) for each in range(3)]
            if "patience" in BROKEN:
                await trio.testing.wait_all_tasks_blocked(0.05)
                group.cancel_scope.cancel()
        return checked([*map(outcome_of, calls)])

    flow = flow_of(store, main)
    BROKEN.update(range(3))
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke(session_id="s")
    store.retry("s")
    ran()
    BROKEN.clear()
    BROKEN.add("patience")
    # Code outside of the session has the only slot.
    async with limiter:
        with pytest.raises(rt.PendingCallError):
            await resume_soon(flow)
    assert ran() == []
    assert limiter.borrowed_tokens == 0


async def test_inputs_are_drawn_when_they_were_drawn_first(store: rt.DurableStore) -> None:
    @rt.function_node
    async def count(what: int) -> int:
        rt.context.put("counted", what + 1)
        return what

    async def main() -> list[Any]:
        inputs = (rt.context.get("counted", 0) for _ in range(5))
        counted = await rt.call_batch(count, inputs, limit=1)
        await rt.call(stop)
        return counted

    flow = flow_of(store, main)
    BROKEN.add("stop")
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    BROKEN.clear()
    assert await resume_soon(flow) == [*range(5)]


async def test_a_late_slot_is_taken_once() -> None:
    limiter, borrower = trio.CapacityLimiter(1), object()
    slot = LateSlot(limiter, borrower)
    async with trio.open_nursery() as nursery:
        async with limiter:
            nursery.start_soon(slot.take)
            nursery.start_soon(slot.take)
            await trio.testing.wait_all_tasks_blocked()
            assert not slot.take_nowait()
        # One task has got it, and has not gone on.
        assert not slot.take_nowait()
    assert slot.take_nowait()
    assert limiter.borrowed_tokens == 1
    slot.end()
    slot.end()
    assert limiter.borrowed_tokens == 0
