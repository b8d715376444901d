"""Work for a web request that is cancelled when the client leaves.

Called by endpoints of Starlette and FastAPI, on servers of asyncio and of Trio.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from railtracks.asgi._trio import run_watched
from railtracks.exceptions import ClientDisconnectedError

if TYPE_CHECKING:
    from starlette.requests import Request

R = TypeVar("R")

# In the scope of a request whose client is watched.
_WATCHED: Final = "railtracks.is_watched"


async def cancel_on_disconnect(request: Request, awaitable: Awaitable[R]) -> R:
    """Await something for a request, and cancel it if the client leaves.

    The cancel is that of a flow: this function goes on when the cleanup is done. An endpoint that does not catch
    `ClientDisconnectedError` fails with it, and no client reads the answer.

    The body of the request is read first, and `request.body()` has it afterwards. Not for an endpoint that returns a
    `StreamingResponse`, which watches for its client itself. Servers that cancel the endpoint when the client leaves
    (Django, aiohttp with `handler_cancellation=True`) do not need this function.

    A checkpoint. If it is cancelled, so is the awaitable.

    Args:
        request: The request of Starlette or FastAPI.
        awaitable: What is awaited: `flow.ainvoke(...)`. It is closed, and never begins, if the client has left already.

    Returns:
        The result of the awaitable.

    Raises:
        ClientDisconnectedError: If the client has left.
        TypeError: If `request` is no request of Starlette or FastAPI, if `awaitable` is none, or if a part of the body
            was streamed before. For a chunked body this cannot be checked: do not stream any of it before.
        RuntimeError: If the request is watched already.
        BaseException: What the awaitable raises, as the same object.
    """
    try:
        _check(request, awaitable)
        request.scope[_WATCHED] = True
        try:
            await _read_body(request)
            if trio.lowlevel.in_trio_task():
                return await run_watched(awaitable, partial(_leaves, request))
            # Imports asyncio, which the program has imported.
            from railtracks.asgi import _asyncio  # noqa: PLC0415

            return await _asyncio.run_watched(awaitable, partial(_leaves, request))
        finally:
            del request.scope[_WATCHED]
    finally:
        if isinstance(awaitable, Coroutine):
            # Without effect, if it has ended. If it has not begun, Python would warn that nobody has awaited it.
            awaitable.close()


def _check(request: Request, awaitable: object) -> None:
    module = sys.modules.get("starlette.requests")
    if module is None or not isinstance(request, module.Request):
        raise TypeError(
            f"cancel_on_disconnect takes a request of Starlette or FastAPI, not {type(request).__name__}: a WebSocket"
            " tells of its client when something is received"
        )
    if not inspect.isawaitable(awaitable):
        raise TypeError(
            "cancel_on_disconnect awaits what a call has returned: write cancel_on_disconnect(request,"
            f" flow.ainvoke(...)), in place of {type(awaitable).__name__}"
        )
    if request.scope.get(_WATCHED):
        raise RuntimeError("this request is watched already: give cancel_on_disconnect all of its work at once")


async def _read_body(request: Request) -> None:
    """Read the body of the request, which keeps it.

    Raises:
        ClientDisconnectedError: If the client has left before it had sent the body.
        TypeError: If a part of the body was streamed before.
    """
    from starlette.requests import ClientDisconnect  # noqa: PLC0415 - the program has imported it

    try:
        body = await request.body()
    except ClientDisconnect:
        raise ClientDisconnectedError from None
    except RuntimeError:
        # The endpoint has read all of it, as a form or a stream: nothing but the leave of the client can come.
        return
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and len(body) < int(declared):
        raise TypeError("a part of the body was streamed before: call cancel_on_disconnect before, or read all of it")


async def _leaves(request: Request) -> None:
    """Wait until the client leaves."""
    kind = ""
    while kind != "http.disconnect":
        kind = (await request.receive())["type"]
