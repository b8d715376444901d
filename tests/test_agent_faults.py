"""What a model can do wrong in a run, through both SDKs: it is told, and the run goes on to its answer."""

from __future__ import annotations

from typing import Any

import pytest
from llm_wires import Make, both, sdks  # noqa: F401 - a fixture

import railtracks as rt
from railtracks import testing
from railtracks.llm import ToolMessage
from railtracks.testing import Answer, Attempts


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# What the model asks for, and what it is told.
FAULTS: list[tuple[tuple[str, Any], str]] = [
    (("add", {"a": "one", "b": 2}), "Expected `int`, got `str` - at `$.a`"),
    (("add", {"b": 2}), "Object missing required field `a` - at `$`"),
    (("add", {"a": 1, "b": 2, "c": 3}), "Object contains unknown field `c` - at `$`"),
    (("subtract", {"a": 1, "b": 2}), "add"),
]


def tools_told(provider: testing.FakeProvider) -> list[ToolMessage]:
    """Return the results of tools in the last request, as they came over the wire."""
    asked = provider.requests[-1].model_request
    assert asked is not None
    return [each for each in asked.messages if isinstance(each, ToolMessage)]


@both
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_bad_arguments_an_unknown_tool_and_an_empty_answer_do_not_end_a_run(
    make: Make, is_streamed: bool
) -> None:
    script = [[call for call, _ in FAULTS], ("add", {"a": 1, "b": 2}), Attempts(Answer(), "It is 3.")]
    async with testing.FakeProvider(*script) as provider:
        agent = rt.agent_node("Adder", llm=make(provider), tool_nodes=[add])
        async with rt.Session() as session:
            if is_streamed:
                async with rt.astream(agent, "1 + 2?") as stream:
                    response = await stream.finish()
            else:
                response = await rt.call(agent, "1 + 2?")
        assert response.text == "It is 3."
        *faults, result = tools_told(provider)
        # Two turns of tools, the empty answer, and the answer.
        assert len(provider.requests) == 4
    assert [told.is_error for _, told in response.tool_invocations] == [True] * 4 + [False]
    assert all(told in each.content.result for each, (_, told) in zip(faults, FAULTS, strict=True))
    assert result.content.result == "3"
    # What the model cannot have is no call.
    assert [call.node for call in session.info.calls if not call.node.startswith("model")] == ["Adder", "add"]
    assert [each.role for each in response.message_history][-2:] == ["tool", "assistant"]


async def test_arguments_that_are_no_json_do_not_end_a_run_over_the_wire_of_openai() -> None:
    # On that of Anthropic arguments are an object.
    script = [("add", '{"a": 1, "b'), ("add", {"a": 1, "b": 2}), "It is 3."]
    async with testing.FakeProvider(*script) as provider:
        llm = rt.llm.OpenAILLM("gpt-test", api_base=provider.openai_url)
        response = await rt.call(rt.agent_node("Adder", llm=llm, tool_nodes=[add]), "1 + 2?")
        assert response.text == "It is 3."
        bad, result = tools_told(provider)
    assert "JSON" in bad.content.result
    assert result.content.result == "3"


@both
async def test_a_second_empty_answer_is_an_error(make: Make) -> None:
    async with testing.FakeProvider(Answer()) as provider:
        with pytest.raises(rt.EmptyAnswerError):
            await rt.call(rt.agent_node("Adder", llm=make(provider), tool_nodes=[add]), "1 + 2?")
        assert len(provider.requests) == 2
