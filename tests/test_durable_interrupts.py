"""What interrupts a durable session leaves a record that its own code can be resumed with, whatever ran meanwhile."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from durable_nodes import DONE, done_fixture, flow_of  # noqa: F401 - a fixture
from postgres_server import url_of_store

import railtracks as rt
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.commits import Commits
from railtracks.durable._replay.interrupts import Interrupts

# Whether what interrupts comes: in the first run only.
IS_FIRST = [True]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rt.DurableStore]:
    IS_FIRST[:] = [True]
    with rt.DurableStore(url_of_store(request, tmp_path), durability="process") as opened:
        yield opened


@trio.lowlevel.enable_ki_protection
def press_ctrl_c() -> None:
    """Have Ctrl-C strike the main task where it waits, or at its next checkpoint."""
    signal.raise_signal(signal.SIGINT)


@rt.function_node
async def before() -> str:
    DONE.append("before")
    return "before"


@rt.function_node
async def release() -> None:
    await trio.lowlevel.checkpoint()
    DONE.append("release")


@rt.function_node
async def forever() -> str:
    if IS_FIRST[0]:
        await trio.sleep_forever()
    return "went on"


@rt.function_node
async def cleans_up() -> None:
    try:
        DONE.append(await rt.call(forever))
    finally:
        with trio.CancelScope(shield=True):
            await rt.call(release)


@rt.function_node
async def raises_ctrl_c() -> None:
    await trio.testing.wait_all_tasks_blocked()
    if IS_FIRST[0]:
        raise KeyboardInterrupt


@rt.function_node
async def exits() -> None:
    await trio.testing.wait_all_tasks_blocked()
    if IS_FIRST[0]:
        sys.exit(3)


@rt.function_node
def exits_in_thread() -> None:
    if IS_FIRST[0]:
        sys.exit(3)


@rt.function_node
async def presses() -> None:
    await trio.testing.wait_all_tasks_blocked()
    if IS_FIRST[0]:
        press_ctrl_c()
    await trio.lowlevel.checkpoint()


async def approve() -> str:
    return await rt.wait_for_signal("answer", str, park=True)


def interrupted_then_whole(
    store: rt.DurableStore,
    main: Callable[[], Awaitable[Any]],
    raised: type[BaseException],
    between: Callable[[], None] = lambda: None,
) -> Any:
    """Run a flow until it is interrupted, and again; return what it returns then."""
    flow = flow_of(store, main)
    with pytest.raises(raised):
        flow.invoke(session_id="s")
    assert {each.session_id: each.status for each in store.sessions()}["s"] == "interrupted"
    IS_FIRST[0] = False
    between()

    async def again() -> Any:
        with trio.fail_after(20):
            return await flow.aresume("s")

    result = trio.run(again)
    assert DONE.count("before") == 1
    return result


INTERRUPTS: Any = pytest.mark.parametrize(
    ("interrupt", "raised"),
    [
        (raises_ctrl_c, KeyboardInterrupt),
        (presses, KeyboardInterrupt),
        (exits, SystemExit),
        (exits_in_thread, SystemExit),
    ],
    ids=["ctrl-c in a node", "ctrl-c at a checkpoint", "exit", "exit in a thread"],
)


@INTERRUPTS
def test_a_call_in_the_cleanup_after_an_interrupt_is_in_no_record(
    store: rt.DurableStore, interrupt: rt.Node[[], None], raised: type[BaseException]
) -> None:
    async def main() -> str:
        await rt.call(before)
        try:
            await rt.call(interrupt)
            # A Ctrl-C at a checkpoint strikes this one at the latest.
            await trio.lowlevel.checkpoint()
        finally:
            with trio.CancelScope(shield=True):
                await rt.call(release)
        return "whole"

    assert interrupted_then_whole(store, main, raised) == "whole"
    assert DONE == ["before", "release", "release"]


@INTERRUPTS
@pytest.mark.parametrize("is_group", [False, True])
def test_what_an_interrupt_cancels_is_not_recorded_as_cancelled(
    store: rt.DurableStore, interrupt: rt.Node[[], None], raised: type[BaseException], *, is_group: bool
) -> None:
    async def main() -> str:
        await rt.call(before)
        if is_group:
            async with rt.open_group() as group:
                group.start_soon(cleans_up)
                group.start_soon(interrupt)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rt.call, cleans_up)
                nursery.start_soon(rt.call, interrupt)
        return "whole"

    assert interrupted_then_whole(store, main, raised) == "whole"
    assert DONE == ["before", "release", "went on", "release"]


@pytest.mark.parametrize("how", ["block", "task", "wait"])
def test_an_interrupt_in_plain_code_of_a_nursery_is_seen_in_its_other_tasks(store: rt.DurableStore, how: str) -> None:
    async def exits_or_waits() -> None:
        await trio.testing.wait_all_tasks_blocked()
        if IS_FIRST[0] and how == "task":
            sys.exit(3)
        if IS_FIRST[0] and how == "wait":
            press_ctrl_c()

    async def main() -> str:
        await rt.call(before)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, cleans_up)
            nursery.start_soon(exits_or_waits)
            if IS_FIRST[0] and how == "block":
                await trio.testing.wait_all_tasks_blocked()
                raise KeyboardInterrupt
        return "whole"

    raised = SystemExit if how == "task" else KeyboardInterrupt
    assert interrupted_then_whole(store, main, raised) == "whole"
    assert DONE == ["before", "release", "went on", "release"]


def test_an_interrupt_that_code_catches_ends_the_session_all_the_same(store: rt.DurableStore) -> None:
    async def main() -> str:
        await rt.call(before)
        with suppress(KeyboardInterrupt):
            await rt.call(raises_ctrl_c)
        await rt.call(release)
        return "whole"

    assert interrupted_then_whole(store, main, KeyboardInterrupt) == "whole"
    assert DONE == ["before", "release"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_flow_may_clean_up_after_an_interrupt_of_other_code(
    store: rt.DurableStore, error: type[BaseException]
) -> None:
    async def main() -> str:
        await rt.call(before)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, release)
        return "cleaned up"

    def other() -> None:
        raise error

    try:
        other()
    except error:
        assert flow_of(store, main).invoke(session_id="s") == "cleaned up"
    assert [call.status for call in store.load("s").calls] == ["completed"] * 3


@pytest.mark.parametrize("how", ["caught", "batch", "finally"])
def test_a_session_of_its_own_that_waits_interrupts_the_one_that_has_called_it(
    store: rt.DurableStore, how: str
) -> None:
    approvals = flow_of(store, approve, "approvals")

    @rt.function_node(retry=rt.Retry(3))
    async def asks(name: str) -> str:
        return str(await approvals.ainvoke(session_id=name))

    async def main() -> object:
        await rt.call(before)
        heard: object = None
        if how == "batch":
            (heard,) = await rt.call_batch(asks, ["other"], return_exceptions=True)
        elif how == "caught":
            with suppress(rt.SessionWaiting):
                heard = await rt.call(asks, "other")
        else:
            try:
                heard = await rt.call(asks, "other")
            finally:
                with trio.CancelScope(shield=True):
                    await rt.call(release)
        await rt.call(release)
        return heard

    def answer() -> None:
        trio.run(partial(rt.send_signal, "other", "answer", "approved", store=store))

    assert interrupted_then_whole(store, main, rt.SessionWaiting, answer) == "approved"
    assert DONE[-1] == "release"


def test_a_call_may_deal_with_the_wait_of_another_session(store: rt.DurableStore) -> None:
    approvals = flow_of(store, approve, "approvals")

    async def main() -> str:
        try:
            return str(await approvals.ainvoke(session_id="other"))
        except rt.SessionWaiting:
            await rt.call(release)
        return "later"

    assert flow_of(store, main).invoke(session_id="s") == "later"
    assert [(call.node, call.status) for call in store.load("s").calls] == [
        ("main", "completed"),
        ("release", "completed"),
    ]


def test_an_error_whose_text_names_an_interrupt_is_none() -> None:
    ended: list[object] = []

    async def run() -> list[str | None]:
        session = AttachedSession()
        session.attach(lambda *_, **__: None, lambda error: bool(ended.append(error)), ended.append)
        interrupts = Interrupts(session, cast("Commits", SimpleNamespace(is_cut=False)))
        told: list[str | None] = []

        async def cancelled() -> None:
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                told.append(error.reason)
                interrupts.see(error)
                raise

        with suppress(BaseExceptionGroup):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancelled)
                await trio.testing.wait_all_tasks_blocked()
                raise ValueError("raised exception KeyboardInterrupt()")
        return told

    (reason,) = trio.run(run)
    assert reason is not None
    assert ended == []
