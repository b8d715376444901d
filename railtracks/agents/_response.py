"""`rt.AgentResponse`: the answer of an agent. Made by its run, and read by users."""

from __future__ import annotations

from decimal import Decimal
from typing import Generic, TypeVar, cast

from attrs import field, frozen

from railtracks.llm import FinishReason, Message, MessageHistory, ToolCall, ToolResponse, Usage
from railtracks.llm._codec import dump_message
from railtracks.llm._earlier import earlier_here

T_co = TypeVar("T_co", covariant=True)


@frozen(kw_only=True)
class AgentResponse(Generic[T_co]):
    """The answer of an agent. As a text it is its content.

    Attributes:
        text: The text of the answer; with an `output_schema` the JSON that the model gave.
        usage: The tokens of all model calls of the run, those of agents that it called as tools included.
        cost: What they cost in dollars; `None` if the price of a model is not known.
        turns: How many times the agent asked its model.
        tool_invocations: The tool calls of the run and what they came to, in their order.
        finish_reason: Why the model stopped: `stop`, `tools`, `length`, `refusal` or `other`.
    """

    text: str
    usage: Usage = field(factory=Usage)
    cost: Decimal | None = None
    turns: int = 1
    tool_invocations: tuple[tuple[ToolCall, ToolResponse], ...] = ()
    finish_reason: FinishReason = "stop"
    _messages: tuple[Message, ...] = field(default=(), repr=False, alias="messages")
    # The structured answer; empty without an `output_schema`.
    _values: tuple[T_co, ...] = field(default=(), repr=False, alias="values")

    @property
    def structured(self) -> T_co:
        """The structured answer.

        Raises:
            AttributeError: If the agent has no `output_schema`.
        """
        if not self._values:
            raise AttributeError("this answer has no .structured: the agent was made without output_schema; use .text")
        return self._values[0]

    @property
    def content(self) -> str | T_co:
        """The structured answer, or the text if the agent has no `output_schema`."""
        return self._values[0] if self._values else self.text

    @property
    def message_history(self) -> MessageHistory:
        """The messages of the run and those that it was given, without system messages. A new list each time."""
        return MessageHistory(earlier_here().hand_out(self._messages, dump_message))

    @property
    def own_messages(self) -> tuple[Message, ...]:
        """The same messages, for the codec: they are not handed out by this."""
        return self._messages

    @property
    def has_value(self) -> bool:
        """Whether there is a structured answer."""
        return bool(self._values)

    def __str__(self) -> str:
        return self.text if not self._values else str(cast("object", self._values[0]))


class AgentAnswer(Generic[T_co]):
    """Stands for the answer of an agent, in the annotation of the agent itself. Nobody makes one.

    Whoever asks for the answer of an agent in a durable session has its input. So messages that were in this input, and
    that the session has stored before, are not stored once more. Any other function that returns an `AgentResponse`
    stores it whole.
    """
