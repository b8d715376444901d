"""The context: what the nodes of one session share, and nobody else."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import railtracks as rt


@rt.function_node
async def read(key: str) -> object:
    return rt.context.get(key)


@rt.function_node
def read_in_thread(key: str) -> object:
    return rt.context.get(key)


@rt.function_node
def write_in_thread(key: str, value: object) -> None:
    rt.context.put(key, value)


async def test_all_nodes_of_a_session_share_it_sync_nodes_in_threads_included() -> None:
    async with rt.Session(context={"user": "ada"}):
        assert await rt.call(read, "user") == "ada"
        assert await rt.call(read_in_thread, "user") == "ada"
        await rt.call(write_in_thread, "city", "London")
        assert await rt.call(read, "city") == "London"
        assert rt.context.get("city") == "London"


async def test_get_of_a_missing_key_is_a_key_error() -> None:
    async with rt.Session():
        with pytest.raises(KeyError, match="nothing"):
            rt.context.get("nothing")


@pytest.mark.parametrize("default", [None, 0, "", [], "other"])
async def test_get_returns_the_default_whatever_it_is(default: object) -> None:
    async with rt.Session():
        assert rt.context.get("nothing", default) is default


async def test_get_prefers_a_value_to_the_default_even_none() -> None:
    async with rt.Session(context={"nothing": None}):
        assert rt.context.get("nothing") is None
        assert rt.context.get("nothing", 1) is None


async def test_put_update_delete_and_keys() -> None:
    async with rt.Session(context={"a": 1}):
        rt.context.put("b", 2)
        rt.context.update({"a": 3, "c": 4})
        assert rt.context.keys() == ["a", "b", "c"]
        rt.context.delete("b")
        assert rt.context.keys() == ["a", "c"]
        assert rt.context.get("a") == 3
        assert rt.context.get("b", None) is None


async def test_keys_are_a_list_of_its_own() -> None:
    async with rt.Session(context={"a": 1}):
        rt.context.keys().clear()
        assert rt.context.keys() == ["a"]


async def test_delete_of_a_missing_key_is_a_key_error() -> None:
    async with rt.Session():
        with pytest.raises(KeyError, match="nothing"):
            rt.context.delete("nothing")


async def test_a_key_that_is_no_string_is_refused_and_sets_nothing() -> None:
    async with rt.Session():
        with pytest.raises(TypeError, match="the keys of the context must be strings, not 1"):
            rt.context.update({"a": 1, 1: 2})  # type: ignore[dict-item]  # the wrong argument is the subject
        assert rt.context.keys() == []


ACTIONS: list[Callable[[], object]] = [
    lambda: rt.context.get("key"),
    lambda: rt.context.get("key", None),
    lambda: rt.context.put("key", 1),
    lambda: rt.context.update({}),
    lambda: rt.context.delete("key"),
    rt.context.keys,
]


@pytest.mark.parametrize("action", ACTIONS)
def test_outside_trio_there_is_no_context(action: Callable[[], object]) -> None:
    with pytest.raises(rt.ContextError, match="no session is open here"):
        action()


@pytest.mark.parametrize("action", ACTIONS)
async def test_outside_a_session_there_is_no_context(action: Callable[[], object]) -> None:
    async with rt.Session(context={"key": 1}):
        pass
    with pytest.raises(rt.ContextError, match="no session is open here"):
        action()


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_task_that_outlived_its_session_has_no_context(action: Callable[[], object]) -> None:
    over = trio.Event()

    async def outlive() -> None:
        await over.wait()
        with pytest.raises(rt.ContextError, match="session 'short' is over"):
            action()

    async with trio.open_nursery() as nursery:
        async with rt.Session(name="short", context={"key": 1}):
            nursery.start_soon(outlive)
        over.set()


async def test_it_may_hold_what_cannot_be_copied() -> None:
    lock = threading.Lock()
    async with rt.Session(context={"lock": lock}):
        assert await rt.call(read, "lock") is lock


async def test_sessions_do_not_see_the_context_of_one_another() -> None:
    async def run(value: int) -> None:
        async with rt.Session(context={"value": value}):
            await wait_all_tasks_blocked()
            assert await rt.call(read, "value") == value
            rt.context.put(f"only {value}", value)
            await wait_all_tasks_blocked()
            assert rt.context.keys() == ["value", f"only {value}"]

    async with trio.open_nursery() as nursery:
        for value in range(5):
            nursery.start_soon(run, value)


async def test_a_nested_session_leaves_the_outer_context_as_it_was() -> None:
    async with rt.Session(context={"depth": 1}):
        async with rt.Session(context={"depth": 2}):
            rt.context.put("inner", True)
            assert await rt.call(read, "depth") == 2
        assert await rt.call(read, "depth") == 1
        assert rt.context.keys() == ["depth"]


async def test_the_dict_that_was_given_stays_as_it_was() -> None:
    given = {"a": 1}
    async with rt.Session(context=given):
        rt.context.put("b", 2)
    assert given == {"a": 1}


# From outside: `session.context`.


async def test_the_context_of_a_session_can_be_read_from_before_its_start_to_after_its_end() -> None:
    session = rt.Session({"user": "ada"})
    view = session.context
    assert view == {"user": "ada"}
    async with session:
        await rt.call(write_in_thread, "city", "London")
        assert view == {"user": "ada", "city": "London"}
        rt.context.delete("user")
    assert view == session.context == {"city": "London"}


@pytest.mark.parametrize("end", ["error", "cancel", "outer scope"])
async def test_it_can_be_read_however_the_session_has_ended(end: str) -> None:
    with trio.CancelScope() as scope, suppress(ValueError):
        async with rt.Session({"user": "ada"}) as session:
            rt.context.put("step", 1)
            if end == "error":
                raise ValueError
            if end == "cancel":
                session.cancel()
            else:
                scope.cancel()
            await trio.sleep_forever()
    assert session.context == {"user": "ada", "step": 1}


async def test_it_can_be_read_after_a_function_with_a_session() -> None:
    @rt.session(context={"user": "ada"})
    async def main() -> None:
        rt.context.put("step", 1)
        await trio.lowlevel.checkpoint()

    _, session = await main()
    assert session.context == {"user": "ada", "step": 1}


async def test_it_cannot_be_written_and_its_nested_values_are_the_objects_themselves() -> None:
    items: list[int] = []
    async with rt.Session({"items": items}) as session:
        with pytest.raises(TypeError):
            session.context["user"] = "bob"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
        with pytest.raises(TypeError):
            del session.context["items"]  # type: ignore[attr-defined]  # pyright: ignore[reportIndexIssue]
        assert session.context["items"] is items
    assert rt.Session().context == {}


async def test_it_is_a_mapping_like_any_other() -> None:
    view = rt.Session({"b": 1, "a": 2}).context
    assert (len(view), list(view), list(view.keys()), list(view.values())) == (2, ["b", "a"], ["b", "a"], [1, 2])
    assert (list(view.items()), dict(view), {**view}) == ([("b", 1), ("a", 2)], {"b": 1, "a": 2}, {"b": 1, "a": 2})
    assert (view.get("c"), view.get("a"), "a" in view, "c" in view) == (None, 2, True, False)
    with pytest.raises(KeyError, match="c"):
        _ = view["c"]


async def test_nodes_may_write_while_it_is_iterated() -> None:
    async with rt.Session({"a": 1, "b": 2}) as session:
        seen: list[object] = []
        for key in session.context:
            rt.context.put(f"new {key}", 0)
            seen.append(key)
        for key, value in session.context.items():
            rt.context.delete(key)
            seen.append(value)
    assert seen == ["a", "b", 1, 2, 0, 0]
    assert session.context == {}


async def test_its_repr_has_the_keys_only() -> None:
    text = repr(rt.Session({"api_key": "very-secret"}).context)
    assert "api_key" in text
    assert "very-secret" not in text


async def test_of_the_inner_and_the_outer_session_each_has_its_own() -> None:
    async with rt.Session({"user": "ada"}) as outer:
        async with rt.Session({"user": "bob"}) as inner:
            rt.context.put("step", 1)
        assert outer.context == {"user": "ada"}
    assert inner.context == {"user": "bob", "step": 1}


async def test_in_a_resumed_session_it_is_the_context_that_is_recorded(tmp_path: Path) -> None:
    store = rt.DurableStore(tmp_path / "store.db")
    with trio.CancelScope() as scope:
        async with rt.Session({"user": "ada"}, durable=store, session_id="s"):
            await rt.call(write_in_thread, "city", "London")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    async with rt.Session({"user": "ada"}, durable=store, resume="s") as session:
        assert session.context == {"user": "ada"}
        await rt.call(write_in_thread, "city", "London")
    assert session.context == {"user": "ada", "city": "London"}
