"""The option `in_thread`: `invoke` runs a flow on the process's Trio thread; errors of signal handlers cancel it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio

import railtracks as rt
from railtracks._sessions.in_trio_thread import run_in_trio_thread
from railtracks._sessions.trio_thread import forget_parents_thread, trio_thread

pytestmark = pytest.mark.usefixtures("no_trio_thread_afterwards")

WAIT = 10
USER: ContextVar[str] = ContextVar("user", default="nobody")


@rt.function_node
async def where() -> str:
    return threading.current_thread().name


class SoftLimitError(Exception):
    """What a signal handler raises, as that of Celery does."""


@pytest.fixture
def soft_limit() -> Iterator[None]:
    def strike(*_: object) -> None:
        raise SoftLimitError

    before = signal.signal(signal.SIGUSR1, strike)
    yield
    signal.signal(signal.SIGUSR1, before)


def flow_of(fn: Any, **options: Any) -> rt.Flow[..., Any]:
    return rt.Flow("flow", fn, **{"in_thread": True, "save_state": False, **options})


def test_the_flow_runs_on_the_trio_thread_where_flows_of_asyncio_run_too() -> None:
    async def run() -> object:
        return trio.lowlevel.current_trio_token()

    token = flow_of(run).invoke()
    assert token is flow_of(run).invoke()
    assert token is asyncio.run(flow_of(run).ainvoke())


def test_results_errors_and_context_variables_are_those_of_any_run() -> None:
    error = ValueError("no")

    async def fail() -> None:
        raise error

    async def look() -> str:
        return USER.get()

    with pytest.raises(ValueError, match="no") as caught:
        flow_of(fail).invoke()
    assert caught.value is error
    token = USER.set("ada")
    assert flow_of(look).invoke() == "ada"
    USER.reset(token)
    with pytest.raises(rt.SessionTimeoutError):
        flow_of(trio.sleep_forever, timeout=0.01).invoke()


def test_an_error_of_a_signal_handler_cancels_the_flow_and_comes_out_when_its_cleanup_is_done(
    soft_limit: None, home: Path
) -> None:
    events: list[str] = []

    async def hang() -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            events.append("cleaned up")

    with pytest.raises(SoftLimitError):
        flow_of(hang, save_state=True).invoke()
    assert events == ["cleaned up"]
    (path,) = home.iterdir()
    assert rt.load_state(path).status == "cancelled"


def test_a_second_error_does_not_cut_the_cleanup_short_and_the_last_one_is_raised(soft_limit: None) -> None:
    events: list[str] = []

    async def hang() -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                os.kill(os.getpid(), signal.SIGINT)
                await trio.sleep(0.05)
            events.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        flow_of(hang).invoke()
    assert events == ["cleaned up"]


def test_an_error_of_the_cleanup_is_the_context_of_the_handlers(soft_limit: None) -> None:
    error = ValueError("in the cleanup")

    async def hang() -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await trio.sleep_forever()
        finally:
            raise error

    with pytest.raises(SoftLimitError) as caught:
        flow_of(hang).invoke()
    assert caught.value.__context__ is error


def test_an_error_before_the_flow_has_begun_runs_nothing_of_it(soft_limit: None) -> None:
    ran, is_occupied, release = list[str](), threading.Event(), threading.Event()

    async def occupy() -> None:
        is_occupied.set()
        release.wait(WAIT)

    async def entry() -> None:
        ran.append("entry")

    def strike(_: int, frame: Any) -> None:
        # While the main thread waits for the flow: the first time it has to begin, the second time it was cancelled.
        if frame.f_code.co_name != "wait" or release.is_set():
            return
        if raised:
            release.set()
            return
        raised.append(True)
        raise SoftLimitError

    def keep_striking() -> None:
        while not release.wait(0.01):
            os.kill(os.getpid(), signal.SIGUSR1)

    raised: list[bool] = []
    thread = threading.Thread(target=flow_of(occupy).invoke)
    thread.start()
    assert is_occupied.wait(WAIT)
    signal.signal(signal.SIGUSR1, strike)
    striking = threading.Thread(target=keep_striking)
    striking.start()
    with pytest.raises(SoftLimitError):
        flow_of(entry).invoke()
    striking.join(WAIT)
    thread.join(WAIT)
    assert ran == []


def test_sigterm_drains_it_as_it_drains_any_run_in_the_main_thread() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))

    async def entry() -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep(0.01)
        return "result"

    assert flow_of(entry).invoke() == "result"

    async def hang() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()

    with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
        flow_of(hang, stop_on_sigterm=0).invoke()
    assert received == [signal.SIGTERM] * 2
    signal.signal(signal.SIGTERM, before)


def test_in_the_thread_of_a_node_it_runs_in_the_run_of_the_node() -> None:
    async def token() -> object:
        return trio.lowlevel.current_trio_token()

    inner = flow_of(token)

    async def main() -> bool:
        return await rt.call(inner.invoke) is trio.lowlevel.current_trio_token()

    assert trio.run(main)


def test_a_thread_that_was_started_in_a_flow_of_the_trio_thread_runs_a_flow_of_its_own() -> None:
    async def look() -> str | None:
        return rt.session_id()

    def node() -> tuple[object, str | None]:
        return asyncio.run(asyncio.to_thread(flow_of(look).invoke)), rt.session_id()

    inner, outer = flow_of(node).invoke()
    assert inner != outer


def test_where_an_event_loop_runs_it_says_to_use_ainvoke() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="Use 'ainvoke' instead"):
            flow_of(where).invoke()

    asyncio.run(main())


@pytest.mark.parametrize("connect", [True, False])
def test_a_durable_flow_is_resumed_there(tmp_path: Path, connect: bool) -> None:
    flow = flow_of(where, durable=tmp_path / "store.db")
    name = flow.invoke(session_id="s")
    assert name == "railtracks: Trio"
    assert (flow.connect() if connect else flow).resume("s") == name


def test_the_flow_goes_before_the_configuration_and_that_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_there(**options: Any) -> bool:
        name: str = rt.Flow("where", where, save_state=False, **options).invoke()
        return name == "railtracks: Trio"

    assert not is_there()
    monkeypatch.setenv("RAILTRACKS_IN_THREAD", "1")
    assert is_there()
    rt.set_config(in_thread=False)
    assert not is_there()
    assert is_there(in_thread=True)
    rt.set_config(in_thread=None)
    assert is_there()
    assert not is_there(in_thread=False)
    monkeypatch.setenv("RAILTRACKS_IN_THREAD", "maybe")
    with pytest.raises(ValueError, match=r"RAILTRACKS_IN_THREAD must be 0 or 1, not 'maybe'"):
        is_there()


def test_a_flow_reads_the_environment_at_its_first_run_and_after_each_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow = rt.Flow("where", where, save_state=False)
    assert flow.invoke() != "railtracks: Trio"
    monkeypatch.setenv("RAILTRACKS_IN_THREAD", "1")
    assert flow.invoke() != "railtracks: Trio"
    rt.set_config(in_thread=None)
    assert flow.invoke() == "railtracks: Trio"


def test_at_the_end_of_the_interpreter_it_is_cancelled_and_nothing_begins_any_more() -> None:
    began, ends = threading.Event(), list[str]()

    async def hang() -> None:
        began.set()
        await trio.sleep_forever()

    def run() -> None:
        try:
            flow_of(hang).invoke()
        except rt.SessionCancelledError as error:
            ends.append(str(error.reason))

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(WAIT)
    trio_thread().close()
    thread.join(WAIT)
    assert ends == ["the interpreter is shutting down"]
    with pytest.raises(RuntimeError, match="the interpreter is shutting down"):
        run_in_trio_thread(trio.lowlevel.checkpoint)
    forget_parents_thread()
    assert flow_of(where).invoke() == "railtracks: Trio"
