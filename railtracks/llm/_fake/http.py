"""As much of HTTP/1.1 as clients of models need: requests in, whole or chunked answers out. Called by the server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

import trio

from railtracks.llm._fake.wire import Json

_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
_READ: Final = 65536


class HttpRequest(NamedTuple):
    """A request.

    Attributes:
        method: Such as `"POST"`.
        path: The path, with the query.
        headers: The headers; their names are in lower case.
        body: The body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class _LeftError(Exception):
    """The client has left in the middle of a request."""


class HttpConnection:
    """The server's side of one connection, which may carry several requests, one after the other."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._unread = bytearray()

    async def request(self) -> HttpRequest | None:
        """Wait for a request, and return it; `None` if the client has left."""
        try:
            head = (await self._until(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            method, path, _ = first.split(" ", 2)
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            return HttpRequest(method, path, headers, await self._body(headers))
        except _LeftError:
            return None

    async def left(self) -> None:
        """Wait until the client has left."""
        while await self._read():
            pass

    async def send(self, status: int, body: Json | bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer: JSON, or bytes that say to be JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self._stream.send_all(_head(status, {"content-length": str(len(data)), **(headers or {})}) + data)

    async def send_half(self, body: Json) -> None:
        """Send an answer that says to be longer than it is."""
        data = json.dumps(body).encode()
        await self._stream.send_all(_head(200, {"content-length": str(len(data))}) + data[: len(data) // 2])

    async def start_whole(self) -> None:
        """Send the headers of a whole answer."""
        await self._stream.send_all(_head(200, {"content-length": "1000"}))

    async def start_stream(self) -> None:
        """Send the headers of a streamed answer."""
        await self._stream.send_all(
            _head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}),
        )

    async def send_chunk(self, data: bytes, *, is_last: bool = False) -> None:
        """Send a part of a streamed answer, and its end with the last one."""
        end = b"0\r\n\r\n" if is_last else b""
        await self._stream.send_all(b"%x\r\n%s\r\n%s" % (len(data), data, end))

    async def _read(self) -> bool:
        """Read what comes next, and return whether the client is still there."""
        try:
            data = await self._stream.receive_some(_READ)
        except trio.BrokenResourceError:
            return False
        self._unread += data
        return bool(data)

    async def _until(self, mark: bytes) -> bytes:
        """Return what comes before a mark, and drop the mark."""
        while (end := self._unread.find(mark)) < 0:
            if not await self._read():
                raise _LeftError
        return self._take(end, len(mark))

    async def _exactly(self, length: int) -> bytes:
        while len(self._unread) < length:
            if not await self._read():
                raise _LeftError
        return self._take(length, 0)

    def _take(self, length: int, dropped: int) -> bytes:
        data = bytes(self._unread[:length])
        del self._unread[: length + dropped]
        return data

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._exactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await self._until(b"\r\n"), 16):
            body += await self._exactly(size)
            await self._until(b"\r\n")
        await self._until(b"\r\n")
        return body


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}"]
    lines += [f"{name}: {value}" for name, value in {"content-type": "application/json", **headers}.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
