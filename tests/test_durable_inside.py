"""What is opened inside a durable session: flows are calls of it, and what is only made leaves no trace."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from durable_nodes import DONE, done_fixture, flow_of, store_fixture  # noqa: F401 - two are fixtures
from trio.testing import wait_all_tasks_blocked

import railtracks as rt


@rt.function_node
async def leaf(number: int) -> int:
    DONE.append(number)
    return number


def outline(info: rt.ExecutionInfo) -> list[tuple[str, str, str | None]]:
    names = {call.id: call.node for call in info.calls}
    return [
        (call.node, str(call.status), None if call.parent_id is None else names[call.parent_id]) for call in info.calls
    ]


async def test_a_flow_inside_is_a_record_in_the_tree_and_in_the_store(store: rt.DurableStore) -> None:
    inner = flow_of(store, leaf, "inner")

    @rt.function_node
    async def main() -> int:
        return await rt.call(leaf, 1) + int(await inner.ainvoke(2))

    async with rt.Session(durable=store, save_state=False, session_id="outer") as session:
        assert await rt.call(main) == 3
        assert await inner.ainvoke(4) == 4
    expected = [
        ("main", "completed", None),
        ("leaf", "completed", "main"),
        ("flow inner", "completed", "main"),
        ("flow inner", "completed", None),
    ]
    assert outline(session.info) == expected
    assert outline(store.load("outer")) == expected
    record = session.info.calls[2]
    assert (record.args, record.result) == ((2,), 2)
    assert session.counts.by_node == {"main": 1, "leaf": 1, "flow inner": 2}


async def test_a_flow_inside_that_fails_is_a_failed_record_and_the_same_error(store: rt.DurableStore) -> None:
    broken = ValueError("broken")

    async def fail() -> None:
        raise broken

    inner = flow_of(store, fail, "inner")
    async with rt.Session(durable=store, save_state=False) as session:
        with pytest.raises(ValueError, match="broken") as caught:
            await inner.ainvoke()
        assert caught.value is broken
    assert outline(session.info) == [("flow inner", "failed", None)]
    assert session.info.calls[0].error is not None
    assert session.info.calls[0].error.message == "broken"


async def test_a_flow_inside_that_fails_ends_a_session_that_ends_on_errors(store: rt.DurableStore) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    inner = flow_of(store, fail, "inner")
    async with rt.Session(durable=store, save_state=False, end_on_error=True) as session:
        with pytest.raises(ValueError, match="broken"):
            await inner.ainvoke()
        with pytest.raises(trio.Cancelled):
            await trio.lowlevel.checkpoint()
    assert session.status == "failed"


async def test_a_flow_inside_that_is_cancelled_is_a_cancelled_record(store: rt.DurableStore) -> None:
    inner = flow_of(store, trio.sleep_forever, "inner")
    async with rt.Session(durable=store, save_state=False) as session:
        with trio.move_on_after(0.05):
            await inner.ainvoke()
    assert outline(session.info) == [("flow inner", "cancelled", None)]


async def test_a_session_that_drains_refuses_a_flow_as_it_refuses_a_call(store: rt.DurableStore) -> None:
    inner = flow_of(store, leaf, "inner")
    async with rt.Session(durable=store, save_state=False) as session:
        await session.drain(5)
        with pytest.raises(rt.ContextError, match="takes no new top-level calls"):
            await inner.ainvoke(2)
    assert session.info.calls == ()
    assert DONE == []


async def test_a_drain_waits_for_a_flow_inside_that_runs(store: rt.DurableStore) -> None:
    running, release = trio.Event(), trio.Event()

    async def wait() -> str:
        running.set()
        await release.wait()
        return "done"

    inner = flow_of(store, wait, "inner")
    async with rt.Session(durable=store, save_state=False) as session, trio.open_nursery() as nursery:
        nursery.start_soon(inner.ainvoke)
        await running.wait()
        nursery.start_soon(session.drain, 60)
        await wait_all_tasks_blocked(0.05)
        assert session.info.calls[0].status == "running"
        release.set()
    assert outline(session.info) == [("flow inner", "completed", None)]


async def test_a_replayed_flow_inside_is_marked_and_runs_nothing(store: rt.DurableStore) -> None:
    inner = flow_of(store, leaf, "inner")
    stopped = [True]

    async def main() -> int:
        found = int(await inner.ainvoke(2))
        if stopped:
            stopped.clear()
            raise KeyboardInterrupt
        return found

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    assert DONE == [2]
    sessions: list[rt.Session] = []

    async def again() -> int:
        sessions.append(rt.current_session())
        return await main()

    again.__name__ = main.__name__
    assert await flow_of(store, again).aresume("s") == 2
    assert DONE == [2]
    (_, call) = sessions[0].info.calls
    assert (call.node, call.is_replayed, call.result) == ("flow inner", True, 2)


# What is only made takes no place in the record.


def interrupted_between_two_calls(store: rt.DurableStore, between: Callable[[], object]) -> int:
    """Run a flow that does something between two calls, is interrupted in the last one, and is resumed."""
    stopped = [True]

    @rt.function_node
    async def last(number: int) -> int:
        if stopped:
            stopped.clear()
            raise KeyboardInterrupt
        return number

    async def main() -> int:
        first = await rt.call(leaf, 1)
        between()
        second = await rt.call(leaf, 2)
        return await rt.call(last, first + second)

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    return int(flow.resume("s"))


def test_a_decorator_with_durable_in_a_module_that_is_imported_on_first_use_takes_no_place(
    store: rt.DurableStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazy_helper.py").write_text(
        "import railtracks as rt\n"
        f"@rt.session(durable={str(tmp_path / 'other.db')!r}, save_state=False)\n"
        "async def helper() -> int:\n    return 1\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)

    def import_helper() -> ModuleType:
        import lazy_helper  # type: ignore[import-not-found]  # noqa: PLC0415 - the subject

        module: ModuleType = lazy_helper
        return module

    assert "lazy_helper" not in sys.modules
    try:
        # The resume finds the module imported, and does not decorate again.
        assert interrupted_between_two_calls(store, import_helper) == 3
    finally:
        sys.modules.pop("lazy_helper", None)


def test_a_session_or_a_flow_that_is_made_and_not_opened_takes_no_place(store: rt.DurableStore) -> None:
    makes: list[Callable[[], object]] = [
        lambda: rt.Session(durable=store),
        lambda: rt.Session(durable=store, name="other"),
        lambda: rt.Flow("other", leaf, durable=store),
        lambda: rt.session(durable=store),
    ]

    def make_the_first_time_only() -> None:
        for make in makes:
            make()
        makes.clear()

    assert interrupted_between_two_calls(store, make_the_first_time_only) == 3


async def test_a_block_inside_gets_its_identifier_as_it_is_entered_and_the_same_in_a_resume(
    store: rt.DurableStore,
) -> None:
    seen: list[str] = []
    stopped = [True]

    async def main() -> None:
        session = rt.Session(durable=store, save_state=False)
        before = session.identifier
        async with session:
            seen.append(session.identifier)
        assert session.identifier != before
        if stopped:
            stopped.clear()
            raise KeyboardInterrupt

    flow = flow_of(store, main)
    with pytest.raises(KeyboardInterrupt):
        await flow.ainvoke(session_id="s")
    await flow.aresume("s")
    assert len(seen) == 2
    assert seen[0] == seen[1]


@pytest.mark.parametrize("given", [object(), 5, ["store.db"], len], ids=["object", "number", "list", "function"])
def test_what_is_no_store_is_refused_where_it_is_given(given: Any) -> None:
    for make in (rt.Session, rt.session, lambda **options: rt.Flow("flow", leaf, **options)):
        with pytest.raises(TypeError, match=r"a store must be True, a path, a URL or an rt\.DurableStore"):
            make(durable=given)
