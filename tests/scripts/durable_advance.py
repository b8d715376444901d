"""A session whose process is killed again and again, and that advances by a little each time.

`durable_advance.py URL LOG KIND KILLS` prints the result of the session and how many of its processes were killed; or
the error of the session that the store refuses to give out, and then 3 is the exit code.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import trio

import railtracks as rt

URL, LOG, KIND, KILLS = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
STEPS = {"fan-out": 4 * KILLS, "poison": 5}.get(KIND, KILLS + 5)
RAN: set[int] = set()
MAY_KILL: list[bool] = []


def note(word: str, step: int) -> None:
    with LOG.open("a") as log:
        log.write(f"{word} {step}\n")


def die() -> None:
    if MAY_KILL:
        os.kill(os.getpid(), signal.SIGKILL)


@rt.function_node
async def step(number: int) -> int:
    note("begin", number)
    if KIND in {"steps", "inside"} and RAN:
        # The step before has advanced the session.
        die()
    if KIND == "poison" and number:
        die()
    RAN.add(number)
    await trio.sleep(0.001)
    return number


async def steps() -> int:
    total = 0
    for number in range(STEPS):
        total += await rt.call(step, number)
        note("got", number)
    return total


async def fan_out() -> int:
    total = 0
    async with rt.as_completed(step, range(STEPS), limit=4) as finished:
        async for pending in finished:
            note("got", pending.args[0])
            total += pending.result()
            if pending.args[0] in RAN:
                die()
    return total


async def inside() -> int:
    return await rt.Flow("inner", steps, durable=rt.DurableStore(URL), save_state=False).ainvoke()


ENTRIES: dict[str, Callable[[], Awaitable[Any]]] = {
    "steps": steps,
    "poison": steps,
    "inside": inside,
    "fan-out": fan_out,
}


def live(*, may_kill: bool) -> int:
    """Run the session in this process, which is killed on the way if it may be; return the exit code."""
    MAY_KILL[:] = [True] * may_kill
    flow = rt.Flow("outer", ENTRIES[KIND], durable=rt.DurableStore(URL), save_state=False, logging_setting="NONE")
    try:
        print(flow.invoke(session_id="s"), flush=True)
    except rt.SessionUnavailableError as error:
        print(error, flush=True)
        return 3
    return 0


# Here, and not in each life: these imports take longer than all else that a life does.
import_module("railtracks.durable")
if not URL.startswith("sqlite"):
    import_module("psycopg")
killed = 0
while True:
    # Each life in a child that was forked before anything was opened: that is quicker than a new Python.
    child = os.fork()
    if not child:
        os._exit(live(may_kill=killed < KILLS))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code >= 0:
        break
    killed += 1
print(killed)
sys.exit(code)
