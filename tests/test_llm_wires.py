"""What is written to providers, and how their many forms of answers are read. No server is asked."""

import json
from typing import Any

import msgspec
import pytest
from llm_wires import sdks  # noqa: F401 - a fixture

import railtracks as rt
from railtracks.llm import (
    AssistantMessage,
    ModelRequest,
    ProviderData,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    ToolResponse,
    Usage,
    UserMessage,
)
from railtracks.llm._anthropic_wire import AnthropicWire
from railtracks.llm._openai_wire import OpenAIWire
from railtracks.llm._wire import RequestOptions

HELLO = (UserMessage("Hello!"),)
ADD = Tool("add", "Add.", {"type": "object", "properties": {"a": {"type": "integer"}}})
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "default": 4}}}


def openai(*, is_original: bool = False, **options: Any) -> OpenAIWire:
    return OpenAIWire("here", RequestOptions("m", "openai", **options), is_original=is_original)


def anthropic(*, is_cached: bool = False, **options: Any) -> AnthropicWire:
    return AnthropicWire("here", RequestOptions("m", "anthropic", **{"max_tokens": 99} | options), is_cached=is_cached)


def body_of(wire: Any, *messages: Any, is_streamed: bool = False, **parts: Any) -> dict[str, Any]:
    body: dict[str, Any] = wire.body(ModelRequest(messages or HELLO, **parts), is_streamed=is_streamed)
    # What cannot be written as JSON fails here.
    assert json.loads(json.dumps(body)) == body
    return body


def openai_answer(message: dict[str, Any], **fields: Any) -> Any:
    return read(openai(), {"choices": [{"message": message, **fields}]})


def read(wire: Any, answer: Any) -> rt.llm.Response:
    response: rt.llm.Response = wire.response(json.dumps(answer).encode(), ModelRequest(HELLO))
    return response


def stream(wire: Any, *events: Any) -> tuple[rt.llm.Response, list[rt.llm.Piece]]:
    reader = wire.reader(ModelRequest(HELLO))
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    pieces = [piece for text in texts for piece in reader.feed(text) or ()]
    return reader.response(), pieces


def test_openai_gets_what_was_set_and_nothing_else() -> None:
    assert body_of(openai()) == {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    body = body_of(
        openai(temperature=0.5, top_p=0.9, max_tokens=5, reasoning_effort="low", stop=("END",), extra_body={"seed": 3})
    )
    assert {name: body[name] for name in body if name not in {"model", "messages"}} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 5,
        "reasoning_effort": "low",
        "stop": ["END"],
        "seed": 3,
    }
    assert body_of(openai(is_original=True, max_tokens=5))["max_completion_tokens"] == 5
    assert body_of(openai(extra_body={"model": "other"}))["model"] == "other"


def test_openai_is_asked_for_the_usage_of_a_stream() -> None:
    body = body_of(openai(), is_streamed=True)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_anthropic_gets_what_was_set_and_nothing_else() -> None:
    assert body_of(anthropic()) == {
        "model": "m",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}],
    }
    body = body_of(
        anthropic(temperature=0.5, top_p=0.9, reasoning_effort="low", stop=("END",), extra_body={"service_tier": "x"}),
        is_streamed=True,
    )
    assert {name: body[name] for name in body if name not in {"model", "messages", "max_tokens"}} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "output_config": {"effort": "low"},
        "stop_sequences": ["END"],
        "stream": True,
        "service_tier": "x",
    }


@pytest.mark.parametrize(
    ("choice", "for_openai", "for_anthropic"),
    [
        ("auto", None, None),
        ("required", "required", {"type": "any"}),
        ("none", "none", {"type": "none"}),
        ("add", {"type": "function", "function": {"name": "add"}}, {"type": "tool", "name": "add"}),
    ],
)
def test_a_tool_choice_is_written_in_each_wire_s_words(choice: str, for_openai: Any, for_anthropic: Any) -> None:
    for wire, wanted in ((openai, for_openai), (anthropic, for_anthropic)):
        assert body_of(wire(), tools=(ADD,), tool_choice=choice).get("tool_choice") == wanted
        assert body_of(wire(tool_choice=choice), tools=(ADD,)).get("tool_choice") == wanted
        # Else no run would come to its end.
        assert "tool_choice" not in body_of(wire(tool_choice=choice), tools=(ADD,), turn=2)
        assert "tool_choice" not in body_of(wire(tool_choice=choice))


def test_a_native_schema_is_strict_and_has_in_words_what_the_provider_does_not_take() -> None:
    strict = {"type": "object", "required": ["n"], "additionalProperties": False}
    format_ = body_of(openai(), output_schema=SCHEMA)["response_format"]["json_schema"]
    assert format_ == {
        "name": "answer",
        "strict": True,
        "schema": strict | {"properties": {"n": {"type": "integer", "minimum": 3}}},
    }
    config = body_of(anthropic(reasoning_effort="low"), output_schema=SCHEMA)["output_config"]
    assert config == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": strict | {"properties": {"n": {"type": "integer", "description": "(minimum: 3)"}}},
        },
    }


NODE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "title": "Node",
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None}},
        }
    },
}


def test_a_schema_that_begins_with_a_reference_begins_with_its_object_and_may_refer_to_itself() -> None:
    strict = body_of(openai(), output_schema=NODE)["response_format"]["json_schema"]
    assert strict["strict"] is True
    assert strict["schema"]["type"] == "object"
    assert strict["schema"]["required"] == ["next"]
    assert "Node" in strict["schema"]["$defs"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "properties": {"a": {"type": "array", "items": {}}}},
        {"type": "object", "properties": {"a": {"type": "array", "prefixItems": [{"type": "integer"}]}}},
        {"type": "object", "properties": {"a": {"type": ["object", "null"]}}},
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"$ref": "#/$defs/Gone"},
    ],
)
def test_a_schema_without_a_strict_form_is_told_as_it_is(schema: dict[str, Any]) -> None:
    format_ = body_of(openai(), output_schema=schema)["response_format"]["json_schema"]
    assert (format_["strict"], format_["schema"]) == (False, schema)
    body = body_of(anthropic(), output_schema=schema)
    assert "output_config" not in body
    assert json.dumps(schema) in body["system"][0]["text"]


@pytest.mark.parametrize(
    "definitions",
    [
        {"A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}}}, "B": {"anyOf": [{"$ref": "#/$defs/A"}]}},
        {"A": {"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/A"}}}}},
    ],
)
def test_anthropic_is_told_in_words_of_a_schema_that_refers_to_itself(definitions: dict[str, Any]) -> None:
    schema = {"$ref": "#/$defs/A", "$defs": definitions}
    assert "output_config" not in body_of(anthropic(), output_schema=schema)
    assert body_of(openai(), output_schema=schema)["response_format"]["json_schema"]["strict"] is True


def test_a_definition_that_is_passed_again_on_the_way_is_not_looked_into_twice() -> None:
    definitions = {
        "A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}}},
        "B": {"type": "object", "properties": {"b": {"type": "array", "items": {"$ref": "#/$defs/B"}}}},
    }
    assert "output_config" not in body_of(anthropic(), output_schema={"$ref": "#/$defs/A", "$defs": definitions})


def test_definitions_that_are_used_twice_do_not_refer_to_themselves() -> None:
    definitions = {
        "A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}, "c": {"$ref": "#/$defs/B"}}},
        "B": {"type": "string"},
    }
    assert "output_config" in body_of(anthropic(), output_schema={"$ref": "#/$defs/A", "$defs": definitions})


def test_unions_are_written_as_providers_take_them() -> None:
    union = {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}], "discriminator": {}}
    schema = {"type": "object", "properties": {"a": union}}
    strict = body_of(openai(), output_schema=schema)["response_format"]["json_schema"]["schema"]
    assert strict["properties"]["a"] == {
        "anyOf": [{"type": "integer"}, {"type": "string", "description": "(maxLength: 3)"}]
    }


CALLED = AssistantMessage("", tool_calls=(ToolCall("c1", "add", {"a": 1}), ToolCall("c2", "add", '{"a": ')))
ANSWERED = [ToolMessage(ToolResponse("c1", "add", "3")), ToolMessage(ToolResponse("c2", "add", "", is_error=True))]


def test_openai_gets_a_conversation_in_its_order() -> None:
    body = body_of(openai(), SystemMessage("Be good."), *HELLO, CALLED, *ANSWERED, AssistantMessage("It is 3."))
    assert body["messages"] == [
        {"role": "system", "content": "Be good."},
        {"role": "user", "content": "Hello!"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
                # Some servers read the arguments again, and refuse what is no JSON.
                {
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"INVALID_JSON": "{\\"a\\": "}'},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
        {"role": "assistant", "content": "It is 3."},
    ]


def test_anthropic_gets_the_answers_of_a_turn_in_one_message_and_no_empty_text() -> None:
    messages = [SystemMessage("Be good."), SystemMessage(""), *HELLO, CALLED, *ANSWERED, UserMessage("And?")]
    body = body_of(anthropic(), *messages, AssistantMessage(""), UserMessage("Well?"))
    assert body["system"] == [{"type": "text", "text": "Be good."}]
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "add", "input": {"INVALID_JSON": '{"a": '}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "3"}]},
                {"type": "tool_result", "tool_use_id": "c2", "content": [], "is_error": True},
                {"type": "text", "text": "And?"},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]


def test_anthropic_gets_a_lonely_system_message_as_a_user_s() -> None:
    body = body_of(anthropic(), SystemMessage("Write a poem."))
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Write a poem."}]}]
    assert "system" not in body


def test_anthropic_is_asked_to_keep_system_tools_and_the_last_message() -> None:
    messages = [SystemMessage("Be good."), *HELLO, CALLED, *ANSWERED]
    body = body_of(anthropic(is_cached=True), *messages, tools=(ADD, ADD))
    marked = {"type": "ephemeral"}
    assert body["system"][-1]["cache_control"] == marked
    assert [each.get("cache_control") for each in body["tools"]] == [None, marked]
    assert body["messages"][-1]["content"][-1]["cache_control"] == marked
    assert str(body).count("cache_control") == 3
    assert "cache_control" not in str(body_of(anthropic(), *messages, tools=(ADD,)))


def test_thinking_ends_no_cache() -> None:
    thought = ProviderData("anthropic", [{"type": "thinking", "thinking": "Hm.", "signature": "s"}])
    body = body_of(anthropic(is_cached=True), *HELLO, AssistantMessage("", provider_data=thought))
    assert "cache_control" not in str(body)


THOUGHT = [
    {"type": "thinking", "thinking": "Let me ", "signature": "s1"},
    {"type": "text", "text": "I add."},
    {"type": "redacted_thinking", "data": "xyz"},
    {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
]


def test_thinking_goes_back_in_its_order_to_its_provider_alone() -> None:
    answer = {"id": "a1", "model": "m1", "content": THOUGHT, "stop_reason": "tool_use", "usage": {"output_tokens": 5}}
    response = read(anthropic(), answer)
    message = response.message
    assert (message.content, message.reasoning, response.finish_reason) == ("I add.", "Let me ", "tools")
    assert (response.id, response.model_name) == ("a1", "m1")
    assert body_of(anthropic(), *HELLO, message)["messages"][1]["content"] == THOUGHT
    assert "thinking" not in str(body_of(openai(), *HELLO, message))
    other = AnthropicWire("here", RequestOptions("m", "example.com", max_tokens=9), is_cached=False)
    assert "thinking" not in str(body_of(other, *HELLO, message))


def test_thinking_goes_first_in_a_message_that_was_changed_since() -> None:
    message = read(anthropic(), {"content": THOUGHT, "stop_reason": "tool_use"}).message
    changed = AssistantMessage("I will add.", tool_calls=message.tool_calls, provider_data=message.provider_data)
    written = body_of(anthropic(), *HELLO, changed)["messages"][1]["content"]
    assert [each["type"] for each in written] == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert written[2]["text"] == "I will add."


def test_plain_answers_have_nothing_that_only_their_provider_understands() -> None:
    assert read(anthropic(), {"content": [{"type": "text", "text": "Hi."}]}).message.provider_data is None
    assert openai_answer({"content": "Hi."}).message.provider_data is None


def test_a_stream_of_anthropic_adds_up_to_the_answer() -> None:
    response, pieces = stream(
        anthropic(),
        {"type": "message_start", "message": {"id": "a1", "model": "m1", "usage": {"input_tokens": 7}}},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s1"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "I "}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"a": 1}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "add."}},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "c1", "name": "add", "input": {}},
        },
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a": '}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "content_block_stop", "index": 2},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 9, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1},
        },
        {"type": "message_stop"},
    )
    call = ToolCall("c1", "add", {"a": 1})
    assert pieces == [
        rt.llm.ReasoningPiece("Let me "),
        rt.llm.TextPiece("I "),
        rt.llm.TextPiece("add."),
        rt.llm.ToolCallPiece(call),
    ]
    message = response.message
    assert (message.content, message.tool_calls, message.reasoning) == ("I add.", (call,), "Let me ")
    assert response.usage == Usage(10, 9, cached_tokens=2, cache_write_tokens=1, calls=1)
    assert (response.id, response.model_name, response.finish_reason) == ("a1", "m1", "tools")
    assert message.provider_data is not None
    assert [each["type"] for each in message.provider_data.data] == ["thinking", "text", "tool_use"]


def test_a_tool_call_of_anthropic_without_arguments_has_none() -> None:
    started = {
        "type": "content_block_start",
        "content_block": {"type": "tool_use", "id": "c", "name": "t", "input": {}},
    }
    end = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}
    response, _ = stream(anthropic(), started, {"type": "content_block_stop"}, end)
    assert response.message.tool_calls == (ToolCall("c", "t", {}),)


def test_thinking_with_bad_arguments_goes_back_as_anthropic_takes_it() -> None:
    tool = {"type": "tool_use", "id": "c", "name": "t", "input": {}}
    response, _ = stream(
        anthropic(),
        {"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "x"}},
        {"type": "content_block_start", "index": 1, "content_block": tool},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a'}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    )
    assert response.message.tool_calls[0].arguments == '{"a'
    written = body_of(anthropic(), *HELLO, response.message)["messages"][1]["content"]
    assert written == [{"type": "redacted_thinking", "data": "x"}, tool | {"input": {"INVALID_JSON": '{"a'}}]


@pytest.mark.parametrize(
    ("stop_reason", "wanted"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tools"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("pause_turn", "other"),
    ],
)
def test_each_stop_of_anthropic_has_its_reason(stop_reason: str, wanted: str) -> None:
    assert read(anthropic(), {"content": [], "stop_reason": stop_reason}).finish_reason == wanted


@pytest.mark.parametrize(
    ("fields", "message", "wanted"),
    [
        ({"finish_reason": "stop"}, {}, "stop"),
        ({}, {}, "stop"),
        ({"finish_reason": "length"}, {}, "length"),
        ({"finish_reason": "content_filter"}, {}, "refusal"),
        ({"finish_reason": "stop"}, {"refusal": "No."}, "refusal"),
        ({"finish_reason": "stop"}, {"tool_calls": [{"id": "c", "function": {"name": "t"}}]}, "tools"),
        ({"finish_reason": "eos"}, {"tool_calls": [{"id": "c", "function": {"name": "t"}}]}, "tools"),
        ({"finish_reason": "length"}, {"tool_calls": [{"id": "c", "function": {"name": "t"}}]}, "length"),
        ({"finish_reason": "eos"}, {}, "other"),
    ],
)
def test_each_stop_of_openai_has_its_reason(fields: dict[str, Any], message: dict[str, Any], wanted: str) -> None:
    response = openai_answer({"content": None} | message, **fields)
    assert response.finish_reason == wanted
    assert response.message.content == message.get("refusal", "")


def test_openai_s_tokens_are_counted_with_their_details() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    response = read(openai(), {"choices": [{"message": {"content": "Hi."}}], "usage": usage, "model": "m1", "id": "a"})
    assert response.usage == Usage(9, 4, cached_tokens=3, reasoning_tokens=2, calls=1)
    assert (response.model_name, response.id) == ("m1", "a")


def test_tokens_that_nobody_tells_are_estimated_and_marked() -> None:
    request = ModelRequest((UserMessage("x" * 30), *ANSWERED), (Tool("add", "y" * 30, {}),))
    for wire, answer in (
        (openai(), {"choices": [{"message": {"content": "z" * 30}}]}),
        (anthropic(), {"content": [{"type": "text", "text": "z" * 30}]}),
    ):
        usage = wire.response(json.dumps(answer).encode(), request).usage
        assert usage.is_estimated
        assert (usage.output_tokens, usage.calls) == (10, 1)
        assert 20 <= usage.input_tokens <= 25
    response, _ = stream(openai(), {"choices": [{"delta": {"content": "Hi."}, "finish_reason": "stop"}]}, "[DONE]")
    assert response.usage.is_estimated


@pytest.mark.parametrize("told", [{}, {"input": 3}, {"output": 2}, {"input": None, "output": None}])
def test_tokens_that_are_told_in_part_are_estimated(told: dict[str, int | None]) -> None:
    for wire, names, answer in (
        (
            openai(),
            {"input": "prompt_tokens", "output": "completion_tokens"},
            {"choices": [{"message": {"content": "Hi."}}]},
        ),
        (
            anthropic(),
            {"input": "input_tokens", "output": "output_tokens"},
            {"content": [{"type": "text", "text": "Hi."}]},
        ),
    ):
        usage = {names[each]: count for each, count in told.items()}
        counted = read(wire, {**answer, "usage": usage}).usage
        assert counted.is_estimated
        assert counted.output_tokens > 0


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', "[1]", "null", '"hi"', "3", "{"])
def test_arguments_that_a_provider_would_not_take_back_stay_text(text: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": text}}
    response = read(openai(), {"choices": [{"message": {"tool_calls": [call]}}]})
    assert [each.arguments for each in response.message.tool_calls] == [text]


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def called(**call: Any) -> dict[str, Any]:
    name, arguments = call.pop("name", None), call.pop("arguments", None)
    return chunk({"tool_calls": [call | {"function": {"name": name, "arguments": arguments}}]})


@pytest.mark.parametrize(
    "events",
    [
        # OpenAI: in parts, by index.
        [
            called(index=0, id="c0", name="a", arguments=""),
            called(index=1, id="c1", name="b", arguments=""),
            called(index=0, arguments='{"x"'),
            called(index=1, arguments="{}"),
            called(index=0, arguments=": 1}"),
        ],
        # Each call whole, and all with one index.
        [called(index=0, id="c0", name="a", arguments='{"x": 1}'), called(index=0, id="c1", name="b", arguments="")],
        # No index at all.
        [
            called(id="c0", name="a", arguments='{"x"'),
            called(arguments=": 1}"),
            called(id="c1", name="b", arguments="{}"),
        ],
        # Arguments as an object.
        [called(id="c0", name="a", arguments={"x": 1}), called(id="c1", name="b", arguments={})],
    ],
    ids=["in parts", "one index", "no index", "objects"],
)
def test_tool_calls_of_a_stream_are_put_together_as_servers_send_them(events: list[Any]) -> None:
    response, pieces = stream(openai(), *events, chunk({}, "tool_calls"), "[DONE]")
    calls = (ToolCall("c0", "a", {"x": 1}), ToolCall("c1", "b", {}))
    assert response.message.tool_calls == calls
    assert pieces == [rt.llm.ToolCallPiece(each) for each in calls]


def test_tool_calls_without_identifiers_get_some() -> None:
    message = openai_answer({"tool_calls": [{"function": {"name": "t", "arguments": "{}"}}] * 2}).message
    first, second = message.tool_calls
    assert first.identifier
    assert first.identifier != second.identifier


def test_reasoning_comes_in_pieces_and_goes_back_to_its_server() -> None:
    response, pieces = stream(
        openai(),
        chunk({"reasoning_content": "Let "}),
        chunk({"reasoning_content": "me."}),
        chunk({"content": "Hi."}, "stop"),
        "[DONE]",
    )
    assert pieces == [rt.llm.ReasoningPiece("Let "), rt.llm.ReasoningPiece("me."), rt.llm.TextPiece("Hi.")]
    assert response.message.reasoning == "Let me."
    assert body_of(openai(), *HELLO, response.message)["messages"][1]["reasoning_content"] == "Let me."
    other = OpenAIWire("there", RequestOptions("m", "example.com"), is_original=False)
    assert "reasoning_content" not in str(body_of(other, *HELLO, response.message))


def test_details_of_reasoning_and_signatures_of_tool_calls_go_back_as_they_came() -> None:
    extra = {"google": {"thought_signature": "s1"}}
    call = {"id": "c1", "type": "function", "function": {"name": "t", "arguments": "{}"}, "extra_content": extra}
    details = [{"type": "reasoning.encrypted", "data": "xyz"}]
    message = openai_answer({"reasoning": "Hm.", "reasoning_details": details, "tool_calls": [call]}).message
    assert message.reasoning == "Hm."
    written = body_of(openai(), *HELLO, message)["messages"][1]
    assert (written["tool_calls"], written["reasoning_details"]) == ([call], details)


def test_text_in_parts_is_joined() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hi "}, {"type": "text", "text": "you."}]
    assert openai_answer({"content": parts}).message.content == "Hi you."


def test_a_stream_whose_end_is_not_told_is_complete_once_the_model_has_stopped() -> None:
    response, _ = stream(openai(), chunk({"content": "Hi."}), chunk({}, "stop"))
    assert response.message.content == "Hi."


@pytest.mark.parametrize("wire", [openai(), anthropic()])
def test_a_stream_that_ends_before_the_model_has_stopped_is_cut(wire: Any) -> None:
    with pytest.raises(rt.LLMError) as caught:
        stream(wire)
    assert (caught.value.reason, caught.value.is_retryable) == ("connection", True)


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": None}])
@pytest.mark.parametrize("wire", [openai(), anthropic()])
def test_an_object_that_is_no_answer_is_malformed(wire: Any, answer: Any) -> None:
    with pytest.raises(rt.LLMError) as caught:
        read(wire, answer)
    assert (caught.value.reason, caught.value.is_retryable) == ("malformed", False)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "type": "rate_limit_error"}, rt.ModelRateLimitError),
        ({"message": "slow down", "code": "rate_limit_exceeded"}, rt.ModelRateLimitError),
        ({"message": "no key", "type": "authentication_error"}, rt.ModelAuthError),
        ({"type": "overloaded_error"}, rt.ModelRateLimitError),
        ({"message": "gone", "code": 500}, rt.LLMError),
        ("gone", rt.LLMError),
        ([1], rt.LLMError),
    ],
)
@pytest.mark.parametrize("wire", [openai(), anthropic()])
def test_an_error_in_the_place_of_an_answer_is_that_error(wire: Any, error: Any, kind: type[rt.LLMError]) -> None:
    with pytest.raises(rt.LLMError) as caught:
        read(wire, {"error": error})
    assert type(caught.value) is kind
    with pytest.raises(rt.LLMError) as caught:
        stream(wire, {"type": "error", "error": error})
    assert type(caught.value) is kind


def test_an_account_without_money_is_not_asked_again() -> None:
    from railtracks.llm import _failures  # noqa: PLC0415 - needs the SDKs

    body = json.dumps({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}).encode()
    error = _failures.of_status("here", 429, body, {})
    assert isinstance(error, rt.ModelRateLimitError)
    assert not error.is_retryable


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "model not found, try pulling it first"}', "try pulling it first"),
        (b'{"message": "no route"}', "no route"),
        (b"<html>Bad gateway</html>", "Bad gateway"),
        (b'{"error": {"type": "not_found_error"}}', "not_found_error"),
        (b"x" * 5000, "xxx..."),
        (b"\xff", "here answered 404"),
    ],
)
def test_an_error_says_what_the_provider_says(body: bytes, text: str) -> None:
    from railtracks.llm import _failures  # noqa: PLC0415 - needs the SDKs

    error = _failures.of_status("here", 404, body, {})
    assert isinstance(error, rt.ModelNotFoundError)
    assert text in str(error)
    assert len(str(error)) < 1200


def test_a_block_of_anthropic_without_its_text_adds_none() -> None:
    body = b'{"content": [{"type": "text", "text": null}, {"type": "text", "text": "hi"}], "stop_reason": "end_turn"}'
    assert anthropic().response(body, ModelRequest((UserMessage("hi"),))).message.content == "hi"


def anthropic_stream(kind: str, part: str, *texts: str) -> list[Any]:
    begun = {"type": "content_block_start", "index": 0, "content_block": {"type": part, part: ""}}
    deltas = [{"type": "content_block_delta", "index": 0, "delta": {"type": kind, part: text}} for text in texts]
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
    return [{"type": "message_start", "message": {}}, begun, *deltas, stop, {"type": "message_stop"}]


@pytest.mark.parametrize(
    ("texts", "whole"),
    [(("Hi \ud83d", "\ude00!"), "Hi \U0001f600!"), (("Hi \ud83d", "!"), "Hi ?!"), (("\ud83d",), "?")],
)
def test_a_stream_may_cut_a_character_into_two_halves(texts: tuple[str, ...], whole: str) -> None:
    thoughts = [chunk({"reasoning_content": text}) for text in texts]
    response, pieces = stream(openai(), *thoughts, *(chunk({"content": text}) for text in texts), chunk({}, "stop"))
    assert (response.message.content, response.message.reasoning) == (whole, whole)
    assert [str(piece) for piece in pieces] == [*[""] * len(texts), *texts]
    assert body_of(openai(), *HELLO, response.message)["messages"][1]["reasoning_content"] == whole
    response, pieces = stream(anthropic(), *anthropic_stream("text_delta", "text", *texts))
    assert (response.message.content, [str(piece) for piece in pieces]) == (whole, list(texts))
    response, _ = stream(anthropic(), *anthropic_stream("thinking_delta", "thinking", *texts))
    assert response.message.reasoning == whole


def test_arguments_of_a_tool_may_be_cut_in_the_middle_of_a_character() -> None:
    events = [called(index=0, id="c0", name="a", arguments='{"x": "\ud83d'), called(index=0, arguments='\ude00"}')]
    response, _ = stream(openai(), *events, chunk({}, "tool_calls"), "[DONE]")
    assert [each.arguments for each in response.message.tool_calls] == [{"x": "\U0001f600"}]


def test_half_a_character_in_a_whole_answer_is_told_as_a_question_mark() -> None:
    assert openai_answer({"content": "Hi \ud83d!"}).message.content == "Hi ?!"
    response = read(anthropic(), {"content": [{"type": "text", "text": "Hi \ud83d!"}], "stop_reason": "end_turn"})
    assert response.message.content == "Hi ?!"


@pytest.mark.parametrize("event", ['{"choices": "\\ud83d"', '{"choices": [], "created": NaN, "id": "\\ud83d"}'])
def test_half_a_character_does_not_hide_that_an_event_is_damaged(event: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        openai().reader(rt.llm.ModelRequest(HELLO)).feed(event)
