"""Sessions on a Dask cluster beside the same sessions by `client.map`, without records, cancels or deadlines."""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import distributed
import trio

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, main, note, take

PLAIN = "plain"
_SECONDS = 0.01


def run(seconds: float) -> None:
    """Run one session on a worker, as a task of Dask that knows nothing of this package would."""
    import_module("benchmarks.cluster_model").flow.invoke(seconds)


def cluster(plan: Plan) -> None:
    note("A cluster of two processes with four threads each; each session sleeps 10 ms. Plain: client.map and gather.")
    # The workers import the flow by its name.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    here = import_module("benchmarks.ours_cluster")
    flow = import_module("benchmarks.cluster_model").flow
    with (
        distributed.LocalCluster(2, threads_per_worker=4, host="127.0.0.1", dashboard_address=None) as workers,
        distributed.Client(workers) as client,
    ):

        async def ours(size: int, **options: Any) -> float:
            begun = time.perf_counter()
            async with (
                rt.Session(save_state=False, logging_setting="NONE"),
                rt.map_flow(client, flow, [_SECONDS] * size, **options) as finished,
            ):
                async for pending in finished:
                    pending.result()
            return 1e3 * (time.perf_counter() - begun) / size

        def bare(size: int) -> float:
            begun = time.perf_counter()
            client.gather(client.map(here.run, [_SECONDS] * size, pure=False))
            return 1e3 * (time.perf_counter() - begun) / size

        take(
            plan,
            {
                SUBJECT: lambda size: trio.run(lambda: ours(size, limit=64)),
                "ours, in batches": lambda size: trio.run(lambda: ours(size, batch=5)),
                PLAIN: bare,
            },
            is_long=True,
        )


if __name__ == "__main__":
    main({"cluster": cluster}, distribution="distributed")
