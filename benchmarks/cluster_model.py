"""How many sessions a cluster runs in a second: a simulation with measured costs, checked against real clusters.

    python -m benchmarks.cluster_model                 the table for 1 to 1,000 workers
    python -m benchmarks.cluster_model --check         real clusters beside it; takes a minute and a half
    python -m benchmarks.cluster_model --seconds 1     sessions of one second
    python -m benchmarks.cluster_model --steps 5       durable sessions, each with five commits

Three things have a queue of their own: the program that sends (with the scheduler, which feeds one task after the
other), each thread of a worker, and the store that durable sessions commit to. A session takes its own time and what
its Trio run costs. The costs below were measured on two cores by `--check`; give others with `--set`.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

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
        committing: The same of the store.
    """

    seconds: float
    busy: float
    committing: float


class _Event(Enum):
    """What happens to a task of Dask: it has come to its worker, and is back; to a session in it the others."""

    CAME = auto()
    RAN = auto()
    STORED = auto()
    RETURNED = auto()


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
    to_send = deque(min(batch, sessions - first) for first in range(0, sessions, batch))
    room, free, waiting = 2 * workers * threads, workers * threads, deque[int]()
    sender = store = busy = now = 0.0
    # What happens next: when, which of those of one moment, what, and how many sessions the task has left.
    events: list[tuple[float, int, _Event, int]] = []
    order = itertools.count()

    def after(at: float, what: _Event, left: int) -> None:
        heapq.heappush(events, (at, next(order), what, left))

    def begin_session(left: int) -> None:
        after(now + costs.run + seconds * numbers.uniform(0.9, 1.1), _Event.RAN, left)

    while events or to_send:
        # A task is sent when there is room, and when the sender has the time.
        while to_send and room:
            count, room = to_send.popleft(), room - 1
            cost = costs.task + count * costs.session
            sender = max(sender, now) + cost
            busy += cost
            after(sender + costs.trip / 2, _Event.CAME, count)
        now, _, what, left = heapq.heappop(events)
        if what is _Event.RAN and steps:
            store = max(store, now) + steps / costs.commits
            after(store, _Event.STORED, left)
        elif what is _Event.CAME:
            waiting.append(left)
        elif what is _Event.RETURNED:
            room += 1
        elif left > 1:
            begin_session(left - 1)
        else:
            after(now + costs.trip / 2, _Event.RETURNED, 0)
            free += 1
        if waiting and free:
            free -= 1
            begin_session(waiting.popleft())
    return Prediction(now, busy / now, sessions * steps / costs.commits / now)


def calibrated(took: Real, threads: int, sessions: int, seconds: float) -> Costs:
    """Return the costs with which the simulation of one worker takes as long as a real run did, batch 1.

    They hold for the machine, and for what else it did at that moment.
    """
    costs = Costs()
    sender = took.cpu / sessions / (costs.task + costs.session)
    known = attrs.evolve(costs, task=sender * costs.task, session=sender * costs.session, run=0.0)
    rest = took.seconds - simulated(known, 1, threads, sessions, seconds, 1).seconds
    return attrs.evolve(known, run=max(0.0, rest * threads / sessions))


def bottleneck(found: Prediction) -> str:
    """Return what is busy all the time."""
    if found.committing > max(0.9, found.busy):
        return "the store"
    return "the sender and the scheduler" if found.busy > 0.9 else "the workers"


def table(
    costs: Costs, threads: int, seconds: float, steps: int = 0, workers: Iterable[int] = WORKERS
) -> Iterable[str]:
    """Return the lines of a table: sessions a second by batch, the batch to take, and what the bottleneck is."""
    yield "| workers | " + " | ".join(f"batch {batch}" for batch in BATCHES) + " | take | bottleneck |"
    yield "|" + "---|" * (len(BATCHES) + 3)
    for count in workers:
        sessions = max(2_000, 40 * count * threads)
        found = {batch: simulated(costs, count, threads, sessions, seconds, batch, steps=steps) for batch in BATCHES}
        rates = {batch: sessions / each.seconds for batch, each in found.items()}
        # The smallest that comes near the best: a batch is given back as a whole if its worker dies.
        take = next(batch for batch in BATCHES if rates[batch] > 0.9 * max(rates.values()))
        what = " | ".join(f"{rate:,.0f}" for rate in rates.values())
        yield f"| {count:,} | {what} | {take} | {bottleneck(found[take])} |"


async def nap(seconds: float) -> None:
    """Be a session that takes some time."""
    await trio.sleep(seconds)


async def compute(seconds: float) -> None:
    """Be a session that needs a processor for some time."""
    ends_at = time.thread_time() + seconds
    while time.thread_time() < ends_at:
        sum(range(100))


flow = rt.Flow("nap", nap, save_state=False, logging_setting="NONE")
busy_flow = rt.Flow("compute", compute, save_state=False, logging_setting="NONE")


class Real(NamedTuple):
    """What sessions take on a real cluster.

    Attributes:
        seconds: From the first session to the end of the last one.
        cpu: The CPU time of this program meanwhile, with the scheduler.
    """

    seconds: float
    cpu: float


async def real(  # noqa: PLR0917 - the same
    workers: int, threads: int, sessions: int, seconds: float, batch: int, name: str = "flow"
) -> Real:
    """Run sessions of `flow` or `busy_flow` on a real cluster."""
    # The workers import this module by its name.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    sent: rt.Flow[..., None] = getattr(import_module("benchmarks.cluster_model"), name)
    async with rt.dask.open_cluster(workers, threads_per_worker=threads) as client, rt.Session(save_state=False):
        for count in (2 * workers * threads, sessions):
            begun, cpu = time.perf_counter(), time.process_time()
            async with rt.map_flow(client, sent, [seconds] * count, batch=batch) as finished:
                async for pending in finished:
                    pending.result()
            spent = Real(time.perf_counter() - begun, time.process_time() - cpu)
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
    parser.add_argument("--steps", type=int, default=0, help="commits of a durable session (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=SECONDS", help="another cost")
    given = parser.parse_args(argv)
    costs = attrs.evolve(
        Costs(), **{name: float(value) for name, _, value in (each.partition("=") for each in given.set)}
    )
    if given.check:
        trio.run(check, costs, given.threads, given.seconds)
    else:
        print("\n".join(table(costs, given.threads, given.seconds, given.steps)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
