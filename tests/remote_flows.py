"""Flows that the tests of executors and clusters send to workers, which import this module."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path

import trio

import railtracks as rt


@rt.function_node
async def step(number: int) -> int:
    await trio.sleep(0.001)
    return number


@rt.function_node
def refuse(name: str) -> None:
    raise ValueError(f"no {name}")


@rt.function_node
async def born_there() -> str:
    # A secret that stands in no argument and no result.
    password = "canary-of-" + "the-worker"
    rt.context.put("password", password)
    raise LookupError(f"the password {password} is wrong")


async def total(count: int) -> int:
    return sum(await rt.call_batch(step, range(count)))


async def refused(name: str) -> None:
    await rt.call(refuse, name)


async def leaking() -> None:
    await rt.call(born_there)


async def hiding() -> None:
    """Keep the secret of a call that fails to itself."""
    await rt.call_batch(born_there_again, [1, 2])


@rt.function_node
async def born_there_again(_: int) -> None:
    await rt.call(born_there)


# The folders of the sessions of `hanging` that run in this process.
RUNNING: set[str] = set()


async def hanging(folder: str) -> None:
    RUNNING.add(folder)
    Path(folder, "began").touch()
    try:
        await trio.sleep(60)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        Path(folder, "cleaned").touch()
        RUNNING.discard(folder)


def running_here() -> list[str]:
    return sorted(RUNNING)


async def pair(first: int, *, second: int) -> tuple[int, int]:
    return first, second


async def sending(count: int) -> list[int]:
    """Send sessions from a worker on."""
    with ThreadPoolExecutor(1) as pool:
        async with rt.map_flow(pool, total_flow, [2] * count) as finished:
            return [pending.result() async for pending in finished]


async def sleeping(seconds: float) -> int:
    await trio.sleep(seconds)
    return os.getpid()


async def counted(folder: str, number: int) -> int:
    """Leave a file for each time that this has begun."""
    descriptor = os.open(Path(folder, str(number)), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, b"x")
    os.close(descriptor)
    await trio.sleep(0.05)
    return number


async def counted_large(folder: str, number: int) -> bytes:
    await counted(folder, number)
    return b"x" * 100_000


def deadly(folder: str) -> str:
    """Kill the worker the first time, and return the second time."""
    mark = Path(folder, "killed")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    time.sleep(0.01)
    return "survived"


def always_deadly() -> None:
    os.kill(os.getpid(), 9)


def stubborn(folder: str) -> None:
    """Take no note of a cancel."""
    Path(folder, "began").touch()
    time.sleep(4)


async def large(size: int) -> bytes:
    return b"x" * size


@rt.function_node
def process_id(_: int) -> int:
    return os.getpid()


@rt.function_node
def mark(folder: str, number: int) -> int:
    with Path(folder, f"step-{number}").open("a") as file:
        file.write("x")
    return number


async def two_steps(folder: str, number: int) -> int:
    """Kill the worker between two steps, the first time."""
    first = await rt.call(mark, folder, number)
    begun = Path(folder, "between")
    if number == 3 and not begun.exists():
        begun.touch()
        os.kill(os.getpid(), 9)
    return first + await rt.call(mark, folder, number + 1000)


LOG = logging.getLogger("shop.orders")


@rt.function_node
async def order(number: int) -> int:
    rt.context.put("password", "canary-of-the-worker")
    try:
        {}["canary-of-the-worker"]
    except LookupError:
        LOG.exception("order %d of canary-of-the-worker", number, extra={"number": number, "token": "canary"})
    return number


@rt.function_node
def order_in_thread(number: int) -> None:
    LOG.warning("in a thread, %d", number)


@rt.function_node(timeout=0.02)
async def overrunning() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(0.03)


async def logging_lines(count: int) -> None:
    await rt.call_batch(order, range(count), limit=1, return_exceptions=False)
    await rt.call(order_in_thread, count)
    # As a library does that knows no session.
    thread = threading.Thread(target=LOG.warning, args=("of no session",))
    thread.start()
    thread.join()


async def detailed(word: str, number: int) -> None:
    deep = {"words": ["plain", f"a {word}"], word: [number, 7, None, True]}
    LOG.warning("paid by %s", word, extra={"word": word, "deep": deep})


class Level(IntEnum):
    LOUD = 35


async def loud(own: dict[str, object]) -> None:
    LOG.log(Level.LOUD, "paid", extra={**own, "is_loud": True})


async def nested() -> None:
    await rt.call(step, 0)
    async with rt.Session(save_state=False):
        await rt.call(order_in_thread, 1)


async def overran() -> None:
    await rt.call(overrunning)


async def chatty(count: int) -> None:
    for number in range(count):
        LOG.warning("line %d", number)


async def telling(count: int) -> int:
    for number in range(count):
        await rt.broadcast(number)
        LOG.warning("told %d", number)
    return count


async def telling_until_cancelled(folder: str) -> None:
    for number in range(3):
        await rt.broadcast(number)
    Path(folder, "began").touch()
    try:
        await trio.sleep(60)
    finally:
        with trio.CancelScope(shield=True):
            await rt.broadcast("cleaned")


class Stuck:
    """What can be pickled, and not be made again."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return int, ("no number",)


async def telling_strange_things() -> None:
    await rt.broadcast(threading.Lock())
    await rt.broadcast(Stuck())
    await rt.broadcast("plain")


@rt.function_node
async def no_work(number: int) -> int:
    return number


async def paced(count: int, each_second: int) -> int:
    """Make so many calls, at so many in a second."""
    begun = trio.current_time()
    for number in range(count):
        await rt.call(no_work, number)
        await trio.sleep_until(begun + number / each_second)
    return count


@rt.function_node
def keyed(folder: str, name: str, number: int) -> int:
    """Note each time that this runs, under the key that an outside system would know it by."""
    with Path(folder, name).open("a") as file:
        file.write(f"{number} {rt.idempotency_key()}\n")
    time.sleep(0.02)
    return number


async def keyed_steps(folder: str, name: str) -> int:
    total = 0
    for number in range(5):
        total += await rt.call(keyed, folder, name, number)
    return total


HEARD: list[object] = []


def _flow(name: str, fn: object) -> rt.Flow[..., object]:
    return rt.Flow(name, fn, save_state=False, logging_setting="NONE")  # type: ignore[arg-type]


total_flow = _flow("total", total)
refused_flow = _flow("refused", refused)
leaking_flow = _flow("leaking", leaking)
hiding_flow = _flow("hiding", hiding)
hanging_flow = _flow("hanging", hanging)
patient_flow = rt.Flow("patient", hanging, save_state=False, logging_setting="NONE", cleanup_timeout=60)
limited_flow = rt.Flow("limited", total, save_state=False, logging_setting="NONE", timeout=20)
pair_flow = _flow("pair", pair)
sending_flow = _flow("sending", sending)
sleeping_flow = _flow("sleeping", sleeping)
counted_flow = _flow("counted", counted)
counted_large_flow = _flow("counted large", counted_large)
deadly_flow = _flow("deadly", deadly)
always_deadly_flow = _flow("always deadly", always_deadly)
stubborn_flow = rt.Flow("stubborn", stubborn, save_state=False, logging_setting="NONE", cleanup_timeout=0.1)
large_flow = _flow("large", large)
logging_flow = _flow("logging", logging_lines)
overran_flow = _flow("overran", overran)
detailed_flow = _flow("detailed", detailed)
loud_flow = _flow("loud", loud)
nested_flow = _flow("nested", nested)
chatty_flow = _flow("chatty", chatty)
telling_flow = _flow("telling", telling)
telling_until_cancelled_flow = _flow("telling until cancelled", telling_until_cancelled)
paced_flow = _flow("paced", paced)
strange_flow = _flow("strange", telling_strange_things)
heard_flow = rt.Flow("heard", telling, save_state=False, logging_setting="NONE", broadcast_callback=HEARD.append)


STORE = os.environ.get("REMOTE_FLOWS_STORE")
durable_flow: rt.Flow[..., object] | None = None
keyed_flow: rt.Flow[..., object] | None = None
if STORE is not None:
    keyed_flow = rt.Flow("keyed", keyed_steps, durable=STORE, save_state=False, logging_setting="NONE")
    durable_flow = rt.Flow("durable", two_steps, durable=STORE, save_state=False, logging_setting="NONE")
