"""Sync nodes: the threads they run in, how many at once, and what a cancel can and cannot do to them."""

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Never

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks._options import THREAD_LIMIT
from railtracks._sessions.broadcast import BUFFER
from railtracks._workers.threads import worker_limiter

# Far above what any of these waits takes: a test that would hang fails instead.
PATIENCE = 30


class Gate:
    """Holds threads until it is opened, and tells when a number of them have come to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._told: dict[int, Callable[[], object]] = {}
        self.inside = 0
        self.most = 0
        self.passed = 0

    def wait(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._told.get(self.inside, bool)()
        assert self._open.wait(PATIENCE)
        with self._lock:
            self.inside -= 1
            self.passed += 1

    def open(self) -> None:
        self._open.set()

    async def holds(self, count: int) -> None:
        arrived = trio.Event()
        token = trio.lowlevel.current_trio_token()
        with self._lock:
            self._told[count] = lambda: token.run_sync_soon(arrived.set)
            if self.inside >= count:
                return
        with trio.fail_after(PATIENCE):
            await arrived.wait()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


async def test_a_sync_node_runs_in_a_worker_thread_and_trio_goes_on() -> None:
    here = threading.get_ident()
    assert await rt.call(threading.get_ident) != here

    async def is_going_on() -> None:
        turn.set()

    turn = threading.Event()
    async with rt.open_group() as group:
        waiting = group.start_soon(turn.wait, PATIENCE)
        group.start_soon(is_going_on)
    assert waiting.result() is True


async def test_a_sync_node_shares_the_sessions_context() -> None:
    def note() -> str | None:
        rt.context.put("answer", rt.context.get("question") * 2)
        return rt.session_id()

    async with rt.Session({"question": 21}) as session:
        assert await rt.call(note) == session.identifier
        assert rt.context.get("answer") == 42


async def test_a_sync_nodes_error_is_unchanged() -> None:
    error = ValueError("from a thread")

    def fail() -> None:
        raise error

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="from a thread") as caught:
            await rt.call(fail)
    assert caught.value is error
    assert error.__context__ is None
    assert session.info.calls[0].status is rt.Status.FAILED


# How many.


async def test_at_most_forty_sync_nodes_run_at_once(gate: Gate) -> None:
    async with rt.open_group() as group:
        for _ in range(3 * THREAD_LIMIT):
            group.start_soon(gate.wait)
        await gate.holds(THREAD_LIMIT)
        await wait_all_tasks_blocked()
        gate.open()
    assert THREAD_LIMIT == 40
    assert gate.most == 40
    assert gate.passed == 120


async def test_sync_nodes_and_the_users_own_threads_do_not_starve_each_other(gate: Gate) -> None:
    async with trio.open_nursery() as nursery, rt.open_group() as group:
        for _ in range(THREAD_LIMIT):
            group.start_soon(gate.wait)
        await gate.holds(THREAD_LIMIT)
        with trio.fail_after(PATIENCE):
            await trio.to_thread.run_sync(threading.get_ident)
        for _ in range(THREAD_LIMIT):
            nursery.start_soon(trio.to_thread.run_sync, gate.wait)
        gate.open()


async def test_sync_nodes_that_fill_every_slot_and_then_call_each_other_do_not_deadlock(gate: Gate) -> None:
    def leaf(number: int) -> int:
        return number

    def branch(number: int) -> int:
        gate.wait()
        return trio.from_thread.run(rt.call, leaf, number) + trio.from_thread.run(rt.call, leaf, 1)

    async def open_when_full() -> None:
        await gate.holds(THREAD_LIMIT)
        gate.open()

    with trio.fail_after(PATIENCE):
        async with rt.Session(), trio.open_nursery() as nursery:
            nursery.start_soon(open_when_full)
            assert await rt.call_batch(branch, range(60)) == list(range(1, 61))
    assert gate.most == THREAD_LIMIT


async def test_a_chain_of_sixty_sync_nodes_does_not_deadlock() -> None:
    def chain(rest: int) -> int:
        return rest and 1 + trio.from_thread.run(rt.call, chain, rest - 1)

    with trio.fail_after(PATIENCE):
        async with rt.Session() as session:
            assert await rt.call(chain, 60) == 60
    assert all(call.parent_id == call.id - 1 for call in session.info.calls[1:])


async def test_a_thread_goes_on_only_with_its_slot_even_when_its_call_failed_or_was_cancelled(gate: Gate) -> None:
    running = most = 0
    lock = threading.Lock()

    async def fail() -> None:
        raise ValueError("expected")

    def busy() -> None:
        nonlocal running, most
        with pytest.raises(ValueError, match="expected"):
            trio.from_thread.run(rt.call, fail)
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()
        with lock:
            running -= 1

    async with rt.open_group() as group:
        for _ in range(60):
            group.start_soon(busy)
        await gate.holds(THREAD_LIMIT)
        await wait_all_tasks_blocked()
        gate.open()
    assert most == THREAD_LIMIT


async def test_a_batch_from_a_thread_lends_its_slot_once_and_takes_it_back() -> None:
    def leaf(number: int) -> int:
        return number

    def branch(start: int) -> list[int | Exception]:
        return trio.from_thread.run(rt.call_batch, leaf, range(start, start + 3))

    with trio.fail_after(PATIENCE):
        results = await rt.call_batch(branch, range(60))
    assert results == [[start, start + 1, start + 2] for start in range(60)]


async def test_the_slot_is_lent_again_while_its_return_is_awaited(gate: Gate) -> None:
    first_is_over, slot_is_wanted, in_thread = trio.Event(), trio.Event(), trio.Event()

    async def quick() -> None:
        pass

    async def late() -> None:
        await first_is_over.wait()

    async def two_calls() -> None:
        in_thread.set()
        await slot_is_wanted.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, quick)
            # It has ended, and waits for the slot, which another node took meanwhile.
            await gate.holds(THREAD_LIMIT)
            await wait_all_tasks_blocked()
            nursery.start_soon(rt.call, late)
            await wait_all_tasks_blocked()
            gate.open()
            for pending in others:
                await pending.wait()
            await wait_all_tasks_blocked()
            assert worker_limiter().borrowed_tokens == 0
            first_is_over.set()

    def branch() -> str:
        trio.from_thread.run(two_calls)
        return "done"

    async with rt.open_group() as group:
        pending = group.start_soon(branch)
        await in_thread.wait()
        others = [group.start_soon(gate.wait) for _ in range(THREAD_LIMIT)]
        slot_is_wanted.set()
    assert pending.result() == "done"
    assert gate.most == THREAD_LIMIT


async def test_waiting_for_a_worker_counts_for_the_nodes_timeout(gate: Gate, mock_clock: MockClock) -> None:
    ran = []

    @rt.function_node(timeout=3)
    def late() -> None:
        ran.append(1)

    async with rt.Session() as session, rt.open_group() as group:
        for _ in range(THREAD_LIMIT):
            group.start_soon(gate.wait)
        await gate.holds(THREAD_LIMIT)
        group.start_soon(expect_timeout, late)
        await wait_all_tasks_blocked()
        mock_clock.jump(3)
        await wait_all_tasks_blocked()
        gate.open()
    assert ran == []
    assert {call.node: call.status for call in session.info.calls}["late"] is rt.Status.FAILED


async def expect_timeout(node: rt.Node[[], None]) -> None:
    with pytest.raises(rt.NodeTimeoutError):
        await rt.call(node)


async def test_a_session_is_saved_though_threads_of_another_hold_every_slot(gate: Gate) -> None:
    node = rt.function_node(gate.wait, abandon_on_cancel=True)

    async def hold_every_slot() -> None:
        async with rt.Session(save_state=False), rt.open_group() as group:
            for _ in range(THREAD_LIMIT):
                group.start_soon(node)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_every_slot)
        await gate.holds(THREAD_LIMIT)
        with trio.fail_after(PATIENCE):
            async with rt.Session() as session:
                pass
        assert rt.load_state(session.state_path).status == "completed"
        assert gate.inside == THREAD_LIMIT
        gate.open()


async def test_a_payload_and_the_failure_of_its_callback_need_no_slot_of_sync_nodes(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    rt.set_config(thread_limit=1)

    async def refuse(payload: dict[str, object]) -> None:
        raise ValueError(payload["status"])

    async with rt.Session(save_state=False), rt.open_group() as group:
        group.start_soon(gate.wait)
        await gate.holds(1)
        try:
            with trio.fail_after(PATIENCE):
                async with rt.Session(save_state=False, payload_callback=refuse):
                    pass
            assert gate.inside == 1
            assert ["completed" in text for text in caplog.messages if "payload_callback failed" in text] == [True]
        finally:
            gate.open()


async def test_a_call_that_ends_beside_another_of_its_thread_does_not_wait_for_the_slot(gate: Gate) -> None:
    rt.set_config(thread_limit=1)
    are_over = trio.Event()

    async def two_calls() -> int:
        async with rt.open_group() as group:
            group.start_soon(are_over.wait)
            await gate.holds(1)
            quick = group.start_soon(trio.lowlevel.checkpoint)
            await wait_all_tasks_blocked()
            status = quick.status
            gate.open()
            are_over.set()
        assert status is rt.Status.COMPLETED
        return 3

    async with rt.open_group() as group:
        calling = group.start_soon(in_one_go(two_calls))
        await wait_all_tasks_blocked()
        group.start_soon(gate.wait)
    assert calling.result() == 3


async def test_two_calls_of_one_thread_may_both_wait_for_its_slot(gate: Gate) -> None:
    rt.set_config(thread_limit=1)

    is_taken = trio.Event()

    async def one_after_the_other() -> int:
        async with rt.open_group() as group:
            group.start_soon(is_taken.wait)
            await gate.holds(1)
            is_taken.set()
            # Each call has ended by then, and waits for the slot, which another node has.
            await wait_all_tasks_blocked()
            group.start_soon(trio.lowlevel.checkpoint)
            await wait_all_tasks_blocked()
            gate.open()
        return 3

    async with rt.open_group() as group:
        calling = group.start_soon(in_one_go(one_after_the_other))
        await wait_all_tasks_blocked()
        group.start_soon(gate.wait)
    assert calling.result() == 3


# Cancelling.


async def test_a_cancelled_sync_node_is_awaited_its_result_recorded_and_the_cancel_goes_on(gate: Gate) -> None:
    went_on = []

    def work() -> str:
        gate.wait()
        return "came back"

    async def caller() -> None:
        await rt.call(work)
        went_on.append(1)

    async with rt.Session() as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await gate.holds(1)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
            assert session.info.calls[0].status is rt.Status.RUNNING
            gate.open()
        assert gate.passed == 1
        assert went_on == []
    (call,) = session.info.calls
    assert (call.status, call.result) == (rt.Status.COMPLETED, "came back")


async def test_a_sync_node_that_asks_is_cancelled(gate: Gate) -> None:
    def asking() -> None:
        gate.wait()
        trio.from_thread.check_cancelled()

    async with rt.Session() as session, trio.open_nursery() as nursery:
        nursery.start_soon(rt.call, asking)
        await gate.holds(1)
        nursery.cancel_scope.cancel()
        gate.open()
    assert session.info.calls[0].status is rt.Status.CANCELLED


async def test_the_node_that_keeps_an_ending_session_waiting_is_named_in_a_warning(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    node = rt.function_node(gate.wait, name="stubborn")
    async with trio.open_nursery() as nursery, rt.Session() as session:
        session.start_soon(node)
        await gate.holds(1)

        async def open_when_named() -> None:
            await wait_all_tasks_blocked()
            assert ["stubborn" in text for text in caplog.messages] == [True]
            gate.open()

        nursery.start_soon(open_when_named)
        session.cancel()
    assert session.status is rt.Status.CANCELLED
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_abandon_on_cancel_leaves_the_thread_behind_and_logs_it_by_name(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    node = rt.function_node(gate.wait, name="stubborn", abandon_on_cancel=True)
    async with rt.Session() as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, node)
            await gate.holds(1)
            nursery.cancel_scope.cancel()
        assert gate.inside == 1
    assert session.info.calls[0].status is rt.Status.CANCELLED
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "stubborn" in record.getMessage()
    assert record.session_id == session.identifier  # type: ignore[attr-defined]
    gate.open()


async def test_a_thread_left_behind_counts_against_the_limit_until_it_ends(gate: Gate) -> None:
    node = rt.function_node(gate.wait, abandon_on_cancel=True)
    async with rt.Session():
        async with trio.open_nursery() as nursery:
            for _ in range(THREAD_LIMIT):
                nursery.start_soon(rt.call, node)
            await gate.holds(THREAD_LIMIT)
            nursery.cancel_scope.cancel()
        with trio.move_on_after(0.05) as scope:  # Real time: the slots are taken by threads, nothing else can happen.
            await rt.call(threading.get_ident)
        assert scope.cancelled_caught
        gate.open()
        with trio.fail_after(PATIENCE):
            await rt.call(threading.get_ident)


async def test_a_thread_that_never_ran_is_not_left_behind(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    node = rt.function_node(threading.get_ident, name="late", abandon_on_cancel=True)
    async with rt.Session() as session, rt.open_group() as group:
        for _ in range(THREAD_LIMIT):
            group.start_soon(gate.wait)
        await gate.holds(THREAD_LIMIT)
        late = group.start_soon(node)
        await wait_all_tasks_blocked()
        late.cancel()
        await late.wait()
        gate.open()
    assert {call.node: call.status for call in session.info.calls}["late"] is rt.Status.CANCELLED
    assert caplog.records == []


async def test_an_abandonable_node_gives_result_and_error_like_any_other() -> None:
    def divide(first: int, second: int) -> float:
        return first / second

    node = rt.function_node(divide, abandon_on_cancel=True)
    async with rt.Session() as session:
        assert await rt.call(node, 4, second=2) == 2
        with pytest.raises(ZeroDivisionError):
            await rt.call(node, 4, 0)
    assert [call.status for call in session.info.calls] == [rt.Status.COMPLETED, rt.Status.FAILED]


async def test_an_abandonable_node_cannot_make_calls() -> None:
    def calling() -> None:
        trio.from_thread.run(rt.call, threading.get_ident)

    with pytest.raises(rt.ContextError, match="abandon_on_cancel"):
        await rt.call(rt.function_node(calling, abandon_on_cancel=True))


async def test_the_thread_limit_can_be_set_for_the_process_also_while_it_runs() -> None:
    seen: list[int] = []
    running = 0

    def work() -> None:
        nonlocal running
        running += 1
        seen.append(running)
        trio.from_thread.run(trio.sleep, 0.001)
        running -= 1

    for limit in (2, 1):
        rt.set_config(thread_limit=limit)
        async with rt.open_group() as group:
            for _ in range(6):
                group.start_soon(work)
        assert max(seen) == limit
        seen.clear()


async def test_with_one_thread_only_sync_nodes_that_call_each_other_do_not_deadlock() -> None:
    rt.set_config(thread_limit=1)

    def count(levels: int) -> int:
        return 1 + trio.from_thread.run(rt.call, count, levels - 1) if levels else 0

    assert await rt.call_batch(count, [5, 6, 7]) == [5, 6, 7]


# What a sync node may wait for in Trio, each in need of a thread itself.


def leaf(number: int = 3) -> int:
    return number


LEAF = rt.Flow("leaf", leaf)


def starts(*, task_status: trio.TaskStatus[int]) -> None:
    trio.from_thread.run_sync(task_status.started, 3)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[int]:
    yield await LEAF.ainvoke()


@contextlib.asynccontextmanager
async def closes() -> AsyncIterator[int]:
    yield 3
    await LEAF.ainvoke()


def of_a_pending_call() -> int:
    pending = trio.from_thread.run_sync(rt.current_session().start_soon, leaf)
    trio.from_thread.run(pending.wait)
    return pending.result()


def of_a_service() -> int:
    pending = trio.from_thread.run_sync(rt.current_session().start_service, leaf)
    trio.from_thread.run(pending.wait)
    return pending.result()


def of_a_start() -> int:
    return trio.from_thread.run(rt.current_session().start, starts)


def of_a_resource() -> int:
    return trio.from_thread.run(rt.current_session().enter_async_context, opened())


def of_a_shared_resource() -> int:
    return trio.from_thread.run(rt.current_session().shared_resource, "client", opened)


def of_a_flow() -> int:
    return LEAF.invoke()


def in_one_go(wait: Callable[[], Coroutine[object, Never, int]]) -> Callable[[], int]:
    def run() -> int:
        return trio.from_thread.run(wait)

    run.__name__ = wait.__name__
    return run


async def of_a_session() -> int:
    async with rt.Session() as session:
        pending = session.start_soon(leaf)
        await session.enter_async_context(closes())
    return pending.result()


async def of_a_payload_callback() -> int:
    results: list[int] = []
    async with rt.Session(payload_callback=lambda _: results.append(LEAF.invoke())):
        pass
    return sum(results)


async def of_a_group() -> int:
    async with rt.open_group() as group:
        pending = group.start_soon(leaf)
    return pending.result()


async def of_a_call_that_has_ended() -> int:
    async with rt.as_completed(leaf, [3], limit=1) as finished:
        (result,) = [pending.result() async for pending in finished]
    return result


@pytest.mark.parametrize(
    "run",
    [
        of_a_pending_call,
        of_a_service,
        of_a_start,
        of_a_resource,
        of_a_shared_resource,
        of_a_flow,
        in_one_go(of_a_session),
        in_one_go(of_a_payload_callback),
        in_one_go(of_a_group),
        in_one_go(of_a_call_that_has_ended),
    ],
)
async def test_sync_nodes_that_hold_every_thread_may_wait_for_what_needs_one(run: Callable[[], int]) -> None:
    # A cleanup that waits for a thread ends when its timeout cancels it: that would be later than the test waits.
    rt.set_config(thread_limit=2, cleanup_timeout=2 * PATIENCE)
    with trio.fail_after(PATIENCE):
        async with rt.Session():
            assert await rt.call_batch(rt.function_node(lambda _: run(), name=run.__name__), range(3)) == [3, 3, 3]


async def test_a_sync_node_that_drains_a_session_around_its_own_lends_its_thread_to_the_calls_of_that() -> None:
    rt.set_config(thread_limit=1)

    async with rt.Session() as outer, rt.Session():

        async def drain() -> rt.PendingCall[int]:
            # A call of the other session: it does not lend the slot of this thread.
            pending = outer.start_soon(leaf)
            await outer.drain(PATIENCE)
            return pending

        def drain_here() -> rt.PendingCall[int]:
            return trio.from_thread.run(drain)

        assert (await rt.call(drain_here)).result() == 3
    assert outer.status is rt.Status.COMPLETED


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_sync_node_that_fills_the_buffer_of_broadcasts_lends_its_thread_to_the_callback(
    *, is_async: bool
) -> None:
    rt.set_config(thread_limit=1)
    got: list[int] = []

    async def heard(item: int) -> None:
        got.append(await LEAF.ainvoke(item))

    def heard_in_a_thread(item: int) -> None:
        got.append(LEAF.invoke(item))

    def produce() -> None:
        for number in range(2 * BUFFER + 50):
            trio.from_thread.run(rt.broadcast, number)

    with trio.fail_after(PATIENCE):
        async with rt.Session(broadcast_callback=heard if is_async else heard_in_a_thread):
            await rt.call(produce)
    assert got == list(range(2 * BUFFER + 50))


async def test_a_sync_node_keeps_its_thread_while_there_is_room_for_its_broadcasts() -> None:
    rt.set_config(thread_limit=1)
    log: list[str] = []

    def tell() -> None:
        for number in range(BUFFER // 2):
            trio.from_thread.run(rt.broadcast, number)
        log.append("told")

    async with rt.Session(broadcast_callback=lambda _: None), rt.open_group() as group:
        group.start_soon(tell)
        await wait_all_tasks_blocked()
        group.start_soon(log.append, "another")
    assert log == ["told", "another"]
