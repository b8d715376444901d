"""A flow under a live view, which waits for files of a test: usage: watched_run.py FOLDER."""

import logging
import sys
from pathlib import Path

import trio

import railtracks as rt

FOLDER = Path(sys.argv[1])


@rt.function_node
async def step(number: int) -> int:
    (FOLDER / "running").touch()
    while not await trio.Path(FOLDER / "end").exists():  # noqa: ASYNC110 - another process makes the file
        await trio.sleep(0.02)
    return number


async def survey() -> None:
    print("a first line")
    logging.getLogger("survey").warning("a line of the log")
    print("in two ", end="")
    await rt.call_batch(step, range(40))
    print("parts")


logging.basicConfig(format="%(message)s")
with rt.watch(rate=20):
    rt.Flow("survey", survey, save_state=False).invoke()
print("over")
