"""A session tells, to its user and in its record, what ended it before its time: the first cause, and no other."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import railtracks as rt
from railtracks import CauseKind, EndCause


class ExpectedError(Exception):
    """Raised because the test says so."""


async def fail(text: str = "expected") -> None:
    raise ExpectedError(text)


async def outer() -> None:
    await rt.call(rt.call, fail)


async def nothing(session: rt.Session) -> None:
    pass


async def deadline(session: rt.Session) -> None:
    await trio.sleep(100)


async def own_deadline(session: rt.Session) -> None:
    session.cancel_scope.deadline = trio.current_time() + 1
    await trio.sleep_forever()


async def cancel(session: rt.Session) -> None:
    session.cancel("enough")


async def cancel_of_the_scope(session: rt.Session) -> None:
    session.cancel_scope.cancel()
    await trio.sleep_forever()


async def body_error(session: rt.Session) -> None:
    raise ExpectedError


async def call_error(session: rt.Session) -> None:
    await rt.call(outer)


async def group_error(session: rt.Session) -> None:
    async with rt.open_group() as group:
        group.start_soon(trio.sleep_forever)
        group.start_soon(outer)


async def batch_error(session: rt.Session) -> None:
    await rt.call_batch(fail, ["first", "second"], limit=1, return_exceptions=False)


async def background_error(session: rt.Session) -> None:
    session.start_soon(outer)
    await trio.sleep_forever()


async def fatal_error(session: rt.Session) -> None:
    async def stop() -> None:
        raise rt.FatalError("stop")

    async def catch() -> None:
        try:
            await rt.call(stop)
        except rt.FatalError:
            pytest.fail("it comes by")

    await rt.call(catch)


async def error_of_a_session_inside(session: rt.Session) -> None:
    async def inner() -> None:
        await rt.Flow("inner", fail, save_state=False).ainvoke()

    await rt.call(inner)


async def several_errors(session: rt.Session) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rt.call, fail)


async def ctrl_c(session: rt.Session) -> None:
    signal.raise_signal(signal.SIGINT)
    await trio.sleep_forever()


async def handled_error(session: rt.Session) -> None:
    with pytest.raises(ExpectedError):
        await rt.call(fail)


async def cancel_then_error(session: rt.Session) -> None:
    session.cancel("first")
    raise ExpectedError


async def error_that_is_held_up_past_the_deadline(session: rt.Session) -> None:
    try:
        await rt.call(fail)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)


async def deadline_then_error(session: rt.Session) -> None:
    try:
        await trio.sleep(100)
    finally:
        raise ExpectedError


DEADLINE = EndCause(CauseKind.DEADLINE)


@pytest.mark.parametrize(
    ("work", "cause", "status"),
    [
        (nothing, None, "completed"),
        (handled_error, None, "completed"),
        (deadline, DEADLINE, "timed_out"),
        (own_deadline, DEADLINE, "timed_out"),
        (cancel, EndCause(CauseKind.CANCEL, reason="enough"), "cancelled"),
        (cancel_of_the_scope, EndCause(CauseKind.CANCEL), "cancelled"),
        (body_error, EndCause(CauseKind.ERROR), "failed"),
        (call_error, EndCause(CauseKind.ERROR, call_id=3), "failed"),
        (group_error, EndCause(CauseKind.ERROR, call_id=4), "failed"),
        (batch_error, EndCause(CauseKind.ERROR, call_id=1), "failed"),
        (background_error, EndCause(CauseKind.ERROR, call_id=3), "failed"),
        (fatal_error, EndCause(CauseKind.ERROR, call_id=2), "failed"),
        (error_of_a_session_inside, EndCause(CauseKind.ERROR, call_id=1), "failed"),
        (several_errors, EndCause(CauseKind.ERROR, call_id=1), "failed"),
        (ctrl_c, EndCause(CauseKind.CTRL_C), "cancelled"),
        (cancel_then_error, EndCause(CauseKind.CANCEL, reason="first"), "cancelled"),
        (error_that_is_held_up_past_the_deadline, DEADLINE, "timed_out"),
        (deadline_then_error, DEADLINE, "timed_out"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_first_cause_is_told(
    work: Callable[[rt.Session], Awaitable[None]], cause: EndCause | None, status: str, home: Path
) -> None:
    session = rt.Session(timeout=50, logging_setting="NONE")

    async def main() -> None:
        async with session:
            await work(session)

    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    except (ExpectedError, ExceptionGroup, rt.FatalError, rt.SessionTimeoutError, KeyboardInterrupt):
        assert cause is not None
    if work is group_error:
        # Trio starts the two in any order.
        failed = [call.id for call in session.info.calls if call.node == "fail"]
        cause = EndCause(CauseKind.ERROR, call_id=failed[0])
    assert session.info.cause == cause
    assert session.status == status
    (path,) = home.iterdir()
    state = rt.load_state(path)
    assert (state.cause, state.status) == (cause, status)


async def test_a_scope_outside_is_told_as_such() -> None:
    with trio.CancelScope() as scope:
        async with rt.Session(save_state=False) as session:
            scope.cancel()
            await trio.sleep_forever()
    assert session.info.cause == EndCause(CauseKind.OUTER_SCOPE)
    assert session.status == "cancelled"


async def test_a_running_session_has_no_cause_yet_and_one_that_is_cancelled_has() -> None:
    async with rt.Session(save_state=False) as session:
        assert session.info.cause is None
        session.cancel("soon")
        assert session.info.cause == EndCause(CauseKind.CANCEL, "soon")


async def test_a_reason_holds_no_secrets(home: Path) -> None:
    async with rt.Session(context={"token": "canary-in-a-reason"}) as session:
        session.cancel("the token canary-in-a-reason is wrong")
    assert session.state_path is not None
    state = rt.load_state(session.state_path)
    assert state.cause is not None
    assert state.cause.reason == "the token [redacted] is wrong"


async def test_an_error_whose_class_forbids_notes_is_a_cause_with_its_call_too() -> None:
    class FrozenError(ExpectedError):
        def add_note(self, note: str) -> None:
            raise TypeError(note)

    async def fail_frozen() -> None:
        raise FrozenError

    with pytest.raises(FrozenError):
        async with rt.Session(save_state=False) as session:
            await rt.call(fail_frozen)
    assert session.info.cause == EndCause(CauseKind.ERROR, call_id=1)
