"""`session.start` in a durable session: what it started is started again, by its starter or by the resume."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from durable_nodes import DONE, add, done_fixture, flow_of  # noqa: F401 - a fixture
from postgres_server import url_of_store

import railtracks as rt
from railtracks import testing

# Whether the first run is interrupted, and a failure fails.
IS_FIRST = [True]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    IS_FIRST[:] = [True]
    with rt.DurableStore(url_of_store(request, tmp_path), durability="process") as opened:
        yield opened


@rt.function_node
async def interrupted(number: int) -> int:
    if IS_FIRST[0]:
        raise KeyboardInterrupt
    DONE.append(number)
    return number


@rt.function_node
async def fails(number: int) -> int:
    if IS_FIRST[0]:
        raise ConnectionError(number)
    DONE.append(number)
    return number


@rt.function_node
async def serve(first: int, end: Callable[[int], Awaitable[int]], *, task_status: trio.TaskStatus[int]) -> None:
    task_status.started(await rt.call(add, first))
    await rt.call(add, first + 1)
    await rt.call(end, first + 2)
    await rt.call(add, first + 3)


@rt.function_node
async def server(first: int, *, task_status: trio.TaskStatus[int]) -> None:
    await serve(first, interrupted, task_status=task_status)


@rt.function_node
async def failing_server(first: int = 10, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    await serve(first, fails, task_status=task_status)


@rt.function_node(durable=False)
async def starter() -> int:
    return await rt.current_session().start(server, 10)


async def in_entry_point() -> int:
    return await rt.current_session().start(server, 10)


async def in_node() -> int:
    return await rt.call(starter)


async def in_task() -> int:
    found: list[int] = []

    async def task() -> None:
        found.append(await rt.call(starter))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
    return found[0]


class Service:
    def __init__(self, first: int) -> None:
        self.first = first

    @rt.function_node
    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        await serve(self.first, interrupted, task_status=task_status)


SERVICE = Service(10)


async def of_an_object() -> int:
    return await rt.current_session().start(SERVICE.run)


@pytest.mark.parametrize("main", [in_entry_point, in_node, in_task, of_an_object])
def test_what_was_started_goes_on_after_its_starter_has_ended(store: rt.DurableStore, main: Callable[[], int]) -> None:
    flow = flow_of(store, main, background=[server, SERVICE.run])
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    assert DONE == [10, 11]
    IS_FIRST[:] = [False]
    DONE.clear()
    assert flow.resume("s") == 11
    assert DONE == [12, 13]
    assert store.check() == ()
    DONE.clear()
    assert flow.resume("s") == 11
    assert DONE == []


def test_what_was_started_and_has_ended_asks_for_its_calls_again_and_none_of_them_runs_twice(
    store: rt.DurableStore,
) -> None:
    async def main() -> int:
        started = await rt.current_session().start(failing_server)
        await rt.call(add, 100)
        return started + await rt.call(interrupted, 5)

    flow = flow_of(store, main, background=[failing_server])
    with testing.replace_node(fails, add.fn), pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    IS_FIRST[:] = [False]
    assert flow.resume("s") == 16
    assert sorted(DONE) == [5, 10, 11, 12, 13, 100]


@pytest.mark.parametrize("main", [in_entry_point, in_node, of_an_object])
async def test_it_goes_on_from_every_prefix_of_the_record(store: rt.DurableStore, main: Callable[[], int]) -> None:
    IS_FIRST[:] = [False]
    assert await testing.replay_at_every_prefix(flow_of(store, main, background=[server, SERVICE.run])) > 6


def test_retry_runs_the_failed_call_of_what_was_started_and_the_rest(store: rt.DurableStore) -> None:
    async def main() -> int:
        return await rt.current_session().start(failing_server)

    flow = flow_of(store, main, background=[failing_server])
    with pytest.raises(ConnectionError):
        flow.invoke(session_id="s")
    IS_FIRST[:] = [False]
    DONE.clear()
    store.retry("s")
    assert flow.resume("s") == 11
    assert DONE == [12, 13]


def test_what_no_resume_can_start_again_is_warned_of(store: rt.DurableStore, caplog: pytest.LogCaptureFixture) -> None:
    IS_FIRST[:] = [False]

    async def listening(channel: object, *, task_status: trio.TaskStatus[str]) -> None:
        assert isinstance(channel, trio.MemoryReceiveChannel)
        task_status.started("listens")

    async def main() -> str:
        session = rt.current_session()
        sent, received = trio.open_memory_channel[int](0)
        with sent, received:
            return await session.start(rt.function_node(listening), received)

    with caplog.at_level(logging.WARNING):
        assert flow_of(store, main).invoke() == "listens"
    (record,) = caplog.records
    assert "could not start 'listening' again in the background" in record.getMessage()
    assert "its arguments cannot be stored" in record.getMessage()


def test_the_start_of_a_node_that_is_not_recorded_is_not_recorded(store: rt.DurableStore) -> None:
    async def main() -> int:
        return await rt.current_session().start(failing_server.with_options(durable=False))

    IS_FIRST[:] = [False]
    flow = flow_of(store, main)
    assert flow.invoke(session_id="s") == 11
    assert [call.node for call in store.load("s").calls] == ["main", "add", "add", "fails", "add"]
