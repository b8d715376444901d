"""Forks child processes out of one place of a session, and says what they saw there.

Usage: forked.py PLACE HOW WHAT FOLDER. PLACE is where the code runs that forks: `sync`, `async`, `body`,
`thread` (a thread of its own beside the run), `run` (an async node under `trio.run`), `invoked_in_a_thread`, `durable`,
`asyncio` and `before` (no session).
HOW is `fork` (`os.fork`), `multiprocessing`, `pool`, `nested` (a fork in a context of its own, which the child leaves)
or `grandchild`. WHAT is what the child does, a function below.
Prints one JSON value: what the child returned, or how it ended.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import trio

import railtracks as rt

PLACE, HOW, WHAT, FOLDER = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
FORKING = multiprocessing.get_context("fork")
# Of what needs no store the libraries for that are not imported, which takes longest here.
STORE = FOLDER / "store.db" if PLACE == "durable" or WHAT == "invoke_durable" else False


async def add(number: int) -> int:
    """Call a sync node, so that a worker thread is needed, too."""
    return await rt.call(add_in_a_thread, number)


def add_in_a_thread(number: int) -> int:
    """Return the next number, from a worker thread of the session."""
    assert rt.context.get("kind") == "inner"
    return number + 1


def log_and_return(number: int) -> int:
    """Return the number from the flow of a service that logs."""
    return number


# Made before any fork, as by a server that forks its workers later.
INNER = rt.Flow("inner", add, context={"kind": "inner"})
DURABLE = rt.Flow("durable", log_and_return, durable=STORE)


# Through it a child says that it waits.
WAITING, WAITS = os.pipe()


def tell_that_it_waits() -> None:
    """Let the parent process go on."""
    os.write(WAITS, b"!")


def until_it_waits() -> None:
    """Wait for the child."""
    os.read(WAITING, 1)


# What a child does.


def see() -> list[object]:
    """Return what every door of the library says."""
    seen: list[object] = [rt.session_id()]
    for door in (
        rt.current_session,
        rt.current_call,
        lambda: rt.context.get("user"),
        lambda: rt.context.get("user", None),
        lambda: rt.context.put("user", "bob"),
        lambda: rt.context.update({"user": "bob"}),
        lambda: rt.context.delete("user"),
        rt.context.keys,
        rt.idempotency_key,
        rt.fencing_number,
    ):
        try:
            seen.append(door())
        except rt.ContextError as error:
            seen.append("pass values as arguments" in str(error))
    # Outside of durable sessions these are ordinary ones.
    assert rt.random() != rt.random()
    assert rt.uuid4() != rt.uuid4()
    return seen


def invoke() -> int:
    """Invoke a flow that was made before the fork."""
    return INNER.invoke(1)


def invoke_twice() -> list[int]:
    """Invoke flows one after another."""
    return [INNER.invoke(1), INNER.invoke(3)]


def invoke_durable() -> list[int]:
    """Invoke flows one after another, one of them durable."""
    return [INNER.invoke(1), DURABLE.invoke(2), INNER.invoke(3)]


def fail() -> str:
    """Invoke a flow that raises."""

    async def broken() -> None:
        await rt.call(add, 1)
        raise LookupError("from the flow")

    try:
        rt.Flow("broken", broken, context={"kind": "inner"}).invoke()
    except LookupError as error:
        return str(error)
    return "nothing"


def handlers() -> list[str]:
    """Return which signal handlers count here."""
    names = [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    return [*names, str(signal.set_wakeup_fd(-1))]


def wait() -> None:
    """Wait to be terminated."""
    tell_that_it_waits()
    time.sleep(60)


def wait_in_a_flow() -> None:
    """Wait to be terminated, in a flow that is drained by SIGTERM where that can be."""

    async def sleep() -> None:
        tell_that_it_waits()
        await trio.sleep(60)

    rt.Flow("sleep", sleep, stop_on_sigterm=0.2).invoke()


def interrupt_a_flow() -> list[object]:
    """Return what comes out of a flow that Ctrl-C strikes, and whether it has cleaned up."""
    cleaned: list[str] = []

    async def sleep() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep(60)
        finally:
            cleaned.append("cleaned")

    try:
        rt.Flow("sleep", sleep, stop_on_sigterm=0.2).invoke()
    except KeyboardInterrupt:
        return ["KeyboardInterrupt", *cleaned]
    return ["nothing", *cleaned]


# How a child is forked.


def reply_of(child: int, reading: int) -> object:
    """Wait for a child, and return what it wrote, or how it ended."""
    if WHAT.startswith("wait"):
        until_it_waits()
        if sys.version_info >= (3, 13):
            # In a process that was forked in another thread than the main one, CPython 3.13 runs a signal handler only
            # when the signal interrupts a system call: let the child come to its poll.
            time.sleep(0.5)
        os.kill(child, signal.SIGTERM)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return pickle.loads(data) if data else f"exit code {code}"  # noqa: S301 - of this program's own


def by_fork(work: Callable[[], object]) -> object:
    """Run a function in a child of `os.fork`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return reply_of(child, reading)
    os.close(reading)
    try:
        os.write(writing, pickle.dumps(work()))
    except BaseException as error:  # noqa: BLE001 - it is told below
        os.write(writing, pickle.dumps(repr(error)))
    finally:
        os._exit(0)


def by_nested_fork(work: Callable[[], object]) -> object:
    """Fork in a context that the child leaves again before it works."""
    reading, writing = os.pipe()
    child = copy_context().run(os.fork)
    if child:
        os.close(writing)
        return reply_of(child, reading)
    os.write(writing, pickle.dumps(work()))
    os._exit(0)


def by_multiprocessing(work: Callable[[], object]) -> object:
    """Run a function in a process of `multiprocessing`, which forks."""
    ours, theirs = FORKING.Pipe()

    def run() -> None:
        theirs.send(work())

    process = FORKING.Process(target=run)
    process.start()
    if WHAT.startswith("wait"):
        until_it_waits()
        process.terminate()
        process.join(10)
        code = process.exitcode
        process.kill()
        return f"exit code {code}"
    reply = ours.recv() if ours.poll(20) else "no answer"
    process.join(10)
    return reply


def by_pool(work: Callable[[], object]) -> object:
    """Run a function in a pool of forked processes, which is terminated at the end."""
    with FORKING.Pool(1) as pool:
        return pool.apply_async(work).get(20)


def by_grandchild(work: Callable[[], object]) -> object:
    """Run a function in a child of a child."""
    return by_fork(lambda: by_fork(work))


def start() -> object:
    """Fork a child that does what was asked for."""
    ways: dict[str, Callable[[Callable[[], object]], object]] = {
        "fork": by_fork,
        "nested": by_nested_fork,
        "multiprocessing": by_multiprocessing,
        "pool": by_pool,
        "grandchild": by_grandchild,
    }
    return ways[HOW](globals()[WHAT])


# Where it is forked.


async def fork_in_async() -> Any:
    """Fork in Trio's thread."""
    return start()


def fork_in_sync() -> Any:
    """Fork in a worker thread."""
    return start()


async def fork_in_body() -> object:
    """Fork in the body of a session, outside any call."""
    async with rt.Session(context={"user": "ada"}, name="outer"):
        return start()


async def fork_in_run() -> object:
    """Fork in a node under a Trio run of the program's own."""
    async with rt.Session(context={"user": "ada"}, name="outer"):
        return await rt.call(fork_in_async)


async def fork_in_asyncio() -> object:
    """Fork in a coroutine of asyncio."""
    return start()


def fork_in_thread() -> object:
    """Fork in a thread of the program's own while a flow runs in the main thread."""
    results: list[object] = []

    async def main() -> None:
        thread = threading.Thread(target=lambda: results.append(start()))
        thread.start()
        while thread.is_alive():  # noqa: ASYNC110 - the thread knows nothing of Trio
            await trio.sleep(0.01)

    rt.Flow("outer", main, context={"user": "ada"}).invoke()
    return results[0]


def invoke_in_a_thread() -> object:
    """Invoke the flow that forks in a thread that is not the main one."""
    results: list[object] = []
    flow = rt.Flow("outer", fork_in_async, context={"user": "ada"})
    thread = threading.Thread(target=lambda: results.append(flow.invoke()))
    thread.start()
    thread.join()
    return results[0]


def main() -> object:
    """Fork in the place that was asked for."""
    if PLACE in {"sync", "async", "durable"}:
        entry = fork_in_sync if PLACE == "sync" else fork_in_async
        store = STORE if PLACE == "durable" else False
        return rt.Flow("outer", entry, context={"user": "ada"}, durable=store).invoke()
    places: dict[str, Callable[[], object]] = {
        "before": start,
        "asyncio": lambda: asyncio.run(fork_in_asyncio()),
        "thread": fork_in_thread,
        "invoked_in_a_thread": invoke_in_a_thread,
        "body": lambda: trio.run(fork_in_body),
        "run": lambda: trio.run(fork_in_run),
    }
    return places[PLACE]()


if __name__ == "__main__":
    parent = os.getpid()
    outcome = main()
    assert os.getpid() == parent
    print(json.dumps(outcome))
