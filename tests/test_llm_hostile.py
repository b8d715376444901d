"""What no provider should send: nested more deeply than any parser goes, blocks of no type, counts below zero."""

import json
from typing import Any

import pytest
import trio
from llm_wires import Make, asked, both, ignore, openai, sdks, serve_unframed  # noqa: F401 - a fixture
from pydantic_ai import messages as parts
from pydantic_ai.usage import RequestUsage

import railtracks as rt
from railtracks.llm import (
    AssistantMessage,
    ModelRequest,
    Tool,
    ToolCall,
    ToolMessage,
    ToolResponse,
    Usage,
    UserMessage,
    _failures,
)
from railtracks.llm._anthropic_wire import AnthropicWire
from railtracks.llm._openai_wire import OpenAIWire
from railtracks.llm._pydantic_ai_messages import conversation, message_of, response_of
from railtracks.llm._wire import RequestOptions

# Deeper than the stack of any parser.
DEEP = "[" * 100_000 + "]" * 100_000
DEEP_OPENAI = {"choices": [{"message": {"reasoning_details": "DEEP"}, "finish_reason": "stop"}]}
DEEP_ANTHROPIC = {"content": [{"type": "tool_use", "id": "1", "name": "a", "input": "DEEP"}], "stop_reason": "tool_use"}


@both
@pytest.mark.parametrize("on_piece", [None, ignore], ids=["whole", "streamed"])
async def test_an_answer_that_is_nested_too_deeply_is_malformed(make: Make, on_piece: Any) -> None:
    answer = json.dumps(DEEP_OPENAI if make is openai else DEEP_ANTHROPIC).replace('"DEEP"', DEEP)
    body = answer if on_piece is None else f"data: {answer}\n\n"
    async with trio.open_nursery() as nursery:
        address = await serve_unframed(nursery, "application/json", body)
        kind = rt.llm.OpenAILLM if make is openai else rt.llm.AnthropicLLM
        async with kind("test", api_base=address, api_key="k").open() as connection:
            with pytest.raises(rt.LLMError, match="nested too deeply") as caught:
                await connection.respond(asked(), on_piece)
        nursery.cancel_scope.cancel()
    assert (caught.value.reason, caught.value.is_retryable) == ("malformed", False)


def test_an_error_whose_text_is_nested_too_deeply_is_that_of_its_status() -> None:
    error = _failures.of_status("here", 401, f'{{"error": {DEEP}}}'.encode(), {})
    assert type(error) is rt.ModelAuthError


OPTIONS = RequestOptions("m", "p", max_tokens=5)
REQUEST = ModelRequest((UserMessage("hi"),))


@pytest.mark.parametrize("kind", [[], {}, None, 1, True])
def test_a_block_of_anthropic_whose_type_is_no_text_is_one_that_nobody_knows(kind: Any) -> None:
    wire = AnthropicWire("here", OPTIONS, is_cached=True)
    blocks = [{"type": "text", "text": "hi"}, {"type": kind, "text": "no", "input": {}}]
    whole = wire.response(json.dumps({"content": blocks, "stop_reason": "end_turn"}).encode(), REQUEST)
    reader = wire.reader(REQUEST)
    for place, block in enumerate(blocks):
        reader.feed(json.dumps({"type": "content_block_start", "index": place, "content_block": block}))
        assert reader.feed(json.dumps({"type": "content_block_stop", "index": place})) == []
    reader.feed(json.dumps({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}))
    assert whole.message == reader.response().message
    assert whole.message.content == "hi"
    # It goes back as it came, also where the cache ends with it.
    body: Any = wire.body(ModelRequest((*REQUEST.messages, whole.message)), is_streamed=False)
    assert body["messages"][-1]["content"] == blocks


def openai_usage(usage: dict[str, Any]) -> Usage:
    said = {"choices": [{"message": {"content": "hi"}}], "usage": usage}
    return OpenAIWire("here", OPTIONS, is_original=True).response(json.dumps(said).encode(), REQUEST).usage


def anthropic_usage(usage: dict[str, Any]) -> Usage:
    said = {"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "usage": usage}
    return AnthropicWire("here", OPTIONS, is_cached=True).response(json.dumps(said).encode(), REQUEST).usage


@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_a_total_below_zero_of_openai_is_not_told(field: str) -> None:
    answered = openai_usage({"prompt_tokens": 3, "completion_tokens": 2} | {field: -1})
    assert answered.is_estimated
    assert answered.total_tokens > 0


@pytest.mark.parametrize(("cached", "reasoning"), [(-1, 4), (5, -1), (-1, -1)])
def test_a_detail_below_zero_of_openai_is_none_and_the_totals_count(cached: int, reasoning: int) -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    answered = openai_usage({"prompt_tokens": 90_000, "completion_tokens": 500} | details)
    assert answered == Usage(90_000, 500, max(cached, 0), reasoning_tokens=max(reasoning, 0), calls=1)


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens"])
def test_a_total_below_zero_of_anthropic_is_not_told(field: str) -> None:
    answered = anthropic_usage({"input_tokens": 3, "output_tokens": 2} | {field: -1})
    assert answered.is_estimated
    assert answered.total_tokens > 0


@pytest.mark.parametrize(("cached", "written"), [(-1, 4), (5, -1), (-1, -1)])
def test_a_detail_below_zero_of_anthropic_is_none_and_the_others_count(cached: int, written: int) -> None:
    details = {"cache_read_input_tokens": cached, "cache_creation_input_tokens": written}
    answered = anthropic_usage({"input_tokens": 90_000, "output_tokens": 500} | details)
    read, kept = max(cached, 0), max(written, 0)
    assert answered == Usage(90_000 + read + kept, 500, read, kept, calls=1)


@pytest.mark.parametrize(("answered", "is_told"), [(500, True), (-1, False)])
def test_counts_below_zero_at_the_end_of_a_stream_leave_those_of_its_begin(answered: int, is_told: bool) -> None:
    prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    begun = dict(zip(prompt, (1_000, 80_000, 9_000), strict=True)) | {"output_tokens": 1}
    ended = dict.fromkeys(prompt, -1) | {"output_tokens": answered}
    reader = AnthropicWire("here", OPTIONS, is_cached=True).reader(REQUEST)
    reader.feed(json.dumps({"type": "message_start", "message": {"usage": begun}}))
    reader.feed(json.dumps({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ended}))
    usage = reader.response().usage
    assert (usage == Usage(90_000, 500, 80_000, 9_000, calls=1), usage.is_estimated) == (is_told, not is_told)


def test_a_detail_below_zero_of_pydantic_ai_is_none() -> None:
    counts = RequestUsage(input_tokens=9, output_tokens=5, cache_read_tokens=-1, cache_write_tokens=-1)
    counts.output_reasoning_tokens = -1
    answer = parts.ModelResponse([parts.TextPart("hi")], usage=counts)
    assert response_of(answer, REQUEST, "p").usage == Usage(9, 5, calls=1)


@pytest.mark.parametrize(("asked_for", "answered"), [(-1, 2), (3, -1), (0, 0)])
def test_counts_of_pydantic_ai_that_are_none_are_not_told(asked_for: int, answered: int) -> None:
    answer = parts.ModelResponse(
        [parts.TextPart("hi")], usage=RequestUsage(input_tokens=asked_for, output_tokens=answered)
    )
    assert response_of(answer, REQUEST, "p").usage.is_estimated


CALLED = AssistantMessage(tool_calls=(ToolCall("1", "fs.read", {}), ToolCall("2", "fs.gone", {})))
ASKED = (UserMessage("hi"), CALLED, ToolMessage(ToolResponse("1", "fs.read", "r")))
FS_READ = Tool("fs.read", "Read.", {"type": "object", "properties": {}})
# What a request sends for the names of `CALLED`, by its tools.
by_tools = pytest.mark.parametrize(
    ("tools", "sent"), [((FS_READ,), ["fs.read", "fs_gone"]), ((), ["fs_read", "fs_gone"])], ids=["known", "unknown"]
)


@by_tools
def test_openai_is_told_of_a_call_under_the_name_of_its_tool(tools: tuple[Tool, ...], sent: list[str]) -> None:
    body: Any = OpenAIWire("here", OPTIONS, is_original=True).body(ModelRequest(ASKED, tools), is_streamed=False)
    assert [each["function"]["name"] for each in body["messages"][1]["tool_calls"]] == sent


@by_tools
@pytest.mark.parametrize("thought", [[], [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]])
def test_anthropic_is_told_of_a_call_under_the_name_of_its_tool(
    tools: tuple[Tool, ...], sent: list[str], thought: list[dict[str, Any]]
) -> None:
    wire = AnthropicWire("here", OPTIONS, is_cached=False)
    calls = [{"type": "tool_use", "id": each.identifier, "name": each.name, "input": {}} for each in CALLED.tool_calls]
    said = json.dumps({"content": [*thought, *calls], "stop_reason": "tool_use"}).encode()
    answer = wire.response(said, REQUEST).message
    body: Any = wire.body(ModelRequest((*REQUEST.messages, answer), tools), is_streamed=False)
    blocks = body["messages"][1]["content"]
    assert blocks[: len(thought)] == thought
    assert [each["name"] for each in blocks[len(thought) :]] == sent


@by_tools
@pytest.mark.parametrize("thought", [[], [parts.ThinkingPart("Hm.", signature="s")]])
def test_pydantic_ai_is_told_of_a_call_under_the_name_of_its_tool(
    tools: tuple[Tool, ...], sent: list[str], thought: list[parts.ThinkingPart]
) -> None:
    calls = [parts.ToolCallPart(each.name, {}, each.identifier) for each in CALLED.tool_calls]
    answer = message_of(parts.ModelResponse([*thought, *calls]), "p")
    _, told, answered = conversation(ModelRequest((ASKED[0], answer, ASKED[2]), tools), "p")
    assert [each.tool_name for each in told.parts if isinstance(each, parts.ToolCallPart)] == sent
    assert [each.tool_name for each in answered.parts if isinstance(each, parts.ToolReturnPart)] == sent[:1]
