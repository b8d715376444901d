"""`rt.shutdown` and `rt.ashutdown` end every outermost session of the process, and SIGTERM begins that if told to."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio

import railtracks as rt
from railtracks._records.data import CauseKind, EndCause
from railtracks._sessions.access import drain_soon
from railtracks._sessions.before_session import BeforeSession
from railtracks._sessions.event_loops import leave_parents_run
from railtracks._sessions.running import Shutdown, enter, forget_parents_sessions, leave, shut_down_for_sigterm
from railtracks.durable._sessions import run as run_room

pytestmark = pytest.mark.usefixtures("no_trio_thread_afterwards")

WAIT = 10


class Hanging:
    """A flow that sleeps until it is cancelled, or until the test lets it end, and cleans up."""

    def __init__(self, **options: Any) -> None:
        self.began, self.events = threading.Event(), list[str]()
        self._may_end = trio.Event()
        self.flow = rt.Flow("hanging", self._hang, **options)

    async def _hang(self) -> str:
        self._token = trio.lowlevel.current_trio_token()
        self.began.set()
        try:
            await self._may_end.wait()
            return "result"
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            self.events.append("cleaned up")

    def let_it_end(self) -> None:
        self._token.run_sync_soon(self._may_end.set)

    def run_by(self, start: Callable[[], object]) -> threading.Thread:
        """Run it in a thread, and return when it has begun."""

        def run() -> None:
            try:
                self.events.append(str(start()))
            except rt.SessionCancelledError as error:
                self.events.append(str(error.reason))

        thread = threading.Thread(target=run)
        thread.start()
        assert self.began.wait(WAIT)
        return thread


async def block(flow: rt.Flow[[], str]) -> str:
    """Run a flow's entry point in a bare block of a session."""
    async with rt.Session(name="block") as session:
        entry_point: Any = flow.entry_point
        result = await rt.call(entry_point)
    if session.status == "cancelled":
        raise rt.SessionCancelledError(session.cancel_reason)
    return str(result)


def until_refused(flow: rt.Flow[[], int]) -> None:
    """Run a flow again and again until a shutdown refuses it."""

    def ask() -> None:
        while True:
            flow.invoke()

    with pytest.raises(rt.SessionCancelledError, match=r"cancelled: the program is shutting down$"):
        ask()


WAYS: dict[str, Callable[[rt.Flow[[], str]], Callable[[], object]]] = {
    "invoke": lambda flow: flow.invoke,
    "ainvoke in asyncio": lambda flow: lambda: asyncio.run(flow.ainvoke()),
    "ainvoke in Trio": lambda flow: lambda: trio.run(flow.ainvoke),
    "a block": lambda flow: lambda: trio.run(block, flow),
}


@pytest.mark.parametrize("way", WAYS)
def test_shutdown_cancels_what_has_not_ended_after_the_grace_and_waits_for_its_cleanup(way: str, home: Path) -> None:
    hanging = Hanging()
    thread = hanging.run_by(WAYS[way](hanging.flow))
    rt.shutdown(0)
    assert hanging.events[0] == "cleaned up"
    # The state of the session was saved before `shutdown` came back.
    (path,) = home.glob("*.json")
    cause = rt.load_state(path).cause
    assert cause is not None
    assert cause.kind is rt.CauseKind.CANCEL
    thread.join(WAIT)
    assert hanging.events[1] == "the program is shutting down, and the session still ran after 0 seconds"


def test_what_ends_within_the_grace_gives_its_result() -> None:
    hanging = Hanging()
    thread = hanging.run_by(hanging.flow.invoke)
    threading.Timer(0.02, hanging.let_it_end).start()
    rt.shutdown(math.inf)
    thread.join(WAIT)
    assert hanging.events == ["cleaned up", "result"]


async def test_in_trio_it_is_ashutdown(autojump_clock: trio.testing.MockClock) -> None:
    # Saving takes a thread, and the clock jumps meanwhile.
    hanging, ends = Hanging(save_state=False), list[str]()

    async def run() -> None:
        try:
            await hanging.flow.ainvoke()
        except rt.SessionCancelledError as error:
            ends.append(str(error.reason))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await rt.ashutdown(5)
        assert trio.current_time() - began == 5
        assert hanging.events == ["cleaned up"]
    assert ends == ["the program is shutting down, and the session still ran after 5 seconds"]


def test_in_asyncio_it_is_ashutdown_and_the_loop_goes_on_meanwhile() -> None:
    hanging = Hanging()

    async def main() -> None:
        task = asyncio.create_task(hanging.flow.ainvoke())
        await asyncio.to_thread(hanging.began.wait, WAIT)
        await rt.ashutdown(0)
        assert hanging.events == ["cleaned up"]
        with pytest.raises(rt.SessionCancelledError):
            await task

    asyncio.run(main())


def test_it_is_there_for_a_process_in_which_nothing_runs() -> None:
    rt.shutdown()
    trio.run(rt.ashutdown)
    asyncio.run(rt.ashutdown())


def test_ctrl_c_at_any_line_of_a_shutdown_lets_sessions_begin_again() -> None:
    room = str(Path(rt.__file__).parent / "_sessions")
    flow = rt.Flow("other", lambda: 3, save_state=False)
    assert flow.invoke() == 3
    struck = 0

    def line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "line" and frame.f_code.co_filename.startswith(room):
            left -= 1
            if not left:
                sys.settrace(None)
                raise KeyboardInterrupt
        return line

    before = sys.gettrace()
    while True:
        left = struck + 1
        try:
            sys.settrace(line)
            rt.shutdown(0)
        except KeyboardInterrupt:
            struck += 1
        else:
            break
        finally:
            sys.settrace(before)
        assert flow.invoke() == 3
    assert struck > 20


def test_a_shutdown_that_is_interrupted_as_it_begins_refuses_nothing() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Shutdown(0, CauseKind.CANCEL, on_end=interrupted):
        pytest.fail("it did not begin")
    assert rt.Flow("other", lambda: 3, save_state=False).invoke() == 3


def test_sessions_are_refused_until_it_returns_and_begin_again_afterwards() -> None:
    hanging = Hanging()
    thread = hanging.run_by(hanging.flow.invoke)
    ending = threading.Thread(target=rt.shutdown, args=(math.inf,))
    ending.start()
    flow = rt.Flow("other", lambda: 3, save_state=False)
    until_refused(flow)
    with pytest.raises(rt.SessionCancelledError):
        asyncio.run(flow.ainvoke())
    hanging.let_it_end()
    ending.join(WAIT)
    thread.join(WAIT)
    assert flow.invoke() == 3


def test_running_calls_go_on_making_calls_and_sessions() -> None:
    inner = rt.Flow("inner", lambda: 3, save_state=False)
    began, may_go_on = threading.Event(), threading.Event()

    async def entry() -> list[int]:
        began.set()
        await trio.to_thread.run_sync(may_go_on.wait, WAIT)
        return [await inner.ainvoke(), await rt.call(lambda: 4)]

    results: list[object] = []
    flow = rt.Flow("outer", entry, save_state=False)
    thread = threading.Thread(target=lambda: results.append(flow.invoke()))
    thread.start()
    assert began.wait(WAIT)
    ending = threading.Thread(target=rt.shutdown, args=(math.inf,))
    ending.start()
    may_go_on.set()
    ending.join(WAIT)
    thread.join(WAIT)
    assert results == [[3, 4]]


async def test_services_are_cancelled_at_once_and_a_block_that_only_waits_at_the_end_of_the_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended: dict[str, float] = {}

    async def service() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended["service"] = trio.current_time()

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        async with rt.Session(save_state=False) as session:
            session.start_service(service)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                ended["block"] = trio.current_time()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await rt.ashutdown(3)
    assert ended == {"service": began, "block": began + 3}


async def test_a_session_around_the_code_that_shuts_down_goes_on() -> None:
    hanging, ends = Hanging(save_state=False), list[str]()

    async def run() -> None:
        with pytest.raises(rt.SessionCancelledError):
            await hanging.flow.ainvoke()
        ends.append("other")

    async def node() -> str:
        await rt.ashutdown(0)
        return "node"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        async with rt.Session(save_state=False) as session:
            ends.append(await rt.call(node))
            # From the thread of a sync node, too.
            await rt.call(lambda: rt.shutdown(0))
            await rt.ashutdown(0)
    assert sorted(ends) == ["node", "other"]
    assert session.status == "completed"


async def test_a_session_that_ends_by_itself_meanwhile_is_left_alone() -> None:
    closing, may_close = trio.Event(), trio.Event()

    @asynccontextmanager
    async def resource() -> AsyncGenerator[None]:
        yield
        closing.set()
        await may_close.wait()

    sessions: list[rt.Session] = []

    async def run() -> None:
        async with rt.Session(save_state=False) as session:
            sessions.append(session)
            await session.enter_async_context(resource())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await closing.wait()
        nursery.start_soon(rt.ashutdown, 0)
        await trio.testing.wait_all_tasks_blocked()
        may_close.set()
    assert sessions[0].status == "completed"


async def test_after_the_cleanup_timeout_it_returns_and_a_warning_names_what_is_left(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = trio.Event()

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await may_end.wait()

    async def run() -> None:
        with pytest.raises(rt.SessionCancelledError):
            await rt.Flow("stubborn", stubborn, cleanup_timeout=7, save_state=False).ainvoke()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with caplog.at_level(logging.WARNING, "RT"):
            await rt.ashutdown(2)
        assert trio.current_time() - began == 9
        may_end.set()
    assert [record.message for record in caplog.records if "shutdown" in record.message] == [
        "shutdown: session 'stubborn' was cancelled, and has not ended within its cleanup_timeout"
    ]


def test_a_thread_that_cannot_be_stopped_is_named(caplog: pytest.LogCaptureFixture) -> None:
    began, may_end = threading.Event(), threading.Event()

    def busy() -> None:
        began.set()
        may_end.wait(WAIT)

    def run() -> None:
        with pytest.raises(rt.SessionCancelledError):
            rt.Flow("busy", busy, cleanup_timeout=0.01, save_state=False).invoke()

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(WAIT)
    with caplog.at_level(logging.WARNING, "RT"):
        rt.shutdown(0)
        # On a busy machine the cancel may reach the session when that has waited for its cleanup_timeout.
        latest = time.monotonic() + WAIT
        while "is ending and waits for node 'busy'" not in caplog.text and time.monotonic() < latest:
            time.sleep(0.01)
    may_end.set()
    thread.join(WAIT)
    assert "shutdown: session 'busy' (waits for the thread of 'busy') was cancelled" in caplog.text


async def test_a_cancelled_ashutdown_refuses_no_more_and_what_it_has_begun_goes_on() -> None:
    hanging = Hanging(save_state=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hanging.flow.ainvoke)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            nursery.start_soon(trio.testing.wait_all_tasks_blocked)
            scope.cancel()
            await rt.ashutdown(math.inf)
        assert await rt.Flow("other", lambda: 3, save_state=False).ainvoke() == 3
        hanging.let_it_end()


def test_of_two_shutdowns_at_once_both_wait_and_the_shorter_grace_counts() -> None:
    hanging = Hanging()
    thread = hanging.run_by(hanging.flow.invoke)
    ending = threading.Thread(target=rt.shutdown, args=(math.inf,))
    ending.start()
    until_refused(rt.Flow("other", lambda: 3, save_state=False))
    rt.shutdown(0)
    for each in (ending, thread):
        each.join(WAIT)
        assert not each.is_alive()
    reason = "the program is shutting down, and the session still ran after 0 seconds"
    assert hanging.events == ["cleaned up", reason]


@pytest.mark.parametrize("graces", [(5, 9), (9, 5)])
async def test_of_two_ashutdowns_at_once_the_shorter_grace_counts(
    graces: tuple[float, float], autojump_clock: trio.testing.MockClock
) -> None:
    hanging = Hanging(save_state=False)
    with pytest.RaisesGroup(rt.SessionCancelledError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hanging.flow.ainvoke)
            await trio.testing.wait_all_tasks_blocked()
            for grace in graces:
                nursery.start_soon(rt.ashutdown, grace)
    assert hanging.events == ["cleaned up"]
    assert trio.current_time() == 5


@pytest.mark.parametrize(
    ("grace", "error"), [(-1, ValueError), (math.nan, ValueError), (True, TypeError), ("5", TypeError)]
)
async def test_a_grace_that_is_none_is_refused(grace: Any, error: type[Exception]) -> None:
    app: Any = None
    for door in (rt.shutdown, rt.shutdown_on_sigterm, partial(rt.asgi.with_lifespan, app)):
        with pytest.raises(error, match="grace must be"):
            door(grace)
    with pytest.raises(error, match="grace must be"):
        await rt.ashutdown(grace)
    with pytest.raises(error, match="grace must be"):
        async with rt.asgi.lifespan(None, grace):
            pass


def test_where_an_event_loop_runs_shutdown_says_to_await_ashutdown() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await rt\.ashutdown\(\)"):
            rt.shutdown()

    asyncio.run(main())
    trio.run(main)


def test_a_forked_process_has_none_of_the_sessions_of_its_parent() -> None:
    # What Python does at the start of such a process, in this one.
    hanging = Hanging()
    thread = hanging.run_by(hanging.flow.invoke)
    forget_parents_sessions()
    rt.shutdown(0)
    assert hanging.events == []
    hanging.let_it_end()
    thread.join(WAIT)


class Late:
    """A session that another thread opens just as a shutdown begins, which has not found it."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.scope: Any = self
        self.token = token
        self.told: list[tuple[float, rt.CauseKind]] = []

    def shut_down(self, grace: float, kind: rt.CauseKind) -> None:
        self.told.append((grace, kind))


@pytest.mark.parametrize("is_sigterm", [True, False])
async def test_a_session_that_opens_just_as_a_shutdown_begins_ends_too(is_sigterm: bool) -> None:
    late: Any = Late(trio.lowlevel.current_trio_token())
    kind = rt.CauseKind.SIGTERM if is_sigterm else rt.CauseKind.CANCEL
    if is_sigterm:
        shut_down_for_sigterm(3)
        enter(late)
    else:
        with Shutdown(3, kind):
            enter(late)
    await trio.testing.wait_all_tasks_blocked()
    assert late.told == [(3, kind)]
    leave(late)


async def test_a_signal_that_strikes_as_a_failed_session_unwinds_changes_nothing() -> None:
    # The nursery of the session may be closing by then.
    struck: list[bool] = []

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            struck.append(drain_soon(session, 1))

    with pytest.raises(ValueError, match="no"):
        async with rt.Session(save_state=False) as session:
            session.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            raise ValueError("no")
    assert struck == [True]
    assert session.status == "failed"


# SIGTERM.


@pytest.fixture
def received() -> Iterator[list[int]]:
    """Whatever reaches the handler of the program, which is set before that of the library."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_sigterm_begins_the_shutdown_and_then_calls_the_handler_before(received: list[int]) -> None:
    hanging = Hanging()
    thread = hanging.run_by(hanging.flow.invoke)
    rt.shutdown_on_sigterm(0)
    signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]
    thread.join(WAIT)
    assert hanging.events == ["cleaned up", "SIGTERM, and the session still ran after 0 seconds"]
    # Since then nothing begins, not even in other threads.
    for start in (hanging.flow.invoke, lambda: asyncio.run(hanging.flow.ainvoke())):
        with pytest.raises(rt.SessionCancelledError) as refused:
            start()
        assert refused.value.reason == "SIGTERM"


def test_a_second_sigterm_cancels_what_is_left_at_once(received: list[int]) -> None:
    hanging = Hanging()
    thread = hanging.run_by(hanging.flow.invoke)
    rt.shutdown_on_sigterm(1_000)
    # Called again it changes nothing.
    rt.shutdown_on_sigterm(0)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    thread.join(WAIT)
    assert hanging.events == ["cleaned up", "SIGTERM"]
    assert received == [signal.SIGTERM] * 2


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("has_handler", [True, False])
def test_under_an_invoke_in_the_main_thread_both_drain_once(
    is_first: bool, has_handler: bool, received: list[int]
) -> None:
    if not has_handler:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    hanging = Hanging()
    thread = hanging.run_by(hanging.flow.invoke)
    if is_first:
        rt.shutdown_on_sigterm(1_000)

    async def entry() -> str:
        if not is_first:
            rt.shutdown_on_sigterm(1_000)
        signal.raise_signal(signal.SIGTERM)
        hanging.let_it_end()
        await trio.to_thread.run_sync(thread.join, WAIT)
        return "result"

    # Neither session was cancelled: a second signal would have done that.
    assert rt.Flow("main", entry, save_state=False, stop_on_sigterm=1_000).invoke() == "result"
    assert hanging.events == ["cleaned up", "result"]
    assert received == [signal.SIGTERM] * has_handler
    with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
        rt.Flow("later", lambda: 3).invoke()
    if has_handler:
        # The handler is still there, and hands on.
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2


def test_a_handler_that_calls_the_one_before_is_part_of_the_same_signal(received: list[int]) -> None:
    hanging = Hanging()
    thread = hanging.run_by(hanging.flow.invoke)
    rt.shutdown_on_sigterm(1_000)
    inner, events = signal.getsignal(signal.SIGTERM), list[int]()
    assert callable(inner)
    signal.signal(signal.SIGTERM, lambda number, frame: (events.append(number), inner(number, frame)))
    rt.shutdown_on_sigterm(1_000)
    signal.raise_signal(signal.SIGTERM)
    hanging.let_it_end()
    thread.join(WAIT)
    assert hanging.events == ["cleaned up", "result"]
    assert received == events == [signal.SIGTERM]


def test_without_a_handler_and_without_sessions_the_signal_ends_the_process_as_ever() -> None:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        rt.shutdown_on_sigterm()
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_that_signal_is_the_default_one_and_comes_at_once(received: list[int]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    rt.shutdown_on_sigterm()
    ours = signal.getsignal(signal.SIGTERM)
    assert callable(ours)
    # Blocked, so that it does not end this process.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        ours(signal.SIGTERM, None)
        assert signal.sigwait([signal.SIGTERM]) == signal.SIGTERM
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_forked_process_has_the_handler_of_the_program_and_not_that_of_the_library(received: list[int]) -> None:
    program = signal.getsignal(signal.SIGTERM)
    rt.shutdown_on_sigterm()
    ours = signal.getsignal(signal.SIGTERM)
    pid = os.fork()
    if pid == 0:
        is_ended = signal.getsignal(signal.SIGTERM) is program
        # One that came so early that the handler was still there.
        assert callable(ours)
        ours(signal.SIGTERM, None)
        os._exit(0 if is_ended and received == [signal.SIGTERM] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    leave_parents_run()
    assert signal.getsignal(signal.SIGTERM) is program


def test_only_the_main_thread_can_have_it(received: list[int]) -> None:
    errors: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError, match="main thread") as caught:
            rt.shutdown_on_sigterm()
        errors.append(str(caught.value))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert errors == ["only the main thread handles signals: call rt.shutdown_on_sigterm() there"]


RESUMES: dict[str, Callable[[rt.Flow[[], str]], object]] = {
    "resume": lambda flow: flow.resume("s", wait=3_600),
    "resume in the Trio thread": lambda flow: in_thread(flow).resume("s", wait=3_600),
    "aresume in asyncio": lambda flow: asyncio.run(flow.aresume("s", wait=3_600)),
    "aresume in Trio": lambda flow: trio.run(partial(flow.aresume, "s", wait=3_600)),
    "ainvoke in asyncio": lambda flow: asyncio.run(waiting_inside(flow)),
}


def in_thread(flow: rt.Flow[[], str]) -> rt.Flow[[], str]:
    return rt.Flow(flow.name, flow.entry, durable=flow.store, in_thread=True, save_state=False)  # type: ignore[arg-type]


async def waiting_inside(flow: rt.Flow[[], str]) -> object:
    """Wait for the session in one that is around: the shutdown drains that one."""

    async def around() -> object:
        return await flow.aresume("s", wait=3_600)

    return await rt.Flow("around", around, save_state=False).ainvoke()


@pytest.mark.parametrize("way", RESUMES)
@pytest.mark.parametrize("end", ["shutdown", "SIGTERM"])
def test_a_wait_for_a_session_that_another_owner_runs_ends_with_the_process(way: str, end: str, tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db", durability="process")
    owner = Hanging(durable=store, save_state=False)
    owning = owner.run_by(lambda: owner.flow.invoke(session_id="s"))
    came: list[object] = []

    def wait() -> None:
        try:
            came.append(RESUMES[way](owner.flow))
        except rt.SessionCancelledError as error:
            came.append(error.reason)

    waiting = threading.Thread(target=wait)
    waiting.start()
    around = "around" if way == "ainvoke in asyncio" else "waits for its session"
    look = Shutdown(0, CauseKind.CANCEL)
    while not any(around in each for each in look.left()):
        waiting.join(0.005)
    ending = threading.Thread(target=rt.shutdown, args=(0 if around == "around" else 60,))
    if end == "shutdown":
        ending.start()
    else:
        shut_down_for_sigterm(0 if around == "around" else 60)
    waiting.join(WAIT)
    assert len(came) == 1
    assert str(came[0]).startswith("the program is shutting down" if end == "shutdown" else "SIGTERM")
    # Without a grace the owner's session was cancelled as well.
    if around != "around":
        owner.let_it_end()
    owning.join(WAIT)
    if end == "shutdown":
        ending.join(WAIT)
    forget_parents_sessions()


async def test_a_run_whose_session_has_begun_is_ended_by_that_session_alone() -> None:
    before = BeforeSession("x")
    before.end()
    before.stop("SIGTERM")
    assert not before.cancel_scope.cancel_called
    before = BeforeSession("x")
    # As the second SIGTERM does.
    before.cancel(EndCause(CauseKind.SIGTERM, None))
    before.end()
    assert before.cancel_scope.cancel_called
    assert before.reason == "SIGTERM"


def test_a_shutdown_finds_a_durable_run_while_its_record_is_made_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long record a thread makes what a replay needs. The test holds that thread: nothing else tells of it."""
    begun, may_go, ran = threading.Event(), threading.Event(), list[int]()

    @rt.function_node
    async def step(number: int) -> int:
        ran.append(number)
        return number

    async def main() -> None:
        await rt.call_batch(step, range(1_001))
        await rt.wait_for_signal("go", park=True)
        await rt.call(step, -1)

    def held(rows: Any) -> Any:
        begun.set()
        may_go.wait(WAIT)
        return prepared(rows)

    flow = rt.Flow("flow", main, durable=tmp_path / "store.db", save_state=False)
    with pytest.raises(rt.SessionWaiting):
        flow.invoke(session_id="s")
    trio.run(partial(rt.send_signal, "s", "go", store=flow.store))
    prepared = run_room._prepared_slowly  # noqa: SLF001 - as said above
    monkeypatch.setattr(run_room, "_prepared_slowly", held)
    with ThreadPoolExecutor(2) as pool:
        resumed = pool.submit(flow.resume, "s")
        assert begun.wait(WAIT)
        shut = pool.submit(rt.shutdown, WAIT)
        has_returned_early = bool(wait([shut], 0.1).done)
        may_go.set()
        shut.result(WAIT)
        assert isinstance(resumed.exception(WAIT), rt.SessionCancelledError)
    assert not has_returned_early
    assert -1 not in ran
