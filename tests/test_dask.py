"""Sessions on a real Dask cluster of two worker processes: results, records, cancels, and workers that are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import remote_flows as flows
import trio
from postgres_server import PostgresServer
from remote_sessions import (  # noqa: F401 - two are fixtures
    cluster,
    folder_fixture,
    importable_flows_fixture,
    session,
    tried,
    workers_fail_nothing,
)
from rows import row_fixture  # noqa: F401 - a fixture

import railtracks as rt

if TYPE_CHECKING:
    from distributed import Client

# Looked for, not imported: each process that collects the tests would import it.
pytestmark = [
    pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed"),
    pytest.mark.usefixtures("row"),
]


async def until_there(path: Path) -> None:
    with trio.fail_after(30):
        while not path.exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.01)


def error_of(pending: rt.PendingCall[Any]) -> str:
    with pytest.raises((ValueError, RuntimeError, ConnectionError)) as caught:
        pending.result()
    return repr(caught.value)


@pytest.mark.proof
async def test_sessions_on_a_cluster_are_calls_with_all_of_their_calls_below(folder: Path) -> None:
    async with cluster() as client:
        async with session() as here:
            async with rt.map_flow(client, flows.total_flow, range(40)) as finished:
                results = sorted([pending.result() async for pending in finished])
            assert results == [n * (n - 1) // 2 for n in range(40)]
            # In one task of Dask several sessions.
            async with rt.map_flow(client, flows.total_flow, range(40), batch=7, ordered=True) as finished:
                assert [pending.result() async for pending in finished] == results
            # More than goes through the scheduler.
            large = await rt.submit(client, flows.large_flow.bind(1_000_000))
            await large.wait()
            assert len(large.result()) == 1_000_000
        roots = here.info.roots
        assert len(roots) == 81
        for root in roots:
            assert root.remote is not None
            assert root.remote.missing == 0
            assert root.remote.worker.startswith("tcp://127.0.0.1")
            (entry,) = here.info.children(root.id)
            if root.node == "flow total":
                assert len(here.info.children(entry.id)) == root.args[0]
        assert {str(each.status) for each in here.info.calls} == {"completed"}


@pytest.mark.proof
async def test_an_error_and_a_secret_of_a_worker(folder: Path) -> None:
    async with cluster() as client, session() as here:
        async with rt.map_flow(client, flows.refused_flow, ["Ada"]) as finished:
            async for pending in finished:
                with pytest.raises(ValueError, match="no Ada"):
                    pending.result()
        async with rt.map_flow(client, flows.leaking_flow, [rt.args()]) as finished:
            async for pending in finished:
                with pytest.raises(LookupError):
                    pending.result()
        # Dask cannot send a lone surrogate, as a name of a file may have it.
        async with rt.map_flow(client, flows.refused_flow, ["\udc80"]) as finished:
            assert [error_of(pending) async for pending in finished] == ["ValueError('no \\udc80')"]
    told = "".join(f"{each.error.message}{each.error.traceback}" for each in here.info.calls if each.error is not None)
    assert "redacted" in told
    assert "canary" not in told


@pytest.mark.proof
async def test_a_cancel_reaches_a_session_that_runs_and_one_that_waits_never_begins(tmp_path: Path) -> None:
    numbers = count()

    async def seconds_of_cancels(client: Client) -> float:
        places = [tmp_path / f"{next(numbers)}" for _ in range(12)]
        for each in places:
            each.mkdir()
        # Four threads: four run, four wait on the workers, four here.
        sent = [await rt.submit(client, flows.hanging_flow.bind(str(each))) for each in places]
        with trio.fail_after(30):
            while sum((each / "began").exists() for each in places) < 4:  # noqa: ASYNC110 - other processes
                await trio.sleep(0.01)
        cancelled_at = trio.current_time()
        for each in sent:
            each.cancel("enough")
        for each in sent:
            await each.wait()
        took = trio.current_time() - cancelled_at
        assert {each.status for each in sent} == {rt.Status.CANCELLED}
        await trio.sleep(0.3)
        assert sum((each / "began").exists() for each in places) == 4
        assert sum((each / "cleaned").exists() for each in places) == 4
        return took

    async with cluster() as client, session() as here:
        figures = await tried(partial(seconds_of_cancels, client), below=2)
    assert min(figures) < 2, figures
    assert {str(each.status) for each in here.info.calls} == {"cancelled"}


@pytest.mark.proof
async def test_a_deadline_here_ends_the_session_there(folder: Path) -> None:
    async with cluster() as client, session():
        with trio.move_on_after(60) as scope:
            async with rt.map_flow(client, flows.hanging_flow, [str(folder)]) as finished:
                await until_there(folder / "began")
                scope.cancel()
                async for _ in finished:
                    pass
        assert (folder / "cleaned").exists()


@pytest.mark.proof
@pytest.mark.parametrize("batch", [1, 5])
async def test_a_killed_worker_closes_its_records_as_lost_and_what_has_ended_never_runs_again(
    folder: Path, batch: int
) -> None:
    async with cluster() as client, session() as here:
        inputs = [rt.args(str(folder), number) for number in range(60)]
        results: list[object] = []
        begun_before: dict[object, int] = {}
        async with rt.map_flow(client, flows.counted_flow, inputs, batch=batch) as finished:
            async for pending in finished:
                results.append(pending.result())
                begun_before[results[-1]] = (folder / str(results[-1])).stat().st_size
                if len(results) == 20:
                    worker = next(iter(client.run(os.getpid).values()))
                    os.kill(worker, 9)
        assert sorted(results, key=str) == sorted(range(60), key=str)
        # What was handed out has not begun once more since.
        assert {each: (folder / str(each)).stat().st_size for each in results} == begun_before
        lost = [each for each in here.info.calls if each.status is rt.Status.LOST]
        assert lost
        for each in lost:
            assert each.error is not None
            assert each.error.type.endswith("WorkerLostError")
        again = [each for each in here.info.roots if each.attempt > 1]
        assert {each.args for each in again} == {each.args for each in lost if each.parent_id is None}


@pytest.mark.proof
async def test_what_was_handed_out_does_not_run_again_when_all_workers_are_killed(folder: Path) -> None:
    async with cluster() as client, session():
        inputs = [rt.args(str(folder), number) for number in range(20)]
        async with rt.map_flow(client, flows.counted_flow, inputs) as finished:
            assert sorted([pending.result() async for pending in finished]) == list(range(20))
            # One that is too large to be told is fetched, and its task stays on the worker until then.
            large = await rt.submit(client, flows.counted_large_flow.bind(str(folder), 20))
            await large.wait()
            large.result()
            before = set(client.nthreads())
            for process in client.run(os.getpid).values():
                os.kill(process, 9)
            with trio.fail_after(30):
                while before & (now := set(client.nthreads())) or len(now) < 2:  # noqa: ASYNC110 - other processes
                    await trio.sleep(0.01)
            # The new workers run what is sent; by then they would have what was to run again.
            async with rt.map_flow(client, flows.total_flow, [3] * 8) as more:
                assert [pending.result() async for pending in more] == [3] * 8
            await trio.sleep(0.5)
            assert {each.name: each.read_text() for each in folder.iterdir()} == {f"{n}": "x" for n in range(21)}


@pytest.mark.proof
async def test_a_session_that_kills_its_worker_begins_again_on_another(folder: Path) -> None:
    async with cluster() as client, session():
        pending = await rt.submit(client, flows.deadly_flow.bind(str(folder)))
        await pending.wait()
        assert pending.result() == "survived"


@pytest.mark.proof
async def test_a_worker_that_does_not_end_a_cancelled_session_is_named_and_the_session_is_lost(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(processes=False) as client, session() as here:
        pending = await rt.submit(client, flows.stubborn_flow.bind(str(folder)))
        await until_there(folder / "began")
        pending.cancel()
        await pending.wait()
        assert pending.status is rt.Status.CANCELLED
    assert "does not end the session of 'flow stubborn' that was cancelled: it may run on" in caplog.text
    assert [str(each.status) for each in here.info.calls] == ["cancelled", "lost"]


@pytest.mark.proof
async def test_sessions_that_wait_for_a_worker_here_never_begin_once_cancelled(folder: Path) -> None:
    async with cluster(processes=False) as client, session() as here:
        inputs = [rt.args(str(folder)) for _ in range(40)]
        async with rt.map_flow(client, flows.hanging_flow, inputs, limit=40):
            await until_there(folder / "began")
        large = await rt.submit(client, flows.large_flow.bind(100_000))
        await large.wait()
        assert len(large.result()) == 100_000
        async with rt.map_flow(client, flows.total_flow, [60, 1], batch=2) as finished:
            assert [pending.result() async for pending in finished]
    statuses = [str(each.status) for each in here.info.roots]
    # As many as were drawn.
    assert statuses.count("cancelled") > 10
    assert statuses.count("completed") == 3


class FailingFuture:
    """A task that Dask could not run."""

    key = "task"

    def __init__(self, status: str) -> None:
        self.status = status

    def add_done_callback(self, fn: Callable[[object], object]) -> None:
        fn(self)

    def exception(self) -> Exception:
        return ModuleNotFoundError("No module named 'railtracks'")

    def release(self) -> None:
        """Do nothing."""


class FailingClient:
    """A client of a cluster on which nothing goes well."""

    __module__ = "distributed.client"
    status = "running"

    def __init__(self, status: str) -> None:
        self._status = status
        self.looks = 0

    def submit(self, *_: object, **__: object) -> FailingFuture:
        return FailingFuture(self._status)

    def nthreads(self) -> dict[str, int]:
        self.looks += 1
        if self.looks == 2:
            raise OSError("no answer")
        # At the fourth look the worker is gone.
        return {} if self.looks == 4 else {"tcp://worker": 1}

    def subscribe_topic(self, _: str, handler: Callable[[tuple[float, Any]], object]) -> None:
        handler((0.0, {"action": "add-worker", "job": "of another session"}))

    def unsubscribe_topic(self, *_: object) -> None:
        raise ValueError("closed")


async def test_what_fails_a_task_of_dask_is_raised(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.01
    for status, kind in (("error", ModuleNotFoundError), ("cancelled", rt.WorkerLostError)):
        with pytest.raises(kind):
            async with session():
                client: Any = FailingClient(status)
                await (await rt.submit(client, flows.total_flow.bind(1))).wait()


class ClosingClient(FailingClient):
    """A client that is closed while a session uses it."""

    def __init__(self, workers: dict[str, int]) -> None:
        super().__init__("cancelled")
        self.workers: dict[str, int] | None = workers
        self.sent = 0

    def submit(self, *_: object, **__: object) -> FailingFuture:
        self.sent += 1
        raise RuntimeError("the client is closed")

    def nthreads(self) -> dict[str, int]:
        if self.workers is None:
            raise AttributeError("'NoneType' object has no attribute 'ncores'")
        return self.workers


async def test_a_client_that_is_closed_fails_only_what_is_sent() -> None:
    client: Any = ClosingClient({"tcp://worker": 1})
    async with session():
        async with rt.map_flow(client, flows.total_flow, [1, 1]) as finished:
            errors = [error_of(pending) async for pending in finished]
        client.status = "closed"
        with pytest.raises(ConnectionError, match="the Dask client is closed"):
            async with rt.map_flow(client, flows.total_flow, [1]):
                raise AssertionError
    assert errors == ["RuntimeError('the client is closed')"] * 2
    with pytest.raises(ConnectionError, match="the Dask client is closed"):
        async with session():
            await (await rt.submit(client, flows.total_flow.bind(1))).wait()


async def test_what_waited_for_a_scheduler_that_went_does_not_begin_when_that_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0.01
    client: Any = ClosingClient({})
    async with session():
        async with rt.map_flow(client, flows.total_flow, [1]) as finished:
            client.status, client.workers = "connecting", None
            errors = [error_of(pending) async for pending in finished]
        client.status, client.workers = "running", {"tcp://worker": 1}
        await trio.sleep(5)
    assert errors == ["ConnectionError(\"the scheduler is gone: 'flow total' was sent there, and may run on\")"]
    assert client.sent == 0


class SilentClient(ClosingClient):
    """A client whose scheduler does not answer until the end of the test."""

    def __init__(self, status: str) -> None:
        super().__init__({"tcp://worker": 1})
        self.status = status
        self.is_over = threading.Event()

    def nthreads(self) -> dict[str, int]:
        self.is_over.wait(10)
        return super().nthreads()


@pytest.mark.parametrize("status", ["running", "connecting"])
@pytest.mark.parametrize("limit", [None, 1])
async def test_a_scheduler_that_has_gone_before_anything_was_sent_is_told(
    status: str, limit: int | None, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.01
    silent = SilentClient(status)
    client: Any = silent
    errors: list[str] = []
    try:
        with trio.fail_after(15):
            async with session():
                try:
                    async with rt.map_flow(client, flows.total_flow, [1], limit=limit) as finished:
                        errors += [error_of(pending) async for pending in finished]
                except ConnectionError as error:
                    errors.append(str(error))
    finally:
        silent.is_over.set()
    assert len(errors) == 1
    assert "the scheduler is gone: " in errors[0]


@pytest.mark.proof
async def test_a_scheduler_that_comes_back_within_seconds_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # Time does not jump while a thread answers.
    autojump_clock.autojump_threshold = 0.5
    client: Any = ClosingClient({"tcp://worker": 1})
    client.status = "connecting"

    async def come_back() -> None:
        await trio.sleep(0.6)
        client.status = "running"

    async with session(), trio.open_nursery() as nursery:
        nursery.start_soon(come_back)
        async with rt.map_flow(client, flows.total_flow, [1]) as finished:
            errors = [error_of(pending) async for pending in finished]
    assert errors == ["RuntimeError('the client is closed')"]


async def test_what_a_client_has_sent_that_is_closed_before_its_session_says_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0.01
    client: Any = ClosingClient({})
    async with session(), rt.map_flow(client, flows.total_flow, [1]) as finished:
        client.status, client.workers = "closing", None
        (error,) = [error_of(pending) async for pending in finished]
    assert "the Dask client was closed before its session: 'flow total' was sent there" in error


async def test_an_error_of_dask_while_the_client_runs_is_raised() -> None:
    client: Any = ClosingClient({})
    client.workers = None
    with pytest.RaisesGroup(pytest.RaisesExc(AttributeError, match="ncores"), flatten_subgroups=True):
        async with session():
            await (await rt.submit(client, flows.total_flow.bind(1))).wait()


@pytest.mark.proof
async def test_two_clusters_of_one_machine_take_no_port_from_each_other() -> None:
    # Dask warns if its port is taken, and warnings are errors here.
    async with cluster(processes=False) as first, cluster(processes=False) as second:
        assert first.dashboard_link != second.dashboard_link
    async with cluster(processes=False, dashboard_address="127.0.0.1:0") as client:
        assert "127.0.0.1" in client.dashboard_link


@pytest.mark.proof
async def test_a_node_runs_on_a_cluster_as_in_any_executor() -> None:
    async with cluster() as client, session():
        node = flows.process_id.with_options(run_in=client.get_executor(pure=False))
        there = set(await rt.call_batch(node, range(20)))
        assert os.getpid() not in there
        assert there <= set(client.run(os.getpid).values())


@pytest.mark.proof
async def test_with_a_store_the_sessions_of_a_dead_worker_and_of_a_second_run_are_resumed(
    folder: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.fresh_url()
    monkeypatch.setenv("REMOTE_FLOWS_STORE", url)
    flow = rt.Flow("durable", flows.two_steps, durable=url, save_state=False, logging_setting="NONE")
    monkeypatch.setattr(flows, "durable_flow", flow)
    inputs = [rt.args(str(folder), number) for number in range(8)]

    def name(_: str, number: int) -> str:
        return f"session-{number}"

    expected = [2 * number + 1000 for number in range(8)]
    async with cluster() as client, session() as here:
        for _ in range(2):
            async with rt.map_flow(client, flow, inputs, session_ids=name, ordered=True) as finished:
                assert [pending.result() async for pending in finished] == expected
    assert any(each.status is rt.Status.LOST for each in here.info.calls)
    marks = {each.name: len(each.read_text()) for each in folder.glob("step-*")}
    assert len(marks) == 16
    # This one had been recorded when its worker died. Those that ran at that moment began again.
    assert marks["step-3"] == 1
    assert set(marks.values()) <= {1, 2}


SCHEDULER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    options = dict(processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None)
    print(LocalCluster(int(sys.argv[1]), preload=[sys.argv[2]], **options).scheduler_address, flush=True)
    time.sleep(60)
"""


@contextmanager
def scheduler(workers: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the scheduler of a cluster, with its workers in the same process; give that, and the address."""
    with workers_fail_nothing() as preload:
        command = [sys.executable, "-c", SCHEDULER, str(workers), preload]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield process, process.stdout.readline().strip()
            finally:
                process.kill()


@pytest.mark.proof
@pytest.mark.parametrize("moment", ["runs", "is just submitted", "waits for a worker", "is fetched", "is mapped"])
async def test_a_scheduler_that_is_gone_is_told_within_seconds(moment: str, tmp_path: Path) -> None:
    numbers = count()

    async def seconds_until_told() -> float:
        folder = tmp_path / f"{next(numbers)}"
        folder.mkdir()
        gone_at = 0.0

        def go() -> None:
            nonlocal gone_at
            process.kill()
            process.wait()
            gone_at = time.monotonic()

        def fetch(*args: Any, **options: Any) -> Any:
            go()
            return gather(*args, **options)

        with scheduler(workers=0 if moment == "waits for a worker" else 1) as (process, address):
            with pytest.raises(ConnectionError, match="the scheduler is gone: "):
                async with rt.dask.open_client(address) as client, session():
                    gather = client.gather
                    monkeypatch.setattr(client, "gather", fetch)
                    if moment == "is mapped":
                        go()
                        async with rt.map_flow(client, flows.hanging_flow, [str(folder)]):
                            raise AssertionError
                    large = flows.large_flow.bind(1_000_000)
                    pending = await rt.submit(client, large if moment == "is fetched" else hanging(folder))
                    if moment == "runs":
                        await until_there(folder / "began")
                    if moment == "waits for a worker":
                        await trio.sleep(0.1)
                    if moment != "is fetched":
                        go()
                    await pending.wait()
            return time.monotonic() - gone_at

    with pytest.MonkeyPatch.context() as monkeypatch:
        figures = await tried(seconds_until_told, below=5)
    assert min(figures) < 5, figures


def hanging(folder: Path) -> rt.BoundFlow[object]:
    return flows.hanging_flow.bind(str(folder))


async def test_a_flow_of_the_program_itself_is_refused_before_anything_is_sent() -> None:
    class Client:
        """Looks like one."""

        __module__ = "distributed.client"

    async def main() -> None: ...

    flow = rt.Flow("main", main, save_state=False)
    async with session() as here:
        with pytest.raises(rt.NodeCreationError, match="assign it to a variable"):
            await rt.submit(Client(), flow.bind())  # type: ignore[arg-type]
    assert here.info.calls == ()


@pytest.mark.proof
async def test_lines_and_broadcasts_of_a_cluster_come_while_the_session_runs(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[object] = []
    async with cluster() as client, session(broadcast_callback=heard.append) as here:
        pending = await rt.submit(client, flows.telling_until_cancelled_flow.bind(str(folder)))
        with trio.fail_after(30):
            while heard != [0, 1, 2]:  # noqa: ASYNC110 - another process broadcasts
                await trio.sleep(0.01)
        assert str(pending.status) == "running"
        pending.cancel()
        # More than may be on their way at once: the workers hear how many were taken.
        async with rt.map_flow(client, flows.telling_flow, [1_500, 1_500]) as finished:
            assert [each.result() async for each in finished] == [1_500, 1_500]
        async with rt.map_flow(client, flows.logging_flow, [1]) as finished:
            async for _ in finished:
                pass
    told = [item for item in heard if item != "cleaned"][3:]
    assert sorted(told, key=str) == sorted([*range(1_500)] * 2, key=str)
    lines: dict[object, list[str]] = {}
    for each in caplog.records:
        if each.name == "shop.orders":
            lines.setdefault(vars(each)["session_id"], []).append(each.getMessage())
    ids = [each.remote.session_id for each in here.info.roots if each.node == "flow telling" and each.remote]
    assert [lines[each] for each in ids] == [[f"told {number}" for number in range(1_500)]] * 2
    texts = [text for each in lines.values() for text in each]
    assert "order 0 of [redacted]" in texts
    assert "canary" not in "".join(texts)
