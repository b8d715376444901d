"""A durable flow of some 200 steps that tells an outside log what it begins and what has come back.

`python durable_steps.py URL LOG SESSION ROUNDS [PLACE NUMBER SIGNAL]`: begins the session, or goes on with it, and
prints the result. With a fault it sends itself that signal at the commit of that number: before, inside or after it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import trio

import railtracks as rt
from railtracks import testing


class HandledError(Exception):
    def __init__(self, key: str, number: int) -> None:
        super().__init__(key, number)


GUARD = threading.Lock()
LOG = -1


def tell(word: str, key: str) -> None:
    with GUARD:
        os.write(LOG, f"{word} {key}\n".encode())
        os.fsync(LOG)


def begin() -> str:
    key = rt.idempotency_key()
    tell("begin", key)
    return key


def got(outcome: tuple[str, int]) -> int:
    tell("got", outcome[0])
    return outcome[1]


@rt.function_node
async def add(number: int) -> tuple[str, int]:
    key = begin()
    await trio.lowlevel.checkpoint()
    return key, number + 1


@rt.function_node
def in_thread(number: int) -> tuple[str, int]:
    key = begin()
    return key, number + got(trio.from_thread.run(rt.call, add, number))


@rt.function_node
async def failing(number: int) -> tuple[str, int]:
    raise HandledError(begin(), number)


@rt.function_node(retry=rt.Retry(3, wait_initial=0.001, jitter=0.0))
async def flaky(number: int) -> tuple[str, int]:
    key = begin()
    seen = await rt.call(count_attempts, number)
    if seen < 2:
        raise ConnectionError(number)
    return key, number


@rt.function_node(durable=False)
async def count_attempts(number: int) -> int:
    # What the attempts have in common is the context, which is recorded with each of them.
    rt.context.put(f"flaky-{number}", rt.context.get(f"flaky-{number}", 0) + 1)
    return int(rt.context.get(f"flaky-{number}"))


@rt.function_node
async def endless() -> None:
    tell("begin", rt.idempotency_key())
    await trio.sleep_forever()


@rt.function_node
async def noting(number: int) -> tuple[str, int]:
    key = begin()
    rt.context.put("noted", rt.context.get("noted", 0) + number)
    return key, number


@rt.function_node
async def in_background(number: int) -> tuple[str, int]:
    key = begin()
    got(await rt.call(add, number))
    return key, number


@rt.function_node
async def starting(number: int) -> tuple[str, int]:
    key = begin()
    rt.current_session().start_soon(in_background, number)
    return key, number


@rt.function_node
async def inner(number: int) -> tuple[str, int]:
    key = rt.idempotency_key()
    total = 0
    for _ in range(4):
        total += got(await rt.call(add, number))
    return key, total


@rt.function_node
async def nested(number: int) -> tuple[str, int]:
    key = begin()
    return key, (await INNER.ainvoke(number))[1]


@rt.function_node
async def one_round(number: int) -> tuple[str, int]:
    key = begin()
    total = 0
    for step in range(5):
        total += got(await rt.call(add, step))
    for outcome in await rt.call_batch(add, [1, 1, 2, 2, 3], return_exceptions=False):
        total += got(outcome)
    async with rt.open_group() as group:
        calls = [group.start_soon(add, 7), group.start_soon(in_thread, 8), group.start_soon(flaky, number)]
    for call in calls:
        total += got(call.result())
    try:
        await rt.call(failing, number)
    except HandledError as error:
        total += got((error.args[0], error.args[1]))
    with trio.move_on_after(0.01):
        await rt.call(endless)
    total += got(await rt.call(noting, number))
    total += rt.context.get("noted", 0)
    total += got(await rt.call(starting, number))
    async with rt.as_completed(add, range(4), limit=2) as finished:
        async for call in finished:
            total += got(call.result())
    async with trio.open_nursery() as nursery:
        for step in range(3):
            nursery.start_soon(in_task, step)
    total += got(await rt.call(nested, number))
    # Of one life of a session it is one number, of another life another one.
    tell("drew", repr(rt.random()))
    return key, total


async def in_task(step: int) -> None:
    got(await rt.call(add, step))
    got(await rt.call(add, 100))


@rt.function_node
async def main(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total += got(await rt.call(one_round, number))
    return total


def fail_at(place: str, number: int, signal_number: int) -> Callable[[str], None]:
    passed = 0

    def fault(where: str) -> None:
        nonlocal passed
        passed += where == place
        if where == place and passed == number:
            # To this thread: it is to stop just here.
            signal.pthread_kill(threading.get_ident(), signal_number)

    return fault


if __name__ == "__main__":
    url, log, session_id, rounds, *fault = sys.argv[1:]
    LOG = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    made = rt.DurableStore(url, lease=2.0, commit_timeout=1.0, max_recoveries=1000)
    if fault:
        made = testing.faulty_store(made, fail_at(fault[0], int(fault[1]), int(fault[2])))
    with made as store:
        INNER = rt.Flow("inner", inner, durable=store, save_state=False)
        flow = rt.Flow("steps", main, durable=store, save_state=False, logging_setting="NONE")
        print(flow.invoke(int(rounds), session_id=session_id), flush=True)
