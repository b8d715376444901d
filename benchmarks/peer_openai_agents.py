"""Measurements of openai-agents, run with the Python of its own virtual environment."""

from typing import Any

import openai
from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled

from benchmarks.agents_script import Tool, measure


class OpenAIAgents:
    """Its agents over one client."""

    def __init__(self, url: str) -> None:
        set_tracing_disabled(disabled=True)
        client = openai.AsyncOpenAI(base_url=url, api_key="key", max_retries=0)
        self._model = OpenAIChatCompletionsModel("m", client)

    def agent(self, tool: Tool | None) -> object:
        """Make an agent."""
        tools = [] if tool is None else [function_tool(tool, name_override="add")]
        return Agent(name="Agent", model=self._model, tools=tools)

    async def ask(self, agent: Any, text: str) -> str:
        """Run an agent to its answer."""
        return str((await Runner.run(agent, text)).final_output)

    async def begin(self, agent: Any, text: str) -> None:
        """Stream an answer, and leave it after the first piece."""
        async for event in Runner.run_streamed(agent, text).stream_events():
            if event.type == "raw_response_event":
                break


if __name__ == "__main__":
    measure(OpenAIAgents, distribution="openai-agents", imported="from agents import Agent, Runner")
