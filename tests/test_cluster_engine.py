"""What the engine for clusters does when a worker hangs: on a client that stands in for Dask's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import railtracks as rt
from railtracks.remote._cluster import ClusterEngine, open_engine
from railtracks.remote._scheduler import asked, threads_of
from railtracks.remote._worker import Job, Reply, take_news


class Future:
    """A task that never ends by itself."""

    key = "task"
    status = "pending"

    def add_done_callback(self, fn: Callable[[object], object], /) -> None: ...

    def exception(self) -> Exception:
        raise AssertionError

    def release(self) -> None: ...


class TwoWorkers:
    """A client of a cluster of two workers, of which one answers nothing while it hangs."""

    status = "running"

    def __init__(self) -> None:
        self.told, self.heard = trio.open_memory_channel[tuple[str, dict[str, int]]](100)
        self.topics: dict[str, Callable[[tuple[float, Any]], object]] = {}
        self.hanging = ""
        self.threads = {"first": 1, "second": 1}
        # What the cluster does in a thread of Dask's before it answers about its workers, or a cancel.
        self.before_answer: Callable[[], object] = lambda: None
        self.goes_on = threading.Event()

    def submit(self, fn: Callable[..., object], *args: object, **options: Any) -> Future:
        return Future()

    def gather(self, futures: Sequence[object], *, errors: str) -> list[Any]:
        raise AssertionError

    def cancel(self, futures: Sequence[object], *, force: bool) -> None: ...

    def run(self, fn: Callable[..., object], *args: Any, workers: list[str], on_error: str) -> dict[str, Any]:
        (address,) = workers
        if fn is take_news:
            trio.from_thread.run_sync(self.told.send_nowait, (address, args[0]))
            if address == self.hanging:
                self.goes_on.wait()
        else:
            self.before_answer()
        # No job that was cancelled has begun.
        return {address: []}

    def nthreads(self) -> dict[str, int]:
        self.before_answer()
        return self.threads

    def subscribe_topic(self, topic: str, handler: Callable[[tuple[float, Any]], object], /) -> None:
        self.topics[topic] = handler

    def unsubscribe_topic(self, topic: str, /) -> None: ...


class Record:
    """What is told of a job."""

    def __init__(self, takes: Callable[[dict[str, Any]], object] | None = None) -> None:
        self.worker = ""
        self.is_taken = trio.Event()
        self._takes = takes

    def took(self, worker: str) -> None:
        self.worker = worker
        self.is_taken.set()

    def take(self, message: dict[str, Any]) -> None:
        assert self._takes is not None
        self._takes(message)

    def lose(self, worker: str) -> None: ...


def teller_of(client: TwoWorkers) -> Callable[[dict[str, Any]], object]:
    """Return what a worker tells messages by."""
    (tell,) = (each for topic, each in client.topics.items() if topic.startswith("railtracks"))
    return lambda message: tell((0.0, message))


def job(job_id: str) -> Job:
    return Job(job_id, "flow", b"", None, None, 1, 5.0)


async def test_a_worker_that_hangs_holds_up_the_broadcasts_of_no_other_and_is_told_again(mock_clock: MockClock) -> None:
    mock_clock.rate = 1.0
    client, one, two = TwoWorkers(), Record(), Record()
    try:
        with trio.fail_after(10):
            async with open_engine(client) as engine, trio.open_nursery() as nursery:
                for name, record in (("one", one), ("two", two)):
                    nursery.start_soon(engine.run, job(name), record)
                    await trio.testing.wait_all_tasks_blocked()
                # Each goes to the worker that has more room.
                client.hanging = one.worker
                assert {one.worker, two.worker} == {"first", "second"}
                engine.acknowledge(job("one"), 50)
                assert await client.heard.receive() == (one.worker, {"one": 50})
                for position in (50, 100, 150):
                    engine.acknowledge(job("two"), position)
                    assert await client.heard.receive() == (two.worker, {"two": position})
                engine.acknowledge(job("one"), 100)
                engine.acknowledge(job("one"), 150)
                engine.acknowledge(job("two"), 200)
                # Not while the one that hangs has not answered.
                assert await client.heard.receive() == (two.worker, {"two": 200})
                await trio.testing.wait_all_tasks_blocked()
                assert client.heard.statistics().current_buffer_used == 0
                mock_clock.jump(2)
                assert await client.heard.receive() == (one.worker, {"one": 150})
                nursery.cancel_scope.cancel()
    finally:
        client.goes_on.set()


@pytest.mark.proof
async def test_a_cluster_without_workers_is_told_of_once_until_one_comes(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # Time goes on by itself, since threads answer.
    mock_clock.rate = 10.0
    client = TwoWorkers()
    looks = trio.Semaphore(0)
    client.before_answer = lambda: trio.from_thread.run_sync(looks.release)
    client.threads = {}

    async def look(times: int = 2) -> list[str]:
        """Have the engine take note of what the cluster has now, and return the warnings until then."""
        for _ in range(looks.value + times):
            await looks.acquire()
        return [each.getMessage() for each in caplog.records]

    async def lose(engine: ClusterEngine) -> None:
        with pytest.raises(rt.WorkerLostError):
            await engine.run(job("one"), Record())

    with trio.fail_after(1_000):
        async with open_engine(client) as engine:
            assert await look() == []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose, engine)
                # The only worker is started again.
                # The look that is under way now may count, too, and the last one may find no worker: four at most.
                assert await look(3) == []
                client.threads = {"first": 1}
                await look()
                client.threads = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose, engine)
                (warning,) = await look(8)
                assert warning.startswith("the Dask cluster has no worker: 'flow'")
                client.threads = {"first": 1}
                await look()
                client.threads = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.run, job("two"), Record())
                assert await look(8) == [warning] * 2
                nursery.cancel_scope.cancel()


class Slow(TwoWorkers):
    """A client of a cluster whose scheduler is so busy that an answer takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.asks = 0
        self.is_asked = trio.Event()
        self.before_answer = self.wait

    def wait(self) -> None:
        self.asks += 1
        trio.from_thread.run_sync(self.is_asked.set)
        self.goes_on.wait()

    async def let_pass(self, clock: MockClock, looks: int) -> None:
        """Have the scheduler be looked for so many times while it does not answer."""
        await self.is_asked.wait()
        for _ in range(looks):
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(0.5)
        await trio.testing.wait_all_tasks_blocked()


async def test_a_scheduler_that_is_busy_for_seconds_is_asked_once_how_much_runs_at_a_time(
    mock_clock: MockClock,
) -> None:
    client, found = Slow(), list[int]()

    async def find() -> None:
        found.append(await threads_of(client))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(find)
            await client.let_pass(mock_clock, 20)
            client.goes_on.set()
    finally:
        client.goes_on.set()
    assert (found, client.asks) == ([2], 1)


async def test_a_scheduler_that_is_busy_for_seconds_fails_nothing_that_waits_for_it(mock_clock: MockClock) -> None:
    client, record = Slow(), Record()

    async def be_busy() -> None:
        await client.let_pass(mock_clock, 20)
        assert (record.worker, client.asks) == ("", 1)
        client.before_answer = lambda: None
        client.goes_on.set()

    try:
        async with trio.open_nursery() as outer:
            outer.start_soon(be_busy)
            async with open_engine(client) as engine, trio.open_nursery() as nursery:
                nursery.start_soon(engine.run, job("one"), record)
                await record.is_taken.wait()
                nursery.cancel_scope.cancel()
    finally:
        client.goes_on.set()


async def test_an_error_of_a_client_that_is_closed_meanwhile_is_told_as_that(autojump_clock: MockClock) -> None:
    client = TwoWorkers()

    def close() -> None:
        client.status = "closing"
        raise AttributeError("'NoneType' object has no attribute 'ncores'")

    client.before_answer = close
    assert await asked(client, client.nthreads) is None
    with pytest.raises(ConnectionError, match="the Dask client is closed"):
        await threads_of(client)


async def test_many_messages_of_one_moment_come_in_their_order_and_hold_up_no_other_task() -> None:
    client, turns, last_came = TwoWorkers(), list[object](), trio.Event()

    def take(message: dict[str, Any]) -> None:
        turns.append(message["number"])
        if message["number"] == 99:
            last_came.set()

    async def other() -> None:
        while True:
            turns.append("other")
            await trio.lowlevel.checkpoint()

    async with open_engine(client) as engine, trio.open_nursery() as nursery:
        nursery.start_soon(engine.run, job("one"), Record(take))
        await trio.testing.wait_all_tasks_blocked()
        tell = teller_of(client)
        for number in range(100):
            tell({"job": "one", "number": number})
        nursery.start_soon(other)
        with trio.fail_after(10):
            await last_came.wait()
        nursery.cancel_scope.cancel()
    assert [each for each in turns if each != "other"] == list(range(100))
    places = [place for place, each in enumerate(turns) if each != "other"]
    # Trio wakes the tasks of one moment in any order. So two messages may follow each other, and no three.
    assert all(third - first > 2 for first, third in zip(places, places[2:], strict=False))


@pytest.mark.parametrize("why", ["its worker has left", "the client was closed"])
async def test_a_session_whose_end_was_told_behind_many_messages_has_ended_whatever_becomes_of_the_cluster(
    why: str, mock_clock: MockClock
) -> None:
    client, replies = TwoWorkers(), dict[str, Reply | Exception]()

    async def run(engine: ClusterEngine, name: str) -> None:
        try:
            replies[name] = await engine.run(job(name), Record(take))
        except (rt.WorkerLostError, ConnectionError) as error:
            replies[name] = error

    def take(message: dict[str, Any]) -> None:
        if message["number"] == 0 and why == "the client was closed":
            client.status = "closed"
            mock_clock.jump(0.5)

    def tell_all() -> None:
        for number in range(300):
            tell({"job": "two", "number": number})
        tell({"job": "one", "reply": ["session", "worker", 0, b""], "told": None, "rest": {}})

    def leave() -> None:
        client.before_answer = lambda: None
        tell_all()
        client.threads = {}

    with trio.fail_after(1_000):
        async with open_engine(client) as engine, trio.open_nursery() as nursery:
            for name in ("one", "two"):
                nursery.start_soon(run, engine, name)
            await trio.testing.wait_all_tasks_blocked()
            tell = teller_of(client)
            if why == "its worker has left":
                client.before_answer = leave
                # The next look at the cluster.
                mock_clock.jump(0.5)
            else:
                tell_all()
    assert isinstance(replies["one"], Reply)
    assert isinstance(replies["two"], rt.WorkerLostError if why == "its worker has left" else ConnectionError)


async def test_the_records_that_a_cancelled_session_has_told_are_taken_though_it_has_ended_by_then(
    mock_clock: MockClock,
) -> None:
    client, numbers = TwoWorkers(), list[int]()

    def tell_all() -> None:
        for number in range(300):
            tell({"job": "one", "number": number})

    async with open_engine(client) as engine, trio.open_nursery() as nursery:
        nursery.start_soon(engine.run, job("one"), Record(lambda message: numbers.append(message["number"])))
        await trio.testing.wait_all_tasks_blocked()
        tell = teller_of(client)
        client.before_answer = tell_all
        nursery.cancel_scope.cancel()
    assert (len(numbers), sorted(numbers) == numbers) == (300, True)
