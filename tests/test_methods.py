"""Nodes that are methods: copied and compared like Python's methods, replaced with their class, under a session."""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import trio

import railtracks as rt
from railtracks import testing
from railtracks._records.roles import ModelRole


@rt.after_node
def twice(result: Any) -> Any:
    return (result, result)


class Client:
    def __init__(self, name: str) -> None:
        self.name = name
        self.plain = self.fetch
        self.partial = functools.partial(self.fetch)
        self.timed = self.fetch.with_options(timeout=5)
        self.named = rt.function_node(self.fetch, name="named")
        self.coupled = rt.couple(self.fetch, middleware=[twice])
        self.own = rt.couple(self.fetch, middleware=[self.marked])
        self.again = self.timed.with_options(name="again")

    @rt.function_node
    async def fetch(self) -> str:
        return self.name

    @classmethod
    @rt.function_node
    async def made(cls, name: str = "") -> str:
        return f"{cls.__name__} {name}"

    @rt.function_node
    @classmethod
    async def made_too(cls, name: str = "") -> str:
        return f"{cls.__name__} {name}"

    @rt.after_node
    def marked(self, result: Any) -> Any:
        return self.name, result

    @rt.function_node
    def load(self) -> str:
        return self.name


class Special(Client):
    pass


@pytest.mark.parametrize("attribute", ["plain", "partial", "timed", "named", "coupled", "own", "again"])
async def test_a_copy_of_an_object_runs_its_methods_on_itself_whatever_options_they_were_given(attribute: str) -> None:
    first = Client("first")
    second = copy.deepcopy(first)
    second.name = "second"
    results = [await rt.call(getattr(each, attribute)) for each in (first, second)]
    assert results == (
        [("first", "first"), ("second", "second")] if attribute in {"coupled", "own"} else ["first", "second"]
    )


async def test_options_of_a_method_stay_on_a_copy_of_its_object() -> None:
    second = copy.deepcopy(Client("first"))
    assert (second.timed.timeout, second.named.name, second.again.timeout) == (5, "named", 5)


async def test_a_shallow_copy_is_the_same_and_a_role_stays_on_the_method_of_a_copy() -> None:
    client = Client("first")
    assert copy.copy(twice) is twice
    assert copy.copy(client.fetch).origin == client.fetch.origin
    played = client.fetch.with_role(ModelRole("model", "provider"))
    second = copy.deepcopy(played)
    assert (second.role, await rt.call(second)) == (played.role, "first")
    assert second.origin != played.origin


def test_a_method_equals_itself_got_once_more_and_no_other() -> None:
    one, other = Client("one"), Client("one")
    kept: set[Callable[..., object]] = {one.fetch}
    assert one.fetch == one.fetch
    assert {one.fetch, one.load, Client.fetch} == {Client.fetch, one.load, one.fetch}
    assert one.fetch in kept
    kept.discard(one.fetch)
    assert not kept
    assert one.fetch != other.fetch
    assert one.fetch != one.load
    assert one.fetch != Client.fetch
    assert one.timed == one.timed != one.fetch
    assert Client.made == Client.made != Special.made
    assert one.fetch != "fetch"


def test_the_signature_of_a_method_has_no_self_where_the_function_says_what_it_is() -> None:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter("self", kind), inspect.Parameter("item", kind)])

    def signed(fn: Callable[..., None]) -> Callable[..., None]:
        fn.__signature__ = signature  # type: ignore[attr-defined]
        return fn

    class Shop:
        @rt.function_node
        @signed
        def node(self, *args: Any) -> None: ...

        @signed
        def plain(self, *args: Any) -> None: ...

    assert str(inspect.signature(Shop().node)) == str(inspect.signature(Shop().plain)) == "(item)"
    assert str(inspect.signature(Shop.node)) == "(self, item)"


def test_a_method_lacks_what_every_node_lacks() -> None:
    method = Client("c").fetch
    for node in (method, Client.fetch):
        with pytest.raises(AttributeError, match="'AsyncNode' object has no attribute 'nothing'"):
            getattr(node, "nothing")  # noqa: B009 - the checkers know that it is not there


# Replaced by fakes.


async def test_what_was_bound_from_a_method_before_runs_its_fake_too() -> None:
    client = Client("real")
    flows = [rt.Flow("flow", each, save_state=False) for each in (client.fetch, client.plain, client.partial)]
    session = rt.session(save_state=False)(client.fetch)
    with testing.replace_node(Client.fetch, lambda self: f"fake of {self.name}"):
        assert {await flow.ainvoke() for flow in flows} == {"fake of real"}
        assert (await session())[0] == "fake of real"
        assert await client.plain() == "fake of real"
    assert {await flow.ainvoke() for flow in flows} == {"real"}


@pytest.mark.parametrize("name", ["made", "made_too"])
async def test_a_class_method_is_replaced_by_a_fake_without_its_class(name: str) -> None:
    flow = rt.Flow("flow", getattr(Special, name), save_state=False)

    def fake(name: str = "") -> str:
        return f"fake {name}"

    with testing.replace_node(getattr(Client, name), fake):
        assert await rt.call(getattr(Client, name), "one") == "fake one"
        assert await flow.ainvoke(name="two") == "fake two"
    assert await flow.ainvoke("three") == "Special three"


def test_the_method_of_one_instance_is_not_replaced_and_the_error_says_what_is() -> None:
    with pytest.raises(TypeError, match=r"the method of one instance.* replace_node\(Client\.fetch, fake\)"):
        testing.replace_node(Client("c").fetch, lambda: "fake")


# Under a session.


class Abstract:
    @rt.session(save_state=False)
    @classmethod
    @rt.function_node
    async def above_node(cls, *values: int) -> object:
        return cls, values

    @rt.session(save_state=False)
    @rt.function_node
    @classmethod
    async def in_node(cls, *values: int) -> object:
        return cls, values

    @rt.session(save_state=False)
    @classmethod
    async def function(cls, *values: int) -> object:
        return cls, values

    @rt.session(save_state=False)
    @staticmethod
    @rt.function_node
    async def static_above(*values: int) -> object:
        return values

    @rt.session(save_state=False)
    @rt.function_node
    @staticmethod
    async def static_in(*values: int) -> object:
        return values

    @rt.session(save_state=False)
    @staticmethod
    async def static_function(*values: int) -> object:
        return values


class Concrete(Abstract):
    pass


@pytest.mark.parametrize("name", ["above_node", "in_node", "function"])
async def test_a_session_above_a_class_method_passes_the_class(name: str) -> None:
    assert (await getattr(Abstract, name)(1))[0] == (Abstract, (1,))
    assert (await getattr(Concrete(), name)())[0] == (Concrete, ())


@pytest.mark.parametrize("name", ["static_above", "static_in", "static_function"])
async def test_a_session_above_a_static_method_passes_neither_class_nor_instance(name: str) -> None:
    assert (await getattr(Abstract, name)(1))[0] == (1,)
    assert (await getattr(Concrete(), name)())[0] == ()


def test_a_session_above_a_sync_class_method_is_refused_as_a_sync_function() -> None:
    made: Any = classmethod(Client.load.fn)
    with pytest.raises(TypeError, match="Function 'load' is not async"):
        rt.session(made)


# What says that it is a node, and is none.


class Proxy:
    """As object proxies do: of the class of what it wraps, if it is asked."""

    def __init__(self, wrapped: Any) -> None:
        self.__wrapped__ = wrapped

    def __getattribute__(self, name: str) -> Any:
        return type(given) if name == "__class__" else super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __call__(self, *args: Any) -> Any:
        return self.__wrapped__(*args)


@rt.function_node(timeout=3)
async def given(item: int) -> int:
    return item


@rt.function_node
def given_sync(item: int) -> int:
    return item


async def test_a_proxy_around_a_node_is_refused_like_a_decorated_node() -> None:
    proxy: Any = Proxy(given)
    assert proxy.__class__ is type(given)
    for call in (rt.call, rt.call_batch):
        with pytest.raises(rt.NodeCreationError, match="a decorated function around the node"):
            await call(proxy, [1])


@pytest.mark.parametrize("name", ["given", "given_sync"])
def test_a_mock_with_the_specification_of_a_node_is_called_in_its_place(name: str) -> None:
    with mock.patch(f"{__name__}.{name}", autospec=True) as fake:
        fake.return_value = "fake"
        assert rt.Flow("flow", globals()[name], save_state=False).invoke(1) == "fake"
        assert trio.run(both, globals()[name]) == ("fake", ["fake"])


async def both(node: Any) -> tuple[Any, Any]:
    return await rt.call(node, 1), await rt.call_batch(node, [1])
