"""Flows in asyncio: a cancel at every moment of a call, other event loops, connections, and the stall of the loop."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from proof_rounds import held_to, rounds

import railtracks as rt

pytestmark = pytest.mark.usefixtures("no_trio_thread_afterwards")

SCRIPTS = Path(__file__).parent / "scripts"


class Counted:
    """A flow of a few calls, which counts what begins and what is cleaned up."""

    def __init__(self, steps: int = 5) -> None:
        self.begun = self.cleaned_up = 0
        self._steps = steps
        self.flow = rt.Flow("counted", self._run, save_state=False, logging_setting="NONE")

    async def _run(self) -> int:
        self.begun += 1
        try:
            for number in range(self._steps):
                await rt.call(self._step, number)
            return self._steps
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            self.cleaned_up += 1

    async def _step(self, number: int) -> int:
        await trio.lowlevel.checkpoint()
        return number


class StopGroupError(Exception):
    """What ends a task group."""


async def pass_steps(steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)


async def by_task(run: Callable[[], Coroutine[Any, Any, int]], steps: int, *, again: bool = False) -> bool:
    """Run it in a task that is cancelled after so many steps of the loop; return whether that struck."""
    task = asyncio.create_task(run())
    await pass_steps(steps)
    task.cancel()
    if again:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def by_timeout(run: Callable[[], Coroutine[Any, Any, int]], steps: int) -> bool:
    try:
        async with asyncio.timeout(steps * 20e-6):
            await run()
    except TimeoutError:
        return True
    return False


async def by_task_group(run: Callable[[], Coroutine[Any, Any, int]], steps: int) -> bool:
    tasks: list[asyncio.Task[int]] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            tasks.append(group.create_task(run()))
            await pass_steps(steps)
            raise StopGroupError
    assert [type(error) for error in caught.value.exceptions] == [StopGroupError]
    return tasks[0].cancelled()


@pytest.mark.parametrize(
    "cancelled_by",
    [by_task, partial(by_task, again=True), by_timeout, by_task_group],
    ids=["task", "twice", "timeout", "task group"],
)
def test_a_cancel_at_every_moment_of_a_call_leaves_nothing_of_the_flow(cancelled_by: Callable[..., Any]) -> None:
    counted = Counted()

    async def run() -> int:
        try:
            return await counted.flow.ainvoke()
        finally:
            # Whatever it was that ended it.
            assert counted.begun == counted.cleaned_up

    async def main() -> int:
        struck, task = 0, asyncio.current_task()
        assert task is not None
        for number in range(rounds(full=2_000, handful=60)):
            struck += await cancelled_by(run, number)
            assert task.cancelling() == 0
        return struck

    assert asyncio.run(main())
    assert counted.begun == counted.cleaned_up


@pytest.mark.parametrize(
    "run",
    [lambda main: asyncio.run(main()), lambda main: pytest.importorskip("uvloop").run(main())],
    ids=["asyncio", "uvloop"],
)
def test_every_loop_returns_raises_cancels_and_times_out(run: Callable[[Callable[[], Any]], None]) -> None:
    events: list[str] = []
    began = threading.Event()

    async def hang() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            events.append("cleaned up")

    async def fail() -> None:
        raise ValueError("no")

    hanging = rt.Flow("hang", hang, save_state=False)

    async def main() -> None:
        assert await Counted().flow.ainvoke() == 5
        with pytest.raises(ValueError, match="no"):
            await rt.Flow("fail", fail, save_state=False).ainvoke()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await hanging.ainvoke()
        began.clear()
        task = asyncio.create_task(hanging.ainvoke())
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    # The timeout may come before the flow has begun.
    assert events in (["cleaned up"], ["cleaned up"] * 2)


def test_beside_nest_asyncio_a_flow_may_be_run_inside_a_running_loop() -> None:
    # In a process of its own, because it changes asyncio for good.
    pytest.importorskip("nest_asyncio2")
    program = """
import asyncio, nest_asyncio2, railtracks as rt, trio
nest_asyncio2.apply()
async def double(number):
    await trio.sleep(0.01)
    return 2 * number
flow = rt.Flow("double", double, save_state=False)
async def main():
    inner = asyncio.run(flow.ainvoke(4))
    try:
        flow.invoke(4)
    except RuntimeError as error:
        print(error)
    return inner, await flow.ainvoke(5), await asyncio.gather(*(flow.ainvoke(n) for n in range(3)))
print(asyncio.run(main()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.splitlines() == [
        "Cannot invoke flow synchronously within an active event loop. Use 'ainvoke' instead.",
        "(8, 10, [0, 2, 4])",
    ], done.stderr


def test_a_connection_is_watched_from_asyncio_while_it_runs() -> None:
    began, may_end = threading.Event(), threading.Event()

    async def work(number: int) -> int:
        rt.context.put("place", "half")
        began.set()
        await trio.to_thread.run_sync(may_end.wait, 10)
        return 2 * number

    async def main() -> None:
        connection = rt.Flow("work", work, save_state=False).connect()
        assert (connection.connected, connection.status) == (False, None)
        task = asyncio.create_task(connection.ainvoke(4))
        await asyncio.to_thread(began.wait, 10)
        assert (connection.connected, connection.status) == (True, "running")
        assert dict(connection.context) == {"place": "half"}
        may_end.set()
        assert await task == 8
        assert (connection.connected, connection.status) == (False, "completed")
        with pytest.raises(RuntimeError, match="used before"):
            await connection.ainvoke(4)

    asyncio.run(main())


@pytest.mark.proof
def test_the_loop_is_not_held_up_by_a_flow_that_computes(
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    # In a process of its own, beside which nothing else runs. The machine may do something else.
    script = [sys.executable, str(SCRIPTS / "loop_stall.py")]

    def stall() -> float:
        done = subprocess.run(script, capture_output=True, text=True, timeout=50, check=True)
        return float(json.loads(done.stdout)["ours"])

    record_testsuite_property("ms that the loop computed for others", held_to(10, stall))
