"""The web viewer: sessions in a browser, on this machine. The extra `viewer`.

Imported by the command `railtracks viz`, and by programs that serve the viewer themselves. What serves is imported on
first use: `app` and `serve` tell which extra is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from railtracks._calls.here import this_task
from railtracks._extras import import_of_extra

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["app", "serve"]


def app(
    home: Path,
    token: str,
    *,
    hosts: Iterable[str] = (),
    root_path: str = "",
    stores: Sequence[str] = (),
    allow_signals: bool = False,
) -> Starlette:
    """Return the viewer as an ASGI application, to be served or mounted by another one.

    Under Trio and under asyncio. Pages and scripts hold no data; each request for data has to send the token. The page
    takes the token from the fragment of its first address, `#token=...`.

    Args:
        home: The folder with the saved states and the files of events.
        token: What a browser has to know to see data: at least 16 letters, digits and characters of `-._~`.
        hosts: The names by which browsers may call it, beside `127.0.0.1`, `localhost` and `[::1]`.
        root_path: The path below which it is found, if a proxy in front of it does not take that off. What mounts it
            tells it of its path by itself.
        stores: The URLs of durable stores; else `$RAILTRACKS_STORE`, else the default store of `home` if there is one.
        allow_signals: Whether its page may answer signals that sessions wait for. Without it nothing can be changed.

    Raises:
        ImportError: If the extra `viewer` is not installed.
        TypeError: If an argument is of the wrong type.
        ValueError: If the token is none, or `root_path` is no path.
    """
    application: Starlette = import_of_extra("railtracks.viewer._app", "the viewer needs", "viewer").application(
        home, token, hosts=hosts, root_path=root_path, stores=stores, allow_signals=allow_signals
    )
    return application


async def serve(  # noqa: ASYNC128 - the server that it imports does
    home: Path,
    *,
    port: int = 0,
    hosts: Iterable[str] = (),
    stores: Sequence[str] = (),
    allow_signals: bool = False,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the viewer on this machine, at 127.0.0.1, until it is cancelled. A checkpoint.

    `await nursery.start(railtracks.viewer.serve, home)` returns the address to open. The address has a new token in its
    fragment, so whoever knows it can see the sessions. A cancel ends the open streams.

    Args:
        home: As for `app`.
        port: The port, 0 for any that is free.
        hosts: As for `app`.
        stores: As for `app`.
        allow_signals: As for `app`.
        task_status: Gets the address.

    Raises:
        ImportError: If the extra `viewer` is not installed.
        OSError: If the port is in use.
        RuntimeError: If Trio is not running.
    """
    this_task()
    server = import_of_extra("railtracks.viewer._server", "the viewer needs", "viewer")
    await server.serve(
        home, port=port, hosts=hosts, stores=stores, allow_signals=allow_signals, task_status=task_status
    )
