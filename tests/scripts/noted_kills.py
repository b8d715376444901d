"""Has workers killed in every way, and orders kills of what is no worker, in processes whose kills are noted.

Usage: noted_kills.py FOLDER. Each process of Python that finds the `sitecustomize` of the test notes whom it kills in a
file of the folder. Prints a JSON object: the process ids of this program, of its guardians and of its workers.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import trio

import railtracks as rt

sys.path.insert(0, str(Path(__file__).parent.parent))

import worker_functions as functions
from storm_functions import KINDS, storm

from railtracks._workers.guarded import Guardian, Worker
from railtracks._workers.messages import KILL


async def lose_workers(folder: Path) -> None:
    """Make calls that end their workers, and that have them ended."""
    async with rt.Session(save_state=False, logging_setting="NONE"):
        for number, kind in enumerate(KINDS):
            place = folder / str(number)
            place.mkdir()
            (place / "marker").touch()
            with suppress(rt.WorkerCrashedError, rt.NodeTimeoutError):
                await rt.call(storm.with_options(timeout=0.5), number, kind, str(place))
        # What it sends has numbers and process ids of its own choice in it.
        with suppress(rt.WorkerCrashedError):
            await rt.call(functions.be_lost, "write")


def workers_of(guardian: psutil.Process) -> list[int]:
    """Return the process ids of the workers of a guardian. Each has a session of its own."""
    found: list[int] = []
    for child in guardian.children():
        # As it starts, the guardian has other children, which end at once.
        with suppress(ProcessLookupError):
            found += [child.pid] if os.getsid(child.pid) == child.pid else []
    return found


async def kill_what_is_no_worker() -> list[int]:
    """Order the guardian to kill the numbers of processes that it must not kill; return its workers' process ids."""
    guardian = await Guardian.open(sys.path)
    worker = guardian.start_worker()
    (its,) = [child for child in psutil.Process().children() if child.pid != BYSTANDER.pid]
    while not (workers := workers_of(its)):  # noqa: ASYNC110 - another process starts it
        await trio.sleep(0.01)
    for number in (0, os.getpid(), os.getpgrp(), its.pid, BYSTANDER.pid, *workers, 2**64 - 1):
        with socket.socket() as channel:
            guardian._order(KILL, Worker(number, channel, guardian._kill), [])  # noqa: SLF001 - a forged order
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guardian.listen)
        worker.kill()
        await worker.ended.wait()
        guardian.end()
    worker.let_go()
    await guardian.close()
    return workers


async def main(folder: Path) -> None:
    """Do both, and print whether what must live lives."""
    await lose_workers(folder)
    workers = await kill_what_is_no_worker()
    told = {"program": os.getpid(), "group": os.getpgrp(), "workers": workers, "bystander": BYSTANDER.is_running()}
    print(json.dumps(told))


if __name__ == "__main__":
    # In the group of this program.
    BYSTANDER = psutil.Popen(["sleep", "1000"])
    try:
        trio.run(main, Path(sys.argv[1]))
    finally:
        BYSTANDER.kill()
        BYSTANDER.wait()
