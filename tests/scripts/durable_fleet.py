"""One process of a fleet: begins sessions and dies, crashes in a node, serves until SIGTERM, or recovers.

`python durable_fleet.py URL LOG WHAT NUMBER`
"""

from __future__ import annotations

import os
import sys
import time

import trio

import railtracks as rt

URL, LOG, WHAT, NUMBER = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
STORE = rt.DurableStore(URL, max_recoveries=2)
OPENED: list[int] = []


def tell(word: str) -> None:
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{word}\n".encode())
    os.close(descriptor)


@rt.function_node
async def first(number: int) -> int:
    return number


@rt.function_node
async def second(number: int) -> int:
    tell(rt.idempotency_key())
    await trio.sleep(0.01)
    return number


@rt.function_node
async def hold() -> None:
    OPENED.append(1)
    if WHAT == "begin" and len(OPENED) == NUMBER:
        os._exit(9)
    if WHAT in {"begin", "serve"}:
        if WHAT == "serve" and len(OPENED) == NUMBER:
            print("ready", flush=True)
        await trio.sleep_forever()


async def entry(number: int) -> int:
    found = await rt.call(first, number)
    await rt.call(hold)
    return found + await rt.call(second, number)


async def crash() -> None:
    await rt.call(first, 1)
    os._exit(9)


FLEET = rt.Flow("fleet", entry, durable=STORE, save_state=False, logging_setting="NONE")
CRASHING = rt.Flow("crashing", crash, durable=STORE, save_state=False, logging_setting="NONE")


async def begin() -> None:
    async with trio.open_nursery() as nursery:
        for number in range(NUMBER):
            nursery.start_soon(FLEET.ainvoke, number)


async def main() -> None:
    if WHAT == "crash":
        await CRASHING.ainvoke()
    elif WHAT == "recover":
        wall = time.time
        time.time = lambda: wall() + NUMBER
        while any(each.status in {"running", "interrupted"} for each in STORE.sessions()):
            await rt.recover(STORE, [FLEET, CRASHING])
    else:
        await begin()


if WHAT == "serve":
    rt.Flow("serving", begin, save_state=False, stop_on_sigterm=0.2).invoke()
else:
    with STORE:
        trio.run(main)
