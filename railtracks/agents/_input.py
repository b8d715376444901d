"""What an agent is given: one text, one message, or a conversation, checked before any request.

Called by the run of an agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from railtracks._checks import is_list, is_tuple
from railtracks.llm import (
    AssistantMessage,
    Message,
    MessageHistory,
    SystemMessage,
    ToolMessage,
    UserMessage,
)

UserInput: TypeAlias = str | UserMessage | MessageHistory | Sequence[Message]


class AgentInput:
    """Stands for what an agent is given, in the annotations by which durable sessions store it. Nobody makes one."""

    # The command line reads a word for it by this annotation.
    __railtracks_given_as__ = str


_KINDS = (SystemMessage, UserMessage, AssistantMessage, ToolMessage)


def messages_of(user_input: object) -> list[Message]:
    """Return the messages that an agent was given, in a new list.

    Raises:
        TypeError: If they are neither a text, nor a `UserMessage`, nor a list of messages.
        ValueError: If a tool call among them has no answer, or an answer no tool call.
    """
    if isinstance(user_input, str):
        # A provider refuses a message without text.
        return [UserMessage(user_input)] if user_input.strip() else []
    if isinstance(user_input, UserMessage):
        return [user_input]
    if not (is_list(user_input) or is_tuple(user_input)):
        raise TypeError(
            "the input of an agent must be a string, an rt.llm.UserMessage, or a list of messages, not"
            f" {type(user_input).__name__}"
        )
    messages: list[Message] = []
    for place, each in enumerate(user_input):
        if not isinstance(each, _KINDS):
            raise TypeError(
                f"item {place} of the input of an agent must be a message, such as rt.llm.UserMessage(...), not"
                f" {type(each).__name__}"
            )
        messages.append(each)
    _check_tool_calls(messages)
    return messages


def _check_tool_calls(messages: Iterable[Message]) -> None:
    """Check that the answers to tool calls follow them at once: no provider takes anything else."""
    waiting: dict[str, str] = {}
    for place, each in enumerate(messages):
        if isinstance(each, ToolMessage):
            if waiting.pop(each.content.identifier, None) is None:
                raise ValueError(f"item {place} of the input of an agent answers a tool call that is not before it")
        elif waiting:
            break
        elif isinstance(each, AssistantMessage):
            waiting = {call.identifier: call.name for call in each.tool_calls}
    if waiting:
        names = ", ".join(map(repr, waiting.values()))
        raise ValueError(
            f"the input of an agent has open tool calls (of {names}): put a ToolMessage for each right behind the"
            " message with the calls, or leave that message out"
        )
