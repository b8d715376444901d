"""Messages as pydantic-ai has them, and back. Called by the connections of `PydanticAIModel`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from pydantic_ai import messages as parts

from railtracks.llm._attachments import Attachment
from railtracks.llm._data import FinishReason, ModelRequest, Response, Tool, Usage
from railtracks.llm._messages import (
    AssistantMessage,
    ProviderData,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from railtracks.llm._wire import arguments_in, arguments_of, count_of, estimated_usage, name_to_send

_FINISH_REASONS: Final[Mapping[str | None, FinishReason]] = {
    "content_filter": "refusal",
    "length": "length",
    "stop": "stop",
    "tool_call": "tools",
}


def conversation(request: ModelRequest, provider: str) -> list[parts.ModelMessage]:
    """Return a conversation as pydantic-ai has it: what is said to the model between two answers is one request."""
    found: list[parts.ModelMessage] = []
    said: list[parts.ModelRequestPart] = []
    for each in request.messages:
        if isinstance(each, AssistantMessage):
            if said:
                found.append(parts.ModelRequest(parts=said))
                said = []
            found.append(_answer(each, provider, request.tools))
        else:
            said += _said(each, request.tools)
    return [*found, parts.ModelRequest(parts=said)] if said else found


def _said(
    message: SystemMessage | UserMessage | ToolMessage, tools: Sequence[Tool]
) -> Iterable[parts.ModelRequestPart]:
    if isinstance(message, SystemMessage):
        yield parts.SystemPromptPart(message.content)
    elif isinstance(message, UserMessage):
        files = [_file(each) for each in message.attachment]
        yield parts.UserPromptPart([message.content, *files] if files else message.content)
    else:
        response = message.content
        outcome: Literal["failed", "success"] = "failed" if response.is_error else "success"
        files = [_file(each) for each in response.attachments]
        content = [response.result, *files] if files else response.result
        name = name_to_send(response.name, tools)
        yield parts.ToolReturnPart(name, content, response.identifier, outcome=outcome)


def _file(attachment: Attachment) -> parts.MultiModalContent:
    if attachment.url is None:
        return parts.BinaryContent(attachment.data, media_type=attachment.media_type)
    return parts.ImageUrl(attachment.url) if attachment.is_image else parts.DocumentUrl(attachment.url)


def _answer(message: AssistantMessage, provider: str, tools: Sequence[Tool]) -> parts.ModelResponse:
    """Return an answer of the model: as it came, where this provider gave it and nobody has changed it."""
    kept = message.provider_data
    if kept is not None and kept.provider == provider:
        [answer] = parts.ModelMessagesTypeAdapter.validate_python([kept.data])
        if isinstance(answer, parts.ModelResponse) and message_of(answer, provider) == message:
            for each in answer.parts:
                # Its subclasses are calls of pydantic-ai's own tools.
                if type(each) is parts.ToolCallPart:
                    each.tool_name = name_to_send(each.tool_name, tools)
            return answer
    plain: list[parts.ModelResponsePart] = [parts.TextPart(message.content)] if message.content else []
    plain += [
        parts.ToolCallPart(name_to_send(each.name, tools), dict(arguments_of(each)), each.identifier)
        for each in message.tool_calls
    ]
    return parts.ModelResponse(parts=plain)


def call_of(part: parts.ToolCallPart) -> ToolCall:
    """Return a tool call."""
    arguments: Mapping[str, Any] | str = arguments_in(part.args or "") if not isinstance(part.args, dict) else part.args
    return ToolCall(part.tool_call_id, part.tool_name, arguments)


def message_of(answer: parts.ModelResponse, provider: str) -> AssistantMessage:
    """Return an answer as a message. What only the provider understands of it goes into `provider_data`."""
    thoughts = [each.content for each in answer.parts if isinstance(each, parts.ThinkingPart) and each.content]
    data = None
    if any(not _is_plain(each) for each in answer.parts):
        bare = parts.ModelResponse(parts=answer.parts, provider_name=answer.provider_name, timestamp=answer.timestamp)
        [dumped] = parts.ModelMessagesTypeAdapter.dump_python([bare], mode="json")
        data = ProviderData(provider, dumped)
    return AssistantMessage(
        "".join(each.content for each in answer.parts if isinstance(each, parts.TextPart)),
        tool_calls=tuple(call_of(each) for each in answer.parts if isinstance(each, parts.ToolCallPart)),
        reasoning="".join(thoughts) or None,
        provider_data=data,
    )


def _is_plain(part: parts.ModelResponsePart) -> bool:
    """Return whether a message has all of a part without `provider_data`."""
    return isinstance(part, (parts.TextPart, parts.ToolCallPart)) and not (part.id or part.provider_details)


def response_of(answer: parts.ModelResponse, request: ModelRequest, provider: str) -> Response:
    """Return an answer with all that is told of it."""
    message = message_of(answer, provider)
    reason: FinishReason = _FINISH_REASONS.get(answer.finish_reason, "other")
    # Some providers say "stop" with tool calls, too.
    if message.tool_calls and reason == "stop":
        reason = "tools"
    usage = answer.usage
    counted = Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=count_of(usage.cache_read_tokens),
        cache_write_tokens=count_of(usage.cache_write_tokens),
        reasoning_tokens=count_of(usage.output_reasoning_tokens),
        calls=1,
    )
    is_told = bool(counted.total_tokens) and min(usage.input_tokens, usage.output_tokens) >= 0
    return Response(
        message,
        counted if is_told else estimated_usage(request, message),
        reason,
        answer.model_name or "",
        answer.provider_response_id,
    )
