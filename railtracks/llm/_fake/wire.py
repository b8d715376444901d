"""What a wire is to the server: it reads requests, and writes answers and errors. Implemented by modules beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias, cast

from attrs import field, frozen

from railtracks.llm._data import FinishReason, Tool, Usage
from railtracks.llm._fake.fields import Fields
from railtracks.llm._messages import AssistantMessage, Message, ToolCall

Json: TypeAlias = Mapping[str, object]


@frozen(kw_only=True)
class Asked:
    """A request, as read from a wire.

    Attributes:
        model: The name of the model.
        messages: The conversation. The signatures of thinking blocks are in `provider_data`, as a list.
        tools: The tools.
        output_schema: The schema of the answer, `None` for text.
        tool_choice: `"auto"`, `"required"`, `"none"`, or the name of a tool.
        is_streamed: Whether the answer is to be streamed.
        wants_usage: Whether a stream is to tell of its tokens.
    """

    model: str
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    output_schema: Mapping[str, Any] | None = None
    tool_choice: str = "auto"
    is_streamed: bool = False
    wants_usage: bool = True


@frozen(kw_only=True)
class Reply:
    """An answer, as a wire writes it.

    Attributes:
        identifier: The identifier of the answer.
        model: The name of the model.
        message: The text, the tool calls and the reasoning.
        pieces: The text in the pieces of its stream.
        usage: The tokens.
        finish_reason: Why the model stopped.
    """

    identifier: str
    model: str
    message: AssistantMessage
    pieces: tuple[str, ...]
    usage: Usage
    finish_reason: FinishReason

    @property
    def signature(self) -> str:
        """The signature of the reasoning."""
        return signature_of(self.message.reasoning or "")


@frozen
class Event:
    """One event of a stream.

    Attributes:
        data: Its bytes.
        is_piece: Whether it has a part of the text, of the reasoning or of the arguments of a tool call.
    """

    data: bytes
    is_piece: bool = field(default=False, kw_only=True)


class Wire(Protocol):
    """The interface of one provider."""

    @property
    def name(self) -> str:
        """The name of the provider."""
        ...

    @property
    def signs(self) -> bool:
        """Whether it signs reasoning, and wants to have it back with the tool calls that followed it."""
        ...

    def read(self, path: str, headers: Mapping[str, str], body: Fields) -> Asked:
        """Read a request, or raise `Refused`."""
        ...

    def whole(self, reply: Reply) -> Json:
        """Return the body of an answer."""
        ...

    def stream(self, reply: Reply, *, wants_usage: bool) -> Iterator[Event]:
        """Return the events of a streamed answer."""
        ...

    def error(self, status: int, message: str, *, is_too_long: bool = False) -> Json:
        """Return the body of an error."""
        ...

    def stream_error(self, status: int, message: str) -> Event:
        """Return the error that ends a stream."""
        ...


def signature_of(reasoning: str) -> str:
    """Return the signature of a text of reasoning."""
    # Google's SDK wants it to be base64.
    return f"sign{hashlib.sha256(reasoning.encode()).hexdigest()[:24]}"


def event(data: Json | str, name: str = "", *, is_piece: bool = False) -> Event:
    """Return an event of a stream, in the format of server-sent events."""
    text = data if isinstance(data, str) else json.dumps(data)
    return Event((f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode(), is_piece=is_piece)


def arguments_text(call: ToolCall) -> str:
    """Return the arguments of a tool call as a text."""
    return call.arguments if isinstance(call.arguments, str) else json.dumps(dict(call.arguments))


def halves(text: str) -> tuple[str, str]:
    """Return a text as two pieces."""
    return text[: len(text) // 2], text[len(text) // 2 :]


def parsed(text: str) -> Mapping[str, Any] | str:
    """Return the arguments of a tool call as an object, or their text where they are none."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return cast("dict[str, Any]", value) if isinstance(value, dict) else text
