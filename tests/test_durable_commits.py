"""Commits of recorded calls: what tasks submit together is written together, and each call lets other tasks run."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
import trio

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls

TASKS = 40


@rt.function_node
async def add(number: int) -> int:
    return number + 1


@pytest.fixture
def written() -> list[str]:
    """The commits of sessions that a faulty store has written."""
    return []


@pytest.fixture
def store(tmp_path: Path, written: list[str]) -> rt.DurableStore:
    def meet(place: str) -> None:
        if place == "inside":
            written.append(place)

    return testing.faulty_store(rt.DurableStore(tmp_path / "store.db", durability="process"), meet)


async def test_calls_that_end_together_are_committed_together(store: rt.DurableStore, written: list[str]) -> None:
    async with rt.Session(durable=store, save_state=False):
        written.clear()
        assert await rt.call_batch(add, range(TASKS)) == [each + 1 for each in range(TASKS)]
        # One is enough, but a busy machine may stop the thread of Trio between two calls.
        assert len(written) < TASKS // 2


async def test_what_is_submitted_while_others_are_written_is_written_next(
    store: rt.DurableStore, written: list[str]
) -> None:
    async def several(first: int) -> None:
        for each in range(first, first + 5):
            assert await rt.call(add, each) == each + 1
            await trio.sleep(0.001 * (first % 3))

    async with rt.Session(durable=store, save_state=False) as session, trio.open_nursery() as nursery:
        for task in range(TASKS):
            nursery.start_soon(several, 100 * task)
    completed = [each for each in store.load(session.info.session_id).calls if each.status is rt.Status.COMPLETED]
    assert len(completed) == 5 * TASKS
    assert len(written) < 5 * TASKS


async def test_a_task_that_makes_one_call_after_another_lets_others_run(store: rt.DurableStore) -> None:
    steps: list[int] = []

    async def count() -> None:
        while True:
            steps.append(1)
            await trio.lowlevel.checkpoint()

    async with rt.Session(durable=store, save_state=False), trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for each in range(10):
            before = len(steps)
            await rt.call(add, each)
            assert len(steps) > before
        nursery.cancel_scope.cancel()


async def test_a_call_whose_caller_was_cancelled_before_runs_nothing(store: rt.DurableStore) -> None:
    ran: list[int] = []

    @rt.function_node
    async def note() -> None:
        ran.append(1)

    async with rt.Session(durable=store, save_state=False) as session:
        with trio.CancelScope() as scope:
            scope.cancel()
            await rt.call(note)
        assert scope.cancelled_caught
        (record,) = session.info.calls
    assert not ran
    assert record.status is rt.Status.CANCELLED


async def test_a_row_of_somebody_else_in_the_place_of_an_outcome_is_an_error(store: rt.DurableStore) -> None:
    outcomes: list[str] = []

    async def disturbed() -> None:
        await rt.call(add, 1)
        with access_of(store).writing() as (connection, _, _owner):
            row = connection.execute(sa.select(calls).order_by(calls.c.seq.desc()).limit(1)).one()._asdict()
            connection.execute(sa.insert(calls).values({**row, "seq": row["seq"] + 1, "key": "another"}))
        outcomes.append("first")
        await rt.call(add, 2)
        outcomes.append("second")

    flow = rt.Flow("flow", disturbed, durable=store, save_state=False)
    with pytest.raises(rt.StoreError, match="could not write"):
        await flow.ainvoke(session_id="s")
    assert outcomes == ["first"]
