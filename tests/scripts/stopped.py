"""Is stopped again and again in one way, and says after each time what threads and processes are there.

Usage: stopped.py HOW ROUNDS. Prints a JSON object a round: the counts before and after it, and what it raised. Before
a signal is due it prints `ready`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import trio

import railtracks as rt
from railtracks import testing

HOW = sys.argv[1]


class SiblingError(Exception):
    """What a failing sibling raises."""


@rt.function_node(run_in="process")
def spin(ready: str) -> None:
    """Start a process that outlives everything unless it is killed, and never come back."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=HOW == "timeout")
    Path(ready).touch()
    while True:
        pass


@rt.function_node(run_in="process")
def crash(ready: str) -> None:
    """End the worker that this runs in."""
    wait_for(ready)
    psutil.Process().kill()


@rt.function_node
def loop() -> None:
    """Work in a thread that can be told to stop."""
    while True:
        trio.from_thread.check_cancelled()
        time.sleep(0.001)


@rt.function_node
async def sleep() -> None:
    """Wait for ever."""
    await trio.sleep_forever()


def say(text: str) -> None:
    """Tell the one who started this script."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def wait_for(path: str) -> None:
    """Wait for a file that another process makes, in real time."""
    while not Path(path).exists():
        time.sleep(0.005)


@rt.function_node
async def stop(ready: str) -> None:
    """Bring about the end, once everything is at work."""
    while not Path(ready).exists():  # noqa: ASYNC110 - another process makes it
        await trio.sleep(0.005)
    match HOW:
        case "cancel":
            rt.current_session().cancel("as told")
        case "sibling":
            raise SiblingError(HOW)
        case "sigint" | "sigterm":
            say("ready")
    await trio.sleep_forever()


async def work(folder: str) -> None:
    """Have a call of every kind at work, and a flow in a thread besides."""
    ready = str(Path(folder, "ready"))
    async with rt.open_group() as group:
        group.start_soon(spin, ready)
        group.start_soon(loop)
        group.start_soon(rt.Flow("inner", sleep, save_state=False).invoke)
        group.start_soon(stop, ready)
        if HOW == "crash":
            group.start_soon(crash, ready)


def counted() -> dict[str, int]:
    """Return how many threads and processes there are of this one."""
    process = psutil.Process()
    return {"threads": process.num_threads(), "processes": len(process.children(recursive=True))}


def settled(expected: dict[str, int] | None) -> dict[str, int]:
    """Return the counts when they are what is expected, or after some seconds; at first, when threads have gone."""
    deadline = time.monotonic() + (0.5 if expected is None else 5)
    while (found := counted()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def main() -> None:
    """Run the rounds."""
    # Whatever machine this is, there is room for both.
    rt.set_config(process_limit=2)
    # Trio keeps a thread for ten seconds, for the next that is wanted. Here the ones in use are what counts.
    trio._core._thread_cache.IDLE_TIMEOUT = 0.01  # type: ignore[attr-defined]  # noqa: SLF001
    options: dict[str, Any] = {"timeout": 1.5} if HOW == "timeout" else {}
    flow = rt.Flow("stopped", work, stop_on_sigterm=0, **options)
    before = None
    # The first round is for what stays in a process once it was used, such as the tracker of multiprocessing.
    for number in range(int(sys.argv[2]) + 1):
        raised = None
        with TemporaryDirectory() as folder:
            try:
                flow.invoke(folder)
            except BaseException as error:  # noqa: BLE001 - told below
                raised = type(error).__name__
        # The process was told to stop, and goes on for the next round.
        testing.forget_sigterm()
        at_once = len(psutil.Process().children(recursive=True))
        after = settled(before)
        if number:
            say(json.dumps({"before": before, "after": after, "at_once": at_once, "raised": raised}))
        before = after if before is None else before


if __name__ == "__main__":
    main()
