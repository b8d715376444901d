"""The end of a session is a list of steps: what one of them meets costs neither the result nor the other steps.

So are the log lines of a session, and its opening: whatever raises there leaves nothing open.
"""

from __future__ import annotations

import inspect
import io
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from proof_rounds import proved
from worker_functions import double as double_elsewhere

import railtracks as rt
from railtracks import testing
from railtracks._records.events import CallEvent, Event, EventKind
from railtracks._records.observers import EVERYWHERE
from railtracks._workers import processes
from railtracks._workers.threads import in_thread_or_here

FULL_DISK = Path("/dev/full")


@rt.function_node
async def double(n: int) -> int:
    return 2 * n


@rt.function_node
async def fail(n: int) -> int:
    raise ValueError(n)


async def result_inside(**options: Any) -> rt.Session:
    """Run a session inside another one; see that its result, its state and the outer session stand."""
    async with rt.Session(save_state=False) as outer:
        nurseries = list(trio.lowlevel.current_task().child_nurseries)

        @rt.session(name="inner", **options)
        async def inner() -> int:
            await rt.broadcast("item")
            with pytest.raises(ValueError, match="3"):
                await rt.call(fail, 3)
            return await rt.call(double, 4)

        result, session = await inner()
        assert result == 8
        assert rt.current_session() is outer
        assert trio.lowlevel.current_task().child_nurseries == nurseries
        assert await rt.call(double, 1) == 2
    assert (session.status, outer.status) == ("completed", "completed")
    testing.assert_quiescent(session)
    if session.state_path is not None and not options.get("is_unsaved"):
        assert rt.load_state(session.state_path).status == "completed"
    return session


# The log.


class Broken(logging.Handler):
    """A handler that raises wherever the standard library calls it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def handle(self, record: logging.LogRecord) -> bool:
        raise self.error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


class BrokenEmit(Broken):
    handle = logging.Handler.handle


@contextmanager
def on_logger(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("RT")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def raiser(error: BaseException) -> Callable[..., Any]:
    def raise_it(*_: object, **__: object) -> Any:
        raise error

    return raise_it


anything = pytest.mark.parametrize(
    "error", [OSError(28, "no space left"), SystemExit(3), KeyboardInterrupt(), trio.ClosedResourceError(), KeyError()]
)


@pytest.mark.skipif(not FULL_DISK.exists(), reason="the system has no /dev/full")
async def test_a_log_file_on_a_full_disk_costs_nothing() -> None:
    await result_inside(log_file=FULL_DISK, logging_setting="INFO")


async def test_a_closed_stderr_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    await result_inside(logging_setting="DEBUG")


async def test_no_stderr_at_all_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    await result_inside(logging_setting="DEBUG")


@anything
@pytest.mark.parametrize("kind", [Broken, BrokenEmit])
async def test_a_handler_of_the_application_that_raises_costs_nothing(error: BaseException, kind: type[Broken]) -> None:
    with on_logger(kind(error)):
        await result_inside()


@anything
async def test_a_filter_that_raises_costs_nothing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("RT"), "filters", [raiser(error)])
    await result_inside(logging_setting="NONE")


@anything
async def test_a_factory_of_log_records_that_raises_costs_nothing(error: BaseException) -> None:
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(raiser(error))
    try:
        await result_inside()
    finally:
        logging.setLogRecordFactory(factory)


async def test_what_a_handler_raises_is_printed_as_the_standard_library_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_logger(Broken(OSError("no space left"))):
        await result_inside()
        told = capsys.readouterr().err
        assert "--- Logging error ---" in told
        assert "OSError: no space left" in told
        monkeypatch.setattr(logging, "raiseExceptions", False)
        await result_inside()
        assert capsys.readouterr().err == ""


async def test_a_handler_that_raises_keeps_a_line_from_no_other_display(tmp_path: Path) -> None:
    with on_logger(Broken(OSError())):
        await result_inside(log_file=tmp_path / "log.txt")
    assert "double" in (tmp_path / "log.txt").read_text()


# Observers.


class BrokenObserver:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_event(self, event: Event) -> None:
        raise self.error


@contextmanager
def observed_by(observer: BrokenObserver, *kinds: EventKind) -> Iterator[None]:
    EVERYWHERE.add(observer, kinds or tuple(EventKind))
    try:
        yield
    finally:
        EVERYWHERE.remove(observer)


@pytest.mark.parametrize("error", [SystemExit(3), KeyError("canary"), trio.BrokenResourceError()])
async def test_an_observer_that_raises_costs_nothing(error: BaseException) -> None:
    with observed_by(BrokenObserver(error)):
        await result_inside()


async def test_an_observer_that_raises_costs_nothing_where_logging_raises_too() -> None:
    with observed_by(BrokenObserver(KeyError("canary"))), on_logger(Broken(SystemExit())):
        await result_inside()


async def test_a_keyboard_interrupt_out_of_an_observer_of_the_end_leaves_the_outer_session_as_it_was() -> None:
    async with rt.Session(save_state=False) as outer:
        broken = BrokenObserver(KeyboardInterrupt())
        with observed_by(broken, EventKind.SESSION_CLOSED), pytest.raises(KeyboardInterrupt):
            async with rt.Session() as inner:
                await rt.call(double, 1)
        assert rt.current_session() is outer
        assert await rt.call(double, 1) == 2
    assert inner.state_path is not None
    assert rt.load_state(inner.state_path).status == "completed"


class Ends:
    """Observes which calls have ended."""

    def __init__(self) -> None:
        self.ended: list[int] = []

    def on_event(self, event: Event) -> None:
        assert isinstance(event, CallEvent)
        self.ended.append(event.call_id)


@pytest.mark.parametrize("is_raised_again", [False, True])
async def test_a_call_that_was_left_open_is_closed_by_the_end_and_observers_are_told(is_raised_again: bool) -> None:
    ends = Ends()
    EVERYWHERE.add(ends, [EventKind.CALL_CANCELLED])
    kinds = [EventKind.CALL_STARTED, EventKind.CALL_CANCELLED] if is_raised_again else [EventKind.CALL_STARTED]
    try:
        with observed_by(BrokenObserver(KeyboardInterrupt()), *kinds), pytest.raises(KeyboardInterrupt):
            async with rt.Session() as session:
                await rt.call(double, 1)
    finally:
        EVERYWHERE.remove(ends)
    assert ends.ended == [1]
    assert session.state_path is not None
    assert [call.status for call in rt.load_state(session.state_path).calls] == ["cancelled"]


# Callbacks, resources, workers.


@pytest.mark.parametrize("option", ["broadcast_callback", "payload_callback"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callback_that_raises_costs_nothing(option: str, is_async: bool) -> None:
    def callback(_: object) -> None:
        raise BaseExceptionGroup("several", [KeyError(), ExceptionGroup("more", [OSError()])])

    async def async_callback(_: object) -> None:
        callback(_)

    await result_inside(**{option: async_callback if is_async else callback})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("option", ["broadcast_callback", "payload_callback"])
async def test_what_is_to_end_the_program_comes_out_of_a_callback_after_the_state_is_saved(
    option: str, error: BaseException
) -> None:
    heard: list[object] = []

    async def callback(item: object) -> None:
        heard.append(item)
        raise error

    with pytest.raises(type(error)) as caught:
        async with rt.Session(**{option: callback}) as session:
            await rt.call(double, 1)
            await rt.broadcast(1)
            await rt.broadcast(2)
            if option == "broadcast_callback":
                await trio.sleep_forever()
    assert caught.value is error
    # Items that were sent before are delivered, whatever ends the session.
    assert len(heard) == (2 if option == "broadcast_callback" else 1)
    assert session.state_path is not None
    assert rt.load_state(session.state_path).calls[0].result == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_resources_that_raise_as_they_close_keep_no_other_one_open(order: tuple[int, ...]) -> None:
    closed: list[int] = []
    errors = {0: ValueError("first"), 1: None, 2: OSError("third")}

    @asynccontextmanager
    async def resource(n: int) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield
            nursery.cancel_scope.cancel()
        closed.append(n)
        if error := errors[n]:
            raise error

    with pytest.RaisesGroup(ValueError, OSError):
        async with rt.Session() as session:
            for n in order:
                await session.enter_async_context(resource(n))
            await rt.call(double, 1)
    assert closed == list(reversed(order))
    assert session.state_path is not None
    assert rt.load_state(session.state_path).status == "failed"


@pytest.mark.parametrize("error", [FileNotFoundError("the temporary folder has vanished"), *proved(SystemExit(3))])
async def test_worker_processes_whose_end_raises_cost_nothing(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    end = processes.WorkerPool.close

    async def close(self: processes.WorkerPool) -> None:
        await end(self)
        raise error

    monkeypatch.setattr(processes.WorkerPool, "close", close)
    node = rt.function_node(double_elsewhere, run_in="process")
    # What is to end the program still does.
    with nullcontext() if isinstance(error, Exception) else pytest.raises(type(error)):
        async with rt.Session() as session:
            assert await rt.call(node, 2) == 4
    assert session.status == "completed"
    assert session.state_path is not None
    assert rt.load_state(session.state_path).status == "completed"
    assert ("could not end the worker processes" in caplog.text) is isinstance(error, Exception)


# Where nothing can be written, no thread can be started, or the clock is set back.


async def test_a_home_that_is_a_file_costs_the_state_only(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path / "file"))
    async with rt.Session() as session:
        assert await rt.call(double, 1) == 2
    assert session.status == "completed"
    assert "could not save the state" in caplog.text


async def test_a_home_that_vanishes_is_made_again(home: Path) -> None:
    async with rt.Session() as session:
        if home.exists():
            home.rmdir()
    assert session.state_path is not None
    assert rt.load_state(session.state_path).status == "completed"


WITHOUT_THREADS = """
import threading, trio
import railtracks as rt

def refuse(self):
    raise RuntimeError("can't start new thread")

def callback(item):
    print("called back")

async def leaf(n):
    return n

def in_a_thread():
    raise NotImplementedError

async def main():
    threading.Thread.start = refuse
    async with rt.Session(name="unthreaded", {options}) as session:
        await rt.broadcast(1)
        try:
            await rt.call(in_a_thread)
        except RuntimeError as error:
            assert str(error) == "can't start new thread"
        return await rt.call(leaf, 5), session

result, session = trio.run(main)
assert result == 5 and session.status == "completed", session.status
"""


@pytest.mark.parametrize(
    "options", ["", *proved("broadcast_callback=callback", "payload_callback=callback", "timeout=60")]
)
def test_without_a_thread_to_be_had_the_state_is_written_in_place(options: str, home: Path) -> None:
    program = WITHOUT_THREADS.format(options=options)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    saved = rt.load_state(home / "unthreaded.json")
    assert (saved.status, [call.status for call in saved.calls]) == ("completed", ["failed", "completed"])
    # So is the callback called in place.
    assert done.stdout == ("called back\n" if "callback" in options else "")


async def test_in_the_midst_of_a_program_no_thread_to_be_had_costs_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    # Trio keeps idle threads: first all of them are given something to do.
    busy, refused = threading.Event(), trio.Event()

    async def occupy() -> None:
        try:
            await trio.to_thread.run_sync(busy.wait, limiter=trio.CapacityLimiter(1))
        except RuntimeError:
            refused.set()

    async with trio.open_nursery() as nursery:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        while not refused.is_set():
            nursery.start_soon(occupy)
            await trio.testing.wait_all_tasks_blocked()
        try:
            await result_inside(payload_callback=hear)
        finally:
            busy.set()


async def test_an_error_of_what_runs_in_a_thread_is_not_taken_for_a_missing_thread() -> None:
    error = RuntimeError("its own")
    with pytest.raises(RuntimeError) as caught:
        await in_thread_or_here(raiser(error), limiter=trio.CapacityLimiter(1))
    assert caught.value is error


SET_BACK = """
import time
times = iter([{times}])
now = time.time
time.time = lambda: next(times, None) or now()

import trio
import railtracks as rt

async def main():
    async with rt.Session(name="back") as session:
        await rt.call(trio.sleep, 0)
    (call,) = session.info.calls
    assert call.ended_at >= call.started_at
    assert session.info.ended_at >= session.info.started_at

trio.run(main)
"""


@pytest.mark.parametrize("times", ["3e9, 1e9, 1e9", *proved("1e9, 3e9, 1e9")])
def test_a_clock_that_is_set_back_gives_nothing_an_end_before_its_start(times: str, home: Path) -> None:
    subprocess.run([sys.executable, "-c", SET_BACK.format(times=times)], env=os.environ, check=True)
    saved = rt.load_state(home / "back.json")
    for each in (saved, *saved.calls):
        assert each.started_at is not None
        assert each.ended_at is not None
        assert each.ended_at >= each.started_at


# The opening.


async def test_an_opening_of_which_a_step_raises_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rt.Session(save_state=False) as outer:
        nurseries, status = list(trio.lowlevel.current_task().child_nurseries), None
        with monkeypatch.context() as patched:
            patched.setattr(logging.getLogger("RT"), "isEnabledFor", raiser(MemoryError()))
            broken = rt.Session(timeout=1)
            with pytest.raises(MemoryError):
                async with broken:
                    raise NotImplementedError
            status = broken.status
        assert status == "failed"
        assert rt.current_session() is outer
        assert trio.lowlevel.current_task().child_nurseries == nurseries
        assert trio.current_effective_deadline() == math.inf
        await result_inside()


async def test_a_durable_opening_of_which_a_step_raises_leaves_the_session_to_be_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    with monkeypatch.context() as patched:
        patched.setattr(logging.getLogger("RT"), "isEnabledFor", raiser(MemoryError()))
        with pytest.raises(MemoryError):
            async with rt.Session(durable=store, session_id="broken", save_state=False):
                raise NotImplementedError
    async with rt.Session(durable=store, resume="broken", save_state=False):
        assert await rt.call(double, 1) == 2


async def test_a_block_that_leaves_a_nursery_of_its_own_open_has_its_state_saved() -> None:
    sessions: list[rt.Session] = []

    async def main() -> None:
        async with rt.Session() as session:
            sessions.append(session)
            await rt.call(double, 1)
            await trio.open_nursery().__aenter__()

    with pytest.raises(RuntimeError, match="corrupted"):
        await trio.to_thread.run_sync(trio.run, main)
    (session,) = sessions
    assert session.state_path is not None
    assert rt.load_state(session.state_path).calls[0].result == 2


# Deep stacks.


async def down(levels: int, work: Callable[[], Awaitable[object]]) -> object:
    return await (down(levels - 1, work) if levels else work())


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    async with trio.open_nursery():
        yield


async def hear(_: object) -> None:
    """Take an item."""


async def in_a_session() -> None:
    async with rt.Session(timeout=60, broadcast_callback=hear, save_state=False):
        await rt.broadcast(1)
        await rt.call(double, 1)


async def in_a_group() -> None:
    async with rt.open_group() as group:
        group.start_soon(double, 1)


async def with_a_resource() -> None:
    await rt.current_session().enter_async_context(opened())


async def a_call() -> None:
    await rt.call(double, 1)


async def a_batch() -> None:
    await rt.call_batch(double, [1, 2])


DEEP: list[Callable[[], Awaitable[object]]] = [
    in_a_session,
    in_a_group,
    with_a_resource,
    a_call,
    a_batch,
]


@pytest.mark.skipif(sys.gettrace() is not None, reason="where coverage is measured, that needs some of the stack")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", DEEP)
@pytest.mark.parametrize("limit", [math.inf, 3])
async def test_a_full_stack_costs_what_met_it_and_no_other_call(
    work: Callable[[], Awaitable[object]], limit: float
) -> None:
    ends = set()
    with trio.fail_after(30):
        async with rt.Session(broadcast_callback=hear, history_limit=limit) as session:
            depth = len(inspect.stack(0))
            # Newer Pythons count the frames of C by themselves, and so need less room.
            for room in range(90, 8 if sys.version_info < (3, 12) else 2, -1):
                try:
                    await down(sys.getrecursionlimit() - depth - room, work)
                except RecursionError:
                    ends.add("full")
                else:
                    ends.add("room")
                assert rt.current_session() is session
                assert await rt.call(double, 2) == 4
    assert ends == {"full", "room"}
    assert session.status == "completed"
    assert all(call.ended_at is not None for call in session.info.calls)
    assert session.state_path is not None
    rt.load_state(session.state_path)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_session_begins_only_where_the_stack_has_room_for_its_end() -> None:
    used = len(inspect.stack(0))
    await down(sys.getrecursionlimit() // 3, in_a_session)
    with testing.opened_sessions() as sessions, pytest.raises(RecursionError):
        # It could begin here, and could not end.
        await down(sys.getrecursionlimit() - used - 45, in_a_session)
    assert not sessions


async def test_a_nested_call_that_was_left_open_is_told_of_in_its_top_level_call() -> None:
    class Inner:
        told: CallEvent | None = None

        def on_event(self, event: Event) -> None:
            assert isinstance(event, CallEvent)
            if event.parent_id and event.kind is EventKind.CALL_STARTED:
                raise KeyboardInterrupt
            if event.kind is EventKind.CALL_CANCELLED:
                self.told = event

    async def outer() -> None:
        await rt.call(double, 1)

    inner = Inner()
    EVERYWHERE.add(inner, [EventKind.CALL_STARTED, EventKind.CALL_CANCELLED])
    try:
        with pytest.raises(KeyboardInterrupt):
            async with rt.Session(save_state=False):
                await rt.call(outer)
    finally:
        EVERYWHERE.remove(inner)
    assert inner.told is not None
    assert (inner.told.call_id, inner.told.parent_id, inner.told.run_id) == (2, 1, 1)
