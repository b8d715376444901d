"""A flow under a live view, which waits for a file of a test or a person: usage: watched_run.py FOLDER [KIND].

KIND is how it goes: passing, failing, cancelled, or many, with 10,000 calls.
"""

import logging
import sys
from contextlib import suppress
from pathlib import Path

import trio

import railtracks as rt

FOLDER = Path(sys.argv[1])
KIND = sys.argv[2] if sys.argv[2:] else "passing"
MANY = 10_000


async def until_told() -> None:
    (FOLDER / "running").touch()
    while not await trio.Path(FOLDER / "end").exists():  # noqa: ASYNC110 - another process makes the file
        await trio.sleep(0.02)


@rt.function_node
async def step(number: int) -> int:
    if KIND != "many" or number == MANY - 1:
        await until_told()
    if KIND == "failing" and number == 7:
        raise ValueError("the seventh step has failed")
    if KIND == "cancelled":
        rt.current_session().cancel("nobody needs it any more")
        await trio.sleep_forever()
    return number


async def survey() -> None:
    print("a first line")
    logging.getLogger("survey").warning("a line of the log")
    print("in two ", end="")
    results = await rt.call_batch(step, range(MANY if KIND == "many" else 40), limit=50)
    print("parts")
    for each in results:
        if isinstance(each, ValueError):
            raise each


logging.basicConfig(format="%(message)s")
# How it ended is in the picture.
with rt.watch(rate=20), suppress(ValueError, rt.SessionCancelledError):
    rt.Flow("survey", survey, save_state=False).invoke()
print("over")
