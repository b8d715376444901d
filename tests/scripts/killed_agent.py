"""A durable agent of ten turns, for tests that kill its process: each request and each tool call is told in a file."""

import sys
from pathlib import Path

import trio

import railtracks as rt
from railtracks.llm import ModelRequest
from railtracks.testing import ScriptedModel

TURNS = 10
STORE, TOLD, SESSION = sys.argv[1:]


def tell(what: str) -> None:
    with Path(TOLD).open("a", encoding="utf-8") as file:
        file.write(f"{what}\n")


@rt.function_node
async def note(number: int) -> str:
    """Note a number."""
    tell(f"tool {number}")
    await trio.sleep(0.005)
    return f"noted {number}"


def answer(request: ModelRequest) -> tuple[str, dict[str, int]] | str:
    tell(f"model {request.turn}")
    return ("note", {"number": request.turn}) if request.turn < TURNS else "All noted."


async def asked() -> str:
    return (await rt.call(Agent, "Note ten numbers.")).text


Agent = rt.agent_node("Agent", llm=ScriptedModel(*[answer] * TURNS), tool_nodes=[note])
flow = rt.Flow("Notes", asked, durable=rt.DurableStore(STORE, durability="process"), save_state=False)

tell("begun")
print(flow.invoke(session_id=SESSION))
