"""What a wire is to a connection: how a request is written in a provider's format, and how its answer is read.

Called by connections. A wire does not wait and sends nothing: it can be tried without a server.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from attrs import frozen

from railtracks._checks import is_dict, is_list, is_mapping
from railtracks.llm._data import ModelRequest, Piece, Response, Tool, Usage
from railtracks.llm._halves import paired
from railtracks.llm._messages import AssistantMessage, ToolCall, ToolMessage

# The name under which providers are told of arguments that are no JSON object: they take nothing but objects.
INVALID_JSON: Final = "INVALID_JSON"
# The most levels of arguments. More are no data that a tool wants, and whatever goes through them may fill the stack.
MOST_LEVELS: Final = 100
# Stands for arguments of more levels that cannot be written either.
_DEEP: Final = '{"...":' * (MOST_LEVELS + 1) + "null" + "}" * (MOST_LEVELS + 1)
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME: Final = 64
# A careful guess for texts in European languages and JSON.
_CHARACTERS_OF_A_TOKEN: Final = 3


@frozen
class RequestOptions:
    """What goes into each request of a model, from its settings.

    Attributes:
        model: The name of the model.
        provider: The name of the provider, which gets back what it gave.
        temperature: The temperature, `None` for the provider's default.
        top_p: The share of likely tokens to choose from, `None` for the provider's default.
        max_tokens: The largest number of tokens of an answer, `None` for the provider's default.
        reasoning_effort: How much the model should think, in the provider's words.
        stop: The texts at which the model stops.
        tool_choice: Which tool it has to call in the first turn of a run, as `ModelRequest.tool_choice`.
        extra_body: Fields of the body that win over all others.
    """

    model: str
    provider: str
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    stop: tuple[str, ...] = ()
    tool_choice: str | None = None
    extra_body: Mapping[str, Any] = {}

    def tool_choice_of(self, request: ModelRequest) -> str:
        """Return the tool choice of a request. What the settings want is for the first turn, or no run would end."""
        if request.tool_choice == "auto" and self.tool_choice is not None and request.turn == 1:
            return self.tool_choice
        return request.tool_choice


class Reader(Protocol):
    """The reading of one streamed answer.

    Attributes:
        is_complete: Whether nothing that matters can follow.
    """

    is_complete: bool

    def feed(self, data: str) -> Sequence[Piece] | None:
        """Take the data of one event, and return the pieces that it adds; `None` if it only says that there is more.

        Raises:
            MsgspecError: If the data is no JSON, or of another form.
            LLMError: If it tells of an error.
        """
        ...

    def response(self) -> Response:
        """Return the answer, which ends here.

        Raises:
            LLMError: If it is not complete.
        """
        ...


class Wire(Protocol):
    """The format of a provider."""

    def body(self, request: ModelRequest, *, is_streamed: bool) -> dict[str, object]:
        """Return the body of a request."""
        ...

    def response(self, body: bytes, request: ModelRequest) -> Response:
        """Return the answer in the body of one that was not streamed.

        Raises:
            MsgspecError: If the body is no JSON, or of another form.
            LLMError: If it tells of an error, or has no answer.
        """
        ...

    def reader(self, request: ModelRequest) -> Reader:
        """Return the reader of a streamed answer to a request."""
        ...


def given(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields without those that are `None`."""
    return {name: value for name, value in fields.items() if value is not None}


def count_of(told: int | None) -> int:
    """Return a part of a total as it was told, 0 where it was not.

    Some servers say -1 of what they do not know. Counted, it would give something back to budgets.
    """
    return max(told or 0, 0)


def arguments_in(text: str) -> Mapping[str, Any] | str:
    """Return the arguments in the text that a model sent for them; the text itself if it is no JSON object."""
    text = paired(text)
    if not text.strip():
        # Where a tool has no parameters, some models send nothing.
        return {}
    import msgspec  # noqa: PLC0415 - to make a model must not load it

    try:
        # What Python's own parser takes beside JSON, such as `NaN` and half a character, no provider takes back.
        found: object = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        # An SDK may have read the escape of half a character. The character itself cannot be sent: its escape can.
        return text.encode("utf-8", "backslashreplace").decode()
    return shallow({str(name): value for name, value in found.items()}, text) if is_dict(found) else text


def shallow(arguments: Mapping[str, Any], text: str | None = None) -> Mapping[str, Any] | str:
    """Return arguments as they are; where they are nested too deeply, as a text, which is no JSON object.

    Args:
        arguments: The arguments.
        text: The text that the model sent for them, if that is known.
    """
    level: list[object] = [arguments]
    for _ in range(MOST_LEVELS):
        level = [part for each in level for part in _parts_of(each)]
    if not level:
        return arguments
    try:
        return json.dumps(arguments) if text is None else text
    except (TypeError, ValueError, RecursionError):
        return _DEEP


def _parts_of(value: object) -> Iterable[object]:
    if is_mapping(value):
        return value.values()
    return value if is_list(value) else ()


def arguments_of(call: ToolCall) -> Mapping[str, Any]:
    """Return the arguments of a tool call as a provider takes them back."""
    return call.arguments if isinstance(call.arguments, Mapping) else {INVALID_JSON: call.arguments}


def name_to_send(name: str, tools: Iterable[Tool] = ()) -> str:
    """Return the name of a tool as providers take it: letters, digits, `_` and `-`, at most 64.

    A model may ask for a tool by any name. The answer to that says that there is none, and the next request has both.

    Args:
        name: The name.
        tools: The tools of the request. Each is sent under its own name, and so are calls of it.
    """
    if any(each.name == name for each in tools):
        return name
    return plain_text(name)[:_LONGEST_NAME] or "_"


def plain_text(text: str) -> str:
    """Return a text with `_` in place of each character that stands in no name and in no identifier."""
    return _NOT_PLAIN.sub("_", text)


def schema_in_words(schema: Mapping[str, Any]) -> str:
    """Return the instruction to answer with JSON, for where a provider does not hold the model to a schema."""
    return f"Answer with JSON alone, without any text around it. It has to fit this JSON Schema:\n{json.dumps(schema)}"


def estimated_usage(request: ModelRequest, answer: AssistantMessage) -> Usage:
    """Return a guess at the tokens of an answer where the provider does not tell them."""
    asked = sum(
        _characters(each.content.result if isinstance(each, ToolMessage) else each.content) for each in request.messages
    )
    asked += sum(_characters(each.name, each.detail, json.dumps(each.parameters)) for each in request.tools)
    answered = _characters(answer.content, answer.reasoning or "", *(str(each.arguments) for each in answer.tool_calls))
    return Usage(_tokens(asked), _tokens(answered), calls=1, is_estimated=True)


def _characters(*texts: str) -> int:
    return sum(map(len, texts))


def _tokens(characters: int) -> int:
    return math.ceil(characters / _CHARACTERS_OF_A_TOKEN)
