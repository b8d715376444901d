"""The format of Anthropic's Messages. Called by the connections of `AnthropicLLM`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
from attrs import define, field

from railtracks._checks import is_dict
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
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from railtracks.llm._strict import ANTHROPIC
from railtracks.llm._wire import (
    RequestOptions,
    arguments_in,
    arguments_of,
    count_of,
    estimated_usage,
    given,
    name_to_send,
    plain_text,
    schema_in_words,
    shallow,
)

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "stop_sequence": "stop",
    "tool_use": "tools",
}
_CACHED: Final[Mapping[str, object]] = {"cache_control": {"type": "ephemeral"}}
# The blocks that a message is made of without `provider_data`, and those that a cache can end with.
_PLAIN: Final = frozenset({"text", "tool_use"})
_CACHEABLE: Final = frozenset({"document", "image", "text", "tool_result", "tool_use"})

_Block: TypeAlias = dict[str, object]


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    error: object = None


class _Delta(msgspec.Struct):
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: object = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Answer | None = None
    content_block: _Block | None = None
    delta: _Delta = msgspec.field(default_factory=_Delta)
    usage: _Usage | None = None


class AnthropicWire:
    """Messages.

    Args:
        where: The provider's name, for errors.
        options: The settings of the model. The provider wants `max_tokens`.
        is_cached: Whether the provider is asked to keep what the next turn has again.
    """

    def __init__(self, where: str, options: RequestOptions, *, is_cached: bool) -> None:
        self._where = where
        self._options = options
        self._is_cached = is_cached

    def body(self, request: ModelRequest, *, is_streamed: bool) -> dict[str, object]:
        """Return the body of a request."""
        options = self._options
        strict = None if request.output_schema is None else ANTHROPIC.of(request.output_schema)
        system = [_text(each.content) for each in request.messages if isinstance(each, SystemMessage) and each.content]
        turns = self._turns(request)
        if not turns:
            # There has to be one.
            turns, system = [("user", system)], []
        if request.output_schema is not None and strict is None:
            system.append(_text(schema_in_words(request.output_schema)))
        config = given(
            {
                "effort": options.reasoning_effort,
                "format": strict and {"type": "json_schema", "schema": strict},
            }
        )
        tools: list[_Block] = [
            {"name": each.name, "description": each.detail, "input_schema": each.parameters} for each in request.tools
        ]
        if self._is_cached:
            for blocks in (system, tools, turns[-1][1]):
                _cache(blocks)
        body: dict[str, object] = {
            "model": options.model,
            "max_tokens": options.max_tokens,
            "messages": [{"role": role, "content": blocks} for role, blocks in turns],
        }
        body |= given(
            {
                "system": system or None,
                "tools": tools or None,
                "tool_choice": _tool_choice(options.tool_choice_of(request)) if tools else None,
                "temperature": options.temperature,
                "top_p": options.top_p,
                "stop_sequences": [*options.stop] or None,
                "output_config": config or None,
                "stream": is_streamed or None,
            }
        )
        return body | dict(options.extra_body)

    def _turns(self, request: ModelRequest) -> list[tuple[str, list[_Block]]]:
        written: list[tuple[str, list[_Block]]] = []
        for message in request.messages:
            if isinstance(message, SystemMessage):
                continue
            role, blocks = self._written(message, request.tools)
            if blocks and written and written[-1][0] == role:
                # The answers to all tool calls of a turn have to be in one message.
                written[-1][1].extend(blocks)
            elif blocks:
                written.append((role, blocks))
        return written

    def _written(
        self, message: UserMessage | AssistantMessage | ToolMessage, tools: Sequence[Tool]
    ) -> tuple[str, list[_Block]]:
        match message:
            case UserMessage(content, attachments):
                return "user", [*(_source(each) for each in attachments), *_texts(content)]
            case ToolMessage(response):
                shown = [*_texts(response.result), *(_source(each) for each in response.attachments)]
                result: _Block = {
                    "type": "tool_result",
                    "tool_use_id": plain_text(response.identifier),
                    "content": shown,
                }
                return "user", [result | ({"is_error": True} if response.is_error else {})]
            case _:
                return "assistant", self._answer(message, tools)

    def _answer(self, message: AssistantMessage, tools: Sequence[Tool]) -> list[_Block]:
        plain: list[_Block] = [*_texts(message.content)]
        plain += [_tool_use(each, tools) for each in message.tool_calls]
        kept = message.provider_data
        if kept is None or kept.provider != self._options.provider:
            return plain
        blocks = msgspec.convert(kept.data, list[_Block])
        if _gist(blocks) == _gist(plain):
            return [_named(each, tools) for each in blocks]
        # Somebody has changed the message since: what only the provider understands goes first.
        return [each for each in blocks if _kind(each) not in _PLAIN] + plain

    def response(self, body: bytes, request: ModelRequest) -> Response:
        """Return the answer in the body of one that was not streamed."""
        answer = decoded(body, _Answer)
        if answer.error is not None:
            raise _failures.of_refusal(self._where, _failures.refusal_in(body) or _failures.Refusal(str(answer.error)))
        if answer.content is None:
            raise _failures.malformed(self._where, "an answer without content")
        return self._response(answer, answer.content, request)

    def reader(self, request: ModelRequest) -> AnthropicReader:
        """Return the reader of a streamed answer."""
        return AnthropicReader(self._where, lambda answer, blocks: self._response(answer, blocks, request))

    def _response(self, answer: _Answer, blocks: list[_Block], request: ModelRequest) -> Response:
        message = AssistantMessage(
            _joined(blocks, "text"),
            tool_calls=tuple(_call_of(each) for each in blocks if _kind(each) == "tool_use"),
            reasoning=_joined(blocks, "thinking") or None,
            provider_data=self._provider_data(blocks),
        )
        return Response(
            message,
            _usage(answer.usage) or estimated_usage(request, message),
            _FINISH_REASONS.get(answer.stop_reason or "", "other"),
            answer.model or self._options.model,
            answer.id,
        )

    def _provider_data(self, blocks: Sequence[_Block]) -> ProviderData | None:
        if all(_kind(each) in _PLAIN for each in blocks):
            return None
        return ProviderData(self._options.provider, [_storable(each) for each in blocks])


class AnthropicReader:
    """The reading of one streamed answer.

    Attributes:
        is_complete: Whether nothing that matters can follow.
    """

    def __init__(self, where: str, answered: Callable[[_Answer, list[_Block]], Response]) -> None:
        self.is_complete = False
        self._where = where
        self._answered = answered
        self._answer = _Answer()
        self._parts: dict[int, _Parts] = {}

    def feed(self, data: str) -> Sequence[Piece] | None:
        """Take the data of one event, and return the pieces that it adds; `None` if it only says that there is more."""
        event = decoded(data, _Event)
        match event.type:
            case "message_start":
                self._answer = event.message or _Answer()
            case "content_block_start":
                self._parts[event.index] = _Parts(event.content_block or {})
            case "content_block_delta":
                return self._part(event.index).add(event.delta)
            case "content_block_stop":
                block = self._part(event.index).block()
                return [ToolCallPiece(_call_of(block))] if _kind(block) == "tool_use" else []
            case "message_delta":
                self._answer.stop_reason = event.delta.stop_reason or self._answer.stop_reason
                self._answer.usage = _merged(self._answer.usage, event.usage)
            case "message_stop":
                self.is_complete = True
            case "error":
                raise _failures.of_refusal(self._where, _failures.refusal_in(data) or _failures.Refusal(data))
            case _:
                # Pings, and what will be invented later.
                return None
        return []

    def _part(self, index: int) -> _Parts:
        return self._parts.setdefault(index, _Parts({}))

    def response(self) -> Response:
        """Return the answer, which ends here."""
        if self._answer.stop_reason is None:
            raise _failures.cut(self._where)
        return self._answered(self._answer, [each.block() for _, each in sorted(self._parts.items())])


@define
class _Parts:
    """A block that comes in parts."""

    begun: _Block
    texts: list[str] = field(factory=list[str])
    thoughts: list[str] = field(factory=list[str])
    signatures: list[str] = field(factory=list[str])
    arguments: list[str] = field(factory=list[str])
    citations: list[object] = field(factory=list[object])

    def add(self, delta: _Delta) -> Sequence[Piece]:
        """Add a part, and return the pieces in it."""
        self.texts.append(delta.text)
        self.thoughts.append(delta.thinking)
        self.signatures.append(delta.signature)
        self.arguments.append(delta.partial_json)
        if delta.citation is not None:
            self.citations.append(delta.citation)
        if delta.text:
            return [TextPiece(delta.text)]
        return [ReasoningPiece(delta.thinking)] if delta.thinking else []

    def block(self) -> _Block:
        """Return the block."""
        block = dict(self.begun)
        for name, parts in (("text", self.texts), ("thinking", self.thoughts), ("signature", self.signatures)):
            if any(parts):
                block[name] = whole_text("".join([str(block.get(name, "")), *parts]))
        if any(self.arguments):
            block["input"] = arguments_in("".join(self.arguments))
        if self.citations:
            block["citations"] = self.citations
        return block


def _merged(usage: _Usage | None, later: _Usage | None) -> _Usage | None:
    """Return the usage at the end of a stream. It counts from the stream's begin, and tells what has changed."""
    if usage is None or later is None:
        return later or usage
    # What the end does not know of the prompt, the begin has told. Only the end knows the length of the answer.
    counts: dict[str, int | None] = msgspec.to_builtins(later)
    told = {name: n for name, n in counts.items() if n is not None and (n >= 0 or name == "output_tokens")}
    return msgspec.convert(msgspec.to_builtins(usage) | told, _Usage)


def _usage(told: _Usage | None) -> Usage | None:
    """Return what an answer says that it has used, `None` if it does not say it."""
    if told is None or told.input_tokens is None or told.output_tokens is None:
        return None
    if min(told.input_tokens, told.output_tokens) < 0:
        return None
    cached, written = count_of(told.cache_read_input_tokens), count_of(told.cache_creation_input_tokens)
    return Usage(
        told.input_tokens + cached + written,
        told.output_tokens,
        cached_tokens=cached,
        cache_write_tokens=written,
        calls=1,
    )


def _tool_choice(choice: str) -> _Block | None:
    match choice:
        case "auto":
            return None
        case "required":
            return {"type": "any"}
        case "none":
            return {"type": "none"}
        case name:
            return {"type": "tool", "name": name}


def _cache(blocks: list[_Block]) -> None:
    """Have the provider keep everything down to the last of the blocks."""
    # Tools have no type.
    if blocks and ("type" not in blocks[-1] or _kind(blocks[-1]) in _CACHEABLE):
        blocks[-1] = {**blocks[-1], **_CACHED}


def _kind(block: _Block) -> str:
    """Return the type of a block, an unknown one if it is no text."""
    return str(block.get("type"))


def _text(text: str) -> _Block:
    return {"type": "text", "text": text}


def _texts(text: str) -> list[_Block]:
    # An empty block is refused.
    return [_text(text)] if text.strip() else []


def _tool_use(call: ToolCall, tools: Sequence[Tool]) -> _Block:
    return {
        "type": "tool_use",
        # Another provider may have given it.
        "id": plain_text(call.identifier),
        "name": name_to_send(call.name, tools),
        "input": arguments_of(call),
    }


def _source(attachment: Attachment) -> _Block:
    source: _Block = (
        {"type": "base64", "media_type": attachment.media_type, "data": attachment.base64}
        if attachment.url is None
        else {"type": "url", "url": attachment.url}
    )
    return {"type": "image" if attachment.is_image else "document", "source": source}


def _joined(blocks: Iterable[_Block], kind: str) -> str:
    return "".join(str(each.get(kind) or "") for each in blocks if _kind(each) == kind)


def _gist(blocks: Sequence[_Block]) -> tuple[str, list[object]]:
    """Return what all providers understand of a message, to compare."""
    return _joined(blocks, "text"), [each.get("id") for each in blocks if _kind(each) == "tool_use"]


def _call_of(block: _Block) -> ToolCall:
    given_ = block.get("input", {})
    arguments = shallow({str(name): value for name, value in given_.items()}) if is_dict(given_) else str(given_)
    return ToolCall(str(block.get("id", "")), str(block.get("name", "")), arguments)


def _storable(block: _Block) -> _Block:
    """Return a block as the provider takes it back."""
    if _kind(block) != "tool_use":
        return block
    return {**block, "input": arguments_of(_call_of(block))}


def _named(block: _Block, tools: Sequence[Tool]) -> _Block:
    """Return a block with the name that the provider takes, if it is a tool call."""
    return {**block, "name": name_to_send(_call_of(block).name, tools)} if _kind(block) == "tool_use" else block
