"""One request and its answer, on its way to a client that may leave. Called by the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import trio

from railtracks.llm._fake.http import HttpConnection
from railtracks.llm._fake.script import Dropped, Ready, TooLong
from railtracks.llm._fake.wire import Asked, Event, Reply, Wire
from railtracks.llm._script import (
    Answer,
    Cut,
    Hang,
    Malformed,
    Plain,
    Status,
    Stream,
    answer_of,
    finish_reason_of,
    message_of,
)


class Exchange:
    """The answer to one request.

    Args:
        http: The connection.
        wire: The interface.
        asked: The request.
        turn: Which answer of its conversation this is.
        on_left: Called once if the client leaves before the answer is complete.
    """

    def __init__(self, http: HttpConnection, wire: Wire, asked: Asked, turn: int, on_left: Callable[[], None]) -> None:
        self._http = http
        self._wire = wire
        self._asked = asked
        self._turn = turn
        self._on_left = on_left
        self._is_over = False

    async def watch(self, scope: trio.CancelScope) -> None:
        """Wait until the client leaves, and cancel the answer then."""
        await self._http.left()
        self._leave()
        scope.cancel()

    async def write(self, ready: Ready) -> bool:
        """Send an answer, and return whether the connection can be used for another request."""
        try:
            return await self._write(ready)
        except trio.BrokenResourceError:
            self._leave()
            return False

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._on_left()

    async def _write(self, ready: Ready) -> bool:
        match ready:
            case Dropped():
                self._is_over = True
                return False
            case Hang():
                await (self._http.start_stream() if self._asked.is_streamed else self._http.start_whole())
                await trio.sleep_forever()
            case Status():
                await self._fail(ready)
            case TooLong():
                text = ready.message or "210000 tokens, and the maximum context length is 200000 tokens"
                self._is_over = True
                await self._http.send(400, self._wire.error(400, text, is_too_long=True))
            case Malformed():
                await self._malform()
            case Cut():
                await self._cut(ready)
                return False
            case _:
                await self._answer(ready)
        return True

    async def _fail(self, status: Status) -> None:
        self._is_over = True
        await self._http.send(status.code, self._wire.error(status.code, _text_of(status)), status.headers)

    async def _malform(self) -> None:
        if self._asked.is_streamed:
            await self._http.start_stream()
            self._is_over = True
            await self._http.send_chunk(b'event: message_start\ndata: {"id": "broken", "choi\n\n', is_last=True)
        else:
            self._is_over = True
            await self._http.send(200, b'{"id": "broken", "choi')

    async def _cut(self, cut: Cut) -> None:
        reply, pause = self._reply(cut.entry)
        if not self._asked.is_streamed:
            self._is_over = True
            await self._http.send_half(self._wire.whole(reply))
            return
        events = list(self._wire.stream(reply, wants_usage=self._asked.wants_usage))
        pieces = [number for number, each in enumerate(events) if each.is_piece]
        # Before the first piece that is too many; behind the last one, if there are not so many.
        end = pieces[cut.after] if cut.after < len(pieces) else max(pieces, default=-1) + 1
        await self._http.start_stream()
        for each in events[:end]:
            await self._send(each, pause)
        self._is_over = True
        if cut.ending is not None:
            last = self._wire.stream_error(cut.ending.code, _text_of(cut.ending))
            await self._http.send_chunk(last.data, is_last=True)

    async def _answer(self, entry: Plain) -> None:
        reply, pause = self._reply(entry)
        if not self._asked.is_streamed:
            self._is_over = True
            await self._http.send(200, self._wire.whole(reply))
            return
        await self._http.start_stream()
        await self._send_all(self._wire.stream(reply, wants_usage=self._asked.wants_usage), pause)

    async def _send_all(self, events: Iterable[Event], pause: float) -> None:
        *most, last = events
        for each in most:
            await self._send(each, pause)
        # From here on the client has all, and leaves when it likes: often before the call below is back.
        self._is_over = True
        await self._http.send_chunk(last.data, is_last=True)

    async def _send(self, event: Event, pause: float) -> None:
        await self._http.send_chunk(event.data)
        if event.is_piece and pause:
            await trio.sleep(pause)

    def _reply(self, entry: Plain) -> tuple[Reply, float]:
        """Return an answer as the wire writes it, and the seconds between its pieces."""
        answer = answer_of(entry)
        reply = Reply(
            identifier=f"answer_{self._turn}",
            model=self._asked.model,
            message=message_of(answer, self._turn),
            pieces=entry.texts if isinstance(entry, Stream) else words(answer),
            usage=answer.usage,
            finish_reason=finish_reason_of(answer),
        )
        return reply, entry.pause if isinstance(entry, Stream) else 0.0


def words(answer: Answer) -> tuple[str, ...]:
    """Return the text of an answer in pieces of one word each, with the blanks behind it."""
    return tuple(re.findall(r"\S+\s*|\s+", answer.text))


def _text_of(status: Status) -> str:
    return status.message or f"the script says {status.code}"
