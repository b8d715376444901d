"""Messages, histories, requests and answers as JSON, and back: how durable sessions keep them.

Called by the durable package, by the registrations at the end, and by the codec of agents.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from attrs import asdict, evolve

from railtracks._nodes.signature import Kind
from railtracks.llm._attachments import Attachment
from railtracks.llm._data import ModelRequest, Response, Tool, Usage
from railtracks.llm._earlier import earlier_here
from railtracks.llm._messages import (
    AssistantMessage,
    Message,
    MessageHistory,
    ProviderData,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResponse,
    UserMessage,
)

Json: TypeAlias = Mapping[str, Any]
# Returns the attachment with a hash.
Known: TypeAlias = Callable[[str], Attachment]


class NewMessages(list[Message]):
    """The new messages of a request, as the argument of a model call.

    A replay compares them and never loads them. So they are written short: see `dump_new_messages`.
    """


def dump_message(message: Message) -> dict[str, Any]:
    """Return a message as JSON, tagged with its role."""
    plain: dict[str, Any] = {"role": str(message.role)}
    if isinstance(message, ToolMessage):
        return plain | dump_tool_response(message.content)
    plain["content"] = message.content
    if isinstance(message, AssistantMessage):
        if message.tool_calls:
            plain["tool_calls"] = [dump_tool_call(each) for each in message.tool_calls]
        if message.reasoning is not None:
            plain["reasoning"] = message.reasoning
        if message.provider_data is not None:
            plain["provider_data"] = [message.provider_data.provider, message.provider_data.data]
        return plain
    if message.inject_prompt:
        plain["inject_prompt"] = True
    if isinstance(message, UserMessage) and message.attachment:
        plain["attachments"] = [_dump_attachment(each) for each in message.attachment]
    return plain


def load_message(plain: Json, known: Known | None = None) -> Message:
    """Return the message that `dump_message` has written, or with `known` the one of `dump_short`.

    Args:
        plain: The message as JSON.
        known: Returns the attachment with a hash.

    Raises:
        ValueError: If it is none.
    """
    role, content = plain["role"], plain.get("content", "")
    is_injected = plain.get("inject_prompt", False)
    if role == "tool":
        return ToolMessage(load_tool_response(plain, known))
    if role == "assistant":
        data = plain.get("provider_data")
        return AssistantMessage(
            content,
            tool_calls=map(load_tool_call, plain.get("tool_calls", ())),
            reasoning=plain.get("reasoning"),
            provider_data=None if data is None else ProviderData(*data),
        )
    if role == "user":
        return UserMessage(content, _attachments_in(plain, known), inject_prompt=is_injected)
    if role == "system":
        return SystemMessage(content, inject_prompt=is_injected)
    raise ValueError(f"there is no role {role!r}")


def _dump_attachment(attachment: Attachment) -> dict[str, Any]:
    plain = {"media_type": attachment.media_type, "name": attachment.name}
    return plain | ({"data": attachment.base64} if attachment.url is None else {"url": attachment.url})


def _attachments_in(plain: Json, known: Known | None) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            each["media_type"], data=base64.b64decode(each.get("data", "")), url=each.get("url"), name=each["name"]
        )
        if known is None or "sha256" not in each
        else evolve(known(each["sha256"]), media_type=each["media_type"], name=each["name"])
        for each in plain.get("attachments", ())
    )


def dump_tool_call(call: ToolCall) -> list[Any]:
    """Return a tool call as JSON."""
    return [call.identifier, call.name, call.arguments if isinstance(call.arguments, str) else dict(call.arguments)]


def load_tool_call(plain: Iterable[Any]) -> ToolCall:
    """Return the tool call that `dump_tool_call` has written."""
    return ToolCall(*plain)


def dump_tool_response(response: ToolResponse) -> dict[str, Any]:
    """Return the answer to a tool call as JSON."""
    plain: dict[str, Any] = {"id": response.identifier, "name": response.name, "result": response.result}
    if response.is_error:
        plain["is_error"] = True
    if response.attachments:
        plain["attachments"] = [_dump_attachment(each) for each in response.attachments]
    return plain


def load_tool_response(plain: Json, known: Known | None = None) -> ToolResponse:
    """Return the answer that `dump_tool_response` has written; with `known` as in `load_message`."""
    attachments = _attachments_in(plain, known)
    return ToolResponse(
        plain["id"], plain["name"], plain["result"], plain.get("is_error", False), attachments=attachments
    )


def dump_messages(messages: Iterable[Message]) -> list[Any]:
    """Return messages as JSON."""
    return [dump_message(each) for each in messages]


def load_messages(plain: Iterable[Json]) -> list[Message]:
    """Return the messages that `dump_messages` has written."""
    return [load_message(each) for each in plain]


def dump_new_messages(messages: Iterable[Message]) -> list[Any]:
    """Return new messages of a request as JSON: those of earlier runs by where they stand, attachments by their hash.

    All of it is in the record already: in the input of the agent, and in the results of its tools.
    """
    return earlier_here().dump([*messages], dump_short)


def dump_short(message: Message) -> dict[str, Any]:
    """Return a message as JSON, with the hashes of attachments in place of their bytes."""
    plain = dump_message(message)
    for each, attachment in zip(plain.get("attachments", ()), attachments_in(message), strict=True):
        if each.pop("data", None) is not None:
            each["sha256"] = attachment.sha256
    return plain


def attachments_in(message: Message) -> tuple[Attachment, ...]:
    """Return the attachments of a message."""
    if isinstance(message, ToolMessage):
        return message.content.attachments
    return message.attachment if isinstance(message, UserMessage) else ()


def dump_usage(usage: Usage) -> dict[str, Any]:
    """Return tokens as JSON, without those that are zero."""
    return {name: value for name, value in asdict(usage).items() if value}


def load_usage(plain: Json) -> Usage:
    """Return the tokens that `dump_usage` has written."""
    return Usage(**plain)


def dump_response(response: Response) -> dict[str, Any]:
    """Return the answer of a model as JSON."""
    plain: dict[str, Any] = {
        "message": dump_message(response.message),
        "usage": dump_usage(response.usage),
        "finish_reason": response.finish_reason,
        "model_name": response.model_name,
        "id": response.id,
    }
    if response.cost is not None:
        plain["cost"] = str(response.cost)
    if response.tool_call_count is not None:
        plain["tool_call_count"] = response.tool_call_count
    return plain


def load_response(plain: Json) -> Response:
    """Return the answer that `dump_response` has written.

    Raises:
        ValueError: If it is none.
    """
    message = load_message(plain["message"])
    if not isinstance(message, AssistantMessage):
        raise ValueError("the message of an answer is not one of the model")  # noqa: TRY004 - what was stored is wrong
    cost = plain.get("cost")
    return Response(
        message,
        load_usage(plain["usage"]),
        plain["finish_reason"],
        plain["model_name"],
        plain["id"],
        None if cost is None else Decimal(cost),
        plain.get("tool_call_count"),
    )


def dump_request(request: ModelRequest) -> dict[str, Any]:
    """Return a request as JSON."""
    return {
        "messages": dump_messages(request.messages),
        "tools": [[each.name, each.detail, dict(each.parameters)] for each in request.tools],
        "output_schema": None if request.output_schema is None else dict(request.output_schema),
        "tool_choice": request.tool_choice,
        "turn": request.turn,
        "session_id": request.session_id,
    }


def load_request(plain: Json) -> ModelRequest:
    """Return the request that `dump_request` has written."""
    return ModelRequest(
        messages=tuple(load_messages(plain["messages"])),
        tools=tuple(Tool(*each) for each in plain["tools"]),
        output_schema=plain["output_schema"],
        tool_choice=plain["tool_choice"],
        turn=plain["turn"],
        session_id=plain["session_id"],
    )


def _dump_new(given: Any) -> list[Any]:
    if isinstance(given, NewMessages):
        return dump_new_messages(given)
    plain: list[Any] = given
    return plain


def register() -> None:
    """Have durable stores keep these classes. Called when the durable package is imported."""
    from railtracks.durable._values.registered import register_annotation  # noqa: PLC0415 - it is being imported

    def read(plain: Json, _: Kind) -> Message:
        return load_message(plain)

    for kind in (SystemMessage, UserMessage, AssistantMessage, ToolMessage):
        register_annotation(kind, dump_message, read)
    # The JSON itself comes back: nothing needs the messages.
    register_annotation(NewMessages, _dump_new, lambda plain, _: plain)
    register_annotation(ToolCall, dump_tool_call, lambda plain, _: load_tool_call(plain))
    register_annotation(ToolResponse, dump_tool_response, lambda plain, _: load_tool_response(plain))
    register_annotation(
        MessageHistory, dump_messages, lambda plain, _: MessageHistory(load_messages(plain)), in_failures=True
    )
    register_annotation(Usage, dump_usage, lambda plain, _: load_usage(plain), in_failures=True)
    register_annotation(Response, dump_response, lambda plain, _: load_response(plain))
    register_annotation(ModelRequest, dump_request, lambda plain, _: load_request(plain))
