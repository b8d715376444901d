"""Measurements of langgraph, run with the Python of its own virtual environment."""

import asyncio
import gc
import operator
import sys
import time
import tracemalloc
from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from benchmarks.peer_ticks import TIMEOUT, Ticking, take_timeouts
from benchmarks.samples import SUBJECT, Plan, main, note, take, take_imports


class Counting(TypedDict):
    """The state of a graph that goes round."""

    done: int
    wanted: int


class Collecting(TypedDict):
    """The state of a graph that fans out."""

    wanted: int
    results: Annotated[list[int], operator.add]


def _counting(checkpointer: InMemorySaver | None = None) -> Any:
    async def step(state: Counting) -> dict[str, int]:
        return {"done": state["done"] + 1}

    graph = StateGraph(Counting)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["done"] < state["wanted"] else END)
    return graph.compile(checkpointer=checkpointer)


def _fanning(ticking: Ticking | None = None) -> Any:
    async def work(state: dict[str, int]) -> dict[str, list[int]]:
        if ticking is not None:
            await ticking.forever()
        return {"results": [state["item"]]}

    graph = StateGraph(Collecting)
    graph.add_node("work", work)
    graph.add_conditional_edges(
        START, lambda state: [Send("work", {"item": item}) for item in range(state["wanted"])], ["work"]
    )
    graph.add_edge("work", END)
    return graph.compile()


def sequential(plan: Plan) -> None:
    graph = _counting()

    async def steps(size: int) -> float:
        start = time.perf_counter()
        await graph.ainvoke({"done": 0, "wanted": size}, {"recursion_limit": size + 10})
        return 1e6 * (time.perf_counter() - start) / size

    note("langgraph one after another: the steps of a graph, without a history.")
    take(plan, {SUBJECT: lambda size: asyncio.run(steps(size))})


def side_by_side(plan: Plan) -> None:
    graph = _fanning()

    async def fan_out(size: int) -> float:
        start = time.perf_counter()
        state = await graph.ainvoke({"wanted": size, "results": []})
        elapsed = time.perf_counter() - start
        if state["results"] != list(range(size)):
            raise RuntimeError("langgraph lost a result")
        return 1e6 * elapsed / size

    note("langgraph side by side: one Send for each input, results added up in the state.")
    take(plan, {SUBJECT: lambda size: asyncio.run(fan_out(size))})


def nested(plan: Plan) -> None:
    @task
    async def descend(levels: int) -> int:
        return await descend(levels - 1) if levels else 0

    @entrypoint()
    async def top(levels: int) -> int:
        return await descend(levels)

    async def deep(size: int) -> float:
        start = time.perf_counter()
        await top.ainvoke(size)
        return 1e6 * (time.perf_counter() - start) / size

    note("langgraph nested: tasks in tasks, with Python's recursion limit raised; at its default 400 levels fail.")
    sys.setrecursionlimit(100_000)
    take(plan, {SUBJECT: lambda size: asyncio.run(deep(size))}, is_long=True)


def invoke(plan: Plan) -> None:
    graph = StateGraph(Counting)
    graph.add_node("step", lambda state: {"done": state["done"] + 1})
    graph.add_edge(START, "step")
    graph.add_edge("step", END)
    compiled = graph.compile()

    def repeated(size: int) -> Mapping[str, float]:
        start = time.perf_counter()
        for _ in range(size):
            compiled.invoke({"done": 0, "wanted": 1})
        return {"unsaved": 1e3 * (time.perf_counter() - start) / size}

    note("langgraph invoked: a sync node, so without an event loop, and without a checkpointer.")
    take(plan, {SUBJECT: repeated}, is_long=True)


def imports(plan: Plan) -> None:
    take_imports(plan, {SUBJECT: "import langgraph.graph"})


def memory(plan: Plan) -> None:
    async def kept(size: int) -> float:
        saver = InMemorySaver()
        graph = _counting(saver)
        config = {"recursion_limit": size + 10, "configurable": {"thread_id": "kept"}}
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await graph.ainvoke({"done": 0, "wanted": size}, config)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return (after - before) / size

    note("langgraph's memory: with its InMemorySaver, for without a checkpointer it keeps no history.")
    take(plan, {SUBJECT: lambda size: asyncio.run(kept(size))}, is_long=True)


def timeout(plan: Plan) -> None:
    async def work(ticking: Ticking, size: int) -> None:
        graph = _fanning(ticking)
        graph.step_timeout = TIMEOUT
        await graph.ainvoke({"wanted": size, "results": []})

    note("langgraph's timeout: step_timeout of a graph whose one step is all the nodes.")
    take_timeouts(plan, work, TimeoutError)


if __name__ == "__main__":
    main(
        {
            "sequential": sequential,
            "side-by-side": side_by_side,
            "nested": nested,
            "invoke": invoke,
            "import": imports,
            "memory": memory,
            "timeout": timeout,
        },
        distribution="langgraph",
    )
