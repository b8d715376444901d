"""What a client knows of its cluster's scheduler: whether it answers, and which workers it has.

Called by `_cluster` while a session sends to a cluster, and by `_flows` before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio
from attrs import define, field

from railtracks.remote._dask_types import DaskClient

R = TypeVar("R")

# Seconds between two looks at the cluster, and how long a client may be without its scheduler.
_LOOK: Final = 0.5
AWAY: Final = 2.0
# Seconds in which a scheduler answers that the client is connected to: one that is busy is slow, and not gone.
_SILENT: Final = 12.0


@define(eq=False)
class Looks:
    """Looks at the workers of a cluster: one ask at a time, however long its answer takes.

    Time counts in looks: a program that was held up itself has not waited for an answer.

    Attributes:
        client: The client that is asked.
        take: Takes an answer: how many tasks each worker runs at a time.
        away: Seconds for which the client has been without its scheduler.
        silent: Seconds since the last answer.
        has_answer: Set with the first answer.
    """

    client: DaskClient
    take: Callable[[dict[str, int]], object]
    away: float = 0.0
    silent: float = 0.0
    has_answer: trio.Event = field(factory=trio.Event)

    async def ask_often(self) -> None:
        """Ask, and hand on the answers, until it is cancelled."""
        while True:
            threads = await asked(self.client, self.client.nthreads) if self.client.status == "running" else None
            if threads is not None:
                self.silent = 0.0
                self.take(threads)
                self.has_answer.set()
            await trio.sleep(_LOOK)

    async def until_gone(self) -> None:
        """Wait until the client is closed, or its scheduler is gone: for one look at least.

        A client that has lost its scheduler is `connecting`. Dask itself would wait half a minute.
        """
        while True:
            await trio.sleep(_LOOK)
            self.away = 0.0 if self.client.status == "running" else self.away + _LOOK
            self.silent += _LOOK
            if is_closed(self.client) or self.away >= AWAY or self.silent >= _SILENT:
                return


async def asked(client: DaskClient, ask: Callable[[], R]) -> R | None:
    """Return what the cluster answers, in a thread; `None` if the scheduler is gone or the client closed."""
    try:
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
    except OSError:
        return None
    except Exception:
        # Dask raises errors of many types from a client that has been closed.
        if client.status == "running":
            raise
        return None


def is_closed(client: DaskClient) -> bool:
    """Return whether a client is closed, or about to be."""
    return client.status in {"closing", "closed"}


def check_open(client: DaskClient) -> None:
    """Raise a `ConnectionError` if a client is closed."""
    if client.status == "closed":
        raise ConnectionError("the Dask client is closed")


async def threads_of(client: DaskClient) -> int:
    """Return how many tasks the workers of a cluster run at a time: 1 if it has none.

    Raises:
        ConnectionError: If the client is closed, or the scheduler is gone.
    """
    check_open(client)
    found: list[int] = []

    def take(threads: dict[str, int]) -> None:
        found.append(sum(threads.values()) or 1)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        looks = Looks(client, take)
        nursery.start_soon(looks.ask_often)
        await looks.until_gone()
        nursery.cancel_scope.cancel()
    if found:
        return found[0]
    why = "the Dask client is closed" if is_closed(client) else "the scheduler is gone"
    raise ConnectionError(f"{why}: no session was sent there")
