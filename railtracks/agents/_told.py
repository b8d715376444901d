"""What a model is told of its tool calls: results as text, and failures that it may do something about.

Called by the run of an agent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from attrs import frozen

from railtracks._calls.here import open_scope
from railtracks._checks import is_list, is_tuple
from railtracks._records.error_parts import answer, class_address, text_of
from railtracks._records.errors import holds, is_ordinary
from railtracks._records.scrubbing import CUT, REDACTED
from railtracks._records.secrets import is_secret_object
from railtracks.agents._reservations import is_of_outer_budget
from railtracks.agents._response import AgentResponse
from railtracks.exceptions import (
    ContextError,
    DurableValueError,
    FatalError,
    PriceUnknownError,
    ReplayMismatchError,
    SessionLostError,
    SessionOwnedError,
    SessionUnavailableError,
    SessionWaiting,
    StoreError,
)
from railtracks.llm import Attachment, ToolCall, ToolResponse

# What the program has done wrong, or what ends the session: no model can do anything about it.
_NEVER_TOLD: Final = (
    ContextError,
    DurableValueError,
    FatalError,
    PriceUnknownError,
    ReplayMismatchError,
    SessionLostError,
    SessionOwnedError,
    SessionUnavailableError,
    SessionWaiting,
    StoreError,
)
# Characters. A longer message is data, and costs tokens in every later turn.
_LONGEST_FAILURE: Final = 2_000


def is_told(error: BaseException) -> bool:
    """Return whether a model is told of the error of a tool; any other error is raised out of the run."""
    is_never = any(holds(error, kind) for kind in _NEVER_TOLD) or is_of_outer_budget(error)
    return is_ordinary(error) and not is_never


def failure(call: ToolCall, error: BaseException) -> ToolResponse:
    """Return what a model is told of a tool that has raised an error: its class and its text, without secrets."""
    name = class_address(error).rpartition(":")[2]
    text = text_of(error)
    return refusal(call, open_scope().record.secrets.text(f"{name}: {text}" if text else name))


def refusal(call: ToolCall, text: str) -> ToolResponse:
    """Return what a model is told of a tool call that has not come to a result."""
    text = _sendable(text)
    if len(text) > _LONGEST_FAILURE:
        text = text[: _LONGEST_FAILURE - len(CUT)] + CUT
    return ToolResponse(call.identifier, call.name, text, is_error=True)


@frozen
class Teller:
    """Tells a model the results of its tools.

    Attributes:
        limit: The most characters of one result.
    """

    limit: int

    def result(self, call: ToolCall, value: object) -> ToolResponse:
        """Return what a model is told of the result of a tool."""
        attachments = _attachments_in(value)
        try:
            text = _sendable(result_text(_without(attachments, value)))
        except Exception as error:  # noqa: BLE001 - the class of a value may raise anything as it is written
            return failure(call, error)
        if len(text) > self.limit:
            text = f"{text[: self.limit]}\n[cut: the result has {len(text):,} characters, and {self.limit:,} are shown]"
        return ToolResponse(call.identifier, call.name, text, attachments=attachments)


def _sendable(text: str) -> str:
    """Return a text without halves of characters, as names of files may have them: they cannot be sent."""
    # Of `str` itself: a subclass may have methods of its own.
    return str.encode(text, "utf-8", "replace").decode()


def _attachments_in(value: object) -> tuple[Attachment, ...]:
    """Return the images and documents that a tool returned, alone or in a list."""
    items = value if is_list(value) or is_tuple(value) else (value,)
    return tuple(each for each in items if isinstance(each, Attachment))


def _without(attachments: Sequence[Attachment], value: object) -> object:
    """Return the rest of the result of a tool, the names of its attachments if there is no rest."""
    if not attachments:
        return value
    rest = [each for each in value if not isinstance(each, Attachment)] if is_list(value) or is_tuple(value) else []
    if not rest:
        return ", ".join(each.name for each in attachments)
    return "\n".join(map(result_text, rest))


def result_text(value: object) -> str:
    """Return the result of a tool as text: a text as it is, the content of an agent's answer, anything else as JSON."""
    if isinstance(value, AgentResponse):
        return value.text
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value, enc_hook=_plain).decode()
    except UnicodeEncodeError:
        # Half a character in it. Python's own JSON takes that, but also what is none, such as `NaN`.
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_plain)
        return msgspec.json.encode(json.loads(_sendable(json.dumps(plain, ensure_ascii=False)))).decode()


def _plain(value: Any) -> object:
    """Return a value that msgspec does not know as one that it knows."""
    if is_secret_object(value):
        return REDACTED
    dump: object = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    return answer(lambda: str(value), lambda error: f"<no text: {class_address(error)}>")
