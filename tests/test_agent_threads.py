"""One agent that was made at import is used by threads, each with sessions of its own, and from asyncio."""

from __future__ import annotations

import asyncio
import threading

import pytest
from llm_wires import Make, both, sdks  # noqa: F401 - a fixture
from proof_rounds import rounds

import railtracks as rt
from railtracks import testing
from railtracks.llm import Model

# The model of the agent, which is made before the provider is there.
MODELS: list[Model] = []


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


Adder = rt.agent_node("Adder", llm=lambda: MODELS[-1], tool_nodes=[add], system_message="Add.")


@rt.function_node
async def ask_five() -> list[str]:
    """Ask the agent five times at once, over two connections."""
    answers = await rt.call_batch(Adder, [f"{number} + 2?" for number in range(5)], return_exceptions=False)
    return [f"{each.text} {[told.result for _, told in each.tool_invocations]}" for each in answers]


Five = rt.Flow("five", ask_five, save_state=False)
EXPECTED = [f"It is {number + 2}. ['{number + 2}']" for number in range(5)]


def call_of(request: rt.llm.ModelRequest) -> tuple[str, dict[str, int]]:
    """Return the tool call for a question: each conversation has numbers of its own."""
    return "add", {"a": int(str(request.messages[-1].content).split()[0]), "b": 2}


def answer_to(request: rt.llm.ModelRequest) -> str:
    last = request.messages[-1]
    assert isinstance(last, rt.llm.ToolMessage)
    return f"It is {last.content.result}."


def check_threads(make: Make, *, threads: int, flows: int) -> None:
    with testing.FakeProvider(call_of, answer_to) as provider:
        MODELS.append(make(provider, max_connections=2, timeout=600))
        answers: list[list[str]] = []

        def serve() -> None:
            answers.extend(Five.invoke() for _ in range(flows))

        workers = [threading.Thread(target=serve) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert answers == [EXPECTED] * (threads * flows)
        assert len(provider.requests) == 2 * 5 * threads * flows


def check_asyncio(make: Make, *, flows: int) -> None:
    async def main() -> list[list[str]]:
        return await asyncio.gather(*(Five.ainvoke() for _ in range(flows)))

    with testing.FakeProvider(call_of, answer_to) as provider:
        MODELS.append(make(provider, max_connections=2, timeout=600))
        assert asyncio.run(main()) == [EXPECTED] * flows
        assert len(provider.requests) == 2 * 5 * flows


@both
def test_an_agent_of_a_module_serves_many_threads_at_once(make: Make) -> None:
    check_threads(make, threads=3, flows=2)


@both
@pytest.mark.proof
def test_an_agent_of_a_module_serves_six_threads_with_two_hundred_flows_each(make: Make) -> None:
    check_threads(make, threads=6, flows=rounds(full=200, handful=3))


@both
def test_an_agent_of_a_module_serves_flows_side_by_side_in_asyncio(make: Make) -> None:
    check_asyncio(make, flows=3)


@both
@pytest.mark.proof
def test_an_agent_of_a_module_serves_two_hundred_flows_side_by_side_in_asyncio(make: Make) -> None:
    check_asyncio(make, flows=rounds(full=200, handful=10))
