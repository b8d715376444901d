"""Read by the type checkers only: models, their settings and their requests."""

from decimal import Decimal
from pathlib import Path
from typing import assert_type

import railtracks as rt
from railtracks.llm import Model, ModelConnection, Response, Tool, UserMessage
from railtracks.llm.retries import ExponentialRetry, FixedRetry, LinearRetry

models: list[Model] = [
    rt.llm.OpenAILLM("gpt", api_base="http://localhost/v1", api_key=rt.Secret("key"), temperature=0, stop=["END"]),
    rt.llm.AnthropicLLM("claude", max_tokens=100, price=(Decimal("0.5"), 2.5), cache=False, structured="native"),
    rt.llm.OpenAICompatibleProvider("m", api_base="http://localhost/v1", timeout=3, retry_approach=rt.Retry(3)),
    rt.llm.OllamaLLM("llama", "custom", "localhost", retry_approach=FixedRetry(2, delay=0.5)),
    rt.llm.GeminiLLM("gemini", retry_approach=ExponentialRetry(max_tries=4, base=3, jitter=False)),
    rt.llm.AzureAILLM("gpt", retry_approach=LinearRetry(step=2), tool_choice="required"),
]

rt.llm.OpenAILLM("gpt", structured="magic")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
rt.llm.OllamaLLM("llama", "elsewhere")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
rt.llm.OllamaLLM("llama", heat=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

UserMessage("Look!", Path("a.png"))
UserMessage("Look!", ["a.png", b"...", Path("b.pdf")], trust_urls=True)
UserMessage("Look!", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def ask(model: rt.llm.OpenAILLM, tool: Tool) -> None:
    assert_type(await model.achat("Hello!"), Response)
    await model.achat(
        [rt.llm.SystemMessage("Be good."), UserMessage("Hello!")], tools=[tool], schema={"type": "object"}
    )
    await model.achat(UserMessage("Hello!"))
    await model.achat([3])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    async with model.open() as connection:
        assert_type(connection, ModelConnection)
