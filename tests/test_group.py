"""Groups: calls of different nodes side by side; and the pending call."""

from typing import Any, cast

import pytest
import trio
from kept_cancels import node_with_a_kept_cancelled
from plain_nodes import Crowd, double, forever, nap, statuses
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

import railtracks as rt

# Calls side by side.


async def test_a_group_runs_different_nodes_side_by_side(autojump_clock: MockClock) -> None:
    async with rt.open_group() as group:
        slow = group.start_soon(nap, 2)
        quick = group.start_soon(nap, seconds=1)
        plain = group.start_soon(lambda: "from a thread")
    assert (slow.result(), quick.result(), plain.result()) == (2, 1, "from a thread")
    assert trio.current_time() == 2


async def test_a_groups_failing_call_cancels_the_rest_and_the_block(autojump_clock: MockClock) -> None:
    unwound = []

    async def fail() -> None:
        await trio.sleep(1)
        raise ValueError("first")

    async def block() -> None:
        async with rt.open_group() as group:
            group.start_soon(fail)
            pending.append(group.start_soon(forever))
            try:
                await trio.sleep_forever()
            finally:
                unwound.append("block")

    pending: list[rt.PendingCall[None]] = []
    async with rt.Session() as session:
        with pytest.raises(ValueError, match="first"):
            await block()
        assert pending[0].status is rt.Status.CANCELLED
        assert unwound == ["block"]
    assert statuses(session) == ["cancelled", "failed"]


async def test_a_group_that_keeps_errors_hands_them_out_and_cancels_nothing(autojump_clock: MockClock) -> None:
    @rt.function_node
    async def fail() -> None:
        raise ValueError("no luck")

    async with rt.Session() as session:
        async with rt.open_group(return_exceptions=True) as group:
            failing, napping = group.start_soon(fail), group.start_soon(nap, 2)
        with pytest.raises(ValueError, match="no luck"):
            failing.result()
        assert napping.result() == 2
    assert sorted(statuses(session)) == ["completed", "failed"]


async def test_a_fatal_error_ends_the_session_also_in_a_group_that_keeps_errors() -> None:
    @rt.function_node
    async def fail() -> None:
        raise rt.FatalError("stop")

    with pytest.raises(rt.FatalError, match="stop"):
        async with rt.Session() as session, rt.open_group(return_exceptions=True) as group:
            group.start_soon(fail)
            group.start_soon(forever)
    assert session.status == "failed"


def test_whether_a_group_keeps_errors_is_yes_or_no() -> None:
    with pytest.raises(TypeError, match="return_exceptions"):
        rt.open_group(return_exceptions=cast("bool", "yes"))


async def test_an_error_of_the_block_cancels_the_calls_and_is_raised_bare() -> None:
    error = ValueError("of the block")

    async def block() -> None:
        async with rt.open_group() as group:
            pending.append(group.start_soon(forever))
            await wait_all_tasks_blocked()
            raise error

    pending: list[rt.PendingCall[None]] = []
    with pytest.raises(ValueError, match="of the block") as caught:
        await block()
    assert caught.value is error
    assert error.__context__ is None
    assert pending[0].status is rt.Status.CANCELLED


async def test_a_closed_group_takes_no_calls() -> None:
    async with rt.Session():
        async with rt.open_group() as group:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            group.start_soon(double, 1)


async def test_a_group_refuses_at_once_what_cannot_be_a_node() -> None:
    async with rt.open_group() as group:
        with pytest.raises(rt.NodeCreationError):
            group.start_soon(int, 1)


async def test_a_groups_cancel_scope_ends_its_calls_and_no_more(autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        async with rt.open_group() as group:
            pending = group.start_soon(forever)
            await wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert pending.status is rt.Status.CANCELLED
        assert await rt.call(double, 1) == 2
    assert session.status is rt.Status.COMPLETED


# Parents and sessions.


async def test_the_calls_of_a_group_are_children_of_the_call_they_are_made_in() -> None:
    async def fan_out() -> None:
        async with rt.open_group() as group:
            group.start_soon(double, 1)
            group.start_soon(double, 2)

    async with rt.Session() as session:
        await rt.call(fan_out)
    assert [call.parent_id for call in session.info.calls] == [None, 1, 1]


async def test_a_group_handed_down_makes_calls_of_the_call_that_opened_it() -> None:
    async def borrower(group: rt.CallGroup) -> None:
        group.start_soon(double, 1)

    async def opener() -> None:
        async with rt.open_group() as group:
            await rt.call(borrower, group)

    async with rt.Session() as session:
        await rt.call(opener)
    assert [(call.node, call.parent_id) for call in session.info.calls] == [
        ("opener", None),
        ("borrower", 1),
        ("double", 1),
    ]


async def test_a_group_without_a_session_opens_one_for_its_block() -> None:
    async def look() -> str | None:
        return rt.session_id()

    async with rt.open_group() as group:
        inside = rt.session_id()
        pending = group.start_soon(look)
        assert await rt.call(look) == inside
    assert pending.result() == inside
    assert inside is not None
    assert rt.session_id() is None


async def test_without_trio_running_a_group_says_how_to_start() -> None:
    coroutine: Any = rt.open_group().__aenter__()

    def outside() -> None:
        with pytest.raises(RuntimeError, match=r"Flow\.invoke.*trio\.run"):
            coroutine.send(None)

    await trio.to_thread.run_sync(outside)


async def test_entering_a_group_is_no_checkpoint() -> None:
    async with rt.Session():
        group = rt.open_group()
        with assert_no_checkpoints():
            await group.__aenter__()
        await group.__aexit__(None, None, None)


# The limit.


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_at_most_as_many_calls_of_a_group_as_its_limit_run_at_once(limit: int, autojump_clock: MockClock) -> None:
    crowd = Crowd()
    async with rt.open_group(limit=limit) as group:
        for number in range(20):
            group.start_soon(crowd, number)
    assert crowd.most == limit


async def test_a_call_of_a_group_that_waits_for_room_has_no_record_yet(autojump_clock: MockClock) -> None:
    async with rt.Session() as session, rt.open_group(limit=1) as group:
        pending = [group.start_soon(nap, 2) for _ in range(2)]
        await trio.sleep(1)
        assert [call.status for call in pending] == ["running", "running"]
        assert len(session.info.calls) == 1
        await trio.sleep(2)
        assert sorted(call.status for call in pending) == ["completed", "running"]
        assert len(session.info.calls) == 2


@pytest.mark.parametrize("by", ["pending call", "scope of the group", "scope outside"])
async def test_a_call_of_a_group_that_is_cancelled_while_it_waits_for_room_never_has_a_record(by: str) -> None:
    limiter = trio.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("somebody else")
    async with rt.Session() as session:
        with trio.CancelScope() as scope:
            async with rt.open_group(limit=limiter) as group:
                pending = group.start_soon(double, 1)
                await wait_all_tasks_blocked()
                if by == "pending call":
                    pending.cancel("not needed")
                elif by == "scope of the group":
                    group.cancel_scope.cancel()
                else:
                    scope.cancel()
        assert pending.status is rt.Status.CANCELLED
        with pytest.raises(rt.PendingCallError) as caught:
            pending.result()
        assert caught.value.reason == ("not needed" if by == "pending call" else None)
    assert session.info.calls == ()
    assert limiter.borrowed_tokens == 1


async def test_a_groups_limiter_is_shared_and_the_pending_call_is_its_borrower() -> None:
    limiter = trio.CapacityLimiter(3)
    async with rt.open_group(limit=limiter) as one, rt.open_group(limit=limiter) as other:
        pending = [group.start_soon(forever) for group in (one, other) for _ in range(3)]
        await wait_all_tasks_blocked()
        borrowers = limiter.statistics().borrowers
        assert len(borrowers) == 3
        assert set(borrowers) < set(pending)
        for call in pending:
            call.cancel()
    assert limiter.borrowed_tokens == 0


async def test_a_groups_limiter_gets_everything_back_when_a_call_fails() -> None:
    limiter = trio.CapacityLimiter(2)

    async def fail_at(moment: trio.Event) -> None:
        await moment.wait()
        raise ValueError("first")

    async def block() -> None:
        async with rt.open_group(limit=limiter) as group:
            moment = trio.Event()
            group.start_soon(fail_at, moment)
            await wait_all_tasks_blocked()
            group.start_soon(forever)
            group.start_soon(forever)
            await wait_all_tasks_blocked()
            moment.set()

    with pytest.raises(ValueError, match="first"):
        await block()
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("limit", ["2", True, 2.5])
def test_a_group_with_a_limit_that_is_no_whole_number_and_no_limiter_is_a_type_error(limit: Any) -> None:
    with pytest.raises(TypeError):
        rt.open_group(limit=limit)


def test_a_group_with_a_limit_below_one_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="limit"):
        rt.open_group(limit=0)


# A session that drains.


async def test_a_group_takes_no_top_level_call_of_a_session_that_drains_and_those_that_wait_for_room_go_on(
    autojump_clock: MockClock,
) -> None:
    async def drain() -> None:
        await session.drain(10)
        assert trio.current_time() == 3
        assert [call.result() for call in pending] == [1, 2]

    async with trio.open_nursery() as nursery, rt.Session() as session, rt.open_group(limit=1) as group:
        pending = [group.start_soon(nap, seconds) for seconds in (1, 2)]
        await wait_all_tasks_blocked()
        nursery.start_soon(drain)
        await wait_all_tasks_blocked()
        with pytest.raises(rt.ContextError, match="is draining"):
            group.start_soon(nap, 3)
    assert session.status is rt.Status.COMPLETED


async def test_a_group_below_a_call_takes_calls_while_the_session_drains(autojump_clock: MockClock) -> None:
    async def node() -> float:
        await trio.sleep(1)
        async with rt.open_group() as group:
            pending = group.start_soon(nap, 1)
        return pending.result()

    async with rt.Session() as session:
        pending = session.start_soon(node)
        await wait_all_tasks_blocked()
        await session.drain(10)
        assert pending.result() == 1


# A pending call.


async def test_a_pending_calls_status_and_result_while_it_runs_and_afterwards() -> None:
    release = trio.Event()

    async def work() -> str:
        await release.wait()
        return "done"

    async with rt.open_group() as group:
        pending = group.start_soon(work)
        assert pending.status is rt.Status.RUNNING
        assert repr(pending) == "<railtracks.PendingCall of 'work': running>"
        with pytest.raises(rt.PendingCallError, match="still running") as caught:
            pending.result()
        assert (caught.value.node, caught.value.status, caught.value.reason) == ("work", "running", None)
        release.set()
        await pending.wait()
        assert pending.status is rt.Status.COMPLETED
        assert pending.result() == pending.result() == "done"


async def test_a_failed_pending_call_raises_the_calls_own_error() -> None:
    error = ValueError("mine")

    async def fail() -> None:
        raise error

    async def block() -> None:
        async with rt.open_group() as group:
            pending.append(group.start_soon(fail))

    pending: list[rt.PendingCall[None]] = []
    with pytest.raises(ValueError, match="mine"):
        await block()
    assert pending[0].status is rt.Status.FAILED
    for _ in range(2):
        with pytest.raises(ValueError, match="mine") as caught:
            pending[0].result()
        assert caught.value is error


async def test_cancelling_a_pending_call_cancels_nothing_else(autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        async with rt.open_group() as group:
            one, other = group.start_soon(forever), group.start_soon(nap, 1)
            await wait_all_tasks_blocked()
            one.cancel("not needed")
            one.cancel("the first reason counts")
            await one.wait()
            assert one.status is rt.Status.CANCELLED
        assert other.result() == 1
        with pytest.raises(rt.PendingCallError, match="cancelled: not needed") as caught:
            one.result()
        assert (caught.value.status, caught.value.reason) == ("cancelled", "not needed")
    assert session.status is rt.Status.COMPLETED
    assert statuses(session) == ["cancelled", "completed"]


async def test_a_pending_call_that_is_cancelled_before_it_starts_does_not_run() -> None:
    ran = []

    async def work() -> None:
        ran.append(1)

    async with rt.Session() as session, rt.open_group() as group:
        pending = group.start_soon(work)
        pending.cancel()
    with pytest.raises(rt.PendingCallError, match=r"was cancelled$"):
        pending.result()
    assert ran == []
    assert statuses(session) == ["cancelled"]


async def test_cancelling_a_pending_call_that_has_ended_does_nothing() -> None:
    async with rt.open_group() as group:
        pending = group.start_soon(double, 1)
        await pending.wait()
        pending.cancel("too late")
    assert pending.result() == 2
    assert pending.status is rt.Status.COMPLETED


async def test_a_pending_call_that_answers_its_cancel_with_a_result_or_an_error_has_it() -> None:
    async def answer() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "all the same"

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    async def block(node: Any) -> None:
        async with rt.open_group() as group:
            pending.append(group.start_soon(node))
            await wait_all_tasks_blocked()
            pending[-1].cancel()

    pending: list[rt.PendingCall[Any]] = []
    await block(answer)
    assert pending[0].result() == "all the same"
    with pytest.raises(ValueError, match="in cleanup"):
        await block(fail)
    with pytest.raises(ValueError, match="in cleanup"):
        pending[1].result()


async def test_an_error_beside_the_cancel_of_a_pending_call_is_bare() -> None:
    error = ValueError("in cleanup")

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def node() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    async def block() -> None:
        async with rt.open_group() as group:
            pending = group.start_soon(node)
            await wait_all_tasks_blocked()
            pending.cancel()

    with pytest.raises(ValueError, match="in cleanup") as caught:
        await block()
    assert caught.value is error


async def test_waiting_for_a_pending_call_raises_nothing_of_its_own_and_is_a_checkpoint() -> None:
    async def fail() -> None:
        raise ValueError("mine")

    async def block() -> None:
        async with rt.open_group() as group:
            pending = group.start_soon(fail)
            with trio.CancelScope(shield=True):
                await pending.wait()
                assert pending.status is rt.Status.FAILED
                with assert_checkpoints():
                    await pending.wait()
            waited.append(1)

    waited: list[int] = []
    with pytest.raises(ValueError, match="mine"):
        await block()
    assert waited == [1]


async def test_any_number_of_tasks_can_wait_for_a_pending_call(autojump_clock: MockClock) -> None:
    woken = []

    async def wait(pending: rt.PendingCall[float]) -> None:
        await pending.wait()
        woken.append((pending.result(), trio.current_time()))

    async with trio.open_nursery() as nursery, rt.open_group() as group:
        pending = group.start_soon(nap, 2)
        for _ in range(3):
            nursery.start_soon(wait, pending)
    assert woken == [(2, 2)] * 3


async def test_a_pending_call_tells_its_arguments() -> None:
    async with rt.open_group() as group:
        pending = group.start_soon(nap, seconds=0)
        other = group.start_soon(double, 1)
        assert (pending.args, dict(pending.kwargs)) == ((), {"seconds": 0})
    assert (other.args, dict(other.kwargs)) == ((1,), {})


# Why a pending call was cancelled.


async def fail(outcome: str = "at once") -> None:
    await wait_all_tasks_blocked()
    raise ValueError(outcome)


def reason_of(pending: rt.PendingCall[Any]) -> str | None:
    with pytest.raises(rt.PendingCallError, match="was cancelled") as caught:
        pending.result()
    return caught.value.reason


async def test_a_pending_call_says_which_call_beside_it_failed() -> None:
    async def block() -> None:
        async with rt.open_group() as group:
            pending.append(group.start_soon(forever))
            group.start_soon(fail)

    pending: list[rt.PendingCall[None]] = []
    with pytest.raises(ValueError, match="at once"):
        await block()
    assert reason_of(pending[0]) == "the call of 'fail' beside it failed"


async def test_a_pending_call_says_that_the_block_around_it_failed() -> None:
    async def block() -> None:
        async with rt.open_group() as group:
            pending.append(group.start_soon(forever))
            await fail()

    pending: list[rt.PendingCall[None]] = []
    with pytest.raises(ValueError, match="at once"):
        await block()
    assert reason_of(pending[0]) == "the block around it failed"


async def test_a_reason_that_was_given_goes_before_the_failure_of_a_call_beside_it() -> None:
    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await release.wait()

    async def block() -> None:
        async with rt.open_group() as group:
            pending.extend(group.start_soon(slow) for _ in range(2))
            await wait_all_tasks_blocked()
            pending[0].cancel("not needed")
            pending[1].cancel()
            group.start_soon(fail)
            try:
                await trio.sleep_forever()
            finally:
                release.set()

    release = trio.Event()
    pending: list[rt.PendingCall[None]] = []
    with pytest.raises(ValueError, match="at once"):
        await block()
    assert [reason_of(call) for call in pending] == ["not needed", None]


async def test_a_pending_call_gives_no_reason_for_a_cancel_from_outside() -> None:
    async def fail_in_cleanup() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()

    async def block() -> None:
        with trio.CancelScope() as scope:
            async with rt.open_group() as group:
                pending.append(group.start_soon(slow))
                group.start_soon(fail_in_cleanup)
                await wait_all_tasks_blocked()
                scope.cancel()

    pending: list[rt.PendingCall[None]] = []
    with pytest.raises(ValueError, match="in cleanup"):
        await block()
    assert reason_of(pending[0]) is None


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("return_exceptions", [True, False])
async def test_a_cancelled_that_a_node_had_kept_does_not_end_a_group_in_silence(
    return_exceptions: bool, limit: float | None
) -> None:
    memo = await node_with_a_kept_cancelled()
    with pytest.raises(rt.PendingCallError, match="'memo' was cancelled: nothing has cancelled it"):
        async with rt.open_group(limit=limit, return_exceptions=return_exceptions) as group:
            pending = group.start_soon(memo, 1)
            other = group.start_soon(trio.sleep_forever)
    assert (pending.status, other.status) == ("cancelled", "cancelled")
    with pytest.raises(rt.PendingCallError, match="had kept"):
        pending.result()
    with pytest.raises(rt.PendingCallError, match="the call of 'memo' beside it failed"):
        other.result()
