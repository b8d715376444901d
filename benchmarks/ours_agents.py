"""Agents of ours beside the bare SDK, against a local server in another process; and the import of the wing."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager

import openai
import trio

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, Sampled, main, note, take, take_imports

PLAIN = "plain"


@contextmanager
def _server() -> Generator[str]:
    command = [sys.executable, "-m", "benchmarks.agents_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield (process.stdout or sys.stdin).readline().strip()
        process.communicate("")


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _sampled(work: Callable[[int], Awaitable[float]]) -> Callable[[int], Sampled]:
    return lambda size: trio.run(work, size)


def turns(plan: Plan) -> None:
    note("Agent turns: one question and its answer, beside one request through the SDK of OpenAI with an open client.")
    with _server() as url:
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
    with _server() as url:
        agent = rt.agent_node("Agent", llm=rt.llm.OpenAILLM("m", api_base=url, api_key="key"), tool_nodes=[add])

        async def ours(size: int) -> float:
            async with rt.Session(save_state=False):
                await rt.call(agent, "hi")
                start = time.perf_counter()
                await rt.call_batch(agent, ["hi"] * size)
                return time.perf_counter() - start

        take(plan, {SUBJECT: _sampled(ours)}, is_long=True)


def imports(plan: Plan) -> None:
    take_imports(plan, {SUBJECT: "import railtracks as rt; rt.agent_node, rt.llm", PLAIN: "import trio"})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAILTRACKS_HOME"] = folder
        main(
            {"agent-turns": turns, "agents-side-by-side": side_by_side, "agents-import": imports},
            distribution="trio",
        )
