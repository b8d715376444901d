"""What users of other libraries ask for in their hosts, each as a test: notebooks, FastAPI, a stop button, threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable
from importlib.util import find_spec
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Annotated

import psutil
import pytest
import remote_flows as flows
import trio
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from remote_sessions import cluster

import railtracks as rt

pytestmark = pytest.mark.usefixtures("no_trio_thread_afterwards")

WAIT = 10


@rt.function_node
async def double(number: int) -> int:
    await trio.sleep(0.001)
    return 2 * number


DOUBLE = rt.Flow("double", double, save_state=False)


# openai-agents 77 and 127, pydantic-ai 3014, agency-swarm 244: "this event loop is already running".
def test_the_first_example_runs_where_an_event_loop_is_already_running() -> None:
    async def cell() -> tuple[int, list[int]]:
        return await DOUBLE.ainvoke(4), await asyncio.gather(*(DOUBLE.ainvoke(number) for number in range(3)))

    # A cell, twice in one loop, as in a notebook; tests/test_asyncio_hosts.py runs a real kernel.
    with asyncio.Runner() as kernel:
        assert kernel.run(cell()) == (8, [0, 2, 4])
        assert kernel.run(cell()) == (8, [0, 2, 4])


async def awaited() -> int:
    return await DOUBLE.ainvoke(3)


def in_a_thread() -> int:
    return DOUBLE.invoke(4)


# any-agent 121: errors of the event loop in FastAPI, wherever it is put.
def test_in_fastapi_a_flow_runs_wherever_it_is_put() -> None:
    came: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        came["startup"] = await DOUBLE.ainvoke(1)
        yield
        came["shutdown"] = await DOUBLE.ainvoke(2)

    app = FastAPI(lifespan=lifespan)

    async def later() -> None:
        came["later"] = await DOUBLE.ainvoke(5)

    def later_in_a_thread() -> None:
        came["later in a thread"] = DOUBLE.invoke(6)

    @app.get("/async")
    async def endpoint(one: Annotated[int, Depends(awaited)], two: Annotated[int, Depends(in_a_thread)]) -> list[int]:
        return [one, two, await DOUBLE.ainvoke(7)]

    @app.get("/sync")
    def sync_endpoint(tasks: BackgroundTasks) -> int:
        tasks.add_task(later)
        tasks.add_task(later_in_a_thread)
        return DOUBLE.invoke(8)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(await DOUBLE.ainvoke(await websocket.receive_json()))
        await websocket.close()

    with TestClient(app) as client:
        assert client.get("/async").json() == [6, 8, 14]
        assert client.get("/sync").json() == 16
        with client.websocket_connect("/socket") as connected:
            connected.send_json(9)
            assert connected.receive_json() == 18
    assert came == {"startup": 2, "shutdown": 4, "later": 10, "later in a thread": 12}


# agno 3106 and 4331: the user presses stop, and the server stops the run.
def test_a_user_presses_stop_and_the_run_on_the_server_stops() -> None:
    app, runs = FastAPI(), dict[str, asyncio.Task[int]]()
    events: list[str] = []
    began = threading.Event()

    async def agent() -> int:
        began.set()
        try:
            await trio.sleep_forever()
            return 0
        finally:
            events.append("cleaned up")

    flow = rt.Flow("agent", agent, save_state=False)

    @app.post("/runs/{name}")
    async def begin(name: str) -> None:
        runs[name] = asyncio.create_task(flow.ainvoke())

    @app.delete("/runs/{name}")
    async def stop(name: str) -> str:
        run = runs.pop(name)
        run.cancel()
        await asyncio.wait([run])
        return "stopped" if run.cancelled() else "ended"

    with TestClient(app) as client:
        client.post("/runs/one")
        assert began.wait(WAIT)
        assert client.delete("/runs/one").json() == "stopped"
        assert events == ["cleaned up"]


# dask 1183 and 6500, distributed 2617 and 2106: stop a running task, and know whether it still runs. Here in a process
# of this machine.
@pytest.mark.proof
async def test_a_running_task_in_another_process_is_stopped_and_does_not_run_any_more() -> None:
    async with rt.Session(save_state=False) as session:
        pid = await rt.call(rt.function_node(os.getpid, run_in="process"))
        pending = session.start_soon(rt.function_node(busy, run_in="process"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert pending.status == "running"
        pending.cancel()
        await pending.wait()
        assert pending.status == "cancelled"
    assert not psutil.pid_exists(pid)


# The same on a cluster, where Dask's own `cancel` lets it run on.
@pytest.mark.proof
@pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed")
async def test_a_running_session_on_a_cluster_is_stopped_and_known_not_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = str(Path(rt.__file__).parent.parent), str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*ours, os.environ.get("PYTHONPATH", "")]))
    async with cluster() as client, rt.Session(save_state=False):
        pending = await rt.submit(client, flows.hanging_flow.bind(str(tmp_path)))
        with trio.fail_after(6 * WAIT):
            while not (tmp_path / "began").exists():  # noqa: ASYNC110 - another process
                await trio.sleep(0.01)
        (running,) = [each for each in client.run(flows.running_here).values() if each]
        assert running == [str(tmp_path)]
        assert str(pending.status) == "running"
        pending.cancel("stop")
        await pending.wait()
        assert str(pending.status) == "cancelled"
        assert (tmp_path / "cleaned").exists()
        # The workers themselves say so, and then Dask does.
        assert list(client.run(flows.running_here).values()) == [[], []]
        with trio.fail_after(WAIT):
            while any(client.processing().values()):  # noqa: ASYNC110 - other processes
                await trio.sleep(0.01)


def busy() -> None:
    """Compute for longer than the test takes."""
    while True:
        pass


# prefect 12976: a flow that is cancelled leaves its workers behind.
@pytest.mark.proof
def test_a_flow_that_is_cancelled_by_its_host_leaves_no_worker_behind() -> None:
    workers: list[int] = []
    began = threading.Event()

    async def work() -> None:
        workers.append(await rt.call(rt.function_node(os.getpid, run_in="process")))
        began.set()
        await rt.call(rt.function_node(busy, run_in="process"))

    def serve() -> None:
        with pytest.raises(rt.SessionCancelledError):
            rt.Flow("work", work, save_state=False).invoke()

    before = set(psutil.Process().children(recursive=True))
    thread = threading.Thread(target=serve)
    thread.start()
    assert began.wait(WAIT)
    rt.shutdown(0)
    thread.join(WAIT)
    _, left = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=WAIT)
    assert left == []


# The same where the workers are a Dask cluster's.
@pytest.mark.proof
@pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed")
def test_a_flow_that_is_cancelled_by_its_host_leaves_no_process_of_its_dask_cluster_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = str(Path(rt.__file__).parent.parent), str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*ours, os.environ.get("PYTHONPATH", "")]))
    folders = [tmp_path / "one", tmp_path / "two"]
    began = threading.Event()

    async def survey() -> None:
        async with (
            cluster(threads=1) as client,
            rt.map_flow(client, flows.patient_flow, [str(each) for each in folders]) as finished,
        ):
            while not all((each / "began").exists() for each in folders):  # noqa: ASYNC110 - other processes
                await trio.sleep(0.01)
            began.set()
            async for _ in finished:
                raise AssertionError

    def serve() -> None:
        with pytest.raises(rt.SessionCancelledError):
            rt.Flow("survey", survey, save_state=False).invoke()

    for each in folders:
        each.mkdir()
    # Python has one process of its own for all that are spawned, until the program ends.
    resource_tracker.ensure_running()
    here = psutil.Process()
    before = set(here.children(recursive=True))
    thread = threading.Thread(target=serve)
    thread.start()
    assert began.wait(6 * WAIT)
    workers = set(here.children(recursive=True)) - before
    assert len(workers) >= 2
    rt.shutdown(0)
    thread.join(6 * WAIT)
    assert not thread.is_alive()
    assert all((each / "cleaned").exists() for each in folders)
    _, left = psutil.wait_procs(workers | (set(here.children(recursive=True)) - before), timeout=WAIT)
    assert left == []


# pydantic-ai 6497: a token that stops a blocked run from another thread. hermes-agent 11907: an interrupt has to reach
# the threads of tools.
@pytest.mark.parametrize("in_thread", [True, False])
def test_a_blocked_run_is_stopped_from_another_thread_and_so_is_the_flow_of_its_tool(in_thread: bool) -> None:
    events: list[str] = []
    began = threading.Event()

    async def inner() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            events.append("inner")

    tool: Callable[[], None] = rt.Flow("inner", inner, save_state=False).invoke
    flow = rt.Flow("outer", rt.function_node(tool, name="tool"), save_state=False, in_thread=in_thread)

    def stop() -> None:
        began.wait(WAIT)
        rt.shutdown(0)

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(rt.SessionCancelledError):
        flow.invoke()
    stopping.join(WAIT)
    assert events == ["inner"]
