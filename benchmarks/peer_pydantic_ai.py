"""Measurements of pydantic-ai, run with the Python of its own virtual environment."""

from typing import Any

from pydantic_ai import Agent
from pydantic_ai import Tool as NamedTool
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.agents_script import Tool, measure


class PydanticAI:
    """Its agents over one model."""

    def __init__(self, url: str) -> None:
        self._model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=url, api_key="key"))

    def agent(self, tool: Tool | None) -> object:
        """Make an agent."""
        return Agent(self._model, tools=[] if tool is None else [NamedTool(tool, name="add")])

    async def ask(self, agent: Any, text: str) -> str:
        """Run an agent to its answer."""
        return str((await agent.run(text)).output)

    async def begin(self, agent: Any, text: str) -> None:
        """Stream an answer, and leave it after the first piece."""
        async with agent.run_stream(text) as result:
            async for _piece in result.stream_text(delta=True):
                break


if __name__ == "__main__":
    measure(
        PydanticAI,
        distribution="pydantic-ai-slim",
        imported="from pydantic_ai import Agent; from pydantic_ai.models.openai import OpenAIChatModel",
    )
