"""Measurements of dbos and its durable workflows, run with the Python of its own virtual environment."""

import asyncio
import math
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from dbos import DBOS

from benchmarks.samples import SUBJECT, Plan, fsyncs, main, note, progress, take

STEPS = 20
"""How many steps each of the workflows that run side by side has."""


@DBOS.step()
async def step(value: int) -> int:
    return value + 1


@DBOS.workflow()
async def workflow(steps: int) -> int:
    value = 0
    for _ in range(steps):
        value = await step(value)
    return value


@contextmanager
def _launched(database: Path) -> Iterator[None]:
    """Launch dbos over a new database."""
    url = f"sqlite:///{database.as_posix()}"
    DBOS(config={"name": "peer", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()


def _recorded(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM operation_outputs").fetchone()
    return int(count)


def _measure(plan: Plan, run: Callable[[int], Coroutine[None, None, None]], steps: Callable[[int], int]) -> None:
    # What dbos still writes when it has been shut down must not turn measured figures into a failure.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        database = Path(name, "dbos.sqlite")
        with _launched(database), asyncio.Runner() as runner:

            def sampled(size: int) -> Mapping[str, float]:
                before = _recorded(database)
                costs = fsyncs(database.parent)
                start = time.perf_counter()
                runner.run(run(size))
                elapsed = time.perf_counter() - start
                if _recorded(database) - before != steps(size):
                    raise RuntimeError("dbos did not record each step once")
                return {
                    "": 1e6 * elapsed / steps(size),
                    "fsync": statistics.median((*costs, *fsyncs(database.parent))),
                }

            for size in plan.sizes:
                sampled(size)
                progress("warmed up")
            # All samples, however slow the disk: a median of fewer would say little.
            take(replace(plan, budget=math.inf), {SUBJECT: sampled}, is_long=True)


async def _finish(steps: int) -> None:
    if await workflow(steps) != steps:
        raise RuntimeError("dbos lost a step")


def one_by_one(plan: Plan) -> None:
    note("dbos one by one: async steps of one workflow, SQLite as it configures it: a rollback journal, no WAL.")
    _measure(plan, _finish, lambda size: size)


def side_by_side(plan: Plan) -> None:
    async def gather(size: int) -> None:
        await asyncio.gather(*(_finish(STEPS) for _ in range(size)))

    note(f"dbos side by side: N workflows of {STEPS} steps, gathered in one event loop; its writes go through threads.")
    _measure(plan, gather, lambda size: size * STEPS)


if __name__ == "__main__":
    main({"durable-one-by-one": one_by_one, "durable-side-by-side": side_by_side}, distribution="dbos")
