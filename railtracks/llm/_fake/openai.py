"""The wire of OpenAI's chat completions, which Groq, Ollama, vLLM and many others speak, too. Called by the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from railtracks.llm._data import FinishReason, Tool, Usage
from railtracks.llm._fake.fields import Fields, Refused
from railtracks.llm._fake.schemas import check_schema, check_tools
from railtracks.llm._fake.wire import Asked, Event, Json, Reply, arguments_text, event, halves, parsed
from railtracks.llm._messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResponse,
    UserMessage,
)

_FINISH: Final[Mapping[FinishReason, str]] = {
    "stop": "stop",
    "tools": "tool_calls",
    "length": "length",
    "refusal": "stop",
    "other": "content_filter",
}
_PARTS: Final = frozenset({"file", "image_url", "input_audio", "refusal", "text"})


class OpenAIWire:
    """Chat completions.

    Args:
        name: The name of the provider.
        reasoning_key: Where the reasoning stands in an answer. OpenAI has no such key; others have.
    """

    signs = False

    def __init__(self, name: str = "openai", reasoning_key: str = "reasoning_content") -> None:
        self.name = name
        self._reasoning_key = reasoning_key

    def read(self, path: str, headers: Mapping[str, str], body: Fields) -> Asked:  # noqa: ARG002 - all is in the body
        """Read a request, or raise `Refused`."""
        tools, strict = tools_of([each.inner("function") for each in body.each("tools")], "parameters")
        choice = choice_of(body, "function")
        check_tools(tools, choice, strict=strict)
        options = body.optional("stream_options")
        return Asked(
            model=body.text("model"),
            messages=tuple(_message(each) for each in body.each("messages")),
            tools=tools,
            output_schema=_output_schema(body.optional("response_format")),
            tool_choice=choice,
            is_streamed=bool(body.get("stream")),
            wants_usage=options is not None and bool(options.get("include_usage")),
        )

    def whole(self, reply: Reply) -> Json:
        """Return the body of an answer."""
        message: dict[str, object] = {"role": "assistant", "content": reply.message.content or None}
        if reply.finish_reason == "refusal":
            message.update(content=None, refusal=reply.message.content)
        if reply.message.reasoning is not None:
            message[self._reasoning_key] = reply.message.reasoning
        if reply.message.tool_calls:
            message["tool_calls"] = [
                {
                    "id": each.identifier,
                    "type": "function",
                    "function": {"name": each.name, "arguments": arguments_text(each)},
                }
                for each in reply.message.tool_calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": _FINISH[reply.finish_reason]}
        return {**_head(reply, "chat.completion"), "choices": [choice], "usage": usage_of(reply.usage)}

    def stream(self, reply: Reply, *, wants_usage: bool) -> Iterator[Event]:
        """Return the events of a streamed answer."""
        head = _head(reply, "chat.completion.chunk")

        def chunk(delta: Json, *, is_piece: bool = False) -> Event:
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            return event({**head, "choices": [choice]}, is_piece=is_piece)

        yield chunk({"role": "assistant", "content": ""})
        if reply.message.reasoning:
            yield chunk({self._reasoning_key: reply.message.reasoning}, is_piece=True)
        for piece in reply.pieces:
            yield chunk({"refusal" if reply.finish_reason == "refusal" else "content": piece}, is_piece=True)
        for number, each in enumerate(reply.message.tool_calls):
            function = {"name": each.name, "arguments": ""}
            yield chunk(
                {"tool_calls": [{"index": number, "id": each.identifier, "type": "function", "function": function}]}
            )
            for part in halves(arguments_text(each)):
                yield chunk({"tool_calls": [{"index": number, "function": {"arguments": part}}]}, is_piece=True)
        usage = usage_of(reply.usage)
        # Groq tells of its tokens in a place of its own, unasked.
        last = {"x_groq": {"id": reply.identifier, "usage": usage}} if self.name == "groq" else {}
        choice: Json = {"index": 0, "delta": {}, "finish_reason": _FINISH[reply.finish_reason]}
        yield event({**head, "choices": [choice], **last})
        if wants_usage:
            yield event({**head, "choices": [], "usage": usage})
        yield event("[DONE]")

    def error(self, status: int, message: str, *, is_too_long: bool = False) -> Json:
        """Return the body of an error."""
        return openai_error(status, message, is_too_long=is_too_long)

    def stream_error(self, status: int, message: str) -> Event:
        """Return the error that ends a stream."""
        return event(self.error(status, message))


def openai_error(status: int, message: str, *, is_too_long: bool) -> Json:
    """Return the body of an error of OpenAI."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004 - a status
    codes = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
    code = "context_length_exceeded" if is_too_long else codes.get(status)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def tools_of(functions: list[Fields], schema_key: str) -> tuple[tuple[Tool, ...], list[str]]:
    """Return the tools of a request, and the names of those in strict mode."""
    tools: list[Tool] = []
    strict: list[str] = []
    for each in functions:
        schema = each.optional(schema_key)
        name = each.text("name")
        values: Mapping[str, object] = {"type": "object", "properties": {}} if schema is None else schema.values
        tools.append(Tool(name, str(each.get("description") or ""), values))
        if each.get("strict"):
            strict.append(name)
    return tuple(tools), strict


def choice_of(body: Fields, function_key: str | None) -> str:
    """Return the tool choice of a request: a word, or the name of a tool."""
    value = body.get("tool_choice")
    if value is None:
        return "auto"
    if isinstance(value, str):
        if value not in {"auto", "none", "required"}:
            raise Refused(f"tool_choice: {value!r} is none of auto, none and required")
        return value
    choice = body.inner("tool_choice")
    return (choice if function_key is None else choice.inner(function_key)).text("name")


def check_format(given: Fields) -> Mapping[str, object]:
    """Return the schema of a format of the answer, or refuse it."""
    given.text("name")
    schema = given.inner("schema").values
    if schema.get("type") != "object":
        raise Refused("the schema of the answer has to be of type 'object'")
    check_schema(schema, "the schema of the answer", strict=bool(given.get("strict")))
    return schema


def usage_of(usage: Usage) -> Json:
    """Return the tokens of an answer."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _head(reply: Reply, kind: str) -> dict[str, object]:
    return {"id": reply.identifier, "object": kind, "created": 1, "model": reply.model}


def _output_schema(given: Fields | None) -> Mapping[str, object] | None:
    match None if given is None else given.text("type"):
        case None | "text" | "json_object":
            return None
        case "json_schema" if given is not None:
            return check_format(given.inner("json_schema"))
        case kind:
            raise Refused(f"response_format: there is no type {kind!r}")


def _message(given: Fields) -> Message:
    match given.text("role"):
        case "system" | "developer":
            return SystemMessage(_text(given))
        case "user":
            return UserMessage(_text(given))
        case "tool":
            return ToolMessage(ToolResponse(given.text("tool_call_id"), "", _text(given)))
        case "assistant":
            calls = [(each, each.inner("function")) for each in given.each("tool_calls")]
            if given.get("content", "refusal") is None and not calls:
                raise Refused(f"{given.path}: an assistant message has either 'content' or 'tool_calls'")
            return AssistantMessage(
                _text(given) if given.get("content") is not None else "",
                tool_calls=tuple(
                    ToolCall(each.text("id"), function.text("name"), parsed(function.text("arguments")))
                    for each, function in calls
                ),
            )
        case role:
            raise Refused(f"{given.path}: there is no role {role!r}")


def _text(given: Fields) -> str:
    """Return the text of a message, whose content is a text or a list of parts."""
    content = given.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        raise Refused(f"{given.path}: the message has no content")
    texts: list[str] = []
    for part in given.each("content"):
        kind = part.text("type")
        if kind not in _PARTS:
            raise Refused(f"{part.path}: there is no type {kind!r}")
        if kind == "text":
            texts.append(part.text("text"))
        elif kind == "image_url" and not part.inner("image_url").text("url").startswith(("data:image/", "http")):
            raise Refused(f"{part.path}: the image is neither data nor an address")
    return "".join(texts)
