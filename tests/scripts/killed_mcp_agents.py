"""Two agents of one MCP server, awaited at once by tasks of a plain nursery; the process is killed in a request of one.

The arguments are a folder, the command of the server, and the agent whose second request kills; without it, a resume.
"""

import os
import signal
import sys
from pathlib import Path

import trio

import railtracks as rt
from railtracks.testing import ScriptedModel

folder, python, server, *victims = sys.argv[1:]


def script(name: str) -> ScriptedModel:
    def entry(request: rt.llm.ModelRequest) -> object:
        with (Path(folder) / "asked").open("a", encoding="ascii") as asked:
            print(f"{name}{request.turn}", file=asked)
        if request.turn == 2 and name in victims:
            os.kill(os.getpid(), signal.SIGKILL)
        return name if request.turn == 3 else ("add", {"a": request.turn, "b": 1})

    return ScriptedModel(entry, entry, entry)


tools = rt.MCPStdioParams(python, [server, "good"])
agents = [rt.agent_node(name, llm=script(name), tool_nodes=[tools]) for name in "AB"]


async def main() -> str:
    answers: list[str] = []

    async def ask(agent: rt.AgentNode) -> None:
        answers.append((await agent("x")).text)

    async with trio.open_nursery() as nursery:
        for each in agents:
            nursery.start_soon(ask, each)
    return " ".join(sorted(answers))


flow = rt.Flow("flow", main, save_state=False, durable=rt.DurableStore(Path(folder) / "sessions.db"))
print(flow.invoke(session_id="s") if victims else flow.resume("s"))
