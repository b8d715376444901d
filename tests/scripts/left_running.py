"""Ends while a flow runs that asyncio code has invoked, and says what the flow did at the end.

Usage: left_running.py HOW. HOW is `returns` (the program ends), `exits` (with `sys.exit(3)`), `exits beside` (another
thread does), `fails` (with an error), `stops` (the loop of the main thread is stopped, and the task left pending),
`nested` (the flow waits in a sync node for a flow of asyncio) or `works` (a worker process is idle). Prints a line for
each event.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

import railtracks as rt

HOW = sys.argv[1]
began = threading.Event()


@asynccontextmanager
async def resource() -> AsyncGenerator[None]:
    """Yield once."""
    yield
    await trio.lowlevel.checkpoint()
    say("resource closed")


def say(text: object) -> None:
    """Write a line at once."""
    print(text, flush=True)


def hear(item: object) -> None:
    """Take a broadcast."""
    say(f"heard {item}")


def take(payload: dict[str, Any]) -> None:
    """Take the payload."""
    say(f"payload {payload['status']}")


@rt.function_node
def in_a_thread() -> None:
    """Need a worker thread, which a program may not start at its end."""


@rt.function_node(run_in="process")
def in_a_process() -> int:
    """Return the id of the worker process."""
    return os.getpid()


async def run() -> None:
    """Sleep until the interpreter ends, and clean up."""
    await rt.current_session().enter_async_context(resource())
    if HOW == "works":
        say(f"worker {await rt.call(in_a_process)}")
    began.set()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await rt.broadcast("goodbye")
            await trio.sleep(0.01)
            try:
                await rt.call(in_a_thread)
            except RuntimeError as error:
                say(f"no thread: {error}")
            say("cleaned up")


FLOW = rt.Flow("left", run, broadcast_callback=hear, payload_callback=take)


def wait_in_asyncio() -> None:
    """Run an event loop of asyncio in this thread, and wait there for the flow."""
    asyncio.run(FLOW.ainvoke())


OUTER = rt.Flow("outer", wait_in_asyncio)


def invoke() -> None:
    """Invoke the flow in asyncio, in a thread that the program does not wait for."""
    with suppress(asyncio.CancelledError, RuntimeError):
        asyncio.run((OUTER if HOW == "nested" else FLOW).ainvoke())


def main() -> None:
    """Begin the flow, and end the program."""
    if HOW == "stops":
        loop = asyncio.new_event_loop()
        task = loop.create_task(FLOW.ainvoke())
        loop.run_until_complete(asyncio.to_thread(began.wait))
        # Kept, so that the coroutine is not closed now.
        globals().update(kept=(loop, task))
    else:
        threading.Thread(target=invoke, daemon=True).start()
        began.wait()
    if HOW == "exits beside":
        # Ends that thread, and nothing else.
        thread = threading.Thread(target=sys.exit, args=(3,))
        thread.start()
        thread.join()
    say("main ends")
    if HOW == "exits":
        sys.exit(3)
    if HOW == "fails":
        raise ValueError("no")


if __name__ == "__main__":
    main()
