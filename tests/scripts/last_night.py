"""The runs of one night: 40 saved sessions and a store with 200, of which some failed, and some were slow.

`python last_night.py HOME [HOURS]` makes them as of so many hours ago, 9 if none are given. The last line on standard
output is JSON with what a person should find out.

The sessions are real ones, run under a clock that jumps from one deadline to the next. Their wall times are those of
that clock, so they last as long as the code here says, on a busy machine, too.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

# The wall clock of this process, for all that asks for it by `time.time`: by that name, or imported from there later.
_wall_clock = [time.time]
time.time = lambda: _wall_clock[0]()  # noqa: PLW0108 - the clock is set later

import trio  # noqa: E402 - after the clock
from trio.lowlevel import current_clock  # noqa: E402 - the same

import railtracks as rt  # noqa: E402 - the same
from railtracks.testing import run_with_mock_clock  # noqa: E402 - the same

# Seconds between the beginnings of two saved sessions, and of two in the store.
_FILES_APART: Final = 600
_STORED_APART: Final = 120
# What becomes of the sessions with these numbers. All others are completed.
FILES: Final = {7: "failed", 12: "timed_out", 19: "failed", 31: "slow"}
STORED: Final = {
    **dict.fromkeys((23, 58, 59, 120, 171), "failed"),
    **dict.fromkeys((88, 140), "timed_out"),
    **dict.fromkeys((40, 41, 42, 160), "waiting"),
    **dict.fromkeys((65, 131), "interrupted"),
    **dict.fromkeys((77, 99, 150), "resumed"),
    110: "cancelled",
}
_ERROR: Final = "rates.example:443 refused the connection"


def _file_name(day: int) -> str:
    return f"report-{day}"


def _session_id(order: int) -> str:
    return f"checkout-{order:03}"


def _with_fates(*fates: str) -> list[str]:
    """Return the sessions with some fates, the newest first: those in the store by their ids, others by names."""
    begun = {_file_name(day): day * _FILES_APART for day, fate in FILES.items() if fate in fates}
    begun |= {_session_id(order): order * _STORED_APART for order, fate in STORED.items() if fate in fates}
    return sorted(begun, key=begun.__getitem__, reverse=True)


def found() -> dict[str, object]:
    """Return what a person should find out. The slowest session is one that failed."""
    return {
        "failed": _with_fates("failed", "slow"),
        "timed_out": _with_fates("timed_out"),
        "waiting": _with_fates("waiting"),
        "interrupted": _with_fates("interrupted"),
        "slowest": _with_fates("slow")[0],
        "slow_node": "fetch_rates",
        "error": _ERROR,
    }


@rt.function_node
async def read_orders(day: int) -> list[int]:
    await trio.sleep(2)
    return [day, day + 1, day + 2]


@rt.function_node
async def price(order: int) -> float:
    await trio.sleep(1 + order % 3)
    return order * 1.5


@rt.function_node(retry=rt.Retry(attempts=3, on=ConnectionError, wait_initial=20, wait_max=20, jitter=0.0))
async def fetch_rates(day: int, *, is_down: bool = False) -> float:
    await trio.sleep(75 if is_down else 1)
    if is_down:
        raise ConnectionError(f"day {day}: {_ERROR}")
    return 1.08


@rt.function_node
async def convert(amount: float, rate: float) -> float:
    return amount * rate


@rt.function_node
async def hang() -> None:
    await trio.sleep_forever()


@rt.function_node
async def charge(order: int, card: str) -> str:
    await trio.sleep(3)
    if card == "expired":
        raise ValueError(f"the card of order {order} has expired")
    return f"order {order} is paid"


@rt.function_node
async def report(day: int, fate: str) -> float:
    """Sum up the orders of a day in another currency."""
    orders = await rt.call(read_orders, day)
    amounts = await rt.call_batch(price, orders, return_exceptions=False)
    if fate == "timed_out":
        await rt.call(hang)
    if fate == "failed":
        raise LookupError(f"there is no ledger for day {day}")
    rate = await rt.call(fetch_rates, day, is_down=fate == "slow")
    return await rt.call(convert, sum(amounts), rate)


async def checkout(order: int, fate: str) -> str:
    """Charge an order; some wait for a person, and some hang until the host stops."""
    await rt.call(price, order)
    if fate == "waiting":
        await rt.wait_for_signal("approval", bool, park=True)
    if fate in {"interrupted", "timed_out"} or (fate == "resumed" and order not in _resumed):
        await rt.call(hang)
    if fate == "cancelled":
        rt.current_session().cancel("the customer has left")
    return await rt.call(charge, order, "expired" if fate == "failed" else "good")


# The orders of which the session goes on now.
_resumed: Final[set[int]] = set()


@contextmanager
def _any_end() -> Iterator[None]:
    """Let each of the ends pass that a session of the night may come to."""
    with suppress(
        ConnectionError, LookupError, ValueError, rt.SessionTimeoutError, rt.SessionCancelledError, rt.SessionWaiting
    ):
        yield


async def _run_file(day: int) -> None:
    await trio.sleep(day * _FILES_APART)
    fate = FILES.get(day, "")
    with _any_end():
        async with rt.Session(
            name=_file_name(day),
            flow_name="nightly-report",
            timeout=60 if fate == "timed_out" else None,
            logging_setting="NONE",
        ):
            await rt.call(report, day, fate)


async def _run_stored(store: rt.DurableStore, order: int) -> None:
    await trio.sleep(order * _STORED_APART)
    fate, session_id = STORED.get(order, ""), _session_id(order)
    flow = rt.Flow(
        "checkout",
        checkout,
        durable=store,
        save_state=False,
        timeout=30 if fate == "timed_out" else None,
        logging_setting="NONE",
    )
    with _any_end(), trio.move_on_after(20 if fate in {"interrupted", "resumed"} else 3_600):
        await flow.ainvoke(order, fate, session_id=session_id)
    if fate == "resumed":
        await trio.sleep(1_800)
        _resumed.add(order)
        await flow.aresume(session_id)


async def _run_all(began_at: float) -> None:
    clock = current_clock()
    opened_at = clock.current_time()
    _wall_clock[0] = lambda: began_at + clock.current_time() - opened_at
    store = rt.DurableStore(durability="process", lease=86_400)
    with store:
        async with trio.open_nursery() as nursery:
            for day in range(40):
                nursery.start_soon(_run_file, day)
            for order in range(200):
                nursery.start_soon(_run_stored, store, order)


def _date_sessions(store: Path) -> None:
    """Give the sessions of the store the times of their calls: their own are by the clock of the database."""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute(
            "update railtracks_sessions as s set"
            " created_at = (select min(began_at) from railtracks_calls as c where c.session_id = s.session_id),"
            " ended_at = iif(ended_at is null, null,"
            " (select max(coalesce(ended_at, began_at)) from railtracks_calls as c where c.session_id = s.session_id))"
        )
        connection.execute("update railtracks_sessions set deadline_at = created_at + timeout")
        connection.execute("update railtracks_sessions set ended_at = deadline_at where status = 'timed_out'")


def main(home: Path, hours: float) -> None:
    """Make the sessions below a folder."""
    os.environ["RAILTRACKS_HOME"] = str(home)
    run_with_mock_clock(_run_all, time.time() - hours * 3_600)
    _date_sessions(home / "durable" / "sessions.db")
    print(json.dumps(found()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 9.0)
