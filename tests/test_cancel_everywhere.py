"""Whatever this library does: cancelled at any checkpoint, nothing is left running and the saved state is whole."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from proof_rounds import rounds

import railtracks as rt
from railtracks import testing
from railtracks.demo import survey_folder

Scenario: TypeAlias = Callable[[], Awaitable[object]]

SCENARIOS: list[Scenario] = []


def scenario(run: Scenario) -> Scenario:
    SCENARIOS.append(run)
    return run


class ExpectedError(Exception):
    """Raised by a node because its scenario says so."""


# The nodes that are at work; each takes itself out whatever happens, and takes its time for it.
at_work: list[float] = []


@rt.function_node
async def nap(seconds: float) -> float:
    at_work.append(seconds)
    try:
        await trio.sleep(seconds)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)
        at_work.remove(seconds)
    return seconds


@rt.function_node
async def fail(seconds: float) -> None:
    await rt.call(nap, seconds)
    raise ExpectedError(seconds)


@rt.function_node
def double(number: int) -> int:
    return number * 2


@scenario
async def call() -> None:
    async with rt.Session():
        assert await rt.call(nap, 1) == 1
        with pytest.raises(ExpectedError):
            await rt.call(fail, 1)


@scenario
async def call_without_a_session() -> None:
    assert await rt.call(nap, 1) == 1


@scenario
async def calls_on_fresh_stacks() -> None:
    async def descend(levels: int) -> int:
        return levels and 1 + await rt.call(descend, levels - 1)

    assert await rt.call(descend, 70) == 70


@scenario
async def batch() -> None:
    results = await rt.call_batch(fail, [1, 2, 1])
    assert [type(result) for result in results] == [ExpectedError] * 3


@scenario
async def batch_with_a_limit() -> None:
    async with rt.Session():
        assert await rt.call_batch(nap, [1, 2, 3, 1, 2], limit=2) == [1, 2, 3, 1, 2]


@scenario
async def batch_that_fails() -> None:
    async with rt.Session():
        with pytest.raises(ExpectedError):
            await rt.call_batch(fail, [1, 2, 3], return_exceptions=False)


@scenario
async def as_completed() -> None:
    async with rt.Session(), rt.as_completed(nap, [3, 1, 2], limit=2) as finished:
        assert [pending.result() async for pending in finished] == [1, 3, 2]


@scenario
async def as_completed_that_is_left() -> None:
    async with rt.as_completed(nap, [3, 1, 2]) as finished:
        async for pending in finished:
            assert pending.result() == 1
            break


@scenario
async def group() -> None:
    async with rt.Session(), rt.open_group() as group:
        first = group.start_soon(nap, 1)
        second = group.start_soon(nap, 2)
        await first.wait()
        second.cancel("enough")


@scenario
async def nested_sessions() -> None:
    async with rt.Session(name="outer"):
        async with rt.Session(name="inner"):
            await rt.call(nap, 1)
        await rt.call(rt.Flow("flow", nap).ainvoke, 1)


@scenario
async def background() -> None:
    async with rt.Session() as session:
        session.start_soon(nap, 1)
        session.start_service(nap, math.inf)

        async def serve(*, task_status: trio.TaskStatus[str]) -> None:
            await rt.call(nap, 1)
            task_status.started("ready")
            await rt.call(nap, 1)

        assert await session.start(serve) == "ready"


@scenario
async def broadcasts() -> None:
    taken: list[object] = []

    async def take(item: object) -> None:
        await trio.sleep(1)
        taken.append(item)

    async with rt.Session(broadcast_callback=take):
        for number in range(3):
            await rt.broadcast(number)
            await rt.call(nap, 1)
    assert taken == [0, 1, 2]


@scenario
async def callbacks_in_threads() -> None:
    taken: list[object] = []
    async with rt.Session(broadcast_callback=taken.append, payload_callback=taken.append, cleanup_timeout=1):
        await rt.broadcast(1)
        await rt.call(nap, 1)
    assert len(taken) == 2


@scenario
async def resources() -> None:
    closed: list[int] = []

    @asynccontextmanager
    async def resource(number: int) -> AsyncGenerator[int]:
        async with trio.open_nursery() as nursery:
            await trio.sleep(1)
            nursery.start_soon(trio.sleep_forever)
            try:
                yield number
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                closed.append(number)

    async with rt.Session() as session:
        assert await session.enter_async_context(resource(1)) == 1
        assert await session.enter_async_context(resource(2)) == 2
        await rt.call(nap, 1)
    assert closed == [2, 1]


@scenario
async def drain() -> None:
    async with rt.Session() as session:
        session.start_soon(nap, 1)
        session.start_soon(nap, 10)
        await session.drain(5)


@scenario
async def timeout() -> None:
    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(timeout=2) as session:
            session.start_soon(nap, 1)
            await rt.call(nap, 10)


@scenario
async def end_on_error() -> None:
    with pytest.raises(ExpectedError):
        async with rt.Session(end_on_error=True) as session:
            session.start_soon(nap, 10)
            await rt.call_batch(fail, [1])


@scenario
async def retries() -> None:
    attempts = 0

    @rt.function_node(timeout=5, retry=rt.Retry(3, wait_initial=1, jitter=0))
    async def third_time() -> int:
        nonlocal attempts
        attempts += 1
        await rt.call(nap, 10 if attempts == 1 else 1)
        if attempts == 2:
            raise ExpectedError
        return attempts

    try:
        assert await rt.call(third_time) == 3
    except ExpectedError:
        # What an attempt raises that was cancelled in its shielded part is not lost to another attempt.
        assert trio.current_effective_deadline() == -math.inf


@scenario
async def threads() -> None:
    async with rt.Session():
        assert await rt.call(double, 1) == 2
        assert await rt.call_batch(double, [1, 2]) == [2, 4]


@scenario
async def calls_from_threads() -> None:
    flow = rt.Flow("inner", nap)

    @rt.function_node(timeout=10)
    def outer() -> float:
        return flow.invoke(trio.from_thread.run(rt.call, nap, 1))

    assert await rt.call(outer) == 1


@scenario
async def threads_that_may_be_left() -> None:
    async with rt.Session():
        assert await rt.call_batch(double.with_options(abandon_on_cancel=True), [1, 2]) == [2, 4]


@scenario
async def executors() -> None:
    with ThreadPoolExecutor(1) as executor:
        node = double.with_options(run_in=executor)
        assert await rt.call_batch(node, [1, 2]) == [2, 4]
        assert await rt.call(node.with_options(abandon_on_cancel=True), 3) == 6


@scenario
async def processes() -> None:
    async with rt.Session():
        assert await rt.call(rt.function_node(math.sqrt, run_in="process"), 4) == 2


@scenario
async def the_demo() -> None:
    report = await rt.Flow("demo", survey_folder, broadcast_callback=lambda item: None).ainvoke("source", 2)
    assert (report.files, report.functions) == (2, 1)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "one.py").write_text("def one() -> int:\n    return 1\n")
    (folder / "two.py").write_text("two = 2\n")
    monkeypatch.chdir(tmp_path)


async def watched(run: Scenario) -> None:
    try:
        await run()
    finally:
        assert at_work == []


async def alone(run: Scenario) -> None:
    assert await testing.cancel_at_every_checkpoint(watched, run) > 3


async def in_a_session(run: Scenario) -> None:
    # A session with a timeout has a task that watches it from its beginning on.
    async with rt.Session(timeout=1_000_000) as session:
        assert await testing.cancel_at_every_checkpoint(watched, run) > 3
        assert all(call.ended_at is not None for call in session.info.calls)
        assert await rt.call(nap, 1) == 1
    testing.assert_quiescent(session)


@pytest.mark.proof
@pytest.mark.parametrize("where", [alone, in_a_session])
@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
def test_cancelled_at_any_checkpoint_nothing_is_left(
    run: Scenario, where: Callable[[Scenario], Coroutine[Any, Any, None]], source: None
) -> None:
    # Trio takes the tasks that are ready in random order: each time the cancel may find them in another one.
    for _ in range(rounds(full=25, handful=1)):
        testing.run_with_mock_clock(where, run)
