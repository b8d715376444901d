"""Agents of ours beside the bare SDK, against a local server in another process; and the import of the wing."""

import itertools
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import openai
import trio

import railtracks as rt
from benchmarks.agents_script import Server, made, serving
from benchmarks.samples import SUBJECT, Plan, Sampled, main, note, take, take_imports

PLAIN = "plain"


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _sampled(work: Callable[[int], Awaitable[float]]) -> Callable[[int], Sampled]:
    return lambda size: trio.run(work, size)


def turns(plan: Plan) -> None:
    note("Agent turns: one question and its answer, beside one request through the SDK of OpenAI with an open client.")
    with serving() as server:
        url = server.url
        agent = rt.agent_node("Agent", llm=rt.llm.OpenAILLM("m", api_base=url, api_key="key"))

        async def ours(size: int) -> float:
            async with rt.Session(save_state=False):
                await rt.call(agent, "hi")
                start = time.perf_counter()
                for _ in range(size):
                    await rt.call(agent, "hi")
                return 1e3 * (time.perf_counter() - start) / size

        async def bare(size: int) -> float:
            async with openai.AsyncOpenAI(base_url=url, api_key="key", max_retries=0) as client:
                ask = client.chat.completions.create
                await ask(model="m", messages=[{"role": "user", "content": "hi"}])
                start = time.perf_counter()
                for _ in range(size):
                    await ask(model="m", messages=[{"role": "user", "content": "hi"}])
                return 1e3 * (time.perf_counter() - start) / size

        series: Mapping[str, Callable[[int], Sampled]] = {SUBJECT: _sampled(ours), PLAIN: _sampled(bare)}
        take(plan, series, is_long=True)


def side_by_side(plan: Plan) -> None:
    note("Agents side by side: each takes two turns of 100 ms, and two tools in the first.")
    with serving() as server:
        url = server.url
        agent = rt.agent_node("Agent", llm=rt.llm.OpenAILLM("m", api_base=url, api_key="key"), tool_nodes=[add])

        async def ours(size: int) -> float:
            async with rt.Session(save_state=False):
                await rt.call(agent, "hi")
                start = time.perf_counter()
                await rt.call_batch(agent, ["timed"] * size)
                return time.perf_counter() - start

        take(plan, {SUBJECT: _sampled(ours)}, is_long=True)


def memory(plan: Plan) -> None:
    note("Memory of an agent: agents that were made, each with one tool, and that have not run.")
    model = rt.llm.OpenAILLM("m", api_base="http://127.0.0.1:9/v1", api_key="key")
    take(plan, {SUBJECT: lambda size: made(lambda: rt.agent_node("Agent", llm=model, tool_nodes=[add]), size)})


async def _five_questions(server: Server) -> Mapping[str, float]:
    """Ask the questions of `agents_script`, in Trio."""
    model = rt.llm.OpenAILLM("m", api_base=server.url, api_key="key")
    ticks: list[float] = []
    rounds: list[int] = []
    running = trio.Event()
    numbers = itertools.count()

    def agent(tool: Callable[[int, int], Awaitable[str]]) -> rt.AgentNode:
        node = rt.function_node(tool, name="add")
        return rt.agent_node(f"Agent {next(numbers)}", llm=model, tool_nodes=[node])

    async def ticking(a: int, b: int) -> str:  # noqa: ARG001 - as the tool is called
        """Tick."""
        running.set()
        while True:
            ticks.append(time.monotonic())
            await trio.sleep(0.05)

    async def failing(a: int, b: int) -> str:  # noqa: ARG001 - as the tool is called
        """Add, but not everything."""
        if a == 1:
            raise ValueError("no luck")
        return "fine"

    async def counting(a: int, b: int) -> str:
        """Count."""
        rounds.append(a + b)
        return "more"

    answers: dict[str, float] = {}
    async with rt.Session(save_state=False, history_limit=100, logging_setting="NONE"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, agent(ticking), "tool")
            await running.wait()
            nursery.cancel_scope.cancel()
        over = time.monotonic() + 0.02
        await trio.sleep(0.5)
        answers["ticks"] = sum(each > over for each in ticks)
        known = len(server.left())
        with trio.move_on_after(0.5):
            await rt.call(agent(counting), "slow")
        answers["request"] = await _left_after(server, time.monotonic(), known)
        known = len(server.left())
        async with rt.astream(agent(failing), "stream") as stream:
            async for _piece in stream:
                break
        answers["stream"] = await _left_after(server, time.monotonic(), known)
        answers["three"] = 0
        with suppress(ValueError):
            await rt.call(agent(failing), "three")
            answers["three"] = 1
        with suppress(rt.TurnLimitError):
            await rt.call(agent(counting), "endless")
        answers["endless"] = len(rounds)
    return answers


async def _left_after(server: Server, began: float, known: int) -> float:
    while True:
        seconds = server.left_after(began, known)
        if seconds is not None:
            return seconds
        await trio.sleep(0.01)


def questions(plan: Plan) -> None:
    with serving() as server:
        take(plan, {SUBJECT: lambda _size: trio.run(_five_questions, server)}, is_long=True)


def imports(plan: Plan) -> None:
    take_imports(plan, {SUBJECT: "import railtracks as rt; rt.agent_node, rt.llm", PLAIN: "import trio"})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAILTRACKS_HOME"] = folder
        main(
            {
                "agent-turns": turns,
                "agents-side-by-side": side_by_side,
                "agents-memory": memory,
                "agents-questions": questions,
                "agents-import": imports,
            },
            distribution="trio",
        )
