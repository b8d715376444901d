"""Models of other providers, through pydantic-ai: what they are asked, what they answer, and how they fail."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import pytest
import trio
from llm_wires import ANTHROPIC_STREAM, OPENAI_EVENTS, OPENAI_STREAM, serve_unframed, sse
from trio.testing import MockClock

import railtracks as rt
from railtracks.llm import (
    AssistantMessage,
    Message,
    ModelRequest,
    Piece,
    PydanticAIModel,
    ReasoningPiece,
    Response,
    SystemMessage,
    TextPiece,
    Tool,
    ToolCall,
    ToolCallPiece,
    ToolMessage,
    ToolResponse,
    Usage,
    UserMessage,
)
from railtracks.testing import Answer, Cut, FakeProvider, Hang, Malformed, Status

every_wire = pytest.mark.parametrize("name", ["openai", "responses", "anthropic", "google", "groq"])
# The SDK of OpenAI leaves a generator open in each stream that it has read, and all SDKs do where a stream fails.
leaves_generators = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
ADD = Tool("add", "Add.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
HI: tuple[Message, ...] = (SystemMessage("Be brief."), UserMessage("hi"))
SHAPE = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
PNG = b"\x89PNG\r\n\x1a\n"


def wires() -> Any:
    """Return the module that imports the SDKs, which takes seconds: not in each process that collects these tests."""
    return importlib.import_module("pydantic_ai_wires")


def model_of(name: str, fake: FakeProvider, **settings: Any) -> PydanticAIModel:
    return PydanticAIModel(partial(wires().MAKERS[name], fake), name="m", provider=name, **settings)


async def ask(model: PydanticAIModel, request: ModelRequest, pieces: list[Piece] | None = None) -> Response:
    async def take(piece: Piece) -> None:
        assert pieces is not None
        pieces.append(piece)

    async with model.open() as connection:
        return await connection.respond(request, None if pieces is None else take)


@every_wire
@pytest.mark.parametrize("is_streamed", [False, True])
@leaves_generators
async def test_tool_calls_reasoning_and_tokens_come_back_and_go_back(name: str, is_streamed: bool) -> None:
    usage = Usage(20, 10, cached_tokens=4, reasoning_tokens=2)
    answer = Answer("So:", calls=[("add", {"a": 1}), ("add", {"a": 2})], reasoning="Let me see.", usage=usage)
    async with FakeProvider(answer, "It is 3.") as fake:
        model = model_of(name, fake)
        pieces: list[Piece] | None = [] if is_streamed else None
        first = await ask(model, ModelRequest(HI, (ADD,)), pieces)
        results = [ToolMessage(ToolResponse(each.identifier, "add", "3")) for each in first.message.tool_calls]
        second = await ask(model, ModelRequest((*HI, first.message, *results), (ADD,)))
    assert first.message.content == "So:"
    assert [each.arguments for each in first.message.tool_calls] == [{"a": 1}, {"a": 2}]
    assert first.message.reasoning == "Let me see."
    assert first.finish_reason == "tools"
    assert (first.usage.input_tokens, first.usage.output_tokens, first.usage.calls) == (20, 10, 1)
    assert not first.usage.is_estimated
    assert second.message.content == "It is 3."
    if pieces is not None:
        assert "".join(each.text for each in pieces if isinstance(each, TextPiece)) == "So:"
        assert "".join(each.text for each in pieces if isinstance(each, ReasoningPiece)) == "Let me see."
        assert tuple(each.call for each in pieces if isinstance(each, ToolCallPiece)) == first.message.tool_calls


@every_wire
async def test_an_agent_runs_on_it(name: str) -> None:
    @rt.function_node
    def add(a: int, b: int) -> int:
        return a + b

    async with FakeProvider([("add", {"a": 1, "b": 2})], "It is 3.") as fake:
        agent = rt.agent_node("Adder", llm=model_of(name, fake), tool_nodes=[add], system_message="Be brief.")
        answer = await rt.call(agent, "What is 1 + 2?")
    assert answer.text == "It is 3."
    assert answer.tool_invocations[0][1].result == "3"


@every_wire
async def test_answers_to_others_and_failed_results_go_back_plain(name: str) -> None:
    calls = (ToolCall("1", "add", {"a": 1}), ToolCall("2", "add", '{"a":'))
    history = (
        *HI,
        AssistantMessage("Hello!"),
        AssistantMessage("Hello again!"),
        UserMessage("What is that?", attachment=PNG),
        AssistantMessage(tool_calls=calls, provider_data=rt.llm.ProviderData("other", {"x": 1})),
        *(ToolMessage(ToolResponse(each, "add", "no", is_error=True)) for each in "12"),
    )
    async with FakeProvider("A picture.", shared=True) as fake:
        answer = await ask(model_of(name, fake), ModelRequest(history, (ADD,)))
    assert answer.message.content == "A picture."


async def test_what_only_the_provider_understands_is_dropped_where_the_answer_was_changed() -> None:
    async with FakeProvider(Answer("So:", reasoning="Let me see."), "It is 3.") as fake:
        model = model_of("anthropic", fake)
        first = await ask(model, ModelRequest(HI))
        changed = AssistantMessage("Thus:", provider_data=first.message.provider_data)
        await ask(model, ModelRequest((*HI, changed, UserMessage("And?"))))
        sent = str(fake.requests[1].body)
    assert "Thus:" in sent
    assert "Let me see." not in sent


async def test_addresses_and_attachments_of_results_are_sent() -> None:
    picture = rt.llm.Attachment("image/png", data=PNG)
    paper = UserMessage("Read.", attachment=["https://x.org/a.png", "https://x.org/a.pdf"], trust_urls=True)
    call = AssistantMessage(tool_calls=(ToolCall("1", "add", {"a": 1}),))
    result = ToolMessage(ToolResponse("1", "add", "See:", attachments=(picture,)))
    async with FakeProvider("one", "Well.") as fake:
        await ask(model_of("anthropic", fake), ModelRequest((paper, call, result), (ADD,)))
        sent = str(fake.requests[0].body)
    assert "https://x.org/a.png" in sent
    assert "https://x.org/a.pdf" in sent
    assert "See:" in sent


@every_wire
async def test_a_schema_is_held_to_by_the_provider_or_told_in_words(name: str) -> None:
    async with FakeProvider('{"a": 1}') as fake:
        answer = await ask(model_of(name, fake), ModelRequest(HI, output_schema=SHAPE))
        request = fake.requests[0].model_request
    assert answer.message.content == '{"a": 1}'
    assert request is not None
    assert request.output_schema is not None or "JSON Schema" in str(request.messages)


async def test_settings_go_into_each_request() -> None:
    async with FakeProvider("Hello!") as fake:
        model = model_of(
            "openai",
            fake,
            temperature=0.5,
            top_p=0.9,
            max_tokens=7,
            stop="END",
            tool_choice="add",
            timeout=float("inf"),
            settings={"seed": 3},
        )
        await ask(model, ModelRequest(HI, (ADD,)))
        await ask(model, ModelRequest(HI, (ADD,), tool_choice="none"))
        body, other = (each.body for each in fake.requests)
    assert (body["temperature"], body["top_p"], body["stop"], body["seed"]) == (0.5, 0.9, ["END"], 3)
    assert 7 in body.values()
    assert body["tool_choice"] in ("required", {"type": "function", "function": {"name": "add"}})
    assert other.get("tool_choice", "none") == "none"
    assert model.max_tokens == 7
    assert model.structured_mode == "tool"


@every_wire
@pytest.mark.parametrize(
    ("entry", "kind", "reason"),
    [
        (Status(429, headers={"retry-after": "2"}), rt.ModelRateLimitError, "rate_limit"),
        (Status(401), rt.ModelAuthError, "auth"),
        (Status(404), rt.ModelNotFoundError, "not_found"),
        (Status(500), rt.LLMError, "server"),
        (rt.ContextLengthError(), rt.ContextLengthError, "context_length"),
        (Malformed(), rt.LLMError, "malformed"),
        (Cut(), rt.LLMError, "connection"),
        (OSError("gone"), rt.LLMError, "connection"),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
@leaves_generators
async def test_failures_are_errors_of_ours(
    name: str, entry: Any, kind: type[rt.LLMError], reason: str, is_streamed: bool
) -> None:
    async with FakeProvider(entry) as fake:
        with pytest.raises(kind) as caught:
            await ask(model_of(name, fake), ModelRequest(HI), [] if is_streamed else None)
    assert caught.value.reason == reason
    assert caught.value.is_retryable is (reason in {"rate_limit", "server", "connection"})
    assert caught.value.__cause__ is None
    assert len(fake.requests) == 1
    if isinstance(caught.value, rt.ModelRateLimitError):
        assert caught.value.retry_after == 2


@pytest.mark.parametrize(("name", "said"), [("openai", OPENAI_STREAM), ("anthropic", ANTHROPIC_STREAM)])
@leaves_generators
async def test_a_stream_that_ends_before_the_model_has_stopped_is_a_lost_connection(name: str, said: str) -> None:
    async with trio.open_nursery() as nursery:
        begun = said[: said.index("\n\n", said.index("Hello.")) + 2]
        base = await serve_unframed(nursery, "text/event-stream", begun, said)
        model = PydanticAIModel(partial(wires().model_at, name, base), name="m")
        pieces: list[Piece] = []
        with pytest.raises(rt.LLMError) as caught:
            await ask(model, ModelRequest(HI), pieces)
        assert (await ask(model, ModelRequest(HI), [])).message.content == "Hello."
        nursery.cancel_scope.cancel()
    assert [str(each) for each in pieces] == ["Hello."]
    assert (caught.value.reason, caught.value.is_retryable) == ("connection", True)


@leaves_generators
async def test_a_stream_that_tells_what_was_used_is_whole_also_without_a_reason() -> None:
    # As Snowflake's Cortex sends answers of Claude.
    said = sse(each for each in OPENAI_EVENTS if not any(c.get("finish_reason") for c in each["choices"]))
    async with trio.open_nursery() as nursery:
        base = await serve_unframed(nursery, "text/event-stream", said)
        model = PydanticAIModel(partial(wires().model_at, "openai", base), name="m")
        response = await ask(model, ModelRequest(HI), [])
        nursery.cancel_scope.cancel()
    assert (response.message.content, response.finish_reason, response.usage.output_tokens) == ("Hello.", "stop", 2)


@pytest.mark.parametrize("text", ['{"a": "\ud83d"}', '"\ud83d'])
async def test_half_a_character_in_arguments_stays_an_escape_in_their_text(text: str) -> None:
    # The text as a provider sends it. It is escaped once, so the SDK hands out the half character itself.
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": text}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    said = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    async with trio.open_nursery() as nursery:
        base = await serve_unframed(nursery, "application/json", json.dumps(said))
        model = PydanticAIModel(partial(wires().model_at, "openai", base), name="m")
        response = await ask(model, ModelRequest(HI, (ADD,)))
        nursery.cancel_scope.cancel()
    assert [each.arguments for each in response.message.tool_calls] == [text.replace("\ud83d", r"\ud83d")]


@every_wire
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_cancel_ends_the_request_on_the_wire(name: str, is_streamed: bool) -> None:
    async with FakeProvider(Hang()) as fake:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                pieces: list[Piece] | None = [] if is_streamed else None
                nursery.start_soon(ask, model_of(name, fake), ModelRequest(HI), pieces)
                await fake.wait_requests()
                scope.cancel()
        await fake.wait_left()
        assert len(fake.left) == 1


@pytest.mark.parametrize("is_streamed", [False, True])
@leaves_generators
async def test_a_provider_that_does_not_answer_is_not_waited_for(is_streamed: bool, autojump_clock: MockClock) -> None:
    model = PydanticAIModel(lambda: wires().function_model(None), name="f", timeout=2)
    with pytest.raises(rt.ModelTimeoutError) as caught:
        await ask(model, ModelRequest(HI), [] if is_streamed else None)
    assert not caught.value.is_retryable


@pytest.mark.parametrize(
    ("error", "kind", "is_retryable"),
    [
        ("timeout", rt.ModelTimeoutError, True),
        ("filter", rt.ModelRefusedError, False),
        ("connection", rt.LLMError, True),
    ],
)
async def test_errors_without_a_status_are_errors_of_ours(
    error: str, kind: type[rt.LLMError], is_retryable: bool
) -> None:
    with pytest.raises(kind) as caught:
        await ask(PydanticAIModel(lambda: wires().function_model(wires().ERRORS[error]), name="f"), ModelRequest(HI))
    assert caught.value.is_retryable is is_retryable


async def test_an_answer_without_tokens_has_them_estimated() -> None:
    async with FakeProvider(Answer("Hello there!", usage=Usage())) as fake:
        answer = await ask(model_of("openai", fake), ModelRequest(HI))
    assert answer.usage.is_estimated
    assert answer.usage.output_tokens > 0


async def test_a_model_that_was_made_is_used_by_one_trio_run_at_a_time() -> None:
    async with FakeProvider("Hello!") as fake:
        model = PydanticAIModel(wires().MAKERS["openai"](fake))
        assert (model.name, model.provider) == ("m", "openai")
        raised: list[BaseException] = []

        def other_run() -> None:
            try:
                trio.run(ask, model, ModelRequest(HI))
            except RuntimeError as error:
                raised.append(error)

        async with model.open():
            await ask(model, ModelRequest(HI))
            thread = threading.Thread(target=other_run)
            thread.start()
            await trio.to_thread.run_sync(thread.join)
        assert "another Trio run" in str(raised[0])
        await trio.to_thread.run_sync(other_run)
        assert len(raised) == 1


async def test_a_name_makes_a_model_for_each_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeProvider("Hello!") as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        model = PydanticAIModel("openai-chat:gpt-x")
        assert (model.name, model.provider) == ("gpt-x", "openai-chat")
        assert (await ask(model, ModelRequest(HI))).message.content == "Hello!"


async def test_a_missing_key_is_told_at_the_first_request() -> None:
    def make() -> Any:
        raise wires().ERRORS["user"]

    with pytest.raises(rt.ModelAuthError, match="KEY"):
        await ask(PydanticAIModel(make, name="m"), ModelRequest(HI))


@pytest.mark.parametrize(
    ("model", "settings", "kind"),
    [
        ("gpt", {}, ValueError),
        ("", {}, ValueError),
        (7, {}, TypeError),
        (lambda: None, {}, TypeError),
        ("openai:m", {"name": 7}, TypeError),
        ("openai:m", {"settings": 7}, TypeError),
        ("openai:m", {"timeout": -1}, ValueError),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_given(
    model: Any, settings: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        PydanticAIModel(model, **settings)


def test_without_pydantic_ai_it_says_which_extra_to_install() -> None:
    code = """
import sys
sys.modules["pydantic_ai"] = None
import trio, railtracks as rt
async def main():
    async with rt.llm.PydanticAIModel("openai:m").open(): pass
try: trio.run(main)
except ImportError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "railtracks-trio[pydantic-ai]" in done.stdout
