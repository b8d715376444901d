"""Forks after or in a flow of asyncio, and invokes flows in the child. Prints what the child got.

Usage: forked_in_asyncio.py PLACE. PLACE is where the fork is: `after` (no loop runs), `multiprocessing` (likewise),
`task` (in an asyncio task), `async` (in an async node), `sync` (in a sync node), `nested` (in asyncio in a sync node).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable

import railtracks as rt

PLACE = sys.argv[1]
# Newer Pythons warn of forks in a process with threads.
warnings.simplefilter("ignore", DeprecationWarning)


@rt.function_node
async def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


DOUBLE = rt.Flow("double", double, save_state=False)


def in_child() -> None:
    """Invoke flows in every way, and print the results."""
    print([asyncio.run(DOUBLE.ainvoke(4)), asyncio.run(DOUBLE.ainvoke(5)), DOUBLE.invoke(6)], flush=True)


def fork() -> None:
    """Fork, and wait for the child, which leaves no code of its parent to run."""
    pid = os.fork()
    if pid == 0:
        try:
            in_child()
        finally:
            os._exit(0)
    print("child's exit", os.waitpid(pid, 0)[1], flush=True)


async def fork_async() -> None:
    """Fork in a coroutine."""
    fork()


def fork_nested() -> None:
    """Fork in an event loop of asyncio in this thread."""
    asyncio.run(fork_async())


def fork_multiprocessing() -> None:
    """Fork as multiprocessing does."""
    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    child.join()
    print("child's exit", child.exitcode, flush=True)


def run(fn: Callable[[], object]) -> None:
    """Invoke a flow with this entry point in asyncio."""
    asyncio.run(rt.Flow("forking", fn, save_state=False).ainvoke())


if __name__ == "__main__":
    assert asyncio.run(DOUBLE.ainvoke(3)) == 6
    {
        "after": fork,
        "multiprocessing": fork_multiprocessing,
        "task": lambda: asyncio.run(fork_async()),
        "async": lambda: run(fork_async),
        "sync": lambda: run(fork),
        "nested": lambda: run(fork_nested),
    }[PLACE]()
    assert asyncio.run(DOUBLE.ainvoke(4)) == 8
