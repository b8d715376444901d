"""What people put around a node: under partials and methods it stays that node, and decorated functions are refused."""

import contextlib
import functools
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio

import railtracks as rt
from railtracks import testing

RETRY = rt.Retry(attempts=2, wait_initial=0, jitter=0)


@rt.function_node(name="sum", timeout=7, retry=RETRY)
async def add(left: int, right: int, *, more: int = 0) -> int:
    return left + right + more


@rt.function_node(name="length")
def measure(text: str, *, token: str = "") -> int:
    return len(text) + len(token)


def decorated(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return inner


class Shop:
    def __init__(self, price: int = 2) -> None:
        self.price = price

    @rt.function_node(name="total")
    async def total(self, count: int, extra: int = 0) -> int:
        return self.price * count + extra

    half = functools.partialmethod(total, 10)

    @rt.function_node(name="named by a class method below")
    @classmethod
    async def below(cls, end: str) -> str:
        return cls.__name__ + end

    @classmethod
    @rt.function_node(name="named by a class method above")
    async def above(cls, end: str) -> str:
        return cls.__name__ + end

    @rt.function_node(name="static below")
    @staticmethod
    async def static_below(end: str) -> str:
        return end

    @rt.function_node(name="static sync")
    @staticmethod
    def static_sync(end: str) -> str:
        return end

    @staticmethod
    @rt.function_node(name="static above")
    async def static_above(end: str) -> str:
        return end

    pm_of_class_method: Any = functools.partialmethod(above, "!")
    pm_of_static_method: Any = functools.partialmethod(static_above, "!")

    @decorated
    @rt.function_node
    async def decorated_method(self) -> None: ...


class Stall(Shop):
    pass


class Tool:
    @rt.function_node(name="tool", timeout=3)
    async def __call__(self, number: int) -> int:
        return number


class StaticTool:
    @staticmethod
    @rt.function_node(name="static tool")
    async def __call__(number: int) -> int:
        return number


async def called(fn: Any, *args: Any, **kwargs: Any) -> tuple[Any, rt.CallRecord]:
    async with rt.Session(save_state=False) as session:
        result = await rt.call(fn, *args, **kwargs)
    (record,) = session.info.calls
    return result, record


PARTIALS: list[Any] = [
    pytest.param(functools.partial(add, 1), (2,), {}, ((1, 2), {}), 3, id="a partial"),
    pytest.param(functools.partial(add, 1, more=5), (2,), {}, ((1, 2), {"more": 5}), 8, id="with a keyword"),
    pytest.param(
        functools.partial(add, 1, more=5), (2,), {"more": 6}, ((1, 2), {"more": 6}), 9, id="a keyword given again"
    ),
    pytest.param(functools.partial(functools.partial(add, 1), 2), (), {}, ((1, 2), {}), 3, id="a partial of a partial"),
    pytest.param(
        functools.partial(rt.function_node(functools.partial(add, 1)), 2),
        (),
        {},
        ((1, 2), {}),
        3,
        id="of a node of one",
    ),
]


@pytest.mark.parametrize(("fn", "args", "kwargs", "recorded", "result"), PARTIALS)
async def test_under_a_partial_a_node_is_called_with_all_arguments_in_the_record(
    fn: Any, args: Any, kwargs: Any, recorded: Any, result: int
) -> None:
    got, record = await called(fn, *args, **kwargs)
    assert (got, record.node, record.args, record.kwargs) == (result, "sum", *recorded)


async def test_under_a_partial_a_node_keeps_its_timeout_and_its_retries(autojump_clock: trio.abc.Clock) -> None:
    @rt.function_node(name="slow", timeout=5, retry=rt.Retry(attempts=2, wait_initial=0, jitter=0, on=TimeoutError))
    async def sleep(seconds: float) -> None:
        await trio.sleep(seconds)

    with pytest.raises(rt.NodeTimeoutError, match="'slow'"):
        async with rt.Session(save_state=False) as session:
            await rt.call(functools.partial(sleep, 60))
    assert [(call.attempt, call.args) for call in session.info.calls] == [(1, (60,)), (2, (60,))]


async def test_a_batch_a_group_and_as_completed_take_a_partial_of_a_node() -> None:
    fn = functools.partial(add, 1, more=3)
    async with rt.Session(save_state=False) as session:
        assert await rt.call_batch(fn, [1, 2], limit=1) == [5, 6]
        assert await rt.call_batch(fn, [1, 2]) == [5, 6]
        async with rt.open_group() as group:
            pending = group.start_soon(fn, 3)
        assert (pending.node_name, pending.args, dict(pending.kwargs)) == ("sum", (1, 3), {"more": 3})
        async with rt.as_completed(fn, [4], limit=1) as finished:
            assert [(each.args, dict(each.kwargs), each.result()) async for each in finished] == [
                ((1, 4), {"more": 3}, 8)
            ]
        background = session.start_soon(fn, 5)
        await background.wait()
        assert (background.args, background.result()) == ((1, 5), 9)
    assert {(call.node, call.args[0], call.kwargs["more"]) for call in session.info.calls} == {("sum", 1, 3)}


async def test_a_node_under_a_partial_may_say_that_it_has_started() -> None:
    @rt.function_node
    async def serve(name: str, port: int, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        task_status.started((name, port))

    async with rt.Session(save_state=False) as session:
        assert await session.start(functools.partial(serve, "web"), 80) == ("web", 80)
    assert session.info.calls[0].args == ("web", 80)


async def test_a_flow_takes_a_partial_of_a_node() -> None:
    flow = rt.Flow("flow", functools.partial(add, 1), save_state=False)
    with testing.opened_sessions() as sessions:
        assert await flow.ainvoke(2) == 3
    assert [(call.node, call.args) for call in sessions[0].info.calls] == [("sum", (1, 2))]


async def test_a_node_made_of_a_partial_of_a_node_has_its_options_and_others_that_are_given() -> None:
    node = rt.function_node(functools.partial(add, 1), name="one more")
    assert (node.name, node.timeout, node.retry) == ("one more", 7, RETRY)
    quicker = node.with_options(timeout=2)
    assert (quicker.name, quicker.timeout) == ("one more", 2)
    assert add.name == "sum"
    assert await node(2) == 3
    result, record = await called(quicker, 4)
    assert (result, record.node, record.args) == (5, "one more", (1, 4))


async def test_a_fake_for_a_node_is_called_under_its_partials_too() -> None:
    async def fake(*args: int) -> int:
        return -len(args)

    node = rt.function_node(functools.partial(add, 1))
    with testing.replace_node(add, fake):
        assert await rt.call(functools.partial(add, 1), 2) == -2
        assert await rt.call(node, 2) == -2
    # A fake for the node of a partial gets what its caller gave.
    with testing.replace_node(node, fake):
        assert await rt.call(node, 2) == -1
        assert await rt.call(add, 1, 2) == 3
    assert await rt.call(node, 2) == 3


async def test_a_secret_in_a_partial_of_a_node_is_seen() -> None:
    async with rt.Session(save_state=False) as session:
        await rt.call(functools.partial(measure, token="swordfish-swordfish"), "say swordfish-swordfish")
    assert "swordfish" not in str(session.payload())


async def test_a_node_with_a_partial_runs_in_an_executor() -> None:
    with ThreadPoolExecutor(1) as threads:
        node = measure.with_options(run_in=threads)
        assert await rt.call(functools.partial(node, "abc")) == 3


class Counting(functools.partial[Any]):
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(len(args), **kwargs)


async def test_a_kind_of_partial_that_changes_the_arguments_is_refused_like_a_decorator() -> None:
    with pytest.raises(rt.NodeCreationError, match=r"below @rt\.function_node"):
        await rt.call(Counting(add, 1), 2)


METHODS: list[Any] = [
    pytest.param(Shop().total, (3,), "total", 6, id="a method"),
    pytest.param(types.MethodType(Shop.total, Shop(3)), (3,), "total", 9, id="a method made by hand"),
    pytest.param(Shop().half, (1,), "total", 21, id="partialmethod"),
    pytest.param(Stall.below, ("!",), "named by a class method below", "Stall!", id="classmethod below"),
    pytest.param(Stall().below, ("!",), "named by a class method below", "Stall!", id="classmethod below, instance"),
    pytest.param(Stall.above, ("!",), "named by a class method above", "Stall!", id="classmethod above"),
    pytest.param(Stall().above, ("!",), "named by a class method above", "Stall!", id="classmethod above, instance"),
    pytest.param(Stall.static_below, ("!",), "static below", "!", id="staticmethod below"),
    pytest.param(Stall().static_below, ("!",), "static below", "!", id="staticmethod below, instance"),
    pytest.param(Stall().static_sync, ("!",), "static sync", "!", id="staticmethod below, sync"),
    pytest.param(Stall.static_above, ("!",), "static above", "!", id="staticmethod above"),
    pytest.param(Stall().static_above, ("!",), "static above", "!", id="staticmethod above, instance"),
    pytest.param(Shop.__dict__["static_above"], ("!",), "static above", "!", id="a staticmethod itself"),
    pytest.param(Stall().pm_of_class_method, (), "named by a class method above", "Stall!", id="of a class method"),
    pytest.param(Stall().pm_of_static_method, (), "static above", "!", id="partialmethod of a static method"),
    pytest.param(Tool(), (4,), "tool", 4, id="an object whose __call__ is a node"),
    pytest.param(StaticTool(), (4,), "static tool", 4, id="an object whose __call__ is a static node"),
    pytest.param(functools.partial(Shop().total, 3), (1,), "total", 7, id="a partial of a method"),
    pytest.param(types.MethodType(functools.partial(add, 1), 4), (), "sum", 5, id="a method of a partial"),
]


@pytest.mark.parametrize(("fn", "args", "name", "result"), METHODS)
async def test_as_a_method_of_any_kind_a_node_keeps_its_name(fn: Any, args: Any, name: str, result: object) -> None:
    got, record = await called(fn, *args)
    assert (got, record.node) == (result, name)
    assert await rt.call_batch(fn, *([each] for each in args or ())) == [result] if args else True
    assert await rt.Flow("flow", fn, save_state=False).ainvoke(*args) == result


async def test_a_partialmethod_got_from_its_class_takes_the_instance_first() -> None:
    shop = Shop()
    result, record = await called(Shop.half, shop, 1)
    assert (result, record.node, record.args) == (21, "total", (shop, 10, 1))


async def test_as_an_attribute_of_another_class_a_bound_node_stays_bound() -> None:
    class Market:
        shop = Shop(5).total
        motto = Shop.static_below.with_options(name="motto")
        kind = Shop.below

    market: Any = Market()
    assert await rt.call(market.shop, 2) == 10
    assert (await called(market.motto, "!"))[1].node == "motto"
    assert await market.kind("!") == "Shop!"


async def test_a_copy_with_options_of_a_class_method_binds_as_before() -> None:
    class Market:
        kind = Shop.__dict__["below"].with_options(name="kind")

    result, record = await called(Market.kind, "!")
    assert (result, record.node) == ("Market!", "kind")


async def test_a_static_method_may_be_a_partial_of_a_node() -> None:
    class Market:
        one_more = rt.function_node(staticmethod(functools.partial(add, 1)))
        quicker = one_more.with_options(timeout=2)

    for fn in (Market.one_more, Market().one_more, Market().quicker):
        result, record = await called(fn, 2)
        assert (result, record.node, record.args) == (3, "sum", (1, 2))


async def test_a_class_method_that_is_a_node_may_be_called_back() -> None:
    got = list[str]()

    class Listener:
        @classmethod
        @rt.function_node
        async def hear(cls, item: str) -> None:
            got.append(cls.__name__ + item)

    async with rt.Session(save_state=False, broadcast_callback=Listener.hear):
        await rt.broadcast("!")
    assert got == ["Listener!"]


class Named:
    """A callable object with attributes named like those of a node."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def __call__(self, number: int) -> int:
        return number


class AsyncNamed(Named):
    async def __call__(self, number: int) -> int:
        return number


NODE_NAMES = sorted({*dir(rt.function_node(Named())), "as_attempt", "is_method"} - set(dir(object)) - {"__wrapped__"})


@pytest.mark.parametrize("kind", [Named, AsyncNamed])
@pytest.mark.parametrize("value", [None, True, ["x"], "text"], ids=str)
async def test_attributes_of_a_callable_object_change_nothing_of_its_node(kind: type[Named], value: object) -> None:
    fn = kind(**dict.fromkeys(NODE_NAMES, value))
    async with rt.Session() as session:
        assert await rt.call(fn, 1) == 1
        node = rt.function_node(fn)
        assert await rt.call(node, 2) == 2
        assert await rt.call(node.with_options(name="other", timeout=5), 3) == 3
    assert [call.args for call in session.info.calls] == [(1,), (2,), (3,)]
    assert [call.node for call in session.info.calls[2:]] == ["other"]
    assert (node.timeout, node.retry, node.is_durable, node.middleware) == (None, None, True, ())
    assert session.state_path is not None
    assert session.state_path.exists()


def test_other_attributes_of_a_function_are_those_of_its_node() -> None:
    fn = Named(tag="slow", with_options="hidden")
    node: Any = rt.function_node(fn)
    assert node.tag == "slow"
    assert node.with_options(name="other").tag == "slow"


class Decorator:
    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn

    async def __call__(self, *args: Any) -> Any:
        return await self.fn(*args)


class DecoratedCall:
    @decorated
    @rt.function_node
    async def __call__(self) -> None: ...


class Endless:
    def __getattr__(self, name: str) -> "Endless":
        if name != "__wrapped__":
            raise AttributeError(name)
        return Endless()

    def __call__(self) -> int:
        return 1


DECORATED: list[Any] = [
    pytest.param(decorated(add), id="a function"),
    pytest.param(decorated(decorated(add)), id="twice"),
    pytest.param(decorated(functools.partial(add, 1)), id="around a partial"),
    pytest.param(functools.partial(decorated(add), 1), id="under a partial"),
    pytest.param(functools.lru_cache(add), id="lru_cache"),
    pytest.param(functools.singledispatch(add), id="singledispatch"),
    pytest.param(contextlib.asynccontextmanager(add), id="asynccontextmanager"),
    pytest.param(Decorator(add), id="a decorator that is a class"),
    pytest.param(Shop().decorated_method, id="a method"),
    pytest.param(Shop.decorated_method, id="a method of its class"),
    pytest.param(staticmethod(decorated(add)), id="a static method"),
    pytest.param(DecoratedCall(), id="the __call__ of a class"),
]


@pytest.mark.parametrize("fn", DECORATED)
async def test_a_decorated_node_is_refused_wherever_a_node_is_given(fn: Any) -> None:
    async def run(use: Callable[[], Any]) -> None:
        with pytest.raises(
            rt.NodeCreationError, match=r"Put the decorator below @rt\.function_node, or use middleware="
        ):
            await use()

    async with rt.Session(save_state=False) as session:
        await run(lambda: rt.call(fn, 1))
        await run(lambda: rt.call_batch(fn, [1]))
        for make in (
            lambda: rt.as_completed(fn, [1]),
            lambda: rt.Flow("flow", fn),
            lambda: rt.Flow("flow", add, background=[fn], durable=True),
            lambda: rt.function_node(fn),
            lambda: rt.couple(fn, middleware=[]),
            lambda: session.start_soon(fn, 1),
            lambda: session.start_service(fn, 1),
            lambda: rt.session(fn),
        ):
            with pytest.raises(rt.NodeCreationError, match=r"below @rt\.function_node"):
                make()
        async with rt.open_group() as group:
            with pytest.raises(rt.NodeCreationError, match=r"below @rt\.function_node"):
                group.start_soon(fn, 1)
    assert session.info.calls == ()


class Items:
    def __init__(self, error: type[BaseException] = KeyError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> object:
        raise self._error(name)

    def __call__(self) -> int:
        return 1


def raising(name: str) -> Any:
    """Return an object that can be called and has a property of this name, which raises an error without a text."""

    def ask(_: object) -> object:
        raise LookupError

    return type("Raising", (), {name: property(ask), "__call__": lambda _: 1})()


ATTRIBUTES = ["__name__", "__dict__", "__class__", "__wrapped__", "__signature__"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Items, "of a Items: asked for its attribute '__name__' it raises KeyError: '__name__'. Let it"),
        (
            functools.partial(Items, SystemExit),
            "of a Items: asked for its attribute '__name__' it raises SystemExit: __name__. Let it",
        ),
        *(
            (
                functools.partial(raising, name),
                f"of a Raising: asked for its attribute '{name}' it raises LookupError. Let it",
            )
            for name in ATTRIBUTES
        ),
    ],
)
def test_an_object_that_raises_when_it_is_asked_for_an_attribute_is_refused_wherever_a_node_is_given(
    make: Callable[[], Any], told: str
) -> None:
    uses: list[Callable[[Any], object]] = [
        rt.function_node,
        rt.session,
        rt.wrap_node,
        rt.after_node,
        functools.partial(rt.Flow, "flow"),
        functools.partial(rt.couple, middleware=[]),
    ]
    for fn in (make(), functools.partial(make())):
        for use in uses:
            with pytest.raises(rt.NodeCreationError) as caught:
                use(fn)
            assert told in str(caught.value)


def test_ctrl_c_while_an_object_is_asked_for_an_attribute_is_nobodys_answer() -> None:
    with pytest.raises(KeyboardInterrupt):
        rt.function_node(Items(KeyboardInterrupt))


def test_what_is_given_for_a_function_is_told_without_secrets_and_whatever_its_repr_does() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise LookupError

    anything: Any = rt
    with pytest.raises(rt.NodeCreationError, match="not of <no repr: LookupError>"):
        anything.function_node(Silent())
    with pytest.raises(TypeError, match="Function '<no repr: LookupError>' is not async"):
        anything.session(Silent())
    with pytest.raises(TypeError, match=r"Function '.*password=\[redacted\]\)' is not async"):
        anything.session(functools.partial(print, password="c4n4ry-9f2c"))


async def test_a_decorator_below_the_node_is_part_of_its_function() -> None:
    async def plain() -> int:
        return 3

    assert (await called(rt.function_node(decorated(plain), name="node")))[0] == 3
    assert (await called(decorated(plain)))[0] == 3


async def test_an_object_whose_wrapped_function_never_ends_can_be_called() -> None:
    assert (await called(Endless()))[0] == 1


async def test_a_session_above_a_node_runs_it_as_a_call_with_its_options(autojump_clock: trio.abc.Clock) -> None:
    @rt.session(save_state=False)
    @rt.function_node(name="main", timeout=5)
    async def main(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    result, session = await main(1)
    assert result == "done"
    assert [(call.node, call.args) for call in session.info.calls] == [("main", (1,))]
    with pytest.raises(rt.NodeTimeoutError):
        await main(6)


async def test_what_a_session_makes_of_a_node_is_no_node() -> None:
    @rt.session
    @rt.function_node
    async def main() -> int:
        return 3

    for fn in (main, functools.partial(main), decorated(main)):
        with pytest.raises(rt.NodeCreationError, match="pass the node itself"):
            await rt.call(fn)
    with pytest.raises(rt.NodeCreationError, match=r"pass the node itself, main\.__wrapped__"):
        rt.Flow("flow", main)
    assert await rt.Flow("flow", main.__wrapped__, save_state=False).ainvoke() == 3


async def test_a_session_takes_a_partial_of_a_node_and_refuses_a_sync_node() -> None:
    result, session = await rt.session(functools.partial(add, 1))(2)
    assert (result, session.info.calls[0].args) == (3, (1, 2))
    with pytest.raises(TypeError, match="can only be applied to async functions"):
        rt.session(measure)


# In durable sessions.

LOG: list[object] = []


@pytest.fixture
def store(tmp_path: Path) -> rt.DurableStore:
    LOG.clear()
    return rt.DurableStore(tmp_path / "store.db", durability="process")


@rt.function_node
async def note(left: int, right: int) -> int:
    LOG.append((left, right))
    return left + right


@rt.function_node
async def note_later(left: int, right: int) -> None:
    if not LOG:
        await trio.sleep_forever()
    LOG.append((left, right))


@rt.function_node
async def begin() -> None:
    rt.current_session().start_soon(functools.partial(note_later, 1), 2)


@rt.function_node
async def main_of_two(word: str, stop: bool) -> str:
    rt.context.get("log")
    await rt.call(functools.partial(note, len(word)), right=5)
    if stop and len(LOG) == 1:
        raise KeyboardInterrupt
    return word


def test_a_call_under_a_partial_is_recorded_with_all_arguments_and_replayed(store: rt.DurableStore) -> None:
    flow = rt.Flow("flow", functools.partial(main_of_two, "abc"), durable=store, save_state=False, context={"log": 1})
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(stop=True, session_id="s")
    LOG.append("resumed")
    assert flow.resume("s") == "abc"
    assert LOG == [(3, 5), "resumed"]
    info = store.load("s")
    assert [(call.node, call.args, call.kwargs) for call in info.calls] == [
        ("main_of_two", ("abc",), {"stop": True}),
        ("note", (3,), {"right": 5}),
    ]


def test_other_arguments_of_a_partial_are_a_mismatch(store: rt.DurableStore) -> None:
    async def main() -> None:
        await rt.call(functools.partial(note, len(LOG)), 2)
        if LOG == [(0, 2)]:
            raise KeyboardInterrupt

    flow = rt.Flow("flow", main, durable=store, save_state=False)
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    with pytest.raises(rt.ReplayMismatchError, match="'note' with arguments"):
        flow.resume("s")


def test_another_partial_as_the_entry_point_attaches_to_no_session_of_the_first(store: rt.DurableStore) -> None:
    def flow(number: int) -> rt.Flow[..., int]:
        return rt.Flow("flow", functools.partial(note, number), durable=store, save_state=False)

    assert flow(1).invoke(2, session_id="s") == 3
    assert flow(1).invoke(2, session_id="s") == 3
    assert LOG == [(1, 2)]
    with pytest.raises(rt.RailtracksError, match="s"):
        flow(5).invoke(2, session_id="s")


def test_a_background_call_under_a_partial_is_started_again_with_all_arguments(store: rt.DurableStore) -> None:
    @rt.function_node
    async def main() -> None:
        await rt.call(begin)
        if not LOG:
            raise KeyboardInterrupt

    flow = rt.Flow("flow", main, durable=store, save_state=False, background=[functools.partial(note_later, 0)])
    with pytest.raises(KeyboardInterrupt):
        flow.invoke(session_id="s")
    LOG.append("resumed")
    flow.resume("s")
    assert LOG == ["resumed", (1, 2)]


async def test_each_static_method_that_is_made_for_one_call_is_a_node_of_its_own() -> None:
    def returning(number: int) -> Callable[[], int]:
        return lambda: number

    async with rt.Session(save_state=False):
        assert [await rt.call(staticmethod(returning(number))) for number in range(6)] == list(range(6))
        one = staticmethod(returning(1))
        assert (await rt.call(one), await rt.call(one)) == (1, 1)


class Agent:
    def __init__(self, given: object) -> None:
        self.given = given

    async def __call__(self, left: int, right: int) -> int:
        return left + right

    def __railtracks_node__(self) -> object:
        return self.given


async def test_an_object_that_stands_for_a_node_is_called_as_that_node_also_under_a_partial() -> None:
    async with rt.Session() as session:
        assert await rt.call(Agent(add), 1, 2) == 3
        assert await rt.call(functools.partial(Agent(add), 1), 2) == 3
        assert rt.function_node(Agent(add)).timeout == 7
    assert [each.node for each in session.info.calls] == ["sum", "sum"]
    assert await Agent(add)(1, 2) == 3


async def test_an_object_that_stands_for_what_is_no_node_is_refused() -> None:
    with pytest.raises(rt.NodeCreationError, match="__railtracks_node__ of Agent must return a node, not str"):
        await rt.call(Agent("add"), 1, 2)
