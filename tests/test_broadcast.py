"""Broadcasts: in order, exactly once, all before the session ends, whatever the callback does."""

import inspect
import sys
import threading
from types import FrameType
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks._sessions.broadcast import BUFFER


@rt.function_node
async def tell(*items: object) -> None:
    for item in items:
        await rt.broadcast(item)


async def test_items_reach_an_async_callback_in_order_exactly_once() -> None:
    heard: list[int] = []

    async def hear(item: int) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(item)

    async with rt.Session(broadcast_callback=hear):
        await rt.call(tell, *range(3 * BUFFER))
    assert heard == list(range(3 * BUFFER))


async def test_sync_callback_runs_in_a_thread_one_at_a_time_and_in_order() -> None:
    heard: list[int] = []
    threads: set[threading.Thread] = set()
    running = threading.Lock()

    def hear(item: int) -> None:
        assert running.acquire(blocking=False)
        threads.add(threading.current_thread())
        heard.append(item)
        running.release()

    async with rt.Session(broadcast_callback=hear):
        await rt.call(tell, *range(20))
    assert heard == list(range(20))
    assert threading.current_thread() not in threads


async def test_sync_callback_that_gives_back_a_coroutine_has_it_awaited() -> None:
    heard: list[str] = []

    async def hear(item: str) -> None:
        heard.append(item)

    async with rt.Session(broadcast_callback=lambda item: hear(item)):  # noqa: PLW0108 - a sync function is the subject
        await rt.broadcast("item")
    assert heard == ["item"]


async def test_item_is_handed_over_as_it_is() -> None:
    heard: list[object] = []
    item = {"list": [1]}

    async def hear(item: object) -> None:
        heard.append(item)

    async with rt.Session(broadcast_callback=hear):
        await rt.broadcast(item)
    assert heard[0] is item


@pytest.mark.parametrize("how", ["end", "error", "cancel", "timeout", "outside"])
async def test_everything_is_delivered_before_the_session_ends_whatever_its_end(
    how: str, autojump_clock: MockClock
) -> None:
    heard: list[int] = []

    async def hear(item: int) -> None:
        await trio.sleep(0.1)
        heard.append(item)

    async def run() -> None:
        async with rt.Session(broadcast_callback=hear, timeout=10) as session:
            await rt.call(tell, *range(20))
            if how == "error":
                raise ValueError("body")
            if how == "cancel":
                session.cancel()
            if how == "outside":
                outside.cancel()
            if how in {"timeout", "outside"}:
                await trio.sleep_forever()

    if how in {"end", "cancel"}:
        await run()
    elif how == "outside":
        with trio.CancelScope() as outside:
            await run()
    else:
        with pytest.raises((ValueError, rt.SessionTimeoutError)):
            await run()
    assert heard == list(range(20))


async def test_broadcasts_of_several_tasks_and_threads_arrive_exactly_once() -> None:
    heard: list[int] = []

    async def hear(item: int) -> None:
        heard.append(item)

    @rt.function_node
    def tell_from_thread(item: int) -> None:
        trio.from_thread.run(rt.broadcast, item)

    async with rt.Session(broadcast_callback=hear), rt.open_group() as group:
        for item in range(10):
            group.start_soon(tell, item)
            group.start_soon(tell_from_thread, item + 10)
    assert sorted(heard) == list(range(20))


async def test_full_buffer_makes_broadcast_wait() -> None:
    heard: list[int] = []
    go_on = trio.Event()

    async def hear(item: int) -> None:
        await go_on.wait()
        heard.append(item)

    async with rt.Session(broadcast_callback=hear) as session:
        # One is with the callback, the others are in the buffer.
        fits = session.start_soon(tell, *range(BUFFER + 1))
        await wait_all_tasks_blocked()
        assert fits.status == "completed"
        waits = session.start_soon(tell, BUFFER + 1)
        await wait_all_tasks_blocked()
        assert waits.status == "running"
        go_on.set()
    assert heard == list(range(BUFFER + 2))


async def test_broadcast_that_is_cancelled_while_it_waits_is_not_delivered() -> None:
    heard: list[int] = []
    go_on = trio.Event()

    async def hear(item: int) -> None:
        await go_on.wait()
        heard.append(item)

    async with rt.Session(broadcast_callback=hear) as session:
        await rt.call(tell, *range(BUFFER + 1))
        waits = session.start_soon(tell, BUFFER + 1)
        await wait_all_tasks_blocked()
        waits.cancel()
        go_on.set()
    assert heard == list(range(BUFFER + 1))


async def raise_async(item: object) -> None:
    raise ValueError(f"cannot take {item}")


def raise_sync(item: object) -> None:
    raise ValueError(f"cannot take {item}")


@pytest.mark.parametrize("callback", [raise_async, raise_sync])
async def test_errors_of_the_callback_are_logged_and_change_nothing(
    callback: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with rt.Session(broadcast_callback=callback, end_on_error=True) as session:
        await rt.call(tell, "one", "two")
    assert session.status == "completed"
    assert {(record.levelname, record.name) for record in caplog.records} == {("ERROR", "RT.Session")}
    assert {record.session_id for record in caplog.records} == {session.identifier}
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("broadcast_callback failed\n")
    assert "ValueError: cannot take one" in first
    assert "ValueError: cannot take two" in second


async def test_error_of_the_callback_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(item: dict[str, str]) -> None:
        raise ValueError(f"cannot take {item['token']} with {rt.context.get('password')}")

    async with rt.Session({"password": "canary-context"}, broadcast_callback=fail):
        await rt.broadcast({"token": "canary-item"})
    assert "cannot take" in caplog.text
    assert "canary" not in caplog.text


async def test_cleanup_timeout_cancels_a_callback_that_hangs(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled: list[int] = []

    async def hang(item: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(item)

    async with rt.Session(broadcast_callback=hang, cleanup_timeout=3, save_state=False) as session:
        await rt.call(tell, *range(5))
        ended = trio.current_time()
    assert trio.current_time() == ended + 3
    assert cancelled == [0]
    assert session.status == "completed"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "cleanup did not finish within its 3 seconds (cleanup_timeout): "
        "broadcast_callback 'hang' has not taken 5 of its items"
    )


async def test_cleanup_timeout_is_for_resources_and_broadcasts_together(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def hear(item: int) -> None:
        await trio.sleep(2)

    class Slow:
        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *_: object) -> None:
            await trio.sleep(2)

    async with rt.Session(broadcast_callback=hear, cleanup_timeout=3, save_state=False) as session:
        await session.enter_async_context(Slow())
        await rt.call(tell, 1, 2)
        await wait_all_tasks_blocked()
        ended = trio.current_time()
    assert trio.current_time() == ended + 3
    assert "(cleanup_timeout): broadcast_callback 'hear' has not taken 1 of its items" in caplog.text


async def test_callback_has_all_of_its_time_when_it_takes_no_longer_than_the_cleanup_timeout(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []

    async def hear(item: int) -> None:
        await trio.sleep(1)
        heard.append(item)

    async with rt.Session(broadcast_callback=hear, cleanup_timeout=10, save_state=False):
        await rt.call(tell, *range(5))
    assert heard == list(range(5))
    assert caplog.records == []


async def test_sync_callback_over_the_cleanup_timeout_is_awaited_as_a_thread_cannot_be_stopped(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    began, warned = trio.Event(), trio.Event()
    monkeypatch.setattr(caplog.handler, "filters", [lambda record: warned.set() or True])
    token = trio.lowlevel.current_trio_token()

    def hear(item: str) -> None:
        trio.from_thread.run_sync(began.set)
        trio.from_thread.run(warned.wait, trio_token=token)
        heard.append(item)

    async def expire() -> None:
        await began.wait()
        await wait_all_tasks_blocked()
        mock_clock.jump(3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expire)
        async with rt.Session(broadcast_callback=hear, cleanup_timeout=2, save_state=False):
            await rt.call(tell, "first", "second")
    assert heard == ["first"]
    assert "'hear' has not taken 2 of its items" in caplog.text


async def test_callback_that_nothing_is_broadcast_to_is_not_called() -> None:
    heard: list[object] = []
    async with rt.Session(broadcast_callback=heard.append) as session:
        pass
    assert heard == []
    assert session.status == "completed"


async def test_callback_of_another_session_hears_nothing() -> None:
    heard: list[str] = []

    async def hear(item: str) -> None:
        heard.append(item)

    async with rt.Session(broadcast_callback=hear):
        await rt.broadcast("outer")
        async with rt.Session():
            await rt.broadcast("inner")
    assert heard == ["outer"]


async def test_without_a_callback_broadcast_is_a_checkpoint_and_nothing_else() -> None:
    async with rt.Session():
        with trio.testing.assert_checkpoints():
            await rt.broadcast("item")


async def test_outside_of_a_session_it_is_a_context_error() -> None:
    with pytest.raises(rt.ContextError, match="no session is open here"):
        await rt.broadcast("item")


async def test_when_everything_was_delivered_it_is_a_context_error() -> None:
    async def hear(item: object) -> None:
        heard.append(item)

    async def hear_payload(_: object) -> None:
        with pytest.raises(rt.ContextError, match="this item cannot be broadcast any more"):
            await rt.broadcast("late")
        heard.append("payload")

    heard: list[object] = []
    async with rt.Session(broadcast_callback=hear, payload_callback=hear_payload):
        await rt.broadcast("item")
    assert heard == ["item", "payload"]


async def test_when_the_delivery_was_given_up_it_is_a_context_error(autojump_clock: MockClock) -> None:
    refused: list[bool] = []

    async def hear(item: object) -> None:
        await trio.sleep_forever()

    class Telling:
        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *_: object) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await wait_all_tasks_blocked()
                    with pytest.raises(rt.ContextError, match="this item cannot be broadcast any more"):
                        await rt.broadcast("late")
                refused.append(True)

    async with rt.Session(broadcast_callback=hear, save_state=False) as session:
        await session.enter_async_context(Telling())
        await rt.broadcast("item")
    assert refused == [True]


async def test_callback_may_not_call_nodes(caplog: pytest.LogCaptureFixture) -> None:
    async def hear(item: str) -> None:
        await rt.call(tell, item)

    async with rt.Session(broadcast_callback=hear) as session:
        await rt.broadcast("item")
    assert "ContextError" in caplog.text
    assert session.info.calls == ()


async def test_a_callback_that_broadcasts_is_refused_as_it_would_wait_for_itself() -> None:
    refusals: list[BaseException] = []

    async def again(item: str) -> None:
        try:
            await rt.broadcast(item)
        except rt.ContextError as error:
            refusals.append(error)

    async with rt.Session(broadcast_callback=again):
        await rt.broadcast("once")
    assert len(refusals) == 1


async def test_error_in_the_cleanup_of_a_callback_that_was_given_up_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(item: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("cleanup")

    async with rt.Session(broadcast_callback=hang, cleanup_timeout=3, save_state=False) as session:
        await rt.broadcast("item")
    assert session.status == "completed"
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().startswith("broadcast_callback failed\n")
    assert "ValueError: cleanup" in record.getMessage()


async def test_system_exit_of_an_async_callback_comes_out_bare() -> None:
    error = SystemExit(3)

    async def leave(item: str) -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        async with rt.Session(broadcast_callback=leave):
            await rt.broadcast("item")
    assert caught.value is error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_a_callback_that_ends_the_program_at_each_item_ends_it_once(error: BaseException) -> None:
    heard: list[int] = []

    def leave(item: int) -> None:
        heard.append(item)
        raise error if item == 0 else type(error)()

    with pytest.raises(type(error)) as caught:
        async with rt.Session(broadcast_callback=leave, save_state=False):
            for item in range(3):
                await rt.broadcast(item)
    assert caught.value is error
    assert heard == [0, 1, 2]


def test_ctrl_c_before_the_coroutine_of_a_plain_callback_is_awaited_closes_it() -> None:
    returned: list[object] = []

    async def hear() -> None: ...

    def call_back(item: object) -> object:
        returned.append(hear())
        return returned[0]

    def line(frame: FrameType, event: str, _: object) -> Any:
        # Where Ctrl-C strikes at once, because users' code is awaited there.
        if frame.f_code.co_name == "_awaited" and event == "line":
            sys.settrace(None)
            raise KeyboardInterrupt
        return line

    async def main() -> None:
        async with rt.Session(broadcast_callback=call_back, save_state=False):
            await rt.broadcast("item")

    before = sys.gettrace()
    try:
        sys.settrace(line)
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
    finally:
        sys.settrace(before)
    (coroutine,) = returned
    assert inspect.iscoroutine(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
