"""Process nodes: killed when they have to be, with all that they started; and what crosses the border of a process."""

# The guardian runs in a process of its own; one part of it is called in the process of the tests.
# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import errno
import functools
import json
import math
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
import worker_functions as functions
import worker_with_timer
from proof_rounds import proved
from trio.testing import wait_all_tasks_blocked

import railtracks as rt
from railtracks._nodes import worker_modules
from railtracks._workers import guardian
from railtracks._workers.guarded import Guardian, Worker, WorkerEndedError
from railtracks._workers.messages import NOT_STARTED, REPLY, Decoder, Frame, encoded
from railtracks._workers.processes import WorkerPool
from railtracks._workers.worker import MissingMain

# One that leaves the process group, one that leaves all that can be found again.
WAYS_TO_LEAVE = [functions.WAYS_TO_LEAVE[1], functions.WAYS_TO_LEAVE[3], *proved(*functions.WAYS_TO_LEAVE[::2])]


def children() -> list[psutil.Process]:
    """Return the guardians and the worker processes, and whatever these have started, that there are now."""
    # The tracker that multiprocessing starts with the first process of all, and keeps.
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "resource_tracker" not in "".join(child.cmdline())
    ]


pytestmark = pytest.mark.usefixtures("measured_processes")


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = children()
    yield
    monkeypatch.undo()
    assert [child for child in children() if child not in before] == []


def is_gone(process_id: int) -> bool:
    # An orphan that nobody waits for stays a zombie in some containers.
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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
        assert await rt.call(functions.remembered, 4) == 12
        assert await rt.call(functions.apply, functions.remembered.fn, 5) == 15
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


@pytest.mark.parametrize("how", ["cancel", *proved("timeout", "session")])
async def test_a_process_node_is_killed_with_all_that_it_started(how: str, tmp_path: Path) -> None:
    path = tmp_path / "told"
    node = functions.leave_children.with_options(timeout=1.5 if how == "timeout" else math.inf)
    async with rt.Session(save_state=False) as session, trio.open_nursery() as nursery:
        # The timeout counts the start of a worker, which takes long on a busy machine.
        await session.start_workers(1)

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
    assert [call.status for call in session.info.calls] == ["failed" if how == "timeout" else "cancelled"]


@pytest.mark.parametrize("how", WAYS_TO_LEAVE)
async def test_what_a_process_node_has_started_is_gone_when_its_call_ends(how: str, tmp_path: Path) -> None:
    path = tmp_path / "told"
    async with rt.Session(save_state=False):
        assert await rt.call(functions.leave_a_process, str(path), how) == "left"
        (left,) = await told(path)
        assert is_gone(left)
        # The next call gets another worker.
        assert await rt.call(functions.double, 4) == 8


@pytest.mark.parametrize("how", WAYS_TO_LEAVE)
async def test_what_a_process_node_has_started_is_gone_when_it_crashes(how: str, tmp_path: Path) -> None:
    path = tmp_path / "told"
    async with rt.Session(save_state=False):
        with pytest.raises(rt.WorkerCrashedError):
            await rt.call(functions.leave_a_process, str(path), how, and_crash=True)
        (left,) = await told(path)
        assert is_gone(left)


@pytest.mark.proof
async def test_a_timeout_does_not_wait_for_a_shell_that_the_node_waits_for() -> None:
    async with rt.Session(save_state=False):
        await rt.call(functions.double, 1)
        started = trio.current_time()
        with pytest.raises(rt.NodeTimeoutError):
            await rt.call(functions.run_in_shell.with_options(timeout=0.3), "sleep 15")
        assert trio.current_time() - started < 12


@pytest.mark.parametrize(
    ("how", "result"),
    [
        ("return", [0, "parent"]),
        *proved(("exit", [5, "parent"]), ("raise", [1, "parent"]), ("say", [1, "parent"])),
    ],
)
async def test_a_process_that_a_node_forks_sends_no_reply(how: str, result: list[Any]) -> None:
    async with rt.Session(save_state=False):
        assert await rt.call(functions.fork, how) == result
        assert await rt.call_batch(functions.double, range(20), limit=3) == [2 * each for each in range(20)]


@pytest.mark.parametrize(
    ("how", "code"), [("segfault", -11), ("close", -9), *proved(("exec", -9), ("write", -9), ("daemonise", 0))]
)
async def test_a_worker_that_is_lost_costs_its_own_call(how: str, code: int) -> None:
    async with rt.Session(save_state=False):
        async with rt.open_group() as group:
            others = [group.start_soon(functions.double, each) for each in range(8)]
            with pytest.raises(rt.WorkerCrashedError) as caught:
                await rt.call(functions.be_lost, how)
        assert caught.value.exit_code == code
        assert [each.result() for each in others] == [2 * each for each in range(8)]


@pytest.mark.proof
async def test_multiprocessing_works_in_a_process_node() -> None:
    async with rt.Session(save_state=False):
        assert await rt.call(functions.square_in_a_pool, [1, 2, 3]) == [1, 4, 9]
        assert await rt.call(functions.double, 4) == 8


@pytest.mark.proof
async def test_a_call_that_is_cancelled_as_it_waits_leaves_the_starting_worker_to_the_next() -> None:
    with pytest.MonkeyPatch.context() as patch:
        import slow_to_import  # noqa: PLC0415

        patch.setenv("SLOW_TO_IMPORT", "0.8")
        node = rt.function_node(slow_to_import.crunch, run_in="process", timeout=0.5)
        async with rt.Session(save_state=False):
            with pytest.raises(rt.NodeTimeoutError, match=r"crunch .1. waited") as late:
                await rt.call(node, 1)
            assert late.value.open_calls == ("crunch (1) waited 0.5 s until a worker process had started or was free",)
            results = [await rt.call(node.with_options(timeout=math.inf), 1), await rt.call(node, 2)]
            assert results[0] == results[1]


@pytest.mark.proof
async def test_a_session_timeout_says_what_was_waited_for(tmp_path: Path) -> None:
    rt.set_config(process_limit=1)
    path = tmp_path / "told"
    async with rt.Session(save_state=False), rt.open_group() as group:
        group.start_soon(functions.leave_children, str(path), and_stay=True)
        await told(path)
        with pytest.raises(rt.SessionTimeoutError, match=r"seconds: double \(1\) waited .* until a worker"):
            await rt.Flow("late", functions.double, timeout=0.2, save_state=False).ainvoke(2)
        group.cancel_scope.cancel()


@pytest.mark.proof
async def test_a_call_that_is_cancelled_in_the_line_leaves_other_workers_alone(tmp_path: Path) -> None:
    rt.set_config(process_limit=1)
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


@pytest.mark.proof
async def test_a_cancel_while_a_worker_starts_leaves_nothing() -> None:
    async with rt.Session(save_state=False):
        with trio.move_on_after(0.01):
            await rt.call(functions.double, 1)
        assert await rt.call(functions.double, 1) == 2
    async with rt.Session(save_state=False):
        with trio.move_on_after(0.01):
            await rt.call(functions.double, 1)


@pytest.mark.proof
async def test_a_worker_that_ends_as_it_is_prepared_costs_one_call_each_time() -> None:
    with pytest.MonkeyPatch.context() as patch:
        import ends_as_imported  # noqa: PLC0415

        patch.setenv("ENDS_AS_IMPORTED", "7")
        node = rt.function_node(ends_as_imported.crunch, run_in="process")
        async with rt.Session(save_state=False) as session:
            with pytest.raises(rt.WorkerCrashedError, match="'crunch' ended with exit code 7"):
                await rt.call(node)
            with pytest.raises(rt.WorkerCrashedError, match="'start_workers' ended with exit code 7"):
                await session.start_workers(1)
            patch.delenv("ENDS_AS_IMPORTED")
            assert await rt.call(node) == "crunched"
    worker_modules.PROCESS_MODULES.discard("ends_as_imported")


@pytest.mark.proof
async def test_workers_that_were_started_before_serve_the_first_calls() -> None:
    rt.set_config(process_limit=3)
    async with rt.Session(save_state=False) as session:
        await rt.call(functions.double, 1)
        await session.start_workers(3)
        workers = {child.pid for child in children() if child.ppid() != os.getpid()}
        assert len(workers) == 3
        async with rt.Session(save_state=False):
            seen = set(await rt.call_batch(functions.process_id, range(30)))
        assert seen <= workers
        with pytest.raises(ValueError, match=r"start_workers\(4\): there may be 3 workers, see set_config"):
            await session.start_workers(4)
        with pytest.raises(ValueError, match="count must be at least 1"):
            await session.start_workers(0)


async def test_no_more_workers_than_the_limit_run_at_once() -> None:
    rt.set_config(process_limit=2)
    async with rt.Session(save_state=False):
        assert len(set(await rt.call_batch(functions.process_id, range(20)))) <= 2


@pytest.mark.proof
async def test_a_worker_that_was_killed_while_it_was_idle_is_replaced() -> None:
    async with rt.Session(save_state=False):
        worker = await rt.call(functions.process_id)
        os.kill(worker, signal.SIGKILL)
        while not is_gone(worker):  # noqa: ASYNC110 - another process
            await trio.sleep(0.01)
        await trio.sleep(0.1)  # noqa: ASYNC110 - until the guardian has said so, in real time
        assert await rt.call(functions.process_id) != worker


@pytest.mark.proof
async def test_when_the_guardian_is_killed_its_workers_end_and_the_next_call_gets_another() -> None:
    async with rt.Session(save_state=False):
        worker = await rt.call(functions.process_id)
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(rt.WorkerCrashedError) as caught:
                    await rt.call(functions.wait_for_ever)
                assert caught.value.exit_code is None

            nursery.start_soon(call)
            await wait_all_tasks_blocked()
            parent = psutil.Process(worker).parent()
            assert parent is not None
            parent.kill()
        while not is_gone(worker):  # noqa: ASYNC110 - another process
            await trio.sleep(0.01)
        assert await rt.call(functions.double, 2) == 4


@pytest.mark.proof
async def test_a_node_that_kills_the_guardian_costs_no_call_that_begins_later() -> None:
    async with rt.Session(save_state=False):
        with pytest.raises(rt.WorkerCrashedError):
            await rt.call(functions.kill_the_parent)
        assert await rt.call_batch(functions.double, range(3)) == [0, 2, 4]


async def test_a_node_that_stops_the_guardian_holds_up_no_call_that_begins_later_and_no_end_of_a_session() -> None:
    with trio.fail_after(60):
        async with rt.Session(save_state=False):
            assert await rt.call(functions.stop_the_parent) == "stopped"
            with pytest.raises(rt.WorkerCrashedError):
                await rt.call(functions.crash, 3)
            assert await rt.call(functions.double, 2) == 4
            assert await rt.call(functions.stop_the_parent) == "stopped"


async def test_a_timer_that_a_node_has_left_running_strikes_no_later_call() -> None:
    async with rt.Session(save_state=False):
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            worker = await rt.call(functions.leave_a_timer, timer)
            assert await rt.call(functions.timer_left, timer) == (worker, 0)


async def test_a_timer_that_a_module_has_begun_runs_on_in_later_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_TIMER", "1")
    async with rt.Session(save_state=False):
        for _ in range(2):
            assert await rt.call(worker_with_timer.timer_left) > 0


async def test_an_order_for_which_the_system_has_no_room_costs_that_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    orders, send = 0, socket.send_fds

    def send_fds(*args: Any) -> int:
        nonlocal orders
        orders += 1
        # The first worker is started, and not killed for its timeout; the second one is not started.
        if orders in {2, 3}:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return send(*args)

    monkeypatch.setattr(socket, "send_fds", send_fds)
    async with rt.Session(save_state=False):
        await rt.call(functions.process_id)
        with pytest.raises(rt.NodeTimeoutError):
            await rt.call(functions.hang_for_half_a_second)
        with pytest.raises(rt.WorkerCrashedError):
            await rt.call(functions.double, 1)
        assert await rt.call(functions.double, 2) == 4


async def test_a_problem_of_pickling_that_has_no_text_is_told_without_one() -> None:
    async with rt.Session(save_state=False):
        with pytest.raises(TypeError, match=r"cannot be pickled in its worker: <no text: ValueError in __str__>"):
            await rt.call(functions.make_a_result_whose_problem_has_no_text)


async def test_a_result_that_ends_the_program_as_it_is_pickled_is_an_error_that_says_so() -> None:
    async with rt.Session(save_state=False):
        with pytest.raises(TypeError, match=r"'make_a_result_that_leaves' cannot be pickled .*: SystemExit: no result"):
            await rt.call(functions.make_a_result_that_leaves)
        with pytest.raises(functions.LeavingError, match="not this time") as caught:
            await rt.call(functions.fail_with_a_detail_that_leaves)
    assert not hasattr(caught.value, "detail")


@pytest.mark.proof
async def test_a_call_whose_guardian_has_just_been_killed_crashes_or_gets_another_worker() -> None:
    async with rt.Session(save_state=False):
        worker = await rt.call(functions.process_id)
        killed = psutil.Process(worker).parent()
        assert killed is not None
        killed.kill()
        # Without a checkpoint: the pool has not heard of it.
        while not (is_gone(killed.pid) and is_gone(worker)):
            time.sleep(0.001)  # noqa: ASYNC251 - the same
        # At the checkpoint of this call the pool may hear of it, or not.
        with contextlib.suppress(rt.WorkerCrashedError):
            assert await rt.call(functions.double, 2) == 4
        assert await rt.call(functions.double, 2) == 4


@pytest.mark.proof
async def test_a_worker_of_a_guardian_that_has_ended_may_be_killed_again() -> None:
    guardian_process = await Guardian.open(sys.path)
    worker = guardian_process.start_worker()
    guardian_process.end()
    await guardian_process.listen()
    assert worker.ended.is_set()
    # Both orders come too late: the one of a call that is cancelled, and the one of the session that ends.
    worker.kill()
    worker.kill()
    assert guardian_process.workers == []
    worker.let_go()
    await guardian_process.close()


@pytest.mark.proof
async def test_a_call_that_is_cancelled_as_it_gets_a_worker_gives_the_worker_back() -> None:
    rt.set_config(process_limit=1)
    async with rt.Session(save_state=False):
        worker = await rt.call(functions.process_id)
        async with trio.open_nursery() as nursery, rt.open_group() as group:

            async def call_and_cancel() -> None:
                await rt.call(functions.process_id, pause=0.2)
                # The worker was given to the other call in this very step.
                waiting.cancel()

            nursery.start_soon(call_and_cancel)
            await wait_all_tasks_blocked()
            waiting = group.start_soon(functions.double, 1)
        assert waiting.status == "cancelled"
        assert await rt.call(functions.process_id) == worker


async def test_a_pool_that_is_closed_before_its_first_worker_starts_starts_none() -> None:
    async with trio.open_nursery() as nursery:
        pool = WorkerPool(nursery)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.start(1)
        # Before the task that starts the worker has begun.
        await pool.close()


def test_a_guardian_that_cannot_fork_says_that_the_worker_has_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork() -> int:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", no_fork)
    ours, other = socket.socketpair()
    with ours, other:
        served = guardian._Guardian(ours, os.getpid(), ours)
        assert not served._is_in_new_worker(7)
        assert served._ended == {7: NOT_STARTED}


async def test_results_of_any_size_come_back(tmp_path: Path) -> None:
    async with rt.Session(save_state=False):
        data = os.urandom(3_000_000)
        assert await rt.call(functions.same, data) == data


async def test_what_a_node_prints_is_there_when_its_call_ends(capfd: pytest.CaptureFixture[str]) -> None:
    async with rt.Session(save_state=False):
        await rt.call(functions.say, "printed in the worker")
        assert "printed in the worker" in capfd.readouterr().out


async def test_workers_have_the_folder_and_the_environment_of_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOR_WORKERS", "seen")
    monkeypatch.chdir(tmp_path)
    async with rt.Session(save_state=False):
        assert await rt.call(functions.surroundings, "FOR_WORKERS") == ["seen", str(tmp_path)]


@pytest.mark.proof
async def test_workers_start_when_the_current_folder_was_deleted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    async with rt.Session(save_state=False):
        assert await rt.call(functions.double, 2) == 4


@pytest.mark.proof
async def test_when_no_process_can_be_started_the_call_fails_and_later_ones_may_succeed() -> None:
    async with rt.Session(save_state=False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", "/nonexistent")
            multiprocessing.spawn.set_executable("/nonexistent")
            with pytest.raises(FileNotFoundError):
                await rt.call(functions.double, 2)
        multiprocessing.spawn.set_executable(sys.executable)
        assert await rt.call(functions.double, 2) == 4


FORK = """
import os, sys, trio, railtracks as rt, worker_functions as functions

async def main():
    async with rt.Session(save_state=False, logging_setting="NONE"):
        worker = await rt.call(functions.process_id)
        before = functions.open_sockets()
        child = os.fork()
        if not child:
            os._exit(len(before) - len(functions.open_sockets()))
        closed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert await rt.call(functions.process_id) == worker
        print("closed", closed)

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.proof
def test_a_process_that_the_program_forks_has_no_socket_of_the_workers(tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORK, "utf-8")
    assert run("forking.py", cwd=tmp_path).startswith("closed 2\n")


def test_a_worker_sees_the_children_that_run_and_waits_for_those_that_have_ended() -> None:
    said = run(
        "-c",
        "import os, subprocess, sys\n"
        "from railtracks._workers.worker import has_children\n"
        "ended = subprocess.Popen([sys.executable, '-c', ''])\n"
        "os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)\n"
        "running = subprocess.Popen(['sleep', '100'])\n"
        "print(has_children())\n"
        "running.kill()\n"
        "running.wait()\n"
        "print(has_children())\n",
    )
    assert said == "True\nFalse\n"


def test_a_frame_is_put_together_from_pieces_and_another_one_is_refused() -> None:
    data = encoded(Frame(REPLY, 7, b"content"))
    decoder = Decoder(7)
    assert [decoder.add(data[place : place + 1]) for place in range(len(data))][-1] == Frame(REPLY, 7, b"content")
    with pytest.raises(ValueError, match="no answer to 8"):
        Decoder(8).add(data)


def test_the_stand_in_for_a_main_module_that_is_missing_says_why() -> None:
    missing: Any = MissingMain("it is a notebook")
    assert not hasattr(missing, "__file__")
    with pytest.raises(RuntimeError, match=r"needs 'crunch' of the program's main module, .* import: it is a notebook"):
        _ = missing.crunch


# The main module of a program

PROGRAM = """
import sys
import trio
import railtracks as rt

class Mine:
    pass

class Busy(Exception):
    def __init__(self, *, code):
        super().__init__(f"busy {code}")
        self.code = code

@rt.function_node(run_in="process")
def double(number):
    if number is None:
        raise Busy(code=503)
    return 2 * number

@rt.function_node(run_in="process")
def same(value):
    return value

async def main():
    async with rt.Session(save_state=False, logging_setting="NONE"):
        print(await rt.call(double, 4), type((await rt.call(same, [Mine()]))[0]) is Mine)
        try:
            await rt.call(double, None)
        except Busy as busy:
            print(busy, busy.code)

GUARD
    trio.run(main)
"""


def program(guard: str = 'if __name__ == "__main__":') -> str:
    return PROGRAM.replace("GUARD", guard)


def run(*arguments: str, text: str | None = None, cwd: Path | None = None) -> str:
    """Run Python and return what it says, errors included."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=text,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.stdout + done.stderr


@pytest.mark.proof
def test_functions_and_classes_of_the_main_module_work_in_workers(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program(), "utf-8")
    # A worker leaves nothing unclosed either.
    assert run("-W", "error", "program.py", cwd=tmp_path) == "8 True\nbusy 503 503\n"
    assert run("-m", "program", cwd=tmp_path) == "8 True\nbusy 503 503\n"


@pytest.mark.proof
def test_a_node_in_a_worker_has_workers_of_its_own_for_nodes_of_the_main_module(tmp_path: Path) -> None:
    inner = """
@rt.function_node(run_in="process")
def through_a_worker(number):
    return rt.Flow("inner", double, save_state=False, logging_setting="NONE").invoke(number)

if __name__ == "__main__":
    print(rt.Flow("outer", through_a_worker, save_state=False).invoke(21))
"""
    (tmp_path / "program.py").write_text(PROGRAM.partition("async def main")[0] + inner, "utf-8")
    assert run("program.py", cwd=tmp_path) == "42\n"
    assert run("-m", "program", cwd=tmp_path) == "42\n"


@pytest.mark.parametrize("how", ["no guard", *proved("-c", "stdin", "__main__.py")])
def test_a_node_that_workers_cannot_import_is_refused_at_once(how: str, tmp_path: Path) -> None:
    if how == "-c":
        said = run("-c", program())
    elif how == "stdin":
        said = run(text=program())
    elif how == "no guard":
        (tmp_path / "program.py").write_text(program("if True:"), "utf-8")
        said = run("program.py", cwd=tmp_path)
    else:
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "__main__.py").write_text(program(), "utf-8")
        said = run("-m", "package", cwd=tmp_path)
    assert "NodeCreationError: double cannot run in a worker process: " in said
    wanted = "no 'if __name__ == \"__main__\":'" if how == "no guard" else "define the function in a module of its own"
    assert wanted in said


def test_a_main_module_that_starts_a_session_as_it_is_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program('if __name__ in ("__main__", "__mp_main__"):'), "utf-8")
    said = run("program.py", cwd=tmp_path)
    # It compares its name with something, but not as it should.
    assert "NodeCreationError" in said
    (tmp_path / "program.py").write_text(
        program('guarded = __name__ == "__main__"\nif not guarded or guarded:'), "utf-8"
    )
    said = run("program.py", cwd=tmp_path)
    assert "a worker process needs 'double' of the program's main module, which it could not import" in said
    assert "and that starts a session" in said


UNGUARDED = """
import railtracks as rt

@rt.function_node(run_in="process")
def double(number):
    return 2 * number

rt.Flow("unguarded", double).invoke(1)
"""


@pytest.mark.parametrize(
    "command", ["import unguarded", "from railtracks.cli import main; main(['run', 'unguarded.py'])"]
)
def test_a_module_that_starts_a_session_as_it_is_imported_starts_no_workers_without_end(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "unguarded.py").write_text(UNGUARDED, "utf-8")
    (tmp_path / "program.py").write_text(f"import sys\nsys.path.insert(0, '')\n{command}\n", "utf-8")
    said = run("program.py", cwd=tmp_path)
    assert "ContextError: a worker process imports a module of the program, and that starts a session" in said


def test_a_source_that_cannot_be_read_is_taken_to_have_a_guard(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("if", "utf-8")
    assert worker_modules.has_guard(str(tmp_path / "broken.py"))
    assert worker_modules.has_guard(str(tmp_path / "missing.py"))


# Whom the pool kills

NOTES = """
import os, sys

def note(event, args):
    if event in ("os.kill", "os.killpg"):
        with open(os.environ["KILLS"], "a") as file:
            print(event, *args, os.getpid(), file=file)

sys.addaudithook(note)
"""


@pytest.mark.proof
def test_the_pool_never_kills_process_0_or_1_or_the_programs_own_group(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOTES)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "scripts" / "noted_kills.py"), str(tmp_path)],
        capture_output=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
            "KILLS": str(tmp_path / "kills"),
        },
        # If it does, these tests live on.
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    kills = [line.split() for line in (tmp_path / "kills").read_text("utf-8").splitlines()]
    forbidden = {0, 1, said["program"], said["group"]}
    # No group is killed at all. One node kills its own process.
    assert {event for event, *_ in kills} == {"os.kill"}
    struck = [int(target) for _, target, _, killer in kills if target != killer]
    assert [target for target in struck if target < 0 or target in forbidden] == []
    # The one worker that was ordered killed by its number, and many that have lost themselves before.
    assert set(said["workers"]) <= set(struck)
    assert len(set(struck)) > 10
    assert said["bystander"]


# The end of the program

ORPHANS = """
import ctypes, os, signal, sys, time
import trio, railtracks as rt, worker_functions as functions

async def main():
    async with rt.Session(save_state=False, logging_setting="NONE"):
        async with rt.open_group() as group:
            group.start_soon(functions.leave_children, sys.argv[1], and_stay=True)
            if sys.argv[2] == "fork":
                while not os.path.exists(sys.argv[1]):
                    await trio.sleep(0.01)
                # Inherits what is open, as Python does not hear of it, and outlives its parent.
                if ctypes.CDLL(None).fork() == 0:
                    os.close(1), os.close(2)
                    time.sleep(5)
                    os._exit(0)

if __name__ == "__main__":
    # Under `nohup` it would be ignored, and that is inherited.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    trio.run(main)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT", *proved("SIGHUP", "SIGTERM", "fork")])
def test_workers_and_what_they_have_started_end_with_the_program(how: str, tmp_path: Path) -> None:
    path = tmp_path / "told"
    arguments = [sys.executable, "-c", ORPHANS, str(path), how]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=environment) as process:
        processes = trio.run(told, path)
        assert not any(map(is_gone, processes))
        if how == "fork":
            time.sleep(0.2)
        process.send_signal(getattr(signal, how, signal.SIGKILL))
        try:
            process.wait(20)
        finally:
            process.kill()
        # Long, because other processes may keep the machine busy.
        deadline = time.monotonic() + 20
        while not all(map(is_gone, processes)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert all(map(is_gone, processes))


# Nodes that are refused


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
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ImportError, match=r"pip install 'railtracks-trio\[process\]'"):
        rt.function_node(functions.add, run_in="process")
    _node_options._has_processes.cache_clear()


async def test_a_system_without_forks_is_told_where_the_node_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(rt.NodeCreationError, match="worker processes need a POSIX system"):
        rt.function_node(functions.add, run_in="process")
    async with rt.Session(save_state=False) as session:
        with pytest.raises(RuntimeError, match="worker processes need a POSIX system"):
            await session.start_workers(1)


def test_a_crash_says_how_the_process_ended() -> None:
    assert str(rt.WorkerCrashedError("work")) == "the worker process of node 'work' ended before it had an answer"


async def test_a_session_whose_process_calls_were_all_refused_has_nothing_to_end() -> None:
    async with rt.Session(save_state=False):
        with pytest.raises(TypeError, match="cannot be sent to a worker"):
            await rt.call(functions.double, lambda: 1)  # type: ignore[arg-type]


async def test_a_worker_that_ends_while_a_large_job_is_sent_to_it_is_told() -> None:
    ours, theirs = socket.socketpair()
    worker = Worker(1, ours, Worker.kill)

    async def ask() -> None:
        with pytest.raises(WorkerEndedError):
            await worker.ask(b"j", b"." * 2**24)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        # It waits until somebody reads.
        await wait_all_tasks_blocked()
        theirs.close()
    worker.let_go()
