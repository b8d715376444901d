"""Dask's clusters and clients as async context managers: Dask's own constructors block. Needs the extra `dask`.

Used as `rt.dask.open_cluster` and `rt.dask.open_client`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import trio

from railtracks._calls.here import this_task
from railtracks._extras import import_of_extra

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["open_client", "open_cluster"]


@asynccontextmanager
async def open_cluster(n_workers: int | None = None, **options: Any) -> AsyncGenerator[Client]:
    """Start a cluster of worker processes on this machine, and give a client of it; both end with the block.

        async with rt.dask.open_cluster(2, threads_per_worker=4) as client, rt.Session():
            pending = await rt.submit(client, survey.bind("Norway"))

    Entering and leaving are checkpoints. A cancel waits until the cluster has started, or has ended.

    Args:
        n_workers: How many worker processes; by default Dask decides by the number of CPUs.
        **options: For `distributed.LocalCluster`. By default it listens on 127.0.0.1 only, and has no dashboard.

    Raises:
        ImportError: If the extra `dask` is not installed.
        RuntimeError: If Trio is not running.
    """
    this_task()
    distributed = import_of_extra("distributed", "rt.dask needs", "dask")
    given = {"n_workers": n_workers, "protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": None, **options}
    if given["dashboard_address"] is None:
        # Dask has a server for HTTP even then, on port 8787: it warns if another cluster of the machine has that.
        given["scheduler_kwargs"] = {"dashboard_address": "127.0.0.1:0", **(options.get("scheduler_kwargs") or {})}
    cluster = await trio.to_thread.run_sync(lambda: distributed.LocalCluster(**given))
    try:
        async with open_client(cluster) as client:
            yield client
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_closing(cluster))


@asynccontextmanager
async def open_client(address: Any = None, **options: Any) -> AsyncGenerator[Client]:
    """Connect to a cluster, and give the client; the connection ends with the block.

    Entering and leaving are checkpoints. A cancel waits until the connection is there, or closed.

    Args:
        address: The address of the scheduler, or a cluster object; by default what Dask is configured with.
        **options: For `distributed.Client`.

    Raises:
        ImportError: If the extra `dask` is not installed.
        RuntimeError: If Trio is not running.
        OSError: If the scheduler does not answer.
    """
    this_task()
    distributed = import_of_extra("distributed", "rt.dask needs", "dask")
    client: Client = await trio.to_thread.run_sync(lambda: distributed.Client(address, set_as_default=False, **options))
    try:
        yield client
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_closing(client))


def _closing(what: object) -> Callable[[], object]:
    # Dask gives it no types.
    return cast("Callable[[], object]", getattr(what, "close"))  # noqa: B009 - the same
