"""Presses Ctrl-C at every line of the library that one scenario passes, each time in a new run of the scenario.

Usage: struck.py SCENARIO SHARE SEED. The first run counts the lines. Each later run is struck at one of them: a tracer
calls the SIGINT handler that Trio has installed, with the stack frame of that line, as Python does for a real signal.
Tasks do not run in the same order each time, so the n-th line may be another one than it was: with a share of 1, the
lines that were passed in some run and struck in none are then struck where they are passed first. Prints a JSON object:
how many lines there were, which were struck, how, and what was wrong afterwards.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import trio

import railtracks as rt
from railtracks import testing
from railtracks._records.events import CallEvent, Event, EventKind
from railtracks._records.files import unfinished_files
from railtracks._records.observers import EVERYWHERE

PACKAGE = str(Path(rt.__file__).parent) + os.sep
HOME = tempfile.TemporaryDirectory()
# Seconds. A run that hangs prints the stacks of all threads and ends the program.
PATIENCE = 30
# Runs in which a line that only some of them pass is waited for.
TRIES = 30


@rt.function_node
async def leaf(n: int = 0, *, more: int = 0) -> int:
    await trio.lowlevel.checkpoint()
    return n + more


@rt.function_node
async def branch(n: int) -> int:
    return await rt.call(leaf, n) + await rt.call(leaf, n, more=1)


@rt.function_node
async def fails(n: int = 0) -> int:
    await trio.lowlevel.checkpoint()
    raise ValueError(n)


@rt.function_node(retry=rt.Retry(2, wait_initial=1e-6, jitter=0.0))
async def tried_again() -> int:
    if rt.session_id() is None:
        raise NotImplementedError
    raise ValueError


@rt.function_node
async def fatal() -> None:
    raise rt.FatalError("enough")


@rt.function_node(timeout=60)
async def in_time() -> int:
    return await rt.call(leaf, 1)


@rt.function_node(timeout=1e-6)
async def too_late() -> None:
    await trio.sleep_forever()


@rt.function_node
def in_a_thread(n: int) -> int:
    return trio.from_thread.run(rt.call, leaf, n)


@rt.function_node
async def deep(levels: int) -> int:
    return await rt.call(deep, levels - 1) if levels else 0


async def plain(n: int) -> int:
    return n


async def caught(work: Awaitable[object]) -> None:
    try:
        await work
    except (ValueError, TimeoutError):
        return


@asynccontextmanager
async def resource() -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        yield 1
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


# The scenarios, each with the sessions that it opens.


async def calls() -> None:
    async with rt.Session(name="calls"):
        await rt.call(leaf, 1, more=2)
        await rt.call(branch, 1)
        await rt.call(plain, 1)
        await caught(rt.call(fails))


async def attempts() -> None:
    async with rt.Session(history_limit=2):
        await caught(rt.call(tried_again))
        await rt.call(in_time)
        await caught(rt.call(too_late))
        for n in range(4):
            await rt.call(leaf, n)


async def threads() -> None:
    async with rt.Session(timeout=60):
        await rt.call(in_a_thread, 1)


async def deep_stack() -> None:
    async with rt.Session():
        await rt.call(deep, 34)


async def default_sessions() -> None:
    await rt.call(branch, 1)
    await rt.call_batch(leaf, [1])
    async with rt.open_group() as group:
        group.start_soon(leaf)


def inputs() -> Iterator[int]:
    yield from range(3)


async def fan_outs() -> None:
    async with rt.Session():
        await rt.call_batch(leaf, inputs())
        await rt.call_batch(branch, inputs(), limit=2)
        await rt.call_batch(fails, inputs(), limit=2)
        async with rt.as_completed(leaf, inputs(), limit=2) as finished:
            async for pending in finished:
                pending.result()


async def groups() -> None:
    async with rt.Session():
        async with rt.open_group(limit=1) as group:
            group.start_soon(leaf, 1)
            pending = group.start_soon(branch, 2)
            await pending.wait()
        async with rt.open_group() as group:
            group.start_soon(trio.sleep_forever).cancel("not needed")


async def announces(task_status: trio.TaskStatus[int]) -> None:
    task_status.started(1)
    await rt.call(leaf)


async def background() -> None:
    async with rt.Session() as session:
        session.start_soon(branch, 1)
        session.start_service(trio.sleep_forever)
        await session.start(announces)
        await rt.call(leaf)


async def drained() -> None:
    async with rt.Session() as session:
        session.start_soon(branch, 1)
        session.start_service(trio.sleep_forever)
        await session.drain(1)
    async with rt.Session() as session:
        session.start_soon(trio.sleep_forever)
        await session.drain(0)


async def resources() -> None:
    async with rt.Session() as session:
        await session.enter_async_context(resource())
        await session.enter_async_context(resource())
        await rt.call(leaf)


async def heard(item: object) -> None:
    await trio.lowlevel.checkpoint()


async def broadcasts() -> None:
    async with rt.Session(broadcast_callback=heard, payload_callback=heard):
        await rt.broadcast(1)
        await rt.broadcast(2)


async def ends() -> None:
    for how in ("error", "cancel", "timeout", "fatal"):
        try:
            async with rt.Session(timeout=0.001 if how == "timeout" else 60, end_on_error=how == "error") as session:
                if how == "cancel":
                    session.cancel("enough")
                elif how == "fatal":
                    async with rt.Session():
                        await rt.call(fatal)
                elif how == "error":
                    await rt.call(fails)
                await trio.sleep_forever()
        except (ValueError, rt.SessionTimeoutError, rt.FatalError):
            continue


@rt.session(log_file=Path(HOME.name, "log.txt"), logging_setting="NONE", context={"a": 1})
async def decorated() -> None:
    rt.context.put("b", 2)
    await rt.call(leaf)


async def decorators() -> None:
    await decorated()


def invoked() -> None:
    rt.Flow("invoked", entry_point=branch).invoke(1)


async def durable() -> None:
    store = rt.DurableStore(Path(HOME.name, "store.db"), durability="process")
    flow = rt.Flow("durable", entry_point=branch, durable=store)
    await flow.ainvoke(1)
    async with rt.Session(durable=store, broadcast_callback=heard) as session:
        rt.context.put("b", 2)
        await rt.call(leaf)
        await rt.broadcast(1)
        session.start_soon(leaf)
        await rt.call_batch(leaf, [1, 2])
        await caught(rt.call(tried_again))


SCENARIOS: dict[str, Callable[[], Any]] = {
    each.__name__: each
    for each in (
        calls,
        attempts,
        threads,
        deep_stack,
        default_sessions,
        fan_outs,
        groups,
        background,
        drained,
        resources,
        broadcasts,
        ends,
        decorators,
        invoked,
        durable,
    )
}


class OpenCalls:
    """Observes which calls have begun and not ended, for an observer that keeps something open for each."""

    def __init__(self) -> None:
        self.open: set[tuple[str, int]] = set()

    def on_event(self, event: Event) -> None:
        """Take note of the event."""
        assert isinstance(event, CallEvent)
        call = (event.session_id, event.call_id)
        self.open ^= {call}


class Strike:
    """A tracer that counts the lines of the library, and presses Ctrl-C at one, given by its number or its place."""

    def __init__(self, at: int | str) -> None:
        self.at = at
        self.lines = 0
        self.passed: set[str] = set()
        self.struck: str | None = None
        self.is_at_once = False

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        """Trace the functions of the library."""
        return self.line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def line(self, frame: FrameType, event: str, _: object) -> Any:
        """Count a line, and strike if it is its turn."""
        if event != "line" or self.struck:
            return self.line
        self.lines += 1
        place = f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno}"
        self.passed.add(place)
        if self.at in {self.lines, place}:
            self.struck = place
            self.is_at_once = True
            # The one that Trio has installed: it decides by the frame.
            signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)  # type: ignore[operator,misc]
            self.is_at_once = False
        return self.line


def run(scenario: Callable[[], Any], strike: Strike) -> BaseException | None:
    """Run a scenario, and see that nothing of it is left in its task. Returns what came out."""

    async def main() -> None:
        task = trio.lowlevel.current_task()
        nurseries = list(task.child_nurseries)
        try:
            await scenario()
        finally:
            sys.settrace(None)
            assert rt.session_id() is None, "a session is left in the context"
            assert task.child_nurseries == nurseries, "a nursery is left"
            assert trio.current_effective_deadline() in {float("inf"), float("-inf")}, "a scope is left"

    try:
        if scenario is invoked:
            sys.settrace(strike)
            scenario()
        else:

            async def traced() -> None:
                sys.settrace(strike)
                await main()

            trio.run(traced)
    except BaseException as error:  # noqa: BLE001 - looked at by `problems`
        return error
    finally:
        sys.settrace(None)
    return None


def next_session() -> None:
    """Open one more session: it must not notice what went before."""

    async def main() -> None:
        async with rt.Session(save_state=False) as session:
            assert await rt.call(branch, 1) == 3
        assert session.status == "completed"

    trio.run(main)


def problems(error: BaseException | None, strike: Strike, sessions: list[rt.Session]) -> Iterator[str]:
    """Say what is wrong after a run that was struck."""
    if type(error) is not KeyboardInterrupt:
        yield f"raised {''.join(traceback.format_exception(error)) if error else None}"
    for session in sessions:
        if session.status == "running":
            yield "a session runs"
        for call in session.info.calls:
            if call.status == "running" or call.ended_at is None:
                yield f"call {call.id} of {call.node} is open"
        if session.state_path is None or not session.state_path.exists():
            yield "there is no saved state"
            continue
        saved = rt.load_state(session.state_path)
        if (saved.status, len(saved.calls)) != (session.status, len(session.info.calls)):
            yield "the saved state is another one"
        session.state_path.unlink()
    if unfinished_files():
        yield "a temporary file is left"


def struck_at(scenario: Callable[[], Any], at: int | str) -> tuple[Strike, list[str]]:
    """Run a scenario, strike it at one line, and say what is wrong."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    strike, observed, wrong = Strike(at), OpenCalls(), []
    sys.unraisablehook = lambda told: wrong.append(f"unraisable: {told.exc_value!r} in {told.object!r}")
    kinds = [EventKind.CALL_STARTED, EventKind.CALL_COMPLETED, EventKind.CALL_FAILED, EventKind.CALL_CANCELLED]
    EVERYWHERE.add(observed, [*kinds, EventKind.CALL_RETRIED])
    with testing.opened_sessions() as sessions:
        error = run(scenario, strike)
    if at and strike.struck:
        wrong.extend(problems(error, strike, sessions))
    elif error is not None:
        wrong.append(f"raised {''.join(traceback.format_exception(error))}")
    if observed.open:
        wrong.append(f"observers were not told of the end of {observed.open}")
    EVERYWHERE.remove(observed)
    del error
    sessions.clear()
    try:
        next_session()
    except BaseException as error:  # noqa: BLE001 - told
        wrong.append(f"the next session raised {error!r}")
    faulthandler.cancel_dump_traceback_later()
    return strike, wrong


def main() -> None:
    """Strike one scenario."""
    scenario, share = SCENARIOS[sys.argv[1]], float(sys.argv[2])
    rng = random.Random(sys.argv[3])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["RAILTRACKS_HOME"] = HOME.name
    # The first run imports what is imported on first use.
    struck_at(scenario, 0)
    whole, wrong = struck_at(scenario, 0)
    told = [f"without a strike: {each}" for each in wrong]
    steps = range(1, whole.lines + 1)
    chosen = list(steps) if share >= 1 else sorted(rng.sample(steps, max(8, round(len(steps) * share))))
    struck: dict[str, bool] = {}
    passed = set(whole.passed)

    def missed() -> Iterator[str]:
        for _ in range(TRIES if share >= 1 else 0):
            yield from sorted(passed - struck.keys())

    for at in chain(chosen, missed()):
        strike, wrong = struck_at(scenario, at)
        passed |= strike.passed
        if strike.struck:
            struck[strike.struck] = struck.get(strike.struck, False) or strike.is_at_once
        told += [f"{strike.struck} ({at}, {'at once' if strike.is_at_once else 'later'}): {each}" for each in wrong]
        if len(told) > 40:
            break
    gc.collect()
    told_to_test = {"lines": whole.lines, "strikes": len(chosen), "struck": struck, "passed": sorted(passed)}
    print(json.dumps({**told_to_test, "problems": told}))
    HOME.cleanup()


if __name__ == "__main__":
    main()
