"""Models and errors of pydantic-ai, on every wire of the fake provider. Called by `test_llm_pydantic_ai.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from pydantic_ai.exceptions import ContentFilterError, ModelAPIError, ModelTimeoutError, UserError
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.groq import GroqModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.groq import GroqProvider
from pydantic_ai.providers.openai import OpenAIProvider

from railtracks.testing import FakeProvider

Make = Callable[[FakeProvider], Model[Any]]

MAKERS: dict[str, Make] = {
    "openai": lambda fake: OpenAIChatModel("m", provider=OpenAIProvider(base_url=fake.openai_url, api_key="k")),
    "responses": lambda fake: OpenAIResponsesModel("m", provider=OpenAIProvider(base_url=fake.openai_url, api_key="k")),
    "anthropic": lambda fake: AnthropicModel("m", provider=AnthropicProvider(base_url=fake.anthropic_url, api_key="k")),
    "google": lambda fake: GoogleModel("m", provider=GoogleProvider(base_url=fake.google_url, api_key="k")),
    "groq": lambda fake: GroqModel("m", provider=GroqProvider(base_url=fake.groq_url, api_key="k")),
}


def model_at(name: str, base: str) -> Model[Any]:
    """Return a model of a server at an address."""
    if name == "openai":
        return OpenAIChatModel("m", provider=OpenAIProvider(base_url=base, api_key="k"))
    return AnthropicModel("m", provider=AnthropicProvider(base_url=base, api_key="k"))


ERRORS: dict[str, Exception] = {
    "timeout": ModelTimeoutError("f", "slow"),
    "filter": ContentFilterError("no"),
    "connection": ModelAPIError("f", ""),
    "user": UserError("Set the variable KEY"),
}


def function_model(error: Exception | None) -> FunctionModel:
    async def answer(messages: object, info: AgentInfo) -> Any:
        if error is not None:
            raise error
        await trio.sleep_forever()

    async def stream(messages: object, info: AgentInfo) -> Any:
        await answer(messages, info)
        yield ""

    return FunctionModel(answer, stream_function=stream)
