"""Durable steps of ours, one commit a call: one session alone, many side by side; and a resume of what is finished."""

import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import trio

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, fsyncs, main, note, take
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls

STEPS = 20
"""How many steps each of the sessions that run side by side has."""


@rt.function_node
async def step(value: int) -> int:
    return value + 1


async def workflow(steps: int) -> int:
    value = 0
    for _ in range(steps):
        value = await rt.call(step, value)
    return value


def _flow(store: rt.DurableStore) -> rt.Flow[[int], int]:
    return rt.Flow("workflow", workflow, durable=store, save_state=False)


def _recorded(store: rt.DurableStore) -> int:
    with access_of(store).reading() as (connection, _, _owner):
        query = sa.select(sa.func.count()).where(calls.c.node == "step", calls.c.status == "completed")
        return int(connection.execute(query).scalar_one())


def _measure(
    plan: Plan, run: Callable[[rt.Flow[[int], int], int], Coroutine[Any, Any, None]], steps: Callable[[int], int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with rt.DurableStore(folder / "store.db") as store:
            flow = _flow(store)

            def sampled(size: int) -> Mapping[str, float]:
                before = _recorded(store)
                costs = fsyncs(folder)
                start = time.perf_counter()
                trio.run(run, flow, size)
                elapsed = time.perf_counter() - start
                if _recorded(store) - before != steps(size):
                    raise RuntimeError("a step was not recorded once")
                return {"": 1e6 * elapsed / steps(size), "fsync": statistics.median((*costs, *fsyncs(folder)))}

            for size in plan.sizes:
                sampled(size)
            take(plan, {SUBJECT: sampled}, is_long=True)


async def _finish(flow: rt.Flow[[int], int], steps: int) -> None:
    if await flow.ainvoke(steps) != steps:
        raise RuntimeError("a step was lost")


def one_by_one(plan: Plan) -> None:
    note("Durable, one by one: steps of one session, each awaited and committed before the next; SQLite, power.")
    _measure(plan, _finish, lambda size: size)


def side_by_side(plan: Plan) -> None:
    async def spread(flow: rt.Flow[[int], int], size: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(_finish, flow, STEPS)

    note(
        f"Durable, side by side: N sessions of {STEPS} steps in one Trio run; each call is committed before it returns."
    )
    _measure(plan, spread, lambda size: size * STEPS)


class _CutError(BaseException):
    """Stands for a crash at the very end."""


def resume(plan: Plan) -> None:
    async def cut(steps: int) -> int:
        await workflow(steps)
        raise _CutError

    note("Resume: a session of N finished calls, interrupted at its very end and resumed; nothing but replay.")
    with tempfile.TemporaryDirectory() as name, rt.DurableStore(Path(name) / "store.db") as store:
        flow = rt.Flow("cut", cut, durable=store, save_state=False)

        def run(go: Callable[[], object]) -> float:
            start = time.perf_counter()
            try:
                go()
            except _CutError:
                return time.perf_counter() - start
            raise RuntimeError("it was not cut")

        for size in plan.sizes:
            run(lambda size=size: flow.invoke(size, session_id=str(size)))  # type: ignore[misc]
        take(plan, {SUBJECT: lambda size: run(lambda: flow.resume(str(size)))}, is_long=True)


if __name__ == "__main__":
    main(
        {"durable-one-by-one": one_by_one, "durable-side-by-side": side_by_side, "resume": resume},
        distribution="trio",
    )
