"""A durable flow with one inside that runs until somebody ends it, in a process of its own.

`python durable_held.py URL [resume]`: begins or resumes the session "s", says "ready", and then how it has ended.
"""

from __future__ import annotations

import sys

import trio

import railtracks as rt

URL = sys.argv[1]
STORE = rt.DurableStore(URL)


@rt.function_node
async def hold() -> None:
    print("ready", flush=True)
    await trio.sleep_forever()


async def within() -> None:
    await rt.call(hold)


inner = rt.Flow("inner", within, durable=STORE, save_state=False, logging_setting="NONE")


async def main() -> None:
    await inner.ainvoke()


flow = rt.Flow("held", main, durable=STORE, save_state=False, logging_setting="NONE")

if __name__ == "__main__":
    try:
        if "resume" in sys.argv:
            flow.resume("s")
        else:
            flow.invoke(session_id="s")
    except rt.SessionCancelledError as error:
        print(f"cancelled: {error.reason}", flush=True)
