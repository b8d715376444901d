"""Sends sessions to an executor that is not of the standard library, and says what came of each.

Usage: other_executors.py POOL FOLDER. POOL is a key of `POOLS`. Prints one line of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from importlib import import_module
from pathlib import Path
from typing import Any

import remote_flows as flows
import trio

import railtracks as rt


def loky() -> Executor:
    """Return loky's pool of processes, which is kept from one use to the next."""
    return import_module("loky").get_reusable_executor(2)  # type: ignore[no-any-return]


def executorlib(**options: Any) -> Executor:
    """Return executorlib's executor for one machine: a process for each call, or processes that are kept."""
    return import_module("executorlib").SingleNodeExecutor(max_workers=2, **options)  # type: ignore[no-any-return]


def parsl(kind: str, **options: Any) -> Executor:
    """Return parsl's executor of the `concurrent.futures` kind."""
    top = import_module("parsl")
    config = top.Config(executors=[getattr(top, kind)(**options)])
    return import_module("parsl.concurrent").ParslPoolExecutor(config)  # type: ignore[no-any-return]


def parsl_processes() -> Executor:
    """Return parsl's executor that begins processes on this machine."""
    provider = import_module("parsl.providers").LocalProvider(init_blocks=1, max_blocks=1)
    return parsl("HighThroughputExecutor", max_workers_per_node=2, address="127.0.0.1", provider=provider)


POOLS: dict[str, Callable[[], Executor]] = {
    "loky": loky,
    "executorlib": executorlib,
    "executorlib, kept": lambda: executorlib(block_allocation=True),
    "parsl, threads": lambda: parsl("ThreadPoolExecutor", max_threads=2),
    "parsl, processes": parsl_processes,
}


class Kept(logging.Handler):
    """Keeps lines that have come from a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if hasattr(record, "worker"):
            self.lines.append(record.getMessage())


async def ended(pool: Executor, flow: rt.Flow[..., object], *inputs: object) -> list[object]:
    """Return the results of sessions, and the types of their errors."""
    found: list[object] = []
    async with rt.map_flow(pool, flow, inputs, ordered=True) as finished:
        async for pending in finished:
            try:
                found.append(pending.result())
            except Exception as error:  # noqa: BLE001 - told by its type
                found.append(type(error).__name__)
    return found


async def main(pool: Executor, folder: Path) -> dict[str, object]:
    """Send sessions of each kind."""
    kept, heard = Kept(), list[object]()
    logging.getLogger("shop.orders").addHandler(kept)
    said: dict[str, object] = {}
    async with rt.Session(save_state=False, logging_setting="NONE", broadcast_callback=heard.append) as session:
        pending = await rt.submit(pool, flows.total_flow.bind(3))
        await pending.wait()
        said["submit"] = pending.result()
        said["map_flow"] = await ended(pool, flows.total_flow, 0, 1, 2, 3)
        said["error"] = await ended(pool, flows.refused_flow, "Ada")
        said["timeout"] = await timed_out(pool, folder)
        await ended(pool, flows.telling_flow, 3)
        node = flows.process_id.with_options(run_in=pool)
        said["in this process"] = os.getpid() in await rt.call_batch(node, [1, 2], return_exceptions=False)
    said["broadcasts"] = heard
    said["lines"] = kept.lines
    said["tree"] = [session.counts.by_node["flow total"], session.counts.by_node["step"]]
    return said


async def timed_out(pool: Executor, folder: Path) -> object:
    """Return the type of the error of a session that is timed out in its worker."""
    async with rt.map_flow(pool, flows.hanging_flow, [str(folder)], timeout=0.2) as finished:
        async for pending in finished:
            try:
                return pending.result()
            except rt.SessionTimeoutError:
                return (folder / "cleaned").exists()
    return None


if __name__ == "__main__":
    with POOLS[sys.argv[1]]() as executor:
        print(json.dumps(trio.run(main, executor, Path(sys.argv[2]))), flush=True)
