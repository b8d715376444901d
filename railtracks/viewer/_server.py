"""The viewer on hypercorn, under Trio. Called by `railtracks.viewer.serve`."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import trio

from railtracks._serving import listening_at, serve_at
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
    listening, address = listening_at("127.0.0.1", port)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_at, listening, served))
        task_status.started(f"{address}/#token={token}")
