"""Batches: one node called once for each input, side by side."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from kept_cancels import node_with_a_kept_cancelled
from plain_nodes import Crowd, IterableError, broken, double, forever, nap, odd, statuses
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import railtracks as rt

# call_batch: results and errors.


@pytest.mark.parametrize("limit", [None, 2, math.inf])
async def test_results_stand_in_the_order_of_the_inputs(limit: float | None, autojump_clock: MockClock) -> None:
    assert await rt.call_batch(nap, [3, 1, 2], limit=limit) == [3, 1, 2]


@pytest.mark.parametrize("limit", [None, 2])
async def test_errors_stand_in_their_places(limit: float | None) -> None:
    async with rt.Session() as session:
        first, second, third = await rt.call_batch(odd, [1, 2, 3], limit=limit)
    assert (first, third) == (1, 3)
    assert isinstance(second, ValueError)
    assert second.args == (2,)
    assert session.status is rt.Status.COMPLETED
    assert statuses(session) == ["completed", "completed", "failed"]


async def test_iterables_are_zipped_as_by_map() -> None:
    def join(*parts: str) -> str:
        return "".join(parts)

    assert await rt.call_batch(join, "abc", iter("de"), ("f", "g", "h", "i")) == ["adf", "beg"]
    assert await rt.call_batch(join, "abc", []) == []


async def test_a_batch_without_iterables_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="at least one iterable"):
        await rt.call_batch(double)
    with pytest.raises(TypeError, match=r"rt\.call_batch takes .* int is not iterable: write rt\.call_batch\(node, \["):
        await rt.call_batch(double, 5)  # type: ignore[call-overload]


async def test_what_has_only_items_by_index_is_an_iterable_of_inputs() -> None:
    class Items:
        def __getitem__(self, index: int) -> int:
            return [1, 2][index]

    assert await rt.call_batch(double, Items()) == [2, 4]  # type: ignore[call-overload]


async def test_a_batch_of_what_cannot_be_a_node_is_refused() -> None:
    with pytest.raises(rt.NodeCreationError):
        await rt.call_batch(int, [1])
    with pytest.raises(rt.NodeCreationError):
        await rt.call_batch(None, [1])  # type: ignore[call-overload]


async def test_return_exceptions_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="return_exceptions"):
        await rt.call_batch(double, [1], return_exceptions="no")  # type: ignore[call-overload]


@pytest.mark.parametrize("limit", [None, 3])
async def test_without_return_exceptions_the_first_failure_cancels_the_rest_and_is_raised(limit: float | None) -> None:
    unwound = []

    async def work(number: int) -> None:
        if number == 2:
            await wait_all_tasks_blocked()
            raise ValueError(number)
        try:
            await trio.sleep_forever()
        finally:
            unwound.append(number)

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="2"):
            await rt.call_batch(work, [0, 1, 2], return_exceptions=False, limit=limit)
        assert sorted(unwound) == [0, 1]
    assert statuses(session) == ["cancelled", "cancelled", "failed"]


@pytest.mark.parametrize("limit", [None, 3])
async def test_a_failure_ends_even_an_endless_batch(limit: float | None) -> None:
    with pytest.raises(ValueError, match="50"):
        await rt.call_batch(fail_at_fifty, itertools.count(), return_exceptions=False, limit=limit)


async def fail_at_fifty(number: int) -> None:
    if number == 50:
        raise ValueError(number)


@pytest.mark.parametrize("limit", [None, 3])
async def test_several_failures_are_a_group(limit: float | None) -> None:
    async def work(number: int) -> None:
        try:
            if number:
                await trio.sleep_forever()
            await wait_all_tasks_blocked()
        finally:
            raise ValueError(number)

    with pytest.RaisesGroup(ValueError, ValueError, ValueError) as caught:
        await rt.call_batch(work, range(3), return_exceptions=False, limit=limit)
    assert sorted(error.args[0] for error in caught.value.exceptions) == [0, 1, 2]


@pytest.mark.parametrize("limit", [None, 3])
async def test_what_is_no_exception_is_never_an_item(limit: float | None) -> None:
    async def leave(number: int) -> None:
        raise SystemExit(number)

    with pytest.raises(SystemExit):
        await rt.call_batch(leave, [1], limit=limit)


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("return_exceptions", [True, False])
async def test_a_cancellation_is_never_an_item(
    limit: float | None, return_exceptions: bool, autojump_clock: MockClock
) -> None:
    results: list[Any] = []
    async with rt.Session() as session:
        with trio.move_on_after(2) as scope:
            results = await rt.call_batch(nap, [1, 5, 9], return_exceptions=return_exceptions, limit=limit)
        assert scope.cancelled_caught
        assert trio.current_time() == 2
    assert results == []
    assert statuses(session) == ["cancelled", "cancelled", "completed"]


@pytest.mark.parametrize("limit", [None, 3])
async def test_a_fatal_error_ends_the_session_and_is_no_item(limit: float | None) -> None:
    error = rt.FatalError("enough")

    async def work(number: int) -> None:
        if number:
            raise error
        await trio.sleep_forever()

    with pytest.raises(rt.FatalError) as caught:
        await rt.call_batch(work, [0, 1], limit=limit)
    assert caught.value is error


async def test_an_item_is_the_nodes_own_error_and_keeps_no_context() -> None:
    error = ValueError("mine")

    async def work() -> None:
        raise error

    assert await rt.call_batch(lambda _: trio.from_thread.run(rt.call, work), [1]) == [error]
    assert error.__context__ is None


# call_batch: inputs.


@pytest.mark.parametrize("limit", [None, 10])
@pytest.mark.parametrize("return_exceptions", [True, False])
async def test_an_error_of_the_iterable_cancels_the_rest_and_is_raised(
    limit: float | None, return_exceptions: bool
) -> None:
    error = IterableError("no more")
    async with rt.Session() as session:
        with pytest.raises(IterableError) as caught:
            await rt.call_batch(forever, broken(3, error), return_exceptions=return_exceptions, limit=limit)
        assert caught.value is error
        assert statuses(session) == ["cancelled"] * 3
    assert session.status is rt.Status.COMPLETED


async def test_an_error_of_the_iterable_goes_before_the_failures_of_calls() -> None:
    error = IterableError("no more")
    with pytest.raises(IterableError):
        await rt.call_batch(odd, broken(300, error))


@pytest.mark.parametrize("limit", [1, 3])
async def test_with_a_limit_inputs_are_drawn_when_there_is_room(limit: int, autojump_clock: MockClock) -> None:
    drawn: list[tuple[int, float]] = []

    def inputs() -> Iterator[int]:
        for number in range(3 * limit):
            drawn.append((number, trio.current_time()))
            yield 1

    await rt.call_batch(nap, inputs(), limit=limit)
    assert drawn == [(number, number // limit) for number in range(3 * limit)]


@pytest.mark.parametrize("limit", [10, trio.CapacityLimiter(10)])
async def test_with_a_limit_no_more_inputs_than_that_are_drawn_and_in_work(
    limit: float | trio.CapacityLimiter, autojump_clock: MockClock
) -> None:
    drawn = ended = most = 0

    def inputs() -> Iterator[int]:
        nonlocal drawn, most
        for drawn in range(1, 1_001):
            most = max(most, drawn - ended)
            yield drawn

    async def work(_: int) -> None:
        nonlocal ended
        await trio.sleep(1)
        ended += 1

    await rt.call_batch(work, inputs(), limit=limit)
    assert (drawn, ended, most) == (1_000, 1_000, 10)


async def test_without_a_limit_all_calls_run_at_once(autojump_clock: MockClock) -> None:
    await rt.call_batch(nap, [1] * 250)
    assert trio.current_time() == 1


class Steps(trio.abc.Instrument):
    """Counts the steps of a task; each schedule point begins one."""

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.taken = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken += task is self.task


@pytest.mark.parametrize("limit", [None, 1000, math.inf])
async def test_the_feeding_passes_a_checkpoint_at_least_every_100_inputs(limit: float | None) -> None:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    drawn = (steps.taken for _ in range(1000))
    counted = await rt.call_batch(double, drawn, limit=limit)
    trio.lowlevel.remove_instrument(steps)
    assert max(Counter(counted).values()) <= 100


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("inputs", [[], [1]])
async def test_a_batch_is_a_checkpoint_even_an_empty_one(limit: float | None, inputs: list[int]) -> None:
    async with rt.Session():
        with assert_checkpoints():
            await rt.call_batch(double, inputs, limit=limit)


# call_batch: the limit.


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_at_most_as_many_as_the_limit_run_at_once(limit: float, autojump_clock: MockClock) -> None:
    crowd = Crowd()
    await rt.call_batch(crowd, range(20), limit=limit)
    assert crowd.most == limit


async def test_a_limiter_is_shared_and_the_pending_call_is_its_borrower() -> None:
    limiter = trio.CapacityLimiter(3)
    release = trio.Event()

    async def work(number: int) -> int:
        await release.wait()
        return number

    async with rt.Session(), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: rt.call_batch(work, range(5), limit=limiter))
        nursery.start_soon(lambda: rt.call_batch(work, range(5), limit=limiter))
        await wait_all_tasks_blocked()
        borrowers = limiter.statistics().borrowers
        assert len(borrowers) == 3
        for borrower in borrowers:
            assert isinstance(borrower, rt.PendingCall)
            assert (borrower.node_name, borrower.status) == ("work", rt.Status.RUNNING)
        release.set()
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("ending", ["failure", "iterable", "cancel"])
async def test_a_limiter_gets_everything_back_however_the_batch_ends(ending: str, autojump_clock: MockClock) -> None:
    limiter = trio.CapacityLimiter(2)

    async def work(number: int) -> None:
        await trio.sleep(number)
        raise ValueError(number)

    async with rt.Session():
        if ending == "failure":
            with pytest.raises(ValueError, match="1"):
                await rt.call_batch(work, [1, 9, 9], limit=limiter, return_exceptions=False)
        elif ending == "iterable":
            with pytest.raises(IterableError):
                await rt.call_batch(work, broken(3, IterableError()), limit=limiter)
        else:
            with trio.move_on_after(1):
                await rt.call_batch(work, [5, 5, 5], limit=limiter)
        assert limiter.borrowed_tokens == 0


async def test_a_batch_without_the_result_of_a_call_that_was_cancelled_alone_fails() -> None:
    limiter = trio.CapacityLimiter(2)

    async def cancel_one() -> None:
        await wait_all_tasks_blocked()
        borrower = next(iter(limiter.statistics().borrowers))
        assert isinstance(borrower, rt.PendingCall)
        borrower.cancel("not needed")

    async def block() -> None:
        async with rt.open_group() as group:
            group.start_soon(cancel_one)
            await rt.call_batch(forever, [1, 2, 3], limit=limiter)

    with pytest.raises(rt.PendingCallError, match="not needed"):
        await block()
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("limit", ["2", True, [2], 2.5, 2.0])
async def test_a_limit_that_is_no_whole_number_and_no_limiter_is_a_type_error(limit: Any) -> None:
    with pytest.raises(TypeError, match="limit must be a"):
        await rt.call_batch(double, [1], limit=limit)


@pytest.mark.parametrize("limit", [0, -1, 0.5, math.nan])
async def test_a_limit_below_one_is_a_value_error(limit: float) -> None:
    with pytest.raises(ValueError, match="limit"):
        await rt.call_batch(double, [1], limit=limit)


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("return_exceptions", [True, False])
async def test_what_a_cleanup_raises_is_no_item(
    limit: float | None, return_exceptions: bool, autojump_clock: MockClock
) -> None:
    error = ValueError("in cleanup")

    async def work(_: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async with rt.Session():
        with pytest.raises(ValueError, match="in cleanup") as caught, trio.move_on_after(1):
            await rt.call_batch(work, [1], limit=limit, return_exceptions=return_exceptions)
        assert caught.value is error


# A session that drains.


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("return_exceptions", [True, False])
async def test_a_batch_of_a_session_that_drains_is_refused_the_rest_of_its_inputs(
    limit: float | None, return_exceptions: bool, autojump_clock: MockClock
) -> None:
    def inputs() -> Iterator[int]:
        for number in range(1000):
            if number == 2:
                nursery.start_soon(session.drain, 10)
            yield 1

    async with trio.open_nursery() as nursery, rt.Session() as session:
        with pytest.raises(rt.ContextError, match="is draining"):
            await rt.call_batch(nap, inputs(), limit=limit, return_exceptions=return_exceptions)
    assert 2 <= len(session.info.calls) <= 100
    # Calls that run when the session begins to drain go on, if a failure beside them does not cancel them.
    expected = {"completed"} if return_exceptions else {"completed", "cancelled"}
    assert set(statuses(session)) <= expected
    assert session.status is rt.Status.COMPLETED


@pytest.mark.parametrize("limit", [None, 2])
async def test_a_batch_that_has_its_inputs_is_not_touched_by_a_drain(
    limit: float | None, autojump_clock: MockClock
) -> None:
    async def drain() -> None:
        await wait_all_tasks_blocked()
        await session.drain(10)

    async with trio.open_nursery() as nursery, rt.Session() as session:
        nursery.start_soon(drain)
        assert await rt.call_batch(nap, [1, 1], limit=limit) == [1, 1]


# Parents and sessions.


async def test_the_calls_of_a_batch_are_children_of_the_call_they_are_made_in() -> None:
    async def fan_out() -> None:
        await rt.call_batch(double, [1, 2])
        await rt.call_batch(double, [3], limit=1)

    async with rt.Session() as session:
        await rt.call(fan_out)
    info = session.info
    assert [call.parent_id for call in info.calls] == [None, 1, 1, 1]
    assert info.calls[0].ended_at is not None
    assert all(call.ended_at and call.ended_at <= info.calls[0].ended_at for call in info.children(1))


@pytest.mark.parametrize("limit", [None, 2])
async def test_a_batch_without_a_session_opens_one_for_the_whole_of_it(limit: float | None) -> None:
    async def look(_: int) -> str | None:
        return rt.session_id()

    first, second = await rt.call_batch(look, [1, 2], limit=limit)
    assert first == second
    assert first is not None
    assert rt.session_id() is None


async def test_in_a_tasks_own_frame_a_batch_needs_no_second_look() -> None:
    async def task() -> None:
        await rt.call(double, 1)
        await rt.call_batch(double, [2])

    async with rt.Session() as session, trio.open_nursery() as nursery:
        nursery.start_soon(task)
    assert [call.parent_id for call in session.info.calls] == [None, None]


async def test_without_trio_running_a_batch_says_how_to_start() -> None:
    coroutine = rt.call_batch(double, [1])

    def outside() -> None:
        with pytest.raises(RuntimeError, match=r"Flow\.invoke.*trio\.run"):
            coroutine.send(None)

    await trio.to_thread.run_sync(outside)


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("return_exceptions", [True, False])
async def test_a_cancelled_that_a_node_had_kept_is_no_item_either(return_exceptions: bool, limit: float | None) -> None:
    memo = await node_with_a_kept_cancelled()
    with pytest.raises(rt.PendingCallError, match="'memo' was cancelled"):
        await rt.call_batch(memo, [1, 2], return_exceptions=return_exceptions, limit=limit)
