"""An open client of a model: the requests that are sent through it, and the answers. Made where a model is opened.

It knows the wire of its provider and the client of its SDK, and neither agents nor sessions.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import httpx2
import msgspec
import trio
from attrs import frozen

from railtracks._calls.nursery import CallNursery
from railtracks.exceptions import LLMError
from railtracks.llm import _failures
from railtracks.llm._data import ModelRequest, Response
from railtracks.llm._endpoint import Patience
from railtracks.llm._model import OnPiece
from railtracks.llm._wire import Reader, Wire

# How long a stream that has said everything may take to end, in seconds. Then its connection is not used again.
_END: Final = 1.0
_LINE_END: Final = re.compile(rb"[\r\n]")
_DATA: Final = b"data:"
_TOO_DEEP: Final = "JSON that is nested too deeply"


class Chunks(Protocol):
    """An open stream, as the SDKs hand it out."""

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Return the bytes as they come."""
        ...


class Client(Protocol):
    """The client of an SDK.

    Attributes:
        errors: The base of its errors.
    """

    @property
    def errors(self) -> type[Exception]: ...

    async def post(self, body: Mapping[str, object]) -> httpx2.Response:
        """Send a request, and return the answer, which was read."""
        ...

    def stream(self, body: Mapping[str, object]) -> AbstractAsyncContextManager[Chunks]:
        """Send a request whose answer is a stream."""
        ...

    def response_of(self, error: Exception) -> httpx2.Response | None:
        """Return the answer that an error tells of, `None` if there was none."""
        ...


@frozen(eq=False)
class Connection:
    """An open client of a model, with its wire. Several tasks may use it at once.

    Attributes:
        where: The provider's name, for errors.
        client: The client of the SDK.
        wire: The format of the provider.
        patience: How long the provider may take.
    """

    where: str
    client: Client
    wire: Wire
    patience: Patience

    async def respond(self, request: ModelRequest, on_piece: OnPiece | None) -> Response:
        """Send one request, and return the answer, as `ModelConnection` says."""
        body = self.wire.body(request, is_streamed=on_piece is not None)
        try:
            if on_piece is None:
                return self._response(await self._whole(body), request)
            return await self._streamed(body, self.wire.reader(request), on_piece)
        except msgspec.MsgspecError as error:
            raise _failures.malformed(self.where, str(error)) from None

    def _response(self, answer: httpx2.Response, request: ModelRequest) -> Response:
        try:
            return self.wire.response(answer.content, request)
        except msgspec.DecodeError:
            if _is_cut(answer.content, answer.headers):
                raise _failures.cut(self.where) from None
            raise
        except RecursionError:
            raise _failures.malformed(self.where, _TOO_DEEP) from None

    async def _whole(self, body: Mapping[str, object]) -> httpx2.Response:
        failure: LLMError | None = None
        with trio.move_on_after(self.patience.answering):
            try:
                return await self.client.post(body)
            except (self.client.errors, httpx2.HTTPError) as error:
                failure = self._failure(error)
        # Outside of the `except`: the SDK's error holds the request, and that the key.
        raise failure or self._too_slow()

    async def _streamed(self, body: Mapping[str, object], reader: Reader, on_piece: OnPiece) -> Response:
        # Without a limit: the reading task must never wait for this one, see `_read`.
        send, receive = trio.open_memory_channel[str | LLMError](math.inf)
        async with CallNursery() as nursery:
            nursery.start_soon(self._read, body, send)
            deadline = trio.current_time() + self.patience.answering
            while not reader.is_complete and (event := await self._next(receive, deadline)) is not None:
                try:
                    pieces = reader.feed(event)
                except RecursionError:
                    raise _failures.malformed(self.where, _TOO_DEEP) from None
                for piece in pieces or ():
                    await on_piece(piece)
                if pieces is not None:
                    deadline = trio.current_time() + self.patience.answering
            # The connection can be used again if it is read to its end, which comes at once.
            nursery.cancel_scope.deadline = trio.current_time() + _END
        return reader.response()

    async def _next(self, receive: trio.MemoryReceiveChannel[str | LLMError], deadline: float) -> str | None:
        """Return the next event of a stream, `None` after the last one: not all servers say that a stream is complete.

        Raises:
            LLMError: If the stream has failed, or the deadline is reached.
        """
        event: str | LLMError | None = None
        with trio.move_on_at(deadline):
            try:
                event = await receive.receive()
            except trio.EndOfChannel:
                return None
        if event is None:
            raise self._too_slow()
        if isinstance(event, LLMError):
            raise event
        return event

    async def _read(self, body: Mapping[str, object], send: trio.MemorySendChannel[str | LLMError]) -> None:
        """Read a stream, and hand its events over.

        The SDK reads by generators inside of generators. Left between two lines, they would stay open, with a warning
        for each. So this task waits for nothing but the next bytes. It ends by the stream's end, or by a cancel or an
        error that strikes while it waits for them (test_llm_streams.py).
        """
        with send:
            try:
                events = _Events()
                async with self.client.stream(body) as stream:
                    async for chunk in stream.iter_bytes():
                        for event in events.fed(chunk):
                            send.send_nowait(event)
                for event in events.fed(b"\n"):
                    # The last line has no end. What came before may be all that matters: the reader knows.
                    if not _failures.is_truncated(event.encode()):
                        send.send_nowait(event)
            except (self.client.errors, httpx2.HTTPError) as error:
                send.send_nowait(self._failure(error))

    def _failure(self, error: Exception) -> LLMError:
        """Return an error of an SDK, or of the transport below it, as one of ours."""
        response = self.client.response_of(error)
        if response is not None:
            return _failures.of_status(self.where, response.status_code, response.content, response.headers)
        problem = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error
        if isinstance(problem, httpx2.ConnectTimeout):
            seconds = self.patience.connecting
            return _failures.too_slow(self.where, f"could not be reached in {seconds:g} seconds", is_retryable=True)
        if isinstance(problem, httpx2.TimeoutException):
            seconds = self.patience.connecting
            return _failures.too_slow(self.where, f"sent nothing for {seconds:g} seconds", is_retryable=True)
        return _failures.lost(self.where, problem)

    def _too_slow(self) -> LLMError:
        # Not tried again: whoever has waited for so long would wait three times as long.
        seconds = self.patience.answering
        return _failures.too_slow(self.where, f"did not answer in {seconds:g} seconds", is_retryable=False)


class _Events:
    """The data of the events of a stream. An event is one line here, as all providers send it.

    The SDKs end a line at each character that Python takes for an end, such as U+2028. In a stream that is none, and
    may stand in the JSON.
    """

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def fed(self, chunk: bytes) -> Iterator[str]:
        """Take the next bytes, and return the data of the events that end in them."""
        *ended, rest = _LINE_END.split(chunk)
        for each in ended:
            line = b"".join([*self._begun, each])
            self._begun.clear()
            if line.startswith(_DATA):
                yield line.removeprefix(_DATA).decode("utf-8", "replace").strip()
        self._begun.append(rest)


def _is_cut(data: bytes, headers: httpx2.Headers) -> bool:
    """Return whether a whole answer has ended in the middle because its connection has.

    HTTP tells that itself, unless an answer has neither a length nor chunks: such a one ends where the server dies.
    """
    is_framed = "content-length" in headers or "transfer-encoding" in headers
    return not is_framed and _failures.is_truncated(data)


def timeout_of(patience: Patience, *, is_streamed: bool) -> httpx2.Timeout:
    """Return the times of a connection. `respond` bounds a whole answer, and the wait for a free connection."""
    seconds = None if patience.connecting == math.inf else patience.connecting
    return httpx2.Timeout(connect=seconds, write=seconds, read=seconds if is_streamed else None, pool=None)
