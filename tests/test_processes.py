"""Process nodes: killed when they have to be, with all that they started; and what crosses the border of a process."""

# Parts of what runs in a worker are called here, in the process that is measured.
# ruff: noqa: SLF001

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
import trio_parallel
import worker_functions as functions
from trio.testing import wait_all_tasks_blocked

import railtracks as rt
from railtracks._workers import processes as _processes
from railtracks._workers.pickling import packed, run_packed, unpacked


def children() -> list[psutil.Process]:
    """Return the worker processes, and whatever these have started, that there are now."""
    # The tracker that multiprocessing starts with the first process of all, and keeps.
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "resource_tracker" not in "".join(child.cmdline())
    ]


def is_gone(process_id: int) -> bool:
    # An orphan that nobody waits for stays a zombie in some containers.
    return not psutil.pid_exists(process_id) or psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE


async def told(path: Path) -> list[int]:
    """Wait, in real time, for the process ids that another process writes."""
    while not path.exists():  # noqa: ASYNC110 - another process makes it
        await trio.sleep(0.01)
    return [int(each) for each in path.read_text("utf-8").split()]


async def test_one_session_of_process_nodes() -> None:
    """Many promises in one session: a worker takes its time to start."""
    async with rt.Session(save_state=False) as session:
        assert await rt.call(functions.double, 4) == 8
        worker = await rt.call(functions.process_id)
        assert psutil.pid_exists(worker)
        # A worker that is warm is used again; also by a session inside.
        async with rt.Session(save_state=False):
            assert await rt.call(functions.process_id) == worker
        assert psutil.pid_exists(worker)
        # Methods, partials, and functions that a node has taken the place of, also as arguments.
        assert await rt.call(functions.Service(3).times, 4) == 12
        assert await rt.call(rt.function_node(functions.named, run_in="process"), 5) == 6
        assert await rt.call(functions.apply, functions.double.fn, 21) == 42
        # An error comes back as its class, with where it came from.
        with pytest.raises(functions.UserError, match="as it is") as caught:
            await rt.call(functions.fail, functions.UserError("as it is"))
        assert caught.value.__notes__[0].startswith("in the worker:\nTraceback")
        assert caught.value.__notes__[1:] == ["in fail"]
        with pytest.raises(SystemExit):
            await rt.call(functions.fail, SystemExit(3))
        assert await rt.call(functions.process_id) == worker
        # A crash costs its own call.
        with pytest.raises(rt.WorkerCrashedError, match="'crash' ended with exit code 3") as crashed:
            await rt.call(functions.crash, 3)
        assert (crashed.value.node, crashed.value.exit_code) == ("crash", 3)
        with pytest.raises(rt.WorkerCrashedError, match="'be_killed' ended by signal 9") as crashed:
            await rt.call(functions.be_killed)
        assert crashed.value.exit_code == -9
        assert await rt.call(functions.double, 1) == 2
        # What cannot be sent is refused before anything is.
        with pytest.raises(TypeError, match=r"node 'double' cannot be sent to a worker: argument 0 cannot be pickled"):
            await rt.call(functions.double, lambda: 1)  # type: ignore[arg-type]
        assert {call.status for call in session.info.calls} == {"completed", "failed"}
    assert children() == []


@pytest.mark.parametrize("how", ["timeout", "cancel", "session"])
async def test_a_process_node_is_killed_with_all_that_it_started(how: str, tmp_path: Path) -> None:
    path = tmp_path / "told"
    node = functions.leave_children.with_options(timeout=1.5 if how == "timeout" else math.inf)
    async with rt.Session(save_state=False) as session, trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(rt.NodeTimeoutError) if how == "timeout" else trio.CancelScope():
                await rt.call(node, str(path), and_stay=True)
            nursery.cancel_scope.cancel()

        nursery.start_soon(call)
        processes = await told(path)
        if how == "cancel":
            nursery.cancel_scope.cancel()
        elif how == "session":
            session.cancel("enough")
        await trio.sleep_forever()
    assert len(processes) == 3
    assert all(is_gone(each) for each in processes)
    assert children() == []
    assert [call.status for call in session.info.calls] == ["failed" if how == "timeout" else "cancelled"]


async def test_what_a_process_node_leaves_running_ends_with_the_session(tmp_path: Path) -> None:
    path = tmp_path / "told"
    async with rt.Session(save_state=False):
        await rt.call(functions.leave_children, str(path), and_stay=False)
        processes = await told(path)
        assert not any(is_gone(each) for each in processes)
    assert all(is_gone(each) for each in processes)


async def test_a_cancel_before_the_job_has_begun_leaves_other_workers_alone(tmp_path: Path) -> None:
    limiter = trio_parallel.current_default_worker_limiter()
    limiter.total_tokens = 1
    path = tmp_path / "told"
    async with rt.Session(save_state=False), rt.open_group() as group:
        busy = group.start_soon(functions.leave_children, str(path), and_stay=True)
        processes = await told(path)
        waiting = group.start_soon(functions.double, 1)
        await wait_all_tasks_blocked()
        waiting.cancel()
        await waiting.wait()
        assert waiting.status == "cancelled"
        assert not any(is_gone(each) for each in processes)
        assert busy.status == "running"
        group.cancel_scope.cancel()
    assert all(is_gone(each) for each in processes)


async def test_a_cancel_while_a_worker_starts_leaves_nothing() -> None:
    async with rt.Session(save_state=False):
        with trio.move_on_after(0.01):
            await rt.call(functions.double, 1)
        assert await rt.call(functions.double, 1) == 2
    assert children() == []


def test_a_node_that_a_process_cannot_find_is_refused_where_it_is_made() -> None:
    def local() -> None:
        pass

    for fn in (local, lambda: None, functools.partial(local)):
        with pytest.raises(rt.NodeCreationError, match="must find it by name: define it at the top level of a module"):
            rt.function_node(fn, run_in="process")


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(rt.NodeCreationError, match="leave out abandon_on_cancel, which is for threads"):
        rt.function_node(functions.add, run_in="process", abandon_on_cancel=True)
    text = "coroutine function: run_in is for functions that run in a worker, leave it out"
    with pytest.raises(rt.NodeCreationError, match=text):
        rt.function_node(functions.coroutine, run_in="process")
    for wrong in ("fork", 3, ["thread"]):
        with pytest.raises(rt.NodeCreationError, match=r"'thread', 'process' or a concurrent\.futures\.Executor"):
            rt.function_node(functions.add, run_in=wrong)  # type: ignore[call-overload]


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from railtracks._nodes import options as _node_options  # noqa: PLC0415

    _node_options._has_processes.cache_clear()
    # To Python a module that is `None` here is not there.
    monkeypatch.setitem(sys.modules, "trio_parallel", None)
    with pytest.raises(ImportError, match=r"pip install 'railtracks-trio\[process\]'"):
        rt.function_node(functions.add, run_in="process")
    _node_options._has_processes.cache_clear()


def test_a_crash_says_how_the_process_ended() -> None:
    assert str(rt.WorkerCrashedError("work")) == "the worker process of node 'work' ended before it had an answer"


async def test_a_session_whose_process_calls_were_all_refused_has_nothing_to_end() -> None:
    async with rt.Session(save_state=False):
        with pytest.raises(TypeError, match="cannot be sent to a worker"):
            await rt.call(functions.double, lambda: 1)  # type: ignore[arg-type]
    assert children() == []


def test_a_worker_says_who_it_is_and_marks_what_it_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    led: list[str] = []
    claims = tmp_path / "claims"
    claims.touch()
    monkeypatch.setattr(os, "setsid", lambda: led.append("group"))
    monkeypatch.setenv("RAILTRACKS_WORKER", "none")
    _processes._lead_a_group(str(claims))
    try:
        assert led == ["group"]
        assert os.environ["RAILTRACKS_WORKER"] == f"{claims}:{os.getpid()}"
        reply = _processes._work(2, packed("node", functions.add, (1, 2), {}))
        assert unpacked("node", reply) == 3
        assert int.from_bytes(claims.read_bytes()[16:], "little") == os.getpid()
    finally:
        os.close(_processes._file)


def test_a_process_that_is_gone_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        told = psutil.Process(process.pid)
    assert not _processes._is_alive(told)
    assert _processes._is_alive(psutil.Process())


# The envelope, opened in the process that closed it


def sent(fn: Any, *args: Any, **kwargs: Any) -> Any:
    return unpacked("node", run_packed(packed("node", fn, args, kwargs)))


def test_functions_arguments_and_results_come_through() -> None:
    assert sent(functions.add, 1, second=2) == 3
    assert sent(functions.double.fn, 4) == 8
    assert sent(functions.apply.fn, functions.double.fn, 4) == 8
    assert sent(functools.partial(functions.double.fn, 4)) == 8
    assert sent(max, [1, 3, 2]) == 3


def test_an_error_comes_with_notes_and_with_what_led_to_it() -> None:
    with pytest.raises(functions.UserError, match="why") as caught:
        sent(functions.fail_with_cause, "why")
    error = caught.value
    assert error.__notes__[0] == "a note of the user's"
    assert error.__notes__[1].startswith("in the worker:\n")
    assert isinstance(error.__cause__, rt.RemoteError)
    assert isinstance(error.__context__, rt.RemoteError)
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("fn", "kind", "message"),
    [
        (functions.fail_with_keyword, "KeywordError", "code 7"),
        (functions.fail_locked, "LockedError", "locked"),
        (functions.fail_wordily, "WordyError", "wordy: once"),
    ],
)
def test_an_error_that_cannot_be_pickled_comes_as_a_record(fn: Any, kind: str, message: str) -> None:
    with pytest.raises(rt.RemoteError) as caught:
        sent(fn)
    error = caught.value
    assert (error.type, error.message) == (f"worker_functions.{kind}", message)
    assert f"in {fn.__name__}" in error.traceback
    assert error.traceback.rstrip() in str(error)


def test_an_error_that_takes_no_note_comes_all_the_same() -> None:
    with pytest.raises(functions.FrozenError):
        sent(functions.fail.fn, functions.FrozenError())


def test_an_error_that_can_only_be_unpickled_there_comes_as_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = run_packed(packed("node", functions.fail.fn, (functions.UserError("gone"),), {}))
    monkeypatch.delattr(functions, "UserError")
    with pytest.raises(rt.RemoteError, match="UserError: gone"):
        unpacked("node", reply)


def test_a_result_that_cannot_be_pickled_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="the result of node 'node' cannot be pickled in its worker"):
        sent(functions.make_lock)


def test_a_result_that_cannot_be_unpickled_is_a_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = run_packed(packed("node", functions.Service, (1,), {}))
    monkeypatch.delattr(functions, "Service")
    with pytest.raises(TypeError, match="the result of node 'node' cannot be unpickled"):
        unpacked("node", reply)


def test_what_is_no_job_is_an_error_and_no_crash() -> None:
    with pytest.raises(Exception, match=r"invalid load key|pickle data"):
        unpacked("node", run_packed(b"nonsense"))


def test_a_function_that_the_worker_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = packed("node", functions.crash.fn, (3,), {})
    monkeypatch.delattr(functions, "crash")
    with pytest.raises(TypeError, match="the module 'worker_functions' of a worker has no function 'crash'"):
        unpacked("node", run_packed(payload))


def test_a_sync_function_that_hands_on_a_coroutine_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="node 'node' was made of a sync function, but it returned a coroutine"):
        sent(functions.hand_on_a_coroutine)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "what"),
    [
        (lambda: 1, (), {}, "its function"),
        (functions.add, (1, lambda: 1), {}, "argument 1"),
        (functions.add, (1,), {"second": lambda: 1}, "argument 'second'"),
    ],
)
def test_what_cannot_be_pickled_is_named(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> None:
    with pytest.raises(TypeError, match=f"node 'node' cannot be sent to a worker: {what} cannot be pickled"):
        packed("node", fn, args, kwargs)
