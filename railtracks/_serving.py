"""An application of Starlette on hypercorn, under Trio: what breaks one connection ends that one, not the server.

Called by the viewer, and by servers of tools over HTTP. Imported on first use, since hypercorn comes with their extras.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

if TYPE_CHECKING:
    from starlette.applications import Starlette


class _Connection(TCPServer):
    """One connection, whose tasks end once it is gone."""

    async def _read_data(self) -> None:
        await super()._read_data()
        # A connection that was reset does not wait for another request, as an idle one does: neither now, nor if what
        # still runs for it ends later.
        self.context = WorkerContext(None)
        await self.context.terminated.set()
        await self.idle_task.stop()
        # What the application still sends goes nowhere. Over HTTP/2 hypercorn would have it wait for ever for a browser
        # that takes more, and with it the connection and its file descriptor.
        if isinstance(self.protocol.protocol, H2Protocol):
            for buffer in list(self.protocol.protocol.stream_buffers.values()):
                await buffer.close()


def listening_at(host: str, port: int) -> tuple[socket.socket, str]:
    """Return a socket that listens at a numeric address or a name, and its URL.

    An address of IPv6 may have brackets, as in a URL. `::` stands for all addresses, also those of IPv4.

    Raises:
        OSError: If it cannot listen there.
    """
    host = host.removeprefix("[").removesuffix("]")
    is_ipv6 = ":" in host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    is_dual = host == "::" and socket.has_dualstack_ipv6()
    listening = socket.create_server((host, port), family=family, dualstack_ipv6=is_dual)
    name, bound = listening.getsockname()[:2]
    return listening, f"http://{f'[{name}]' if is_ipv6 else name}:{bound}"


async def serve_at(  # noqa: ASYNC128 - what it is handed on to does
    listening: socket.socket,
    app: Starlette,
    *,
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application at a socket until this is cancelled, and close the socket. A checkpoint.

    Not by `hypercorn.trio.serve`: there an error in a connection, such as a request to change to HTTP/2 with settings
    that are none, ends the server.
    """
    config = Config()
    config.include_server_header = False
    # What goes wrong is told by the answers; the terminal is the user's.
    config.accesslog = config.errorlog = None
    # The types of hypercorn tell apart what Starlette's leave open.
    wrapped = cast("Callable[[Starlette], object]", ASGIWrapper)(app)
    connection = partial(cast("Callable[..., Awaitable[None]]", _Connection), wrapped, config, WorkerContext(None), {})

    async def answer(stream: trio.SocketStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_closed_at_cancel, stream)
                await connection(stream)
                nursery.cancel_scope.cancel()
        except* Exception:  # noqa: BLE001, S110 - bytes of a stranger cost the connection on which they came
            pass

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    async with listener, app.router.lifespan_context(app):
        await trio.serve_listeners(answer, [listener], task_status=task_status)


async def _closed_at_cancel(stream: trio.SocketStream) -> None:
    """Close a connection when this is cancelled: hypercorn shields what it sends, for as long as nobody reads that."""
    try:
        await trio.sleep_forever()
    finally:
        stream.socket.close()
