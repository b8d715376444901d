"""What goes to a model and what comes back, as plain data.

Used by agents, adapters and users; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from attrs import frozen

from railtracks.llm._messages import AssistantMessage, Message, ToolCall, ToolResponse

FinishReason: TypeAlias = Literal["stop", "tools", "length", "refusal", "other"]


@frozen
class Usage:
    """Tokens and requests of one or more model calls.

    Attributes:
        input_tokens: Tokens of the prompts, those from a cache included.
        output_tokens: Tokens of the answers, reasoning included.
        cached_tokens: Those of the input that came from the provider's cache.
        cache_write_tokens: Those of the input that the provider wrote into its cache.
        reasoning_tokens: Those of the output that were reasoning.
        calls: The requests that were answered.
        is_estimated: Whether a part of it was estimated, because the provider did not say.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    calls: int = 0
    is_estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Tokens in and out."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.calls + other.calls,
            self.is_estimated or other.is_estimated,
        )


@frozen
class Tool:
    """A tool as the model is told of it.

    Attributes:
        name: The name: letters, digits, `_` and `-`, at most 64 characters.
        detail: What it does, for the model.
        parameters: A JSON Schema (draft 2020-12) of an object with the arguments.
    """

    name: str
    detail: str
    parameters: Mapping[str, Any]


@frozen
class ModelRequest:
    """One request to a model.

    Attributes:
        messages: The whole conversation, oldest first.
        tools: The tools that the model may call.
        output_schema: A JSON Schema (draft 2020-12) for the answer, `None` for text.
        tool_choice: `"auto"`; `"required"` for some tool call; `"none"` for none; or the name of the tool to call.
        turn: Which request of its run it is, counted from 1.
        session_id: The identifier of the session.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    output_schema: Mapping[str, Any] | None = None
    tool_choice: str = "auto"
    turn: int = 1
    session_id: str | None = None


@frozen
class Response:
    """The answer of a model to one request.

    Attributes:
        message: The answer itself.
        usage: Its tokens.
        finish_reason: Why the model stopped: `stop`, `tools`, `length`, `refusal` or `other`.
        model_name: The model that answered, as the provider names it.
        id: The provider's identifier of the answer, `None` if there is none.
        cost: What it cost in dollars, in the run of an agent; `None` if the price of the model is not known.
        tool_call_count: How many of its tool calls the run of an agent makes; `None` outside of one.
    """

    message: AssistantMessage
    usage: Usage = Usage()
    finish_reason: FinishReason = "stop"
    model_name: str = ""
    id: str | None = None
    cost: Decimal | None = None
    tool_call_count: int | None = None


# Pieces of a stream. `call_id` is the call of the agent that a piece belongs to; adapters leave it empty.


@frozen
class TextPiece:
    """Text of an answer.

    Attributes:
        text: What it adds.
        call_id: The id of the agent's call.
        replayed: Whether it comes from the record of a resumed session.
    """

    text: str
    call_id: int = 0
    replayed: bool = False

    def __str__(self) -> str:
        return self.text


@frozen
class ReasoningPiece:
    """Text of the model's reasoning.

    Attributes:
        text: What it adds.
        call_id: The id of the agent's call.
        replayed: Whether it comes from the record of a resumed session.
    """

    text: str
    call_id: int = 0
    replayed: bool = False

    def __str__(self) -> str:
        return ""


@frozen
class ToolCallPiece:
    """A tool call that the model asks for, complete.

    Attributes:
        call: The tool call.
        call_id: The id of the agent's call.
        replayed: Whether it comes from the record of a resumed session.
    """

    call: ToolCall
    call_id: int = 0
    replayed: bool = False

    def __str__(self) -> str:
        return ""


@frozen
class ToolResultPiece:
    """What a tool call came to.

    Attributes:
        response: The answer that the model gets.
        call_id: The id of the agent's call.
        replayed: Whether it comes from the record of a resumed session.
    """

    response: ToolResponse
    call_id: int = 0
    replayed: bool = False

    def __str__(self) -> str:
        return ""


@frozen
class TurnPiece:
    """The end of one request to the model.

    Attributes:
        usage: The tokens of that request.
        call_id: The id of the agent's call.
        replayed: Whether it comes from the record of a resumed session.
    """

    usage: Usage
    call_id: int = 0
    replayed: bool = False

    def __str__(self) -> str:
        return ""


Piece: TypeAlias = TextPiece | ReasoningPiece | ToolCallPiece | ToolResultPiece | TurnPiece
