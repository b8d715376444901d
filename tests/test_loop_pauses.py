"""Threads of the library get on beside an event loop that always has a task to run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import railtracks as rt
from railtracks._workers.loop_pauses import LoopPauses, loop_pauses
from railtracks._workers.threads import in_thread


@rt.function_node
async def step(number: int) -> int:
    return number


async def busy(most: int, is_over: Callable[[], bool]) -> int:
    """Keep the loop busy until something is over, in at most so many of its rounds; return how many it took."""
    for count in range(most):
        if is_over():
            return count
        sum(range(3_000))
        await trio.lowlevel.checkpoint()
    raise TimeoutError(f"it was not over after {most:,} rounds")


async def test_commits_beside_a_busy_loop_are_done_soon(tmp_path: Path) -> None:
    steps, is_over = 20, False

    async def workflow() -> None:
        for number in range(steps):
            await rt.call(step, number)

    flow = rt.Flow("steps", workflow, durable=rt.DurableStore(tmp_path / "store.db", durability="process"))

    async def whole() -> None:
        nonlocal is_over
        await flow.ainvoke()
        is_over = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(whole)
        # Without pauses it was several thousand rounds for each commit, and some never came.
        await busy(1_000 * steps, lambda: is_over)


async def test_a_store_that_is_read_beside_a_busy_loop_is_read_soon(tmp_path: Path) -> None:
    is_over = False

    def work() -> None:
        connection = sqlite3.connect(tmp_path / "some.db")
        connection.execute("create table numbers (number)")
        for number in range(100):
            connection.execute("insert into numbers values (?)", [number])
        connection.close()

    async def whole() -> None:
        nonlocal is_over
        await in_thread(work)
        is_over = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(whole)
        await busy(20_000, lambda: is_over)


async def test_a_loop_without_work_of_the_librarys_is_as_it_was(tmp_path: Path) -> None:
    flow = rt.Flow("steps", step, durable=rt.DurableStore(tmp_path / "store.db", durability="process"))
    assert await flow.ainvoke(1) == 1
    # Trio does not know it any more.
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(loop_pauses())


async def test_a_loop_that_waits_gets_no_pause() -> None:
    slept: list[float] = []
    pauses = LoopPauses(iter(range(100)).__next__, slept.append)
    pauses.use()
    pauses.begin()
    pauses.before_io_wait(0.5)
    assert not slept
    pauses.before_io_wait(0.0)
    assert len(slept) == 1
    pauses.end()
    pauses.before_io_wait(0.0)
    assert len(slept) == 1
    pauses.leave()


async def test_a_pause_that_raises_is_no_error_of_what_used_the_pauses(caplog: pytest.LogCaptureFixture) -> None:
    def interrupted(_: float) -> None:
        raise OSError("a signal handler of the user's")

    pauses = LoopPauses(iter(range(100)).__next__, interrupted)
    pauses.use()
    pauses.begin()
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    assert "OSError" in caplog.text
    pauses.end()
    pauses.leave()
    # The next one that uses them has them.
    pauses.use()
    trio.lowlevel.remove_instrument(pauses)
