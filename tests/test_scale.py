"""Thousands of sessions in one process: all right, and nothing of them is left behind."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
import trio.testing
from proof_rounds import rounds

import railtracks as rt

pytestmark = pytest.mark.proof


@rt.function_node
async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


@rt.function_node
def negate(number: int) -> int:
    return -number


@rt.function_node
async def work(number: int) -> int:
    doubled = await rt.call_batch(double, [number, number + 1], return_exceptions=False)
    rt.context.put("sum", sum(doubled))
    return await rt.call(negate, rt.context.get("sum"))


def expected(number: int) -> int:
    return -2 * (2 * number + 1)


class Footprint:
    """What a process holds, once everything that can go has gone."""

    def __init__(self) -> None:
        process = psutil.Process()
        for _ in range(3):
            gc.collect()
        self.memory = process.memory_info().rss
        self.files = process.num_fds()
        self.tasks_and_frames = sum(type(thing).__name__ in {"Task", "Frame", "Session"} for thing in gc.get_objects())

    def assert_like(self, before: Footprint) -> None:
        assert self.files == before.files
        assert self.tasks_and_frames == before.tasks_and_frames
        assert self.memory <= before.memory * 1.1


def assert_leaves_nothing(run: Callable[[int], None], size: int) -> None:
    """Run twice, and compare what is held after the first and the second time.

    The first run warms up: the allocator's arenas, Trio's cached threads, and whatever is imported on the way.
    """
    run(size)
    before = Footprint()
    run(size)
    Footprint().assert_like(before)


@pytest.mark.skipif(os.name == "nt", reason="counts file descriptors")
def test_thousands_of_sessions_at_once_are_all_right_and_leave_nothing() -> None:
    async def one(number: int, start: trio.Event, results: list[int | None]) -> None:
        async with rt.Session(context={"number": number}, save_state=False):
            # All of them are open before the first one works.
            await start.wait()
            results[number] = await rt.call(work, rt.context.get("number"))

    async def main(size: int) -> None:
        results: list[int | None] = [None] * size
        start = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(size):
                nursery.start_soon(one, number, start, results)
            await trio.testing.wait_all_tasks_blocked()
            start.set()
        assert results == [expected(number) for number in range(size)]

    assert_leaves_nothing(lambda size: trio.run(main, size), rounds(full=10_000, handful=200))


@pytest.mark.skipif(os.name == "nt", reason="counts file descriptors")
def test_threads_that_invoke_flows_do_not_meet_and_leave_nothing(home: Path) -> None:
    flow = rt.Flow("scale", work, save_state=False)
    saved = rt.Flow("saved", work)

    def main(size: int) -> None:
        wrong: list[Any] = []

        def invoke(thread: int) -> None:
            for number in range(size):
                # Some of them save their state, all at once.
                made = (saved if number % 20 == 0 else flow).invoke(1000 * thread + number)
                if made != expected(1000 * thread + number):
                    wrong.append((thread, number, made))

        threads = [threading.Thread(target=invoke, args=[thread]) for thread in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        files = list(home.iterdir())
        assert len(files) == 50 * -(-size // 20)
        assert all(rt.load_state(file).status == "completed" for file in files)
        for file in files:
            file.unlink()

    assert_leaves_nothing(main, rounds(full=200, handful=2))
