"""A session in the main task of a Trio run has Trio's own nursery for its outer one, and behaves as any other session.

The other tests of resources, broadcasts and worker processes run in tasks below the main one. Ctrl-C at every line of a
session in the main task is in `test_ctrl_c.py`.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import worker_functions
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks._calls.here import nursery_of_main_task
from railtracks._sessions.outer_nursery import NurseryOfTrio


def beside_the_main_task() -> bool:
    """Return whether there are tasks in Trio's own nursery beside the main task."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return len(root.child_nurseries[2].child_tasks) > 1


def run_in(main: Callable[[], Awaitable[object]], *, is_main: bool) -> None:
    """Run a function in the main task of a Trio run, or in a task below that."""

    async def above() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)

    trio.run(main if is_main else above)


async def one_call() -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("is_main", [True, False])
def test_a_session_in_the_main_task_enters_one_nursery_and_in_any_other_task_two(is_main: bool) -> None:
    opened: list[int] = []

    async def main() -> None:
        task = trio.lowlevel.current_task()
        async with rt.Session(save_state=False):
            await rt.call(one_call)
            opened.append(len(task.child_nurseries))
            assert not beside_the_main_task()
        assert task.child_nurseries == []

    run_in(main, is_main=is_main)
    assert opened == [1 if is_main else 2]


def test_a_resource_of_an_invoked_flow_is_open_until_its_last_call_has_ended() -> None:
    log: list[object] = []

    @asynccontextmanager
    async def resource(name: str) -> AsyncIterator[str]:
        # In a task of its own: it may hold a nursery.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            log.append(f"open {name}")
            yield name
            log.append(f"close {name}")
            nursery.cancel_scope.cancel()

    async def late() -> None:
        try:
            await trio.sleep(1)
        finally:
            log.append("last call")

    async def entry() -> str:
        session = rt.current_session()
        session.start_soon(late)
        names = [await session.enter_async_context(resource(name)) for name in "ab"]
        assert beside_the_main_task()
        return "".join(names)

    flow = rt.Flow("resources", entry, save_state=False)
    assert flow.invoke() == "ab"
    assert log == ["open a", "open b", "last call", "close b", "close a"]


@pytest.mark.parametrize("how", ["error", "cancel", "timeout", "outer"])
def test_however_a_session_in_the_main_task_ends_its_resources_are_closed_before(how: str) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            yield
        finally:
            # Shielded from what has ended the session.
            await trio.sleep(1)
            log.append("closed")

    async def main() -> None:
        with trio.move_on_after(5 if how == "outer" else 100):
            async with rt.Session(save_state=False, timeout=5 if how == "timeout" else None) as session:
                await session.enter_async_context(resource())
                if how == "error":
                    raise ValueError("mine")
                if how == "cancel":
                    session.cancel()
                await trio.sleep_forever()

    errors = {"error": ValueError, "timeout": rt.SessionTimeoutError}
    if how in errors:
        with pytest.raises(errors[how]):
            trio.run(main, clock=MockClock(autojump_threshold=0))
    else:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert log == ["closed"]


@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize("is_main", [True, False])
def test_a_resource_that_a_task_beside_the_session_opens_as_it_ends_is_closed_before_the_end(
    is_main: bool, steps: int
) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        log.append("open")
        yield
        log.append("close")

    async def beside(session: rt.Session) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        with suppress(rt.ContextError):
            await session.enter_async_context(resource())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with rt.Session(save_state=False) as session:
                nursery.start_soon(beside, session)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
            log.append("over")
        assert log[-1] == "over"
        assert log.count("open") == log.count("close")

    run_in(main, is_main=is_main)


@pytest.mark.parametrize("is_main", [True, False])
def test_a_resource_that_is_asked_for_under_a_cancel_is_opened_and_left_again(is_main: bool) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        log.append("open")
        try:
            yield
        finally:
            log.append("close")

    async def main() -> None:
        async with rt.Session(save_state=False) as session:
            with trio.CancelScope() as scope:
                scope.cancel()
                await session.enter_async_context(resource())
            assert scope.cancelled_caught
            assert log == ["open", "close"]
        assert session.status == "completed"

    run_in(main, is_main=is_main)


@pytest.mark.parametrize("is_main", [True, False])
def test_a_resource_makes_no_calls_in_either_task(is_main: bool) -> None:
    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        with pytest.raises(rt.ContextError, match="outside session 'mine'"):
            await rt.call(one_call)
        # A session of its own is a root, and belongs to no other.
        async with rt.Session(save_state=False) as own:
            await rt.call(one_call)
        assert own.info.calls[0].parent_id is None
        yield

    async def main() -> None:
        async with rt.Session(name="mine", save_state=False) as session:
            await session.enter_async_context(resource())
        assert session.info.calls == ()

    run_in(main, is_main=is_main)


@pytest.mark.parametrize("is_main", [True, False])
def test_a_payload_callback_is_no_part_of_the_session_in_either_task(is_main: bool) -> None:
    raised: list[BaseException] = []
    inside: list[rt.Status] = []

    async def callback(_: dict[str, Any]) -> None:
        try:
            await rt.call(one_call)
        except rt.ContextError as error:
            raised.append(error)
        async with rt.Session(save_state=False) as own:
            await rt.call(one_call)
        inside.append(own.status)

    async def main() -> None:
        async with rt.Session(name="mine", save_state=False, payload_callback=callback) as session:
            await rt.call(one_call)
        assert len(session.info.calls) == 1

    run_in(main, is_main=is_main)
    assert [str(error).partition(":")[0] for error in raised] == [
        "this task runs outside session 'mine', in a nursery that is older than the session"
    ]
    assert inside == ["completed"]


@pytest.mark.parametrize("is_main", [True, False])
def test_broadcasts_arrive_in_order_also_if_the_first_two_come_from_two_tasks(is_main: bool) -> None:
    heard: list[int] = []

    async def callback(item: int) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(item)

    async def main() -> None:
        may_follow = trio.Event()

        async def first() -> None:
            may_follow.set()
            await rt.broadcast(1)

        async def second() -> None:
            await may_follow.wait()
            await rt.broadcast(2)

        async with rt.Session(save_state=False, broadcast_callback=callback):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second)
                nursery.start_soon(first)
            assert beside_the_main_task() == is_main

    for _ in range(20):
        heard.clear()
        run_in(main, is_main=is_main)
        assert heard == [1, 2]


def test_worker_processes_of_an_invoked_flow_end_with_it() -> None:
    async def entry() -> tuple[int, int]:
        process = rt.function_node(worker_functions.process_id, run_in="process")
        async with rt.Session(save_state=False):
            inner = await rt.call(process)
        return inner, await rt.call(process)

    inner, outer = rt.Flow("processes", entry, save_state=False).invoke()
    # The session inside used the process of the outermost one.
    assert inner == outer
    with pytest.raises(ProcessLookupError):
        os.kill(outer, 0)


def test_a_fault_of_the_library_in_it_ends_the_session_and_not_the_main_task() -> None:
    raised: list[BaseException] = []

    async def breaks() -> None:
        raise RuntimeError("a fault of the library")

    async def main() -> None:
        of_trio = nursery_of_main_task(trio.lowlevel.current_task())
        assert of_trio is not None
        nursery = NurseryOfTrio(of_trio, trio.lowlevel.current_task(), raised.append)
        nursery.start_soon(breaks)
        # The main task goes on.
        await wait_all_tasks_blocked()
        assert [type(error) for error in raised] == [RuntimeError]
        assert await nursery.finish(None) is None
        # As a nursery that was left.
        with pytest.raises(RuntimeError, match="closed"):
            nursery.start_soon(breaks)
        with pytest.raises(RuntimeError, match="closed"):
            await nursery.start(breaks)

    trio.run(main)


def test_whoever_leaves_it_waits_for_each_task() -> None:
    log: list[int] = []

    async def ends(steps: int) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        log.append(steps)

    async def main() -> None:
        of_trio = nursery_of_main_task(trio.lowlevel.current_task())
        assert of_trio is not None
        nursery = NurseryOfTrio(of_trio, trio.lowlevel.current_task(), pytest.fail)
        for steps in (20, 5, 10):
            nursery.start_soon(ends, steps)
        nursery.abandon()
        assert await nursery.finish(None) is None
        assert log == [5, 10, 20]

    trio.run(main)


def test_if_the_task_of_the_session_ends_before_the_nursery_is_left_its_tasks_are_cleaned_up() -> None:
    log: list[str] = []
    nurseries: list[NurseryOfTrio] = []

    async def main() -> None:
        of_trio = nursery_of_main_task(trio.lowlevel.current_task())
        assert of_trio is not None
        closing = trio.Event()

        async def held_open() -> None:
            with trio.CancelScope(shield=True):
                await closing.wait()
            log.append("closed")

        async def clean_up() -> None:
            log.append("clean up")
            closing.set()

        async def opens() -> None:
            nursery = NurseryOfTrio(of_trio, trio.lowlevel.current_task(), pytest.fail)
            nursery.clean_up_by(clean_up)
            nursery.start_soon(held_open)
            nurseries.append(nursery)

        async with trio.open_nursery() as beside:
            beside.start_soon(opens)
        await wait_all_tasks_blocked()
        assert log == ["clean up", "closed"]
        # Somebody else closes the generator later.
        assert await nurseries[0].finish(None) is None
        assert not beside_the_main_task()

    trio.run(main)


LEFT = """
import sys
from contextlib import asynccontextmanager
import trio
import railtracks as rt

@asynccontextmanager
async def resource():
    yield
    print("closed", flush=True)

async def heard(item):
    print("heard", item, flush=True)

async def stream():
    async with rt.Session(broadcast_callback=heard) as session:
        await session.enter_async_context(resource())
        await rt.broadcast(1)
        yield 1

async def crashes():
    raise KeyError("a system task")

async def main():
    kept.append(stream())
    await anext(kept[0])
    if "crashes" in sys.argv:
        trio.lowlevel.spawn_system_task(crashes)
        await trio.sleep_forever()

kept = []
trio.run(main)
"""


@pytest.mark.parametrize("how", ["returns", "crashes"])
def test_a_generator_that_is_left_in_the_block_is_an_error_of_trio_and_the_resources_close(
    how: str, tmp_path: Path
) -> None:
    # It is kept from the garbage collector until the main task has ended. Nothing else would end the resource.
    done = subprocess.run(
        [sys.executable, "-c", LEFT, how], capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path
    )
    assert sorted(done.stdout.splitlines()) == ["closed", "heard 1"]
    assert done.returncode == 1
    assert ("stack corrupted" if how == "returns" else "TrioInternalError") in done.stderr


def test_a_start_that_fails_is_not_waited_for() -> None:
    async def main() -> None:
        task = trio.lowlevel.current_task()

        async def nothing() -> None:
            pass

        async with trio.open_nursery() as of_trio:
            closes = SimpleNamespace(start_soon=of_trio.start_soon)
            nursery = NurseryOfTrio(closes, task, pytest.fail)  # type: ignore[arg-type]
            nursery.start_soon(nothing)
            await wait_all_tasks_blocked()
            # As Trio's own does when the main task has ended.
            closes.start_soon = refused
            with pytest.raises(RuntimeError, match="closed to new arrivals"):
                nursery.start_soon(nothing)
            assert await nursery.finish(None) is None

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("Nursery is closed to new arrivals")

    trio.run(main)


def test_nothing_is_started_for_a_session_whose_task_has_ended() -> None:
    tasks: list[trio.lowlevel.Task] = []

    async def nothing() -> None:
        pass

    async def main() -> None:
        of_trio = nursery_of_main_task(trio.lowlevel.current_task())
        assert of_trio is not None

        async def ends() -> None:
            tasks.append(trio.lowlevel.current_task())

        async with trio.open_nursery() as beside:
            beside.start_soon(ends)
        nursery = NurseryOfTrio(of_trio, tasks[0], pytest.fail)
        with pytest.raises(RuntimeError, match="is closed"):
            nursery.start_soon(nothing)
        assert await nursery.finish(None) is None

    trio.run(main)
