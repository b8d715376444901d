"""A session with 1,000 calls and a file of events, which tells an outside log what it begins and what has come back.

`python recorded_calls.py LOG`: runs until it is killed.
"""

from __future__ import annotations

import os
import sys

import trio

import railtracks as rt

LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def tell(word: str, number: int) -> None:
    os.write(LOG, f"{word} {number}\n".encode())


@rt.function_node
async def step(number: int) -> int:
    tell("began", number)
    await trio.lowlevel.checkpoint()
    return number


@rt.function_node
def in_thread(number: int) -> int:
    tell("began", number)
    return number


@rt.function_node
async def batch(first: int) -> None:
    for number in range(first, first + 8):
        got = await rt.call(step, number)
        tell("got", got)
    got = await rt.call(in_thread, first + 8)
    tell("got", got)


async def main() -> None:
    async with rt.Session(record_events=True, name="killed", save_state=False):
        await rt.call_batch(batch, range(0, 1_000, 10), limit=5)
        await trio.sleep_forever()


trio.run(main)
