"""The lifespan of an ASGI application: at its end, and on SIGTERM, the sessions of the process end.

Called by applications, and by servers where `with_lifespan` wraps one.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from railtracks._checks import check_grace
from railtracks._sessions.shutdown import GRACE, ashutdown
from railtracks._sessions.sigterm import ProcessSigterm, handle_for_process

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]


@asynccontextmanager
async def lifespan(app: object, grace: float = GRACE) -> AsyncGenerator[None]:  # noqa: ARG001 - servers pass it
    """End all sessions of this process when the application ends: the lifespan of a Starlette or FastAPI application.

    While it is open, SIGTERM begins to end them as `rt.shutdown_on_sigterm` does, and then the server's own handler is
    called. So the requests of the server end, which it waits for. The end of the block waits like `rt.ashutdown`.

    The application may have a lifespan of its own with `async with rt.asgi.lifespan(app):` in it. In a server that runs
    applications outside of the main thread, SIGTERM is the server's alone.

    Args:
        app: The application. It is not used.
        grace: Seconds that running sessions have to end by themselves.

    Raises:
        TypeError: If `grace` is no number.
        ValueError: If `grace` is negative or NaN.
    """
    check_grace("grace", grace)
    handler = _handle_sigterm(grace)
    try:
        yield
    finally:
        try:
            await ashutdown(grace)  # noqa: ASYNC102 - a server that cancels its lifespan does not wait
        finally:
            _leave_sigterm(handler)


def with_lifespan(app: ASGIApp, grace: float = GRACE) -> ASGIApp:
    """Return an ASGI application with `lifespan` around it, for any framework, with or without a lifespan of its own.

        application = rt.asgi.with_lifespan(get_asgi_application())  # Django

    Args:
        app: The application.
        grace: Seconds that running sessions have to end by themselves.

    Raises:
        TypeError: If `grace` is no number.
        ValueError: If `grace` is negative or NaN.
    """
    check_grace("grace", grace)

    async def wrapped(scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(app, grace, receive, send).run(scope)
        else:
            await app(scope, receive, send)

    return wrapped


class _Lifespan:
    """The messages of one lifespan, between a server and an application."""

    def __init__(self, app: ASGIApp, grace: float, receive: _Receive, send: _Send) -> None:
        self._app = app
        self._grace = grace
        self._receive = receive
        self._send = send
        self._handler: ProcessSigterm | None = None
        self._has_begun = False
        self._is_answered = False

    async def run(self, scope: MutableMapping[str, Any]) -> None:
        """Run the lifespan of the application, or answer the server if the application has none."""
        try:
            await self._of_application(scope)
            if not self._is_answered:
                if not self._has_begun:
                    await self.receive()
                await self.send({"type": "lifespan.startup.complete"})
                await self.receive()
                await self.send({"type": "lifespan.shutdown.complete"})
        finally:
            _leave_sigterm(self._handler)

    async def _of_application(self, scope: MutableMapping[str, Any]) -> None:
        try:
            await self._app(scope, self.receive, self.send)
        except Exception:
            # By the ASGI specification: an application that raises before it answers has no lifespan.
            if self._is_answered:
                raise

    async def receive(self) -> _Message:
        """Return the next message of the server. The sessions end before the application hears that it is to end."""
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            self._has_begun = True
            self._handler = _handle_sigterm(self._grace)
        else:
            await ashutdown(self._grace)
        return message

    async def send(self, message: _Message) -> None:
        """Send a message of the application to the server."""
        self._is_answered = True
        await self._send(message)


def _handle_sigterm(grace: float) -> ProcessSigterm | None:
    is_main = threading.current_thread() is threading.main_thread()
    return handle_for_process(grace) if is_main else None


def _leave_sigterm(handler: ProcessSigterm | None) -> None:
    if handler is not None:
        handler.remove()
