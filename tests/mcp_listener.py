"""A listener on loopback for the applications of MCP servers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import hypercorn.config
import hypercorn.trio
import trio


@asynccontextmanager
async def listening(app: Any, port: int = 0) -> AsyncGenerator[str]:
    """Serve an application in this Trio run, and give its address."""
    config = hypercorn.config.Config()
    config.bind, config.accesslog, config.errorlog = [f"127.0.0.1:{port}"], None, None
    config.graceful_timeout = 0.1
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(
            lambda task_status: hypercorn.trio.serve(
                app, config, shutdown_trigger=trio.sleep_forever, task_status=task_status
            )
        )
        yield f"{bound[0]}/mcp"
        nursery.cancel_scope.cancel()
