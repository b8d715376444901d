"""A resume has what was written to the context after the last recorded outcome, and no earlier than that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, add, done_fixture, flow_of  # noqa: F401 - one is a fixture
from stored_sessions import patient_store, statuses, until, without_end

import railtracks as rt
from railtracks import testing
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls


@pytest.fixture
def store(tmp_path: Path) -> rt.DurableStore:
    return patient_store(tmp_path)


@rt.function_node
async def writing() -> None:
    rt.context.put("key", "by background")


@rt.function_node
async def deleting() -> None:
    rt.context.delete("key")


@rt.function_node
async def nesting() -> None:
    await rt.call(writing)


@rt.function_node
async def writing_later() -> None:
    await trio.sleep(0.3)
    rt.context.put("key", "by background")


@rt.function_node
async def starter(which: str) -> None:
    rt.current_session().start_soon(BACKGROUND[which])


BACKGROUND: dict[str, Any] = {
    "writing": writing,
    "deleting": deleting,
    "nesting": nesting,
    "writing_later": writing_later,
}


@pytest.mark.parametrize("which", ["writing", "nesting", "deleting"])
async def test_a_background_calls_write_is_newer_than_an_older_one_of_the_entry_point(
    store: rt.DurableStore, which: str
) -> None:
    async def main() -> list[Any]:
        rt.context.put("key", "by main")
        await rt.call(starter, which)
        await rt.call(pausing)
        return [rt.context.get("key", None)]

    @rt.function_node
    async def pausing() -> None:
        await until(lambda: "completed" in statuses(store, BACKGROUND[which].name))

    flow = flow_of(store, main)
    expected = [None] if which == "deleting" else ["by background"]
    assert await flow.ainvoke(session_id="s") == expected
    without_end(store, "main", "pausing")
    assert await flow.aresume("s") == expected


async def test_code_that_looks_until_a_background_call_has_written_comes_to_an_end(store: rt.DurableStore) -> None:
    async def main() -> Any:
        rt.context.put("key", "by main")
        await rt.call(starter, "writing_later")
        seen.append(rt.context.get("key"))
        await until(lambda: rt.context.get("key") == "by background")
        return await rt.call(add, 1)

    seen: list[Any] = []
    flow = flow_of(store, main)
    assert await flow.ainvoke(session_id="s") == 2
    without_end(store, "main", "add")
    with trio.fail_after(10):
        assert await flow.aresume("s") == 2
    # Right after the starter it was not written yet.
    assert seen == ["by main", "by main"]


async def test_what_is_written_in_the_end_of_a_group_is_older_than_what_a_background_call_then_writes(
    store: rt.DurableStore,
) -> None:
    async def main() -> Any:
        async with rt.open_group() as group:
            group.start_soon(starter, "writing_later")
        rt.context.put("key", "by main")
        await until(lambda: rt.context.get("key") == "by background")
        return await rt.call(add, 1)

    flow = flow_of(store, main)
    assert await flow.ainvoke(session_id="s") == 2
    without_end(store, "main", "add")
    with trio.fail_after(10):
        assert await flow.aresume("s") == 2


@rt.function_node
async def increase(by: int) -> None:
    rt.context.put("key", rt.context.get("key") + by)


@rt.function_node
async def cut_off() -> None:
    await rt.call(increase, 7)
    await trio.sleep_forever()


@pytest.mark.proof
async def test_what_was_written_in_a_cut_at_the_end_of_the_record_comes_at_the_cut() -> None:
    async def main() -> list[int]:
        rt.context.put("key", 1)
        await rt.call(increase, 5)
        seen = [rt.context.get("key")]
        with trio.move_on_after(0.2):
            await rt.call(cut_off)
        seen.append(rt.context.get("key"))
        await rt.call(increase, 50)
        assert [*seen, rt.context.get("key")] == [6, 13, 63]
        return seen

    flow = rt.Flow("flow", main, save_state=False)
    assert await testing.replay_at_every_prefix(flow) > 3


async def test_a_write_at_the_end_of_the_record_that_cannot_be_read_is_a_store_error(store: rt.DurableStore) -> None:
    async def main() -> None:
        await rt.call(starter, "writing")
        await rt.call(pausing)

    @rt.function_node
    async def pausing() -> None:
        await until(lambda: "completed" in statuses(store, "writing"))

    flow = flow_of(store, main)
    await flow.ainvoke(session_id="s")
    without_end(store, "main", "pausing")
    with access_of(store).writing() as (connection, _, _owner):
        connection.execute(sa.update(calls).where(calls.c.node == "writing").values(context=b'{"key": "no write"}'))
    with pytest.raises(rt.StoreError, match="context"):
        await flow.aresume("s")
