"""A model that answers from a script, for tests: `testing.ScriptedModel`."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Literal

import trio

from railtracks._nodes.retry import Retry
from railtracks.exceptions import ScriptError
from railtracks.llm._chat import Chat
from railtracks.llm._data import ModelRequest, ReasoningPiece, Response, TextPiece, Tool, ToolCallPiece
from railtracks.llm._messages import AssistantMessage, Message
from railtracks.llm._model import ModelConnection, OnPiece
from railtracks.llm._script import (
    Delay,
    Entry,
    Fault,
    Plain,
    Stream,
    answer_of,
    counted,
    finish_reason_of,
    message_of,
)


class ScriptedModel:
    """A model that answers from a script: the n-th request of each run of an agent gets the n-th entry.

        model = testing.ScriptedModel([("add", {"a": 1, "b": 2})], "It is 3.")

    So a second run, runs side by side, and a run that is resumed in another process get the same answers. Requests
    because of answers that did not fit count; a further attempt of a request gets its entry again.

    An entry is a text; one tool call as a tuple `(name, arguments)`, or a list of such; an `Answer` with all parts; a
    `Stream` of pieces; a `Delay` with an entry after it; an exception to raise; or a function that takes the
    `ModelRequest` and returns an entry. The identifiers of tool calls are `call_{turn}_{number}`.

    Args:
        *entries: The script.
        name: The name of the model.
        shared: Whether the entries are handed out in the order of asking, whichever run asks.
        structured: How it is asked for a structured answer, as in `OpenAILLM`.
        retry: How often a request that failed is sent again.
        price: The dollars for a million tokens of input, and of output.
        max_tokens: The most tokens of an answer, for budgets.

    Raises:
        TypeError: If something in the script is no entry.
    """

    provider: str = "scripted"

    def __init__(
        self,
        *entries: Entry,
        name: str = "scripted",
        shared: bool = False,
        structured: Literal["auto", "native", "tool", "prompt"] = "auto",
        retry: Retry | None = None,
        price: tuple[Decimal, Decimal] | None = None,
        max_tokens: int | None = None,
    ) -> None:
        for entry in entries:
            _check(entry)
        self.name: str = name
        self.structured: str = structured
        self.retry: Retry | None = retry
        self.price: tuple[Decimal, Decimal] | None = price
        self.max_tokens: int | None = max_tokens
        self._entries = entries
        self._asked: list[ModelRequest] = []
        # Sessions in several threads may ask at once: a step of a counter cannot be split.
        self._places = itertools.count(1) if shared else None

    @property
    def asked(self) -> tuple[ModelRequest, ...]:
        """The requests until now, in the order of asking."""
        return tuple(self._asked)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ModelConnection]:
        """Return the model itself: there is nothing to open."""
        yield self

    async def achat(
        self,
        history: str | Message | Iterable[Message],
        *,
        tools: Iterable[Tool] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Response:
        """Answer one request without an agent: with the first entry, or with the next one of a shared script.

        A call of the session, as `OpenAILLM.achat`, with the same arguments. A checkpoint.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If there is no message.
            ScriptError: If the script has no entry for the request.
            Exception: The entry itself.
        """
        return await Chat(self, self.retry).ask(history, tools, schema)

    async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
        """Return the entry for a request. A checkpoint.

        Raises:
            ScriptError: If the script has no entry for the request, or the entry is only for the wire.
            Exception: The entry itself.
        """
        await trio.lowlevel.checkpoint()
        self._asked.append(request)
        place = request.turn if self._places is None else next(self._places)
        if place > len(self._entries):
            raise ScriptError(
                f"the script of model {self.name!r} has {counted(len(self._entries))}, and none for turn {place}"
            )
        entry = await _reached(self._entries[place - 1], request)
        answer = answer_of(entry)
        message = message_of(answer, request.turn)
        if on_piece is not None:
            await _stream(entry, message, on_piece)
        return Response(message, answer.usage, finish_reason_of(answer), self.name)


def _check(entry: object) -> None:
    while isinstance(entry, Delay):
        entry = entry.entry
    if not (isinstance(entry, Exception) or callable(entry)):
        answer_of(_plain(entry))


def _plain(entry: object) -> Plain:
    if isinstance(entry, Fault):
        raise TypeError(f"{type(entry).__name__} is for testing.FakeProvider: a scripted model has no wire")
    # What it really is `answer_of` checks.
    return entry  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


async def _reached(entry: object, request: ModelRequest) -> Plain:
    """Return the answer that an entry leads to, after its delays.

    Raises:
        Exception: The entry itself.
    """
    while True:
        if isinstance(entry, Delay):
            await trio.sleep(entry.seconds)
            entry = entry.entry
        elif isinstance(entry, Exception):
            raise entry
        elif callable(entry):
            entry = entry(request)
        else:
            return _plain(entry)


async def _stream(entry: Plain, message: AssistantMessage, on_piece: OnPiece) -> None:
    """Hand out the pieces of an answer."""
    if message.reasoning is not None:
        await on_piece(ReasoningPiece(message.reasoning))
    if isinstance(entry, Stream):
        for text in entry.texts:
            await on_piece(TextPiece(text))
            await trio.sleep(entry.pause)
    elif message.content:
        await on_piece(TextPiece(message.content))
    for call in message.tool_calls:
        await on_piece(ToolCallPiece(call))
