"""SIGTERM drains what `Flow.invoke` runs in the main thread, the handler before comes back, and the process stops."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import railtracks as rt
from railtracks import testing
from railtracks._sessions.event_loops import leave_parents_run


@pytest.fixture(autouse=True)
def received() -> Iterator[list[int]]:
    """Whatever reaches the handler that was there before."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    handler = signal.getsignal(signal.SIGTERM)
    yield numbers
    assert signal.getsignal(signal.SIGTERM) is handler
    signal.signal(signal.SIGTERM, before)


def told_to_stop(seconds: float = 0.01) -> rt.Flow[[], str]:
    async def entry() -> str:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(seconds)
        return "result"

    return rt.Flow("told", entry)


def test_what_ends_within_the_grace_gives_its_result() -> None:
    assert told_to_stop().invoke() == "result"


def test_what_does_not_is_cancelled_and_says_so(home: Path) -> None:
    flow = told_to_stop(1_000)
    flow = rt.Flow("told", flow.entry_point, stop_on_sigterm=0.01)
    with pytest.raises(rt.SessionCancelledError, match=r"SIGTERM: calls were still running 0\.01 seconds after"):
        flow.invoke()
    (path,) = home.iterdir()
    state = rt.load_state(path)
    assert state.status == "cancelled"
    assert state.cause is not None
    assert state.cause.kind is rt.CauseKind.SIGTERM


def test_new_top_level_calls_are_refused_and_calls_of_running_ones_go_on() -> None:
    async def inner() -> str:
        return "inner"

    async def entry() -> str:
        session = rt.current_session()
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(0.01)
        with pytest.raises(rt.ContextError, match="is draining"):
            session.start_soon(inner)
        return await rt.call(inner)

    assert rt.Flow("told", entry, save_state=False).invoke() == "inner"


def test_a_second_signal_cancels_at_once() -> None:
    async def entry() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
        rt.Flow("told", entry, save_state=False, stop_on_sigterm=1_000).invoke()


def test_it_can_be_left_alone(received: list[int]) -> None:
    flow = rt.Flow("told", told_to_stop().entry_point, save_state=False, stop_on_sigterm=False)
    assert flow.update_context({"key": 1}).invoke() == "result"
    assert received == [signal.SIGTERM]


def test_a_process_that_ignores_it_goes_on_to() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert told_to_stop().invoke() == "result"
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


class _Odd:
    """A handler of the program that answers every comparison, or none."""

    def __init__(self, *, is_equal: bool) -> None:
        self._is_equal = is_equal
        self.heard = 0

    def __call__(self, *_: object) -> None:
        self.heard += 1

    def __eq__(self, _: object) -> bool:
        if self._is_equal:
            return True
        raise RuntimeError("no comparing")

    __hash__ = object.__hash__


@pytest.mark.parametrize("is_equal", [True, False])
def test_a_handler_of_the_program_is_never_compared(is_equal: bool) -> None:
    handler = _Odd(is_equal=is_equal)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
            rt.Flow("told", told_to_stop(5).entry_point, save_state=False, stop_on_sigterm=0.01).invoke()
        assert signal.getsignal(signal.SIGTERM) is handler
        assert handler.heard == 1
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_error_brings_the_old_handler_back_too(received: list[int]) -> None:
    async def fail() -> None:
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        rt.Flow("fails", fail, save_state=False).invoke()
    signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_a_signal_that_finds_nothing_to_end_goes_to_the_old_handler(received: list[int]) -> None:
    def hear(_: dict[str, Any]) -> None:
        # By now no call runs any more.
        trio.from_thread.run_sync(signal.raise_signal, signal.SIGTERM)

    async def entry() -> str:
        return "result"

    assert rt.Flow("late", entry, save_state=False, payload_callback=hear).invoke() == "result"
    assert received == [signal.SIGTERM]


def test_a_signal_that_comes_before_the_session_is_open_lets_nothing_run() -> None:
    ran: list[str] = []

    class Early(trio.abc.Instrument):
        """Strikes as the Trio run begins."""

        def before_run(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    async def entry() -> None:
        ran.append("entry")

    run = trio.run
    flow = rt.Flow("early", entry, save_state=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio, "run", lambda fn, *args: run(fn, *args, instruments=[Early()]))
        with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
            flow.invoke()
    assert ran == []


def test_in_another_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    async def entry() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=rt.Flow("thread", entry, save_state=False).invoke)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (float("nan"), ValueError), ("yes", TypeError), ([], TypeError)]
)
def test_what_is_no_grace_is_refused_where_it_is_given(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="stop_on_sigterm"):
        rt.Flow("flow", trio.sleep, stop_on_sigterm=value)


@pytest.mark.parametrize("value", [None, True, 0, 2.5])
def test_what_is_one_is_taken(value: Any) -> None:
    rt.Flow("flow", trio.sleep, stop_on_sigterm=value)


# What comes after the drain.


@pytest.fixture
def without_handler() -> Iterator[None]:
    """No handler of the program's own: SIGTERM would end this process."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def signals(*numbers: int) -> rt.Flow[[], None]:
    async def entry() -> None:
        for _ in numbers:
            signal.raise_signal(signal.SIGTERM)
        await trio.sleep(0.01)

    return rt.Flow("signals", entry, save_state=False)


async def done() -> str:
    return "done"


def test_a_handler_of_the_programs_own_is_called_once_when_the_run_is_over(received: list[int]) -> None:
    signals(1).invoke()
    assert received == [signal.SIGTERM]
    with pytest.raises(rt.SessionCancelledError):
        signals(1, 2, 3).invoke()
    assert received == [signal.SIGTERM] * 2
    # It decides what is next: here the program goes on.
    assert rt.Flow("next", done, save_state=False).invoke() == "done"


def test_a_handler_that_raises_ends_the_program_after_the_run(home: Path) -> None:
    def leave(*_: object) -> None:
        sys.exit(7)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit):
            told_to_stop().invoke()
    finally:
        signal.signal(signal.SIGTERM, before)
    (path,) = home.iterdir()
    assert rt.load_state(path).status == "completed"


def later_run(options: dict[str, Any]) -> str:
    return rt.Flow("later", done, save_state=False, **options).invoke()


@pytest.mark.usefixtures("without_handler")
@pytest.mark.parametrize("options", [{}, {"stop_on_sigterm": False}, {"stop_on_sigterm": 1.5}])
def test_without_a_handler_each_later_run_is_refused_before_it_starts(options: dict[str, Any]) -> None:
    assert told_to_stop().invoke() == "result"
    with testing.opened_sessions() as sessions:
        for _ in range(2):
            with pytest.raises(rt.SessionCancelledError, match="SIGTERM") as caught:
                later_run(options)
            assert caught.value.reason == "SIGTERM"
    assert sessions == []


@pytest.mark.usefixtures("without_handler")
def test_so_is_a_later_resume(tmp_path: Path) -> None:
    flow = rt.Flow("durable", done, durable=tmp_path / "store.db", save_state=False)
    assert flow.invoke(session_id="one") == "done"
    signals(1).invoke()
    with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
        flow.resume("one")


@pytest.mark.usefixtures("without_handler")
def test_a_run_that_failed_or_was_cancelled_in_the_drain_stops_the_process_too() -> None:
    async def fail() -> None:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(0.01)
        raise OSError("down")

    for flow, error in (
        (rt.Flow("fails", fail, save_state=False), OSError),
        (
            rt.Flow("late", told_to_stop(1_000).entry_point, save_state=False, stop_on_sigterm=0),
            rt.SessionCancelledError,
        ),
    ):
        with pytest.raises(error):
            flow.invoke()
        with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
            later_run({})
        testing.forget_sigterm()


@pytest.mark.usefixtures("without_handler")
@pytest.mark.parametrize("entry", [done, told_to_stop().entry_point], ids=["alone", "after another"])
def test_a_signal_that_finds_nothing_to_end_costs_no_result_and_stops_the_process(entry: Any) -> None:
    def hear(_: dict[str, Any]) -> None:
        # By now no call runs any more.
        trio.from_thread.run_sync(signal.raise_signal, signal.SIGTERM)

    assert rt.Flow("late", entry, save_state=False, payload_callback=hear).invoke() in {"done", "result"}
    with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
        later_run({})


@pytest.mark.usefixtures("without_handler")
def test_in_other_threads_and_in_trio_flows_run_as_before() -> None:
    signals(1).invoke()
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(later_run({})))
    thread.start()
    thread.join()
    assert results == ["done"]
    assert trio.run(rt.Flow("later", done, save_state=False).ainvoke) == "done"
    # In a thread of a running session it is a part of that session.
    assert trio.run(rt.call, rt.function_node(later_run), {}) == "done"


@pytest.mark.usefixtures("without_handler")
def test_a_forked_child_is_not_stopping() -> None:
    signals(1).invoke()
    leave_parents_run()
    assert later_run({}) == "done"


@pytest.mark.usefixtures("without_handler")
def test_the_plugin_of_pytest_forgets_it_after_each_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["railtracks.pytest_plugin"]')
    pytester.makepyfile(STOPPED_AND_RUN)
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


STOPPED_AND_RUN = """
import signal
import pytest
import railtracks as rt

async def stop():
    signal.raise_signal(signal.SIGTERM)

flow = rt.Flow("flow", stop, save_state=False)

@pytest.mark.parametrize("round", [1, 2])
def test_each_is_drained(round):
    flow.invoke()
    with pytest.raises(rt.SessionCancelledError):
        flow.invoke()
"""


LOOP = """
import signal, trio, railtracks as rt

async def item(number):
    print("run", number, flush=True)
    await trio.sleep(0.01)
    if number == {number}:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(0.01)
    return number

flow = rt.Flow("items", item, save_state=False, logging_setting="NONE")
for number in range(1_000):
    {between}
    print("got", flow.invoke(number), flush=True)
"""


def test_a_loop_of_short_runs_ends_with_the_run_that_was_drained() -> None:
    script = LOOP.format(number=1, between="pass")
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stdout == "run 0\ngot 0\nrun 1\ngot 1\n"
    assert ended.returncode == 1
    assert "SessionCancelledError: the session was cancelled: SIGTERM" in ended.stderr


def test_between_two_runs_the_signal_has_its_default_effect() -> None:
    script = LOOP.format(number=-1, between="if number == 1: signal.raise_signal(signal.SIGTERM)")
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stdout == "run 0\ngot 0\n"
    assert ended.returncode == -signal.SIGTERM


SCRIPT = """
import signal, trio, railtracks as rt

async def entry():
    try:
        print("ready", flush=True)
        await trio.sleep_forever()
    finally:
        print("cleaned up", flush=True)

flow = rt.Flow("script", entry, stop_on_sigterm=0.1, logging_setting="NONE")
try:
    flow.invoke()
except rt.SessionCancelledError:
    print("cancelled", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
"""


def test_a_script_has_cleaned_up_and_saved_before_it_goes_on(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        script.send_signal(signal.SIGTERM)
        assert script.stdout.read() == "cleaned up\ncancelled True\n"
    assert script.returncode == 0
    (path,) = home.iterdir()
    assert rt.load_state(path).status == "cancelled"


def test_a_wait_for_a_session_that_another_owner_runs_is_ended(tmp_path: Path) -> None:
    has_begun, may_end, is_over = threading.Event(), threading.Event(), threading.Event()

    async def slow() -> str:
        has_begun.set()
        await trio.to_thread.run_sync(may_end.wait)
        return "result"

    def press() -> None:
        # Outside of the run the signal is the business of the fixture's handler.
        while not is_over.wait(0.05):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    flow = rt.Flow("slow", slow, durable=rt.DurableStore(tmp_path / "store.db", durability="process"), save_state=False)
    owner = threading.Thread(target=lambda: flow.invoke(session_id="s"))
    presser = threading.Thread(target=press)
    owner.start()
    assert has_begun.wait(60)
    presser.start()
    try:
        with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
            flow.resume("s", wait=3_600)
    finally:
        is_over.set()
        may_end.set()
        presser.join(60)
        owner.join(60)


def test_the_first_signal_drains_a_session_that_drains_already(received: list[int]) -> None:
    async def entry() -> str:
        session = rt.current_session()

        @contextlib.asynccontextmanager
        async def draining() -> AsyncIterator[None]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.drain, 1_000)
                yield
                nursery.cancel_scope.cancel()

        await session.enter_async_context(draining())
        await trio.testing.wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked()
        return "result"

    assert rt.Flow("drained", entry, save_state=False).invoke() == "result"
    assert len(received) == 1
