"""The measurements of agents that every library takes, under asyncio: the same script against the same server.

Standard library only, for this runs in the peers' virtual environments, too. The five questions are those of the page
of benchmarks.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from benchmarks.samples import SUBJECT, Plan, Sampled, main, take, take_imports

# The Python whose `railtracks` has the server: in a peer's environment there is none.
SERVER_PYTHON = "RAILTRACKS_BENCH_PYTHON"
_ROOT = Path(__file__).resolve().parent.parent
# Seconds: what is still done so long after a cancel, or a stream that was left, is told as not stopped.
_WATCHED = 1.0

Tool = Callable[[int, int], Coroutine[Any, Any, str]]


class Library(Protocol):
    """What a library does for the script."""

    def agent(self, tool: Tool | None) -> object:
        """Make an agent, with one tool named `add` or with none."""
        ...

    async def ask(self, agent: Any, text: str) -> str:
        """Run an agent to its answer."""
        ...

    async def begin(self, agent: Any, text: str) -> None:
        """Stream an answer as the pages of the library show it, and leave it by `break` after the first piece."""
        ...


class Server:
    """The server, as this process sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = self._read()

    def _read(self) -> str:
        return (self._process.stdout or sys.stdin).readline().strip()

    def left(self) -> list[float]:
        """Return when clients have left before their answers were complete, by the clock of all processes."""
        (self._process.stdin or sys.stdout).write("\n")
        (self._process.stdin or sys.stdout).flush()
        found: list[float] = json.loads(self._read())
        return found

    def left_after(self, began: float, known: int) -> float | None:
        """Return how long after a moment one more client had left than were known.

        The seconds that are watched if none has by then, and `None` before that.
        """
        found = self.left()[known:]
        if found:
            return max(found[0] - began, 0.0)
        return _WATCHED if time.monotonic() > began + _WATCHED else None


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Serve for as long as the block lasts."""
    python = os.environ.get(SERVER_PYTHON, sys.executable)
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(
        [python, "-m", "benchmarks.agents_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield Server(process)
        process.communicate("")


async def _add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


def _turns(plan: Plan, make: Callable[[str], Library]) -> None:
    with serving() as server:

        async def turns(size: int) -> float:
            library = make(server.url)
            agent = library.agent(None)
            await library.ask(agent, "hi")
            start = time.perf_counter()
            for _ in range(size):
                await library.ask(agent, "hi")
            return 1e3 * (time.perf_counter() - start) / size

        take(plan, {SUBJECT: lambda size: asyncio.run(turns(size))}, is_long=True)


def _side_by_side(plan: Plan, make: Callable[[str], Library]) -> None:
    with serving() as server:

        async def together(size: int) -> float:
            library = make(server.url)
            agent = library.agent(_add)
            await library.ask(agent, "hi")
            start = time.perf_counter()
            await asyncio.gather(*(library.ask(agent, "timed") for _ in range(size)))
            return time.perf_counter() - start

        take(plan, {SUBJECT: lambda size: asyncio.run(together(size))}, is_long=True)


def made(make: Callable[[], object], size: int) -> float:
    """Return the bytes that an agent takes, of so many that are made."""
    make()
    gc.collect()
    tracemalloc.start()
    agents = [make() for _ in range(size)]
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / len(agents)


def _memory(plan: Plan, make: Callable[[str], Library]) -> None:
    async def bytes_of(size: int) -> float:
        library = make("http://127.0.0.1:9/v1")
        return made(lambda: library.agent(_add), size)

    take(plan, {SUBJECT: lambda size: asyncio.run(bytes_of(size))}, is_long=True)


async def _five_questions(library: Library, server: Server) -> Mapping[str, float]:
    """Return what there is to tell of each question."""
    ticks: list[float] = []
    finished: list[int] = []
    running = asyncio.Event()

    async def ticking(a: int, b: int) -> str:  # noqa: ARG001 - as the tool is called
        """Tick."""
        running.set()
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.05)

    async def failing(a: int, b: int) -> str:  # noqa: ARG001 - as the tool is called
        """Add, but not everything."""
        if a == 1:
            raise ValueError("no luck")
        await asyncio.sleep(0.1)
        finished.append(a)
        return "fine"

    answers: dict[str, float] = {}
    # 1. The run is cancelled in a tool.
    task = asyncio.ensure_future(library.ask(library.agent(ticking), "tool"))
    await running.wait()
    await _cancelled(task)
    over = time.monotonic() + 0.02
    await asyncio.sleep(_WATCHED / 2)
    answers["ticks"] = sum(each > over for each in ticks)
    # 2. The run is cancelled in a request.
    agent = library.agent(_add)
    task = asyncio.ensure_future(library.ask(agent, "slow"))
    await asyncio.sleep(0.5)
    known, began = len(server.left()), time.monotonic()
    await _cancelled(task)
    answers["request"] = await _left_after(server, began, known)
    # 3. A stream is left early.
    known = len(server.left())
    await library.begin(agent, "stream")
    answers["stream"] = await _left_after(server, time.monotonic(), known)
    # 4. One of three tools raises.
    with contextlib.suppress(Exception):
        await asyncio.wait_for(library.ask(library.agent(failing), "three"), 10)
        answers["three"] = 1
    answers.setdefault("three", 0)
    # 5. Endless tools.
    rounds: list[int] = []

    async def counting(a: int, b: int) -> str:
        """Count."""
        rounds.append(a + b)
        return "more"

    with contextlib.suppress(Exception):
        await asyncio.wait_for(library.ask(library.agent(counting), "endless"), 12)
    answers["endless"] = len(rounds)
    return answers


async def _left_after(server: Server, began: float, known: int) -> float:
    while True:
        seconds = server.left_after(began, known)
        if seconds is not None:
            return seconds
        await asyncio.sleep(0.01)


async def _cancelled(task: asyncio.Future[str]) -> None:
    task.cancel()
    with contextlib.suppress(BaseException):
        await asyncio.wait_for(task, 5)


def _questions(plan: Plan, make: Callable[[str], Library]) -> None:
    with serving() as server:

        async def asked(_size: int) -> Sampled:
            return await _five_questions(make(server.url), server)

        take(plan, {SUBJECT: lambda size: asyncio.run(asked(size))}, is_long=True)


def measure(make: Callable[[str], Library], *, distribution: str, imported: str) -> None:
    """Take the measurement that the command line names.

    Args:
        make: Makes what asks a server, by its address.
        distribution: The distribution that is measured.
        imported: The statement that imports what an agent needs.
    """
    main(
        {
            "agent-turns": lambda plan: _turns(plan, make),
            "agents-side-by-side": lambda plan: _side_by_side(plan, make),
            "agents-memory": lambda plan: _memory(plan, make),
            "agents-questions": lambda plan: _questions(plan, make),
            "agents-import": lambda plan: take_imports(plan, {SUBJECT: imported}),
        },
        distribution=distribution,
    )
