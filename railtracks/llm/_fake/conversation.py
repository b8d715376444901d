"""The messages of a request, checked as providers check them. Called by the server, for every wire."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from railtracks.llm._fake.fields import Refused
from railtracks.llm._fake.schemas import check_name
from railtracks.llm._fake.wire import signature_of
from railtracks.llm._messages import AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage


def check_conversation(messages: Sequence[Message]) -> None:
    """Refuse a conversation without a message, or with tool calls and results that do not belong together."""
    if all(isinstance(each, SystemMessage) for each in messages):
        raise Refused("the request has no message")
    is_open: dict[str, None] = {}
    answered: set[str] = set()
    for number, each in enumerate(messages):
        if isinstance(each, ToolMessage):
            identifier = each.content.identifier
            if identifier in answered:
                raise Refused(f"messages[{number}]: a second result for the tool call {identifier!r}")
            if identifier not in is_open:
                raise Refused(f"messages[{number}]: a result for {identifier!r}, which no message before it calls")
            del is_open[identifier]
            answered.add(identifier)
            continue
        _refuse_open(is_open, number)
        answered = set()
        if isinstance(each, AssistantMessage):
            identifiers = [call.identifier for call in each.tool_calls]
            is_open = dict.fromkeys(identifiers)
            for call in each.tool_calls:
                check_name(call.name, f"messages[{number}]: the name of a tool call")
            if len(is_open) < len(identifiers):
                raise Refused(f"messages[{number}]: two tool calls have one identifier")
    _refuse_open(is_open, len(messages))


def _refuse_open(is_open: dict[str, None], number: int) -> None:
    if is_open:
        names = ", ".join(is_open)
        raise Refused(f"messages[{number}]: before it the results of these tool calls are missing: {names}")


def turn_of(messages: Sequence[Message]) -> int:
    """Return which request of its conversation this is, counted from 1: one more than the answers in it."""
    return 1 + sum(isinstance(each, AssistantMessage) for each in messages)


class Signed:
    """The reasoning that came with tool calls: a provider that signs it wants to have it back with their results."""

    def __init__(self) -> None:
        # By provider and tool calls: the signatures of their reasoning, empty for none. They may be several, because
        # the conversations of one script have the same identifiers.
        self._signatures = defaultdict[tuple[str, tuple[str, ...]], set[str]](set)

    def add(self, provider: str, message: AssistantMessage) -> None:
        """Take note of an answer."""
        if message.tool_calls:
            signature = "" if message.reasoning is None else signature_of(message.reasoning)
            self._signatures[provider, _identifiers(message)].add(signature)

    def check(self, provider: str, messages: Sequence[Message]) -> None:
        """Refuse a conversation in which the reasoning of a tool call since the user's last message is missing."""
        last = max((number for number, each in enumerate(messages) if isinstance(each, UserMessage)), default=0)
        for each in messages[last:]:
            if isinstance(each, AssistantMessage) and each.tool_calls and each.provider_data is not None:
                given = self._signatures.get((provider, _identifiers(each)), {""})
                if "" not in given and not given.intersection(each.provider_data.data):
                    name = each.tool_calls[0].name
                    raise Refused(f"the reasoning, or its signature, is missing that came with a tool call of {name!r}")


def _identifiers(message: AssistantMessage) -> tuple[str, ...]:
    return tuple(each.identifier for each in message.tool_calls)
