"""How long asyncio's loop is held up beside one flow that computes, in milliseconds, as JSON.

Usage: loop_stall.py. While one flow computes 50 ms of pure Python, 200 others arrive one by one. `ours` is `ainvoke`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time

import trio

import railtracks as rt

COMPUTED = 0.05


async def compute() -> None:
    """Compute, without a checkpoint."""
    ends_at = time.thread_time() + COMPUTED
    while time.thread_time() < ends_at:
        sum(range(100))


async def rest() -> None:
    """Do nothing for a while."""
    await trio.sleep(0.01)


BUSY = rt.Flow("busy", compute, save_state=False, logging_setting="NONE")
SMALL = rt.Flow("small", rest, save_state=False, logging_setting="NONE")


async def longest_stall() -> float:
    """Return the longest time in seconds that a task which only passes waited for its turn.

    It is the time for which this process computed meanwhile: other programs of a busy machine are not measured.
    """
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        last = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            longest = max(longest, now - last)
            last = now

    await SMALL.ainvoke()
    watching = asyncio.create_task(watch())
    flows = [asyncio.create_task(BUSY.ainvoke())]
    for _ in range(200):
        await asyncio.sleep(0)
        flows.append(asyncio.create_task(SMALL.ainvoke()))
    await asyncio.gather(*flows)
    watching.cancel()
    return longest


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    print(json.dumps({"ours": round(1000 * asyncio.run(longest_stall()), 2)}))
