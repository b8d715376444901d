"""Many sessions on real Dask clusters: a thousand of them, cancels by the hundred, kills for minutes, many records.

The figures go to the report of pytest (`--junitxml`). How many records come in a second, and at what cost, counts in
the full proof, `RAILTRACKS_PROOF` of 1 or more.
"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import remote_flows as flows
import trio
from postgres_server import PostgresServer
from proof_rounds import is_full, rounds
from remote_sessions import (  # noqa: F401 - two are fixtures
    cluster,
    folder_fixture,
    importable_flows_fixture,
    session,
    tried,
    workers_fail_nothing,
)
from rows import Row, row_fixture  # noqa: F401 - a fixture
from telling import Telling

import railtracks as rt

if TYPE_CHECKING:
    from distributed import Client

# Looked for, not imported: each process that collects the tests would import it.
pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed"),
    pytest.mark.usefixtures("row"),
]


async def begun(folders: list[Path], count: int) -> None:
    with trio.fail_after(60):
        while sum((each / "began").exists() for each in folders) < count:  # noqa: ASYNC110 - other processes
            await trio.sleep(0.01)


def folders_in(folder: Path, count: int) -> list[Path]:
    made = [folder / f"session-{number}" for number in range(count)]
    for each in made:
        each.mkdir(parents=True)
    return made


async def test_a_thousand_sessions_with_a_complete_tree_and_one_that_is_cancelled_by_its_scope(
    folder: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    number, figures = rounds(full=1_000, handful=100), list[float]()
    async with cluster() as client, session() as here:
        places = iter(folders_in(folder, 3))

        async def seconds_of_a_cancel() -> float:
            one = next(places)
            with trio.CancelScope() as scope:
                async with rt.map_flow(client, flows.hanging_flow, [str(one)]) as finished:
                    await begun([one], 1)
                    cancelled_at = trio.current_time()
                    scope.cancel()
                    async for _ in finished:
                        pass
            assert (one / "cleaned").exists()
            return trio.current_time() - cancelled_at

        async def one_more() -> None:
            figures.extend(await tried(seconds_of_a_cancel, below=2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one_more)
            async with rt.map_flow(client, flows.total_flow, [3] * number) as finished:
                assert [pending.result() async for pending in finished] == [3] * number
    record_testsuite_property("seconds until it was cancelled and cleaned up", min(figures))
    assert min(figures) < 2, figures
    roots = [each for each in here.info.roots if each.node == "flow total"]
    assert len(roots) == number
    below: dict[int | None, list[rt.CallRecord]] = {}
    for each in here.info.calls:
        below.setdefault(each.parent_id, []).append(each)
    for root in roots:
        (entry,) = below[root.id]
        assert sorted(each.args[0] for each in below[entry.id]) == [0, 1, 2]
        assert root.remote is not None
        assert root.remote.missing == 0


# `cluster` looks into the logs of its workers, after the cancels, kills and timeouts of all tests here.
async def test_errors_and_timeouts_of_sessions_are_no_errors_of_dask(folder: Path) -> None:
    async with cluster() as client, session():
        async with rt.map_flow(client, flows.refused_flow, ["Ada"] * 20) as finished:
            assert {str(pending.status) async for pending in finished} == {"failed"}
        async with rt.map_flow(client, flows.hanging_flow, [str(folder)], timeout=0.1) as finished:
            async for pending in finished:
                with pytest.raises(rt.SessionTimeoutError):
                    pending.result()


@pytest.mark.parametrize("worker", ["is closed", "is killed", "is in this process"])
async def test_an_error_of_dask_would_be_seen_in_the_log_of_a_worker_that(worker: str) -> None:
    async def fail() -> None:
        async with cluster(1, processes=worker != "is in this process") as client:
            failing = client.submit(flows.refuse.__call__, "Ada")
            await trio.to_thread.run_sync(failing.exception)
            if worker == "is killed":
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    with pytest.raises(AssertionError, match="Compute Failed"):
        await fail()


async def test_a_hundred_cancels_at_once_reach_a_hundred_sessions_and_those_that_wait_never_begin(
    folder: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    running, waiting = rounds(full=100, handful=20), 10
    numbers = count()

    async def seconds_of_cancels(client: Client) -> float:
        places = folders_in(folder / f"try-{next(numbers)}", running + waiting)
        sent = [await rt.submit(client, flows.hanging_flow.bind(str(each))) for each in places]
        await begun(places, running)
        cancelled_at = trio.current_time()
        for each in sent:
            each.cancel()
        for each in sent:
            await each.wait()
        took = trio.current_time() - cancelled_at
        await trio.sleep(0.3)
        assert sum((each / "began").exists() for each in places) == running
        assert sum((each / "cleaned").exists() for each in places) == running
        return took

    async with cluster(threads=running // 2) as client, session() as here:
        figures = await tried(partial(seconds_of_cancels, client), below=2)
    record_testsuite_property("seconds until all were cancelled and cleaned up", min(figures))
    assert min(figures) < 2, figures
    assert {str(each.status) for each in here.info.calls} == {"cancelled"}


@pytest.fixture
def durable_flow(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> rt.Flow[..., object]:
    url = postgres.fresh_url()
    monkeypatch.setenv("REMOTE_FLOWS_STORE", url)
    flow = rt.Flow("keyed", flows.keyed_steps, durable=url, save_state=False, logging_setting="NONE")
    monkeypatch.setattr(flows, "keyed_flow", flow)
    return flow


async def test_while_workers_are_killed_no_call_that_was_acknowledged_runs_again(
    folder: Path, durable_flow: rt.Flow[..., object], row: Row, record_testsuite_property: Callable[[str, object], None]
) -> None:
    lasts, random_ = float(rounds(full=120, handful=6)), random.Random(15)
    row.seconds += lasts
    kills = 0

    async def kill_workers(client: Client) -> None:
        nonlocal kills
        while trio.current_time() < ends_at:
            await trio.sleep(random_.uniform(0.5, 2.0))
            workers = await trio.to_thread.run_sync(client.nthreads)
            # While one of them is begun anew the other one goes on, or a slow machine would get nothing done.
            if len(workers) == 2:
                nannies: list[Any] = list(client.cluster.workers.values())
                with suppress(ProcessLookupError, TypeError):
                    os.kill(random_.choice(nannies).pid, signal.SIGKILL)
                    kills += 1

    names = iter(f"session-{number}" for number in range(1_000_000))
    done: dict[str, object] = {}
    async with cluster() as client, session(), trio.open_nursery() as nursery:
        left = list[str]()
        ends_at = trio.current_time() + lasts
        nursery.start_soon(kill_workers, client)
        while left or trio.current_time() < ends_at:
            batch = [*left, *(next(names) for _ in range(20 if trio.current_time() < ends_at else 0))]
            inputs = [rt.args(str(folder), name) for name in batch]
            left = []
            async with rt.map_flow(client, durable_flow, inputs, session_ids=lambda _, name: name) as finished:
                async for pending in finished:
                    name = pending.args[1]
                    try:
                        done[name] = pending.result()
                    except (rt.WorkerLostError, rt.SessionOwnedError, rt.SessionLostError):
                        # Its workers died four times, or its owner's lease has not ended yet: the next round.
                        left.append(name)
        nursery.cancel_scope.cancel()
    assert kills > lasts / 40
    assert set(done.values()) == {10}
    again = 0
    for name in done:
        lines = [line.split() for line in (folder / name).read_text().splitlines()]
        numbers = [int(number) for number, _ in lines]
        # A step begins when the one before it was acknowledged. So one that ran again after that would stand here.
        assert numbers == sorted(numbers), name
        assert set(numbers) == set(range(5))
        assert len({key for _, key in lines}) == 5, "each step has one key, however often it runs"
        again += len(numbers) - 5
    record_testsuite_property("kills, sessions, steps that ran again unacknowledged", (kills, len(done), again))


class Steps(trio.abc.Instrument):
    """Measures how long the thread that runs Trio computes between two checkpoints, in seconds of its CPU."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._begun = math.inf

    def before_task_step(self, _: object) -> None:
        self._begun = time.thread_time()

    def after_task_step(self, _: object) -> None:
        # The rest of the step in which this is added counts as nothing.
        self.longest = max(self.longest, time.thread_time() - self._begun)


class Measured(NamedTuple):
    """What many records have cost: calls a second, and seconds of CPU between two checkpoints."""

    rate: float
    step: float


async def records_of_many_calls(client: Client, here: rt.Session, workers: int, each_second: int) -> Measured:
    """Have each worker run a session that makes its calls at their times, and look at the records that come."""
    calls = each_second // workers * rounds(full=5, handful=3 if each_second == 1_000 else 1)
    inputs = [rt.args(calls, each_second // workers)] * workers
    steps, before = Steps(), len(here.info.roots)
    async with rt.map_flow(client, flows.paced_flow, inputs, limit=workers) as finished:
        begun_at = trio.current_time()
        told = Telling(here, "no_work")
        for each in (steps, told):
            trio.lowlevel.add_instrument(each)
        results = [pending.result() async for pending in finished]
        for each in (steps, told):
            trio.lowlevel.remove_instrument(each)
        took = trio.current_time() - begun_at
    assert results == [calls] * workers
    for root in here.info.roots[before:]:
        assert root.remote is not None
        assert root.remote.missing == 0
        (entry,) = here.info.children(root.id)
        assert [each.result for each in here.info.children(entry.id)] == list(range(calls))
    # Fifty records go at once.
    assert 0 < told.most <= 50
    return Measured(calls * workers / took, steps.longest)


@pytest.mark.parametrize(("workers", "each_second"), [(2, 1_000), (4, 10_000)])
async def test_records_of_many_calls_a_second_come_in_order_and_none_is_lost(
    workers: int, each_second: int, row: Row, record_testsuite_property: Callable[[str, object], None]
) -> None:
    # Three tries, and ten times as many calls as two cores make in a second.
    row.seconds += 10 * rounds(full=5, handful=1)
    async with cluster(workers, 1) as client, session() as here:
        # Each worker imports the flows first.
        async with rt.map_flow(client, flows.paced_flow, [rt.args(10, 100)] * workers, limit=workers) as finished:
            assert [pending.result() async for pending in finished] == [10] * workers
        found = [await records_of_many_calls(client, here, workers, each_second)]
        # A machine of two cores has no room for four workers and the rate, nor for other tests beside two.
        if is_full() and each_second == 1_000:
            while len(found) < 3 and not keeps_up(found[-1]):
                found.append(await records_of_many_calls(client, here, workers, each_second))
            assert keeps_up(found[-1]), found
    record_testsuite_property("calls a second", found[-1].rate)
    record_testsuite_property("seconds of CPU between two checkpoints", found[-1].step)


def keeps_up(measured: Measured) -> bool:
    return measured.rate >= 900 and measured.step < 0.02


class Wire:
    """A relay to the scheduler of a cluster, which keeps what goes through it."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self._target = host, int(port)
        self.seen = bytearray()

    async def relay(self, near: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(*self._target) as far, near, trio.open_nursery() as nursery:

            async def pass_on(source: trio.SocketStream, target: trio.SocketStream) -> None:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async for some in source:
                        self.seen += some
                        await target.send_all(some)
                nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, near, far)
            nursery.start_soon(pass_on, far, near)


async def test_no_secret_that_was_born_on_a_worker_goes_over_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is compressed would hide it.
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__COMPRESSION", "None")
    with workers_fail_nothing() as preload:
        wire, here = await sent_over_a_wire(preload)
    assert {"born_there", "order"} <= {each.node for each in here.info.calls}
    # All that was told has gone this way.
    assert b"the password [redacted] is wrong" in wire.seen
    assert b"order 0 of [redacted]" in wire.seen
    assert b"canary-of-the-worker" not in wire.seen


async def sent_over_a_wire(preload: str) -> tuple[Wire, rt.Session]:
    """Send sessions with secrets to a worker whose connections are listened to."""
    async with rt.dask.open_cluster(0, processes=False, silence_logs=50) as around, trio.open_nursery() as nursery:
        wire = Wire(around.cluster.scheduler_address)
        (listener,) = await nursery.start(partial(trio.serve_tcp, wire.relay, 0, host="127.0.0.1"))
        address = f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", preload]
        worker = [sys.executable, "-m", "dask", "worker", address, *options]
        await nursery.start(partial(trio.run_process, worker, stderr=subprocess.DEVNULL, check=False))
        async with rt.dask.open_client(address) as client, session() as here:
            for flow, inputs in ((flows.hiding_flow, [rt.args()]), (flows.logging_flow, [1])):
                async with rt.map_flow(client, flow, inputs) as finished:
                    assert [str(pending.status) async for pending in finished] == ["completed"]
        nursery.cancel_scope.cancel()
    return wire, here
