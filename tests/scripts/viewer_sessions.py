"""Sessions of all kinds for the tests and the pictures of the viewer.

`python viewer_sessions.py HOME` makes them and prints their identifiers as JSON, by what became of them.
"""

from __future__ import annotations

import json
import os
import random
import sys
from contextlib import suppress
from typing import Any

import trio

import railtracks as rt

if len(sys.argv) > 1:
    os.environ["RAILTRACKS_HOME"] = sys.argv[1]
_random = random.Random(7)


@rt.function_node
async def fetch(city: str) -> dict[str, object]:
    await trio.sleep(_random.uniform(0.01, 0.06))
    if city == "Oslo":
        raise ConnectionError("rates.example:443 refused the connection")
    return {"city": city, "prices": [_random.randint(80, 120) for _ in range(4)], "currency": "EUR"}


@rt.function_node
async def parse(city: str) -> int:
    page = await rt.call(fetch, city)
    await trio.sleep(_random.uniform(0.004, 0.02))
    return len(str(page))


@rt.function_node(retry=rt.Retry(attempts=3, wait_initial=0.03, jitter=0))
async def convert(total: int, currency: str) -> float:
    await trio.sleep(0.02)
    if currency == "XXX":
        raise ValueError(f"no such currency: {currency!r}")
    return total * 1.08


@rt.function_node
async def summarize(totals: list[int]) -> str:
    await trio.sleep(0.03)
    return f"{sum(totals)} characters from {len(totals)} cities"


CITIES = ["Berlin", "Lisbon", "Madrid", "Paris", "Prague", "Rome", "Vienna", "Zagreb"]


@rt.function_node
async def report(cities: list[str], currency: str) -> str:
    found = await rt.call_batch(parse, cities, limit=3)
    totals = [each for each in found if isinstance(each, int)]
    await rt.call(convert, sum(totals), currency)
    return await rt.call(summarize, totals)


@rt.function_node
async def never() -> None:
    await trio.sleep_forever()


@rt.function_node
async def approve(text: str) -> bool:
    await rt.call(summarize, [len(text)])
    return await rt.wait_for_signal("approval", bool, park=True)


def main() -> None:
    """Make the sessions."""
    made: dict[str, str | None] = {}

    def run(name: str, entry_point: Any, *args: object, **options: Any) -> None:
        flow = rt.Flow[..., object]("price report", entry_point=entry_point, **options)
        connection = flow.connect()
        with suppress(Exception):
            connection.invoke(*args)
        made[name] = connection.session_id

    run("completed", report, CITIES, "EUR")
    run("partly", report, [*CITIES[:5], "Oslo", *CITIES[5:]], "EUR", record_events=True)
    run("failed", report, CITIES[:4], "XXX")
    run("timed_out", never, timeout=0.05)
    run("waiting", approve, "The prices have risen.", durable=rt.DurableStore())

    async def cancelled() -> None:
        async with rt.Session(name="a run that somebody stopped") as session:
            session.start_soon(report, CITIES, "EUR")
            session.start_soon(never)
            await trio.sleep(0.08)
            session.cancel("not needed any more")
        made["cancelled"] = session.identifier

    trio.run(cancelled)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
