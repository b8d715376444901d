"""Sync nodes of ours beside the bare tool that each kind of worker is made with."""

import concurrent.futures
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio_parallel

import railtracks as rt
from benchmarks.samples import SUBJECT, Plan, main, note, take

PLAIN = "plain"


def work(item: int) -> int:
    return item


in_thread = rt.function_node(work)
in_process = rt.function_node(work, run_in="process")


async def _timed(make_one: Callable[[int], Awaitable[object]], size: int) -> float:
    """Return the microseconds for each of N, one after another; the first one, which starts workers, does not count."""
    await make_one(0)
    start = time.perf_counter()
    for item in range(size):
        await make_one(item)
    return 1e6 * (time.perf_counter() - start) / size


def _plain(make_one: Callable[[int], Awaitable[object]]) -> Callable[[int], float]:
    return lambda size: trio.run(_timed, make_one, size)


def _ours(node: rt.Node[[int], int]) -> Callable[[int], float]:
    async def whole(size: int) -> float:
        async with rt.Session(save_state=False):
            return await _timed(lambda item: rt.call(node, item), size)

    return lambda size: trio.run(whole, size)


async def _submitted(executor: concurrent.futures.Executor, item: int) -> Any:
    """Wait for an executor as an application on Trio would that does without cancellation."""
    token = trio.lowlevel.current_trio_token()
    done = trio.Event()
    future = executor.submit(work, item)
    future.add_done_callback(lambda _: token.run_sync_soon(done.set))
    await done.wait()
    return future.result()


def threads(plan: Plan) -> None:
    note("Plain Trio in threads: trio.to_thread.run_sync of the same function.")
    take(plan, {SUBJECT: _ours(in_thread), PLAIN: _plain(lambda item: trio.to_thread.run_sync(work, item))})


def processes(plan: Plan) -> None:
    note("Plain Trio in processes: trio_parallel.run_sync of the same function, kill_on_cancel=True, a warm worker.")
    bare = _plain(lambda item: trio_parallel.run_sync(work, item, kill_on_cancel=True))
    take(plan, {SUBJECT: _ours(in_process), PLAIN: bare}, is_long=True)


def executors(plan: Plan) -> None:
    note("Plain Trio with executors: submit, and an event that is set by the future's callback.")
    with (
        concurrent.futures.ThreadPoolExecutor(1) as thread_pool,
        concurrent.futures.ProcessPoolExecutor(1) as process_pool,
    ):
        pools = {"threads": thread_pool, "processes": process_pool}
        ours = {name: _ours(rt.function_node(work, run_in=pool)) for name, pool in pools.items()}
        bare = {name: _plain(lambda item, pool=pool: _submitted(pool, item)) for name, pool in pools.items()}
        take(
            plan,
            {
                SUBJECT: lambda size: {name: sample(size) for name, sample in ours.items()},
                PLAIN: lambda size: {name: sample(size) for name, sample in bare.items()},
            },
            is_long=True,
        )


if __name__ == "__main__":
    main({"threads": threads, "processes": processes, "executors": executors}, distribution="trio")
