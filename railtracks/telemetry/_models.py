"""What the answer of a model adds to the span of its request: tokens, why it stopped, and messages.

Called by `Tracing` where a request has ended, and by `Content`. It is imported then: the agent has imported
`railtracks.agents`, and a program without agents does not need its extra.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.util.types import AttributeValue

from railtracks._checks import is_list, is_tuple
from railtracks._records.json_values import writable
from railtracks.agents import AgentResponse
from railtracks.llm import AssistantMessage, Message, Response, SystemMessage, ToolMessage, UserMessage
from railtracks.telemetry._names import GenAI, OpenInference
from railtracks.telemetry._vocabulary import Vocabulary


def answer_attributes(result: object, vocabulary: Vocabulary) -> dict[str, AttributeValue]:
    """Return what the answer of a model adds to its span, without any content."""
    found: dict[str, AttributeValue] = {}
    if not isinstance(result, Response):
        return found
    usage = result.usage
    if vocabulary.openinference:
        found[OpenInference.PROMPT_TOKENS] = usage.input_tokens
        found[OpenInference.COMPLETION_TOKENS] = usage.output_tokens
        found[OpenInference.TOTAL_TOKENS] = usage.total_tokens
        if result.model_name:
            found[OpenInference.MODEL_NAME] = writable(result.model_name)
    if vocabulary.genai:
        found[GenAI.INPUT_TOKENS] = usage.input_tokens
        found[GenAI.OUTPUT_TOKENS] = usage.output_tokens
        found[GenAI.FINISH_REASONS] = (result.finish_reason,)
        seldom = {
            GenAI.CACHE_READ_TOKENS: usage.cached_tokens,
            GenAI.CACHE_WRITE_TOKENS: usage.cache_write_tokens,
            GenAI.REASONING_TOKENS: usage.reasoning_tokens,
        }
        found.update({name: count for name, count in seldom.items() if count})
        texts = {GenAI.RESPONSE_MODEL: result.model_name, GenAI.RESPONSE_ID: result.id}
        found.update({name: writable(text) for name, text in texts.items() if text})
    return found


def tokens_of(result: object) -> dict[str, int]:
    """Return the tokens of an answer by their type, empty if it is no answer of a model."""
    if not isinstance(result, Response):
        return {}
    return {"input": result.usage.input_tokens, "output": result.usage.output_tokens}


def messages_in(value: object) -> list[dict[str, object]] | None:
    """Return the messages in an input or an answer as OpenTelemetry writes them; `None` if it is something else."""
    if isinstance(value, str):
        value = UserMessage(value)
    if isinstance(value, Response):
        return [_plain(value.message) | {"finish_reason": value.finish_reason}]
    if isinstance(value, AgentResponse):
        return [_plain(AssistantMessage(value.text)) | {"finish_reason": value.finish_reason}]
    if isinstance(value, SystemMessage | UserMessage | AssistantMessage | ToolMessage):
        return [_plain(value)]
    if is_list(value) or is_tuple(value):
        found = [messages_in(each) for each in value]
        return None if None in found or not found else [message for each in found if each for message in each]
    return None


def _plain(message: Message) -> dict[str, object]:
    return {"role": str(message.role), "parts": [*_parts(message)]}


def _parts(message: Message) -> Iterable[dict[str, object]]:
    if isinstance(message, ToolMessage):
        answer = message.content
        yield {"type": "tool_call_response", "id": answer.identifier, "response": answer.result}
        return
    if isinstance(message, AssistantMessage) and message.reasoning is not None:
        yield {"type": "reasoning", "content": message.reasoning}
    if message.content:
        yield {"type": "text", "content": message.content}
    if isinstance(message, AssistantMessage):
        for call in message.tool_calls:
            yield {"type": "tool_call", "id": call.identifier, "name": call.name, "arguments": call.arguments}
    if isinstance(message, UserMessage):
        for each in message.attachment:
            # Never the bytes: an image is larger than all the rest.
            yield {"type": "file", "mime_type": each.media_type}


def text_in(value: object) -> str | None:
    """Return the text of a value that is hardly more than that, such as an answer without tool calls."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, AgentResponse):
        return value.text
    if isinstance(value, Response) and not value.message.tool_calls:
        return value.message.content
    return None
