"""SIGTERM drains what `Flow.invoke` runs in the main thread, and the handler that was there before comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import railtracks as rt


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


def test_what_ends_within_the_grace_gives_its_result(received: list[int]) -> None:
    assert told_to_stop().invoke() == "result"
    assert received == []


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
