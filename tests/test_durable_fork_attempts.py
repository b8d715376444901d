"""`DurableStore.fork` of calls with several attempts, and of open waits: a fork goes on where its past ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from retry_nodes import (
    BROKEN,
    flow_of,
    pay,
    ran,
    store_fixture,  # noqa: F401 - a fixture
    world_fixture,  # noqa: F401 - a fixture
)

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls

TWICE = rt.Retry(attempts=2, wait_initial=0.001)


@rt.function_node(retry=TWICE)
async def tried() -> str:
    await rt.call(pay, "first")
    await rt.call(pay, "second")
    if BROKEN:
        raise KeyError("tried")
    return "done"


async def in_the_background() -> str:
    rt.current_session().start_soon(tried)
    return "started"


def in_attempt(store: rt.DurableStore, attempt: int) -> list[int]:
    """Return the ids of the calls of `pay` that were made in an attempt."""
    made = store.load("s").calls
    (around,) = [each.id for each in made if each.node == "tried" and each.attempt == attempt]
    return [each.id for each in made if each.parent_id == around]


async def ended(flow: rt.Flow[..., Any]) -> None:
    """Run a flow whose attempts all fail."""
    BROKEN.add("tried")
    with pytest.raises((KeyError, ExceptionGroup)):
        await flow.ainvoke(session_id="s")
    assert ran() == ["first", "second"] * 2
    BROKEN.clear()


@pytest.mark.parametrize("fn", [tried, in_the_background])
async def test_a_fork_goes_on_with_the_last_attempt_and_pays_nothing_again(
    store: rt.DurableStore, fn: Callable[..., Any]
) -> None:
    flow = flow_of(store, fn)
    await ended(flow)
    fork = store.fork("s")
    assert await flow.aresume(fork) in {"done", "started"}
    assert ran() == []
    # Also if it fails and is forked again.
    BROKEN.add("tried")
    failed = store.fork("s")
    with pytest.raises((KeyError, ExceptionGroup)):
        await flow.aresume(failed)
    BROKEN.clear()
    assert await flow.aresume(store.fork(failed)) in {"done", "started"}
    assert ran() == []


@pytest.mark.proof
@pytest.mark.parametrize("fn", [tried, in_the_background])
@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_fork_before_a_call_of_an_attempt_runs_it_and_what_came_after(
    store: rt.DurableStore, fn: Callable[..., Any], attempt: int
) -> None:
    flow = flow_of(store, fn)
    await ended(flow)
    first, second = in_attempt(store, attempt)
    for before, again in ((second, ["second"]), (first, ["first", "second"])):
        assert await flow.aresume(store.fork("s", before=before)) in {"done", "started"}
        assert ran() == again


@pytest.mark.proof
async def test_a_fork_of_a_retried_session_goes_on_with_the_attempt_that_was_last(store: rt.DurableStore) -> None:
    flow = flow_of(store, tried)
    await ended(flow)
    store.retry("s")
    BROKEN.add("tried")
    with pytest.raises(KeyError):
        await flow.aresume("s")
    BROKEN.clear()
    forks = store.fork("s"), store.fork(store.fork("s"))
    for fork in forks:
        assert await flow.aresume(fork) == "done"
    assert ran() == []


@pytest.mark.proof
async def test_a_fork_of_a_flow_that_passed_in_its_second_attempt_has_that_result(store: rt.DurableStore) -> None:
    @rt.function_node(retry=TWICE)
    async def main() -> str:
        await rt.call(pay, "first")
        if rt.current_call().attempt == 1:
            raise KeyError("main")
        return "done"

    flow = flow_of(store, main)
    assert await flow.ainvoke(session_id="s") == "done"
    assert ran() == ["first", "first"]
    assert await flow.aresume(store.fork("s")) == "done"
    assert ran() == []


async def test_a_fork_gives_its_open_waits_their_whole_timeout(store: rt.DurableStore) -> None:
    async def main() -> str:
        await rt.call(pay, "first")
        return await rt.wait_for_signal("go", str, timeout=3000, park=True)

    flow = flow_of(store, main)
    with pytest.raises(rt.SessionWaiting):
        await flow.ainvoke(session_id="s")
    # As if the session had been begun long ago.
    with access_of(store).writing() as (connection, _, _):
        connection.execute(
            sa.update(calls)
            .where(calls.c.status == "opened", calls.c.node == "wait for signal go")
            .values(outcome=b"1.0")
        )
    fork = store.fork("s")
    (old,), (wait,) = store.waits("s"), store.waits(fork)
    assert (old.until, old.name) == (datetime.fromtimestamp(1.0, UTC), "go")
    assert wait.until is not None
    assert wait.until > datetime.now(UTC) + timedelta(seconds=2000)
    await rt.send_signal(fork, "go", "on", store=store)
    assert await flow.aresume(fork) == "on"


@pytest.mark.proof
@pytest.mark.parametrize("first", ["good", "bad"])
async def test_after_retry_a_wait_in_a_later_attempt_is_open_only_once_code_comes_there(
    store: rt.DurableStore, first: str
) -> None:
    @rt.function_node(retry=TWICE)
    async def ask() -> str:
        return await rt.call(asked)

    @rt.function_node
    async def asked() -> str:
        heard = await rt.wait_for_signal("first", str, timeout=0.1)
        if heard == "bad":
            raise KeyError(heard)
        return heard

    async def main() -> list[str]:
        return [await rt.call(ask), await rt.wait_for_signal("second", str, park=True)]

    flow = flow_of(store, main)
    with pytest.raises(rt.SignalTimeoutError):
        await flow.ainvoke(session_id="s")
    store.retry("s")
    assert [each.name for each in store.waits("s")] == ["first"]
    await rt.send_signal("s", "first", first, store=store)
    await rt.send_signal("s", "first", "good", store=store)
    with pytest.raises(rt.SessionWaiting):
        await flow.aresume("s")
    assert [each.name for each in store.waits("s")] == ["second"]
    await rt.send_signal("s", "first", "in vain", store=store)
    assert (await rt.recover(store, [flow])).resumed == ()
    await rt.send_signal("s", "second", "on", store=store)
    assert await flow.aresume("s") == ["good", "on"]
