"""A browser's side of the viewer without a browser: requests to the ASGI application, header by header."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import anyio
import trio
from starlette.types import ASGIApp, Message, Scope

TOKEN: Final = "0123456789abcdef"
HOST: Final = "127.0.0.1:8000"


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so that files of sessions tell, which no event of Trio's can."""
    with trio.fail_after(60):
        while not await is_so():  # noqa: ASYNC110 - as said above
            await trio.sleep(0.01)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        is_packed = self.headers.get("content-encoding") == "gzip"
        return json.loads(gzip.decompress(self.body) if is_packed else self.body)


class Client:
    """Asks one application.

    Args:
        app: The application.
        token: The token that is sent with each request, `None` for none.
    """

    def __init__(self, app: ASGIApp, token: str | None = TOKEN) -> None:
        self._app = app
        self._token = token

    async def ask(
        self, path: str, *, method: str = "GET", headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> Answer:
        """Send a request. A header that is given replaces the usual one; an empty one takes it away."""
        async with self._exchange(path, method, headers, body) as messages:
            start = await messages.__anext__()
            content = b"".join([message.get("body", b"") async for message in messages])
        named = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], named, content)

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Sequence[tuple[str, str]] = (), *, has_comments: bool = False
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        """Read a stream of events; the connection is closed at the end of the block.

        Comments, which a page does not see, are events of that kind if they are wanted.
        """
        async with self._exchange(path, "GET", headers, b"") as messages:
            start = await messages.__anext__()
            assert start["status"] == 200, start
            async with aclosing(_events(messages, has_comments=has_comments)) as events:
                yield events

    def _scope(self, path: str, method: str, headers: Sequence[tuple[str, str]]) -> Scope:
        path, _, query = path.partition("?")
        usual = {"host": HOST, "authorization": f"Bearer {self._token}" if self._token else ""}
        sent = [
            *((name, value) for name, value in usual.items() if name not in dict(headers)),
            *headers,
        ]
        return {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent if value],
            "server": ("127.0.0.1", 8000),
        }

    @asynccontextmanager
    async def _exchange(
        self, path: str, method: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> AsyncGenerator[AsyncIterator[Message]]:
        sender, receiver = anyio.create_memory_object_stream[Message](1_000)
        gone, was_asked = anyio.Event(), False

        async def receive() -> Message:
            nonlocal was_asked
            if not was_asked:
                was_asked = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def serve() -> None:
            async with sender:
                await self._app(self._scope(path, method, headers), receive, sender.send)

        async with receiver, anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            yield receiver.__aiter__()
            gone.set()


class Event(NamedTuple):
    """One event of a stream."""

    kind: str
    seq: int | None
    data: Any


async def _events(messages: AsyncIterator[Message], *, has_comments: bool) -> AsyncGenerator[Event]:
    text = ""
    async for message in messages:
        text += message.get("body", b"").decode()
        while "\n\n" in text:
            frame, text = text.split("\n\n", 1)
            fields = dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
            if fields or has_comments:
                seq = int(fields["id"]) if "id" in fields else None
                yield Event(fields.get("event", "comment"), seq, json.loads(fields.get("data", "null")))
