"""The import of `mcp`, on first use. Called where a connection is opened, or a server is asked for."""

from __future__ import annotations

from typing import Any

import trio

from railtracks._extras import import_of_extra
from railtracks.llm._loading import tls


def required(name: str) -> Any:
    """Import and return a module of the extra `mcp`. It takes a second or two the first time.

    Raises:
        ImportError: If it is not installed.
    """
    return import_of_extra(name, "MCP needs", "mcp")


async def load() -> None:
    """Import what a connection needs, in a worker thread: other tasks go on meanwhile. A cancel waits for it.

    Raises:
        ImportError: If it is not installed.
    """
    await trio.to_thread.run_sync(_load)


def _load() -> None:
    required("mcp")
    tls()
