"""The wire of Anthropic's messages. Called by the server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final, cast

from railtracks.llm._data import FinishReason, Tool, Usage
from railtracks.llm._fake.fields import Fields, Refused
from railtracks.llm._fake.schemas import check_schema, check_tools
from railtracks.llm._fake.wire import Asked, Event, Json, Reply, arguments_text, event, halves, signature_of
from railtracks.llm._messages import (
    AssistantMessage,
    Message,
    ProviderData,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResponse,
    UserMessage,
)

_FINISH: Final[Mapping[FinishReason, str]] = {
    "stop": "end_turn",
    "tools": "tool_use",
    "length": "max_tokens",
    "refusal": "refusal",
    "other": "pause_turn",
}
_ERRORS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_MOST_CACHED: Final = 4


class AnthropicWire:
    """Messages."""

    name = "anthropic"
    signs = True

    def read(self, path: str, headers: Mapping[str, str], body: Fields) -> Asked:  # noqa: ARG002 - all is in the body
        """Read a request, or raise `Refused`."""
        if "anthropic-version" not in headers:
            raise Refused("anthropic-version: the header is required")
        _check_numbers(body)
        if (cached := json.dumps(body.values).count('"cache_control": {')) > _MOST_CACHED:
            raise Refused(f"at most {_MOST_CACHED} blocks may have cache_control, not {cached}")
        tools = tuple(
            Tool(each.text("name"), str(each.get("description") or ""), each.inner("input_schema").values)
            for each in body.each("tools")
        )
        strict = [each.text("name") for each in body.each("tools") if each.get("strict")]
        choice = _choice(body.optional("tool_choice"))
        check_tools(tools, choice)
        for each in tools:
            if each.name in strict:
                _check_closed(each.parameters, f"the schema of tool {each.name!r}")
        system = body.get("system")
        texts = [system] if isinstance(system, str) else [_text(each) for each in body.each("system")]
        messages: list[Message] = [SystemMessage(each) for each in texts]
        for given in body.each("messages"):
            messages += _messages(given)
        return Asked(
            model=body.text("model"),
            messages=tuple(messages),
            tools=tools,
            output_schema=_output_schema(body),
            tool_choice=choice,
            is_streamed=bool(body.get("stream")),
        )

    def whole(self, reply: Reply) -> Json:
        """Return the body of an answer."""
        content: list[Json] = []
        if reply.message.reasoning is not None:
            content.append({"type": "thinking", "thinking": reply.message.reasoning, "signature": reply.signature})
        if reply.message.content:
            content.append({"type": "text", "text": reply.message.content})
        content += [
            {"type": "tool_use", "id": each.identifier, "name": each.name, "input": each.arguments}
            for each in reply.message.tool_calls
        ]
        return {
            **_head(reply),
            "content": content,
            "stop_reason": _FINISH[reply.finish_reason],
            "usage": _usage(reply.usage),
        }

    def stream(self, reply: Reply, *, wants_usage: bool) -> Iterator[Event]:  # noqa: ARG002 - Anthropic always tells
        """Return the events of a streamed answer."""
        usage = {**_usage(reply.usage), "output_tokens": 1}
        yield _event("message_start", message={**_head(reply), "content": [], "stop_reason": None, "usage": usage})
        number = 0
        if reply.message.reasoning is not None:
            thinking: list[Json] = [
                {"type": "thinking_delta", "thinking": reply.message.reasoning},
                {"type": "signature_delta", "signature": reply.signature},
            ]
            yield from _block(number, {"type": "thinking", "thinking": "", "signature": ""}, thinking)
            number += 1
        if reply.pieces:
            texts = [{"type": "text_delta", "text": each} for each in reply.pieces]
            yield from _block(number, {"type": "text", "text": ""}, texts)
            number += 1
        for each in reply.message.tool_calls:
            parts = [{"type": "input_json_delta", "partial_json": half} for half in halves(arguments_text(each))]
            start: Json = {"type": "tool_use", "id": each.identifier, "name": each.name, "input": {}}
            yield from _block(number, start, parts)
            number += 1
        delta = {"stop_reason": _FINISH[reply.finish_reason], "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage={"output_tokens": reply.usage.output_tokens})
        yield _event("message_stop")

    def error(self, status: int, message: str, *, is_too_long: bool = False) -> Json:
        """Return the body of an error."""
        # Only the text tells that a prompt is too long.
        text = f"prompt is too long: {message}" if is_too_long else message
        kind = _ERRORS.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_fake"}

    def stream_error(self, status: int, message: str) -> Event:
        """Return the error that ends a stream."""
        return event(self.error(status, message), "error")


def _event(kind: str, *, is_piece: bool = False, **fields: object) -> Event:
    return event({"type": kind, **fields}, kind, is_piece=is_piece)


def _block(number: int, start: Json, deltas: list[Json] | list[dict[str, str]]) -> Iterator[Event]:
    yield _event("content_block_start", index=number, content_block=start)
    for each in deltas:
        yield _event("content_block_delta", is_piece=True, index=number, delta=each)
    yield _event("content_block_stop", index=number)


def _head(reply: Reply) -> dict[str, object]:
    return {
        "id": reply.identifier,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "stop_sequence": None,
    }


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }


def _check_numbers(body: Fields) -> None:
    most = body.get("max_tokens")
    if not isinstance(most, int) or most < 1:
        raise Refused("max_tokens: a positive number is required")
    thinking = body.optional("thinking")
    if thinking is not None and thinking.text("type") == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or not 1024 <= budget < most:  # noqa: PLR2004 - Anthropic's least budget
            raise Refused("thinking.budget_tokens: a number from 1024 to below max_tokens is required")
    temperature = body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 1:
        raise Refused("temperature: a number from 0 to 1 is expected")


def _choice(given: Fields | None) -> str:
    match None if given is None else given.text("type"):
        case None | "auto":
            return "auto"
        case "any":
            return "required"
        case "none":
            return "none"
        case "tool" if given is not None:
            return given.text("name")
        case kind:
            raise Refused(f"tool_choice: there is no type {kind!r}")


def _output_schema(body: Fields) -> Mapping[str, object] | None:
    config = body.optional("output_config")
    given = None if config is None else config.optional("format")
    if given is None:
        return None
    if given.text("type") != "json_schema":
        raise Refused(f"{given.path}: there is no type {given.text('type')!r}")
    schema = given.inner("schema").values
    _check_closed(schema, "the schema of the answer")
    return schema


def _check_closed(schema: Mapping[str, object], where: str) -> None:
    """Refuse a schema with an object that does not close its properties. Properties may be optional here."""
    check_schema(schema, where, strict=False)
    waiting: list[object] = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += cast("list[object]", each)
        elif isinstance(each, dict):
            inner = cast("dict[str, object]", each)
            if inner.get("type") == "object" and inner.get("additionalProperties") is not False:
                raise Refused(f"{where}: 'additionalProperties' has to be false for every object")
            waiting += inner.values()


def _messages(given: Fields) -> list[Message]:
    role = given.text("role")
    if role not in {"assistant", "user"}:
        raise Refused(f"{given.path}: there is no role {role!r}")
    content = given.get("content")
    if isinstance(content, str):
        if not content:
            raise Refused(f"{given.path}: the content is empty")
        return [AssistantMessage(content) if role == "assistant" else UserMessage(content)]
    blocks = given.each("content")
    if not blocks:
        raise Refused(f"{given.path}: the content is empty")
    return [_assistant(blocks)] if role == "assistant" else _user(blocks)


def _assistant(blocks: list[Fields]) -> AssistantMessage:
    texts: list[str] = []
    calls: list[ToolCall] = []
    signatures: list[str] = []
    for each in blocks:
        match each.text("type"):
            case "text":
                texts.append(_text(each))
            case "tool_use":
                calls.append(ToolCall(each.text("id"), each.text("name"), each.inner("input").values))
            case "thinking":
                if texts or calls:
                    raise Refused(f"{each.path}: thinking blocks come first")
                signatures.append(each.text("signature"))
                if signature_of(each.text("thinking")) != signatures[-1]:
                    raise Refused(f"{each.path}: the signature of the thinking block is not valid")
            case "redacted_thinking":
                each.text("data")
            case kind:
                raise Refused(f"{each.path}: there is no block {kind!r} in an answer")
    return AssistantMessage(
        "".join(texts), tool_calls=tuple(calls), provider_data=ProviderData("anthropic", signatures)
    )


def _user(blocks: list[Fields]) -> list[Message]:
    messages: list[Message] = []
    for each in blocks:
        match each.text("type"):
            case "text":
                messages.append(UserMessage(_text(each)))
            case "image" | "document":
                each.inner("source").text("type")
                messages.append(UserMessage(""))
            case "tool_result":
                messages.append(ToolMessage(_result(each)))
            case kind:
                raise Refused(f"{each.path}: there is no block {kind!r} in a message of the user")
    return messages


def _result(given: Fields) -> ToolResponse:
    content = given.get("content")
    parts = [] if content is None or isinstance(content, str) else given.each("content")
    text = content if isinstance(content, str) else "".join(_text(each) for each in parts if each.get("type") == "text")
    return ToolResponse(given.text("tool_use_id"), "", text, is_error=bool(given.get("is_error")))


def _text(given: Fields) -> str:
    text = given.text("text")
    if not text:
        raise Refused(f"{given.path}: a text block may not be empty")
    return text
