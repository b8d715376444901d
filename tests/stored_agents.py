"""A flow that asks models in each way, then waits for a person. `python stored_agents.py FILE` makes a store of it.

`tests/states/agents-0003.db` was made with the last commit that did not record the call of a streamed agent. There the
first run is put aside as it waits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import railtracks as rt
from railtracks.llm._script import Entry
from railtracks.testing import ScriptedModel

SESSION = "asked"


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@rt.function_node
async def saved(text: str) -> str:
    return text


def flow_of(store: Path, script: Sequence[Entry], asked: str) -> rt.Flow[[], list[str]]:
    """Return the flow; the model of its agents has a script, and another one answers a question."""
    model, questions = ScriptedModel(*script), ScriptedModel(asked, name="questions")
    called = rt.agent_node("Called", llm=model, tool_nodes=[add])
    streamed = rt.agent_node("Streamed", llm=model, tool_nodes=[add])

    async def main() -> list[str]:
        answer = (await rt.call(called, "1 + 2?")).text
        asked = (await questions.achat("a question")).message.content
        async with rt.astream(streamed, user_input="go on") as stream:
            pieces = [piece.text async for piece in stream if isinstance(piece, rt.llm.TextPiece)]
        kept = await rt.call(saved, "".join(pieces))
        await rt.wait_for_signal("approved", bool, park=True)
        return [answer, asked, kept, stream.result.text]

    return rt.Flow("stored agents", main, durable=store, save_state=False)


if __name__ == "__main__":
    try:
        flow_of(Path(sys.argv[1]), [("add", {"a": 1, "b": 2}), "three"], "asked").invoke(session_id=SESSION)
    except rt.SessionWaiting as error:
        print(error)  # noqa: T201 - for the person who makes the store
