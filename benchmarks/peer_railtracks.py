"""Measurements of the asyncio railtracks, run with the Python of its own virtual environment."""

import asyncio
import gc
import importlib
import os
import time
import tracemalloc
from collections.abc import Mapping

from benchmarks.peer_ticks import TIMEOUT, Ticking, take_timeouts
from benchmarks.samples import SUBJECT, Plan, main, note, progress, take, take_imports

# Not an import statement: the checkers would take this project's own package for it.
rt = importlib.import_module("railtracks")
_TIMED_OUT = importlib.import_module("railtracks.exceptions").GlobalTimeOutError


async def _node(item: int) -> int:
    return item


async def _sequence(size: int) -> float:
    start = time.perf_counter()
    for item in range(size):
        await rt.call(node, item)
    return time.perf_counter() - start


async def _reported(size: int) -> None:
    for item in range(size):
        await rt.call(node, item)
        if not item % 500:
            # These calls are not what the time bound is for.
            progress("on the way")


async def _batch(size: int) -> float:
    start = time.perf_counter()
    results = await rt.call_batch(node, range(size))
    elapsed = time.perf_counter() - start
    if results != list(range(size)):
        raise RuntimeError("railtracks lost a result")
    return elapsed


async def _descend(levels: int) -> int:
    result: int = await rt.call(descend, levels - 1) if levels else 0
    return result


async def _kept(size: int) -> float:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for item in range(size):
        await rt.call(node, item)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / size


node = rt.function_node(_node)
reported = rt.function_node(_reported)
sequence = rt.function_node(_sequence)
batch = rt.function_node(_batch)
descend = rt.function_node(_descend)
kept = rt.function_node(_kept)


def _save(wanted: bool) -> None:  # noqa: FBT001 - its one argument is the answer to its name
    # The switch that the project itself recommends; the argument save_state is deprecated, and events go on.
    os.environ["RAILTRACKS_DISABLE_EVENTS"] = str(not wanted)


def sequential(plan: Plan) -> None:
    flow = rt.Flow("benchmark", sequence)
    take(plan, {SUBJECT: lambda size: 1e6 * flow.invoke(size) / size})


def side_by_side(plan: Plan) -> None:
    flow = rt.Flow("benchmark", batch)
    take(plan, {SUBJECT: lambda size: 1e6 * flow.invoke(size) / size})


def nested(plan: Plan) -> None:
    flow = rt.Flow("benchmark", descend)

    def deep(size: int) -> float:
        start = time.perf_counter()
        flow.invoke(size)
        return 1e6 * (time.perf_counter() - start) / size

    take(plan, {SUBJECT: deep}, is_long=True)


def invoke(plan: Plan) -> None:
    flow = rt.Flow("benchmark", node)

    def repeated(size: int) -> float:
        start = time.perf_counter()
        for _ in range(size):
            flow.invoke(1)
        return 1e3 * (time.perf_counter() - start) / size

    # All of the unsaved ones first: what writes events, once it was started, goes on in the whole process.
    take(plan, {SUBJECT: lambda size: {"unsaved": repeated(size)}}, is_long=True)
    _save(wanted=True)
    take(plan, {SUBJECT: lambda size: {"saved": repeated(size)}}, is_long=True)


def imports(plan: Plan) -> None:
    note("railtracks (asyncio) is imported with LITELLM_LOCAL_MODEL_COST_MAP=True, else it asks the network first.")
    take_imports(plan, {SUBJECT: "import railtracks"})


def memory(plan: Plan) -> None:
    flow = rt.Flow("benchmark", kept)
    take(plan, {SUBJECT: flow.invoke}, is_long=True)


def save(plan: Plan) -> None:
    async def ending(size: int) -> Mapping[str, float]:
        with rt.Session(flow_name="benchmark"):
            await rt.call(reported, size)
            start = time.perf_counter()
        elapsed = time.perf_counter() - start
        return {"seconds": elapsed, "wait": 1e3 * elapsed}

    note("railtracks (asyncio) saves without a checkpoint: every other task waits as long as that takes.")
    _save(wanted=True)
    take(plan, {SUBJECT: lambda size: asyncio.run(ending(size))}, is_long=True)


def timeout(plan: Plan) -> None:
    async def work(ticking: Ticking, size: int) -> None:
        async def forever(_item: int) -> None:
            await ticking.forever()

        async def everything() -> None:
            await rt.call_batch(rt.function_node(forever), range(size))

        await rt.Flow("benchmark", rt.function_node(everything), timeout=TIMEOUT).ainvoke()

    note("railtracks (asyncio): as many nodes go on as it had started in 0.2 s, on a slow machine not all of them.")
    take_timeouts(plan, work, _TIMED_OUT)


if __name__ == "__main__":
    _save(wanted=False)
    main(
        {
            "sequential": sequential,
            "side-by-side": side_by_side,
            "nested": nested,
            "invoke": invoke,
            "import": imports,
            "memory": memory,
            "save": save,
            "timeout": timeout,
        },
        distribution="railtracks",
    )
