"""What the durable store says of values that it does not take, and of sessions that wait: what to do now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import trio
from postgres_server import url_of_store

import railtracks as rt


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    with rt.DurableStore(url_of_store(request, tmp_path), durability="process") as opened:
        yield opened


async def test_the_ends_of_time_are_times_like_others(store: rt.DurableStore) -> None:
    async def main() -> str:
        return await rt.wait_for_signal("go", str, park=True)

    flow = rt.Flow("flow", main, durable=store, save_state=False, logging_setting="NONE")
    with pytest.raises(rt.SessionWaiting) as caught:
        await flow.ainvoke(session_id="s")
    assert "store.waits('s')" in str(caught.value)
    assert "rt.send_signal()" in str(caught.value)
    assert "railtracks signal" in str(caught.value)
    zones = [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))]
    long_ago = [datetime.min.replace(tzinfo=zone) for zone in zones] + [datetime(1970, 1, 1, 0, 0, 0, 1, UTC)]
    for early in long_ago:
        assert [each.session_id for each in store.sessions(since=early)] == ["s"]
        assert not store.sessions(before=early)
    for late in (datetime.max.replace(tzinfo=zone) for zone in zones):
        assert not store.sessions(since=late)
        assert [each.session_id for each in store.sessions(before=late)] == ["s"]


def test_a_duration_in_words_is_refused_with_one_that_is_taken(store: rt.DurableStore) -> None:
    with pytest.raises(TypeError, match=r"older_than .*datetime\.timedelta\(days=30\).* not '30d'"):
        store.prune("30d")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_state_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(rt.StateError) as caught:
        rt.load_state(path)
    assert str(caught.value).count(str(path)) == 1


async def test_two_waits_for_one_signal_in_tasks_of_a_nursery_are_told_to_wait_for_two(store: rt.DurableStore) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.wait_for_signal, "go")
            nursery.start_soon(rt.wait_for_signal, "go")

    flow = rt.Flow("flow", main, durable=store, save_state=False, logging_setting="NONE")
    told = "Wait for another signal in each task, or in one place"
    with pytest.RaisesGroup(pytest.RaisesExc(rt.ContextError, match=told)):
        await flow.ainvoke(session_id="s")


async def test_two_equal_flows_in_tasks_of_a_nursery_are_told_to_be_invoked_in_nodes(store: rt.DurableStore) -> None:
    inner = rt.Flow("inner", trio.sleep_forever, durable=store, save_state=False, logging_setting="NONE")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner.ainvoke)
            nursery.start_soon(inner.ainvoke)

    flow = rt.Flow("flow", main, durable=store, save_state=False, logging_setting="NONE")
    with pytest.RaisesGroup(pytest.RaisesExc(rt.ContextError, match="Invoke the flow in a node of each task")):
        await flow.ainvoke(session_id="s")
