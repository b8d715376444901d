"""Whose child a call is: nurseries handed down and up, threads, tasks that escaped, and trees of any depth."""

import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import railtracks as rt

LEVEL: ContextVar[int] = ContextVar("level", default=-1)


@rt.function_node
async def leaf() -> str:
    return "leaf"


def parents(session: rt.Session) -> dict[str, str | None]:
    """Return, for each node, the node that it was called in."""
    calls = session.info.calls
    return {call.node: None if call.parent_id is None else calls[call.parent_id - 1].node for call in calls}


def nests(session: rt.Session) -> bool:
    """Say whether every call ran inside its parent's time."""
    calls = session.info.calls
    return all(
        call.parent_id is None
        or (
            calls[call.parent_id - 1].started_at <= call.started_at
            and call.ended_at is not None
            and call.ended_at <= (calls[call.parent_id - 1].ended_at or call.started_at)
        )
        for call in calls
    )


# Nurseries.


async def test_a_call_in_a_nodes_own_nursery_is_its_child() -> None:
    async def opener() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, leaf)

    async with rt.Session() as session:
        await rt.call(opener)
    assert parents(session) == {"opener": None, "leaf": "opener"}
    assert nests(session)


async def test_a_call_in_a_task_of_a_task_is_the_nodes_child() -> None:
    async def middle() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, leaf)

    async def opener() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(middle)

    async with rt.Session() as session:
        await rt.call(opener)
    assert parents(session) == {"opener": None, "leaf": "opener"}


async def test_a_call_in_a_nursery_of_the_sessions_block_is_a_top_level_call() -> None:
    async with rt.Session() as session, trio.open_nursery() as nursery:
        nursery.start_soon(rt.call, leaf)
    assert parents(session) == {"leaf": None}


async def test_a_call_in_a_nursery_handed_down_belongs_to_the_call_that_opened_it(autojump_clock: MockClock) -> None:
    async def slow_leaf() -> None:
        await trio.sleep(1)

    async def borrower(nursery: trio.Nursery) -> None:
        nursery.start_soon(rt.call, slow_leaf)
        await rt.call(leaf)

    async def opener() -> None:
        async with trio.open_nursery() as nursery:
            await rt.call(borrower, nursery)

    async with rt.Session() as session:
        await rt.call(opener)
    assert parents(session) == {"opener": None, "borrower": "opener", "leaf": "borrower", "slow_leaf": "opener"}
    assert nests(session)


async def test_a_nursery_of_the_sessions_block_handed_down_makes_top_level_calls() -> None:
    async def borrower(nursery: trio.Nursery) -> None:
        nursery.start_soon(rt.call, leaf)

    async with rt.Session() as session, trio.open_nursery() as nursery:
        await rt.call(borrower, nursery)
    assert parents(session) == {"borrower": None, "leaf": None}


async def test_a_call_in_a_nursery_handed_up_belongs_to_the_call_that_opened_it() -> None:
    send, receive = trio.open_memory_channel[trio.Nursery](1)
    done = trio.Event()

    async def lender() -> None:
        async with trio.open_nursery() as nursery:
            await send.send(nursery)
            await done.wait()

    async def borrower() -> None:
        async with trio.open_nursery() as own:
            own.start_soon(rt.call, lender)
            nursery = await receive.receive()
            nursery.start_soon(rt.call, leaf)
            done.set()

    async with rt.Session() as session:
        await rt.call(borrower)
    assert parents(session) == {"borrower": None, "lender": "borrower", "leaf": "lender"}
    assert nests(session)


async def test_of_several_open_nurseries_each_gives_its_own_parent() -> None:
    async def inner(around: trio.Nursery, above: trio.Nursery) -> None:
        async with trio.open_nursery() as own:
            for name, nursery in {"own": own, "around": around, "above": above}.items():
                nursery.start_soon(rt.call, leaf.with_options(name=name))

    async def middle(above: trio.Nursery) -> None:
        async with trio.open_nursery() as around, trio.open_nursery():
            await rt.call(inner, around, above)

    async def outer() -> None:
        async with trio.open_nursery() as above:
            await rt.call(middle, above)

    async with rt.Session() as session:
        await rt.call(outer)
    found = parents(session)
    assert (found["own"], found["around"], found["above"]) == ("inner", "middle", "outer")


async def test_a_call_made_while_nursery_start_waits_belongs_to_the_nurserys_opener() -> None:
    async def starting(*, task_status: trio.TaskStatus[None]) -> None:
        await rt.call(leaf.with_options(name="before"))
        task_status.started()
        await rt.call(leaf.with_options(name="after"))

    async def borrower(nursery: trio.Nursery) -> None:
        await nursery.start(starting)

    async def opener() -> None:
        async with trio.open_nursery() as nursery:
            await rt.call(borrower, nursery)

    async with rt.Session() as session:
        await rt.call(opener)
    assert parents(session) == {"opener": None, "borrower": "opener", "before": "opener", "after": "opener"}


async def test_a_call_after_a_child_belongs_to_the_same_parent_again() -> None:
    async def opener() -> None:
        await rt.call(leaf.with_options(name="first"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, leaf.with_options(name="second"))
        await rt.call(leaf.with_options(name="third"))

    async with rt.Session() as session:
        await rt.call(opener)
        await rt.call(leaf)
    assert parents(session) == {"opener": None, "first": "opener", "second": "opener", "third": "opener", "leaf": None}


# Threads.


async def test_a_call_from_a_worker_thread_is_the_sync_nodes_child() -> None:
    async def inner() -> str:
        return await rt.call(leaf)

    def sync() -> str:
        return trio.from_thread.run(rt.call, inner)

    async with rt.Session() as session:
        assert await rt.call(sync) == "leaf"
    assert parents(session) == {"sync": None, "inner": "sync", "leaf": "inner"}
    assert nests(session)


async def test_a_sync_node_can_fan_out_from_its_thread() -> None:
    async def side_by_side() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, leaf)

    def sync() -> list[str]:
        trio.from_thread.run(side_by_side)
        return trio.from_thread.run(rt.call_batch, leaf.with_options(name="item"), [], [])

    async with rt.Session() as session:
        assert await rt.call(sync) == []
    assert parents(session) == {"sync": None, "leaf": "sync"}


async def test_a_thread_of_an_async_nodes_own_makes_its_children() -> None:
    async def node() -> str:
        return await trio.to_thread.run_sync(trio.from_thread.run, rt.call, leaf)

    async with rt.Session() as session:
        assert await rt.call(node) == "leaf"
    assert parents(session) == {"node": None, "leaf": "node"}


async def test_a_session_of_another_trio_run_counts_as_none() -> None:
    seen = []

    async def in_another_run() -> str:
        seen.append(rt.session_id())
        with pytest.raises(rt.ContextError):
            rt.current_session()
        return await rt.call(look)

    async def look() -> str:
        seen.append(rt.session_id())
        return await rt.call(leaf)

    def sync() -> str:
        seen.append(rt.session_id())
        return trio.run(in_another_run)

    async with rt.Session() as session:
        assert await rt.call(sync) == "leaf"
    assert seen[:2] == [session.identifier, None]
    assert seen[2] not in {session.identifier, None}
    assert parents(session) == {"sync": None}


# Tasks that do not belong to the session.


async def refused_in(nursery: trio.Nursery, call: Callable[..., Awaitable[object]], *args: object) -> rt.ContextError:
    """Make a call in a task of a nursery and return the error that it is refused with."""
    errors: list[rt.ContextError] = []

    async def task() -> None:
        with pytest.raises(rt.ContextError) as caught:
            await call(*args)
        errors.append(caught.value)
        done.set()

    done = trio.Event()
    nursery.start_soon(task)
    await done.wait()
    return errors[0]


async def never() -> None:
    raise AssertionError("this node must not run")


async def test_a_task_in_a_nursery_older_than_the_session_is_refused_saying_which_session_and_why() -> None:
    async with trio.open_nursery() as older, rt.Session(name="mine") as session:
        error = await refused_in(older, rt.call, never)
        assert "session 'mine'" in str(error)
        assert "older than the session" in str(error)
        assert "older" in str(await refused_in(older, rt.call_batch, never, [1]))
        assert "older" in str(await refused_in(older, use_group))
    assert session.info.calls == ()


async def use_group() -> None:
    async with rt.open_group() as group:
        group.start_soon(never)


async def test_a_node_cannot_make_an_older_nursery_belong_to_the_session() -> None:
    async def node(older: trio.Nursery) -> None:
        assert "older" in str(await refused_in(older, rt.call, never))

    async with trio.open_nursery() as older, rt.Session() as session:
        await rt.call(node, older)
    assert parents(session) == {"node": None}


async def test_a_task_that_outlived_its_session_is_refused() -> None:
    over = trio.Event()
    errors = []

    async def outlive() -> None:
        await over.wait()
        with pytest.raises(rt.ContextError, match=r"session 'mine' is over.*outlived") as caught:
            await rt.call(never)
        errors.append(caught.value)
        with pytest.raises(rt.ContextError, match="session 'mine' is over"):
            rt.current_session()
        assert rt.session_id() is None

    async with trio.open_nursery() as older:
        async with rt.Session(name="mine") as session:
            older.start_soon(outlive)
        over.set()
    assert len(errors) == 1
    assert session.info.calls == ()


async def test_in_the_task_of_a_closed_session_a_call_opens_a_session_of_its_own() -> None:
    async with rt.Session() as session:
        await rt.call(leaf)
    assert await rt.call(leaf) == "leaf"
    assert len(session.info.calls) == 1


async def test_a_task_started_before_the_session_is_not_in_it() -> None:
    is_open = trio.Event()
    seen = []

    async def look() -> None:
        seen.append(rt.session_id())

    async def task() -> None:
        await is_open.wait()
        assert rt.session_id() is None
        await rt.call(look)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
        async with rt.Session() as session:
            is_open.set()
            await wait_all_tasks_blocked()
    assert session.info.calls == ()
    assert seen != [session.identifier]
    assert len(seen) == 1


async def test_in_an_escaped_task_a_new_session_and_ainvoke_start_a_fresh_root() -> None:
    flow = rt.Flow("fresh", entry_point=leaf)
    done = trio.Event()

    async def escaped() -> None:
        with pytest.raises(rt.ContextError):
            await rt.call(never)
        async with rt.Session() as own:
            assert await rt.call(leaf) == "leaf"
        assert parents(own) == {"leaf": None}
        assert await flow.ainvoke() == "leaf"
        with pytest.raises(rt.ContextError):
            await rt.call(never)
        done.set()

    async with trio.open_nursery() as older, rt.Session() as session:
        older.start_soon(escaped)
        await done.wait()
    assert session.info.calls == ()


async def test_a_task_in_an_outer_sessions_nursery_is_refused_by_the_inner_one() -> None:
    async with rt.Session(name="outer") as outer, trio.open_nursery() as older:
        async with rt.Session(name="inner") as inner:
            assert "session 'inner'" in str(await refused_in(older, rt.call, never))
            await rt.call(leaf)
        await rt.call(leaf)
    assert len(outer.info.calls) == len(inner.info.calls) == 1


async def test_a_task_in_an_inner_sessions_nursery_belongs_to_the_inner_one() -> None:
    send, receive = trio.open_memory_channel[trio.Nursery](1)
    done = trio.Event()

    async def nested() -> None:
        async with rt.Session(name="inner") as inner, trio.open_nursery() as nursery:
            await send.send(nursery)
            await done.wait()
        assert parents(inner) == {"leaf": None}

    async with rt.Session(name="outer") as outer, trio.open_nursery() as own:
        own.start_soon(nested)
        nursery = await receive.receive()
        nursery.start_soon(rt.call, leaf)
        await wait_all_tasks_blocked()
        done.set()
    assert outer.info.calls == ()


async def test_a_flow_inside_a_node_leaves_the_outer_session_intact() -> None:
    flow = rt.Flow("inside", entry_point=leaf)

    async def node() -> str:
        before = rt.session_id()
        result = await flow.ainvoke()
        assert rt.session_id() == before
        await rt.call(leaf.with_options(name="afterwards"))
        return result

    async with rt.Session() as session:
        assert await rt.call(node) == "leaf"
        assert rt.current_session() is session
    assert parents(session) == {"node": None, "afterwards": "node"}


@pytest.mark.parametrize(("call", "args"), [(rt.call, (never,)), (rt.call_batch, (never, [1])), (use_group, ())])
@pytest.mark.parametrize("session", [rt.Session, nullcontext])
async def test_a_system_task_is_refused(
    call: Callable[..., Awaitable[object]],
    args: tuple[object, ...],
    session: Callable[[], AbstractAsyncContextManager[object]],
) -> None:
    refused = trio.Event()

    async def system_task() -> None:
        with pytest.raises(rt.ContextError, match="system task"):
            await call(*args)
        refused.set()

    async with session():
        trio.lowlevel.spawn_system_task(system_task)
        await refused.wait()


async def test_a_task_below_a_system_task_is_refused_and_may_open_a_session() -> None:
    done = trio.Event()

    async def task() -> None:
        with pytest.raises(rt.ContextError, match="system task"):
            await rt.call(never)
        async with rt.Session():
            assert await rt.call(leaf) == "leaf"
        done.set()

    async def system_task() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)

    trio.lowlevel.spawn_system_task(system_task)
    await done.wait()


async def test_a_thread_that_trio_does_not_know_is_refused() -> None:
    token = trio.lowlevel.current_trio_token()

    def foreign() -> None:
        with pytest.raises(rt.ContextError, match="system task"):
            trio.from_thread.run(rt.call, never, trio_token=token)

    async with rt.Session() as session:
        await trio.to_thread.run_sync(lambda: run_in_new_thread(foreign))
    assert session.info.calls == ()


def run_in_new_thread(work: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


# Depth.


@rt.function_node
async def dive(levels: int) -> int:
    return levels and 1 + await rt.call(dive, levels - 1)


@pytest.mark.parametrize("levels", [500, 10_000])
async def test_a_tree_can_be_as_deep_as(levels: int) -> None:
    async with rt.Session(save_state=False) as session:
        assert await rt.call(dive, levels) == levels
    calls = session.info.calls
    assert len(calls) == levels + 1
    assert all(call.parent_id == call.id - 1 for call in calls[1:])
    assert {call.status for call in calls} == {rt.Status.COMPLETED}


async def test_an_error_comes_up_a_deep_tree_unchanged() -> None:
    error = ValueError("from far below")

    async def sink(levels: int) -> None:
        if not levels:
            raise error
        await rt.call(sink, levels - 1)

    async with rt.Session(save_state=False) as session:
        with pytest.raises(ValueError, match="from far below") as caught:
            await rt.call(sink, 200)
    assert caught.value is error
    assert error.__context__ is None
    assert {call.status for call in session.info.calls} == {rt.Status.FAILED}


async def test_a_scope_cancels_a_deep_tree(autojump_clock: MockClock) -> None:
    async def sink(levels: int) -> None:
        if not levels:
            await trio.sleep_forever()
        await rt.call(sink, levels - 1)

    async with rt.Session(save_state=False) as session:
        with trio.move_on_after(1) as scope:
            await rt.call(sink, 200)
        assert scope.cancelled_caught
    assert {call.status for call in session.info.calls} == {rt.Status.CANCELLED}


async def test_across_fresh_stacks_context_variables_behave_as_if_awaited_in_place() -> None:
    async def mark(level: int, last: int) -> None:
        assert LEVEL.get() == level - 1
        LEVEL.set(level)
        if level < last:
            await rt.call(mark, level + 1, last)
        assert LEVEL.get() == last

    async def bracket(level: int, last: int) -> None:
        assert LEVEL.get() == level - 1
        token = LEVEL.set(level)
        if level < last:
            await rt.call(bracket, level + 1, last)
        assert LEVEL.get() == level
        LEVEL.reset(token)

    async with rt.Session(save_state=False):
        await rt.call(bracket, 0, 100)
        assert LEVEL.get() == -1
        await rt.call(mark, 0, 100)
        assert LEVEL.get() == 100


async def test_across_fresh_stacks_a_node_runs_in_its_callers_scopes() -> None:
    async def deadlines(levels: int, deadline: float) -> None:
        assert trio.current_effective_deadline() == deadline
        if levels:
            with trio.move_on_at(deadline - 1):
                await rt.call(deadlines, levels - 1, deadline - 1)

    async with rt.Session(save_state=False):
        deadline = trio.current_time() + 1000
        with trio.move_on_at(deadline):
            await rt.call(deadlines, 100, deadline)


async def test_across_fresh_stacks_a_nursery_belongs_to_the_call_that_opened_it() -> None:
    opened: list[trio.Nursery] = []

    async def nested(level: int) -> None:
        async with trio.open_nursery() as nursery:
            opened.append(nursery)
            if level < 100:
                await rt.call(nested, level + 1)
                return
            for number, handed_down in enumerate(opened):
                handed_down.start_soon(rt.call, leaf.with_options(name=f"in {number}"))

    async with rt.Session(save_state=False) as session:
        await rt.call(nested, 0)
    calls = session.info.calls
    found = {call.node: calls[call.parent_id - 1].args for call in calls if call.parent_id and call.node != "nested"}
    assert found == {f"in {level}": (level,) for level in range(101)}


async def test_fresh_stacks_are_counted_in_each_task_anew(autojump_clock: MockClock) -> None:
    async def spawn(levels: int) -> int:
        if not levels:
            return 0
        async with rt.open_group() as group:
            pending = group.start_soon(spawn, levels - 1)
        return 1 + pending.result()

    async with rt.Session(save_state=False) as session:
        assert await rt.call(spawn, 300) == 300
    assert all(call.parent_id == call.id - 1 for call in session.info.calls[1:])
