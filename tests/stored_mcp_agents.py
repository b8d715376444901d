"""A flow whose agents have an MCP server, in tasks of a nursery. `python stored_mcp_agents.py FILE` makes a store.

`tests/states/mcp-agents-0003.db` was made with the last commit that gave the calls which list the tools of a server no
key of their own, and then packed (`pragma page_size=1024; vacuum`). There the session waits for a person.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

import railtracks as rt
from railtracks.llm._script import Entry
from railtracks.testing import ScriptedModel

SESSION = "asked"
SCRIPTS = Path(__file__).parent / "scripts"


def flow_of(store: Path, *script: Entry) -> rt.Flow[[], list[str]]:
    """Return the flow; the model of its agent has a script."""
    # The name of the server, in the record, is that of the command and of its first argument.
    server = rt.MCPStdioParams("python3", ["mcp_tools.py", "good"], cwd=SCRIPTS)
    agent = rt.agent_node("Agent", llm=ScriptedModel(*script), tool_nodes=[server])

    async def main() -> list[str]:
        texts = list[str]()

        async def ask(text: str) -> None:
            texts.append(f"{text}: {(await agent(text)).text}")

        for text in ("one", "two"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, text)
        await rt.wait_for_signal("approved", bool, park=True)
        return texts

    return rt.Flow("stored agents with a server", main, durable=store, save_state=False)


if __name__ == "__main__":
    try:
        flow_of(Path(sys.argv[1]), ("add", {"a": 1, "b": 2}), "three").invoke(session_id=SESSION)
    except rt.SessionWaiting as error:
        print(error)  # noqa: T201 - for the person who makes the store
