"""An id that is used again is another life: nothing of the session before it is found, and fences go on above it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from durable_nodes import flow_of
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls, fences, sessions, signals


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> rt.DurableStore:
    return rt.DurableStore(url_of_store(request, tmp_path), durability="process")


def change(store: rt.DurableStore, *statements: sa.Executable) -> None:
    with access_of(store).writing() as (connection, _, _owner):
        for each in statements:
            connection.execute(each)


def rows_in(store: rt.DurableStore, table: sa.Table) -> list[Any]:
    with access_of(store).reading() as (connection, _, _owner):
        return list(connection.execute(sa.select(table)).all())


def deleted_by_hand(store: rt.DurableStore) -> None:
    change(store, sa.delete(sessions).where(sessions.c.session_id == "daily"))


def test_nothing_of_an_earlier_life_is_handed_over(store: rt.DurableStore) -> None:
    done: list[str] = []

    async def step(day: str) -> str:
        done.append(day)
        return day

    async def inside(day: str) -> str:
        return await rt.call(step, f"inner {day}")

    inner = flow_of(store, inside)

    async def main(day: str) -> list[Any]:
        async with rt.Session(durable=store, name="block", save_state=False):
            block = await rt.call(step, f"block {day}")
        return [await rt.call(step, day), await inner.ainvoke(day), block]

    flow = flow_of(store, main)
    with store:
        assert flow.invoke("monday", session_id="daily") == ["monday", "inner monday", "block monday"]
        deleted_by_hand(store)
        assert flow.invoke("tuesday", session_id="daily") == ["tuesday", "inner tuesday", "block tuesday"]
    assert done == ["block monday", "monday", "inner monday", "block tuesday", "tuesday", "inner tuesday"]


def test_a_signal_to_an_earlier_life_is_not_heard(store: rt.DurableStore) -> None:
    async def main() -> str:
        await rt.send_signal("daily", "go", "new", store=store, key="once")
        return str(await rt.wait_for_signal("go"))

    with store:
        flow = flow_of(store, main)
        assert flow.invoke(session_id="daily") == "new"
        left = {"session_id": "daily", "name": "go", "key": "later", "value": b'"old"', "sent_at": 1.0}
        change(store, sa.insert(signals).values(**left))
        deleted_by_hand(store)
        assert flow.invoke(session_id="daily") == "new"


def test_keys_and_random_numbers_are_those_of_one_life(store: rt.DurableStore) -> None:
    async def draw() -> list[str]:
        return [rt.idempotency_key(), str(rt.random()), str(rt.uuid4())]

    async def main() -> list[str]:
        own = [rt.idempotency_key(), str(rt.random()), str(rt.uuid4())]
        return own + await rt.call(draw)

    flow = flow_of(store, main)
    with store:
        first = flow.invoke(session_id="daily")
        deleted_by_hand(store)
        second = flow.invoke(session_id="daily")
    assert len({*first, *second}) == len(first) + len(second)
    assert all(each.startswith("daily:") for each in (first[0], first[3], second[0]))


def test_a_life_keeps_its_keys_and_numbers_in_every_resume(store: rt.DurableStore) -> None:
    seen: list[tuple[str, uuid.UUID]] = []

    async def main() -> None:
        seen.append((rt.idempotency_key(), rt.uuid4()))
        if len(seen) < 3:
            raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        for go in (lambda: flow.invoke(session_id="s"), lambda: flow.resume("s")):
            with pytest.raises(KeyboardInterrupt):
                go()
        flow.resume("s")
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_a_session_begun_by_the_release_before_keeps_its_keys(store: rt.DurableStore) -> None:
    seen: list[list[str]] = []

    async def inside() -> str:
        return str(rt.session_id())

    inner = flow_of(store, inside)

    async def main() -> None:
        seen.append([rt.idempotency_key(), str(rt.uuid4()), await inner.ainvoke()])
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                flow.invoke(session_id="daily")
            change(store, sa.delete(sessions), sa.delete(calls))
            change(store, sa.insert(sessions).values(**begun_before("daily")))
            with pytest.raises(KeyboardInterrupt):
                flow.resume("daily")
            change(store, sa.delete(sessions), sa.delete(calls))
    begun_now, resumed, begun_again, resumed_again = seen
    assert resumed == resumed_again
    assert not {*begun_now} & {*begun_again}
    # As the release before made it: of the id, and the key of the call.
    assert resumed[0].count(":") == 1


def begun_before(session_id: str) -> dict[str, Any]:
    """Return the row of a session as the release before wrote it."""
    return {
        "session_id": session_id,
        "flow_name": "flow",
        "entry_point": "main",
        "inputs": b"[[]]",
        "seed": session_id,
        "status": "interrupted",
        "created_at": 1.0,
        "fence": 1,
        "recoveries": 0,
    }


def test_a_fork_has_keys_of_its_own_and_the_random_numbers_of_its_past(store: rt.DurableStore) -> None:
    seen: list[tuple[str, float]] = []

    async def main() -> None:
        seen.append((rt.idempotency_key(), rt.random()))
        if len(seen) == 1:
            raise LookupError

    flow = flow_of(store, main)
    with store:
        with pytest.raises(LookupError):
            flow.invoke(session_id="s")
        flow.resume(store.fork("s"))
        deleted_by_hand(store)
    (key, number), (forks_key, forks_number) = seen
    assert key != forks_key
    assert number == forks_number


def fence_of(flow: rt.Flow[..., int]) -> int:
    return flow.invoke(session_id="daily")


async def fenced() -> int:
    return rt.fencing_number()


def test_fences_go_on_above_all_that_the_store_gave_out(store: rt.DurableStore) -> None:
    given: list[int] = []

    async def main() -> None:
        given.append(rt.fencing_number())
        raise KeyboardInterrupt

    flow = flow_of(store, main)
    with store:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                flow.invoke(session_id="daily")
            with pytest.raises(KeyboardInterrupt):
                flow.resume("daily")
            deleted_by_hand(store)
    assert given == [1, 2, 3, 4]


def test_a_fence_that_only_the_session_tells_of_counts_too(store: rt.DurableStore) -> None:
    # The release before writes no fences beside its sessions.
    flow = flow_of(store, fenced)
    with store:
        assert fence_of(flow) == 1
        change(store, sa.update(sessions).values(fence=7, status="interrupted", ended_at=None), sa.delete(calls))
        assert fence_of(flow) == 8
        change(store, sa.update(sessions).values(fence=20))
        store.delete("daily")
        assert fence_of(flow) == 21


def ids(rows: Iterable[Any]) -> set[str]:
    return {row.session_id for row in rows}


def test_what_is_deleted_takes_the_sessions_inside_with_it(store: rt.DurableStore) -> None:
    async def deepest() -> None:
        await rt.send_signal(str(rt.session_id()), "nobody hears it", store=store)

    deeper = flow_of(store, deepest)

    async def inside() -> None:
        await deeper.ainvoke()

    inner = flow_of(store, inside)

    async def main() -> None:
        await inner.ainvoke()

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="other")
        others = {table: ids(rows_in(store, table)) for table in (sessions, calls, signals)}
        flow.invoke(session_id="daily")
        cleared = ids(rows_in(store, sessions)) - {"other", *others[sessions]}
        store.delete("daily")
        assert {table: ids(rows_in(store, table)) for table in others} == others
        assert len(cleared) == 3
        assert cleared < ids(rows_in(store, fences))
