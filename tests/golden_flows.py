"""The flows whose sessions are kept as golden databases, and how these were made.

`python golden_flows.py FOLDER` writes a store for each way that a session can stand. Done once for each schema that is
released, and never again: what an old library has written is what a new one has to open.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import attrs

import railtracks as rt

KEY = "the key of the golden databases"
DONE: list[Any] = []
STOPS: list[bool] = []


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


def flows(url: Path) -> dict[str, rt.Flow[..., Any]]:
    """Return the flows of a store, by the state that their golden session is in."""
    store = rt.DurableStore(url, key=KEY)
    options: dict[str, Any] = {"durable": store, "save_state": False, "version": "1"}
    shopping = rt.Flow("shop", shop, **options)
    return {
        "finished": shopping,
        "interrupted": shopping,
        "failed": rt.Flow("fail", fail, **options),
        "waiting": rt.Flow("approve", approve, **options),
    }


def make(folder: Path) -> None:
    for state in ("finished", "interrupted", "failed", "waiting"):
        flow = flows(folder / f"{state}.db")[state]
        STOPS[:] = [True] if state == "interrupted" else []
        try:
            flow.invoke([1, 2, 2] if flow.name == "shop" else 1, session_id=state)
        except (KeyboardInterrupt, LookupError, rt.SessionWaiting):
            assert state != "finished"


if __name__ == "__main__":
    make(Path(sys.argv[1]))
