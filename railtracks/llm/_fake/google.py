"""The wire of Google's `generateContent`. Called by the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from railtracks.llm._data import FinishReason, Tool
from railtracks.llm._fake.fields import Fields, Refused
from railtracks.llm._fake.schemas import check_schema, check_tools
from railtracks.llm._fake.wire import Asked, Event, Json, Reply, event
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
    "stop": "STOP",
    "tools": "STOP",
    "length": "MAX_TOKENS",
    "refusal": "SAFETY",
    "other": "OTHER",
}
_ERRORS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MODES: Final = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "required", "NONE": "none"}
# Google's own field for a schema has the types in capitals.
_SCHEMA_KEYS: Final = ("parametersJsonSchema", "parameters_json_schema", "parameters")


class GoogleWire:
    """Contents of Gemini."""

    name = "google"
    signs = True

    def read(self, path: str, headers: Mapping[str, str], body: Fields) -> Asked:  # noqa: ARG002 - needs no header
        """Read a request, or raise `Refused`."""
        named = re.search(r"/models/([^/:]+):(\w+)", path)
        model, method = ("", "") if named is None else named.groups()
        declared = [each for group in body.each("tools") for each in group.each("functionDeclarations")]
        tools = tuple(_tool(each) for each in declared)
        choice = _choice(body.optional("toolConfig", "tool_config"))
        check_tools(tools, choice)
        system = body.optional("systemInstruction", "system_instruction")
        messages: list[Message] = []
        if system is not None:
            messages.append(SystemMessage("".join(each.text("text") for each in system.each("parts"))))
        for given in body.each("contents"):
            messages += _messages(given)
        return Asked(
            model=model,
            messages=tuple(messages),
            tools=tools,
            output_schema=_output_schema(body.optional("generationConfig", "generation_config")),
            tool_choice=choice,
            is_streamed=method.startswith("stream"),
        )

    def whole(self, reply: Reply) -> Json:
        """Return the body of an answer."""
        parts = _thoughts(reply)
        if reply.message.content:
            parts.append({"text": reply.message.content})
        return _body(reply, [*parts, *_calls(reply)], is_last=True)

    def stream(self, reply: Reply, *, wants_usage: bool) -> Iterator[Event]:  # noqa: ARG002 - Google always tells
        """Return the events of a streamed answer."""
        for part in [*_thoughts(reply), *({"text": each} for each in reply.pieces), *_calls(reply)]:
            yield event(_body(reply, [part], is_last=False), is_piece=True)
        yield event(_body(reply, [{"text": ""}], is_last=True))

    def error(self, status: int, message: str, *, is_too_long: bool = False) -> Json:
        """Return the body of an error."""
        # Only the text tells that a prompt is too long.
        text = (
            f"The input token count exceeds the maximum number of tokens allowed: {message}" if is_too_long else message
        )
        return {"error": {"code": status, "message": text, "status": _ERRORS.get(status, "INTERNAL")}}

    def stream_error(self, status: int, message: str) -> Event:
        """Return the error that ends a stream."""
        return event(self.error(status, message))


def _thoughts(reply: Reply) -> list[Json]:
    return [] if reply.message.reasoning is None else [{"text": reply.message.reasoning, "thought": True}]


def _calls(reply: Reply) -> list[Json]:
    """Return the parts with the tool calls. The first one has the signature of the reasoning before it."""
    parts: list[dict[str, object]] = [
        {"functionCall": {"id": each.identifier, "name": each.name, "args": each.arguments}}
        for each in reply.message.tool_calls
    ]
    if parts and reply.message.reasoning is not None:
        parts[0]["thoughtSignature"] = reply.signature
    return [*parts]


def _body(reply: Reply, parts: list[Json], *, is_last: bool) -> Json:
    candidate: dict[str, object] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if is_last:
        candidate["finishReason"] = _FINISH[reply.finish_reason]
    usage = reply.usage
    return {
        "candidates": [candidate],
        "responseId": reply.identifier,
        "modelVersion": reply.model,
        "usageMetadata": {
            "promptTokenCount": usage.input_tokens,
            "cachedContentTokenCount": usage.cached_tokens,
            "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
            "thoughtsTokenCount": usage.reasoning_tokens,
            "totalTokenCount": usage.total_tokens,
        },
    }


def _tool(given: Fields) -> Tool:
    schema = given.optional(*_SCHEMA_KEYS)
    values: Mapping[str, Any] = {"type": "object"} if schema is None else _lowered(schema.values)
    return Tool(given.text("name"), str(given.get("description") or ""), values)


def _lowered(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema with the types in lower case."""
    lowered: Mapping[str, Any] = json.loads(
        re.sub(r'"type": "([A-Z]+)"', lambda found: found[0].replace(found[1], found[1].lower()), json.dumps(schema))
    )
    return lowered


def _choice(config: Fields | None) -> str:
    calling = None if config is None else config.optional("functionCallingConfig", "function_calling_config")
    mode = None if calling is None else calling.get("mode")
    if calling is None or mode is None:
        return "auto"
    if mode not in _MODES:
        raise Refused(f"{calling.path}: there is no mode {mode!r}")
    names: list[str] = calling.get("allowedFunctionNames", "allowed_function_names") or []
    return names[0] if mode == "ANY" and len(names) == 1 else _MODES[mode]


def _output_schema(config: Fields | None) -> Mapping[str, Any] | None:
    if config is None:
        return None
    schema = config.optional("responseJsonSchema", "response_json_schema", "responseSchema", "response_schema")
    if schema is None:
        return None
    if config.get("responseMimeType", "response_mime_type") != "application/json":
        raise Refused(f"{config.path}: a schema needs the type 'application/json'")
    values = _lowered(schema.values)
    check_schema(values, "the schema of the answer", strict=False)
    return values


def _messages(given: Fields) -> list[Message]:
    parts = given.each("parts")
    if not parts:
        raise Refused(f"{given.path}: there are no parts")
    match given.get("role"):
        case "model":
            return [_answer(parts)]
        case "user" | "function" | None:
            return [_said(each) for each in parts]
        case role:
            raise Refused(f"{given.path}: there is no role {role!r}")


def _answer(parts: list[Fields]) -> AssistantMessage:
    texts: list[str] = []
    calls: list[ToolCall] = []
    signatures: list[str] = []
    for each in parts:
        if each.get("thoughtSignature") is not None:
            signatures.append(each.text("thoughtSignature"))
        called = each.optional("functionCall", "function_call")
        if called is not None:
            calls.append(ToolCall(_identifier(called), called.text("name"), called.inner("args").values))
        elif not each.get("thought"):
            texts.append(each.text("text"))
    return AssistantMessage("".join(texts), tool_calls=tuple(calls), provider_data=ProviderData("google", signatures))


def _said(part: Fields) -> Message:
    result = part.optional("functionResponse", "function_response")
    if result is not None:
        response = result.inner("response").values
        text = next((each for each in response.values() if isinstance(each, str)), json.dumps(dict(response)))
        return ToolMessage(ToolResponse(_identifier(result), result.text("name"), text, is_error="error" in response))
    if part.optional("inlineData", "inline_data") or part.optional("fileData", "file_data"):
        return UserMessage("")
    return UserMessage(part.text("text"))


def _identifier(given: Fields) -> str:
    """Return the identifier of a tool call; its name where it has none."""
    return str(given.get("id") or given.text("name"))
