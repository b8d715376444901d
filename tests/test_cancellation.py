"""Every way out of a call: result, error, cancelled before its start, cancelled midway; and nothing runs on."""

import functools
import inspect
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt
from railtracks._calls.nursery import CallNursery


class Work:
    """Nodes that can be seen to work, and to have ended."""

    def __init__(self) -> None:
        self.ticks = 0
        self.started = 0
        self.unwound = 0

    async def tick(self, *_: object) -> None:
        """Work until cancelled, and take a second to clean up."""
        self.started += 1
        try:
            while True:
                await trio.sleep(0.5)
                self.ticks += 1
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            self.unwound += 1

    async def assert_ended(self) -> None:
        """See that everything that started has cleaned up, and that nothing goes on."""
        assert self.unwound == self.started > 0
        ticks = self.ticks
        with trio.CancelScope(shield=True):
            await trio.sleep(100)
        assert (self.ticks, self.unwound) == (ticks, self.started)


@pytest.fixture
def work() -> Work:
    return Work()


def assert_closed(session: rt.Session) -> None:
    for call in session.info.calls:
        assert call.status is not rt.Status.RUNNING
        assert call.ended_at is not None


def statuses(session: rt.Session) -> dict[str, str]:
    return {call.node: str(call.status) for call in session.info.calls}


# Every verb, every way out.


async def by_call(node: Any) -> Any:
    return await rt.call(node, 1)


async def by_call_with_a_timeout(node: Any) -> Any:
    return await rt.call(rt.function_node(node, timeout=1000), 1)


async def by_deep_call(node: Any, levels: int = 70) -> Any:
    return await rt.call(by_deep_call, node, levels - 1) if levels else await rt.call(node, 1)


async def by_batch(node: Any) -> Any:
    return (await rt.call_batch(node, [1], return_exceptions=False))[0]


async def by_limited_batch(node: Any) -> Any:
    return (await rt.call_batch(node, [1], return_exceptions=False, limit=1))[0]


async def by_group(node: Any) -> Any:
    async with rt.open_group() as group:
        pending = group.start_soon(node, 1)
    return pending.result()


async def by_limited_group(node: Any) -> Any:
    async with rt.open_group(limit=1) as group:
        pending = group.start_soon(node, 1)
    return pending.result()


async def by_completion(node: Any) -> Any:
    async with rt.as_completed(node, [1]) as finished:
        return (await anext(finished)).result()


async def by_limited_completion(node: Any) -> Any:
    async with rt.as_completed(node, [1], limit=1) as finished:
        return (await anext(finished)).result()


async def by_pending_call(node: Any) -> Any:
    async with rt.open_group() as group:
        pending = group.start_soon(node, 1)
        await pending.wait()
        return pending.result()


async def by_nursery(node: Any) -> Any:
    results = []

    async def task() -> None:
        results.append(await rt.call(node, 1))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return results[0]


VERBS = [
    by_call,
    by_call_with_a_timeout,
    by_deep_call,
    by_batch,
    by_limited_batch,
    by_group,
    by_limited_group,
    by_completion,
    by_limited_completion,
    by_pending_call,
    by_nursery,
]
every_verb = pytest.mark.parametrize("verb", VERBS)
Verb = Callable[[Any], Awaitable[Any]]


@every_verb
async def test_a_result_comes_back(verb: Verb) -> None:
    async def node(number: int) -> int:
        await trio.lowlevel.checkpoint()
        return number + 1

    async with rt.Session() as session:
        assert await verb(node) == 2
        assert_closed(session)
    assert session.status is rt.Status.COMPLETED
    assert statuses(session)["node"] == "completed"


@every_verb
async def test_an_error_comes_back(verb: Verb) -> None:
    error = ValueError("the node's own")

    async def node(_: int) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="own") as caught:
            await verb(node)
        assert caught.value is error
        assert error.__notes__[0].endswith("node")
        assert len(error.__notes__) == 1
        assert_closed(session)
    assert session.status is rt.Status.COMPLETED
    assert statuses(session)["node"] == "failed"


@every_verb
async def test_a_call_that_is_cancelled_before_its_start_does_not_run(verb: Verb) -> None:
    ran = []

    async def node(_: int) -> None:
        ran.append(1)

    async with rt.Session() as session:
        with trio.CancelScope() as scope:
            scope.cancel()
            await verb(node)
        assert scope.cancelled_caught
        assert_closed(session)
    assert ran == []
    assert session.status is rt.Status.COMPLETED
    assert set(statuses(session).values()) <= {"cancelled"}


@every_verb
async def test_a_call_that_is_cancelled_midway_has_cleaned_up_before_its_caller_goes_on(
    verb: Verb, work: Work, autojump_clock: MockClock
) -> None:
    async with rt.Session() as session:
        with trio.move_on_after(2) as scope:
            await verb(work.tick)
        assert scope.cancelled_caught
        assert trio.current_time() == 3
        assert_closed(session)
        await work.assert_ended()
    assert session.status is rt.Status.COMPLETED
    assert set(statuses(session).values()) == {"cancelled"}


@every_verb
async def test_a_node_that_raises_while_it_is_cancelled_has_failed(verb: Verb, autojump_clock: MockClock) -> None:
    error = ValueError("in cleanup")

    async def node(_: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="in cleanup") as caught, trio.move_on_after(1):
            await verb(node)
        assert caught.value is error
    assert statuses(session)["node"] == "failed"


@every_verb
async def test_a_node_that_is_done_under_a_shield_is_completed_and_its_caller_cancelled(
    verb: Verb, autojump_clock: MockClock
) -> None:
    went_on = []

    async def node(_: int) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        return "done"

    async with rt.Session() as session:
        with trio.move_on_after(1) as scope:
            await verb(node)
            await trio.lowlevel.checkpoint()
            went_on.append(1)
        assert scope.cancelled_caught
    assert went_on == []
    assert statuses(session)["node"] == "completed"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_a_record_is_closed_before_the_error_goes_on(status: str) -> None:
    seen = []

    async def node() -> None:
        if status == "failed":
            raise ValueError("now")
        await trio.sleep_forever()

    async def parent() -> None:
        try:
            await rt.call(node)
        except BaseException:
            seen.append(rt.current_session().info.calls[1])
            raise

    async with rt.Session(), trio.open_nursery() as nursery:
        nursery.start_soon(catch, parent)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (record,) = seen
    assert (record.node, record.status) == ("node", status)
    assert record.ended_at is not None
    assert (record.error is not None) is (status == "failed")


async def catch(node: Callable[..., Awaitable[Any]], *args: object) -> None:
    """Call a node whatever it raises, as a parent would that wants to live on."""
    with suppress(Exception):
        await rt.call(node, *args)


# After the end nothing does anything any more.


async def fail() -> None:
    await trio.sleep(2)
    raise ValueError("failed")


async def beside(work: Work, node: Callable[..., Awaitable[Any]]) -> None:
    async with rt.open_group() as group:
        group.start_soon(by_deep_call, work.tick)
        group.start_soon(rt.call_batch, work.tick, [1, 2, 3])
        group.start_soon(rt.call_batch, work.tick, [1, 2, 3], limit=2)
        group.start_soon(work.tick)
        group.start_soon(node)


async def test_after_a_timeout_no_node_does_anything_any_more(work: Work, autojump_clock: MockClock) -> None:
    async def run() -> None:
        async with rt.Session(timeout=2) as session:
            sessions.append(session)
            session.start_soon(work.tick)
            session.start_service(work.tick)
            await rt.call(beside, work, trio.sleep_forever)

    sessions: list[rt.Session] = []
    with pytest.raises(rt.SessionTimeoutError):
        await run()
    assert trio.current_time() == 3
    assert sessions[0].status is rt.Status.TIMED_OUT
    assert_closed(sessions[0])
    await work.assert_ended()


async def test_after_a_cancel_no_node_does_anything_any_more(work: Work, autojump_clock: MockClock) -> None:
    async with rt.Session() as session:

        async def cancel() -> None:
            await trio.sleep(2)
            session.cancel("enough")

        session.start_soon(work.tick)
        await rt.call(beside, work, cancel)
    assert trio.current_time() == 3
    assert session.status is rt.Status.CANCELLED
    assert_closed(session)
    await work.assert_ended()


async def test_after_a_failing_sibling_no_node_does_anything_any_more(work: Work, autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        with pytest.raises(ValueError, match="failed"):
            await rt.call(beside, work, fail)
        assert trio.current_time() == 3
        assert_closed(session)
        await work.assert_ended()
    assert session.status is rt.Status.COMPLETED


async def test_after_an_error_of_the_block_no_node_does_anything_any_more(
    work: Work, autojump_clock: MockClock
) -> None:
    async def run() -> None:
        async with rt.Session() as session:
            sessions.append(session)
            session.start_soon(beside, work, trio.sleep_forever)
            await trio.sleep(2)
            raise ValueError("of the block")

    sessions: list[rt.Session] = []
    with pytest.raises(ValueError, match="of the block"):
        await run()
    assert trio.current_time() == 3
    assert_closed(sessions[0])
    await work.assert_ended()


async def test_after_a_nodes_timeout_nothing_below_it_does_anything_any_more(
    work: Work, autojump_clock: MockClock
) -> None:
    async with rt.Session() as session:
        with pytest.raises(rt.NodeTimeoutError):
            await rt.call(rt.function_node(beside, timeout=2), work, trio.sleep_forever)
        assert trio.current_time() == 3
        assert_closed(session)
        await work.assert_ended()


async def test_after_an_outer_scope_was_cancelled_no_node_does_anything_any_more(
    work: Work, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(2) as scope:
        async with rt.Session() as session:
            await rt.call(beside, work, trio.sleep_forever)
    assert scope.cancelled_caught
    assert trio.current_time() == 3
    assert session.status is rt.Status.CANCELLED
    assert_closed(session)
    await work.assert_ended()


# Errors that end the session.


FATAL = rt.FatalError("enough")


async def raise_fatal() -> None:
    raise FATAL


async def raise_in_a_group() -> None:
    raise ExceptionGroup("outer", [ValueError("beside"), ExceptionGroup("inner", [FATAL])])


async def ends_by(node: Callable[..., Awaitable[Any]], **options: Any) -> tuple[BaseException, rt.Session]:
    """Run a node in a session whose body would go on whatever it raises; return what the session raises."""
    sessions: list[rt.Session] = []
    went_on = []

    async def run() -> None:
        async with rt.Session(**options) as session:
            sessions.append(session)
            await catch(node)
            await trio.lowlevel.checkpoint()
            went_on.append(1)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at by the caller
        await run()
    assert went_on == []
    assert sessions[0].status is rt.Status.FAILED
    assert_closed(sessions[0])
    return caught.value, sessions[0]


@every_verb
async def test_a_fatal_error_ends_the_session_whatever_a_parent_does_with_it(verb: Verb) -> None:
    async def node(_: int) -> None:
        await raise_fatal()

    async def parent() -> None:
        try:
            await verb(node)
        except Exception:  # noqa: BLE001 - the subject
            went_on.append(1)

    went_on: list[int] = []
    error, session = await ends_by(parent)
    assert error is FATAL
    assert went_on == []
    assert statuses(session)["node"] == "failed"
    assert statuses(session)["parent"] == "cancelled"


async def test_a_fatal_error_in_a_group_ends_the_session() -> None:
    error, _ = await ends_by(raise_in_a_group)
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(rt.FatalError) is not None


async def test_a_fatal_error_ends_the_session_also_under_a_shield() -> None:
    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            await catch(raise_fatal)
            await trio.lowlevel.checkpoint()
            went_on.append("under the shield")
        await trio.lowlevel.checkpoint()
        went_on.append("outside of it")

    went_on: list[str] = []
    error, session = await ends_by(shielded)
    assert error is FATAL
    assert went_on == ["under the shield"]
    assert statuses(session)["shielded"] == "cancelled"


async def test_a_fatal_error_of_a_sibling_cancels_the_rest(work: Work, autojump_clock: MockClock) -> None:
    async def fatal() -> None:
        await trio.sleep(2)
        raise FATAL

    error, _ = await ends_by(functools.partial(beside, work, fatal))
    assert error is FATAL
    await work.assert_ended()


async def test_a_fatal_error_that_comes_while_the_session_is_ending_is_raised(autojump_clock: MockClock) -> None:
    async def late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await rt.call(raise_fatal)

    async def run() -> None:
        async with rt.Session(timeout=1):
            await rt.call(late)

    with pytest.raises(rt.FatalError) as caught:
        await run()
    assert caught.value is FATAL


async def test_a_fatal_error_ends_outer_sessions_too_unless_a_node_catches_it() -> None:
    async def inner() -> None:
        async with rt.Session():
            await rt.call(raise_fatal)

    error, _ = await ends_by(inner)
    assert error is FATAL

    async def catching() -> str:
        try:
            await inner()
        except rt.FatalError:
            return "caught"
        return "not raised"

    async with rt.Session() as session:
        assert await rt.call(catching) == "caught"
    assert session.status is rt.Status.COMPLETED


@every_verb
async def test_end_on_error_ends_the_session_although_a_parent_catches(verb: Verb) -> None:
    error = ValueError("any")

    async def node(_: int) -> None:
        raise error

    async def parent() -> None:
        try:
            await verb(node)
        except Exception:  # noqa: BLE001 - the subject
            went_on.append(1)

    went_on: list[int] = []
    raised, session = await ends_by(parent, end_on_error=True)
    assert raised is error
    assert went_on == []
    assert statuses(session)["node"] == "failed"


@pytest.mark.parametrize("limit", [None, 2])
async def test_end_on_error_counts_for_batches_that_would_return_the_error(limit: int | None) -> None:
    async def odd(number: int) -> None:
        if number % 2 == 0:
            raise ValueError(number)

    raised, _ = await ends_by(functools.partial(rt.call_batch, odd, [1, 2, 3], limit=limit), end_on_error=True)
    assert raised.args == (2,)


async def test_end_on_error_ends_the_session_also_under_a_shield(autojump_clock: MockClock) -> None:
    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            await catch(fail)
        await trio.lowlevel.checkpoint()

    error, _ = await ends_by(shielded, end_on_error=True)
    assert isinstance(error, ValueError)


async def test_without_end_on_error_a_parent_that_catches_lives_on(autojump_clock: MockClock) -> None:
    async with rt.Session() as session:
        await catch(fail)
        assert trio.current_time() == 2
    assert session.status is rt.Status.COMPLETED


async def test_a_cancelled_call_is_no_error_that_ends_the_session(autojump_clock: MockClock) -> None:
    async with rt.Session(end_on_error=True) as session:
        with trio.move_on_after(1):
            await rt.call(trio.sleep_forever)
    assert session.status is rt.Status.COMPLETED


# Ctrl-C. These start Trio themselves, because it strikes the main task.


@trio.lowlevel.enable_ki_protection
def press_ctrl_c() -> None:
    """Have Ctrl-C strike the main task at its next checkpoint, and not in here."""
    signal.raise_signal(signal.SIGINT)


async def press_ctrl_c_soon() -> None:
    await wait_all_tasks_blocked()
    press_ctrl_c()


def interrupted(main: Callable[[rt.Session], Awaitable[Any]], **options: Any) -> rt.Session:
    """Run something in a session that Ctrl-C ends; see that its records are closed and saved."""
    sessions: list[rt.Session] = []

    async def run() -> None:
        async with rt.Session(**options) as session:
            sessions.append(session)
            await main(session)

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(run, clock=MockClock(autojump_threshold=0))
    assert type(caught.value) is KeyboardInterrupt
    (session,) = sessions
    assert session.status is rt.Status.CANCELLED
    assert_closed(session)
    assert session.state_path is not None
    saved = rt.load_state(session.state_path)
    assert saved.status is rt.Status.CANCELLED
    assert [call.status for call in saved.calls] == [call.status for call in session.info.calls]
    return session


@every_verb
def test_ctrl_c_in_a_running_node_ends_the_session_and_saves_the_state(verb: Verb, work: Work) -> None:
    async def node(_: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, work.tick)
            await trio.sleep(2)
            signal.raise_signal(signal.SIGINT)

    session = interrupted(lambda _: verb(node))
    assert work.unwound == work.started == 1
    assert statuses(session)["tick"] == "cancelled"


@every_verb
def test_ctrl_c_while_everything_waits_ends_the_session_and_saves_the_state(verb: Verb, work: Work) -> None:
    async def main(session: rt.Session) -> None:
        session.start_soon(press_ctrl_c_soon)
        await verb(work.tick)

    interrupted(main)
    assert work.unwound == work.started == 1


@pytest.mark.parametrize("levels", [10, 40, 200])
def test_ctrl_c_in_a_deep_tree_closes_every_record(levels: int) -> None:
    async def sink(levels: int) -> None:
        if levels:
            await rt.call(sink, levels - 1)
        else:
            signal.raise_signal(signal.SIGINT)

    session = interrupted(lambda _: rt.call(sink, levels))
    assert len(session.info.calls) == levels + 1


@pytest.mark.parametrize("levels", [10, 40, 200])
def test_ctrl_c_while_a_deep_tree_waits_unwinds_it(levels: int) -> None:
    unwound = []

    async def sink(levels: int) -> None:
        try:
            if levels:
                await rt.call(sink, levels - 1)
            else:
                await trio.sleep_forever()
        finally:
            unwound.append(levels)

    async def main(session: rt.Session) -> None:
        session.start_soon(press_ctrl_c_soon)
        await rt.call(sink, levels)

    interrupted(main)
    assert unwound == list(range(levels + 1))


def test_ctrl_c_in_a_background_call_is_bare() -> None:
    async def node() -> None:
        signal.raise_signal(signal.SIGINT)

    async def main(session: rt.Session) -> None:
        session.start_soon(node)
        await trio.sleep_forever()

    interrupted(main)


def test_ctrl_c_while_background_calls_are_awaited_cancels_them(work: Work) -> None:
    async def main(session: rt.Session) -> None:
        session.start_soon(work.tick)
        session.start_soon(press_ctrl_c_soon)

    interrupted(main)
    assert work.unwound == work.started == 1


def test_ctrl_c_beside_other_errors_is_bare() -> None:
    async def clumsy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    async def main(session: rt.Session) -> None:
        async with rt.open_group() as group:
            group.start_soon(clumsy)
            group.start_soon(press_ctrl_c_soon)

    interrupted(main)


def test_ctrl_c_while_a_sync_node_works_waits_for_its_thread() -> None:
    worked = []

    def work() -> None:
        trio.from_thread.run_sync(press_ctrl_c)
        worked.append(1)

    async def main(_: rt.Session) -> None:
        await rt.call(work)
        await trio.sleep_forever()

    interrupted(main)
    assert worked == [1]


def test_ctrl_c_while_a_resource_closes_still_saves_the_state() -> None:
    closed = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        yield
        press_ctrl_c()
        await trio.sleep(1)
        closed.append(1)

    async def main(session: rt.Session) -> None:
        await session.enter_async_context(resource())
        await rt.call(trio.sleep, 1)

    sessions: list[rt.Session] = []

    async def run() -> None:
        async with rt.Session() as session:
            sessions.append(session)
            await main(session)

    with pytest.raises(KeyboardInterrupt):
        trio.run(run, clock=MockClock(autojump_threshold=0))
    assert closed == [1]
    assert sessions[0].state_path is not None
    saved = rt.load_state(sessions[0].state_path)
    assert [call.status for call in saved.calls] == [rt.Status.COMPLETED]


@pytest.mark.parametrize("room", [rt.Session, type(rt.open_group()), CallNursery])
@pytest.mark.parametrize("method", ["__aenter__", "__aexit__"])
def test_ctrl_c_strikes_at_no_step_of_opening_or_closing(room: type, method: str) -> None:
    code = inspect.unwrap(getattr(room, method)).__code__

    def run_and_press_at(wanted: int) -> bool:
        """Press Ctrl-C at one step of the method; say whether there is such a step."""
        steps = itertools.count()
        pressed = []

        def watch(frame: FrameType, *_: object) -> None:
            if frame.f_code is code and next(steps) == wanted:
                pressed.append(1)
                signal.raise_signal(signal.SIGINT)

        async def run() -> None:
            # Tracing would take the place of what measures the coverage.
            sys.setprofile(watch)
            async with session:
                async with rt.open_group() as group:
                    group.start_soon(trio.lowlevel.checkpoint)
                await rt.call_batch(trio.sleep, [0])

        session = rt.Session()
        ended = "completed"
        try:
            trio.run(run)
        except KeyboardInterrupt:
            ended = "interrupted"
        finally:
            sys.setprofile(None)
        assert ended == ("interrupted" if pressed else "completed")
        assert_closed(session)
        assert session.state_path is not None
        saved = rt.load_state(session.state_path)
        assert saved.status == session.status != "running"
        assert [call.status for call in saved.calls] == [call.status for call in session.info.calls]
        return bool(pressed)

    assert sum(itertools.takewhile(bool, map(run_and_press_at, itertools.count()))) > 1


def test_ctrl_c_out_of_a_flow_is_bare() -> None:
    unwound = []

    async def node() -> None:
        try:
            await trio.sleep_forever()
        finally:
            unwound.append(1)

    async def entry() -> None:
        async with rt.open_group() as group:
            group.start_soon(node)
            group.start_soon(press_ctrl_c_soon)

    with pytest.raises(KeyboardInterrupt) as caught:
        rt.Flow("interrupted", entry_point=entry).invoke()
    assert type(caught.value) is KeyboardInterrupt
    assert unwound == [1]


# Trio can still be asked to raise one error without a group around it.


async def by_a_groups_block(node: Any) -> None:
    async with rt.open_group():
        await rt.call(node, 1)


def run_without_groups(main: Callable[[], Awaitable[None]]) -> None:
    with pytest.warns(trio.TrioDeprecationWarning):
        trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=False)


def test_without_strict_groups_a_cancelled_call_has_cleaned_up_too(work: Work) -> None:
    async def main() -> None:
        for verb in (*VERBS, by_a_groups_block):
            async with rt.Session() as session:
                with trio.move_on_after(2) as scope:
                    await verb(work.tick)
                assert scope.cancelled_caught
                assert_closed(session)
                await work.assert_ended()

    run_without_groups(main)


def test_without_strict_groups_ctrl_c_unwinds_a_deep_tree_too(work: Work) -> None:
    async def main() -> None:
        async with rt.Session() as session:
            session.start_soon(press_ctrl_c_soon)
            await by_deep_call(work.tick)

    with pytest.raises(KeyboardInterrupt):
        run_without_groups(main)
    assert work.unwound == work.started == 1
