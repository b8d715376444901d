"""What is shipped for users' tests: each proof can fail, each fake is put back."""

from __future__ import annotations

import contextvars
import functools
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks import testing
from railtracks._workers.threads import in_thread


@rt.function_node
async def nap(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


@rt.function_node
def double(number: int) -> int:
    return number * 2


# assert_quiescent


async def test_a_session_that_has_ended_is_quiescent_inside_trio_and_afterwards(autojump_clock: MockClock) -> None:
    async with rt.Session() as session, trio.open_nursery() as nursery:
        nursery.start_soon(rt.call, nap, 1)
        session.start_soon(nap, 2)
        await rt.call(double, 1)
    testing.assert_quiescent(session)
    await trio.to_thread.run_sync(testing.assert_quiescent, session)


async def test_a_session_that_is_open_or_was_never_entered_is_not_quiescent() -> None:
    session = rt.Session(name="early")
    with pytest.raises(AssertionError, match=r"^of session 'early' there is left: everything, it was never entered$"):
        testing.assert_quiescent(session)
    async with session:
        with pytest.raises(AssertionError, match=r"there is left: itself, it has not ended$"):
            testing.assert_quiescent(session)
    testing.assert_quiescent(session)


async def test_calls_that_run_are_named_with_their_tasks(autojump_clock: MockClock) -> None:
    async with rt.Session(flow_name="busy") as session, trio.open_nursery() as nursery:
        nursery.start_soon(rt.call, nap, 1, name="napper")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(AssertionError) as caught:
            testing.assert_quiescent(session)
    assert str(caught.value) == (
        "of session 'busy' there is left: itself, it has not ended; call 1 of node 'nap', which is running;"
        " task 'napper', in nap"
    )


async def test_a_system_task_that_stands_in_an_ended_session_is_named() -> None:
    async with rt.Session() as outer:
        async with rt.Session() as inner:
            left = trio.lowlevel.spawn_system_task(trio.sleep_forever, name="left", context=contextvars.copy_context())
        with pytest.raises(AssertionError, match=r"there is left: task 'left', in its block$"):
            testing.assert_quiescent(inner)
    with pytest.raises(AssertionError, match=f"^of session '{outer.identifier}' there is left: task 'left', in "):
        testing.assert_quiescent(outer)
    assert left.child_nurseries == []


async def test_a_task_that_was_started_in_an_older_nursery_is_named(nursery: trio.Nursery) -> None:
    async with rt.Session() as session:
        nursery.start_soon(trio.sleep_forever, name="older")
    with pytest.raises(AssertionError, match=r"task 'older', in its block$"):
        testing.assert_quiescent(session)
    nursery.cancel_scope.cancel()


async def test_tasks_of_other_sessions_are_none_of_its_business(autojump_clock: MockClock) -> None:
    async with rt.Session() as other:
        other.start_soon(nap, 10)
        async with rt.Session() as session:
            await rt.call(nap, 1)
        testing.assert_quiescent(session)


async def test_a_thread_that_its_node_allows_to_be_left_behind_is_no_fault() -> None:
    release = threading.Event()
    work = rt.function_node(release.wait, name="work", abandon_on_cancel=True)
    async with rt.Session() as session:
        session.start_soon(work, 60)
        await trio.testing.wait_all_tasks_blocked()
        session.cancel()
    testing.assert_quiescent(session)
    release.set()


# opened_sessions


@rt.session(name="decorated")
async def decorated() -> None: ...


def test_every_session_of_the_block_is_found_however_it_was_opened() -> None:
    @rt.function_node
    def in_a_thread() -> None:
        rt.Flow("inner", nap).invoke(0)

    async def main() -> None:
        async with rt.Session(name="by hand"):
            await rt.call(in_a_thread)
        await decorated()
        await rt.call(nap, 0)

    with testing.opened_sessions() as outer:
        with testing.opened_sessions() as sessions:
            trio.run(main)
        trio.run(decorated)
    trio.run(decorated)
    assert [session.name or session.flow_name for session in sessions] == ["by hand", "inner", "decorated", None]
    assert outer[:-1] == sessions
    assert outer[-1].name == "decorated"


async def test_a_session_of_a_task_that_was_started_before_the_block_is_not_of_the_block() -> None:
    begin = trio.Event()

    async def beside() -> None:
        await begin.wait()
        await decorated()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beside)
        await trio.testing.wait_all_tasks_blocked()
        with testing.opened_sessions() as sessions:
            begin.set()
            await trio.testing.wait_all_tasks_blocked()
            async with rt.Session(name="in the block"):
                pass
    assert [session.name for session in sessions] == ["in the block"]


# cancel_at_every_checkpoint


async def test_each_round_is_cancelled_one_step_further() -> None:
    reached = []

    async def steps() -> None:
        reached.append(0)
        await trio.lowlevel.checkpoint_if_cancelled()
        for number in (1, 2, 3):
            reached.append(number)
            await trio.lowlevel.checkpoint()
        reached.append(4)

    assert await testing.cancel_at_every_checkpoint(steps) == 5
    assert reached == [0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4]
    reached.clear()
    assert await testing.cancel_at_every_checkpoint(steps, every=3) == 3
    assert reached == [0, 0, 1, 2, 3, 0, 1, 2, 3, 4]


async def sleepless() -> None:
    for _ in range(1000):
        await trio.lowlevel.checkpoint()


async def test_the_steps_of_every_task_of_the_round_count_and_of_no_other(nursery: trio.Nursery) -> None:
    nursery.start_soon(sleepless)

    async def steps(tasks: int) -> None:
        async with trio.open_nursery() as inner:
            for _ in range(tasks):
                inner.start_soon(trio.lowlevel.checkpoint)

    # Each task takes two steps, the one that waits for them one more; before the first and after the last is a round.
    assert await testing.cancel_at_every_checkpoint(steps, 0) == 3
    assert await testing.cancel_at_every_checkpoint(steps, 3) == 2 + 3 * 2 + 1
    nursery.cancel_scope.cancel()


async def test_sessions_in_worker_threads_of_the_round_are_looked_at() -> None:
    flow = rt.Flow("inner", nap)

    async def main() -> None:
        await rt.call(rt.function_node(flow.invoke, name="invoke"), 0)

    with testing.opened_sessions() as sessions:
        rounds = await testing.cancel_at_every_checkpoint(main)
    assert rounds > 10
    assert {session.flow_name for session in sessions} == {None, "inner"}


@pytest.mark.parametrize(
    ("every", "error", "text"),
    [
        (0, ValueError, "every must be at least 1, not 0"),
        (-1, ValueError, "every must be at least 1, not -1"),
        (True, TypeError, "every must be a whole number, not bool"),
        (1.0, TypeError, "every must be a whole number, not float"),
    ],
)
async def test_a_bad_stride_is_refused(every: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        await testing.cancel_at_every_checkpoint(nap, 0, every=every)


async def test_an_error_of_the_function_comes_back_with_the_place_where_the_cancel_struck() -> None:
    raised = []

    async def waits() -> None:
        await trio.lowlevel.checkpoint()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            raised.append(ValueError("in cleanup"))
            raise raised[0] from None

    with pytest.raises(ValueError, match=r"^in cleanup") as caught:
        await testing.cancel_at_every_checkpoint(waits)
    assert caught.value is raised[0]
    (note,) = caught.value.__notes__
    struck, place = note.splitlines()
    assert struck.startswith("the cancel struck after step 2 in task ")
    assert place.startswith(f"  {__file__}:")
    assert place.endswith("<locals>.waits")


async def test_an_error_without_a_cancel_says_so() -> None:
    async def fails() -> None:
        raise ValueError("at once")

    with pytest.raises(ValueError, match=r"^at once") as caught:
        await testing.cancel_at_every_checkpoint(fails)
    assert caught.value.__notes__ == ["the cancel struck after step 0"]

    async def fails_at_its_end() -> None:
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        raise ValueError("at its end")

    with pytest.raises(ValueError, match=r"^at its end") as caught:
        await testing.cancel_at_every_checkpoint(fails_at_its_end)
    assert caught.value.__notes__ == ["the cancel did not strike in these 2 steps"]


async def test_a_cancel_from_outside_goes_through() -> None:
    with trio.move_on_after(0) as scope:
        await testing.cancel_at_every_checkpoint(trio.sleep, 1)
    assert scope.cancelled_caught


async def test_the_end_of_a_task_is_a_place_too() -> None:
    async def ends(how: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint, name="child")
        how()

    def fail() -> None:
        raise ValueError("after its child")

    with pytest.raises(ValueError, match="after its child") as caught:
        await testing.cancel_at_every_checkpoint(ends, fail)
    assert caught.value.__notes__ == ["the cancel struck after step 3 in task 'child'"]


async def leave_a_task() -> None:
    try:
        await trio.lowlevel.checkpoint()
    finally:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="left")


async def leave_a_task_in_a_session() -> None:
    async with rt.Session(name="mine"):
        context = contextvars.copy_context()
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="left", context=context)


async def leave_a_session() -> None:
    async def hold() -> None:
        async with rt.Session(name="mine"):
            await trio.sleep_forever()

    trio.lowlevel.spawn_system_task(hold, name="left", context=contextvars.copy_context())
    with trio.CancelScope(shield=True):
        await trio.testing.wait_all_tasks_blocked()


async def swallow_the_cancel_and_leave_a_file() -> None:
    with suppress(trio.Cancelled):
        await trio.lowlevel.checkpoint()
    Path(os.environ["RAILTRACKS_HOME"], ".1234.tmp").touch()


@pytest.mark.parametrize(
    ("leave", "text"),
    [
        (leave_a_task, "there is left: task 'left'"),
        (leave_a_task_in_a_session, "of session 'mine' there is left: task 'left', in its block"),
        (
            leave_a_session,
            "of session 'mine' there is left: itself, it has not ended; task 'left', in its block",
        ),
        (swallow_the_cancel_and_leave_a_file, "there is left: unfinished file {home}/.1234.tmp"),
    ],
)
async def test_whatever_is_left_fails_the_round(leave: Callable[[], Any], text: str, home: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        await testing.cancel_at_every_checkpoint(leave)
    assert str(caught.value) == text.replace("{home}", str(home))
    assert caught.value.__notes__ == ["the cancel struck after step 0"]


async def test_a_worker_that_is_left_fails_the_round() -> None:
    release = threading.Event()

    async def leave_a_worker() -> None:
        trio.lowlevel.spawn_system_task(in_thread, release.wait, name="left")
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()

    with pytest.raises(AssertionError, match=r"^there is left: task 'left'; 1 busy workers\n"):
        await testing.cancel_at_every_checkpoint(leave_a_worker)
    release.set()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def alter(old: str, new: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (truncate, r"a saved state is not whole: .*mine\.json: at line \d+, column \d+: not JSON"),
        (Path.unlink, r"a saved state is not whole: .*mine\.json"),
        (alter('"session_id": "', '"session_id": "0'), r"the state in .*mine\.json is of another session: 0\w{32}"),
        (alter('"cancelled"', '"completed"'), r"the state in .*mine\.json does not agree with session 'mine'"),
    ],
)
async def test_a_state_that_is_not_whole_fails_the_round(spoil: Callable[[Path], object], text: str) -> None:
    async def main() -> None:
        session = rt.Session(name="mine")
        assert session.state_path is not None
        try:
            async with session:
                await rt.call(nap, 0)
        finally:
            spoil(session.state_path)

    with pytest.raises(AssertionError, match=f"^{text}"):
        await testing.cancel_at_every_checkpoint(main)


async def test_of_sessions_that_share_a_file_the_last_one_counts() -> None:
    async def main() -> None:
        for _ in range(2):
            async with rt.Session(name="mine"):
                await rt.call(nap, 0)

    assert await testing.cancel_at_every_checkpoint(main) > 5


async def test_what_was_there_before_is_no_fault(home: Path, nursery: trio.Nursery) -> None:
    (home / ".1234.tmp").touch()
    nursery.start_soon(trio.sleep_forever)
    assert await testing.cancel_at_every_checkpoint(nap, 0) > 1
    nursery.cancel_scope.cancel()


# run_with_mock_clock


def test_sleeping_and_timeouts_cost_no_time() -> None:
    before = time.perf_counter()
    assert testing.run_with_mock_clock(rt.Flow("nap", nap), seconds=1000) == 1000
    assert testing.run_with_mock_clock(nap, 1000) == 1000
    with pytest.raises(rt.SessionTimeoutError):
        testing.run_with_mock_clock(rt.Flow("nap", nap, timeout=1000), math.inf)
    assert time.perf_counter() - before < 100


def test_the_clock_stands_still_while_a_worker_works() -> None:
    times: list[float] = []

    # Real time, because it must not count: without the clock being held a thousand seconds pass in it.
    work = rt.function_node(lambda: time.sleep(0.05), name="work", timeout=1)

    async def main() -> None:
        await rt.call(nap, 5)
        await rt.call(work)
        times.append(trio.current_time())
        await rt.call(nap, 5)
        times.append(trio.current_time())

    testing.run_with_mock_clock(rt.Flow("main", main, timeout=20))
    assert times[1] - times[0] == 5


@pytest.mark.parametrize(
    "wait", [lambda: trio.from_thread.run(rt.call, nap, 1000), lambda: trio.from_thread.run(trio.sleep, 1000)]
)
def test_a_thread_that_waits_for_trio_does_not_hold_the_clock(wait: Callable[[], object]) -> None:
    outer = rt.function_node(wait, name="outer")
    before = time.perf_counter()
    testing.run_with_mock_clock(rt.Flow("outer", outer, timeout=2000))
    with pytest.raises(rt.SessionTimeoutError):
        testing.run_with_mock_clock(rt.Flow("outer", outer, timeout=500))
    assert time.perf_counter() - before < 100


def test_a_thread_below_one_that_waits_holds_the_clock() -> None:
    inner = rt.function_node(lambda: time.sleep(0.05), name="inner")

    @rt.function_node
    def outer() -> None:
        trio.from_thread.run(rt.call, inner)

    testing.run_with_mock_clock(rt.Flow("outer", outer, timeout=1000))


def test_a_thread_that_was_left_behind_does_not_hold_the_clock() -> None:
    release = threading.Event()
    stuck = rt.function_node(release.wait, name="stuck", abandon_on_cancel=True)

    async def main() -> None:
        async with rt.Session() as session:
            session.start_soon(stuck, 60)
            await trio.testing.wait_all_tasks_blocked()
            session.cancel()
        await trio.sleep(1000)

    testing.run_with_mock_clock(main)
    release.set()


def test_an_error_comes_back_as_it_is() -> None:
    error = ValueError("mine")

    async def fails() -> None:
        raise error

    with pytest.raises(ValueError, match=r"^mine") as caught:
        testing.run_with_mock_clock(rt.Flow("fails", fails))
    assert caught.value is error


async def test_inside_trio_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"call it in a sync test, or await the flow's ainvoke here$"):
        testing.run_with_mock_clock(nap, 0)


def test_what_is_no_flow_and_no_async_function_says_what_to_give() -> None:
    take_anything: Any = testing.run_with_mock_clock
    with pytest.raises(TypeError, match=r"write run_with_mock_clock\(flow, \.\.\.\), with the arguments behind it"):
        take_anything(nap(1))

    @rt.function_node
    def sync(number: int) -> int:
        return number

    with pytest.raises(TypeError, match=r"'sync' is a sync node: make a flow of it, rt\.Flow\('a name', sync\)"):
        take_anything(sync, 1)
    with pytest.raises(TypeError, match=r"given a Flow: write cancel_at_every_checkpoint\(flow\.ainvoke, \.\.\.\)"):
        take_anything(testing.cancel_at_every_checkpoint, rt.Flow("nap", nap), 1)
    with pytest.raises(TypeError, match=r"^cancel_at_every_checkpoint\(\) takes a flow or an async function"):
        take_anything(testing.cancel_at_every_checkpoint, sync, 1)


def test_a_proof_can_be_run_on_it() -> None:
    @rt.function_node
    def slow(number: int) -> int:
        return number

    async def main() -> None:
        async with rt.Session(timeout=10, cleanup_timeout=1, broadcast_callback=lambda item: None):
            await rt.call(nap, 5)
            await rt.broadcast(await rt.call(slow, 1))

    assert testing.run_with_mock_clock(testing.cancel_at_every_checkpoint, main) > 10


# replace_node


async def fake(seconds: float) -> float:
    return -seconds


def hand_on(seconds: float) -> Any:
    return fake(seconds)


@pytest.mark.parametrize(
    "replacement", [fake, lambda seconds: -seconds, hand_on, functools.partial(fake), rt.function_node(fake)]
)
async def test_an_async_node_runs_the_fake_in_the_block_and_itself_afterwards(
    replacement: Callable[[float], Any], autojump_clock: MockClock
) -> None:
    flow = rt.Flow("nap", nap)
    async with rt.Session() as session:
        with testing.replace_node(nap, replacement):
            assert await rt.call(nap, 1) == -1
            assert await rt.call_batch(nap, [2]) == [-2]
            assert await nap(3) == -3
            assert await flow.ainvoke(4) == -4
            assert await rt.call(nap.with_options(timeout=9), 5) == -5
        assert await rt.call(nap, 6) == 6
    assert [call.node for call in session.info.calls] == ["nap"] * 4
    assert trio.current_time() == 6


async def test_a_sync_node_runs_the_fake_in_a_thread() -> None:
    threads: list[threading.Thread] = []

    def fake_double(number: int) -> int:
        threads.append(threading.current_thread())
        return -number

    with testing.replace_node(double, fake_double):
        assert await rt.call(double, 1) == -1
        assert double(2) == -2
    assert await rt.call(double, 1) == 2
    assert threads[0] is not threading.main_thread()
    assert threads[1:] == [threading.main_thread()]


async def test_name_timeout_and_retry_stay(autojump_clock: MockClock) -> None:
    node = rt.function_node(fake, name="fetch", timeout=1, retry=rt.Retry(2, wait_initial=0, jitter=0))

    async with rt.Session() as session:
        with testing.replace_node(node, nap), pytest.raises(rt.NodeTimeoutError, match="'fetch'"):
            await rt.call(node, 5)
    assert [(call.node, call.attempt) for call in session.info.calls] == [("fetch", 1), ("fetch", 2)]


async def test_replacements_nest_and_an_error_ends_them() -> None:
    with testing.replace_node(double, lambda number: -1):
        with testing.replace_node(double, lambda number: -2), pytest.raises(ValueError, match="mine"):
            assert double(0) == -2
            with testing.replace_node(double, lambda number: -3):
                assert double(0) == -3
                raise ValueError("mine")
        assert double(0) == -1
    assert double(2) == 4


class Service:
    @rt.function_node
    async def fetch(self, url: str) -> str:
        raise OSError(url)

    @rt.function_node
    def load(self, key: int) -> str:
        raise OSError(str(key))


async def test_a_method_is_replaced_on_its_class() -> None:
    service = Service()
    with (
        testing.replace_node(Service.fetch, lambda self, url: f"{type(self).__name__} {url}"),
        testing.replace_node(Service.load, lambda self, key: f"{type(self).__name__} {key}"),
    ):
        assert await rt.call(service.fetch, "home") == "Service home"
        assert await rt.call(service.load, 1) == "Service 1"
        assert await service.fetch("home") == "Service home"
    with pytest.raises(OSError, match="home"):
        await rt.call(service.fetch, "home")


def test_what_a_copy_runs_stays_as_it_was_when_the_copy_was_made() -> None:
    before = double.with_options(name="before")
    with testing.replace_node(double, lambda number: -number):
        during = double.with_options(timeout=1)
    assert (before(1), during(1), double(1)) == (2, -1, 2)
    assert during.name == "double"


async def test_the_names_of_parameters_stay_those_of_the_node() -> None:
    @rt.function_node
    async def login(token: str) -> None: ...

    async with rt.Session() as session:
        with testing.replace_node(login, lambda text: None):
            await rt.call(login, "canary")
    assert session.payload()["calls"][0]["args"] == ["[redacted]"]


class Blank:
    pass


@pytest.mark.parametrize(
    ("node", "replacement", "text"),
    [
        (fake, fake, "only a node can be replaced, not <function fake at .*>: make it one with @rt.function_node"),
        (double, fake, "node 'double' is made of a sync function: its fake must be a sync function, too"),
        (double, 1, "a node is made of a function, not of 1"),
        (
            nap,
            Blank,
            "a node is made of a function, not of the class Blank: pass a function, or .*",
        ),
    ],
)
def test_what_does_not_fit_is_refused(node: Any, replacement: Any, text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}$"):
        testing.replace_node(node, replacement)


# The fixtures


# A faulty store.


async def doubled() -> int:
    return await rt.call(double, 1) + await rt.call(double, 2)


def durable(store: rt.DurableStore) -> rt.Flow[[], int]:
    return rt.Flow("doubled", doubled, durable=store, save_state=False)


@pytest.mark.parametrize("place", ["before", "inside", "after"])
@pytest.mark.parametrize("number", range(4))
def test_an_error_of_the_disk_is_outlasted_wherever_it_comes(place: str, number: int, tmp_path: Path) -> None:
    reached: list[str] = []

    def fault(where: str) -> None:
        reached.append(where)
        if where == place and reached.count(place) == number + 1:
            raise OSError("the disk is full")

    plain = rt.DurableStore(tmp_path / "store.db")
    assert durable(testing.faulty_store(plain, fault)).invoke(session_id="s") == 6
    assert reached.count(place) > number + 1
    assert [call.result for call in plain.load("s").calls] == [6, 2, 4]


def test_a_disk_that_stays_full_interrupts_the_session(tmp_path: Path) -> None:
    def fault(place: str) -> None:
        if place == "before" and is_full:
            raise OSError("the disk is full")

    is_full = True
    store = testing.faulty_store(rt.DurableStore(tmp_path / "store.db", commit_timeout=0.1), fault)
    with pytest.raises(rt.StoreError, match="the disk is full"):
        durable(store).invoke(session_id="s")
    is_full = False
    assert durable(store).invoke(session_id="s") == 6


def test_another_error_of_a_faulty_store_is_not_waited_out(tmp_path: Path) -> None:
    reached: list[str] = []

    def fault(place: str) -> None:
        reached.append(place)
        if place == "inside" and reached.count("inside") > 1:
            raise ArithmeticError("no number")

    with pytest.raises(rt.StoreError, match="no number"):
        durable(testing.faulty_store(tmp_path / "store.db", fault)).invoke(session_id="s")
    # The commit that failed and the end of the session: each has one more try.
    assert reached.count("inside") <= 5


def test_a_fault_is_told_what_each_transaction_is_for(tmp_path: Path) -> None:
    reached: list[str] = []
    store = testing.faulty_store(tmp_path / "store.db", reached.append)
    assert durable(store).invoke(session_id="s") == 6
    assert reached[:2] == ["before upgrade", "after upgrade"]
    assert reached[5:8] == ["before opening", "inside opening", "after opening"]
    commits = [place for place in reached if " " not in place]
    assert len(commits) >= 9
    assert commits == ["before", "inside", "after"] * (len(commits) // 3)
    assert reached[-3:] == ["before closing", "inside closing", "after closing"]
    store.sessions()
    assert reached[-5:-3] == ["before request", "after request"]


def test_what_makes_no_faulty_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="the fault of a store must be callable with a place, not str"):
        testing.faulty_store(tmp_path / "store.db", "before")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a store must be True, a path, a URL or an rt\.DurableStore, not int"):
        testing.faulty_store(1, print)  # type: ignore[arg-type]


def test_the_home_is_a_fresh_folder(railtracks_home: Path, tmp_path: Path) -> None:
    assert list(railtracks_home.iterdir()) == []
    assert railtracks_home.parent == tmp_path
    rt.Flow("nap", nap).invoke(0)
    assert len(list(railtracks_home.iterdir())) == 1


def test_the_sessions_of_a_test_are_at_hand_and_have_to_be_at_rest(quiescent_sessions: list[rt.Session]) -> None:
    rt.Flow("nap", nap).invoke(0)
    assert [session.flow_name for session in quiescent_sessions] == ["nap"]


FIXTURES = """
import pytest
import railtracks as rt
import trio


async def fn():
    pass


def test_config_is_set(railtracks_config, railtracks_home):
    rt.set_config(save_state=False)
    rt.Flow("fn", fn).invoke()
    assert not list(railtracks_home.iterdir())


def test_config_is_forgotten(railtracks_home):
    rt.Flow("fn", fn).invoke()
    assert list(railtracks_home.iterdir())


def test_a_session_is_left(quiescent_sessions):
    with pytest.raises(RuntimeError, match="corrupted"):
        trio.run(rt.Session(name="left").__aenter__)
"""


def test_the_fixtures_put_back_what_was_and_fail_when_a_session_is_left(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["railtracks.pytest_plugin"]')
    pytester.makepyfile(FIXTURES)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*AssertionError: of session 'left' there is left: itself, it has not ended*"])


def test_without_being_asked_for_nothing_is_loaded() -> None:
    script = (
        "import railtracks, sys; print({'pytest', 'trio.testing', 'railtracks.testing', 'railtracks.pytest_plugin'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
