"""From function to node: what can be one, what is refused, what a node keeps of its function."""

import functools
import inspect
import math
import operator
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import railtracks as rt


@rt.function_node
async def greet(name: str, *, mark: str = "!") -> str:
    """Greet somebody."""
    return f"Hello {name}{mark}"


@rt.function_node(name="shout", timeout=5)
def upper(text: str) -> str:
    """Make it loud."""
    return text.upper()


class AsyncDoubler:
    async def __call__(self, number: int) -> int:
        return 2 * number


class Doubler:
    def __call__(self, number: int) -> int:
        return 2 * number


class Shop:
    def __init__(self, price: int) -> None:
        self.price = price

    @rt.function_node
    async def total(self, count: int) -> int:
        return self.price * count

    @rt.function_node(name="cost", timeout=5)
    def net(self, count: int) -> int:
        return self.price * count

    @staticmethod
    @rt.function_node
    async def motto(end: str) -> str:
        return f"we sell{end}"

    async def plain(self, count: int) -> int:
        return self.price * count


async def double(number: int) -> int:
    return 2 * number


async def numbers() -> AsyncIterator[int]:
    yield 1


def counted() -> Iterator[int]:
    yield 1


class Counter:
    def __call__(self) -> Iterator[int]:
        yield 1


class AsyncCounter:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


class NotCallable:
    def __repr__(self) -> str:
        return "what was given"


# What becomes a node.


@pytest.mark.parametrize(
    ("fn", "args", "result", "is_async"),
    [
        pytest.param(double, (2,), 4, True, id="coroutine function"),
        pytest.param(AsyncDoubler(), (2,), 4, True, id="object with async __call__"),
        pytest.param(Shop(3).plain, (2,), 6, True, id="bound coroutine method"),
        pytest.param(functools.partial(double, 4), (), 8, True, id="partial of a coroutine function"),
        pytest.param(functools.partial(AsyncDoubler(), 4), (), 8, True, id="partial of an object with async __call__"),
        pytest.param(operator.add, (1, 2), 3, False, id="function"),
        pytest.param(lambda number: 2 * number, (2,), 4, False, id="lambda"),
        pytest.param("a b".split, (), ["a", "b"], False, id="bound method"),
        pytest.param(Doubler(), (2,), 4, False, id="object with __call__"),
        pytest.param(random.randbytes, (0,), b"", False, id="builtin method"),
        pytest.param(max, (1, 2), 2, False, id="builtin without a signature"),
        pytest.param(functools.partial(functools.partial(max, 5), 7), (1,), 7, False, id="partial of a partial"),
    ],
)
async def test_a_node_can_be_made_of_a(
    fn: Callable[..., Any], args: tuple[Any, ...], result: Any, is_async: bool
) -> None:
    node = rt.function_node(fn)
    assert isinstance(node, rt.Node)
    assert node.is_async is is_async
    assert await rt.call(node, *args) == result
    assert await rt.call(fn, *args) == result


async def test_the_decorator_works_without_parentheses_with_empty_ones_and_as_a_plain_call() -> None:
    @rt.function_node()
    async def with_parentheses(number: int) -> int:
        return 2 * number

    @rt.function_node
    async def without(number: int) -> int:
        return 2 * number

    for node in (with_parentheses, without, rt.function_node(double), rt.function_node(double, name="other")):
        assert isinstance(node, rt.Node)
        assert await rt.call(node, 3) == 6


def test_making_a_node_of_a_node_gives_a_copy_with_the_options() -> None:
    other = rt.function_node(upper, name="louder")
    assert (other.name, other.timeout) == ("louder", 5)
    assert (upper.name, upper.timeout) == ("shout", 5)
    assert other.fn is upper.fn


# What is refused.


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param(Shop, "the class Shop", id="class"),
        pytest.param(functools.partial(Shop, 1), "the class Shop", id="partial of a class"),
        pytest.param(counted, "counted is a generator function", id="generator function"),
        pytest.param(numbers, "numbers is a generator function", id="async generator function"),
        pytest.param(Counter(), "Counter is a generator function", id="object whose call is a generator"),
        pytest.param(AsyncCounter(), "AsyncCounter is a generator function", id="async generator object"),
        pytest.param(functools.partial(counted), "counted is a generator function", id="partial of a generator"),
        pytest.param(NotCallable(), "what was given", id="not callable"),
        pytest.param("greet", "'greet'", id="string"),
        pytest.param(property(len), "above a plain method that uses it", id="property"),
        pytest.param(functools.singledispatchmethod(len), "above a plain method that uses it", id="dispatching"),
    ],
)
@pytest.mark.parametrize("make", [rt.function_node, rt.function_node(timeout=1)])
def test_refused_with_what_was_given(make: Callable[[Any], Any], given: Any, named: str) -> None:
    with pytest.raises(rt.NodeCreationError, match=named) as caught:
        make(given)
    assert isinstance(caught.value, TypeError)


async def test_rt_call_refuses_what_cannot_be_a_node() -> None:
    async with rt.Session() as session:
        for given in (Shop, counted, numbers, NotCallable(), None):
            with pytest.raises(rt.NodeCreationError):
                await rt.call(given)  # type: ignore[arg-type]
    assert session.info.calls == ()


async def test_a_sync_function_that_returns_a_coroutine_is_a_type_error_naming_the_node() -> None:
    node = rt.function_node(lambda: double(1), name="hidden")
    with pytest.raises(TypeError, match=r"'hidden'.*returned a coroutine"):
        await rt.call(node)


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        rt.function_node(double, name=name)


def test_a_name_that_is_no_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="name"):
        rt.function_node(double, name=5)  # type: ignore[call-overload]


@pytest.mark.parametrize("timeout", [0, -1, math.nan, -math.inf])
def test_a_timeout_that_is_not_more_than_zero_is_a_value_error(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        rt.function_node(double, timeout=timeout)


@pytest.mark.parametrize("timeout", [True, "5", [5]])
def test_a_timeout_that_is_no_number_is_a_type_error(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout"):
        rt.function_node(double, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, math.inf])
def test_no_timeout_is_none_or_infinite(timeout: float | None) -> None:
    assert rt.function_node(double, timeout=timeout).timeout is None


def test_run_in_and_abandon_on_cancel_are_for_sync_functions() -> None:
    with pytest.raises(rt.NodeCreationError, match="double is a coroutine function: run_in"):
        rt.function_node(double, run_in="thread")
    with pytest.raises(rt.NodeCreationError, match="double is a coroutine function: abandon_on_cancel"):
        rt.function_node(double, abandon_on_cancel=True)
    assert rt.function_node(double, run_in=None, abandon_on_cancel=False).is_async


def test_where_a_sync_function_runs_is_a_place_that_there_is() -> None:
    assert not rt.function_node(max, run_in="thread").is_async
    with pytest.raises(rt.NodeCreationError, match="'nowhere'"):
        rt.function_node(max, run_in="nowhere")  # type: ignore[call-overload]


def test_abandon_on_cancel_is_true_or_false() -> None:
    with pytest.raises(rt.NodeCreationError, match="abandon_on_cancel"):
        rt.function_node(max, abandon_on_cancel=1)  # type: ignore[call-overload]


def test_an_unknown_option_is_a_type_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="colour"):
        rt.function_node(double, colour="red")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"'colour'.*timeout"):
        greet.with_options(colour="red")  # type: ignore[call-arg]


# What a node keeps.


def test_a_node_keeps_name_doc_wrapped_and_signature() -> None:
    assert greet.__name__ == "greet"
    assert greet.__doc__ == "Greet somebody."
    assert inspect.signature(greet) == inspect.signature(greet.__wrapped__)
    assert list(inspect.signature(greet).parameters) == ["name", "mark"]
    assert upper.__name__ == "upper"
    assert upper.__wrapped__("a") == "A"


async def test_called_directly_a_node_is_the_plain_function_untracked() -> None:
    assert upper("a") == "A"
    async with rt.Session() as session:
        assert upper("a") == "A"
        assert await greet("Ada", mark="?") == "Hello Ada?"
    assert session.info.calls == ()


async def test_the_name_is_what_records_show() -> None:
    async with rt.Session() as session:
        await rt.call(greet, "Ada")
        await rt.call(upper, "a")
        await rt.call(functools.partial(double, 2))
        await rt.call(AsyncDoubler(), 2)
    assert [call.node for call in session.info.calls] == ["greet", "shout", "double", "AsyncDoubler"]
    assert (greet.name, upper.name) == ("greet", "shout")
    assert repr(upper) == "<railtracks.Node 'shout'>"


async def test_with_options_gives_a_copy_and_leaves_the_node_as_it_is() -> None:
    other = upper.with_options(timeout=9)
    assert (other.name, other.timeout) == ("shout", 9)
    assert (upper.name, upper.timeout) == ("shout", 5)
    renamed = greet.with_options(name="hail")
    assert (renamed.name, greet.name) == ("hail", "greet")
    assert await rt.call(renamed, "Ada") == "Hello Ada!"
    assert greet.with_options(name="hail").with_options(timeout=3).name == "hail"
    with pytest.raises(rt.NodeCreationError):
        greet.with_options(run_in="thread")


async def test_a_node_in_a_class_binds_like_a_method() -> None:
    shop = Shop(3)
    async with rt.Session() as session:
        assert await rt.call(shop.total, 2) == 6
        assert await rt.call(shop.net, 2) == 6
        assert await rt.call(Shop.total, shop, 4) == 12
        assert await rt.call(Shop.net, shop, 4) == 12
        assert await rt.call(Shop.motto, "!") == "we sell!"
    assert [call.node for call in session.info.calls] == ["total", "cost", "total", "cost", "motto"]
    assert shop.net.timeout == 5
    assert await shop.total(5) == 15
    assert shop.net(5) == 15


@pytest.mark.parametrize(
    ("fn", "count", "names"),
    [
        (lambda a, b, *rest: None, 4, ("a", "b", "rest", "rest")),
        (lambda a, /, b=1, *, c=2: None, 1, ("a",)),
        (lambda a: None, 2, ("a", None)),
        (max, 2, (None, None)),
        (functools.partial(lambda a, b: None, 1), 1, ("b",)),
        (Shop(1).plain, 1, ("count",)),
    ],
)
def test_positional_arguments_have_the_names_of_their_parameters(
    fn: Callable[..., Any], count: int, names: tuple[str | None, ...]
) -> None:
    assert rt.function_node(fn).argument_names(count) == names


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": -1}, ValueError),
        ({"name": ""}, ValueError),
        ({"colour": 1}, TypeError),
        ({"run_in": "fork"}, rt.NodeCreationError),
    ],
)
def test_options_are_refused_where_they_are_given_before_there_is_a_function(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        rt.function_node(**options)


async def test_parameters_of_any_name_are_passed_on() -> None:
    def give(**kwargs: int) -> dict[str, int]:
        return kwargs

    async def agive(**kwargs: int) -> dict[str, int]:
        return kwargs

    node, anode = rt.function_node(give), rt.function_node(agive)
    assert node(self=1) == await anode(self=1) == {"self": 1}
    assert await rt.call(node, self=1) == await rt.call(anode, self=1) == {"self": 1}


@pytest.mark.parametrize("use", [rt.function_node, lambda given: rt.Flow("f", given)])
def test_a_coroutine_is_refused_with_what_to_pass_instead(use: Callable[[Any], object]) -> None:
    async def greet(name: str) -> str:
        return name

    # Nothing else is said: the coroutine is closed, so Python does not warn that nobody has awaited it.
    with pytest.raises(rt.NodeCreationError, match=r"pass greet itself in place of greet\(\.\.\.\), and its arguments"):
        use(greet("Ada"))


@pytest.mark.parametrize("made", [lambda flow: flow, lambda flow: flow.connect()])
async def test_who_calls_a_flow_is_told_to_await_it(made: Callable[[rt.Flow[[], None]], Any]) -> None:
    async def nothing() -> None:
        pass

    flow = made(rt.Flow("errand", nothing))
    async with rt.Session():
        with pytest.raises(rt.NodeCreationError, match=r"await its ainvoke\(\.\.\.\), here or in a function"):
            await rt.call(flow)
