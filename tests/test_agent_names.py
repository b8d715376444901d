"""Tools under names that no provider takes, which models ask for all the same: the run goes on."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from llm_wires import Make, anthropic, openai, sdks  # noqa: F401 - a fixture
from pydantic_ai_wires import model_at

import railtracks as rt
from railtracks.llm import AssistantMessage, ModelRequest, PydanticAIModel, ToolCall, ToolMessage, ToolResponse
from railtracks.llm._anthropic_wire import AnthropicWire
from railtracks.llm._wire import RequestOptions
from railtracks.testing import Answer, FakeProvider


def bridged(name: str, provider: FakeProvider) -> PydanticAIModel:
    return PydanticAIModel(partial(model_at, name, getattr(provider, f"{name}_url")), name="m", retry_approach=None)


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.parametrize(
    "make",
    [openai, anthropic, partial(bridged, "openai"), partial(bridged, "anthropic")],
    ids=["openai", "anthropic", "bridged openai", "bridged anthropic"],
)
@pytest.mark.parametrize("reasoning", [None, "Let me see."])
@pytest.mark.parametrize("name", ["multi_tool_use.parallel", "add two", "", "a" * 100, "é"])
async def test_a_model_that_asks_for_a_tool_by_an_impossible_name_is_asked_again(
    make: Make, name: str, reasoning: str | None
) -> None:
    asks = Answer(calls=[(name, {}), ("add", {"a": 1, "b": 2})], reasoning=reasoning)
    async with FakeProvider(asks, "done") as provider:
        response = await rt.call(rt.agent_node("A", llm=make(provider), tool_nodes=[add]), "hi")
    assert response.text == "done"
    (wrong, told), (_, sum_) = response.tool_invocations
    # The history has what the model has said; only what is sent has another name.
    assert wrong.name == name
    assert told.result.startswith(f"there is no tool {name!r}")
    assert sum_.result == "3"


def test_identifiers_of_another_provider_are_such_as_anthropic_takes() -> None:
    # As Kimi gives them.
    call = ToolCall("functions.add:0", "add", {})
    request = ModelRequest(
        (AssistantMessage(tool_calls=[call]), ToolMessage(ToolResponse(call.identifier, "add", "3")))
    )
    body: Any = AnthropicWire("here", RequestOptions("m", "p", max_tokens=5), is_cached=False).body(
        request, is_streamed=False
    )
    (asked,), (answered,) = (each["content"] for each in body["messages"])
    assert asked["id"] == answered["tool_use_id"] == "functions_add_0"
