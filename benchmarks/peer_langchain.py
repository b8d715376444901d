"""Measurements of langchain, run with the Python of its own virtual environment."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI

from benchmarks.agents_script import Tool, measure


class LangChain:
    """Its agents over one model."""

    def __init__(self, url: str) -> None:
        self._model = ChatOpenAI(model="m", base_url=url, api_key="key", max_retries=0)

    def agent(self, tool: Tool | None) -> object:
        """Make an agent."""
        tools = [] if tool is None else [StructuredTool.from_function(coroutine=tool, name="add", description="Add.")]
        return create_agent(self._model, tools)

    async def ask(self, agent: Any, text: str) -> str:
        """Run an agent to its answer."""
        answer = await agent.ainvoke({"messages": [("user", text)]})
        return str(answer["messages"][-1].content)

    async def begin(self, agent: Any, text: str) -> None:
        """Stream an answer, and leave it after the first piece."""
        async for _piece in agent.astream({"messages": [("user", text)]}, stream_mode="messages"):
            break


if __name__ == "__main__":
    measure(
        LangChain,
        distribution="langchain",
        imported="from langchain.agents import create_agent; from langchain_openai import ChatOpenAI",
    )
