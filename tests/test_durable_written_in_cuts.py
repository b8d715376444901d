"""A resume has the context of a call that a scope cut off, right after the cut, as the recorded run had it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from durable_nodes import DONE, add, done_fixture, flow_of  # noqa: F401 - one is a fixture
from stored_sessions import patient_store, until, without_end

import railtracks as rt
from railtracks.durable._sessions.store import access_of
from railtracks.durable._store.schema import calls


@pytest.fixture
def store(tmp_path: Path) -> rt.DurableStore:
    return patient_store(tmp_path)


@rt.function_node
async def note(text: str) -> None:
    rt.context.put("found", text)


@rt.function_node
async def drop() -> None:
    rt.context.delete("found")


@rt.function_node
async def report(found: str | None) -> str:
    await rt.call(add, 1)
    return f"report of {found}"


@rt.function_node
async def noting() -> None:
    await rt.call(note, "inside")
    await trio.sleep_forever()


@rt.function_node
async def noting_itself() -> None:
    rt.context.put("found", "itself")
    await trio.sleep_forever()


@rt.function_node
async def nesting() -> None:
    await rt.call(noting)


@rt.function_node
async def dropping() -> None:
    await rt.call(drop)
    await trio.sleep_forever()


@rt.function_node
async def dropping_itself() -> None:
    rt.context.delete("found")
    await trio.sleep_forever()


async def cut(*nodes: Any) -> None:
    with trio.move_on_after(0.2):
        async with rt.open_group() as group:
            for node in nodes:
                group.start_soon(node)


async def cut_batch(*nodes: Any) -> None:
    @rt.function_node
    async def run(which: int) -> None:
        await rt.call(nodes[which])

    with trio.move_on_after(0.2):
        await rt.call_batch(run, range(len(nodes)))


async def cut_call(node: Any) -> None:
    with trio.move_on_after(0.2):
        await rt.call(node)


async def cut_by_timeout(node: Any) -> None:
    @rt.function_node(timeout=0.2)
    async def timed() -> None:
        await rt.call(node)

    with pytest.raises(rt.NodeTimeoutError):
        await rt.call(timed)


async def cut_by_failure(node: Any) -> None:
    @rt.function_node
    async def failing() -> None:
        await trio.sleep(0.2)
        raise LookupError

    with pytest.raises(LookupError):
        async with rt.open_group() as group:
            group.start_soon(node)
            group.start_soon(failing)


@pytest.mark.proof
@pytest.mark.parametrize("way", [cut_call, cut, cut_batch, cut_by_timeout, cut_by_failure])
@pytest.mark.parametrize("node", [noting, noting_itself, nesting, dropping, dropping_itself])
def test_what_was_written_before_a_cut_is_there_right_after_it(
    store: rt.DurableStore, way: Callable[[Any], Awaitable[None]], node: Any
) -> None:
    async def main() -> str:
        rt.context.put("found", "first")
        await way(node)
        return await rt.call(report, rt.context.get("found", None))

    flow = flow_of(store, main)
    with store:
        first = flow.invoke(session_id="s")
        assert first != "report of first"
        without_end(store, "main", "report")
        assert flow.resume("s") == first
    assert DONE == [1]


@pytest.mark.proof
def test_what_is_written_beside_a_call_that_is_cut_off_is_there_right_after_the_cut(store: rt.DurableStore) -> None:
    @rt.function_node
    async def beside() -> None:
        await rt.call(note, "beside")
        await trio.sleep(1)

    async def main() -> str:
        async with rt.open_group() as group:
            group.start_soon(beside)
            await cut_call(nap)
            return await rt.call(report, rt.context.get("found", None))

    @rt.function_node
    async def nap() -> None:
        await trio.sleep_forever()

    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == "report of beside"
        without_end(store, "main")
        assert flow.resume("s") == "report of beside"


def test_a_write_after_a_cut_is_newer_than_what_another_call_had_written_before_it(store: rt.DurableStore) -> None:
    @rt.function_node
    async def early() -> None:
        rt.context.put("found", "early")
        await until(lambda: 2 in DONE)
        await trio.sleep(0.1)

    async def main() -> Any:
        async with rt.open_group() as group:
            group.start_soon(early)
            await cut(adding)
            rt.context.put("found", "late")
            await rt.call(add, 2)
        return rt.context.get("found")

    @rt.function_node
    async def adding() -> None:
        await rt.call(add, 1)
        await trio.sleep_forever()

    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == "late"
        without_end(store, "main")
        assert flow.resume("s") == "late"


def test_a_call_that_is_cut_off_before_an_earlier_outcome_is_handed_over(store: rt.DurableStore) -> None:
    async def main() -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slowly)
            await cut_now(noting)
            return_of.append(rt.context.get("found", None))
        await rt.call(add, 3)
        return rt.context.get("found")

    async def slowly() -> None:
        if not is_first:
            await trio.sleep(0.2)
        await rt.call(add, 1)

    async def cut_now(node: Any) -> None:
        with trio.CancelScope() as scope:
            async with rt.open_group() as group:
                group.start_soon(node)
                if is_first:
                    await trio.sleep(0.3)
                scope.cancel()

    is_first, return_of = True, list[Any]()
    flow = flow_of(store, main)
    with store:
        assert flow.invoke(session_id="s") == "inside"
        without_end(store, "main")
        is_first = False
        assert flow.resume("s") == "inside"
    assert return_of == ["inside", "inside"]


def test_a_write_in_a_cut_that_cannot_be_read_is_a_store_error(store: rt.DurableStore) -> None:
    async def main() -> Any:
        await cut_call(noting)
        await rt.call(add, 1)

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        without_end(store, "main")
        with access_of(store).writing() as (connection, _, _owner):
            connection.execute(sa.update(calls).where(calls.c.node == "note").values(context=b'{"found": "no write"}'))
        with pytest.raises(rt.StoreError, match="context"):
            flow.resume("s")


def test_the_end_of_a_session_is_no_cut(store: rt.DurableStore) -> None:
    async def main() -> None:
        await cut_call(noting)
        await rt.call(add, 1)

    async def ended() -> Any:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(functools.partial(flow.aresume, "s"))
                await trio.sleep(0.05)
                scope.cancel()

    flow = flow_of(store, main)
    with store:
        flow.invoke(session_id="s")
        without_end(store, "main")
        trio.run(ended)
        flow.resume("s")
    assert DONE == [1]
