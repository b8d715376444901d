"""One node name stands for one function in a durable session: one that is made anew for each call is the same one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from durable_nodes import DONE, add, done_fixture, flow_of, store_fixture  # noqa: F401 - two are fixtures

import railtracks as rt


class Times:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    async def __call__(self, number: int) -> int:
        return self.factor * await add.fn(number)


class Plus(Times):
    async def __call__(self, number: int) -> int:
        return self.factor + number


async def times(factor: int, number: int) -> int:
    return factor * await add.fn(number)


@pytest.mark.parametrize("make", [Times, lambda factor: partial(times, factor), lambda factor: partial(Times(factor))])
def test_a_function_that_is_made_anew_for_each_call_is_one_function(
    store: rt.DurableStore, make: Callable[[int], Any]
) -> None:
    async def main() -> int:
        return sum([await rt.call(make(factor), 1) for factor in (1, 2)])

    flow = flow_of(store, main)
    assert flow.invoke(session_id="s") == 6
    assert DONE == [1, 1]
    # A fork runs the entry point again, with the calls that are recorded.
    assert flow.resume(store.fork("s")) == 6
    assert DONE == [1, 1]


@pytest.mark.parametrize("second", [Plus(2), partial(Plus(2)), abs, partial(times, 1)])
def test_another_function_under_the_name_of_an_object_that_is_called_is_an_error(
    store: rt.DurableStore, second: Any
) -> None:
    async def main() -> None:
        await rt.call(Times(2), 1)
        await rt.call(rt.function_node(second, name="Times"), 1)

    with pytest.raises(rt.ContextError, match="two functions are called 'Times'"):
        flow_of(store, main).invoke()
