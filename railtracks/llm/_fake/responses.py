"""The wire of OpenAI's responses. Called by the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from railtracks.llm._data import Usage
from railtracks.llm._fake.fields import Fields, Refused
from railtracks.llm._fake.openai import check_format, choice_of, openai_error, tools_of
from railtracks.llm._fake.schemas import check_tools
from railtracks.llm._fake.wire import Asked, Event, Json, Reply, arguments_text, event, halves, parsed
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


class ResponsesWire:
    """Responses."""

    name = "openai"
    signs = True

    def read(self, path: str, headers: Mapping[str, str], body: Fields) -> Asked:  # noqa: ARG002 - all is in the body
        """Read a request, or raise `Refused`."""
        if body.get("previous_response_id") is not None:
            raise Refused("previous_response_id: no answer of this server is kept")
        tools, strict = tools_of(body.each("tools"), "parameters")
        choice = choice_of(body, None)
        check_tools(tools, choice, strict=strict)
        instructions = body.get("instructions")
        messages: list[Message] = [] if instructions is None else [SystemMessage(body.text("instructions"))]
        given = body.get("input")
        if isinstance(given, str):
            messages.append(UserMessage(given))
        else:
            messages += _conversation(body.each("input"))
        return Asked(
            model=body.text("model"),
            messages=tuple(messages),
            tools=tools,
            output_schema=_output_schema(body.optional("text")),
            tool_choice=choice,
            is_streamed=bool(body.get("stream")),
        )

    def whole(self, reply: Reply) -> Json:
        """Return the body of an answer."""
        is_cut = reply.finish_reason == "length"
        return {
            **_head(reply, "incomplete" if is_cut else "completed"),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": _items(reply),
        }

    def stream(self, reply: Reply, *, wants_usage: bool) -> Iterator[Event]:  # noqa: ARG002 - the last event tells
        """Return the events of a streamed answer."""
        whole = self.whole(reply)
        yield _event("response.created", {"response": {**_head(reply, "in_progress"), "output": []}})
        for number, item in enumerate(_items(reply)):
            yield from _item_events(reply, number, item)
        yield _event(f"response.{whole['status']}", {"response": whole})

    def error(self, status: int, message: str, *, is_too_long: bool = False) -> Json:
        """Return the body of an error."""
        return openai_error(status, message, is_too_long=is_too_long)

    def stream_error(self, status: int, message: str) -> Event:
        """Return the error that ends a stream."""
        return _event("error", {"code": str(status), "message": message, "param": None})


def _event(kind: str, fields: Json, *, is_piece: bool = False) -> Event:
    return event({"type": kind, "sequence_number": 0, **fields}, kind, is_piece=is_piece)


def _head(reply: Reply, status: str) -> dict[str, object]:
    return {
        "id": reply.identifier,
        "object": "response",
        "created_at": 1,
        "model": reply.model,
        "status": status,
        "error": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _usage(reply.usage),
    }


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _items(reply: Reply) -> list[dict[str, Any]]:
    """Return the items of an answer: reasoning, text, tool calls."""
    message = reply.message
    items: list[dict[str, Any]] = []
    if message.reasoning is not None:
        summary = [{"type": "summary_text", "text": message.reasoning}]
        items.append(
            {
                "type": "reasoning",
                "id": f"rs_{reply.signature}",
                "summary": summary,
                "encrypted_content": reply.signature,
            }
        )
    if message.content:
        is_refusal = reply.finish_reason == "refusal"
        content: dict[str, object] = (
            {"type": "refusal", "refusal": message.content}
            if is_refusal
            else {"type": "output_text", "text": message.content, "annotations": []}
        )
        items.append(
            {
                "type": "message",
                "id": f"msg_{reply.identifier}",
                "role": "assistant",
                "status": "completed",
                "content": [content],
            }
        )
    items += [
        {
            "type": "function_call",
            "id": f"fc_{each.identifier}",
            "call_id": each.identifier,
            "name": each.name,
            "arguments": arguments_text(each),
            "status": "completed",
        }
        for each in message.tool_calls
    ]
    return items


def _item_events(reply: Reply, number: int, item: dict[str, Any]) -> Iterator[Event]:
    index: Json = {"output_index": number}
    place: Json = {"item_id": item["id"], **index}
    match item["type"]:
        case "reasoning":
            text = reply.message.reasoning
            yield _event("response.output_item.added", {**index, "item": {**item, "summary": []}})
            place = {**place, "summary_index": 0}
            part: Json = {"type": "summary_text", "text": ""}
            yield _event("response.reasoning_summary_part.added", {**place, "part": part})
            yield _event("response.reasoning_summary_text.delta", {**place, "delta": text}, is_piece=True)
            yield _event("response.reasoning_summary_text.done", {**place, "text": text})
        case "message":
            content = item["content"][0]
            kind, key = ("refusal", "refusal") if content["type"] == "refusal" else ("output_text", "text")
            yield _event("response.output_item.added", {**index, "item": {**item, "content": []}})
            place = {**place, "content_index": 0, "logprobs": ()}
            yield _event("response.content_part.added", {**place, "part": {**content, key: ""}})
            for piece in reply.pieces:
                yield _event(f"response.{kind}.delta", {**place, "delta": piece}, is_piece=True)
            yield _event(f"response.{kind}.done", {**place, key: content[key]})
            yield _event("response.content_part.done", {**place, "part": content})
        case _:
            yield _event("response.output_item.added", {**index, "item": {**item, "arguments": ""}})
            kind = "response.function_call_arguments"
            for half in halves(item["arguments"]):
                yield _event(f"{kind}.delta", {**place, "delta": half}, is_piece=True)
            yield _event(f"{kind}.done", {**place, "arguments": item["arguments"], "name": item["name"]})
    yield _event("response.output_item.done", {**index, "item": item})


def _output_schema(text: Fields | None) -> Mapping[str, object] | None:
    given = None if text is None else text.optional("format")
    match None if given is None else given.text("type"):
        case None | "text" | "json_object":
            return None
        case "json_schema" if given is not None:
            return check_format(given)
        case kind:
            raise Refused(f"text.format: there is no type {kind!r}")


def _conversation(items: list[Fields]) -> list[Message]:
    """Return the items of a request as messages. What the model gave in one answer stands in several items."""
    messages: list[Message] = []
    texts: list[str] = []
    calls: list[ToolCall] = []
    signatures: list[str] = []
    are_items = any(each.get("type") == "function_call" and each.get("id") is not None for each in items)

    def end_answer() -> None:
        if texts or calls:
            # Reasoning has to be there only where the tool calls that it led to keep the identifiers of their items.
            data = ProviderData("openai", [*signatures]) if are_items else None
            messages.append(AssistantMessage("".join(texts), tool_calls=tuple(calls), provider_data=data))
        for each in (texts, calls, signatures):
            each.clear()

    for each in items:
        match each.get("type") or "message":
            case "reasoning":
                signatures.append(str(each.get("encrypted_content") or each.text("id").removeprefix("rs_")))
            case "function_call":
                calls.append(ToolCall(each.text("call_id"), each.text("name"), parsed(each.text("arguments"))))
            case "message" if each.text("role") == "assistant":
                texts.append(_text(each))
            case "message":
                end_answer()
                messages.append((UserMessage if each.text("role") == "user" else SystemMessage)(_text(each)))
            case "function_call_output":
                end_answer()
                output = each.get("output")
                messages.append(ToolMessage(ToolResponse(each.text("call_id"), "", str(output))))
            case kind:
                raise Refused(f"{each.path}: there is no item {kind!r}")
    end_answer()
    return messages


def _text(given: Fields) -> str:
    content = given.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "refusal") or "") for part in given.each("content"))
