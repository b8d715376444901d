"""Makes calls in a loop until Ctrl-C, again and again, and says what came out each time.

Usage: pressed.py ROUNDS. Prints `ready` when a round is running, and then a JSON object for it.
"""

from __future__ import annotations

import json
import signal
import sys

import trio

import railtracks as rt


@rt.function_node
async def leaf(n: int) -> int:
    """Return at once, so that the time goes into the library."""
    return n


@rt.function_node
async def branch(n: int) -> int:
    """Call another node."""
    return await rt.call(leaf, n)


@rt.function_node(timeout=60)
async def in_time(n: int) -> int:
    """Return within a timeout."""
    return n


@rt.function_node
def in_a_thread(n: int) -> int:
    """Call another node out of a thread."""
    return trio.from_thread.run(rt.call, leaf, n)


async def loop() -> None:
    """Make calls of all kinds, for ever.

    No `async with` in here: between making `__aexit__()` and awaiting it, Python lets Ctrl-C strike the code around.
    """
    print("ready", flush=True)
    while True:
        await rt.call(branch, 1)
        await rt.call(in_time, 1)
        await rt.call(in_a_thread, 1)
        await rt.call_batch(leaf, range(3))
        await rt.call_batch(branch, range(3), limit=2)


async def main(sessions: list[rt.Session]) -> None:
    """Open a session for one round, with a limit: an endless loop has endless records."""
    async with rt.Session(history_limit=20) as session:
        sessions.append(session)
        await loop()


def press() -> dict[str, object]:
    """Be interrupted once."""
    sessions: list[rt.Session] = []
    raised = None
    try:
        trio.run(main, sessions)
    except BaseException as error:  # noqa: BLE001 - told
        raised = repr(error)
    (session,) = sessions
    path = session.state_path
    saved = rt.load_state(path).status if path is not None and path.exists() else None
    is_closed = all(call.ended_at is not None for call in session.info.calls)
    return {"raised": raised, "saved": saved, "is_closed": is_closed}


if __name__ == "__main__":
    # The session that reads this may have it ignored, as shells do for what runs in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in range(int(sys.argv[1])):
        print(json.dumps(press()), flush=True)
