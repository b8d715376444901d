"""Measurements of pydantic-graph, run with the Python of its own virtual environment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic_graph import BaseNode, End, Graph, GraphBuilder, GraphRunContext, StepContext, reduce_list_append

from benchmarks.peer_ticks import TIMEOUT, Ticking, take_timeouts
from benchmarks.samples import SUBJECT, Plan, main, note, take, take_imports


@dataclass
class Again(BaseNode[None, None, int]):
    """A node that follows itself: a graph has no calls one after another, but it has steps."""

    left: int

    async def run(self, _context: GraphRunContext[None, None]) -> Again | End[int]:
        """Go round once more, or end."""
        return Again(self.left - 1) if self.left else End(0)


def _counting() -> Graph[None, None, int, int]:
    builder = GraphBuilder(input_type=int, output_type=int)

    @builder.step
    async def begin(context: StepContext[None, None, int]) -> Again:
        return Again(context.inputs)

    builder.add(builder.node(Again), builder.edge_from(builder.start_node).to(begin))
    return builder.build()


def _mapping() -> Graph[None, None, list[int], list[int]]:
    builder = GraphBuilder(input_type=list[int], output_type=list[int])

    @builder.step
    async def work(context: StepContext[None, None, int]) -> int:
        return context.inputs

    collect = builder.join(reduce_list_append, initial_factory=list[int])
    builder.add(
        builder.edge_from(builder.start_node).map().to(work),
        builder.edge_from(work).to(collect),
        builder.edge_from(collect).to(builder.end_node),
    )
    return builder.build()


def _nesting() -> Graph[None, None, int, int]:
    builder = GraphBuilder(input_type=int, output_type=int)

    @builder.step
    async def descend(context: StepContext[None, None, int]) -> int:
        return await graph.run(inputs=context.inputs - 1) if context.inputs else 0

    builder.add(
        builder.edge_from(builder.start_node).to(descend),
        builder.edge_from(descend).to(builder.end_node),
    )
    graph = builder.build()
    return graph


def _ticking() -> Graph[None, Ticking, list[int], list[None]]:
    builder = GraphBuilder(deps_type=Ticking, input_type=list[int], output_type=list[None])

    @builder.step
    async def work(context: StepContext[None, Ticking, int]) -> None:
        await context.deps.forever()

    collect = builder.join(reduce_list_append, initial_factory=list[None])
    builder.add(
        builder.edge_from(builder.start_node).map().to(work),
        builder.edge_from(work).to(collect),
        builder.edge_from(collect).to(builder.end_node),
    )
    return builder.build()


def sequential(plan: Plan) -> None:
    graph = _counting()

    async def steps(size: int) -> float:
        start = time.perf_counter()
        await graph.run(inputs=size)
        return 1e6 * (time.perf_counter() - start) / size

    note("pydantic-graph has no calls one after another: measured are the steps of a graph, without a history.")
    take(plan, {SUBJECT: lambda size: asyncio.run(steps(size))})


def side_by_side(plan: Plan) -> None:
    graph = _mapping()

    async def fan_out(size: int) -> float:
        inputs = list(range(size))
        start = time.perf_counter()
        results = await graph.run(inputs=inputs)
        elapsed = time.perf_counter() - start
        if sorted(results) != inputs:
            raise RuntimeError("pydantic-graph lost a result")
        return 1e6 * elapsed / size

    note("pydantic-graph side by side: map and join; results come in the order of completion.")
    take(plan, {SUBJECT: lambda size: asyncio.run(fan_out(size))})


def nested(plan: Plan) -> None:
    graph = _nesting()

    async def deep(size: int) -> float:
        start = time.perf_counter()
        await graph.run(inputs=size)
        return 1e6 * (time.perf_counter() - start) / size

    note("pydantic-graph nested: a graph that runs itself in its step.")
    take(plan, {SUBJECT: lambda size: asyncio.run(deep(size))}, is_long=True)


def invoke(plan: Plan) -> None:
    graph = _nesting()

    def repeated(size: int) -> Mapping[str, float]:
        start = time.perf_counter()
        for _ in range(size):
            graph.run_sync(inputs=0)
        return {"unsaved": 1e3 * (time.perf_counter() - start) / size}

    note("pydantic-graph invoked: run_sync, which keeps one event loop for all its runs.")
    take(plan, {SUBJECT: repeated}, is_long=True)


def imports(plan: Plan) -> None:
    take_imports(plan, {SUBJECT: "import pydantic_graph"})


def timeout(plan: Plan) -> None:
    graph = _ticking()

    async def work(ticking: Ticking, size: int) -> None:
        async with asyncio.timeout(TIMEOUT):
            await graph.run(deps=ticking, inputs=list(range(size)))

    note("pydantic-graph has no timeout of its own: measured under asyncio.timeout.")
    take_timeouts(plan, work, TimeoutError)


if __name__ == "__main__":
    main(
        {
            "sequential": sequential,
            "side-by-side": side_by_side,
            "nested": nested,
            "invoke": invoke,
            "import": imports,
            "timeout": timeout,
        },
        distribution="pydantic-graph",
    )
