"""The viewer as an ASGI application: which address is answered by what.

Called by `railtracks.viewer.app`, and by the server. Endpoints that read files or stores are plain functions: Starlette
runs those in worker threads.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from railtracks._archive import Archive
from railtracks._checks import check_flag, check_text, is_text
from railtracks._records.data import ExecutionInfo
from railtracks.exceptions import DurableValueError
from railtracks.viewer._assets import Assets
from railtracks.viewer._columns import Json, call_columns, list_columns, session_head
from railtracks.viewer._diff import differences
from railtracks.viewer._guard import Guard
from railtracks.viewer._listing import Listing
from railtracks.viewer._shelf import UNREADABLE, Opened, Shelf
from railtracks.viewer._signals import answer_in, send, told_wait, waits_of
from railtracks.viewer._stream import Stream
from railtracks.viewer._values import call_values

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]{16,}")
# Digits of the number of a call or an event.
_LONGEST_NUMBER: Final = len(str(2**63))
# Bytes of the body of a request.
_LARGEST: Final = 2**20
# Bytes from which on an answer is compressed, and how much trouble is taken over it.
_LARGE: Final = 2_000
_LEVEL: Final = 3
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class _Digits(StringConvertor):
    """A part of a path that has digits only, as text: an identifier of a session may have `/c/` in it."""

    regex = "[0-9]+"


register_url_convertor("digits", _Digits())


def application(
    home: Path,
    token: str,
    *,
    hosts: Iterable[str],
    root_path: str,
    stores: Sequence[str],
    allow_signals: bool,
) -> Starlette:
    """Return the viewer; the arguments are those of `railtracks.viewer.app`."""
    check_text("token", token)
    if not _TOKEN.fullmatch(token):
        raise ValueError("token must have 16 letters, digits and characters of -._~ at least, as an address has them")
    check_text("root_path", root_path)
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise ValueError(f"root_path must begin with a slash and end without one, not {root_path!r}")
    check_flag("allow_signals", allow_signals)
    for name, given in (("hosts", hosts), ("stores", stores)):
        # One text would count as a list of characters. It is not quoted: the address of a store may have a password.
        if is_text(given):
            raise TypeError(f"{name} must be a list of texts, also of one: write it in brackets")
    assets, api = Assets(), _Api(Archive(Path(home), tuple(stores)), may_signal=allow_signals)
    return Starlette(
        routes=[
            Route("/", assets.page),
            Route("/s/{id:path}", assets.page),
            Route("/diff/{ids:path}", assets.page),
            Route("/static/{name}", assets.file),
            Route("/favicon.ico", assets.icon),
            Route("/api/sessions", api.sessions),
            Route("/api/diff", api.diff),
            Route("/api/s/{id:path}/c/{call:digits}", api.call),
            Route("/api/s/{id:path}/events", api.events),
            Route("/api/s/{id:path}/signals", api.signal, methods=["POST"]),
            Route("/api/s/{id:path}", api.session),
        ],
        middleware=[Middleware(Guard, token=token, hosts=tuple(hosts), root_path=root_path)],
        exception_handlers={
            HTTPException: _told,
            **dict.fromkeys(UNREADABLE, _unreadable),
        },
    )


class _Api:
    """The endpoints that answer with data.

    Args:
        archive: Where the sessions are.
        may_signal: Whether signals may be sent.
    """

    def __init__(self, archive: Archive, *, may_signal: bool) -> None:
        self._archive = archive
        self._listing = Listing(archive)
        self._shelf = Shelf(archive, self._listing)
        self._may_signal = may_signal

    def sessions(self, request: Request) -> Response:
        """Return the list of sessions. It is not sent again while it is the same."""
        listed = self._listing.listed()
        content = _encode({"sessions": list_columns(listed.sessions.values()), "problems": listed.problems}).encode()
        tag = f'"{sha256(content).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return _json(request, content, {"ETag": tag})

    def session(self, request: Request) -> Response:
        """Return a session and its calls."""
        opened = self._opened(request.path_params["id"])
        read = opened.read()
        document: Json = {
            "session": session_head(opened.summary, read.info),
            "calls": call_columns(read.info),
            "seq": read.seq,
            "missing": read.missing,
            "waits": [told_wait(each) for each in waits_of(self._archive, opened.summary)],
            "now": int(time.time() * 1000),
            "may_signal": self._may_signal,
        }
        return _json(request, _encode(document).encode())

    def call(self, request: Request) -> Response:
        """Return the values of a call."""
        asked = request.path_params["call"]
        # Of a longer text Python makes no number.
        number = int(asked) if len(asked) <= _LONGEST_NUMBER else 0
        info = self._opened(request.path_params["id"]).read().info
        for call in info.calls:
            if call.id == number:
                return _json(request, _encode(call_values(call)).encode())
        raise HTTPException(404, f"the session has no call {asked[:_LONGEST_NUMBER]}")

    def diff(self, request: Request) -> Response:
        """Return what differs in two sessions."""
        before, after = (self._both(request, name) for name in ("before", "after"))
        document: Json = {
            "before": session_head(before[0].summary, before[1]),
            "after": session_head(after[0].summary, after[1]),
            **differences(before[1], after[1]),
        }
        return _json(request, _encode(document).encode())

    async def events(self, request: Request) -> Response:
        """Stream what happens in a session."""
        opened = await run_in_threadpool(self._opened, request.path_params["id"])
        after = request.headers.get("last-event-id") or request.query_params.get("after", "")
        if not after.removeprefix("-").isdecimal() or len(after) > _LONGEST_NUMBER:
            raise HTTPException(400, "the number of an event is missing: ?after=...")
        return StreamingResponse(Stream(opened, self._listing, int(after)), media_type="text/event-stream")

    async def signal(self, request: Request) -> Response:
        """Send a signal to a session that waits for one."""
        if not self._may_signal:
            raise HTTPException(403, "this viewer sends no signals: start it with --allow-signals")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "a signal is sent as application/json")
        body = b""
        async with aclosing(request.stream()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > _LARGEST:
                    raise HTTPException(413, f"a signal may have {_LARGEST:,} bytes")
        answer = answer_in(body)
        if answer is None:
            raise HTTPException(400, "the answer to a wait has a session, a name, a key and a value")
        opened = await run_in_threadpool(self._opened, request.path_params["id"])
        try:
            await run_in_threadpool(send, self._archive, opened.summary, answer)
        except (DurableValueError, ValueError) as problem:
            raise HTTPException(400, str(problem)) from problem
        return JSONResponse({"sent": answer.name})

    def _both(self, request: Request, name: str) -> tuple[Opened, ExecutionInfo]:
        opened = self._opened(request.query_params.get(name, ""))
        return opened, opened.read().info

    def _opened(self, session_id: str) -> Opened:
        opened = self._shelf.session(session_id)
        if opened is None:
            raise HTTPException(404, "there is no such session")
        return opened


def _json(request: Request, content: bytes, headers: dict[str, str] | None = None) -> Response:
    """Return an answer in JSON, compressed if it is long and the browser takes that."""
    sent = {"Vary": "Accept-Encoding", **(headers or {})}
    if len(content) >= _LARGE and "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, _LEVEL)
        sent["Content-Encoding"] = "gzip"
    return Response(content, media_type="application/json", headers=sent)


async def _told(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)  # noqa: S101 - it is registered for these
    return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)


async def _unreadable(_: Request, problem: Exception) -> Response:
    # A file or a store that is damaged, gone, or too large: the text says which.
    return JSONResponse({"error": str(problem)}, 422)
