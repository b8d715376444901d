"""Makes calls in a loop until Ctrl-C, again and again, and says what came out each time.

Usage: pressed.py ROUNDS. Prints `ready` when a round is running, and then a JSON object for it.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile

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


async def loop() -> None:
    """Make calls of all kinds, for ever."""
    print("ready", flush=True)
    while True:
        await rt.call(branch, 1)
        await rt.call_batch(leaf, range(3))
        async with rt.open_group() as group:
            group.start_soon(leaf, 1)
        async with rt.Session(save_state=False):
            await rt.call(leaf, 1)


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
    with tempfile.TemporaryDirectory():
        for _ in range(int(sys.argv[1])):
            print(json.dumps(press()), flush=True)
