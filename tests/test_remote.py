"""Sessions in executors: sent, awaited, cancelled, recorded below the call that has sent them."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import remote_flows as flows
import trio
from remote_sessions import folder_fixture, session  # noqa: F401 - a fixture
from telling import Telling

import railtracks as rt
from railtracks._records.past import PastNode
from railtracks._records.remote_calls import RemoteCalls, RemoteEnd
from railtracks._records.tree import CallTree
from railtracks.remote._worker import Job, Reply, cancel_jobs, run_job


class Carrying(Executor):
    """An executor that pickles as one of other processes does, and runs in this one: quick to begin."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        sent = pickle.dumps((fn, args, kwargs))

        def work() -> object:
            fn, args, kwargs = pickle.loads(sent)  # noqa: S301 - made in the line above
            return pickle.loads(pickle.dumps(fn(*args, **kwargs)))  # noqa: S301 - the same

        return self._pool.submit(work)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture(params=["threads", "carrying"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with ThreadPoolExecutor(2) if request.param == "threads" else Carrying() as made:
        yield made


async def test_a_sent_session_is_a_call_with_the_calls_of_that_session_below(pool: Executor) -> None:
    async with session() as here:
        pending = await rt.submit(pool, flows.total_flow.bind(3))
        await pending.wait()
        assert pending.result() == 3
        assert pending.args == (3,)
    (root,) = here.info.roots
    assert (root.node, root.status, root.args, root.result) == ("flow total", "completed", (3,), 3)
    (entry,) = here.info.children(root.id)
    steps = here.info.children(entry.id)
    assert entry.node == "total"
    assert sorted(each.args for each in steps) == [(0,), (1,), (2,)]
    assert [each.result for each in steps] == [each.args[0] for each in steps]
    assert root.remote is not None
    assert root.remote.missing == 0
    for each in (entry, *steps):
        assert each.remote is not None
        assert (each.remote.session_id, each.remote.worker) == (root.remote.session_id, root.remote.worker)
        assert each.remote.call_id is not None
        parent = here.info.calls[(each.parent_id or 0) - 1]
        assert each.ended_at is not None
        assert parent.ended_at is not None
        assert parent.started_at <= each.started_at <= each.ended_at <= parent.ended_at


async def test_the_error_of_a_sent_session_comes_back_as_its_class(pool: Executor) -> None:
    with pytest.raises(ValueError, match="no Ada"):
        async with session() as here:
            pending = await rt.submit(pool, flows.refused_flow.bind("Ada"))
            await pending.wait()
    assert [(each.node, each.status) for each in here.info.calls] == [
        ("flow refused", "failed"),
        ("refused", "failed"),
        ("refuse", "failed"),
    ]
    with pytest.raises(ValueError, match="no Ada"):
        pending.result()


async def test_map_flow_hands_out_each_session_once_and_a_failure_cancels_nothing(pool: Executor) -> None:
    async with session(), rt.map_flow(pool, flows.total_flow, [1, "x", 4]) as finished:
        ended = [pending async for pending in finished]
    outcomes = [each.result() if each.status is rt.Status.COMPLETED else each.args for each in ended]
    assert sorted(outcomes, key=str) == [("x",), 0, 6]


async def test_map_flow_in_order_hands_out_in_the_order_of_the_inputs(pool: Executor) -> None:
    seconds = [0.06, 0.0, 0.03, 0.0, 0.0]
    async with session(), rt.map_flow(pool, flows.sleeping_flow, seconds, ordered=True) as finished:
        assert [pending.args[0] async for pending in finished] == seconds


async def test_map_flow_takes_any_arguments_by_rt_args(pool: Executor) -> None:
    inputs = [rt.args(1, second=2), rt.args(3, second=4)]
    async with session() as here, rt.map_flow(pool, flows.pair_flow, inputs, ordered=True) as finished:
        assert [pending.result() async for pending in finished] == [(1, 2), (3, 4)]
    assert [each.kwargs for each in here.info.roots] == [{"second": 2}, {"second": 4}]
    assert repr(inputs[0]) == "<railtracks.args: 1 by position, 1 by name>"


async def test_leaving_map_flow_cancels_what_has_not_begun(pool: Executor, folder: Path) -> None:
    async with (
        session() as here,
        rt.map_flow(pool, flows.counted_flow, map(partial_of(folder), range(9))) as finished,
    ):
        async for _ in finished:
            break
    assert {str(each.status) for each in here.info.roots} == {"completed", "cancelled"}
    assert len(list(folder.iterdir())) <= 6


def partial_of(folder: Path) -> object:
    return lambda number: rt.args(str(folder), number)


async def test_a_cancel_reaches_a_session_in_a_pool_of_threads(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        async with session() as here:
            pending = await rt.submit(pool, flows.hanging_flow.bind(str(folder)))
            while not (folder / "began").exists():  # noqa: ASYNC110 - the session is in another Trio run
                await trio.sleep(0.005)
            pending.cancel("enough")
            await pending.wait()
            assert pending.status is rt.Status.CANCELLED
            assert (folder / "cleaned").exists()
    assert [(each.node, each.status) for each in here.info.calls] == [
        ("flow hanging", "cancelled"),
        ("hanging", "cancelled"),
    ]


async def test_a_session_that_waits_for_a_thread_never_begins_once_cancelled(folder: Path) -> None:
    free = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(free.wait)
        async with session():
            pending = await rt.submit(pool, flows.counted_flow.bind(str(folder), 1))
            await trio.testing.wait_all_tasks_blocked()
            pending.cancel()
            await pending.wait()
        free.set()
    assert list(folder.iterdir()) == []


async def test_the_timeout_of_a_sent_session_counts_there(pool: Executor, folder: Path) -> None:
    with pytest.raises(rt.SessionTimeoutError):
        async with session():
            pending = await rt.submit(pool, flows.hanging_flow.bind(str(folder)), timeout=0.1)
            await pending.wait()
    assert (folder / "cleaned").exists()


async def test_a_secret_born_on_a_worker_does_not_come_back_in_records() -> None:
    with Carrying() as pool, pytest.raises(LookupError):
        async with session() as here:
            await (await rt.submit(pool, flows.leaking_flow.bind())).wait()
    for error in (*(each.error for each in here.info.calls), here.info.error):
        assert error is not None
        assert "canary" not in error.message + error.traceback
        assert "redacted" in error.message


async def test_sending_needs_an_open_session() -> None:
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(rt.ContextError, match="no session is open"):
            await rt.submit(pool, flows.total_flow.bind(1))
        with pytest.raises(rt.ContextError, match="no session is open"):
            async with rt.map_flow(pool, flows.total_flow, [1]):
                pass


async def test_what_cannot_be_sent_is_refused_before_anything_is_sent() -> None:
    async def local() -> None: ...

    flow = rt.Flow("local", local, save_state=False)
    with ThreadPoolExecutor(1) as pool, Carrying() as carrying:
        async with session() as here:
            with pytest.raises(rt.NodeCreationError, match="assign it to a variable"):
                await rt.submit(carrying, flow.bind())
            # Threads share the program's objects.
            await (await rt.submit(pool, flow.bind())).wait()
            with pytest.raises(TypeError, match=r"takes flow\.bind"):
                await rt.submit(pool, flow)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="not str"):
                await rt.submit("tcp://127.0.0.1", flow.bind())  # type: ignore[arg-type]
            for options in ({}, {"session_ids": str}):
                with pytest.raises(TypeError, match="takes a Flow"):
                    rt.map_flow(pool, local, [1], **options)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="timeout"):
                await rt.submit(pool, flow.bind(), timeout=0)
            with pytest.raises(ValueError, match="not durable"):
                await rt.submit(pool, flow.bind(), session_id="x")
            with pytest.raises(ValueError, match="not durable"):
                rt.map_flow(pool, flow, [1], session_ids=str)
            for wrong in ({"batch": 0}, {"limit": 0}):
                with pytest.raises(ValueError, match=next(iter(wrong))):
                    rt.map_flow(pool, flow, [1], **wrong)
            for mistyped in ({"ordered": "yes"}, {"ordered": 1}, {"session_ids": "order-17"}):
                with pytest.raises(TypeError, match=f"^{next(iter(mistyped))} must be"):
                    rt.map_flow(pool, flow, [1], **mistyped)  # type: ignore[arg-type]
    assert len(here.info.roots) == 1


async def test_a_flow_of_the_program_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = rt.Flow("main", flows.total, save_state=False)
    monkeypatch.setattr(sys.modules["__main__"], "flow_of_the_program", flow, raising=False)
    with Carrying() as pool:
        async with session() as here:
            with pytest.raises(rt.NodeCreationError, match="put the flow into a module"):
                await rt.submit(pool, flow.bind(1))
    assert here.info.calls == ()


def test_a_flow_is_bound_to_arguments_that_it_takes() -> None:
    bound = flows.pair_flow.bind(1, second=2)
    assert repr(bound) == "<railtracks.BoundFlow of 'pair'>"
    assert (bound.flow, bound.args, bound.kwargs) == (flows.pair_flow, (1,), {"second": 2})
    with pytest.raises(TypeError, match="second"):
        flows.pair_flow.bind(1)


async def test_the_records_of_a_long_session_that_come_with_its_end_hold_up_no_other_task() -> None:
    async with session() as here:
        with Carrying() as pool:
            steps = Telling(here, "step")
            trio.lowlevel.add_instrument(steps)
            pending = await rt.submit(pool, flows.total_flow.bind(300))
            await pending.wait()
            trio.lowlevel.remove_instrument(steps)
    assert pending.result() == 44_850
    assert steps.count() == 300
    # Fifty records go at once.
    assert 0 < steps.most <= 50


class Silent(Executor):
    """An executor that begins what it gets, or does not, and tells no end."""

    def __init__(self, *, begins: bool = True) -> None:
        self.sent: Future[Any] = Future()
        self._begins = begins

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.work = partial(fn, *args, **kwargs)
        if self._begins:
            self.sent.set_running_or_notify_cancel()
        return self.sent


@pytest.mark.parametrize(("flow", "seconds"), [(flows.total_flow, 20), (flows.limited_flow, None)])
async def test_a_cancelled_session_with_a_timeout_whose_executor_stays_silent_is_given_up(
    flow: rt.Flow[..., int],
    seconds: float | None,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with session() as here:
        pending = await rt.submit(Silent(), flow.bind(3), timeout=seconds)
        await trio.testing.wait_all_tasks_blocked()
        cancelled_at = trio.current_time()
        pending.cancel()
        await pending.wait()
    # Not before it ought to have ended: its timeout, and the 5 seconds of its cleanup.
    assert 25 <= trio.current_time() - cancelled_at < 100
    assert pending.status == "cancelled"
    assert [each.status for each in here.info.roots] == ["cancelled"]
    assert f"Silent does not tell how the session of 'flow {flow.name}' that was cancelled has ended" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "bound"), [(None, "a timeout of its flow would bound that"), (60, "135 s at most")]
)
async def test_a_wait_for_a_session_that_no_cancel_reaches_is_told_of(
    seconds: float | None, bound: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    executor = Silent()
    async with session():
        pending = await rt.submit(executor, flows.total_flow.bind(3), timeout=seconds)
        await trio.testing.wait_all_tasks_blocked()
        pending.cancel()
        await trio.sleep(9)
        early = caplog.text
        # The 5 seconds of its cleanup, and 5 more, are over then.
        await trio.sleep(2)
        late = caplog.text
        executor.sent.set_result((Reply("", "worker", 0, b"", None, {}), []))
        await pending.wait()
    assert early == ""
    assert f"no cancel reaches it in Silent: its end is waited for, {bound}" in late
    assert pending.status == "cancelled"


async def test_a_timeout_that_is_set_in_this_process_alone_gives_up_no_session_of_another(
    mock_clock: trio.testing.MockClock,
) -> None:
    rt.set_config(timeout=20)
    executor = Silent()
    async with session(timeout=1e9):
        pending = await rt.submit(executor, flows.total_flow.bind(3))
        await trio.testing.wait_all_tasks_blocked()
        pending.cancel()
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10_000)
        await trio.testing.wait_all_tasks_blocked()
        assert pending.status == "running"
        executor.sent.set_result((Reply("", "worker", 0, b"", None, {}), []))
        await pending.wait()
    assert pending.status == "cancelled"


async def test_a_cancelled_session_that_its_executor_has_not_begun_never_begins() -> None:
    executor = Silent(begins=False)
    async with session():
        pending = await rt.submit(executor, flows.total_flow.bind(3))
        await trio.testing.wait_all_tasks_blocked()
        pending.cancel()
        with trio.fail_after(60):
            await pending.wait()
    assert pending.status == "cancelled"
    assert executor.sent.cancelled()


@pytest.mark.parametrize("has_opened", [True, False])
async def test_a_cancelled_session_that_another_process_runs_is_waited_for_and_its_records_come(
    has_opened: bool,
) -> None:
    executor = Silent()
    async with session() as here:
        pending = await rt.submit(executor, flows.total_flow.bind(3))
        await trio.testing.wait_all_tasks_blocked()
        pending.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert pending.status == "running"
        unopened = Reply("", "worker", 0, b"", None, {}), list[dict[str, Any]]()
        # In a thread that belongs to no Trio run, as the worker's.
        with ThreadPoolExecutor(1) as worker:
            executor.sent.set_result(worker.submit(executor.work).result() if has_opened else unopened)
        await pending.wait()
    assert pending.status == "cancelled"
    assert here.counts.by_node.get("step", 0) == (3 if has_opened else 0)


class Losing(Carrying):
    """An executor that carries replies, and loses the records."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        def work() -> object:
            reply, _ = fn(*args, **kwargs)
            return reply, []

        return self._pool.submit(work)


async def test_records_that_do_not_come_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    # Above 0: the clock would spin while a thread works.
    autojump_clock.autojump_threshold = 0.1
    with Losing() as pool:
        async with session() as here:
            pending = await rt.submit(pool, flows.total_flow.bind(30))
            await pending.wait()
            assert pending.result() == 435
    remote = here.info.roots[0].remote
    assert remote is not None
    # 31 calls, each with a start and an end. What was held back at the end came with the reply.
    assert 0 < remote.missing <= 62


async def test_a_worker_that_lacks_the_flow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(Carrying):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            monkeypatch.delattr(flows, "pair_flow")
            return super().submit(fn, *args, **kwargs)

    with Elsewhere() as pool, pytest.raises(AttributeError, match="has no variable 'pair_flow'"):
        async with session() as here:
            await (await rt.submit(pool, flows.pair_flow.bind(1, second=2))).wait()
    assert [(each.node, each.remote) for each in here.info.calls] == [("flow pair", None)]


async def test_a_durable_session_is_sent_under_its_name(folder: Path) -> None:
    with rt.DurableStore(folder / "store.db") as store, ThreadPoolExecutor(1) as pool:
        flow = rt.Flow("durable", flows.total, durable=store, save_state=False)
        async with session() as here:
            for _ in range(2):
                pending = await rt.submit(pool, flow.bind(3), session_id="first")
                await pending.wait()
                assert pending.result() == 3
        assert [each.session_id for each in store.sessions()] == ["first"]
    assert here.info.roots[0].remote is not None
    assert here.info.roots[0].remote.session_id == "first"


async def test_a_recorded_call_may_not_send_a_session_that_could_outlive_it(folder: Path) -> None:
    with rt.DurableStore(folder / "store.db") as store, ThreadPoolExecutor(1) as pool:

        async def main() -> None:
            await rt.submit(pool, flows.total_flow.bind(3))

        flow = rt.Flow("main", main, durable=store, save_state=False)
        with pytest.raises(rt.ContextError, match=r"from 'main', a recorded call .* Use 'async with rt\.map_flow"):
            await flow.ainvoke()


async def test_what_the_block_of_a_durable_session_sends_each_resume_sends_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with rt.DurableStore(folder / "store.db") as store, ThreadPoolExecutor(1) as pool:
        with trio.move_on_after(60) as scope:
            async with rt.Session(durable=store, session_id="one", save_state=False):
                pending = await rt.submit(pool, flows.counted_flow.bind(str(folder), 7))
                scope.cancel()
                await pending.wait()
        async with rt.Session(resume="one", durable=store, save_state=False):
            pending = await rt.submit(pool, flows.counted_flow.bind(str(folder), 7))
            await pending.wait()
            assert pending.result() == 7
    assert "could not start" not in caplog.text


async def test_the_sessions_of_a_fan_out_in_a_durable_flow_are_sent_once(folder: Path) -> None:
    dies, is_done = True, trio.Event()
    with rt.DurableStore(folder / "store.db") as store, ThreadPoolExecutor(1) as pool:

        async def main() -> list[object]:
            inputs = [rt.args(str(folder), number) for number in range(3)]
            async with rt.map_flow(pool, flows.counted_flow, inputs, ordered=True) as finished:
                results = [pending.result() async for pending in finished]
            is_done.set()
            if dies:
                await trio.sleep_forever()
            return results

        flow = rt.Flow("main", main, durable=store, save_state=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(flow.ainvoke, session_id="one"))
            await is_done.wait()
            nursery.cancel_scope.cancel()
        dies = False
        assert await flow.aresume("one") == [0, 1, 2]
    assert [(folder / str(number)).read_text() for number in range(3)] == ["x"] * 3


async def test_other_sessions_of_a_worker_are_not_told(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        async with session() as here, rt.map_flow(pool, flows.hanging_flow, [str(folder)]):
            while not (folder / "began").exists():  # noqa: ASYNC110 - the session is in another Trio run
                await trio.sleep(0.005)
            # In a task of this program, beside the job.
            async with session():
                await rt.call(flows.step, 1)
    assert [each.node for each in here.info.calls] == ["flow hanging", "hanging"]


def test_a_job_that_was_cancelled_before_it_came_does_not_begin(folder: Path) -> None:
    def job(name: str) -> Job:
        bound = (flows.counted_flow, (str(folder), 1), {})
        return Job(name, "flow counted", bound, None, None, 1, 1.0)

    # One more than are remembered.
    assert cancel_jobs([f"job {number}" for number in range(10_001)], "enough") == []
    refused = run_job(job("job 7"), lambda _: None)
    assert not isinstance(refused.outcome, bytes)
    with pytest.raises(rt.SessionCancelledError, match="enough"):
        refused.outcome.hand_over()
    assert list(folder.iterdir()) == []
    assert refused.session_id == ""
    assert run_job(job("job 10000"), lambda _: None).session_id == ""
    assert run_job(job("job 0"), lambda _: None).session_id


def test_the_end_of_a_call_whose_start_got_lost_is_left_out() -> None:
    tree = CallTree()
    around = tree.open(PastNode("flow x"), 0, (), {})
    calls = RemoteCalls(tree, around, rt.RemoteOrigin("s", "w"), lambda *_: None)
    calls.end(RemoteEnd(7, rt.Status.COMPLETED, 1.0, None, None), 0.0)
    assert len(tree) == 1


@pytest.mark.proof
async def test_a_session_whose_workers_always_die_is_lost_after_four_attempts() -> None:
    lost = "went away while it ran 'flow always deadly'"
    with ProcessPoolExecutor(1) as pool, pytest.raises(rt.WorkerLostError, match=lost):
        async with session() as here:
            await (await rt.submit(pool, flows.always_deadly_flow.bind())).wait()
    # A pool of the standard library is broken for good.
    assert [(each.status, each.attempt) for each in here.info.roots] == [("lost", n) for n in (1, 2, 3, 4)]
    assert here.counts.by_status[rt.Status.LOST] == 4


async def test_a_session_on_a_forked_worker_sends_sessions_on() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        async with session():
            async with rt.map_flow(pool, flows.total_flow, [1]) as begun:
                assert [pending.result() async for pending in begun] == [0]
            # The worker is a copy of this process as it was then.
            async with rt.map_flow(pool, flows.sending_flow, [2]) as finished:
                assert [pending.result() async for pending in finished] == [[1, 1]]


@pytest.mark.proof
async def test_a_pool_of_processes_runs_sessions() -> None:
    with ProcessPoolExecutor(2) as pool:
        async with session() as here, rt.map_flow(pool, flows.total_flow, range(5)) as finished:
            assert sorted([pending.result() async for pending in finished]) == [0, 0, 1, 3, 6]
    workers = {each.remote.worker for each in here.info.roots if each.remote is not None}
    assert 1 <= len(workers) <= 2


@pytest.mark.proof
async def test_loky_runs_sessions() -> None:
    loky = pytest.importorskip("loky")
    with loky.get_reusable_executor(2) as pool:
        async with session(), rt.map_flow(pool, flows.total_flow, range(4)) as finished:
            assert sorted([pending.result() async for pending in finished]) == [0, 0, 1, 3]
