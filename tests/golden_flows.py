"""The flows whose sessions are kept as golden databases, and how these were made.

`python golden_flows.py FOLDER` writes a store for each way that a session can stand. Done once for each schema that is
released, and never again: what an old library has written is what a new one has to open.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

import railtracks as rt

KEY = "the key of the golden databases"
STATES: Final = ("finished", "interrupted", "failed", "waiting", "wide", "wide-interrupted", "wide-killed")
DONE: list[Any] = []
# How a session is to end that does not come to its end: by Ctrl-C, or with its process.
STOPS: list[str] = []
# The flow that `travel` runs, in the store of the session around it.
INNER: list[rt.Flow[..., Any]] = []


@attrs.define
class Order:
    item: str
    price: float
    card: rt.Secret[str]


@rt.function_node
async def fetch(number: int) -> Order:
    DONE.append(number)
    rt.context.put("fetched", number)
    return Order(f"item {number}", number * 1.5, rt.Secret("4111"))


@rt.function_node
async def refuse(order: Order) -> None:
    DONE.append(order.item)
    raise LookupError("no such item", order.item)


async def shop(numbers: list[int]) -> tuple[str, ...]:
    orders = [await rt.call(fetch, numbers[0])]
    orders += await rt.call_batch(fetch, numbers[1:], return_exceptions=False)
    try:
        await rt.call(refuse, orders[0])
    except LookupError as error:
        DONE.append(error.args[1])
    if STOPS:
        raise KeyboardInterrupt
    orders.append(await rt.call(fetch, 100))
    assert all(order.card.reveal() == "4111" for order in orders)
    return (*(order.item for order in orders), f"after {rt.context.get('fetched')}")


async def fail(number: int) -> None:
    await rt.call(refuse, await rt.call(fetch, number))


async def approve(number: int) -> str:
    order = await rt.call(fetch, number)
    answer = await rt.wait_for_signal("approval", bool, park=True)
    return f"{order.item}: {answer}"


@rt.function_node(retry=rt.Retry(attempts=3, wait_initial=0.001, jitter=0.0))
async def ask(name: str) -> str:
    DONE.append(("ask", name))
    if rt.current_call().attempt < 2:
        raise ConnectionError(name)
    return f"{name}?"


@rt.function_node
async def pack(item: str, *, times: int = 1) -> str:
    DONE.append(("pack", item))
    rt.context.put(f"packed {item}", times)
    return f"{times} {item}"


@rt.function_node
async def linger() -> None:
    await trio.sleep_forever()


@rt.function_node
async def tidy(place: str) -> str:
    if STOPS:
        await trio.sleep_forever()
    DONE.append(("tidy", place))
    return place


@rt.function_node
async def leave_home() -> str:
    """Start a background call and return: a resume has to start that again without its starter."""
    rt.current_session().start_soon(tidy, "home")
    return "left"


async def stay(place: str, *, nights: int) -> str:
    """Run as a session inside that of `travel`."""
    DONE.append(("stay", place))
    return f"{await rt.call(ask, place)} {nights}"


def stop() -> None:
    """End the run here, if it is to end here."""
    if STOPS == ["ctrl-c"]:
        raise KeyboardInterrupt
    if STOPS == ["killed"]:
        os._exit(9)


async def travel(names: list[str], *, bags: dict[str, int]) -> list[str]:
    rt.current_session().start_soon(tidy, "yard")
    seen = [await rt.call(leave_home)]
    packed: dict[str, str] = {}

    async def pack_one(item: str, times: int, key: str | None = None) -> None:
        packed[key or item] = await rt.call(pack.with_options(key=key) if key else pack, item=item, times=times)

    # The tasks of a plain nursery: two of them make the same call, which the key tells apart.
    async with trio.open_nursery() as nursery:
        for item, times in bags.items():
            nursery.start_soon(pack_one, item, times)
        for key in ("left", "right"):
            nursery.start_soon(pack_one, "shoe", 1, key)
    seen += [packed[each] for each in sorted(packed)]
    with trio.move_on_after(0.05):
        await rt.call(linger)
    seen.append(await rt.call(ask, names[0]))
    seen.append(await INNER[0].ainvoke(names[1], nights=2))
    await rt.broadcast(f"packed {len(packed)}")
    seen.append(str(rt.uuid4()))
    stop()
    return [*seen, await rt.call(pack, "map", times=rt.context.get("packed shoe"))]


def flows(url: Path) -> dict[str, rt.Flow[..., Any]]:
    """Return the flows of a store, by the state that their golden session is in."""
    store = rt.DurableStore(url, key=KEY)
    options: dict[str, Any] = {"durable": store, "save_state": False, "version": "1"}
    shopping = rt.Flow("shop", shop, **options)
    travelling = rt.Flow("travel", travel, broadcast_callback=DONE.append, **options)
    INNER[:] = [rt.Flow("stay", stay, **options)]
    return {
        "finished": shopping,
        "interrupted": shopping,
        "failed": rt.Flow("fail", fail, **options),
        "waiting": rt.Flow("approve", approve, **options),
        "wide": travelling,
        "wide-interrupted": travelling,
        "wide-killed": travelling,
    }


def make(folder: Path, state: str) -> None:
    """Run a flow in a new store until it stands as the state says."""
    flow = flows(folder / f"{state}.db")[state]
    STOPS[:] = ["ctrl-c"] * state.endswith("interrupted") or ["killed"] * state.endswith("killed")
    begin = {
        "shop": partial(flow.invoke, [1, 2, 2]),
        "travel": partial(flow.invoke, ["Oslo", "Bergen"], bags={"sock": 4, "hat": 1}),
    }.get(flow.name, partial(flow.invoke, 1))
    with suppress(KeyboardInterrupt, LookupError, rt.SessionWaiting):
        begin(session_id=state)


def make_all(folder: Path) -> None:
    """Write every store, each in a process of its own, because one of them is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    for state in STATES:
        # By its own name: functions and classes of `__main__` are found in the script that they were recorded in only.
        code = "import sys, pathlib, golden_flows; golden_flows.make(pathlib.Path(sys.argv[1]), sys.argv[2])"
        run = subprocess.run([sys.executable, "-c", code, str(folder), state], cwd=Path(__file__).parent, check=False)
        assert run.returncode == (9 if state.endswith("killed") else 0), (state, run.returncode)
        with closing(sqlite3.connect(folder / f"{state}.db")) as connection:
            # A golden store is old: no lease in it counts any more.
            connection.execute("update railtracks_owners set lease_until = lease_until - 86400")
            connection.commit()
            # What a killed process has left beside the file belongs into it.
            connection.execute("pragma wal_checkpoint(truncate)")
        shutil.rmtree(folder / f"{state}.db-owners")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]).absolute())
