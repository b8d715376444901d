"""The script of a fake provider: which entry a request gets, and what an exception is on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import trio
from attrs import frozen

from railtracks.exceptions import (
    AnswerCutError,
    ContextLengthError,
    EmptyAnswerError,
    LLMError,
    ModelAuthError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelRefusedError,
    ModelTimeoutError,
    ScriptError,
)
from railtracks.llm._data import ModelRequest
from railtracks.llm._script import (
    Answer,
    Attempts,
    Cut,
    Delay,
    Hang,
    Malformed,
    Plain,
    Status,
    Stream,
    WireEntry,
    answer_of,
    counted,
)


@frozen
class TooLong:
    """The prompt is longer than the model takes.

    Attributes:
        message: The text of the error.
    """

    message: str


@frozen
class Dropped:
    """The connection is closed without an answer."""


Ready: TypeAlias = Answer | Stream | Status | TooLong | Dropped | Cut | Hang | Malformed

_STATUSES: Final[dict[type[LLMError], int]] = {
    ModelAuthError: 401,
    ModelNotFoundError: 404,
    ModelRateLimitError: 429,
    ModelTimeoutError: 504,
}


class WireScript:
    """The entries, and how often each was asked for.

    Args:
        entries: The entries.
        shared: Whether they are handed out in the order of the requests, whatever conversations these belong to.
    """

    def __init__(self, entries: Sequence[WireEntry], *, shared: bool) -> None:
        self._entries = tuple(entries)
        self._is_shared = shared
        self._handed_out = 0
        self._attempts = Counter[tuple[int, str]]()

    def entry(self, request: ModelRequest) -> WireEntry:
        """Return the entry of a request.

        Raises:
            ScriptError: If there are no more.
        """
        number = request.turn
        if self._is_shared:
            self._handed_out += 1
            number = self._handed_out
        if number > len(self._entries):
            which = "request" if self._is_shared else "answer of a conversation"
            raise ScriptError(
                f"the script of the fake provider has {counted(len(self._entries))}, and no {which} {number}"
            )
        return self._entries[number - 1]

    async def ready(self, entry: WireEntry, request: ModelRequest) -> Ready:
        """Return what an entry comes to, after its delays."""
        while True:
            match entry:
                case Delay():
                    await trio.sleep(entry.seconds)
                    entry = entry.entry
                case Attempts():
                    key = id(entry), repr(request.messages)
                    entry = entry.entries[min(self._attempts[key], len(entry.entries) - 1)]
                    self._attempts[key] += 1
                case Exception():
                    return on_the_wire(entry)
                case Stream() | Status() | Cut() | Hang() | Malformed():
                    return entry
                case _ if callable(entry):
                    try:
                        entry = entry(request)
                    except ScriptError:
                        raise
                    except Exception as error:  # noqa: BLE001 - a function that raises is an entry that is an exception
                        entry = error
                case _:
                    # It refuses what is no answer, either.
                    return answer_of(cast("Plain", entry))


def on_the_wire(error: Exception) -> Ready:
    """Return what a provider answers where a scripted model would raise this."""
    text = str(error)
    ready: Ready
    match error:
        case ContextLengthError():
            ready = TooLong(text)
        case ModelRefusedError():
            ready = Answer(text or "I cannot help with that.", finish_reason="refusal")
        case AnswerCutError():
            ready = Answer(text or "This is cut", finish_reason="length")
        case EmptyAnswerError():
            ready = Answer()
        case ModelRateLimitError() if error.retry_after is not None:
            ready = Status(429, text, {"retry-after": f"{error.retry_after:g}"})
        case LLMError():
            default = 503 if error.is_retryable else 400
            ready = Status(next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), default), text)
        case OSError():
            ready = Dropped()
        case _:
            ready = Status(500, f"{type(error).__name__}: {text}")
    return ready
