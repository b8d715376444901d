"""How many sessions a cluster runs in a second: a simulation with measured costs, checked against real clusters.

    python -m benchmarks.cluster_model                 the table for 1 to 1,000 workers
    python -m benchmarks.cluster_model --check         real clusters beside it; takes a minute and a half
    python -m benchmarks.cluster_model --seconds 1     sessions of one second

Three things have a queue of their own: the program that sends (with the scheduler, which feeds one task after the
other), each thread of a worker, and the store that durable sessions commit to. A session takes its own time and what
its Trio run costs. The costs below were measured on two cores by `--check`; give others with `--set`.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

import attrs
import trio

import railtracks as rt

WORKERS = (1, 2, 4, 10, 100, 1_000)
BATCHES = (1, 5, 20, 100)


@attrs.frozen
class Costs:
    """What things cost, in seconds.

    Attributes:
        task: Of the program and the scheduler, for each task of Dask.
        session: Of the same, for each session in it.
        run: Of a worker's thread, for each session: its Trio run and its records.
        trip: From the program to a worker's thread and back, when all are idle.
        commits: How many commits of durable sessions the store takes in a second.
    """

    task: float = 0.0008
    session: float = 0.0016
    run: float = 0.0022
    trip: float = 0.012
    commits: float = 4_000


@attrs.frozen
class Prediction:
    """What a simulation says.

    Attributes:
        seconds: From the first session to the end of the last one.
        busy: The part of the time in which the sender is busy, 0 to 1.
    """

    seconds: float
    busy: float


def simulated(  # noqa: PLR0917 - the parameters of a cluster
    costs: Costs, workers: int, threads: int, sessions: int, seconds: float, batch: int, seed: int = 0, steps: int = 0
) -> Prediction:
    """Simulate sessions on a cluster, of which as many are under way as `rt.map_flow` allows by default.

    Args:
        costs: What things cost.
        workers: How many workers there are.
        threads: How many threads each has.
        sessions: How many sessions are sent.
        seconds: What one of them takes on the average; single ones take 10 % less or more.
        batch: How many of them one task runs.
        seed: Of the random numbers.
        steps: How many commits a durable session makes; 0 for one that is not durable.
    """
    numbers = random.Random(seed)  # noqa: S311 - no secret
    in_flight = 2 * workers * threads
    free = [0.0] * (workers * threads)
    heapq.heapify(free)
    ends: list[float] = []
    sender = store = busy = last = 0.0
    for first in range(0, sessions, batch):
        count = min(batch, sessions - first)
        # A task is sent when there is room, and when the sender has the time.
        ready = heapq.heappop(ends) if len(ends) >= in_flight else 0.0
        cost = costs.task + count * costs.session
        sender = max(sender, ready) + cost
        busy += cost
        thread = max(heapq.heappop(free), sender + costs.trip / 2)
        for _ in range(count):
            thread += costs.run + seconds * numbers.uniform(0.9, 1.1)
            if steps:
                store = max(store, thread) + steps / costs.commits
                thread = store
        heapq.heappush(free, thread)
        heapq.heappush(ends, thread + costs.trip / 2)
        last = max(last, thread + costs.trip / 2)
    return Prediction(last, busy / last)


def table(costs: Costs, threads: int, seconds: float, workers: Iterable[int] = WORKERS) -> Iterable[str]:
    """Return the lines of a table: sessions a second by batch, the batch to take, and what the bottleneck is."""
    yield "| workers | " + " | ".join(f"batch {batch}" for batch in BATCHES) + " | take | bottleneck |"
    yield "|" + "---|" * (len(BATCHES) + 3)
    for count in workers:
        sessions = max(2_000, 40 * count * threads)
        found = {batch: simulated(costs, count, threads, sessions, seconds, batch) for batch in BATCHES}
        rates = {batch: sessions / each.seconds for batch, each in found.items()}
        # The smallest that comes near the best: a batch is given back as a whole if its worker dies.
        take = next(batch for batch in BATCHES if rates[batch] > 0.9 * max(rates.values()))
        what = "the sender and the scheduler" if found[take].busy > 0.9 else "the workers"
        yield f"| {count:,} | " + " | ".join(f"{rate:,.0f}" for rate in rates.values()) + f" | {take} | {what} |"


async def nap(seconds: float) -> None:
    """Be a session that takes some time."""
    await trio.sleep(seconds)


flow = rt.Flow("nap", nap, save_state=False, logging_setting="NONE")


async def real(workers: int, threads: int, sessions: int, seconds: float, batch: int) -> tuple[float, float]:
    """Return the seconds that sessions take on a real cluster, and the CPU time of this program meanwhile."""
    # The workers import this module by its name.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    sent: rt.Flow[..., None] = import_module("benchmarks.cluster_model").flow
    async with rt.dask.open_cluster(workers, threads_per_worker=threads) as client, rt.Session(save_state=False):
        for count in (2 * workers * threads, sessions):
            begun, cpu = time.perf_counter(), time.process_time()
            async with rt.map_flow(client, sent, [seconds] * count, batch=batch) as finished:
                async for pending in finished:
                    pending.result()
            spent = time.perf_counter() - begun, time.process_time() - cpu
    return spent


async def check(costs: Costs, threads: int, seconds: float) -> None:
    """Print what real clusters took beside what was predicted."""
    for workers in (1, 2, 4):
        for batch in (1, 5):
            sessions = 80 * workers
            took = [await real(workers, threads, sessions, seconds, batch) for _ in range(3)]
            median, cpu = (statistics.median(each) for each in zip(*took, strict=True))
            said = simulated(costs, workers, threads, sessions, seconds, batch).seconds
            print(
                f"{workers} workers, batch {batch}: {sessions} sessions took {median:.2f} s, predicted {said:.2f} s"
                f" ({said / median:.2f}), {1000 * cpu / sessions:.2f} ms of CPU a session here",
                flush=True,
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="run real clusters beside the simulation")
    parser.add_argument("--threads", type=int, default=4, help="threads of a worker (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="what a session takes (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=SECONDS", help="another cost")
    given = parser.parse_args(argv)
    costs = attrs.evolve(
        Costs(), **{name: float(value) for name, _, value in (each.partition("=") for each in given.set)}
    )
    if given.check:
        trio.run(check, costs, given.threads, given.seconds)
    else:
        print("\n".join(table(costs, given.threads, given.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
