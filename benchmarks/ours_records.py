"""What ours keeps: the memory of a finished call, and the time that saving takes, for itself and for others."""

import gc
import json
import math
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping

import trio

import railtracks as rt
from benchmarks.probe import watching
from benchmarks.samples import SUBJECT, Plan, Sampled, main, note, take

UNSAVED = "ours, save_state=False"
IDLE = "plain, nothing to do"


async def node(item: int) -> int:
    return item


tracked = rt.function_node(node)


async def _calls(size: int) -> None:
    for item in range(size):
        await rt.call(tracked, item)


def memory(plan: Plan) -> None:
    async def kept(size: int) -> float:
        async with rt.Session(save_state=False):
            await _calls(100)
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            await _calls(size)
            gc.collect()
            after = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
        return (after - before) / size

    note("Memory: what tracemalloc sees while the session is still open; each call has one int as argument and result.")
    take(plan, {SUBJECT: lambda size: trio.run(kept, size)}, is_long=True)


async def _ending(session: rt.Session, size: int) -> Mapping[str, float]:
    """Measure the end of a session of size calls, watched by a task outside it."""
    async with watching() as probe:
        async with session:
            await _calls(size)
            probe.start_over()
            start = time.perf_counter()
        elapsed = time.perf_counter() - start
    return {"seconds": elapsed, "wait": 1e3 * probe.longest}


def _saving(size: int) -> Mapping[str, float]:
    session = rt.Session(save_state=True)
    sampled = trio.run(_ending, session, size)
    # A failed save is logged and never raised: the quickest of all, so it must not pass for a figure.
    if session.state_path is None or not session.state_path.exists():
        raise RuntimeError("the state was not saved")
    session.state_path.unlink()
    return sampled


async def _idle() -> Mapping[str, float]:
    async with watching() as probe:
        await trio.sleep(0.5)
    return {"wait": 1e3 * probe.longest}


def value(plan: Plan) -> None:
    """A session whose only result is a list of ints, saved whole."""
    numbers = rt.function_node(_numbers)

    async def saved(size: int) -> Mapping[str, float]:
        async with watching() as probe:
            async with rt.Session(save_state=True, value_limit=math.inf) as session:
                result = await rt.call(numbers, size)
                probe.start_over()
                start = time.perf_counter()
            elapsed = time.perf_counter() - start
        if session.state_path is None or session.state_path.stat().st_size < size:
            raise RuntimeError("the value was not saved whole")
        session.state_path.unlink()
        start = time.perf_counter()
        json.dumps(result)
        return {"ratio": elapsed / (time.perf_counter() - start), "wait": 1e3 * probe.longest}

    note("One value: from the end of the session's block until it is left, over json.dumps of the same list just then.")
    take(plan, {SUBJECT: lambda size: trio.run(saved, size)}, is_long=True)


async def _numbers(count: int) -> list[int]:
    return list(range(count))


def save(plan: Plan) -> None:
    note(
        "Saving: from the end of the session's block until it is left; the wait is that of a task outside the session "
        "that wakes up every millisecond. With nothing to do it shows what the machine alone makes it wait."
    )
    series: Mapping[str, Callable[[int], Sampled]] = {
        SUBJECT: _saving,
        UNSAVED: lambda size: trio.run(_ending, rt.Session(save_state=False), size),
        IDLE: lambda _size: trio.run(_idle),
    }
    take(plan, series, is_long=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAILTRACKS_HOME"] = folder
        main({"memory": memory, "save": save, "value": value}, distribution="trio")
