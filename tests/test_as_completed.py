"""Calls side by side that are handed out as they end."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from kept_cancels import node_with_a_kept_cancelled
from plain_nodes import Crowd, IterableError, broken, double, forever, nap, odd, statuses
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

import railtracks as rt

with_and_without_a_limit = pytest.mark.parametrize("limit", [None, 3])


# What is handed out.


@pytest.mark.parametrize("limit", [None, 3, 10, math.inf])
async def test_the_call_that_ends_first_is_handed_out_first(limit: float | None, autojump_clock: MockClock) -> None:
    async with rt.as_completed(nap, [3, 1, 2], limit=limit) as finished:
        handed_out = [(pending.result(), trio.current_time()) async for pending in finished]
    assert handed_out == [(1, 1), (2, 2), (3, 3)]


@with_and_without_a_limit
async def test_what_has_ended_meanwhile_is_handed_out_in_that_order(
    limit: float | None, autojump_clock: MockClock
) -> None:
    async with rt.as_completed(nap, [3, 1, 2], limit=limit) as finished:
        await trio.sleep(5)
        assert [pending.result() async for pending in finished] == [1, 2, 3]
    assert trio.current_time() == 5


async def test_a_call_that_is_handed_out_tells_its_input() -> None:
    def join(*parts: str) -> str:
        return "".join(parts)

    async with rt.as_completed(join, "abc", iter("de"), ("f", "g", "h", "i")) as finished:
        told = {pending.args: pending.result() async for pending in finished}
    assert told == {("a", "d", "f"): "adf", ("b", "e", "g"): "beg"}


@with_and_without_a_limit
async def test_failures_are_handed_out_and_cancel_nothing(limit: float | None) -> None:
    failed, completed = [], []
    async with rt.Session() as session, rt.as_completed(odd, range(6), limit=limit) as finished:
        async for pending in finished:
            if pending.status is rt.Status.FAILED:
                with pytest.raises(ValueError, match=str(pending.args[0])):
                    pending.result()
                failed.append(pending.args[0])
            else:
                completed.append(pending.result())
    assert (sorted(failed), sorted(completed)) == ([0, 2, 4], [1, 3, 5])
    assert session.status is rt.Status.COMPLETED


async def test_a_failure_that_is_looked_at_leaves_the_block_bare_and_cancels_the_rest() -> None:
    async def work(number: int) -> None:
        if number:
            await trio.sleep_forever()
        raise error

    async def block() -> None:
        async with rt.as_completed(work, range(3)) as finished:
            async for pending in finished:
                pending.result()

    error = ValueError("mine")
    async with rt.Session() as session:
        with pytest.raises(ValueError, match="mine") as caught:
            await block()
        assert caught.value is error
        assert statuses(session) == ["cancelled", "cancelled", "failed"]


async def test_a_call_that_was_cancelled_by_itself_is_handed_out() -> None:
    limiter = trio.CapacityLimiter(2)
    async with rt.as_completed(forever, [1, 2], limit=limiter) as finished:
        await wait_all_tasks_blocked()
        for borrower in limiter.statistics().borrowers:
            assert isinstance(borrower, rt.PendingCall)
            borrower.cancel("not needed")
        handed_out = [pending async for pending in finished]
    assert [pending.status for pending in handed_out] == ["cancelled", "cancelled"]
    with pytest.raises(rt.PendingCallError, match="not needed"):
        handed_out[0].result()


@with_and_without_a_limit
async def test_without_inputs_the_iteration_ends_at_once(limit: float | None) -> None:
    async with rt.as_completed(double, [], limit=limit) as finished:
        assert [pending async for pending in finished] == []
        with pytest.raises(StopAsyncIteration):
            await anext(finished)


async def test_several_tasks_may_share_the_iterator(autojump_clock: MockClock) -> None:
    taken: list[tuple[int, float]] = []

    async def take(consumer: int) -> None:
        async for pending in finished:
            taken.append((consumer, pending.result()))
            await trio.sleep(0.9)

    async with rt.as_completed(nap, [1, 2, 3, 4, 5, 6]) as finished, trio.open_nursery() as nursery:
        for consumer in range(3):
            nursery.start_soon(take, consumer)
    assert [seconds for _, seconds in taken] == [1, 2, 3, 4, 5, 6]
    assert Counter(consumer for consumer, _ in taken) == {0: 2, 1: 2, 2: 2}


async def test_each_step_is_a_checkpoint_the_last_one_too_and_entering_is_none() -> None:
    async with rt.Session():
        block = rt.as_completed(double, [1, 2])
        with assert_no_checkpoints():
            finished = await block.__aenter__()
        await wait_all_tasks_blocked()
        for _ in range(2):
            with assert_checkpoints():
                await anext(finished)
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(finished)
        await block.__aexit__(None, None, None)


# How the block ends.


@pytest.mark.parametrize("way", ["break", "error", "end", "no look"])
@pytest.mark.parametrize("limit", [None, 2, 10])
async def test_what_is_left_when_the_block_is_left_is_cancelled_and_awaited(
    way: str, limit: float | None, autojump_clock: MockClock
) -> None:
    unwound = []

    async def work(number: int) -> None:
        await trio.sleep(number)
        try:
            if number:
                await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            unwound.append(number)

    async def block() -> None:
        async with rt.as_completed(work, range(4), limit=limit) as finished:
            if way == "no look":
                await trio.sleep(3)
                return
            async for _ in finished:
                await trio.sleep(2)
                if way == "error":
                    raise IterableError
                break
            await trio.sleep(way == "end")

    async with rt.Session() as session:
        if way == "error":
            with pytest.raises(IterableError):
                await block()
        else:
            await block()
        ended = len(unwound)
        assert ended >= 2
        assert all(call.ended_at for call in session.info.calls)
        await trio.sleep(100)
        assert len(unwound) == ended
    assert session.status is rt.Status.COMPLETED
    assert set(statuses(session)) == {"completed", "cancelled"}


async def test_leaving_at_once_makes_no_call() -> None:
    async with rt.Session() as session, rt.as_completed(forever, itertools.count()):
        pass
    assert session.info.calls == ()


async def test_once_the_block_is_left_iterating_raises_closed_resource_error() -> None:
    async with rt.as_completed(double, [1, 2]) as finished:
        await anext(finished)
    with pytest.raises(trio.ClosedResourceError):
        await anext(finished)


@pytest.mark.parametrize("way", ["end", "failure"])
async def test_whoever_still_waits_outside_when_the_block_is_left_gets_closed_resource_error(way: str) -> None:
    told = []

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await anext(finished)
        told.append(1)

    async def work(_: int) -> None:
        await moment.wait()
        raise SystemExit

    async def block() -> None:
        nonlocal finished
        async with rt.as_completed(work, [1]) as finished:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            if way == "failure":
                moment.set()
                await trio.sleep_forever()

    finished: Any = None
    moment = trio.Event()
    async with trio.open_nursery() as nursery, rt.Session():
        if way == "failure":
            with pytest.raises(SystemExit):
                await block()
        else:
            await block()
        await wait_all_tasks_blocked()
        assert told == [1]


async def test_what_failed_and_was_not_handed_out_is_passed_over() -> None:
    async with rt.Session() as session, rt.as_completed(odd, [2, 4]):
        await wait_all_tasks_blocked()
    assert statuses(session) == ["failed", "failed"]
    assert session.status is rt.Status.COMPLETED


async def test_a_call_that_ends_well_while_the_block_is_left_is_passed_over(autojump_clock: MockClock) -> None:
    async def work(_: int) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)

    async with rt.Session() as session, rt.as_completed(work, [1, 2]):
        await wait_all_tasks_blocked()
    assert set(statuses(session)) == {"completed"}


async def test_what_the_cleanup_of_calls_raises_comes_out_of_the_block() -> None:
    async def work(number: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError(number)

    async with rt.Session():
        with pytest.RaisesGroup(ValueError, ValueError):
            async with rt.as_completed(work, [1, 2]):
                await wait_all_tasks_blocked()


async def test_a_call_whose_cleanup_fails_after_its_own_cancel_is_handed_out() -> None:
    async def work(_: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    limiter = trio.CapacityLimiter(1)
    async with rt.as_completed(work, [1], limit=limiter) as finished:
        await wait_all_tasks_blocked()
        for borrower in limiter.statistics().borrowers:
            assert isinstance(borrower, rt.PendingCall)
            borrower.cancel()
        pending = await anext(finished)
    with pytest.raises(ValueError, match="in cleanup"):
        pending.result()


@with_and_without_a_limit
async def test_what_is_no_exception_fails_the_block(limit: float | None) -> None:
    async def leave(_: int) -> None:
        raise SystemExit

    async with rt.Session() as session:
        with pytest.raises(SystemExit):
            async with rt.as_completed(leave, [1], limit=limit) as finished:
                async for _ in finished:
                    pass
    assert statuses(session) == ["failed"]


@with_and_without_a_limit
async def test_a_fatal_error_ends_the_session_and_is_not_handed_out(limit: float | None) -> None:
    async def work(number: int) -> None:
        if number:
            raise error
        await trio.sleep_forever()

    error = rt.FatalError("enough")
    handed_out: list[object] = []
    with pytest.raises(rt.FatalError) as caught:
        async with rt.as_completed(work, [0, 1], limit=limit) as finished:
            handed_out.append(await anext(finished))
    assert caught.value is error
    assert handed_out == []


async def test_with_end_on_error_a_failure_ends_the_session() -> None:
    session = rt.Session(end_on_error=True)
    with pytest.raises(ValueError, match="2"):
        async with session, rt.as_completed(odd, [1, 2]) as finished:
            async for _ in finished:
                pass
    assert session.status is rt.Status.FAILED


async def test_a_cancel_from_outside_cancels_and_awaits_the_calls(autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        with trio.move_on_after(2) as scope:
            async with rt.as_completed(nap, [1, 5, 9]) as finished:
                assert [pending.result() async for pending in finished] == []
        assert scope.cancelled_caught
        assert trio.current_time() == 2
    assert statuses(session) == ["cancelled", "cancelled", "completed"]


# The inputs.


@pytest.mark.parametrize("limit", [None, 10])
@pytest.mark.parametrize("is_iterated", [True, False])
async def test_an_error_of_the_iterable_cancels_the_rest_and_comes_out_of_the_block(
    limit: float | None, is_iterated: bool
) -> None:
    error = IterableError("no more")
    async with rt.Session() as session:
        with pytest.raises(IterableError) as caught:
            async with rt.as_completed(forever, broken(3, error), limit=limit) as finished:
                if is_iterated:
                    await anext(finished)
                await trio.sleep_forever()
        assert caught.value is error
        assert error.__context__ is None
        assert statuses(session) == ["cancelled"] * 3
    assert session.status is rt.Status.COMPLETED


class Drawn:
    """Inputs that know how many were drawn."""

    def __init__(self, count: int) -> None:
        self.count = 0
        self._left = iter(range(count))

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        number = next(self._left)
        self.count += 1
        return number


@pytest.mark.parametrize("limit", [10, trio.CapacityLimiter(10)])
async def test_with_a_limit_no_more_inputs_than_that_are_drawn_and_not_handed_out(
    limit: float | trio.CapacityLimiter,
) -> None:
    drawn = Drawn(1_000)
    handed_out = most = 0
    async with rt.as_completed(double, drawn, limit=limit) as finished:
        await wait_all_tasks_blocked()
        assert drawn.count == 10
        async for _ in finished:
            most = max(most, drawn.count - handed_out)
            handed_out += 1
            if not handed_out % 100:
                await wait_all_tasks_blocked()
                assert drawn.count == min(1_000, handed_out + 10)
    assert (drawn.count, handed_out, most) == (1_000, 1_000, 10)


async def test_the_room_of_a_shared_limiter_is_free_for_the_block_as_soon_as_a_call_has_ended() -> None:
    limiter = trio.CapacityLimiter(2)
    results = []
    async with rt.as_completed(double, range(20), limit=limiter) as finished:
        async for pending in finished:
            await wait_all_tasks_blocked()
            async with limiter:
                results += await rt.call_batch(double, [pending.result()])
    assert sorted(results) == [4 * number for number in range(20)]
    assert limiter.borrowed_tokens == 0


async def test_a_limiter_without_tokens_is_waited_for() -> None:
    limiter = trio.CapacityLimiter(1)
    limiter.total_tokens = 0
    drawn = Drawn(3)
    async with rt.as_completed(double, drawn, limit=limiter) as finished:
        await wait_all_tasks_blocked()
        assert drawn.count == 0
        limiter.total_tokens = 1
        assert sorted([pending.result() async for pending in finished]) == [0, 2, 4]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_at_most_as_many_as_the_limit_run_at_once(limit: int, autojump_clock: MockClock) -> None:
    crowd = Crowd()
    async with rt.as_completed(crowd, range(20), limit=limit) as finished:
        assert len([pending async for pending in finished]) == 20
    assert crowd.most == limit


async def test_a_limiter_is_shared_and_gets_everything_back() -> None:
    limiter = trio.CapacityLimiter(3)
    async with rt.Session():
        with trio.CancelScope() as scope:
            async with (
                rt.as_completed(forever, range(5), limit=limiter),
                rt.as_completed(forever, range(5), limit=limiter),
            ):
                await wait_all_tasks_blocked()
                borrowers = limiter.statistics().borrowers
                assert [type(borrower) for borrower in borrowers] == [rt.PendingCall] * 3
                scope.cancel()
        assert limiter.borrowed_tokens == 0


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks; each schedule point begins one."""

    def __init__(self) -> None:
        self.taken = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken += 1


@pytest.mark.parametrize("limit", [None, 1000, math.inf])
async def test_the_feeding_passes_a_checkpoint_at_least_every_100_inputs(limit: float | None) -> None:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    counted: Counter[int] = Counter()
    async with rt.as_completed(double, (counted.update([steps.taken]) or 1 for _ in range(1000)), limit=limit) as every:
        assert len([pending async for pending in every]) == 1000
    trio.lowlevel.remove_instrument(steps)
    assert max(counted.values()) <= 100


# What is refused.


def test_without_iterables_it_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"as_completed\(\) needs at least one iterable"):
        rt.as_completed(double)
    with pytest.raises(TypeError, match="not iterable"):
        rt.as_completed(double, 5)  # type: ignore[call-overload]


def test_what_cannot_be_a_node_is_refused() -> None:
    with pytest.raises(rt.NodeCreationError):
        rt.as_completed(int, [1])


@pytest.mark.parametrize(("limit", "error"), [("2", TypeError), (True, TypeError), (0, ValueError)])
def test_a_limit_that_is_none_is_refused(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        rt.as_completed(double, [1], limit=limit)


async def test_without_trio_running_it_says_how_to_start() -> None:
    coroutine: Any = rt.as_completed(double, [1]).__aenter__()

    def outside() -> None:
        with pytest.raises(RuntimeError, match=r"Flow\.invoke.*trio\.run"):
            coroutine.send(None)

    await trio.to_thread.run_sync(outside)


# Parents and sessions.


async def test_the_calls_are_children_of_the_call_that_opened_the_block() -> None:
    async def opener() -> None:
        async with rt.as_completed(double, [1, 2]) as finished:
            await rt.call(taker, finished)

    async def taker(finished: Any) -> None:
        async for _ in finished:
            pass

    async with rt.Session() as session:
        await rt.call(opener)
    parents = sorted((call.node, call.parent_id) for call in session.info.calls if call.parent_id)
    assert parents == [("double", 1), ("double", 1), ("taker", 1)]


async def test_without_a_session_it_opens_one_for_the_whole_block() -> None:
    async def look(_: int) -> str | None:
        return rt.session_id()

    async with rt.as_completed(look, [1, 2]) as finished:
        inside = rt.session_id()
        assert {pending.result() async for pending in finished} == {inside}
    assert inside is not None
    assert rt.session_id() is None


async def test_the_inputs_are_drawn_in_the_session() -> None:
    def inputs() -> Iterator[str | None]:
        yield rt.session_id()

    async def same(seen: str | None) -> bool:
        return seen == rt.session_id()

    async with rt.as_completed(same, inputs()) as finished:
        assert [pending.result() async for pending in finished] == [True]


# A session that drains.


@with_and_without_a_limit
async def test_when_the_session_drains_what_runs_is_handed_out_and_then_the_rest_refused(
    limit: float | None, autojump_clock: MockClock
) -> None:
    def inputs() -> Iterator[int]:
        for number in range(1000):
            if number == 2:
                nursery.start_soon(session.drain, 10)
            yield 1

    handed_out = []
    async with trio.open_nursery() as nursery, rt.Session() as session:
        with pytest.raises(rt.ContextError, match="is draining"):
            async with rt.as_completed(nap, inputs(), limit=limit) as finished:
                async for pending in finished:
                    assert pending.result() == 1
                    handed_out.append(pending)
    assert 2 <= len(handed_out) <= 100
    assert len(session.info.calls) == len(handed_out)
    assert session.status is rt.Status.COMPLETED


@pytest.mark.parametrize("limit", [None, 2])
async def test_a_block_that_has_its_inputs_is_not_touched_by_a_drain(
    limit: float | None, autojump_clock: MockClock
) -> None:
    async with (
        trio.open_nursery() as nursery,
        rt.Session() as session,
        rt.as_completed(nap, [1, 2], limit=limit) as finished,
    ):
        await wait_all_tasks_blocked()
        nursery.start_soon(session.drain, 10)
        assert [pending.result() async for pending in finished] == [1, 2]


@pytest.mark.parametrize("limit", [None, 1])
async def test_a_cancelled_that_a_node_had_kept_is_told_by_its_call_and_ends_no_other(limit: float | None) -> None:
    memo = await node_with_a_kept_cancelled()

    async def some(number: int) -> int:
        return await memo(number) if number == 1 else number

    async with rt.as_completed(some, [1, 2, 3], limit=limit) as finished:
        ended = {pending.args[0]: pending async for pending in finished}
    assert {number: str(pending.status) for number, pending in ended.items()} == {
        1: "cancelled",
        2: "completed",
        3: "completed",
    }
    with pytest.raises(rt.PendingCallError, match="nothing has cancelled it"):
        ended[1].result()
