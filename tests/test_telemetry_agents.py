"""Agents in telemetry: names of OpenTelemetry and of OpenInference, tokens, metrics, and content if it is wanted."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from opentelemetry.trace import SpanKind, StatusCode
from traced_spans import traced

import railtracks as rt
from railtracks.llm import (
    AssistantMessage,
    Attachment,
    ModelRequest,
    Response,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResponse,
    Usage,
    UserMessage,
)
from railtracks.telemetry._models import answer_attributes, messages_in, tokens_of
from railtracks.telemetry._vocabulary import Vocabulary

PNG = b"\x89PNG\r\n\x1a\n"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Answering:
    """A model that gives these answers, one for each turn."""

    name = "gpt-x"
    provider = "acme"

    def __init__(self, *answers: Response | Exception | None) -> None:
        self.answers = answers

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Answering]:
        yield self

    async def respond(self, request: ModelRequest, _: object) -> Response:
        answer = self.answers[request.turn - 1]
        if answer is None:
            rt.current_session().cancel()
            await trio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer


def helper(*answers: Response | Exception | None, **options: Any) -> rt.AgentNode[Any]:
    return rt.agent_node("Helper", llm=Answering(*answers), **options)


def asks_for_sum() -> Response:
    call = ToolCall("c0", "add", {"a": 1, "b": 2})
    return Response(AssistantMessage(tool_calls=[call]), Usage(7, 5, calls=1), "tools", "gpt-x-1", "r1")


def says(text: str) -> Response:
    return Response(AssistantMessage(text), Usage(9, 3, 4, 2, 1, calls=1), "stop", "gpt-x-1", "r2")


async def run(agent: rt.AgentNode[Any], question: Any = "What is 1+2?") -> None:
    async with rt.Session(name="sums", flow_name="sums"):
        await rt.call(agent, question)


async def test_an_agent_its_requests_and_its_tools_have_the_names_of_both_vocabularies() -> None:
    with traced() as spans:
        await run(helper(asks_for_sum(), says("3"), tool_nodes=[add]))
    root = "invoke_workflow sums > invoke_agent Helper"
    assert spans.paths() == [
        "invoke_workflow sums",
        root,
        f"{root} > chat gpt-x",
        f"{root} > chat gpt-x",
        f"{root} > execute_tool add",
    ]
    expected = {
        "invoke_agent Helper": {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "Helper",
            "openinference.span.kind": "AGENT",
            "agent.name": "Helper",
        },
        "execute_tool add": {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "add",
            "gen_ai.tool.call.id": "c0",
            "gen_ai.tool.type": "function",
            "openinference.span.kind": "TOOL",
            "tool.name": "add",
        },
    }
    for name, wanted in expected.items():
        found = spans.attributes(name)
        assert {each: found[each] for each in wanted} == wanted
        assert spans.named(name).kind is SpanKind.INTERNAL
    _, second = (span for span in spans.spans if span.name == "chat gpt-x")
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.response.model": "gpt-x-1",
        "gen_ai.response.id": "r2",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-x-1",
        "llm.provider": "acme",
        "llm.token_count.prompt": 9,
        "llm.token_count.completion": 3,
        "llm.token_count.total": 12,
    }
    assert second.attributes is not None
    assert {each: second.attributes[each] for each in wanted} == wanted
    assert second.kind is SpanKind.CLIENT


async def test_without_content_no_word_of_a_conversation_is_sent() -> None:
    with traced() as spans:
        await run(helper(asks_for_sum(), says("the sum is three"), tool_nodes=[add], system_message="be terse"))
    text = "".join(span.to_json() for span in spans.spans)
    for word in ("1+2", "the sum is three", "be terse", '"a"'):
        assert word not in text


async def test_with_content_messages_arguments_and_results_are_sent() -> None:
    with traced(content=True) as spans:
        await run(helper(asks_for_sum(), says("3"), tool_nodes=[add], system_message="be terse"))
    first, second = (span for span in spans.spans if span.name == "chat gpt-x")
    assert first.attributes is not None
    assert second.attributes is not None
    question = [
        {"role": "system", "parts": [{"type": "text", "content": "be terse"}]},
        {"role": "user", "parts": [{"type": "text", "content": "What is 1+2?"}]},
    ]
    call = {"type": "tool_call", "id": "c0", "name": "add", "arguments": {"a": 1, "b": 2}}
    assert json.loads(str(first.attributes["gen_ai.input.messages"])) == question
    assert json.loads(str(first.attributes["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [call], "finish_reason": "tools"}
    ]
    # The conversation until then stands in the spans before.
    assert json.loads(str(second.attributes["gen_ai.input.messages"])) == [
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c0", "response": "3"}]}
    ]
    assert (second.attributes["output.value"], second.attributes["output.mime_type"]) == ("3", "text/plain")
    tool = spans.attributes("execute_tool add")
    assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"a": 1, "b": 2}
    assert (tool["gen_ai.tool.call.result"], tool["input.mime_type"]) == ("3", "application/json")
    agent = spans.attributes("invoke_agent Helper")
    assert (agent["input.value"], agent["output.value"]) == ("What is 1+2?", "3")
    assert json.loads(agent["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "3"}]
    workflow = spans.attributes("invoke_workflow sums")
    assert (workflow["input.value"], workflow["output.value"]) == ("What is 1+2?", "3")


async def test_content_goes_under_the_names_of_the_vocabularies_that_are_chosen() -> None:
    for genai, openinference in ((True, False), (False, True), (False, False)):
        with traced(content=True, genai=genai, openinference=openinference) as spans:
            await run(helper(asks_for_sum(), says("3"), tool_nodes=[add]))
        found = {name for span in spans.spans for name in span.attributes or {}}
        assert ("gen_ai.tool.call.arguments" in found, "gen_ai.input.messages" in found) == (genai, genai)
        assert ("input.value" in found) is openinference


async def test_arguments_of_a_plain_node_are_sent_by_name_and_without_secrets() -> None:
    async def signs_in(user: str, *roles: str, password: str) -> dict[str, object]:
        return {"user": user, "note": f"with {password}", "token": "abcdefgh"}

    with traced(content=True) as spans:
        async with rt.Session():
            await rt.call(signs_in, "ada", "admin", "author", password="correct horse")
    found = spans.attributes("signs_in")
    assert json.loads(found["input.value"]) == {
        "user": "ada",
        "roles": "admin",
        "args[2]": "author",
        "password": "[redacted]",
    }
    assert json.loads(found["output.value"]) == {
        "user": "ada",
        "note": "with [redacted]",
        "token": "[redacted]",
    }


async def test_of_a_long_value_only_the_beginning_is_sent() -> None:
    def long(text: str) -> str:
        return text * 2

    with traced(content=True) as spans:
        async with rt.Session():
            await rt.call(long, "x" * 100_000)
    found = spans.attributes("long")
    assert len(found["input.value"]) + len(found["output.value"]) < 10_000
    assert "$large" in found["output.value"]


async def test_a_request_that_fails_is_an_error_with_its_type_in_the_metrics_too() -> None:
    with traced(content=True) as spans, pytest.raises(rt.ModelAuthError):
        await run(helper(rt.ModelAuthError("no such key")))
    for name in ("chat gpt-x", "invoke_agent Helper"):
        assert spans.named(name).status.status_code is StatusCode.ERROR
        assert spans.attributes(name)["error.type"] == "ModelAuthError"
    durations = spans.measured()["gen_ai.client.operation.duration"]
    assert {attributes["error.type"] for attributes, _, _ in durations} == {"ModelAuthError"}
    assert "gen_ai.client.token.usage" not in spans.measured()


async def test_a_cancelled_request_is_measured_as_cancelled() -> None:
    with traced() as spans:
        async with rt.Session():
            await rt.call(helper(None), "Hi")
    durations = spans.measured()["gen_ai.client.operation.duration"]
    assert {attributes["error.type"] for attributes, _, _ in durations} == {"cancelled"}


async def test_tokens_and_durations_are_measured() -> None:
    with traced() as spans:
        await run(helper(asks_for_sum(), says("3"), tool_nodes=[add]))
    measured = spans.measured()
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "gpt-x",
    }
    assert sorted(measured["gen_ai.client.token.usage"], key=str) == [
        ({**chat, "gen_ai.token.type": "input"}, 2, 16),
        ({**chat, "gen_ai.token.type": "output"}, 2, 8),
    ]
    counts = {
        attributes["gen_ai.operation.name"]: count
        for attributes, count, _ in measured["gen_ai.client.operation.duration"]
    }
    assert counts == {"chat": 2, "execute_tool": 1, "invoke_agent": 1}


async def test_without_genai_nothing_is_measured() -> None:
    with traced(genai=False) as spans:
        await run(helper(says("Hi")))
    assert spans.measured() == {}
    assert [span.name for span in spans.spans] == ["sums", "Helper", "model gpt-x"]


async def test_an_agent_that_is_a_tool_is_an_agent_with_the_identifier_of_the_tool_call() -> None:
    inner = rt.agent_node("Inner", llm=Answering(says("done")))
    asks = Response(AssistantMessage(tool_calls=[ToolCall("c7", "Inner", {"user_input": "do it"})]))
    with traced(content=True) as spans:
        await run(helper(asks, says("ok"), tool_nodes=[inner]))
    found = spans.attributes("invoke_agent Inner")
    assert (found["gen_ai.tool.call.id"], found["openinference.span.kind"]) == ("c7", "AGENT")
    assert found["input.value"] == "do it"
    assert "invoke_workflow sums > invoke_agent Helper > invoke_agent Inner > chat gpt-x" in spans.paths()


@pytest.mark.parametrize("option", ["name", "middleware", "timeout"])
async def test_an_agent_with_other_options_is_an_agent_still(option: str) -> None:
    @rt.wrap_node
    async def around(call: Any, *args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    options: dict[str, Any] = {"name": "Other", "middleware": [around], "timeout": 5}
    agent: Any = rt.function_node(helper(says("Hi")), **{option: options[option]})
    with traced() as spans:
        async with rt.Session():
            await rt.call(agent, "Hi")
    name = "Other" if option == "name" else "Helper"
    assert spans.attributes(f"invoke_agent {name}")["gen_ai.agent.name"] == name


async def test_a_tool_under_a_partial_is_a_tool_with_its_own_arguments() -> None:
    tool = functools.partial(rt.function_node(add), b=2)
    asks = Response(AssistantMessage(tool_calls=[ToolCall("c1", "add", {"a": 1})]))
    with traced() as spans:
        await run(helper(asks, says("3"), tool_nodes=[tool]))
    assert spans.attributes("execute_tool add")["gen_ai.tool.call.id"] == "c1"


async def test_a_conversation_is_told_message_by_message_and_attachments_without_their_bytes() -> None:
    thinks = AssistantMessage("yes", reasoning="hm", tool_calls=[ToolCall("c", "t", "broken {")])
    said = [
        SystemMessage("be terse"),
        UserMessage("look", [Attachment("image/png", data=PNG)]),
        thinks,
        ToolMessage(ToolResponse("c", "t", "no JSON", is_error=True)),
    ]
    assert messages_in(said) == [
        {"role": "system", "parts": [{"type": "text", "content": "be terse"}]},
        {"role": "user", "parts": [{"type": "text", "content": "look"}, {"type": "file", "mime_type": "image/png"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "text", "content": "yes"},
                {"type": "tool_call", "id": "c", "name": "t", "arguments": "broken {"},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "no JSON"}]},
    ]
    assert messages_in([said[0], 1]) is None
    assert messages_in([]) is None


def test_what_is_no_answer_of_a_model_adds_nothing() -> None:
    assert answer_attributes("text", Vocabulary(genai=True, openinference=True)) == {}
    assert tokens_of("text") == {}


async def test_of_a_tool_that_fails_the_arguments_are_sent_and_no_result() -> None:
    def divides(a: int, b: int) -> int:
        return a // b

    asks = Response(AssistantMessage(tool_calls=[ToolCall("c1", "divides", {"a": 1, "b": 0})]))
    with traced(content=True) as spans:
        await run(helper(asks, says("no"), tool_nodes=[divides]))
    found = spans.attributes("execute_tool divides")
    assert json.loads(found["gen_ai.tool.call.arguments"]) == {"a": 1, "b": 0}
    assert found["error.type"] == "ZeroDivisionError"
    assert not {"gen_ai.tool.call.result", "output.value"} & set(found)
