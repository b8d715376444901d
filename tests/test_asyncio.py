"""Flows in asyncio: `await flow.ainvoke(...)` runs them in the one Trio thread of the process, and loses nothing."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio

import railtracks as rt
from railtracks._sessions.trio_thread import TrioThread, forget_parents_thread, trio_thread
from railtracks.testing import opened_sessions, run_with_mock_clock

pytestmark = pytest.mark.usefixtures("no_trio_thread_afterwards")

USER: ContextVar[str] = ContextVar("user", default="nobody")


@rt.function_node
async def double(number: int) -> int:
    return 2 * number


@rt.function_node
async def where() -> tuple[object, str | None, str]:
    return trio.lowlevel.current_trio_token(), rt.session_id(), threading.current_thread().name


DOUBLE = rt.Flow("double", double)
WHERE = rt.Flow("where", where)


class Guarded:
    """A flow that sleeps until it is cancelled, and whose cleanup waits until the test lets it go on."""

    def __init__(self, *, is_held: bool = False) -> None:
        self.events: list[str] = []
        self.began, self.in_cleanup, self.cleaned_up = threading.Event(), threading.Event(), threading.Event()
        self._go_on = trio.Event()
        self._is_held = is_held
        self.flow = rt.Flow("guarded", self._sleep)
        self._token: trio.lowlevel.TrioToken

    async def _sleep(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.events.append("began")
        self.began.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                self.in_cleanup.set()
                if self._is_held:
                    await self._go_on.wait()
                await trio.lowlevel.checkpoint()
            self.events.append("cleaned up")
            self.cleaned_up.set()

    def go_on(self) -> None:
        self._token.run_sync_soon(self._go_on.set)

    async def task(self) -> None:
        try:
            await self.flow.ainvoke()
        finally:
            self.events.append("task goes on")

    async def started(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.task())
        await asyncio.to_thread(self.began.wait, 10)
        return task


WHOLE = ["began", "cleaned up", "task goes on"]


class OccupiedTrioThread:
    """A block in which the Trio thread takes no step."""

    def __init__(self) -> None:
        self._is_occupied, self._release = threading.Event(), threading.Event()

    async def __aenter__(self) -> None:
        async def occupy() -> None:
            self._is_occupied.set()
            self._release.wait(10)

        self._task = asyncio.create_task(rt.Flow("occupy", occupy).ainvoke())
        await asyncio.to_thread(self._is_occupied.wait, 10)

    async def __aexit__(self, *_: object) -> None:
        self._release.set()
        await self._task


def end_trio_thread() -> None:
    """End the Trio thread, as the end of the interpreter does; the next flow starts another one, as after a fork."""
    trio_thread().close()
    forget_parents_thread()


# Results, errors, context variables.


def test_ainvoke_in_asyncio_returns_the_result() -> None:
    assert asyncio.run(DOUBLE.ainvoke(4)) == 8
    assert asyncio.run(DOUBLE.ainvoke(number=5)) == 10


def test_the_event_loop_has_a_turn_while_many_flows_begin_and_end_and_one_alone_does_not_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses, real = list[str](), time.sleep

    def sleep(seconds: float) -> None:
        pauses.append(threading.current_thread().name)
        real(seconds)

    monkeypatch.setattr("railtracks._sessions.trio_thread.sleep", sleep)

    async def main(count: int) -> None:
        await asyncio.gather(*[DOUBLE.ainvoke(number) for number in range(count)])

    asyncio.run(main(1))
    assert "railtracks: Trio" not in pauses
    asyncio.run(main(100))
    assert "railtracks: Trio" in pauses


def test_a_sleep_that_a_test_of_the_program_replaces_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_: float) -> None:
        raise AssertionError

    monkeypatch.setattr(time, "sleep", sleep)
    flow = rt.Flow("flow", double, save_state=False)

    async def main() -> list[int]:
        return await asyncio.gather(*[flow.ainvoke(number) for number in range(100)])

    assert asyncio.run(main()) == [2 * number for number in range(100)]


def test_two_hundred_flows_at_once_are_right_and_run_in_one_trio_run() -> None:
    @rt.function_node
    async def rest(number: int) -> tuple[int, object]:
        await trio.sleep(0.01)
        return await rt.call(double, number), trio.lowlevel.current_trio_token()

    flow = rt.Flow("rest", rest, save_state=False)

    async def main() -> list[tuple[int, object]]:
        return await asyncio.gather(*(flow.ainvoke(number) for number in range(200)))

    came = asyncio.run(main())
    assert [number for number, _ in came] == [2 * number for number in range(200)]
    assert len({token for _, token in came}) == 1


def test_every_loop_of_the_process_uses_the_same_trio_thread() -> None:
    tokens = [asyncio.run(WHERE.ainvoke())[0] for _ in range(2)]
    elsewhere: list[object] = []
    thread = threading.Thread(target=lambda: elsewhere.append(asyncio.run(WHERE.ainvoke())[0]))
    thread.start()
    thread.join()
    assert tokens[0] is tokens[1] is elsewhere[0]


def test_context_variables_go_in_and_those_of_the_flow_stay_there() -> None:
    async def look() -> str:
        seen = USER.get()
        USER.set("the flow")
        return seen

    async def main() -> tuple[str, str]:
        USER.set("ada")
        return await rt.Flow("look", look).ainvoke(), USER.get()

    assert asyncio.run(main()) == ("ada", "ada")


class OwnError(Exception):
    """An error whose class cannot be asked for much."""

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("frozen")


class Ending(BaseException):
    """What is to end a program."""


@pytest.mark.parametrize(
    "error", [ValueError("no"), OwnError("no"), Ending(), ExceptionGroup("two", [ValueError(), KeyError()])]
)
def test_an_error_of_the_flow_is_the_same_object_in_asyncio(error: BaseException) -> None:
    async def fail() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await rt.Flow("fail", fail).ainvoke()
        assert caught.value is error

    asyncio.run(main())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_is_to_end_the_program_ends_the_loop(error: BaseException) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        asyncio.run(rt.Flow("fail", fail).ainvoke())
    assert caught.value is error
    # And not the Trio thread.
    assert asyncio.run(DOUBLE.ainvoke(4)) == 8


def test_a_timeout_and_a_cancel_of_the_session_are_the_errors_that_they_are_in_trio() -> None:
    async def cancel() -> None:
        rt.current_session().cancel("enough")
        await trio.sleep_forever()

    async def main() -> None:
        with pytest.raises(rt.SessionTimeoutError):
            await rt.Flow("slow", trio.sleep_forever, timeout=0.01).ainvoke()
        with pytest.raises(rt.SessionCancelledError, match="enough"):
            await rt.Flow("cancel", cancel).ainvoke()

    asyncio.run(main())


def test_ainvoke_handles_no_signals() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def look() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def main() -> list[object]:
        return [signal.getsignal(signal.SIGTERM), (await rt.Flow("look", look).ainvoke())[0]]

    assert asyncio.run(main()) == [handlers[0], handlers[0]]


def test_durable_flows_run_and_are_resumed_in_asyncio(tmp_path: Path) -> None:
    flow = rt.Flow("durable", double, durable=tmp_path / "store.db")

    async def main() -> list[int]:
        return [await flow.ainvoke(4, session_id="four"), await flow.aresume("four")]

    assert asyncio.run(main()) == [8, 8]


def test_worker_processes_outlive_the_flows_of_asyncio_and_end_with_the_trio_thread() -> None:
    rt.set_config(process_limit=1)
    flow = rt.Flow("pid", rt.function_node(os.getpid, run_in="process"), save_state=False)

    async def main() -> set[int]:
        return {await flow.ainvoke() for _ in range(2)}

    (worker,) = asyncio.run(main())
    assert worker != os.getpid()
    end_trio_thread()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


# Cancels.


def cause_of(home: Path, name: str) -> rt.EndCause | None:
    (path,) = home.glob(f"{name}-*.json")
    state = rt.load_state(path)
    assert state.status == "cancelled"
    return state.cause


def test_a_cancel_before_the_trio_side_begins_runs_nothing_of_the_flow() -> None:
    guarded = Guarded()

    async def main() -> list[rt.Session]:
        with opened_sessions() as sessions:
            async with OccupiedTrioThread():
                task = asyncio.create_task(guarded.task())
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.sleep(0)
                # It waits until the Trio thread has heard of the cancel.
                assert not task.done()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
        return [session for session in sessions if session.flow_name == "guarded"]

    assert asyncio.run(main()) == []
    assert guarded.events == ["task goes on"]


def test_a_cancel_before_the_first_step_of_the_task_runs_nothing_at_all() -> None:
    guarded = Guarded()

    async def main() -> None:
        task = asyncio.create_task(guarded.task())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert guarded.events == []


def test_a_cancelled_task_goes_on_when_the_cleanup_is_done_and_the_state_is_saved(home: Path) -> None:
    guarded = Guarded()

    async def main() -> None:
        task = await guarded.started()
        task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError, match="from outside"):
            await task
        # The record tells of a cancel that came from outside of the session.
        assert cause_of(home, "guarded") == rt.EndCause(rt.CauseKind.OUTER_SCOPE)

    asyncio.run(main())
    assert guarded.events == WHOLE


def test_further_cancels_in_the_cleanup_do_not_cut_it_short_and_the_last_one_is_raised() -> None:
    guarded = Guarded(is_held=True)

    async def main() -> None:
        task = await guarded.started()
        task.cancel("first")
        await asyncio.to_thread(guarded.in_cleanup.wait, 10)
        for reason in ("second", "third"):
            task.cancel(reason)
            await asyncio.sleep(0)
        assert guarded.events == ["began"]
        guarded.go_on()
        with pytest.raises(asyncio.CancelledError, match="third"):
            await task

    asyncio.run(main())
    assert guarded.events == WHOLE


def test_asyncio_timeout_cancels_the_flow_and_raises_its_timeout_error() -> None:
    guarded = Guarded()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as timeout:
                task = asyncio.current_task()
                assert task is not None
                loop = asyncio.get_running_loop()

                async def expire() -> None:
                    await asyncio.to_thread(guarded.began.wait, 10)
                    timeout.reschedule(loop.time())

                expiring = asyncio.create_task(expire())
                await guarded.task()
        await expiring
        # The cancel is used up: the task goes on as if it had not been.
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(main())
    assert guarded.events == WHOLE


def test_wait_for_cancels_the_flow_and_waits_for_its_cleanup() -> None:
    guarded = Guarded()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(await guarded.started(), 0.01)

    asyncio.run(main())
    assert guarded.events == WHOLE


def test_a_task_group_cancels_the_flow_of_a_task_when_another_one_fails() -> None:
    guarded = Guarded()

    async def fail() -> None:
        await asyncio.to_thread(guarded.began.wait, 10)
        raise ValueError("no")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(guarded.task())
                group.create_task(fail())
        assert [str(error) for error in caught.value.exceptions] == ["no"]

    asyncio.run(main())
    assert guarded.events == WHOLE


def test_gather_hands_out_errors_of_flows_beside_results() -> None:
    async def fail() -> int:
        raise ValueError("no")

    async def main() -> list[object]:
        return list(await asyncio.gather(DOUBLE.ainvoke(4), rt.Flow("fail", fail).ainvoke(), return_exceptions=True))

    eight, error = asyncio.run(main())
    assert eight == 8
    assert isinstance(error, ValueError)


def test_ctrl_c_cleans_up_before_asyncio_run_raises_it() -> None:
    guarded = Guarded()

    async def main() -> None:
        task = await guarded.started()
        os.kill(os.getpid(), signal.SIGINT)
        await task

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert guarded.events == WHOLE


def test_the_end_of_asyncio_run_cleans_up_the_flow_of_a_task_that_is_left() -> None:
    guarded = Guarded()

    async def main() -> None:
        await guarded.started()

    asyncio.run(main())
    assert guarded.events == WHOLE


def after_cancel(error: BaseException) -> tuple[rt.Flow[[], None], threading.Event]:
    began = threading.Event()

    async def fail_in_cleanup() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            raise error

    return rt.Flow("fail_in_cleanup", fail_in_cleanup), began


def test_an_error_of_the_cleanup_is_the_context_of_the_cancel() -> None:
    error = ValueError("in the cleanup")
    flow, began = after_cancel(error)

    async def main() -> None:
        task = asyncio.create_task(flow.ainvoke())
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        assert cancelled.value.__context__ is error
        assert task.cancelled()

    asyncio.run(main())


def test_what_is_to_end_the_program_goes_before_the_cancel() -> None:
    flow, began = after_cancel(SystemExit(3))

    async def main() -> None:
        task = asyncio.create_task(flow.ainvoke())
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        await task

    with pytest.raises(SystemExit):
        asyncio.run(main())


def test_a_loop_that_is_closed_meanwhile_leaves_the_flow_to_end_by_itself() -> None:
    guarded = Guarded(is_held=True)

    async def main() -> asyncio.Task[None]:
        return await guarded.started()

    loop = asyncio.new_event_loop()
    # It would be told of the task that is left pending.
    loop.set_exception_handler(lambda *_: None)
    task = loop.run_until_complete(main())
    task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    guarded.go_on()

    assert guarded.cleaned_up.wait(10)
    # The Trio thread has taken no harm.
    assert asyncio.run(DOUBLE.ainvoke(4)) == 8
    # Its coroutine waits for a loop that is no more.
    with suppress(RuntimeError):
        task.get_coro().close()


def test_a_coroutine_that_is_closed_cancels_its_flow() -> None:
    guarded = Guarded()

    async def main() -> None:
        waiting = guarded.flow.ainvoke()
        waiting.send(None)
        await asyncio.to_thread(guarded.began.wait, 10)
        waiting.close()
        await asyncio.to_thread(guarded.cleaned_up.wait, 10)

    asyncio.run(main())
    assert guarded.events == WHOLE[:2]


# asyncio in the thread of a sync node.


def in_a_node(flow: rt.Flow[[], Any]) -> Any:
    return asyncio.run(flow.ainvoke())


async def test_a_flow_of_asyncio_in_a_sync_node_is_a_fresh_root_in_the_trio_thread() -> None:
    async with rt.Session() as session:
        with opened_sessions() as sessions:
            token, identifier, thread = await rt.call(in_a_node, WHERE)
    assert token is not trio.lowlevel.current_trio_token()
    assert thread == "railtracks: Trio"
    assert [each.identifier for each in sessions] == [identifier]
    assert identifier != session.identifier
    assert [call.node for call in session.info.calls] == ["in_a_node"]


async def test_the_thread_of_the_node_gives_its_slot_back_while_it_waits_for_the_flow() -> None:
    rt.set_config(thread_limit=1)
    guarded = Guarded(is_held=True)

    async def beside() -> None:
        await trio.to_thread.run_sync(guarded.began.wait, 10, limiter=trio.CapacityLimiter(1))
        # The only slot is free, and so this comes to its turn.
        await rt.call(len, "four")
        first.cancel()
        guarded.go_on()

    async with rt.open_group() as group:
        first = group.start_soon(in_a_node, guarded.flow)
        group.start_soon(beside)
    assert guarded.events == WHOLE[:2]


class OnlySlot:
    """The only slot of threads: a sync node holds it while the thread of another node wants it back after a flow.

    The flow ends when `hold` has the slot, and `hold` ends when the test sets `go_on`.
    """

    def __init__(self) -> None:
        rt.set_config(thread_limit=1)
        self.events: list[str] = []
        self.go_on = threading.Event()
        self._has_begun, self._is_held = threading.Event(), threading.Event()
        self.flow = rt.Flow("until_held", self._until_held, save_state=False)

    async def _until_held(self) -> str:
        self._has_begun.set()
        await trio.to_thread.run_sync(self._is_held.wait, 10, limiter=trio.CapacityLimiter(1))
        return "of the flow"

    def hold(self) -> None:
        self._is_held.set()
        assert self.go_on.wait(10), "nobody let the holder of the slot go on"
        self.events.append("slot free")

    async def begin(self) -> asyncio.Task[str]:
        """Start a task that waits for the flow, and return when it waits for the slot."""

        async def invoke() -> str:
            try:
                return await self.flow.ainvoke()
            finally:
                self.events.append("task goes on")

        with opened_sessions() as sessions:
            task = asyncio.create_task(invoke())
            while not (sessions and sessions[0].status == "completed"):  # noqa: ASYNC110 - that has no event
                await asyncio.sleep(0)
        await self.some_rounds()
        return task

    async def some_rounds(self) -> None:
        """Let the task take as many steps as it can, and the threads beside it, too."""
        for _ in range(50):
            await asyncio.to_thread(len, "")

    async def held(self) -> None:
        """Hold the slot from when the flow has begun."""
        await trio.to_thread.run_sync(self._has_begun.wait, 10, limiter=trio.CapacityLimiter(1))
        await rt.call(self.hold)


async def test_tasks_of_the_nodes_loop_run_while_its_thread_waits_for_a_slot() -> None:
    slot = OnlySlot()

    def node() -> str:
        async def main() -> str:
            task = await slot.begin()
            # The holder of the slot waits for this.
            slot.go_on.set()
            return await task

        return asyncio.run(main())

    async with rt.open_group() as group:
        pending = group.start_soon(node)
        group.start_soon(slot.held)
    assert pending.result() == "of the flow"
    assert slot.events == ["slot free", "task goes on"]


async def test_a_task_that_is_cancelled_while_its_thread_waits_for_a_slot_goes_on_with_the_slot() -> None:
    slot = OnlySlot()

    def node() -> None:
        async def main() -> None:
            task = await slot.begin()
            for reason in ("first", "second"):
                task.cancel(reason)
                await slot.some_rounds()
            assert not task.done()
            slot.go_on.set()
            with pytest.raises(asyncio.CancelledError, match="second"):
                await task
            assert task.cancelled()
            # And the slot was not lost.
            assert await DOUBLE.ainvoke(4) == 8

        asyncio.run(main())

    async with rt.open_group() as group:
        group.start_soon(node)
        group.start_soon(slot.held)
    assert slot.events == ["slot free", "task goes on"]
    assert await rt.call(len, "four") == 4


async def test_a_node_that_is_cancelled_while_its_thread_waits_for_a_slot_still_gets_the_slot_first() -> None:
    slot = OnlySlot()

    def node() -> str:
        async def main() -> str:
            task = await slot.begin()
            trio.from_thread.run_sync(pending.cancel)
            await slot.some_rounds()
            assert not task.done()
            slot.go_on.set()
            return await task

        return asyncio.run(main())

    async with rt.open_group() as group:
        pending = group.start_soon(node)
        group.start_soon(slot.held)
    assert pending.status == "cancelled"
    assert slot.events == ["slot free", "task goes on"]
    assert await rt.call(len, "four") == 4


async def test_while_one_task_waits_for_a_slot_another_one_may_await_a_flow_and_no_slot_is_lost_or_taken_twice() -> (
    None
):
    slot = OnlySlot()
    all_are_done = threading.Event()

    def node() -> list[str | int]:
        async def main() -> list[str | int]:
            first = await slot.begin()
            others = [asyncio.create_task(DOUBLE.ainvoke(number)) for number in range(3)]
            await slot.some_rounds()
            slot.go_on.set()
            came = [await first, *[await other for other in others]]
            all_are_done.set()
            await slot.some_rounds()
            # It has the only slot: `beside` waits for its turn.
            slot.events.append("node ends")
            return came

        return asyncio.run(main())

    def beside() -> None:
        slot.events.append("beside")

    async with rt.open_group() as group:
        pending = group.start_soon(node)
        group.start_soon(slot.held)
        await trio.to_thread.run_sync(all_are_done.wait, 10, limiter=trio.CapacityLimiter(1))
        await rt.call(beside)
    assert pending.result() == ["of the flow", 0, 2, 4]
    assert slot.events == ["slot free", "task goes on", "node ends", "beside"]


def test_a_mock_clock_jumps_while_a_thread_with_asyncio_in_it_waits_for_a_slot() -> None:
    rt.set_config(thread_limit=1)
    has_begun, is_held = threading.Event(), threading.Event()

    async def until_held() -> None:
        has_begun.set()
        await trio.to_thread.run_sync(is_held.wait, 10, limiter=trio.CapacityLimiter(1))

    def hold() -> None:
        is_held.set()
        trio.from_thread.run(trio.sleep, 100)

    async def main() -> float:
        async with rt.open_group() as group:
            group.start_soon(in_a_node, rt.Flow("until_held", until_held, save_state=False))
            await trio.to_thread.run_sync(has_begun.wait, 10, limiter=trio.CapacityLimiter(1))
            await rt.call(hold)
        return trio.current_time()

    assert run_with_mock_clock(main) == 100


async def test_a_node_that_ends_while_its_asyncio_code_waits_for_a_slot_waits_for_none() -> None:
    slot = OnlySlot()
    tasks: list[asyncio.Task[str]] = []

    def node() -> str:
        loop = asyncio.new_event_loop()
        # It would be told of the task that is left pending.
        loop.set_exception_handler(lambda *_: None)
        tasks.append(loop.run_until_complete(slot.begin()))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        return "of the node"

    async with rt.open_group() as group:
        pending = group.start_soon(node)
        group.start_soon(slot.held)
        await pending.wait()
        assert slot.events == []
        slot.go_on.set()
    assert pending.result() == "of the node"
    assert await rt.call(len, "four") == 4
    # Its coroutine waits for a loop that is no more.
    with suppress(RuntimeError):
        tasks.pop().get_coro().close()


def test_sync_nodes_with_asyncio_in_them_may_stand_inside_each_other_in_one_thread_limit() -> None:
    rt.set_config(thread_limit=1)

    def nest(level: int) -> int:
        async def several() -> int:
            return sum(await asyncio.gather(*(FLOW.ainvoke(level - 1) for _ in range(2))))

        return 1 + asyncio.run(several()) if level else 1

    FLOW = rt.Flow("nest", nest, save_state=False)  # noqa: N806 - the flow calls itself
    assert asyncio.run(FLOW.ainvoke(2)) == 7


async def hear_cancel(guarded: Guarded, cancel: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(guarded.began.wait, 10, limiter=trio.CapacityLimiter(1))
    cancel()


async def test_the_end_of_the_nodes_session_cancels_the_flow_and_waits_for_it() -> None:
    guarded = Guarded()
    async with rt.Session() as session:
        session.start_soon(in_a_node, guarded.flow)
        await hear_cancel(guarded, session.cancel)
    assert guarded.events == WHOLE[:2]
    assert session.status == "cancelled"
    assert [call.status for call in session.info.calls] == ["cancelled"]


async def test_an_error_beside_the_node_cancels_the_flow() -> None:
    guarded = Guarded()

    async def fail() -> None:
        def cancel() -> None:
            raise ValueError("no")

        await hear_cancel(guarded, cancel)

    with pytest.raises(ValueError, match="no"):
        async with rt.Session() as session:
            session.start_soon(in_a_node, guarded.flow)
            session.start_soon(fail)
    assert guarded.events == WHOLE[:2]


async def test_the_timeout_of_the_node_cancels_the_flow() -> None:
    guarded = Guarded()
    node = rt.function_node(in_a_node, timeout=0.2)
    with pytest.raises(rt.NodeTimeoutError):
        await rt.call(node, guarded.flow)
    assert guarded.events == WHOLE[:2]


async def test_the_cancel_of_the_call_alone_cancels_the_flow() -> None:
    guarded = Guarded()
    async with rt.open_group() as group:
        pending = group.start_soon(in_a_node, guarded.flow)
        await hear_cancel(guarded, pending.cancel)
    assert pending.status == "cancelled"
    assert guarded.events == WHOLE[:2]


async def test_every_flow_of_a_cancelled_node_is_cancelled_and_no_further_one_begins() -> None:
    first, second, third = Guarded(), Guarded(), Guarded()

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(first.task())
            group.create_task(second.task())

    def node() -> None:
        try:
            asyncio.run(both())
        finally:
            asyncio.run(third.task())

    async with rt.Session() as session:
        pending = session.start_soon(node)
        await trio.to_thread.run_sync(second.began.wait, 10)
        await hear_cancel(first, session.cancel)
    assert pending.status == "cancelled"
    assert first.events == second.events == WHOLE
    assert third.events == ["task goes on"]


async def test_a_flow_that_the_nodes_asyncio_code_has_abandoned_ends_with_the_node() -> None:
    guarded = Guarded()

    def abandon() -> None:
        async def begin() -> None:
            waiting = guarded.flow.ainvoke()
            waiting.send(None)
            guarded.began.wait(10)
            coroutines.append(waiting)

        asyncio.run(begin())

    coroutines: list[Any] = []
    await rt.call(abandon)
    assert await trio.to_thread.run_sync(guarded.cleaned_up.wait, 10)
    # It would go on in the loop of that thread, which is closed.
    with suppress(RuntimeError):
        coroutines.pop().close()


def test_ctrl_c_at_the_end_of_such_a_node_is_a_bare_one(home: Path) -> None:
    def node() -> None:
        asyncio.run(DOUBLE.ainvoke(4))
        os.kill(os.getpid(), signal.SIGINT)
        # Python calls the signal handler in the main thread, before that takes this message.
        trio.from_thread.run_sync(len, "")

    async def main() -> None:
        async with rt.Session(name="interrupted"):
            await rt.call(node)

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main)
    assert type(caught.value) is KeyboardInterrupt
    assert rt.load_state(home / "interrupted.json").status == "cancelled"


async def test_in_a_thread_that_may_be_left_behind_a_flow_of_asyncio_is_refused() -> None:
    node = rt.function_node(in_a_node, abandon_on_cancel=True)
    with pytest.raises(rt.ContextError, match="abandon_on_cancel"):
        await rt.call(node, WHERE)


async def test_a_thread_that_the_thread_of_the_node_has_started_is_one_of_its_own() -> None:
    def node() -> object:
        async def elsewhere() -> object:
            return await asyncio.to_thread(lambda: asyncio.run(WHERE.ainvoke()))

        return asyncio.run(elsewhere())

    assert isinstance(await rt.call(node), tuple)


# Beside other event loops.


def test_in_a_guest_run_on_asyncio_both_sides_may_invoke_flows() -> None:
    async def main() -> tuple[object, object, object]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()

        async def guest() -> tuple[object, object]:
            return (await WHERE.ainvoke())[0], trio.lowlevel.current_trio_token()

        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result
        )
        beside = (await WHERE.ainvoke())[0]
        return beside, *(await ended).unwrap()

    beside, inside, guest = asyncio.run(main())
    assert inside is guest
    assert beside is not guest


def test_trio_run_inside_asyncio_is_a_trio_run_like_any_other() -> None:
    async def main() -> object:
        return trio.run(DOUBLE.ainvoke, 4)

    assert asyncio.run(main()) == 8


# The Trio thread itself.


def test_a_thread_whose_end_has_begun_takes_no_more_flows() -> None:
    began = threading.Event()

    async def sleep() -> None:
        began.set()
        await trio.sleep_forever()

    async def main() -> None:
        task = asyncio.create_task(rt.Flow("sleep", sleep).ainvoke())
        await asyncio.to_thread(began.wait, 10)
        await asyncio.to_thread(trio_thread().close)
        with pytest.raises(asyncio.CancelledError, match="shutting down"):
            await task
        with pytest.raises(RuntimeError, match="shutting down"):
            await DOUBLE.ainvoke(4)

    asyncio.run(main())
    forget_parents_thread()
    # A process that has no such thread may be forked, too.
    forget_parents_thread()
    assert asyncio.run(DOUBLE.ainvoke(4)) == 8


def test_an_event_loop_that_cannot_be_had_is_an_os_error() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    thread = TrioThread()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match=r"Too many open files|EMFILE") as caught:
            thread.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno is not None


# What errors say, wherever they are raised.

TO_AINVOKE = r"await flow\.ainvoke\(\.\.\.\)"


async def open_session() -> None:
    async with rt.Session():
        pass


async def open_group() -> None:
    async with rt.open_group():
        pass


async def open_as_completed() -> None:
    async with rt.as_completed(double, [1]):
        pass


@rt.session
async def decorated() -> None:
    pass


DOORS: list[Callable[[], Any]] = [
    lambda: rt.recover("store.db", []),
    lambda: rt.send_signal("session", "signal", store="store.db"),
    lambda: rt.call(double, 4),
    lambda: rt.call_batch(double, [4]),
    open_group,
    open_as_completed,
    open_session,
    decorated,
]


@pytest.mark.parametrize("door", DOORS)
def test_in_asyncio_every_door_says_to_await_ainvoke_and_to_use_call_batch_inside_the_flow(
    door: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=TO_AINVOKE) as caught:
        asyncio.run(door())
    assert "call_batch" in str(caught.value)
    # In a thread, and in a sync node's, too.
    with pytest.raises(RuntimeError, match=TO_AINVOKE):
        rt.Flow("in_a_thread", lambda: asyncio.run(door())).invoke()


@pytest.mark.parametrize(
    "door",
    [
        *DOORS,
        lambda: DOUBLE.ainvoke(4),
        lambda: rt.Flow("double", double, durable="store.db").aresume("four"),
    ],
)
def test_without_an_event_loop_every_door_says_to_invoke_or_to_run_trio(
    door: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=r"Flow\.invoke\(\.\.\.\) in a script, or trio\.run"):
        door().send(None)


@pytest.mark.parametrize("door", [rt.current_session, rt.context.keys, lambda: rt.context.put("user", "ada")])
def test_in_asyncio_what_needs_a_session_says_to_await_ainvoke(door: Callable[[], object]) -> None:
    async def main() -> None:
        with pytest.raises(rt.ContextError, match=TO_AINVOKE):
            door()

    asyncio.run(main())


def test_what_invoke_says_in_asyncio_works_there() -> None:
    async def main() -> int:
        with pytest.raises(RuntimeError) as caught:
            DOUBLE.invoke(4)
        assert str(caught.value) == (
            "Cannot invoke flow synchronously within an active event loop. Use 'ainvoke' instead."
        )
        return await DOUBLE.ainvoke(4)

    assert asyncio.run(main()) == 8
