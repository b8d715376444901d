"""The body of a session hears of the error that ends the session: its own `await rt.call(...)` raises it, in place."""

from __future__ import annotations

import gc
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest
import trio
from durable_nodes import store_fixture  # noqa: F401 - a fixture
from plain_nodes import fail_in_cleanup
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt

# The errors that nodes raise, by the names which they are given; a durable session stores these names.
ERRORS: dict[str, Callable[[], Exception]] = {
    "ordinary": lambda: ValueError("broken"),
    "fatal": lambda: rt.FatalError("fatal"),
}


def made(error: str) -> Exception:
    return ERRORS[error]()


@rt.function_node
async def fail(error: str) -> None:
    raise made(error)


@rt.function_node
def fail_in_thread(error: str) -> None:
    raise made(error)


@rt.function_node
async def catch(error: str) -> str:
    """Try to swallow the error, as no node can."""
    try:
        await rt.call(fail, error)
    except Exception:  # noqa: BLE001 - as said above
        return "caught"
    return "nothing"


@rt.function_node
async def catch_from_a_group(error: str) -> str:
    try:
        async with rt.open_group() as group:
            group.start_soon(fail, error)
    except Exception:  # noqa: BLE001 - the same
        return "caught"
    return "nothing"


@rt.function_node
def catch_in_thread(error: str) -> str:
    try:
        trio.from_thread.run(rt.call, fail, error)
    except Exception:  # noqa: BLE001 - the same
        return "caught"
    return "nothing"


@rt.function_node(retry=rt.Retry(3, on=OSError, wait_initial=0.01, jitter=0))
async def catch_and_try_again(error: str) -> str:
    return await rt.call(catch, error)


@rt.function_node(retry=rt.Retry(2, wait_initial=0.01, jitter=0))
async def fail_twice(error: str) -> None:
    raise made(error)


@rt.function_node(timeout=60)
async def catch_within_a_timeout(error: str) -> str:
    return await rt.call(catch, error)


@rt.function_node
async def catch_deep_down(error: str, levels: int = 70) -> str:
    return await rt.call(catch_deep_down, error, levels - 1) if levels else await rt.call(catch, error)


@rt.function_node
async def let_through_a_shield(error: str) -> None:
    with trio.CancelScope(shield=True):
        await rt.call(fail, error)


WAYS: list[rt.Node[[str], object]] = [
    fail,
    fail_in_thread,
    catch,
    catch_from_a_group,
    catch_in_thread,
    catch_and_try_again,
    fail_twice,
    catch_within_a_timeout,
    catch_deep_down,
    let_through_a_shield,
]
ways = pytest.mark.parametrize("node", WAYS, ids=lambda node: node.name)


def open_session(**options: bool) -> rt.Session:
    return rt.Session(save_state=False, **{"end_on_error": True, **options})


# What the page about sessions shows.


async def test_a_decorated_function_that_catches_the_error_returns_what_it_likes() -> None:
    @rt.session(end_on_error=True, save_state=False)
    async def main() -> None:
        try:
            await rt.call(fail, "ordinary")
        except Exception:  # noqa: BLE001 - as a user writes it
            return None  # noqa: RET501 - the same

    result, session = await main()
    assert result is None
    assert session.status == "failed"


@ways
@pytest.mark.parametrize("error", [ValueError("broken"), rt.FatalError("fatal")], ids=["ordinary", "fatal"])
async def test_it_is_raised_in_place_as_the_same_object_and_a_quiet_end_raises_nothing(
    node: rt.Node[[str], object], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ERRORS, "this", lambda: error)
    async with open_session() as session:
        with pytest.raises(type(error)) as caught:
            await rt.call(node, "this")
        assert caught.value is error
    assert session.status == "failed"
    assert session.info.error is not None
    assert session.info.error.message == str(error)
    cause = session.info.cause
    assert cause is not None
    assert cause.kind is rt.CauseKind.ERROR
    failed = [call.id for call in session.info.calls if call.status == "failed"]
    assert cause.call_id in failed


async def test_a_fatal_error_is_heard_without_the_option_too() -> None:
    async with open_session(end_on_error=False) as session:
        with pytest.raises(rt.FatalError):
            await rt.call(catch, "fatal")
    assert session.status == "failed"


async def test_the_node_in_between_is_cancelled_and_never_sees_it() -> None:
    async with open_session() as session:
        with pytest.raises(ValueError, match="broken"):
            await rt.call(catch, "ordinary")
    assert [(call.node, call.status) for call in session.info.calls] == [("catch", "cancelled"), ("fail", "failed")]


async def test_everything_else_is_cancelled_meanwhile(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        background = session.start_soon(trio.sleep_forever)
        with pytest.raises(ValueError, match="broken"):
            await rt.call(fail, "ordinary")
        with trio.CancelScope(shield=True):
            await background.wait()
        assert background.status == "cancelled"


@pytest.mark.parametrize(
    "go_on",
    [partial(rt.call, catch, "ordinary"), trio.lowlevel.checkpoint, partial(rt.call_batch, catch, ["ordinary"])],
    ids=["call", "checkpoint", "batch"],
)
async def test_what_the_body_awaits_afterwards_is_cancelled(go_on: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(ValueError, match="broken") as caught:
        async with open_session() as session:
            with pytest.raises(ValueError, match="broken") as heard:
                await rt.call(fail, "ordinary")
            with pytest.raises(trio.Cancelled):
                await go_on()
            # Left with a `Cancelled`: the session raises what ended it.
            await go_on()
    assert caught.value is heard.value
    assert session.status == "failed"


async def test_the_body_may_wait_under_a_shield_before_it_ends_quietly(autojump_clock: MockClock) -> None:
    done = []
    async with open_session() as session:
        try:
            await rt.call(fail, "ordinary")
        except ValueError:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
                done.append(await rt.call(catch_nothing))
    assert done == ["nothing"]
    assert session.status == "failed"


@rt.function_node
async def catch_nothing() -> str:
    return "nothing"


# How the block is left.


async def test_left_with_the_same_error_it_is_raised_once_and_bare() -> None:
    heard = []
    with pytest.raises(ValueError, match="broken") as caught:
        async with open_session():
            try:
                await rt.call(catch, "ordinary")
            except ValueError as error:
                heard.append(error)
                raise
    assert caught.value is heard[0]


async def test_left_with_another_error_that_alone_is_raised() -> None:
    with pytest.raises(KeyError) as caught:
        async with open_session() as session:
            try:
                await rt.call(catch, "ordinary")
            except ValueError as failed:
                raise KeyError("other") from failed
    assert isinstance(caught.value.__cause__, ValueError)
    assert session.status == "failed"
    assert session.info.error is not None
    assert session.info.error.type == "KeyError"


async def test_left_through_a_nursery_of_the_body_it_comes_out_as_from_that_nursery() -> None:
    with pytest.RaisesGroup(ValueError):
        async with open_session(), trio.open_nursery():
            await rt.call(fail, "ordinary")


async def test_errors_of_other_tasks_are_raised_all_the_same(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError, match="cleanup"):
        async with open_session() as session:
            session.start_soon(fail_in_cleanup, KeyError("cleanup"))
            await wait_all_tasks_blocked()
            with pytest.raises(ValueError, match="broken"):
                await rt.call(fail, "ordinary")
    assert session.status == "failed"


async def test_an_error_of_a_nodes_cleanup_is_raised_beside_the_one_that_the_body_has_not_heard() -> None:
    @rt.function_node
    async def fail_in_cleanup() -> None:
        try:
            await rt.call(fail, "ordinary")
        finally:
            raise KeyError("cleanup")

    with pytest.RaisesGroup(ValueError, KeyError):
        async with open_session():
            await rt.call(fail_in_cleanup)


async def test_a_decorated_function_that_is_cancelled_afterwards_raises_the_error() -> None:
    @rt.session(end_on_error=True, save_state=False)
    async def main() -> None:
        try:
            await rt.call(fail, "ordinary")
        except ValueError:
            await trio.lowlevel.checkpoint()

    with pytest.raises(ValueError, match="broken"):
        await main()


# Who does not hear.


async def in_a_batch(_: rt.Session) -> None:
    await rt.call_batch(fail, ["ordinary"], return_exceptions=False)


async def in_a_group(_: rt.Session) -> None:
    async with rt.open_group() as group:
        group.start_soon(fail, "ordinary")


async def in_a_nursery(_: rt.Session) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rt.call, fail, "ordinary")


async def in_the_background(session: rt.Session) -> None:
    session.start_soon(fail, "ordinary")
    await trio.sleep_forever()


async def while_it_awaits_another_call(session: rt.Session) -> None:
    session.start_soon(fail, "ordinary")
    await rt.call(trio.sleep_forever)


async def in_the_background_of_the_call_that_it_awaits(session: rt.Session) -> None:
    await rt.call(partial(in_the_background, session))


@pytest.mark.parametrize(
    "way",
    [
        in_a_batch,
        in_a_group,
        in_a_nursery,
        in_the_background,
        while_it_awaits_another_call,
        in_the_background_of_the_call_that_it_awaits,
    ],
)
async def test_of_a_call_that_it_does_not_await_itself_it_is_only_cancelled(
    way: Callable[[rt.Session], Awaitable[None]],
) -> None:
    with pytest.raises(ValueError, match="broken"):
        async with open_session() as session:
            with pytest.raises(trio.Cancelled):
                await way(session)
    assert session.status == "failed"


async def test_a_flow_raises_for_its_entry_point_is_a_node() -> None:
    async def entry() -> str:
        try:
            await rt.call(fail, "ordinary")
        except Exception:  # noqa: BLE001 - as a user writes it
            return "caught"
        return "nothing"

    with pytest.raises(ValueError, match="broken"):
        await rt.Flow("flow", entry, end_on_error=True, save_state=False).ainvoke()


# Sessions around, scopes around, timeouts.


async def test_a_body_that_catches_a_fatal_error_spares_the_sessions_around_it() -> None:
    async with open_session() as outer:
        async with open_session() as inner:
            with pytest.raises(rt.FatalError):
                await rt.call(fail, "fatal")
        assert inner.status == "failed"
        assert await rt.call(catch_nothing) == "nothing"
    assert outer.status == "completed"


async def test_the_body_of_a_session_around_hears_of_a_fatal_error_where_the_inner_block_ends() -> None:
    async with open_session() as outer:
        with pytest.raises(rt.FatalError):
            async with open_session():
                await rt.call(fail, "fatal")
    assert outer.status == "failed"


async def test_a_session_in_a_task_beside_the_body_ends_the_outer_one_with_its_fatal_error() -> None:
    async def beside() -> None:
        with pytest.raises(rt.FatalError):
            async with open_session():
                await rt.call(fail, "fatal")

    with pytest.raises(rt.FatalError):
        async with open_session() as outer, trio.open_nursery() as nursery:
            nursery.start_soon(beside)
    assert outer.status == "failed"


async def test_in_a_node_the_body_of_an_inner_session_hears_of_it() -> None:
    @rt.function_node
    async def nest() -> str:
        async with open_session() as inner:
            with pytest.raises(ValueError, match="broken"):
                await rt.call(catch, "ordinary")
        return inner.status

    async with open_session() as outer:
        assert await rt.call(nest) == "failed"
    assert outer.status == "completed"


async def test_in_a_node_deep_down_the_body_of_an_inner_session_hears_of_it() -> None:
    @rt.function_node
    async def nest(levels: int) -> str:
        if levels:
            return await rt.call(nest, levels - 1)
        async with open_session() as inner:
            with pytest.raises(ValueError, match="broken"):
                await rt.call(catch, "ordinary")
            with pytest.raises(trio.Cancelled):
                await rt.call(catch, "ordinary")
        return inner.status

    async with open_session() as outer:
        # The body stands so deep that its calls run on a fresh stack.
        for levels in (30, 31, 32):
            assert await rt.call(nest, levels) == "failed"
    assert outer.status == "completed"


async def test_a_scope_of_the_body_around_the_call_does_not_catch_it(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        with pytest.raises(ValueError, match="broken"), trio.move_on_after(5):
            await rt.call(catch, "ordinary")
    assert session.status == "failed"


async def test_a_timeout_of_the_body_around_the_call_is_not_taken_for_the_error(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        with trio.move_on_after(5) as scope:
            await rt.call(trio.sleep_forever)
        assert scope.cancelled_caught
    assert session.status == "completed"


async def test_a_timeout_that_expires_while_the_body_deals_with_it_comes_second(autojump_clock: MockClock) -> None:
    async with rt.Session(timeout=5, end_on_error=True, save_state=False) as session:
        with pytest.raises(ValueError, match="broken"):
            await rt.call(fail, "ordinary")
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
    assert session.status == "failed"


async def test_a_fatal_error_after_the_timeout_is_heard_and_the_timeout_stays_the_cause(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(rt.SessionTimeoutError):
        async with rt.Session(timeout=5, save_state=False) as session:
            with trio.CancelScope(shield=True):
                await trio.sleep(10)
                with pytest.raises(rt.FatalError):
                    await rt.call(fail, "fatal")
    assert session.status == "timed_out"


async def test_a_scope_around_the_session_that_is_cancelled_meanwhile_decides_about_a_quiet_end(
    autojump_clock: MockClock,
) -> None:
    with trio.CancelScope() as around:
        async with open_session() as session:
            session.start_soon(trio.sleep_forever)
            with pytest.raises(ValueError, match="broken"):
                await rt.call(fail, "ordinary")
            around.cancel()
    assert around.cancelled_caught
    assert session.status == "failed"


async def test_under_a_shield_it_is_raised_in_place_and_counts_as_heard() -> None:
    async with open_session() as session:
        with trio.CancelScope(shield=True), pytest.raises(ValueError, match="broken"):
            await rt.call(let_through_a_shield, "ordinary")
    assert session.status == "failed"


async def test_under_a_shield_a_further_attempt_may_succeed_and_then_nothing_was_heard() -> None:
    errors = ["ordinary"]

    @rt.function_node(retry=rt.Retry(2, wait_initial=0.01, jitter=0))
    async def flaky() -> str:
        if errors:
            await rt.call(fail, errors.pop())
        return "done"

    with pytest.raises(ValueError, match="broken"):
        async with open_session():
            with trio.CancelScope(shield=True):
                assert await rt.call(flaky) == "done"


# What is left of it.


async def test_the_saved_state_tells_of_the_error_that_the_body_has_dealt_with(home: Path) -> None:
    async with rt.Session(name="heard", end_on_error=True):
        with pytest.raises(ValueError, match="broken"):
            await rt.call(fail, "ordinary")
    state = rt.load_state(home / "heard.json")
    assert state.status == "failed"
    assert state.error is not None
    assert state.error.message == "broken"
    assert json.loads((home / "heard.json").read_text())["cause"]["kind"] == "error"


class MarkedError(Exception):
    """An error of the next test only, which looks for what is left of it."""


@pytest.mark.parametrize(
    # A thread makes the session watch for its cancel, and on Python 3.13 the `Cancelled` of that task holds the error.
    "node",
    [node for node in WAYS if node not in {fail_in_thread, catch_in_thread}],
    ids=lambda node: node.name,
)
async def test_no_error_that_was_heard_is_left_in_a_reference_cycle(
    node: rt.Node[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ERRORS, "marked", MarkedError)
    with without_garbage_collection():
        async with open_session() as session:
            try:
                await rt.call(node, "marked")
            except MarkedError:
                session.cancel("nothing is awaited here")
        assert [each for each in gc.get_objects() if type(each) is MarkedError] == []


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# Durable sessions: a resume does the same.


@pytest.mark.parametrize(
    "node", [fail, catch, catch_from_a_group, fail_twice, catch_deep_down], ids=lambda node: node.name
)
async def test_the_body_hears_of_it_again_in_a_resume(node: rt.Node[[str], object], store: rt.DurableStore) -> None:
    with pytest.raises(rt.StoreError, match="down"):
        async with rt.Session(durable=store, session_id="heard", end_on_error=True, save_state=False):
            with pytest.raises(ValueError, match="broken"):
                await rt.call(node, "ordinary")
            raise rt.StoreError("down")
    assert [view.status for view in store.sessions()] == ["interrupted"]
    async with rt.Session(durable=store, session_id="heard", end_on_error=True, save_state=False) as session:
        with pytest.raises(ValueError, match="broken"):
            await rt.call(node, "ordinary")
    assert session.status == "failed"
    assert store.load("heard").status == "failed"


async def test_a_durable_session_that_has_failed_so_ends_quietly_where_it_is_opened_again(
    store: rt.DurableStore,
) -> None:
    async with rt.Session(durable=store, session_id="heard", end_on_error=True, save_state=False):
        with pytest.raises(ValueError, match="broken"):
            await rt.call(catch, "ordinary")
    info = store.load("heard")
    assert info.error is not None
    assert info.error.message == "broken"
    async with rt.Session(durable=store, session_id="heard", end_on_error=True, save_state=False) as again:
        with pytest.raises(ValueError, match="broken"):
            await rt.call(catch, "ordinary")
    assert again.status == "failed"


@pytest.mark.parametrize("is_quiet", [True, False])
async def test_what_interrupts_a_durable_session_leaves_it_interrupted_whatever_the_body_makes_of_it(
    is_quiet: bool, store: rt.DurableStore
) -> None:
    with pytest.raises(rt.StoreError, match="down"):
        async with rt.Session(durable=store, session_id="changed", save_state=False):
            await rt.call(rt.function_node(catch_nothing.fn, name="first"))
            raise rt.StoreError("down")
    # The code has changed: that is no outcome of the session, which the right code can still resume.
    with nullcontext() if is_quiet else pytest.raises(KeyError):
        async with rt.Session(durable=store, session_id="changed", save_state=False):
            with pytest.raises(rt.ReplayMismatchError):
                await rt.call(catch_nothing)
            if not is_quiet:
                raise KeyError("other")
    assert [view.status for view in store.sessions()] == ["interrupted"]
