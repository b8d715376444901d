"""The viewer on hypercorn, under Trio. Called by `railtracks.viewer.serve`."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import hypercorn.trio
import trio
from hypercorn.config import Config

from railtracks.viewer._app import application


async def serve(
    home: Path,
    *,
    port: int,
    hosts: Iterable[str],
    stores: Sequence[str],
    allow_signals: bool,
    task_status: trio.TaskStatus[str],
) -> None:
    """Serve the viewer until this is cancelled. A checkpoint."""
    token = secrets.token_urlsafe(24)
    served = application(home, token, hosts=hosts, root_path="", stores=stores, allow_signals=allow_signals)
    # Bound here: from inside of the server an error would come as a group of errors.
    listening = socket.create_server(("127.0.0.1", port))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.include_server_header = False
    # What goes wrong is told by the answers; the terminal is the user's.
    config.accesslog = config.errorlog = None
    # The types of hypercorn tell apart what Starlette's leave open, and do not tell all of WSGI.
    server = cast("Callable[..., Awaitable[None]]", hypercorn.trio.serve)  # pyright: ignore[reportUnknownMemberType]
    serving = partial(server, served, config, shutdown_trigger=trio.sleep_forever)
    async with trio.open_nursery() as nursery:
        await nursery.start(serving)
        task_status.started(f"{address}/#token={token}")
