"""A run that goes on while a test looks at it: a call for each line of standard input, until that ends.

Its events go to a file. The first line on standard output is the identifier of the session.
"""

from __future__ import annotations

import sys

import trio

import railtracks as rt


@rt.function_node
async def step(text: str) -> str:
    await trio.lowlevel.checkpoint()
    if text == "fail":
        raise ValueError("told to fail")
    return text


@rt.function_node
async def work() -> int:
    print(rt.session_id(), flush=True)
    done = 0
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        await rt.call_batch(step, [line.strip()])
        print(done, flush=True)
        done += 1
    return done


rt.Flow("steps", entry_point=work, record_events=True).invoke()
