"""Structured answers in each of the three ways, and what becomes of those that do not fit."""

from __future__ import annotations

import attrs
import pytest

import railtracks as rt
from railtracks.llm import ToolMessage, UserMessage
from railtracks.llm._script import Entry
from railtracks.testing import Answer, ScriptedModel

GOOD, BAD = '{"degrees":3.5}', '{"degrees":"warm"}'


@attrs.frozen
class Weather:
    degrees: float


async def add(a: int, b: int) -> int:
    return a + b


def agent(mode: str, *entries: Entry, **options: object) -> tuple[rt.AgentNode[Weather], ScriptedModel]:
    model = ScriptedModel(*entries, structured=mode)  # type: ignore[arg-type]
    return rt.agent_node(llm=model, output_schema=Weather, **options), model  # type: ignore[arg-type]


async def test_native_the_schema_goes_with_each_request() -> None:
    made, model = agent("auto", ("add", {"a": 1, "b": 2}), GOOD, tool_nodes=[add])
    response = await rt.call(made, "go")
    assert response.structured == response.content == Weather(3.5)
    assert (response.text, str(response)) == (GOOD, str(Weather(3.5)))
    schemas = [each.output_schema for each in model.asked]
    assert all(schema is not None and "degrees" in str(schema) for schema in schemas)


async def test_prompt_the_schema_is_in_the_system_message_and_a_fence_is_taken_off() -> None:
    made, model = agent("prompt", f"```json\n{GOOD}\n```", system_message="Be {mood}.")
    async with rt.Session({"mood": "brief"}):
        assert (await rt.call(made, "go")).structured == Weather(3.5)
    (system, _) = model.asked[0].messages
    assert isinstance(system, rt.llm.SystemMessage)
    assert system.content.startswith("Be brief.\n\n")
    assert '"degrees"' in system.content
    assert model.asked[0].output_schema is None
    made, model = agent("prompt", GOOD)
    await rt.call(made, "go")
    assert [each.role for each in model.asked[0].messages] == ["system", "user"]


async def test_tool_the_model_calls_a_tool_to_answer_and_other_calls_run_first() -> None:
    calls = [("final_answer", {"degrees": 3.5}), ("add", {"a": 1, "b": 2}), ("final_answer", {"degrees": 4})]
    made, model = agent("tool", ("add", {"a": 1, "b": 2}), calls, tool_nodes=[add], tool_choice="auto")
    response = await rt.call(made, "go")
    assert response.structured == Weather(3.5)
    assert [each.tool_choice for each in model.asked] == ["auto", "required"]
    assert [call.name for call, _ in response.tool_invocations] == ["add", "add"]
    answers = [each.content.result for each in response.message_history if isinstance(each, ToolMessage)]
    assert answers == ["3", "taken", "3", "not taken: there is an answer already"]
    made, model = agent("tool", Answer(calls=[("final_answer", GOOD)]))
    assert (await rt.call(made, "go")).structured == Weather(3.5)
    assert model.asked[0].tool_choice == "final_answer"


@pytest.mark.parametrize(
    ("mode", "bad", "good"),
    [
        ("native", BAD, GOOD),
        ("prompt", BAD, GOOD),
        ("tool", Answer(calls=[("final_answer", BAD)]), ("final_answer", {"degrees": 3.5})),
        ("tool", "It is warm.", ("final_answer", {"degrees": 3.5})),
    ],
)
async def test_an_answer_that_does_not_fit_is_sent_back(mode: str, bad: Entry, good: Entry) -> None:
    made, model = agent(mode, bad, bad, good)
    response = await rt.call(made, "go")
    assert response.structured == Weather(3.5)
    assert response.turns == 3
    told = model.asked[1].messages[-1]
    text = told.content.result if isinstance(told, ToolMessage) else told.content
    assert "$.degrees" in str(text) or "final_answer" in str(text)
    made, model = agent(mode, bad, bad, bad, good)
    with pytest.raises(rt.SchemaMismatchError) as caught:
        await rt.call(made, "go")
    assert caught.value.answer in {BAD, "It is warm."}
    assert caught.value.message_history is not None
    # Valid for a next request: no open tool call.
    made, _ = agent(mode, good)
    history = [*caught.value.message_history, UserMessage("once more")]
    assert (await rt.call(made, history)).structured == Weather(3.5)


async def test_half_a_character_in_an_answer_is_a_question_mark_which_has_to_fit() -> None:
    made, model = agent("native", '{"degrees": "\ud83d"}', '{"degrees": 3.5\ud83d}', GOOD, schema_retries=2)
    assert (await rt.call(made, "go")).structured == Weather(3.5)
    assert "Expected `float`, got `str`" in str(model.asked[1].messages[-1].content)
    assert "JSON is malformed" in str(model.asked[2].messages[-1].content)


@pytest.mark.parametrize("text", ['{"degrees": 3.5}', '```json\n{"degrees": 3.5}\n```'])
async def test_a_text_that_fits_is_taken_in_place_of_the_call_of_the_tool(text: str) -> None:
    made, model = agent("tool", text)
    assert (await rt.call(made, "warm?")).structured == Weather(3.5)
    assert len(model.asked) == 1


async def test_no_retries_and_answers_cut_short_end_at_once() -> None:
    made, _ = agent("native", BAD, GOOD, schema_retries=0)
    with pytest.raises(rt.SchemaMismatchError):
        await rt.call(made, "go")
    made, model = agent("native", Answer('{"degr', finish_reason="length"), GOOD)
    with pytest.raises(rt.AnswerCutError):
        await rt.call(made, "go")
    assert len(model.asked) == 1


async def test_the_last_turn_after_max_tool_calls_is_for_the_answer() -> None:
    call = ("add", {"a": 1, "b": 2})
    made, model = agent("tool", call, ("final_answer", {"degrees": 3.5}), tool_nodes=[add], max_tool_calls=1)
    assert (await rt.call(made, "go")).structured == Weather(3.5)
    assert model.asked[1].tool_choice == "final_answer"


async def test_without_a_schema_there_is_no_structured_answer() -> None:
    response = await rt.call(rt.agent_node(llm=ScriptedModel("hi")), "go")
    with pytest.raises(AttributeError, match="output_schema"):
        _ = response.structured


def test_the_name_of_the_answering_tool_is_taken() -> None:
    async def final_answer() -> None: ...

    with pytest.raises(rt.NodeCreationError, match="final_answer"):
        rt.agent_node(llm=ScriptedModel(), output_schema=Weather, tool_nodes=[final_answer])
