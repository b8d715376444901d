"""Flows of ours where asyncio runs: what an invocation costs, and for how long the host's loop is held up.

Beside the bridge there are the two other ways: anyio's portal to a Trio thread, and a Trio run that is the guest of
asyncio's loop.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
from anyio.from_thread import start_blocking_portal

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, main, note, take

COMPUTED = 0.05
"""Seconds of pure Python without a checkpoint."""

Invoke = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


async def _nothing() -> None:
    pass


async def _compute() -> None:
    ends_at = time.thread_time() + COMPUTED
    while time.thread_time() < ends_at:
        sum(range(100))


async def _rest() -> None:
    await trio.sleep(0.01)


NOTHING = rt.Flow("benchmark", entry_point=_nothing, save_state=False)
BUSY = rt.Flow("busy", entry_point=_compute, save_state=False)
SMALL = rt.Flow("small", entry_point=_rest, save_state=False)


def invocations(plan: Plan) -> None:
    note("Flows of one empty node, one after another, unsaved; those of asyncio go over to the Trio thread and back.")

    async def awaited(size: int) -> float:
        await NOTHING.ainvoke()
        start = time.perf_counter()
        for _ in range(size):
            await NOTHING.ainvoke()
        return 1e6 * (time.perf_counter() - start) / size

    def invoked(size: int, flow: rt.Flow[[], None]) -> float:
        start = time.perf_counter()
        for _ in range(size):
            flow.invoke()
        return 1e6 * (time.perf_counter() - start) / size

    in_thread = rt.Flow("benchmark", entry_point=_nothing, save_state=False, in_thread=True)
    take(
        plan,
        {
            SUBJECT: lambda size: asyncio.run(awaited(size)),
            "ours, in Trio": lambda size: trio.run(awaited, size),
            "ours, invoke": lambda size: invoked(size, NOTHING),
            "ours, invoke in_thread": lambda size: invoked(size, in_thread),
        },
    )


@contextlib.asynccontextmanager
async def _bridge() -> AsyncIterator[Invoke]:
    yield lambda work: work()


@contextlib.asynccontextmanager
async def _portal() -> AsyncIterator[Invoke]:
    with start_blocking_portal("trio") as portal:
        yield lambda work: asyncio.wrap_future(portal.start_task_soon(work))


@contextlib.asynccontextmanager
async def _guest() -> AsyncIterator[Invoke]:
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[trio.Nursery] = loop.create_future()
    ended: asyncio.Future[Any] = loop.create_future()

    async def guest() -> None:
        async with trio.open_nursery() as nursery:
            begun.set_result(nursery)
            await trio.sleep_forever()

    trio.lowlevel.start_guest_run(
        guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result
    )
    nursery = await begun

    def invoke(work: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
        done: asyncio.Future[Any] = loop.create_future()

        async def run() -> None:
            done.set_result(await work())

        nursery.start_soon(run)
        return done

    yield invoke
    nursery.cancel_scope.cancel()
    await ended


async def _stalled(way: Callable[[], AbstractAsyncContextManager[Invoke]], size: int) -> Mapping[str, float]:
    """Return the longest time between two turns of a task that only passes: on the clock, and computed meanwhile."""
    longest = {"": 0.0, "cpu": 0.0}

    async def watch() -> None:
        last, last_cpu = time.perf_counter(), time.process_time()
        while True:
            await asyncio.sleep(0)
            now, cpu = time.perf_counter(), time.process_time()
            longest[""], longest["cpu"] = max(longest[""], now - last), max(longest["cpu"], cpu - last_cpu)
            last, last_cpu = now, cpu

    async def wait(awaitable: Awaitable[Any]) -> None:
        await awaitable

    async with way() as invoke:
        await invoke(SMALL.ainvoke)
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        flows = [asyncio.ensure_future(wait(invoke(BUSY.ainvoke)))]
        for _ in range(size):
            await asyncio.sleep(0)
            flows.append(asyncio.ensure_future(wait(invoke(SMALL.ainvoke))))
        await asyncio.gather(*flows)
        watching.cancel()
    return {what: 1e3 * seconds for what, seconds in longest.items()}


def stall(plan: Plan) -> None:
    note("One flow computes 50 ms of pure Python while N others arrive one by one: how long asyncio's loop stops.")
    ways = {SUBJECT: _bridge, "anyio": _portal, "guest": _guest}
    take(
        plan,
        {who: lambda size, way=way: asyncio.run(_stalled(way, size)) for who, way in ways.items()},
        is_long=True,
    )


if __name__ == "__main__":
    main({"hosts": invocations, "hosts-stall": stall}, distribution="trio")
