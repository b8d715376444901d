"""What several tests of durable sessions ask of a store."""

from __future__ import annotations

import trio

import railtracks as rt


async def until_begun(store: rt.DurableStore) -> None:
    """Wait until somebody has begun a session in the store."""
    # The store tells nobody: it is a file, and who writes to it may be another process.
    while not store.sessions():  # noqa: ASYNC110
        await trio.sleep(0.01)
