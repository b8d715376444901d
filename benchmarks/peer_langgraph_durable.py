"""Measurements of langgraph with its SqliteSaver, run with the Python of a virtual environment of their own."""

import math
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from benchmarks.samples import SUBJECT, Plan, fsyncs, main, note, progress, take

STEPS = 20
"""How many steps each of the graphs that run side by side has."""


class Counting(TypedDict):
    """The state of a graph that goes round."""

    done: int
    wanted: int


def _counting(saver: SqliteSaver) -> Any:
    graph = StateGraph(Counting)
    graph.add_node("step", lambda state: {"done": state["done"] + 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["done"] < state["wanted"] else END)
    return graph.compile(checkpointer=saver)


def _finish(graph: Any, steps: int) -> None:
    """Run the graph to its end, on a thread of execution of its own."""
    config = {"recursion_limit": steps + 10, "configurable": {"thread_id": str(uuid.uuid4())}}
    state = graph.invoke({"done": 0, "wanted": steps}, config, durability="sync")
    if state["done"] != steps:
        raise RuntimeError("langgraph lost a step")


def _recorded(saver: SqliteSaver) -> int:
    query = "SELECT count(*) FROM checkpoints WHERE CAST(metadata AS TEXT) ->> 'step' > 0"
    (count,) = saver.conn.execute(query).fetchone()
    return int(count)


def _measure(plan: Plan, run: Callable[[Any, int], None], steps: Callable[[int], int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with SqliteSaver.from_conn_string(str(folder / "langgraph.sqlite")) as saver:
            saver.setup()
            graph = _counting(saver)

            def sampled(size: int) -> Mapping[str, float]:
                before = _recorded(saver)
                costs = fsyncs(folder)
                start = time.perf_counter()
                run(graph, size)
                elapsed = time.perf_counter() - start
                if _recorded(saver) - before != steps(size):
                    raise RuntimeError("langgraph did not record each step once")
                return {"": 1e6 * elapsed / steps(size), "fsync": statistics.median((*costs, *fsyncs(folder)))}

            for size in plan.sizes:
                sampled(size)
                progress("warmed up")
            # All samples, however slow the disk: a median of fewer would say little.
            take(replace(plan, budget=math.inf), {SUBJECT: sampled}, is_long=True)


def one_by_one(plan: Plan) -> None:
    note('langgraph one by one: a node that goes round, SqliteSaver, durability="sync".')
    _measure(plan, _finish, lambda size: size)


def side_by_side(plan: Plan) -> None:
    def spread(graph: Any, size: int) -> None:
        with ThreadPoolExecutor(size) as executor:
            for finished in [executor.submit(_finish, graph, STEPS) for _ in range(size)]:
                finished.result()

    note(f"langgraph side by side: N graphs of {STEPS} steps, each invoked in a thread: SqliteSaver cannot be awaited.")
    _measure(plan, spread, lambda size: size * STEPS)


if __name__ == "__main__":
    main(
        {"durable-one-by-one": one_by_one, "durable-side-by-side": side_by_side},
        distribution="langgraph-checkpoint-sqlite",
    )
