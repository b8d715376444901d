"""`DurableStore.fork`: what is copied goes on from where it was, with timeouts of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgres_server import url_of_store
from retry_nodes import (
    BROKEN,
    all_of,
    flow_of,
    pay,
    ran,
    world_fixture,  # noqa: F401 - a fixture
)

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import WAIT, calls


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    with rt.DurableStore(url_of_store(request, tmp_path), durability="process") as opened:
        yield opened


def tried(attempts: int) -> rt.Node[..., int]:
    @rt.function_node(retry=rt.Retry(attempts=attempts, wait_initial=0.0, jitter=0.0))
    async def main() -> int:
        attempt = rt.current_call().attempt
        done = await rt.call(all_of, [f"part {attempt}"])
        if attempt in BROKEN:
            raise LookupError
        return done + int(await rt.call(all_of, [f"end {attempt}"]))

    return main


async def test_a_fork_of_a_flow_that_failed_in_all_attempts_runs_the_last_one_again(store: rt.DurableStore) -> None:
    flow = flow_of(store, tried(2))
    BROKEN.update({1, 2})
    with pytest.raises(LookupError):
        await flow.ainvoke(session_id="s")
    assert ran() == ["part 1", "part 2"]
    fork = store.fork("s")
    BROKEN.clear()
    assert await flow.aresume(fork) == 2
    assert ran() == ["end 2"]
    # The attempts before stay in the record.
    assert [(each.attempt, each.status) for each in store.load(fork).calls if each.node == "main"] == [
        (1, "failed"),
        (2, "completed"),
    ]


async def test_a_fork_of_a_flow_that_passed_in_its_second_attempt_has_that_result(store: rt.DurableStore) -> None:
    flow = flow_of(store, tried(2))
    BROKEN.add(1)
    assert await flow.ainvoke(session_id="s") == 2
    ran()
    assert await flow.aresume(store.fork("s")) == 2
    assert ran() == []


async def test_a_fork_before_any_call_of_any_attempt_goes_on_from_there(store: rt.DurableStore) -> None:
    flow = flow_of(store, tried(2))
    BROKEN.add(1)
    assert await flow.ainvoke(session_id="s") == 2
    calls = [each.id for each in store.load("s").calls if each.node == "all_of"]
    assert len(calls) == 3
    ran()
    for before, again in zip(calls, (3, 2, 1), strict=True):
        assert await flow.aresume(store.fork("s", before=before)) == 2
        assert len(ran()) == again


async def test_a_fork_of_a_session_that_was_retried_goes_on_from_its_last_attempt(store: rt.DurableStore) -> None:
    flow = flow_of(store, tried(2))
    BROKEN.update({1, 2})
    with pytest.raises(LookupError):
        await flow.ainvoke(session_id="s")
    store.retry("s")
    with pytest.raises(LookupError):
        await flow.aresume("s")
    ran()
    BROKEN.clear()
    for session_id in (store.fork("s"), store.fork(store.fork("s"))):
        assert await flow.aresume(session_id) == 2
        assert ran() == ["end 2"]


async def test_a_background_call_that_failed_in_all_attempts_runs_its_last_one_again_in_a_fork(
    store: rt.DurableStore,
) -> None:
    node = tried(2).with_options(name="work")

    async def main() -> object:
        rt.current_session().start_soon(node)
        return await rt.call(pay, "main")

    flow = flow_of(store, main, background=[node])
    BROKEN.update({1, 2})
    with pytest.raises(LookupError):
        await flow.ainvoke(session_id="s")
    paid = ran()
    BROKEN.clear()
    assert await flow.aresume(store.fork("s")) == "main"
    assert "end 2" in ran()
    assert "part 1" in paid


async def test_an_open_wait_of_a_fork_has_its_whole_timeout(store: rt.DurableStore) -> None:
    async def main() -> object:
        return await rt.wait_for_signal("go", str, timeout=3600, park=True)

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    fork = store.fork("s")
    waits = sa.select(calls.c.session_id, calls.c.outcome).where(calls.c.node == f"{WAIT}go")
    with access_of(store).reading() as (connection, _, _):
        until = {session_id: float(outcome) for session_id, outcome in connection.execute(waits)}
    assert until["s"] < until[fork] < until["s"] + 600
    await rt.send_signal(fork, "go", "on", store=store)
    assert (await rt.recover(store, [flow])).resumed == (fork,)
