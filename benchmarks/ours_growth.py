"""What a durable store costs as it grows: the resume of a long session, a look at it, and `recover` with nothing to do.

Peak memory is that of a process of its own for each question, beyond what it had before.
"""

import multiprocessing
import resource
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
import trio
from sqlalchemy.dialects import sqlite

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, main, note, progress, take
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls, sessions

Durability = Literal["power", "process"]


@rt.function_node
async def step(value: int) -> int:
    return value


class _CutError(BaseException):
    """Stands for a crash at the very end."""


async def _workflow(steps: int, end: str) -> int:
    for value in range(steps):
        await rt.call(step, value)
        if value % 5_000 == 4_999:
            progress(f"step {value:,}")
    if end == "cut":
        raise _CutError
    return steps


def _flow(store: rt.DurableStore) -> rt.Flow[[int, str], int]:
    return rt.Flow("workflow", _workflow, durable=store, save_state=False, history_limit=100)


# A step beside the same commit in a thread.

_SELECT = (
    "select session_id, fence, (select coalesce(max(seq), 0) from railtracks_calls where session_id = ?)"
    " from railtracks_sessions where session_id in (?)"
)
_INSERT = str(sa.insert(calls).compile(dialect=sqlite.dialect()))


def hop(durability: Durability, plan: Plan) -> None:
    note(
        "A step beside its bare commit: the same two statements in one transaction of sqlite3, with the same settings,"
        f" by trio.to_thread.run_sync; durability {durability}."
    )
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / "ours.db", Path(name) / "bare.db"]
        with (
            rt.DurableStore(paths[0], durability=durability) as ours,
            rt.DurableStore(paths[1], durability=durability) as other,
        ):
            _flow(other).invoke(1, "whole", session_id="bare")
            with closing(sqlite3.connect(paths[1], isolation_level=None, check_same_thread=False)) as connection:
                connection.execute(f"pragma synchronous={2 if durability == 'power' else 1}")
                bare = _Bare(connection)

                def sampled(run: Callable[[int], object], size: int) -> float:
                    start = time.perf_counter()
                    run(size)
                    return 1e6 * (time.perf_counter() - start) / size

                take(
                    plan,
                    {
                        SUBJECT: partial(sampled, lambda size: _flow(ours).invoke(size, "whole")),
                        "plain": partial(sampled, lambda size: trio.run(bare.run, size)),
                    },
                    is_long=True,
                )


class _Bare:
    """Commits of sqlite3's, each with the fence and one row of a call."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._seq = 10

    async def run(self, size: int) -> None:
        limiter = trio.CapacityLimiter(1)
        for _ in range(size):
            await trio.to_thread.run_sync(self._commit, limiter=limiter)

    def _commit(self) -> None:
        self._seq += 1
        connection, key = self._connection, "k" * 32
        connection.execute("begin immediate")
        connection.execute(_SELECT, ("bare", "bare")).fetchall()
        row = ("bare", self._seq, key, key, "root", self._seq, -1, 1, "step", key, b"[[1]]", "completed", b"1", None)
        connection.execute(_INSERT, (*row, 0, time.time(), time.time(), None))
        connection.execute("commit")


# A long session.


async def _watched(work: Callable[[], Awaitable[object]]) -> Mapping[str, float]:
    """Do some work; return the longest that another task had to wait, in milliseconds.

    On a machine that others keep busy, that includes time in which this process did not run. So the second figure
    counts, of each wait, at most the time for which this process had a processor.
    """
    waits, computed = [0.0], [0.0]

    async def watch() -> None:
        while True:
            start, start_cpu = time.perf_counter(), time.process_time()
            await trio.sleep(0.001)
            waits.append(time.perf_counter() - start - 0.001)
            computed.append(min(waits[-1], time.process_time() - start_cpu))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await work()
        nursery.cancel_scope.cancel()
    return {"wait": 1e3 * max(waits), "wait-cpu": 1e3 * max(computed)}


def _measured(name: str, work: Callable[[], Awaitable[object]]) -> Mapping[str, float]:
    """Do some work in a process of its own; return its seconds, its megabytes, and how long another task waited."""
    reader, writer = multiprocessing.get_context("fork").Pipe(duplex=False)

    def run() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        waits = trio.run(_watched, work)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        figures = {"memory": peak / 1024, **waits}
        writer.send({name: seconds, **{f"{name}-{what}": value for what, value in figures.items()}})

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    # Without this copy of it the end of that process ends the pipe, also when it has failed.
    writer.close()
    while not reader.poll(1):
        progress(name)
    process.join()
    return reader.recv()  # type: ignore[no-any-return]


async def _resumed(flow: rt.Flow[[int, str], int], session_id: str) -> None:
    with suppress(_CutError):
        await flow.aresume(session_id)


async def _beside(path: Path, session_id: str) -> None:
    """Resume a session beside one that calls every 50 ms, and loses its lease if it cannot renew it for 1.5 s."""
    store = rt.DurableStore(path, durability="process", lease=1.5, commit_timeout=1)
    is_over = False

    async def neighbour() -> None:
        while not is_over:  # noqa: ASYNC110 - each step is a call
            await rt.call(step, 1)
            await trio.sleep(0.05)

    with store:
        flow = rt.Flow("neighbour", neighbour, durable=store, save_state=False)
        # A session that has lost its lease raises here, and the measurement fails.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flow.ainvoke)
            await _resumed(_flow(store), session_id)
            is_over = True


def long_session(plan: Plan) -> None:
    note(
        "A long session of N steps: resumed from its end, also beside a session with a lease of 1.5 s, which keeps it;"
        " read with load, listed, pruned, and its result read once more. `computing`: of a wait, the time for which the"
        " process had a processor."
    )
    with tempfile.TemporaryDirectory() as name:
        store = rt.DurableStore(Path(name) / "store.db", durability="process")
        flow = _flow(store)
        for size in plan.sizes:
            progress(f"{size:,} steps")
            with suppress(_CutError):
                flow.invoke(size, "cut", session_id=f"cut-{size}")
            flow.invoke(size, "whole", session_id=f"done-{size}")

        def copied(size: int) -> rt.DurableStore:
            # Of one long session that is over, as prune deletes them all.
            copy = Path(name) / f"copy-{time.monotonic_ns()}.db"
            store.backup(copy)
            pruned = rt.DurableStore(copy, durability="process")
            pruned.restore()
            for each in plan.sizes:
                if each != size:
                    pruned.delete(f"done-{each}")
            return pruned

        def sampled(size: int) -> Mapping[str, float]:
            in_thread, pruned = trio.to_thread.run_sync, copied(size)
            return {
                **_measured("resume", partial(_resumed, flow, f"cut-{size}")),
                **_measured("beside", partial(_beside, Path(name) / "store.db", f"cut-{size}")),
                **_measured("load", partial(in_thread, store.load, f"done-{size}")),
                **_measured("list", partial(in_thread, store.sessions)),
                **_measured("prune", partial(in_thread, pruned.prune, 0)),
                **_measured("result", partial(flow.aresume, f"done-{size}")),
            }

        take(plan, {SUBJECT: sampled}, is_long=True)


def sleepers(plan: Plan) -> None:
    async def parked() -> None:
        await rt.wait_for_signal("never", park=True)

    note("Sleepers: recover in a store of N parked sessions, none of which has anything to wake up for.")
    for size in plan.sizes:
        with tempfile.TemporaryDirectory() as name:
            store = rt.DurableStore(Path(name) / "store.db", durability="process")
            flow = rt.Flow("parked", parked, durable=store, save_state=False)
            try:
                flow.invoke(session_id="first")
            except rt.SessionWaiting:
                _multiply(store, size - 1)

            def sampled(size: int, store: rt.DurableStore = store, flow: rt.Flow[[], None] = flow) -> float:
                start = time.perf_counter()
                done = trio.run(rt.recover, store, [flow])
                if done.sleeping != size:
                    raise RuntimeError("a session was not asleep")
                return time.perf_counter() - start

            take(Plan([size], plan.samples, plan.budget), {SUBJECT: sampled}, is_long=True)


def _multiply(store: rt.DurableStore, count: int) -> None:
    """Write further sessions like the only one that there is."""
    with access_of(store).writing() as (connection, _, _owner):
        for table in (sessions, calls):
            rows = [row._asdict() for row in connection.execute(sa.select(table))]
            copies = [{**row, "session_id": f"s{number}"} for number in range(count) for row in rows]
            connection.execute(sa.insert(table), copies)


if __name__ == "__main__":
    main(
        {
            "durable-hop-power": partial(hop, "power"),
            "durable-hop-process": partial(hop, "process"),
            "long-session": long_session,
            "sleepers": sleepers,
        },
        distribution="trio",
    )
