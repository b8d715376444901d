"""The format of OpenAI's Chat Completions, which many servers speak. Called by the connections of `OpenAILLM`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from attrs import define, field

from railtracks.exceptions import LLMError
from railtracks.llm import _failures
from railtracks.llm._attachments import Attachment
from railtracks.llm._data import (
    FinishReason,
    ModelRequest,
    Piece,
    ReasoningPiece,
    Response,
    TextPiece,
    Tool,
    ToolCallPiece,
    Usage,
)
from railtracks.llm._halves import decoded, whole_text
from railtracks.llm._messages import (
    AssistantMessage,
    ProviderData,
    ToolCall,
    ToolMessage,
    ToolResponse,
    UserMessage,
)
from railtracks.llm._strict import OPENAI
from railtracks.llm._wire import (
    RequestOptions,
    arguments_in,
    arguments_of,
    count_of,
    estimated_usage,
    given,
    name_to_send,
)

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "content_filter": "refusal",
    "function_call": "tools",
    "length": "length",
    "stop": "stop",
    "tool_calls": "tools",
}
_DONE: Final = "[DONE]"


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, object] | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)
    # Gemini's signature of its thoughts, among others.
    extra_content: object = None


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[object] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Chunk(msgspec.Struct):
    """A whole answer, or one event of a stream."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: object = None


class OpenAIWire:
    """Chat Completions.

    Args:
        where: The provider's name, for errors.
        options: The settings of the model.
        is_original: Whether the provider is OpenAI itself, which has given one field another name.
    """

    def __init__(self, where: str, options: RequestOptions, *, is_original: bool) -> None:
        self._where = where
        self._options = options
        self._limit = "max_completion_tokens" if is_original else "max_tokens"

    def body(self, request: ModelRequest, *, is_streamed: bool) -> dict[str, object]:
        """Return the body of a request."""
        options = self._options
        body: dict[str, object] = {"model": options.model, "messages": self._messages(request)}
        body |= given(
            {
                "temperature": options.temperature,
                "top_p": options.top_p,
                self._limit: options.max_tokens,
                "reasoning_effort": options.reasoning_effort,
                "stop": [*options.stop] or None,
            }
        )
        if request.tools:
            functions = [
                {"name": each.name, "description": each.detail, "parameters": each.parameters} for each in request.tools
            ]
            body["tools"] = [{"type": "function", "function": each} for each in functions]
            choice = options.tool_choice_of(request)
            if choice in {"required", "none"}:
                body["tool_choice"] = choice
            elif choice != "auto":
                body["tool_choice"] = {"type": "function", "function": {"name": choice}}
        if request.output_schema is not None:
            strict = OPENAI.of(request.output_schema)
            format_ = {"name": "answer", "schema": strict or request.output_schema, "strict": strict is not None}
            body["response_format"] = {"type": "json_schema", "json_schema": format_}
        if is_streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body | dict(options.extra_body)

    def _messages(self, request: ModelRequest) -> list[dict[str, object]]:
        written: list[dict[str, object]] = []
        # A tool's answer is text only. Its images follow as a user's message, after all answers of the turn.
        shown: list[ToolResponse] = []
        for message in request.messages:
            if shown and not isinstance(message, ToolMessage):
                written.append(self._shown(shown))
                shown = []
            match message:
                case ToolMessage(response):
                    written.append({"role": "tool", "tool_call_id": response.identifier, "content": response.result})
                    if response.attachments:
                        shown.append(response)
                case AssistantMessage():
                    written.append(self._answer(message, request.tools))
                case UserMessage(content, attachments):
                    parts = [_text(content), *(self._part(each) for each in attachments)]
                    written.append({"role": "user", "content": parts if attachments else content})
                case _:
                    written.append({"role": "system", "content": message.content})
        if shown:
            written.append(self._shown(shown))
        return written

    def _part(self, attachment: Attachment) -> dict[str, object]:
        if attachment.is_image:
            return {"type": "image_url", "image_url": {"url": attachment.url or attachment.data_url}}
        if attachment.url is not None:
            raise LLMError(
                f"{self._where} fetches no documents: attach the file instead of {attachment.url!r}",
                reason="bad_request",
            )
        return {"type": "file", "file": {"filename": attachment.name, "file_data": attachment.data_url}}

    def _shown(self, responses: Sequence[ToolResponse]) -> dict[str, object]:
        parts: list[dict[str, object]] = []
        for response in responses:
            parts.append(_text(f"What the tool {response.name} ({response.identifier}) has attached:"))
            parts += [self._part(each) for each in response.attachments]
        return {"role": "user", "content": parts}

    def _answer(self, message: AssistantMessage, tools: Sequence[Tool]) -> dict[str, object]:
        written: dict[str, object] = {"role": "assistant", "content": message.content}
        kept = _kept_in(message.provider_data, self._options.provider)
        written |= kept.message
        if message.tool_calls:
            written["tool_calls"] = [_call(each, kept.calls.get(each.identifier), tools) for each in message.tool_calls]
            written["content"] = message.content or None
        return written

    def response(self, body: bytes, request: ModelRequest) -> Response:
        """Return the answer in the body of one that was not streamed."""
        answer = _Answer(self._where, self._options, request)
        answer.add(body)
        answer.end()
        return answer.response()

    def reader(self, request: ModelRequest) -> OpenAIReader:
        """Return the reader of a streamed answer."""
        return OpenAIReader(_Answer(self._where, self._options, request))


class OpenAIReader:
    """The reading of one streamed answer.

    Attributes:
        is_complete: Whether nothing that matters can follow.
    """

    def __init__(self, answer: _Answer) -> None:
        self.is_complete = False
        self._answer = answer

    def feed(self, data: str) -> Sequence[Piece]:
        """Take the data of one event, and return the pieces that it adds."""
        if data and _DONE.startswith(data):
            # Also where it is cut.
            self.is_complete = True
            return [ToolCallPiece(each) for each in self._answer.calls()]
        return self._answer.add(data)

    def response(self) -> Response:
        """Return the answer, which ends here."""
        return self._answer.response()


class _Kept(msgspec.Struct):
    """What goes back to the provider with an answer, beside what all providers understand: `ProviderData.data`."""

    message: dict[str, object] = {}
    calls: dict[str, object] = {}


def _kept_in(data: ProviderData | None, provider: str) -> _Kept:
    if data is None or data.provider != provider:
        return _Kept()
    return msgspec.convert(data.data, _Kept)


@define
class _CallParts:
    """A tool call that comes in parts."""

    identifier: str
    name: str = ""
    arguments: list[str] = field(factory=list[str])
    extra_content: object = None

    def add(self, call: _Call) -> None:
        given = call.function.arguments
        self.name = self.name or call.function.name or ""
        self.arguments.append(json.dumps(given) if isinstance(given, dict) else given or "")
        self.extra_content = call.extra_content or self.extra_content


class _Answer:
    """An answer that is put together from its parts."""

    def __init__(self, where: str, options: RequestOptions, request: ModelRequest) -> None:
        self._where = where
        self._options = options
        self._request = request
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._reasoning: list[str] = []
        self._details: list[object] = []
        self._calls: list[_CallParts] = []
        # By the index that the provider gave them.
        self._open: dict[int, _CallParts] = {}
        self._last = _Chunk()
        self._finish_reason: str | None = None
        self._has_choice = False

    def add(self, data: bytes | str) -> list[Piece]:
        """Add a part, or the whole answer, and return the pieces in it."""
        chunk = decoded(data, _Chunk)
        if chunk.error is not None:
            raise _failures.of_refusal(self._where, _failures.refusal_in(data) or _failures.Refusal(str(chunk.error)))
        last = self._last
        self._last = _Chunk(chunk.id or last.id, chunk.model or last.model, usage=chunk.usage or last.usage)
        if chunk.choices:
            choice = chunk.choices[0]
            self._has_choice = True
            self._finish_reason = choice.finish_reason or self._finish_reason
            return self._pieces_of(choice.delta or choice.message or _Message())
        return []

    def end(self) -> None:
        """Take what was added for the whole answer: not all servers say why a model stopped."""
        if not self._has_choice:
            raise _failures.malformed(self._where, "an answer without a choice")
        self._finish_reason = self._finish_reason or "stop"

    def _pieces_of(self, message: _Message) -> list[Piece]:
        pieces: list[Piece] = []
        if reasoning := message.reasoning_content or message.reasoning:
            self._reasoning.append(reasoning)
            pieces.append(ReasoningPiece(reasoning))
        content = message.content
        text = "".join(each.text for each in content) if isinstance(content, list) else content
        if text:
            self._texts.append(text)
            pieces.append(TextPiece(text))
        self._refusals.append(message.refusal or "")
        self._details += message.reasoning_details or []
        for call in message.tool_calls or []:
            self._parts_of(call).add(call)
        return pieces

    def _parts_of(self, call: _Call) -> _CallParts:
        """Return the tool call that a part belongs to. Some providers give all calls one index, or none."""
        index = len(self._open) if call.index is None else call.index
        if self._calls and call.index is None and not (call.id or call.function.name):
            return self._calls[-1]
        known = self._open.get(index)
        if known is None or call.id not in {None, "", known.identifier}:
            known = _CallParts(call.id or f"call_{uuid.uuid4().hex}")
            self._open[index] = known
            self._calls.append(known)
        return known

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the tool calls."""
        return tuple(
            ToolCall(each.identifier, each.name, arguments_in("".join(each.arguments))) for each in self._calls
        )

    def response(self) -> Response:
        """Return the answer, which is complete."""
        if self._finish_reason is None:
            raise _failures.cut(self._where)
        refusal = whole_text("".join(self._refusals))
        message = AssistantMessage(
            whole_text("".join(self._texts)) or refusal,
            tool_calls=self.calls(),
            reasoning=self._thoughts() or None,
            provider_data=self._provider_data(),
        )
        return Response(
            message,
            self._usage(message),
            self._reason(message, is_refused=bool(refusal)),
            self._last.model or self._options.model,
            self._last.id,
        )

    def _thoughts(self) -> str:
        return whole_text("".join(self._reasoning))

    def _reason(self, message: AssistantMessage, *, is_refused: bool) -> FinishReason:
        reason: FinishReason = "refusal" if is_refused else _FINISH_REASONS.get(self._finish_reason or "", "other")
        # Some servers say `stop` where tools are to be called.
        return "tools" if message.tool_calls and reason in {"stop", "other"} else reason

    def _provider_data(self) -> ProviderData | None:
        kept = _Kept(
            calls={each.identifier: each.extra_content for each in self._calls if each.extra_content is not None}
        )
        if self._details:
            kept.message["reasoning_details"] = self._details
        elif self._reasoning:
            kept.message["reasoning_content"] = self._thoughts()
        return ProviderData(self._options.provider, msgspec.to_builtins(kept)) if kept != _Kept() else None

    def _usage(self, message: AssistantMessage) -> Usage:
        told = self._last.usage
        if told is None or told.prompt_tokens is None or told.completion_tokens is None:
            return estimated_usage(self._request, message)
        # As in `count_of`. A total has no other to stand for it.
        if min(told.prompt_tokens, told.completion_tokens) < 0:
            return estimated_usage(self._request, message)
        asked = told.prompt_tokens_details or _InputDetails()
        answered = told.completion_tokens_details or _OutputDetails()
        return Usage(
            int(told.prompt_tokens),
            int(told.completion_tokens),
            cached_tokens=count_of(asked.cached_tokens),
            reasoning_tokens=count_of(answered.reasoning_tokens),
            calls=1,
        )


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _call(call: ToolCall, extra_content: object, tools: Sequence[Tool]) -> dict[str, object]:
    function = {"name": name_to_send(call.name, tools), "arguments": json.dumps(arguments_of(call))}
    written: dict[str, object] = {"id": call.identifier, "type": "function", "function": function}
    return written if extra_content is None else written | {"extra_content": extra_content}
