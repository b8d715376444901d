"""The input and the answers of agents as JSON, and back: how durable sessions keep them.

Called by the durable package, by the registrations at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias, get_args

from railtracks._calls.here import current_call
from railtracks._checks import is_tuple
from railtracks._nodes.signature import Kind
from railtracks.agents._input import AgentInput, UserInput
from railtracks.agents._response import AgentAnswer, AgentResponse
from railtracks.agents._schemas import answer_schema
from railtracks.llm import Message, MessageHistory, UserMessage
from railtracks.llm._codec import (
    attachments_in,
    dump_message,
    dump_messages,
    dump_short,
    dump_tool_call,
    dump_tool_response,
    dump_usage,
    load_message,
    load_messages,
    load_tool_call,
    load_tool_response,
    load_usage,
)
from railtracks.llm._earlier import earlier_here

Json: TypeAlias = Mapping[str, Any]


def _dump_input(given: object) -> Json:
    if isinstance(given, str):
        return {"text": given}
    if isinstance(given, UserMessage):
        earlier_here().see(given.attachment)
        return {"message": dump_message(given)}
    kind = "history" if isinstance(given, MessageHistory) else "tuple" if is_tuple(given) else "list"
    # Checked by the run, which tells more of what is wrong with it.
    messages: Any = given
    messages = [*messages]
    earlier_here().see(each for message in messages for each in attachments_in(message))
    return {kind: earlier_here().dump(messages, dump_message)}


def _load_input(plain: Json, _: Kind) -> UserInput:
    ((kind, value),) = plain.items()
    if kind == "text":
        return str(value)
    if kind == "message":
        message = load_message(value)
        assert isinstance(message, UserMessage)  # noqa: S101 - as it was written
        return message
    messages = earlier_here().load(value, load_message)
    return MessageHistory(messages) if kind == "history" else messages if kind == "list" else tuple(messages)


def _dump_response(response: AgentResponse[object]) -> dict[str, Any]:
    return {
        "text": response.text,
        "has_value": response.has_value,
        "usage": dump_usage(response.usage),
        "cost": None if response.cost is None else str(response.cost),
        "turns": response.turns,
        "tools": [[dump_tool_call(call), dump_tool_response(told)] for call, told in response.tool_invocations],
        "finish_reason": response.finish_reason,
        "messages": dump_messages(response.own_messages),
    }


def _load_response(plain: Json, kind: Kind) -> AgentResponse[object]:
    return _loaded(plain, kind, load_messages(plain["messages"]))


def _dump_answer(response: AgentResponse[object]) -> Json:
    # The attachments of messages are in the input, or else in the results of the tools. But the result of a session
    # that is over is read without the input.
    dump = dump_message if current_call().parent_id is None else dump_short
    return _dump_response(response) | {"messages": earlier_here().dump(response.own_messages, dump)}


def _load_answer(plain: Json, kind: Kind) -> AgentResponse[object]:
    earlier = earlier_here()
    told = [each for _, response in plain["tools"] for each in load_tool_response(response).attachments]
    earlier.see(told)
    return _loaded(plain, kind, earlier.load(plain["messages"], partial(load_message, known=earlier.attachment)))


def _loaded(plain: Json, kind: Kind, messages: Iterable[Message]) -> AgentResponse[object]:
    """Return an answer; its structured answer is made of the JSON that the model gave, by the schema of this code."""
    text: str = plain["text"]
    schemas: tuple[Any, ...] = get_args(kind)
    return AgentResponse[object](
        text=text,
        usage=load_usage(plain["usage"]),
        cost=None if plain["cost"] is None else Decimal(plain["cost"]),
        turns=plain["turns"],
        tool_invocations=tuple((load_tool_call(call), load_tool_response(told)) for call, told in plain["tools"]),
        finish_reason=plain["finish_reason"],
        messages=tuple(messages),
        values=(answer_schema(schemas[0]).value(text),) if plain["has_value"] else (),
    )


def register() -> None:
    """Have durable stores keep what agents are given and answer. Called when the durable package is imported."""
    from railtracks.durable._values.registered import register_annotation  # noqa: PLC0415 - it is being imported

    register_annotation(AgentInput, _dump_input, _load_input)
    register_annotation(AgentAnswer, _dump_answer, _load_answer)
    register_annotation(AgentResponse, _dump_response, _load_response)
