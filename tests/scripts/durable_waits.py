"""A durable flow that waits for signals: put aside, or gone on with, and killed at a commit.

`python durable_waits.py URL [PLACE NUMBER]`: begins the session "w" and puts it aside, or resumes it and prints what it
has heard. With a fault it kills itself at the commit of that number: before, inside or after it.
"""

from __future__ import annotations

import signal
import sys

from durable_steps import fail_at

import railtracks as rt
from railtracks import testing


async def main() -> list[int]:
    await rt.wait_for_signal("start", park=True)
    heard = [await rt.wait_for_signal("item", int) for _ in range(3)]
    try:
        await rt.wait_for_signal("item", timeout=0.05)
    except rt.SignalTimeoutError:
        heard.append(0)
    return heard


if __name__ == "__main__":
    url, *fault = sys.argv[1:]
    made = rt.DurableStore(url, max_recoveries=1000)
    if fault:
        made = testing.faulty_store(made, fail_at(fault[0], int(fault[1]), signal.SIGKILL))
    with made as store:
        flow = rt.Flow("waits", main, durable=store, save_state=False, logging_setting="NONE")
        try:
            print(flow.resume("w") if store.sessions() else flow.invoke(session_id="w"), flush=True)
        except rt.SessionWaiting:
            print("waiting", flush=True)
