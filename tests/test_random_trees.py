"""Whatever a tree of calls does, it is closed when its session is over, and its calls lie inside one another."""

from __future__ import annotations

from typing import Any, TypeAlias

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import railtracks as rt

# A step is a pair of what a node does and what it does it with.
Step: TypeAlias = tuple[str, Any]


class ExpectedError(Exception):
    """Raised by a node because its plan says so."""


class UnexpectedError(Exception):
    """Raised by a node while it is cancelled."""


seconds = st.sampled_from([0, 0.5, 1, 2, 5])
leaves = st.one_of(
    st.tuples(st.just("return"), st.none()),
    st.tuples(st.just("raise"), st.sampled_from([ExpectedError, rt.FatalError])),
    st.tuples(st.just("sleep"), seconds),
    st.tuples(st.just("sleep shielded"), seconds),
    st.tuples(st.just("raise in cleanup"), seconds),
    st.tuples(st.just("cancel session"), st.none()),
)


def wider(plans: st.SearchStrategy[list[Step]]) -> st.SearchStrategy[list[Step]]:
    several = st.lists(plans, max_size=4)
    return st.lists(
        st.one_of(
            leaves,
            st.tuples(st.just("call"), plans),
            st.tuples(st.just("call and catch"), plans),
            st.tuples(st.just("call within"), st.tuples(seconds, plans)),
            st.tuples(st.just("batch"), st.tuples(several, st.booleans(), st.sampled_from([None, 1, 2]))),
            st.tuples(st.just("group"), st.tuples(several, st.sampled_from([None, 1, 2]))),
            st.tuples(
                st.just("as completed"),
                st.tuples(several, st.sampled_from([None, 1, 2]), st.integers(min_value=0, max_value=4)),
            ),
            st.tuples(st.just("nursery"), several),
            st.tuples(st.just("background"), plans),
            st.tuples(st.just("service"), plans),
        ),
        max_size=4,
    )


plans = st.recursive(st.lists(leaves, max_size=3), wider, max_leaves=25)


class Run:
    """Carries out a plan, and keeps when each call began and ended on Trio's clock."""

    def __init__(self) -> None:
        self.running = 0
        self.steps = 0
        self.unwound = 0

    async def node(self, plan: list[Step]) -> int:
        self.running += 1
        try:
            for what, argument in plan:
                self.steps += 1
                await self.step(what, argument)
                self.steps += 1
        finally:
            self.running -= 1
            self.unwound += 1
        return len(plan)

    async def step(self, what: str, argument: Any) -> None:
        match what:
            case "raise":
                raise argument(what)
            case "sleep":
                await trio.sleep(argument)
            case "sleep shielded":
                with trio.CancelScope(shield=True):
                    await trio.sleep(argument)
            case "raise in cleanup":
                try:
                    await trio.sleep(argument)
                except trio.Cancelled:
                    raise UnexpectedError(what) from None
            case "cancel session":
                rt.current_session().cancel(what)
            case "background":
                rt.current_session().start_soon(self.node, argument)
            case "service":
                rt.current_session().start_service(self.node, argument)
            case _:
                await self.fan_out(what, argument)

    async def fan_out(self, what: str, argument: Any) -> None:
        match what:
            case "call":
                assert await rt.call(self.node, argument) == len(argument)
            case "call and catch":
                try:
                    await rt.call(self.node, argument)
                except* (ExpectedError, UnexpectedError, rt.FatalError):
                    pass
            case "call within":
                with trio.move_on_after(argument[0]):
                    await rt.call(self.node, argument[1])
            case _:
                await self.side_by_side(what, argument)

    async def side_by_side(self, what: str, argument: Any) -> None:
        match what:
            case "batch":
                batch, return_exceptions, limit = argument
                results = await rt.call_batch(self.node, batch, return_exceptions=return_exceptions, limit=limit)
                for plan, result in zip(batch, results, strict=True):
                    assert result == len(plan) or (return_exceptions and isinstance(result, Exception))
            case "group":
                plans, limit = argument
                async with rt.open_group(limit=limit) as group:
                    pending = [group.start_soon(self.node, plan) for plan in plans]
                assert [call.result() for call in pending] == [len(plan) for plan in plans]
            case "as completed":
                plans, limit, wanted = argument
                async with rt.as_completed(self.node, plans, limit=limit) as finished:
                    async for call in finished:
                        assert call.status is rt.Status.FAILED or call.result() == len(call.args[0])
                        wanted -= 1
                        if not wanted:
                            break
            case "nursery":
                async with trio.open_nursery() as nursery:
                    for plan in argument:
                        nursery.start_soon(rt.call, self.node, plan)


def assert_sound(session: rt.Session, run: Run) -> None:
    assert run.running == 0
    assert session.status is not rt.Status.RUNNING
    info = session.info
    for call in info.calls:
        assert call.status in {rt.Status.COMPLETED, rt.Status.FAILED, rt.Status.CANCELLED}
        assert call.ended_at is not None
        assert call.started_at <= call.ended_at
        assert (call.error is not None) is (call.status is rt.Status.FAILED)
        if call.status is rt.Status.COMPLETED:
            assert call.result == len(call.args[0])
        for child in info.children(call.id):
            assert call.id < child.id
            assert call.started_at <= child.started_at
            assert child.ended_at is not None
            assert child.ended_at <= call.ended_at
    # As many nodes as have begun are recorded; a call that was cancelled before it is recorded too.
    assert run.unwound <= len(info.calls)
    assert run.unwound >= sum(call.status is not rt.Status.CANCELLED for call in info.calls)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(plan=plans, timeout=st.sampled_from([None, 1, 3]), end_on_error=st.booleans())
def test_every_tree_is_closed_nested_and_at_rest_when_its_session_is_over(
    plan: list[Step], timeout: float | None, end_on_error: bool
) -> None:
    run = Run()
    session = rt.Session(timeout=timeout, end_on_error=end_on_error, save_state=False)

    async def main() -> None:
        try:
            async with session:
                await rt.call(run.node, plan)
        except* (ExpectedError, UnexpectedError, rt.FatalError, rt.SessionTimeoutError):
            assert session.status in {rt.Status.FAILED, rt.Status.TIMED_OUT, rt.Status.CANCELLED}
        else:
            assert session.status in {rt.Status.COMPLETED, rt.Status.CANCELLED}
        assert_sound(session, run)
        steps = run.steps
        await trio.sleep(1000)
        assert run.steps == steps

    trio.run(main, clock=MockClock(autojump_threshold=0))
