"""In a forked process the sessions, signal handlers and workers of its parent do not exist; flows run there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import trio
from proof_rounds import proved
from trio.testing import wait_all_tasks_blocked

import railtracks as rt
from railtracks._forks import count_fork
from railtracks._records import log_files, observers
from railtracks._records.events import EventKind
from railtracks._records.observers import EVERYWHERE
from railtracks._sessions.event_loops import _OwnThread, leave_parents_run
from railtracks._workers.threads import in_thread_whatever_comes
from railtracks.durable._values.aside import Aside

SCRIPT = Path(__file__).parent / "scripts" / "forked.py"
PLACES = ["sync", "async"]
FURTHER_PLACES = ["durable", "body", "run", "thread", "invoked_in_a_thread"]


LEAVES = """
import os, sys
from contextlib import asynccontextmanager
import trio
import railtracks as rt

@asynccontextmanager
async def resource():
    yield 1

async def heard(item):
    pass

async def main():
    if "resource" in sys.argv:
        await rt.current_session().enter_async_context(resource())
    if "broadcast" in sys.argv:
        await rt.broadcast(1)
        await trio.sleep(0.01)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return "child"

print(rt.Flow("flow", main, broadcast_callback=heard, stop_on_sigterm=False).invoke(), flush=True)
os._exit(7)
"""


@pytest.mark.parametrize("opened", ["nothing", "resource", "broadcast"])
def test_a_child_that_leaves_the_block_of_its_parent_waits_for_nothing_of_that(opened: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVES, opened], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "child\n", "")


def forked(place: str, how: str, what: str, folder: Path) -> Any:
    """Return what a forked child says; whatever does not end is killed."""
    home = folder / "home"
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), place, how, what, str(folder)],
        env={**os.environ, "RAILTRACKS_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, told = process.communicate(timeout=30)
    finally:
        # What it forked, too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, told
    assert "Traceback" not in told
    return json.loads(out.splitlines()[-1])


def ways(*more: str) -> pytest.MarkDecorator:
    """Return the parameters of a test: every place with a plain fork, and two of them with other ways to fork."""
    pairs = [*((place, "fork") for place in PLACES), ("async", more[0])]
    further = [(place, "fork") for place in FURTHER_PLACES] + [("async", how) for how in more[1:]]
    further += [("sync", how) for how in more]
    return pytest.mark.parametrize(("place", "how"), [*pairs, *proved(*further)])


@ways("multiprocessing", "nested")
def test_the_sessions_of_the_parent_do_not_exist_in_a_forked_process(place: str, how: str, tmp_path: Path) -> None:
    # Every door raises the `ContextError` that says to pass values as arguments.
    assert forked(place, how, "see", tmp_path) == [None, *[True] * 10]


def test_they_do_not_exist_in_a_grandchild_either(tmp_path: Path) -> None:
    assert forked("async", "grandchild", "see", tmp_path) == [None, *[True] * 10]


@ways("multiprocessing", "pool")
def test_a_flow_can_be_invoked_in_a_forked_process(place: str, how: str, tmp_path: Path) -> None:
    assert forked(place, how, "invoke_twice", tmp_path) == [2, 4]
    # Each process saved the states of its own sessions.
    saved = [rt.load_state(path) for path in (tmp_path / "home").glob("*.json")]
    assert [state.status for state in saved] == ["completed"] * 3
    assert sorted(state.flow_name or "" for state in saved) == (
        ["inner", "inner", "outer"] if place not in {"body", "run"} else ["", "inner", "inner"]
    )


@pytest.mark.parametrize("place", ["before", "asyncio", "sync", "async", "durable"])
@pytest.mark.proof
def test_a_store_that_was_made_before_a_fork_is_used_in_both_processes(place: str, tmp_path: Path) -> None:
    assert forked(place, "fork", "invoke_durable", tmp_path) == [2, 2, 4]
    names = [each.flow_name for each in rt.DurableStore(tmp_path / "store.db").sessions(status="completed")]
    assert names == (["outer", "durable"] if place == "durable" else ["durable"])


@pytest.mark.parametrize("place", PLACES)
def test_a_flow_can_be_invoked_in_a_child_of_a_forked_process(place: str, tmp_path: Path) -> None:
    assert forked(place, "grandchild", "invoke", tmp_path) == 2


@pytest.mark.parametrize("place", ["async", *proved("sync")])
def test_the_error_of_a_flow_comes_out_in_a_forked_process(place: str, tmp_path: Path) -> None:
    assert forked(place, "fork", "fail", tmp_path) == "from the flow"


@pytest.mark.parametrize("place", [*PLACES, *proved("before", *FURTHER_PLACES)])
def test_the_signal_handlers_of_the_parents_run_do_not_count_in_a_forked_process(place: str, tmp_path: Path) -> None:
    default = [str(signal.SIG_DFL), str(signal.default_int_handler), "-1"]
    handlers = forked(place, "fork", "handlers", tmp_path)
    assert [text.partition(" at ")[0] for text in handlers] == [text.partition(" at ")[0] for text in default]


@ways("multiprocessing")
def test_terminate_ends_a_process_that_was_forked_under_a_flow(place: str, how: str, tmp_path: Path) -> None:
    assert forked(place, how, "wait", tmp_path) == f"exit code {-signal.SIGTERM}"


def test_a_pool_that_was_forked_under_a_flow_can_be_left(tmp_path: Path) -> None:
    assert forked("sync", "pool", "invoke", tmp_path) == 2


def test_sigterm_ends_a_child_of_trios_thread_in_the_middle_of_a_flow(tmp_path: Path) -> None:
    assert forked("async", "fork", "wait_in_a_flow", tmp_path) == f"exit code {-signal.SIGTERM}"


def test_sigterm_drains_the_flow_of_a_child_of_a_worker_thread(tmp_path: Path) -> None:
    # The grace is over; then the flow raises.
    assert "SessionCancelledError" in forked("sync", "fork", "wait_in_a_flow", tmp_path)


@pytest.mark.parametrize("place", [*PLACES, *proved("before")])
def test_ctrl_c_cleans_up_the_flow_of_a_forked_process(place: str, tmp_path: Path) -> None:
    assert forked(place, "fork", "interrupt_a_flow", tmp_path) == ["KeyboardInterrupt", "cleaned"]


# Nodes in executors whose processes are forked while a session runs.


def whose_session() -> tuple[str | None, str]:
    try:
        return rt.session_id(), rt.idempotency_key()
    except rt.ContextError as error:
        return rt.session_id(), str(error)


def look_at_context() -> str:
    try:
        return str(rt.context.get("user"))
    except rt.ContextError as error:
        return str(error)


INNER = rt.Flow("inner", len, stop_on_sigterm=False)


def invoke_inner(text: str) -> int:
    return INNER.invoke(text)


@pytest.fixture(params=["fork", "spawn"])
def processes(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context(request.param)) as executor:
        yield executor


async def test_a_node_in_a_forked_executor_has_no_session(processes: ProcessPoolExecutor) -> None:
    for user in ("ada", "bob"):
        async with rt.Session({"user": user}):
            answer = await rt.call(rt.function_node(look_at_context, run_in=processes))
            assert "pass values as arguments" in answer


async def test_a_node_in_a_forked_executor_may_invoke_a_flow(processes: ProcessPoolExecutor) -> None:
    async with rt.Session():
        assert await rt.call(rt.function_node(invoke_inner, run_in=processes), "four") == 4


def test_each_job_of_a_forked_executor_has_the_key_of_its_own_call(
    processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    node = rt.function_node(whose_session, run_in=processes)

    async def order() -> tuple[tuple[str | None, str], str]:
        return await rt.call(node), rt.idempotency_key()

    flow = rt.Flow("orders", order, durable=tmp_path / "store.db")
    answers = [flow.invoke(session_id=f"order-{number}") for number in range(3)]
    keys = [key for (_, key), _ in answers]
    # Each is the key of the call inside its own order.
    assert [key.partition(":")[0] for key in keys] == [own.partition(":")[0] for _, own in answers]
    assert len(set(keys)) == 3
    assert {session for (session, _), _ in answers} == {None}


# The same in this process, which only counts as forked: what a child does cannot be measured.


@pytest.fixture(autouse=True)
def back() -> Iterator[None]:
    yield
    # The thread of a test that counts as forked is this one: the number of another could be given to a worker thread.
    leave_parents_run()


class Result:
    """Something that can be referred to weakly."""


def in_new_thread(work: Callable[[], object]) -> object:
    """Return what a function gives in a thread that may count as forked afterwards."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(20)
    return results[0]


async def test_a_session_that_was_opened_before_a_fork_is_not_here() -> None:
    async with rt.Session({"user": "ada"}) as session:
        # The rest of the block is that of another process.
        count_fork()
        assert rt.session_id() is None
        for door in (rt.current_session, rt.context.keys, rt.idempotency_key, lambda: session.start_soon(len, "a")):
            with pytest.raises(rt.ContextError, match=r"pass (it )?values as arguments"):
                door()


async def test_a_cancel_in_a_forked_process_ends_the_wait_for_a_thread_of_its_parent() -> None:
    may_end, results = threading.Event(), list[weakref.ref[Result]]()

    def work() -> Result:
        may_end.wait(20)
        result = Result()
        results.append(weakref.ref(result))
        return result

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread_whatever_comes, work)
            await wait_all_tasks_blocked()
            count_fork()
            scope.cancel()
    # What the thread sends then wakes nobody. In a child process it may have sent that before the fork.
    may_end.set()
    with trio.fail_after(20):
        while not results or results[0]() is not None:  # noqa: ASYNC110 - a thread decides
            await trio.sleep(0.001)


async def test_in_a_forked_process_no_large_value_waits_for_one_of_its_parent() -> None:
    aside, begun, may_end = Aside(), trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def hold() -> None:
        token.run_sync_soon(begun.set)
        may_end.wait(20)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(aside.run, hold)
        await begun.wait()
        count_fork()
        assert await aside.run(lambda: "done") == "done"
        assert not may_end.is_set()
        may_end.set()


async def test_a_child_that_leaves_the_block_of_its_parent_leaves_state_and_store_alone(
    tmp_path: Path, home: Path
) -> None:
    payloads: list[object] = []
    store = rt.DurableStore(tmp_path / "store.db")
    async with rt.Session(durable=store, payload_callback=payloads.append) as session:
        count_fork()
    assert not payloads
    assert session.state_path is None
    assert list(home.glob("*.json")) == []
    # The store has it as the parent left it.
    assert [each.status for each in store.sessions()] == ["running"]


def test_a_process_that_was_forked_from_a_task_invokes_flows_in_a_thread_of_its_own() -> None:
    async def in_a_run() -> list[object]:
        leave_parents_run()
        seen: list[object] = [INNER.invoke("four")]
        try:
            rt.Flow("broken", lambda: int("four")).invoke()
        except ValueError as error:
            seen.append(type(error))
        return seen

    assert in_new_thread(lambda: trio.run(in_a_run)) == [4, ValueError]


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_ctrl_c_cancels_a_flow_that_runs_in_a_thread_of_its_own(seconds: float) -> None:
    ended: list[str] = []

    async def until_cancelled() -> None:
        try:
            await trio.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        finally:
            ended.append("cleaned up")

    async def in_a_run() -> None:
        leave_parents_run()
        rt.Flow("sleep", until_cancelled).invoke()

    with pytest.raises(KeyboardInterrupt):
        trio.run(in_a_run)
    assert ended == ["cleaned up"]


def test_a_process_that_was_forked_from_a_worker_thread_is_no_worker_thread() -> None:
    async def token() -> object:
        return trio.lowlevel.current_trio_token()

    def node() -> object:
        leave_parents_run()
        return rt.Flow("inner", token).invoke()

    async def main() -> bool:
        return await trio.to_thread.run_sync(node) is trio.lowlevel.current_trio_token()

    assert in_new_thread(lambda: trio.run(main)) is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_handler_of_the_program_that_raises_cancels_such_a_flow(number: signal.Signals) -> None:
    ended: list[str] = []

    def leave(*_: object) -> None:
        raise SystemExit("asked to leave")

    async def until_cancelled() -> None:
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            ended.append("cleaned up")

    async def in_a_run() -> None:
        leave_parents_run()
        rt.Flow("sleep", until_cancelled).invoke()

    before = signal.signal(number, leave)
    try:
        with pytest.raises(SystemExit, match="asked to leave"):
            trio.run(in_a_run)
    finally:
        signal.signal(number, before)
    assert ended == ["cleaned up"]


def test_sigterm_at_the_very_start_of_a_child_is_for_the_handler_that_was_set_before(tmp_path: Path) -> None:
    got: list[int] = []

    def fork() -> int:
        # What the run has set, as if the child had no time to take it back.
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        child = os.fork()
        if not child:
            handler(signal.SIGTERM, None)
            (tmp_path / "got").write_text(str(got))
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    try:
        assert rt.Flow("outer", fork).invoke() == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "got").read_text() == "[15]"
    assert got == []


def test_a_session_opens_in_a_child_whose_parent_was_just_adding_an_observer() -> None:
    is_adding, is_forked = threading.Event(), threading.Event()

    class Kinds(tuple[EventKind, ...]):
        """No kinds, which are looked through until the fork is done."""

        __slots__ = ()

        def __iter__(self) -> Iterator[EventKind]:
            is_adding.set()
            is_forked.wait(20)
            return iter(())

    class Observer:
        def on_event(self, _: object) -> None: ...

    adding = threading.Thread(target=lambda: EVERYWHERE.add(Observer(), Kinds()))
    adding.start()
    is_adding.wait(20)
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(rt.Flow("inner", len, save_state=False).invoke("four"))
    is_forked.set()
    adding.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


def test_after_a_fork_observers_stores_and_log_files_have_fresh_locks(tmp_path: Path) -> None:
    for renew in (observers.renew_lock, log_files.forget_parent):
        renew()
    flow = rt.Flow("flow", len, durable=tmp_path / "store.db", log_file=tmp_path / "flow.log")
    assert flow.invoke("four") == 4
    assert "len (1) DONE" in (tmp_path / "flow.log").read_text()


def test_sigterm_before_the_child_has_taken_anything_back_is_for_the_handler_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got: list[int] = []

    async def node() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        handler(signal.SIGTERM, None)
        monkeypatch.undo()

    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    try:
        rt.Flow("outer", node, save_state=False).invoke()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM]


def test_the_main_thread_of_a_forked_process_gets_the_result_of_a_flow() -> None:
    async def in_a_run() -> int:
        leave_parents_run()
        return INNER.invoke("four")

    assert trio.run(in_a_run) == 4


def test_a_cancel_that_comes_before_the_run_in_another_thread_begins_is_kept() -> None:
    async def work() -> None:
        await trio.sleep_forever()

    own = _OwnThread(work)
    own.cancel()
    assert own.run().unwrap() is None
