"""Middleware of nodes: what runs around a node's function, in each attempt, and what may be done with `call`."""

import functools
import gc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import trio
from durable_nodes import store_fixture  # noqa: F401 - a fixture

import railtracks as rt
from railtracks import testing

Call = Callable[..., Awaitable[Any]]
T = TypeVar("T")
LOG: list[object] = []


@pytest.fixture(autouse=True)
def empty_log() -> None:
    LOG.clear()


@rt.function_node
async def double(number: int) -> int:
    LOG.append(number)
    return 2 * number


@rt.function_node
def slow_double(number: int) -> int:
    LOG.append(number)
    return 2 * number


@rt.function_node
async def note(text: str) -> str:
    return text


def named(name: str) -> Any:
    @rt.wrap_node
    async def around(call: Call, *args: Any, **kwargs: Any) -> Any:
        LOG.append(f"{name} in")
        try:
            return await call(*args, **kwargs)
        finally:
            LOG.append(f"{name} out")

    return around


@rt.wrap_node
async def twice(call: Call, number: int) -> int:
    return int(await call(number)) + int(await call(number + 10))


@rt.wrap_node
async def never(call: Call, *args: Any) -> str:
    return "not asked"


@rt.after_node
def negative(result: int) -> int:
    return -result


BOTH = pytest.mark.parametrize("node", [double, slow_double], ids=["async", "sync"])


@BOTH
async def test_the_first_is_outermost_and_a_direct_call_skips_all(node: rt.Node[..., int]) -> None:
    wrapped = node.with_options(middleware=[named("a"), named("b")])
    assert await rt.call(wrapped, 1) == 2
    assert LOG == ["a in", "b in", 1, "b out", "a out"]
    LOG.clear()
    direct: Any = wrapped(1)
    assert (direct if isinstance(direct, int) else await direct) == 2
    assert LOG == [1]


@BOTH
async def test_it_may_change_arguments_and_result_and_call_any_number_of_times(node: rt.Node[..., int]) -> None:
    async with rt.Session(save_state=False) as session:
        assert await rt.call(rt.couple(node, middleware=[negative, twice]), 1) == -24
        assert await rt.call(rt.couple(node, middleware=[never]), 1) == "not asked"
    assert LOG == [1, 11]
    # The record has the arguments and the result of the call.
    assert [(call.args, call.result) for call in session.info.calls] == [((1,), -24), ((1,), "not asked")]


async def test_it_is_an_option_of_the_decorator_and_couple_adds_outermost_in_a_copy() -> None:
    @rt.function_node(middleware=(named("own"),), name="node", timeout=3)
    async def node() -> None: ...

    coupled = rt.couple(node, middleware=[named("first"), named("second")])
    await rt.call(coupled)
    assert LOG == ["first in", "second in", "own in", "own out", "second out", "first out"]
    assert (coupled.name, coupled.timeout) == ("node", 3)
    LOG.clear()
    await rt.call(node)
    assert LOG == ["own in", "own out"]
    LOG.clear()
    await rt.call(node.with_options(middleware=[named("other")]))
    await rt.call(node.with_options(middleware=[]))
    await rt.call(node.with_options(timeout=2))
    assert LOG == ["other in", "other out", "own in", "own out"]


async def test_the_list_that_was_given_may_change_afterwards() -> None:
    given = [named("a")]
    node = double.with_options(middleware=given)
    given.clear()
    await rt.call(node.with_options(name="other"), 1)
    assert LOG == ["a in", 1, "a out"]


async def test_couple_takes_functions_methods_and_partials() -> None:
    async def plain(number: int) -> int:
        return number

    class Shop:
        @rt.function_node
        async def price(self, count: int) -> int:
            return 3 * count

    assert await rt.call(rt.couple(plain, middleware=[negative]), 1) == -1
    assert await rt.call(rt.couple(Shop().price, middleware=[negative]), 1) == -3
    coupled = rt.couple(functools.partial(double, 4), middleware=[negative])
    async with rt.Session(save_state=False) as session:
        assert await rt.call(coupled) == -8
    assert session.info.calls[0].args == (4,)


async def test_calls_that_it_makes_are_children_of_the_call() -> None:
    @rt.wrap_node
    async def noting(call: Call, *args: Any) -> Any:
        await rt.call(note, "before")
        async with rt.open_group() as group:
            group.start_soon(note, "beside")
        result = await call(*args)
        await rt.call(note, "after")
        return result

    for node in (double, slow_double):
        async with rt.Session(save_state=False) as session:
            await rt.call(rt.couple(node, middleware=[noting]), 1)
        assert [(call.args, call.parent_id) for call in session.info.calls] == [
            ((1,), None),
            (("before",), 1),
            (("beside",), 1),
            (("after",), 1),
        ]


async def test_around_a_thread_it_may_call_other_threads_with_a_single_slot() -> None:
    @rt.wrap_node
    async def measured(call: Call, number: int) -> int:
        before = await rt.call(slow_double, 100)
        inside = await call(number)
        return int(before) + int(inside) + int(await call(number)) + await rt.call(slow_double, 200)

    @rt.function_node(middleware=[measured])
    def outer(number: int) -> int:
        return number + trio.from_thread.run(rt.call, slow_double, 10)

    rt.set_config(thread_limit=1)
    assert await rt.call(outer, 1) == 200 + 21 + 21 + 400


async def test_a_node_that_may_be_abandoned_has_middleware_too() -> None:
    assert await rt.call(slow_double.with_options(abandon_on_cancel=True, middleware=[twice]), 1) == 24


async def test_an_executor_gets_the_function_only() -> None:
    with ThreadPoolExecutor(1) as threads:
        assert await rt.call(slow_double.with_options(run_in=threads, middleware=[twice, negative]), 1) == -24


async def test_it_runs_in_each_attempt_and_its_failure_is_one(autojump_clock: trio.abc.Clock) -> None:
    @rt.wrap_node
    async def failing_first(call: Call, number: int) -> Any:
        LOG.append("in")
        if len(LOG) < 3:
            raise ValueError(number)
        return await call(number)

    node = double.with_options(middleware=[failing_first], retry=rt.Retry(attempts=4))
    async with rt.Session(save_state=False) as session:
        assert await rt.call(node, 1) == 2
    assert [call.attempt for call in session.info.calls] == [1, 2, 3]
    assert LOG == ["in", "in", "in", 1]


async def test_it_is_within_the_timeout_of_the_node(autojump_clock: trio.abc.Clock) -> None:
    @rt.wrap_node
    async def sleeping(call: Call, *args: Any) -> Any:
        try:
            await trio.sleep(60)
        finally:
            LOG.append("cleaned up")
        return await call(*args)

    for node in (double, slow_double):
        LOG.clear()
        with pytest.raises(rt.NodeTimeoutError):
            await rt.call(node.with_options(timeout=5, middleware=[sleeping]), 1)
        assert LOG == ["cleaned up"]
    assert await rt.call(double.with_options(timeout=5, middleware=[twice]), 1) == 24


async def test_an_error_of_the_node_comes_through_as_the_same_object_and_may_be_answered() -> None:
    error = ValueError("broken")

    @rt.function_node
    async def fail() -> str:
        raise error

    @rt.wrap_node
    async def answering(call: Call) -> Any:
        try:
            return await call()
        except ValueError as caught:
            LOG.append(caught is error)
            return "answered"

    with pytest.raises(ValueError, match="broken") as raised:
        await rt.call(rt.couple(fail, middleware=[named("a"), negative]))
    assert raised.value is error
    async with rt.Session(save_state=False) as session:
        assert await rt.call(rt.couple(fail, middleware=[answering])) == "answered"
    assert session.info.calls[0].status == "completed"
    assert LOG[-1] is True


async def test_what_runs_after_a_node_may_fail_and_does_not_run_after_a_failure() -> None:
    @rt.after_node
    def refuse(result: int) -> int:
        LOG.append("refused")
        raise ValueError(result)

    @rt.function_node(middleware=[refuse])
    async def fail() -> int:
        raise KeyError("first")

    with pytest.raises(ValueError, match="2"):
        await rt.call(rt.couple(double, middleware=[refuse]), 1)
    LOG.clear()
    with pytest.raises(KeyError):
        await rt.call(fail)
    assert LOG == []


async def test_a_function_after_a_node_that_returns_a_coroutine_is_a_type_error() -> None:
    @rt.after_node
    def forgetful(result: int) -> Awaitable[None]:
        return double(result)

    with pytest.raises(TypeError, match="'forgetful' of node 'double'"):
        await rt.call(rt.couple(double, middleware=[forgetful]), 1)


async def test_call_runs_nothing_after_the_middleware_has_returned() -> None:
    kept = list[Call]()

    @rt.wrap_node
    async def keeping(call: Call, *args: Any) -> Any:
        kept.append(call)
        return await call(*args)

    await rt.call(rt.couple(double, middleware=[keeping]), 1)
    with pytest.raises(rt.ContextError, match="'keeping' of node 'double' has returned"):
        await kept[0](2)
    assert LOG == [1]


async def test_call_runs_nothing_in_another_task() -> None:
    @rt.wrap_node
    async def spreading(call: Call, *args: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, *args)

    with pytest.RaisesGroup(pytest.RaisesExc(rt.ContextError, match="in another task")):
        await rt.call(rt.couple(double, middleware=[spreading]), 1)
    assert LOG == []


async def test_a_cancel_passes_through_it() -> None:
    async with rt.Session(save_state=False) as session:
        session.start_soon(rt.couple(rt.function_node(trio.sleep_forever), middleware=[named("a"), negative]))
        await trio.testing.wait_all_tasks_blocked()
        session.cancel()
    assert LOG == ["a in", "a out"]
    assert session.info.calls[0].status == "cancelled"


async def test_deep_calls_through_many_middlewares_do_not_fill_the_stack() -> None:
    @rt.function_node(middleware=[named(str(number)) for number in range(8)])
    async def deep(levels: int) -> int:
        return 0 if levels == 0 else 1 + await rt.call(deep, levels - 1)

    assert await rt.call(deep, 150) == 150


async def test_a_call_through_middleware_leaves_no_cycles_of_references() -> None:
    node = slow_double.with_options(middleware=[named("a"), negative, twice])
    async with rt.Session(save_state=False):
        await rt.call(node, 1)
        gc.collect()
        gc.disable()
        try:
            await rt.call(node, 1)
            assert gc.collect() == 0
        finally:
            gc.enable()


async def test_a_fake_for_a_node_is_called_through_its_middleware() -> None:
    node = double.with_options(middleware=[negative])
    with testing.replace_node(node, lambda number: number + 5):
        assert await rt.call(node, 1) == -6


async def test_called_directly_middleware_is_its_function() -> None:
    assert negative(3) == -3
    assert await twice(double, 1) == 24
    assert (negative.__name__, negative.__doc__) == ("negative", None)
    assert repr(negative) == "<railtracks middleware 'negative'>"


async def test_methods_are_middleware_too() -> None:
    class Audit:
        def __init__(self, name: str) -> None:
            self.name = name

        @rt.wrap_node
        async def log(self, call: Call, *args: Any) -> Any:
            LOG.append(self.name)
            return await call(*args)

        @rt.after_node
        def add(self, result: int) -> int:
            return result + len(self.name)

    class Holder:
        log = Audit("xyz").log

    audit = Audit("abc")
    assert await rt.call(rt.couple(double, middleware=[audit.log, audit.add, Holder().log]), 1) == 5
    assert LOG == ["abc", "xyz", 1]


class AsyncObject:
    async def __call__(self, call: Call, *args: Any) -> Any:
        return await call(*args)


async def test_objects_with_a_call_method_are_middleware_too() -> None:
    assert await rt.call(rt.couple(double, middleware=[rt.wrap_node(AsyncObject()), rt.after_node(repr)]), 1) == "2"


async def around(call: Call) -> None: ...


MISTAKES: list[Any] = [
    pytest.param(lambda: rt.couple(double, middleware=[around]), "around", id="an undecorated function"),
    pytest.param(lambda: rt.couple(double, middleware=[negative, print]), "print", id="a builtin"),
    pytest.param(lambda: rt.couple(double, middleware=negative), "list or a tuple", id="no list"),
    pytest.param(lambda: rt.function_node(middleware="ab"), "list or a tuple", id="a text"),
    pytest.param(lambda: double.with_options(middleware=None), "list or a tuple", id="none"),
    pytest.param(lambda: double.with_options(middleware={negative}), "list or a tuple", id="a set"),
    pytest.param(lambda: rt.couple(double, middleware=[double]), "double", id="a node"),
    pytest.param(lambda: rt.couple(3, middleware=[]), "3", id="couple nothing"),
    pytest.param(lambda: rt.wrap_node(print), "print", id="a sync function to wrap_node"),
    pytest.param(lambda: rt.wrap_node(double), "double", id="a node to wrap_node"),
    pytest.param(lambda: rt.wrap_node(None), "NoneType", id="nothing to wrap_node"),
    pytest.param(lambda: rt.after_node(around), "around", id="an async function to after_node"),
    pytest.param(lambda: rt.after_node(slow_double), "slow_double", id="a node to after_node"),
    pytest.param(lambda: rt.after_node(3), "type int", id="a number to after_node"),
]


@pytest.mark.parametrize(("make", "named_in_error"), MISTAKES)
def test_anything_else_is_refused_where_it_is_given(make: Callable[[], object], named_in_error: str) -> None:
    with pytest.raises(rt.NodeCreationError, match=named_in_error):
        make()


# In durable sessions.


@dataclass
class Price:
    amount: int


@rt.after_node
def as_price(result: int) -> Price:
    return Price(result)


@rt.wrap_node
async def typed(call: Callable[..., Awaitable[T]], *args: Any) -> T | None:
    LOG.append("ran")
    return await call(*args)


def test_a_replay_skips_it_and_hands_over_what_it_returned(store: rt.DurableStore) -> None:
    node = rt.couple(double, middleware=[typed, as_price])

    async def main() -> int:
        price: Any = await rt.call(node, 2)
        if LOG[-1] != "resumed":
            raise KeyboardInterrupt
        return int(price.amount)

    flow = rt.Flow("flow", main, durable=store, save_state=False)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    LOG.append("resumed")
    assert flow.resume("s") == 4
    assert LOG == ["ran", 2, "resumed"]


def test_calls_in_it_are_replayed_when_it_has_to_run_again(store: rt.DurableStore) -> None:
    @rt.wrap_node
    async def noting(call: Call, *args: Any) -> Any:
        await rt.call(double, 7)
        if LOG[-1] != "resumed":
            raise KeyboardInterrupt
        return await call(*args)

    flow = rt.Flow("flow", rt.couple(double, middleware=[noting]), durable=store, save_state=False)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(1, session_id="s")
    LOG.append("resumed")
    assert flow.resume("s") == 2
    assert LOG == [7, "resumed", 1]


async def test_the_entry_point_of_a_flow_inside_another_session_has_middleware(store: rt.DurableStore) -> None:
    flow = rt.Flow("inner", rt.couple(double, middleware=[as_price]), durable=store, save_state=False)
    async with rt.Session(durable=store, save_state=False, session_id="outer") as session:
        assert await flow.ainvoke(2) == Price(4)
    assert [(call.node, call.result) for call in session.info.calls] == [("flow inner", Price(4))]


async def test_a_secret_that_middleware_adds_is_in_no_record() -> None:
    @rt.function_node
    async def log_in(user: str, password: str) -> None:
        raise ValueError(f"401 for {user}:{password}")

    @rt.wrap_node
    async def authenticated(call: Any, user: str) -> Any:
        return await call(user, password="hunter2hunter2")

    session = rt.Session(save_state=False)
    with pytest.raises(ValueError, match="hunter2hunter2"):
        async with session:
            await rt.call(rt.couple(log_in, middleware=[authenticated]), "bob")
    assert "hunter2" not in str(session.payload())
    assert "401 for bob:[redacted]" in str(session.payload())
