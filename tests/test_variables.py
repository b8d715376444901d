"""Nodes and flows in copies and in other processes: they are pickled as the variables that hold them."""

import copy
import functools
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
import worker_functions

import railtracks as rt

SCRIPT = Path(__file__).parent / "scripts" / "pool_of_program.py"


@rt.function_node(timeout=5)
def square(number: int) -> int:
    return number * number


@rt.function_node
async def greet(name: str) -> str:
    return f"Hello {name}"


def plain(number: int) -> int:
    return -number


# Under another name than the function's, and of a function of another module.
renamed = square.with_options(name="other")
foreign = rt.function_node(worker_functions.add)
of_object = rt.function_node(functools.partial(plain))
flow = rt.Flow("flow", square, save_state=False)
foreign_flow = rt.Flow("foreign", worker_functions.add, save_state=False, context={"a": [1]})
same_name_twice = flow


class Shop:
    flow = rt.Flow("in a class", square, save_state=False)

    class Inner:
        node = rt.function_node(plain, name="inner")

    def __init__(self, price: int) -> None:
        self.price = price

    @rt.function_node
    def total(self, count: int) -> int:
        return self.price * count

    @rt.function_node
    @staticmethod
    def below(count: int) -> int:
        return count

    @staticmethod
    @rt.function_node
    def above(count: int) -> int:
        return count

    @rt.function_node
    @classmethod
    def class_below(cls, count: int) -> str:
        return cls.__name__ * count

    @classmethod
    @rt.function_node
    def class_above(cls, count: int) -> str:
        return cls.__name__ * count


class Stall(Shop):
    pass


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - made here


HELD: list[Any] = [
    square,
    greet,
    renamed,
    foreign,
    of_object,
    flow,
    foreign_flow,
    Shop.flow,
    Shop.Inner.node,
    Shop.total,
    Shop.below,
    Shop.above,
]


@pytest.mark.parametrize("thing", HELD, ids=repr)
@pytest.mark.parametrize("protocol", [0, pickle.DEFAULT_PROTOCOL, pickle.HIGHEST_PROTOCOL])
def test_what_a_variable_holds_is_pickled_as_that_variable(thing: Any, protocol: int) -> None:
    data = pickle.dumps(thing, protocol)
    assert pickle.loads(data) is thing  # noqa: S301 - made here
    assert len(data) < 150


async def test_methods_partials_and_bound_methods_of_a_flow_go_along_with_what_they_are_bound_to() -> None:
    assert pickled(Shop(3).total)(4) == 12
    assert pickled(Stall.class_below)(2) == "StallStall"
    assert pickled(Stall.class_above)(2) == "StallStall"
    assert pickled(functools.partial(square, 3))() == 9
    assert await pickled(flow.ainvoke)(3) == 9
    assert await trio.to_thread.run_sync(pickled(flow.invoke), 3) == 9
    assert await rt.call(pickled(Shop(3).total), 4) == 12


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: square.with_options(timeout=3), "node 'square'"),
        (lambda: rt.function_node(lambda: None, name="local"), "node 'local'"),
        (lambda: Shop(3).total.with_options(name="copy"), "node 'copy'"),
        (lambda: rt.function_node(functools.partial(square, 3)), "node 'square'"),
        (lambda: rt.Flow("local", square), "flow 'local'"),
        (lambda: flow.update_context({"a": 1}), "flow 'flow'"),
        (lambda: flow.update_context({"a": 1}).invoke, "flow 'flow'"),
    ],
)
def test_what_no_variable_holds_is_refused_with_what_to_do(make: Any, what: str) -> None:
    with pytest.raises(pickle.PicklingError, match=f"^{what} cannot be pickled.*assign it to a variable at module"):
        pickle.dumps(make())


def test_where_the_variable_is_missing_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(renamed)
    monkeypatch.delitem(globals(), "renamed")
    with pytest.raises(AttributeError, match="has no variable 'renamed'"):
        pickle.loads(data)  # noqa: S301 - made here


def test_odd_entries_among_the_modules_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "odd", None)
    monkeypatch.setitem(sys.modules, "odder", 3)
    assert pickled(foreign_flow) is foreign_flow


def test_a_module_beside_the_main_one_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # A console or a notebook that has imported the flow: another process can import its module only.
    home = ModuleType("home_of_flow")
    home.flow = rt.Flow("imported", worker_functions.add)
    monkeypatch.setattr(sys.modules["__main__"], "imported_flow", home.flow, raising=False)
    monkeypatch.setitem(sys.modules, "home_of_flow", home)
    assert b"home_of_flow" in pickle.dumps(home.flow)


def test_copies_of_nodes_and_flows_are_the_same_objects() -> None:
    for thing in (square, renamed, flow, of_object, Shop.total, rt.Flow("local", square)):
        assert copy.copy(thing) is thing
        assert copy.deepcopy(thing) is thing


def test_a_method_in_a_deep_copy_is_that_of_the_copied_instance() -> None:
    shop = Shop(3)
    copied, method = copy.deepcopy([shop, shop.total])
    assert isinstance(copied, Shop)
    copied.price = 10
    assert method(2) == 20
    assert shop.total(2) == 6


@pytest.mark.proof
@pytest.mark.parametrize("way", ["spawn", "fork", "forkserver"])
def test_a_process_pool_of_the_program_runs_flows_and_nodes(way: str) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", SCRIPT, way], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
