"""A flow: an entry point with its options, of which every invocation is a fresh session."""

import gc
import hashlib
import math
import threading
import weakref
from pathlib import Path

import attrs
import pytest
import trio
from plain_nodes import double, which_session
from trio.testing import MockClock

import railtracks as rt

# Invoking


def test_invoke_runs_the_entry_point_and_returns_its_result() -> None:
    async def greet(name: str, *, mark: str) -> str:
        await trio.lowlevel.checkpoint()
        return f"Hello, {name}{mark}"

    assert rt.Flow("greet", entry_point=greet).invoke("Ada", mark="!") == "Hello, Ada!"


async def test_ainvoke_does_so_in_trio() -> None:
    assert await rt.Flow("double", entry_point=double).ainvoke(4) == 8


async def test_entry_point_may_be_a_node_a_coroutine_function_or_a_plain_one() -> None:
    async def plain_async(number: int) -> int:
        return 2 * number

    def plain(number: int) -> tuple[int, bool]:
        return 2 * number, threading.current_thread() is threading.main_thread()

    for entry_point, result in ((double, 8), (plain_async, 8), (plain, (8, False))):
        flow = rt.Flow("double", entry_point=entry_point)
        assert await flow.ainvoke(4) == result
        assert flow.entry_point is entry_point


async def test_entry_point_is_the_first_call_of_a_session_of_the_flows_name(home: Path) -> None:
    await rt.Flow("My Workflow", entry_point=double, flow_id="f-1").ainvoke(4)
    (path,) = home.iterdir()
    state = rt.load_state(path)
    assert path.name == f"My Workflow-{state.session_id}.json"
    assert (state.flow_name, state.flow_id, state.session_name) == ("My Workflow", "f-1", None)
    assert [(call.node, call.parent_id, call.result) for call in state.calls] == [("double", None, 8)]


async def test_every_invocation_is_a_fresh_session() -> None:
    flow = rt.Flow("which", entry_point=which_session)
    assert len({await flow.ainvoke() for _ in range(3)}) == 3


async def test_options_reach_each_session(autojump_clock: MockClock) -> None:
    async def hang() -> None:
        await trio.sleep_forever()

    flow = rt.Flow("hang", entry_point=hang, timeout=1)
    for _ in range(2):
        with pytest.raises(rt.SessionTimeoutError) as caught:
            await flow.ainvoke()
        assert (caught.value.session, caught.value.timeout) == ("hang", 1)


async def test_configured_defaults_are_those_of_the_invocation_not_of_the_flows_making(
    autojump_clock: MockClock,
) -> None:
    async def hang() -> None:
        await trio.sleep_forever()

    flow = rt.Flow("hang", entry_point=hang)
    rt.set_config(timeout=1)
    with pytest.raises(rt.SessionTimeoutError):
        await flow.ainvoke()


def test_each_run_of_a_flow_has_the_defaults_that_are_configured_as_it_begins() -> None:
    async def timeout() -> float | None:
        return rt.current_session().info.timeout

    flow = rt.Flow("timeout", entry_point=timeout)
    told = [flow.invoke()]
    for seconds in (30, 60, None):
        rt.set_config(timeout=seconds)
        told.append(flow.invoke())
    assert told == [None, 30, 60, None]


def test_runs_of_one_flow_share_no_options() -> None:
    async def put(key: str) -> list[str]:
        rt.context.put(key, key)
        return sorted(rt.current_session().context)

    rt.set_config(context={"configured": True})
    flow = rt.Flow("put", entry_point=put)
    assert [flow.invoke("first"), flow.invoke("second")] == [["configured", "first"], ["configured", "second"]]


def test_a_flow_keeps_no_context_that_it_ran_with() -> None:
    class Client:
        pass

    async def nothing() -> None:
        pass

    client = Client()
    held = weakref.ref(client)
    rt.set_config(context={"client": client})
    flow = rt.Flow("flow", nothing, save_state=False)
    flow.invoke()
    rt.set_config(context=None)
    del client
    gc.collect()
    assert held() is None
    assert flow.name == "flow"


async def test_error_of_the_entry_point_is_raised_as_it_is() -> None:
    error = ValueError("entry")

    async def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="entry") as caught:
        await rt.Flow("fail", entry_point=fail).ainvoke()
    assert caught.value is error


@pytest.mark.parametrize("to_its_end", [False, True])
async def test_session_that_was_cancelled_raises_session_cancelled_error(to_its_end: bool) -> None:
    async def stop() -> str:
        rt.current_session().cancel("enough")
        if not to_its_end:
            await trio.sleep_forever()
        return "a result of a session that was cancelled"

    with pytest.raises(rt.SessionCancelledError, match="the session was cancelled: enough") as caught:
        await rt.Flow("stop", entry_point=stop).ainvoke()
    assert caught.value.reason == "enough"


async def test_background_calls_end_before_the_result_comes_back(autojump_clock: MockClock) -> None:
    log: list[str] = []

    async def work() -> None:
        await trio.sleep(1)
        log.append("background")

    async def main() -> str:
        rt.current_session().start_soon(work)
        return "result"

    assert await rt.Flow("main", entry_point=main).ainvoke() == "result"
    assert log == ["background"]


async def test_100_concurrent_flows_save_100_states(home: Path) -> None:
    async def main(number: int) -> int:
        results = await rt.call_batch(double, [number, rt.context.get("offset")], return_exceptions=False)
        return sum(results)

    flow = rt.Flow("main", entry_point=main, context={"offset": 1})
    results: dict[int, int] = {}

    async def run(number: int) -> None:
        results[number] = await flow.ainvoke(number)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(run, number)
    assert results == {number: 2 * number + 2 for number in range(100)}
    states = [rt.load_state(path) for path in home.iterdir()]
    assert sorted(state.calls[0].args for state in states) == [(number,) for number in range(100)]
    for state in states:
        (root,) = state.roots
        assert root.result == results[root.args[0]]
        # Side by side: their order is Trio's.
        assert sorted(call.args for call in state.children(root.id)) == sorted([root.args, (1,)])


async def test_flow_inside_a_node_leaves_the_outer_session_intact(home: Path) -> None:
    inner_flow = rt.Flow("inner", entry_point=double, context={"key": "inner"})

    @rt.function_node
    async def nest() -> tuple[int, int]:
        invoked = await inner_flow.ainvoke(4)
        assert rt.context.get("key") == "outer"
        assert rt.session_id() == outer.identifier
        return invoked, await rt.call(double, 5)

    async with rt.Session({"key": "outer"}, name="outer", timeout=60) as outer:
        assert await rt.call(nest) == (8, 10)
        assert await rt.call(double, 6) == 12
    assert [(call.node, call.args, call.parent_id) for call in outer.info.calls] == [
        ("nest", (), None),
        ("double", (5,), 1),
        ("double", (6,), None),
    ]
    assert outer.status == "completed"
    (inner_path,) = home.glob("inner-*.json")
    assert [call.args for call in rt.load_state(inner_path).calls] == [(4,)]


async def test_flow_that_fails_inside_a_node_that_catches_it_leaves_the_outer_session_intact(
    autojump_clock: MockClock,
) -> None:
    async def hang() -> None:
        await trio.sleep_forever()

    @rt.function_node
    async def nest() -> str:
        try:
            await rt.Flow("hang", entry_point=hang, timeout=1).ainvoke()
        except rt.SessionTimeoutError:
            return "late"
        return "in time"

    async with rt.Session(end_on_error=True) as outer:
        assert await rt.call(nest) == "late"
    assert outer.status == "completed"


# The context


class Client:
    """A stand-in for what must not be copied."""


async def test_context_is_copied_for_each_invocation_dicts_lists_tuples_and_sets_recursively() -> None:
    given = {"list": [1, {"inner": [2]}], "tuple": ([3],), "set": {4}, "dict": {"deep": {"list": []}}}

    async def change() -> object:
        context = rt.context
        context.get("list").append(5)
        context.get("list")[1]["inner"].append(6)
        context.get("tuple")[0].append(7)
        context.get("set").add(8)
        context.get("dict")["deep"]["list"].append(9)
        context.put("new", 10)
        return {key: context.get(key) for key in context.keys()}  # noqa: SIM118 - the context is no dict

    flow = rt.Flow("change", entry_point=change, context=given)
    changed = {
        "list": [1, {"inner": [2, 6]}, 5],
        "tuple": ([3, 7],),
        "set": {4, 8},
        "dict": {"deep": {"list": [9]}},
        "new": 10,
    }
    assert [await flow.ainvoke() for _ in range(2)] == [changed, changed]
    assert given == {"list": [1, {"inner": [2]}], "tuple": ([3],), "set": {4}, "dict": {"deep": {"list": []}}}


async def test_other_objects_in_the_context_are_shared_locks_included() -> None:
    client, lock = Client(), threading.Lock()

    async def look() -> tuple[object, object]:
        return rt.context.get("client"), rt.context.get("nested")["locks"][0]

    flow = rt.Flow("look", entry_point=look, context={"client": client, "nested": {"locks": [lock]}})
    assert await flow.ainvoke() == (client, lock)


async def test_context_that_contains_itself_is_copied() -> None:
    ring: dict[str, object] = {"number": 1}
    ring["self"] = ring

    async def look() -> bool:
        copy = rt.context.get("ring")
        return copy is not ring and copy["self"] is copy and copy["number"] == 1

    assert await rt.Flow("look", entry_point=look, context={"ring": ring}).ainvoke()


async def test_context_that_is_changed_after_the_flow_was_made_is_not_the_flows() -> None:
    given = {"list": [1]}

    async def look() -> list[int]:
        return rt.context.get("list")

    flow = rt.Flow("look", entry_point=look, context=given)
    given["list"].append(2)
    assert await flow.ainvoke() == [1]


async def test_update_context_returns_a_new_flow_merged_and_leaves_the_old_one() -> None:
    async def look() -> dict[str, object]:
        return {key: rt.context.get(key) for key in rt.context.keys()}  # noqa: SIM118 - the context is no dict

    flow = rt.Flow("look", entry_point=look, context={"a": 1, "b": 1}, timeout=60)
    updated = flow.update_context({"b": 2, "c": 2})
    assert updated is not flow
    assert await updated.ainvoke() == {"a": 1, "b": 2, "c": 2}
    assert await flow.ainvoke() == {"a": 1, "b": 1}
    assert (updated.name, updated.entry_point) == (flow.name, flow.entry_point)


async def test_update_context_of_a_flow_without_one_and_other_options_are_kept(autojump_clock: MockClock) -> None:
    async def hang() -> None:
        assert rt.context.get("a") == 1
        await trio.sleep_forever()

    with pytest.raises(rt.SessionTimeoutError):
        await rt.Flow("hang", entry_point=hang, timeout=1).update_context({"a": 1}).ainvoke()


# What it is


def test_equality_hash_is_sha_256_over_the_name() -> None:
    flow = rt.Flow("My Workflow", entry_point=double)
    assert flow.equality_hash() == hashlib.sha256(b"My Workflow").hexdigest()
    assert flow.equality_hash() == rt.Flow("My Workflow", entry_point=which_session, timeout=3).equality_hash()
    assert flow.equality_hash() != rt.Flow("Other", entry_point=double).equality_hash()


@pytest.mark.parametrize("name", ["name", "entry_point", "timeout"])
def test_it_is_immutable(name: str) -> None:
    flow = rt.Flow("double", entry_point=double)
    with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
        setattr(flow, name, "other")
    assert (flow.name, flow.entry_point) == ("double", double)


def test_repr_names_it_and_shows_no_context() -> None:
    assert repr(rt.Flow("double", entry_point=double, context={"token": "canary"})) == "<railtracks.Flow 'double'>"


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("  ", ValueError), (None, TypeError), (1, TypeError)])
def test_empty_name_is_a_value_error_and_one_that_is_no_string_a_type_error(name: object, error: type) -> None:
    with pytest.raises(error, match="the name of a flow"):
        rt.Flow(name, entry_point=double)


@pytest.mark.parametrize("entry_point", [int, None, "double"])
def test_entry_point_that_is_no_function_is_a_node_creation_error(entry_point: object) -> None:
    with pytest.raises(rt.NodeCreationError):
        rt.Flow("flow", entry_point=entry_point)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": math.nan}, ValueError),
        ({"timeout": True}, TypeError),
        ({"cleanup_timeout": "5"}, TypeError),
        ({"logging_setting": "LOUD"}, ValueError),
        ({"context": [1]}, TypeError),
        ({"speed": 1}, TypeError),
    ],
)
def test_options_are_refused_where_they_are_given(options: dict[str, object], error: type) -> None:
    with pytest.raises(error, match=next(iter(options))):
        rt.Flow("flow", entry_point=double, **options)


async def take(**kwargs: int) -> dict[str, int]:
    return kwargs


def test_parameters_of_any_name_are_passed_on() -> None:
    assert rt.Flow("take", take, save_state=False).invoke(self=1) == {"self": 1}


async def test_parameters_of_any_name_are_passed_on_in_trio() -> None:
    assert await rt.Flow("take", take, save_state=False).ainvoke(self=1) == {"self": 1}
