"""Fakes in the place of the functions of nodes.

Called by tests.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from types import MethodType
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, overload

from railtracks._blocks import block_as
from railtracks._nodes.making import is_coroutine_function
from railtracks._nodes.node import AsyncNode, Node, SyncNode, is_node
from railtracks._nodes.wrappers import NODE_HOOK, node_under

if TYPE_CHECKING:
    from railtracks.agents import AgentNode, AgentResponse

P = ParamSpec("P")
R = TypeVar("R")


@overload
def replace_node(
    node: AsyncNode[P, R], fake: Callable[P, Coroutine[object, Never, R]], /
) -> AbstractContextManager[None]: ...
@overload
def replace_node(node: AsyncNode[P, R], fake: Callable[P, R], /) -> AbstractContextManager[None]: ...
@overload
def replace_node(node: SyncNode[P, R], fake: Callable[P, R], /) -> AbstractContextManager[None]: ...
@overload
def replace_node(
    node: AgentNode[Any], fake: Callable[..., Coroutine[object, Never, AgentResponse[Any]]], /
) -> AbstractContextManager[None]: ...
@overload
def replace_node(node: AgentNode[Any], fake: Callable[..., AgentResponse[Any]], /) -> AbstractContextManager[None]: ...
def replace_node(node: Any, fake: Any, /) -> AbstractContextManager[None]:
    """Replace the function of a node by a fake, in the whole process, while a `with` block runs.

    The node keeps its name, timeout and retry, and its calls are recorded as usual. All code that holds the node runs
    the fake, also in a direct call `node(...)`. Copies that `with_options` made earlier keep their function. A method
    is replaced on its class: `replace_node(Service.fetch, fake)`, and then the fake takes `self`. That of a class
    method takes the other arguments alone, and runs for all classes that have the method.

    Args:
        node: The node.
        fake: The function that runs instead. For an async node it may be async, or a plain function, which runs in the
            event loop. For a sync node it must be a plain function, which runs in a worker thread.

    Raises:
        TypeError: If `node` is no node, or the method of one instance, or `fake` does not fit it.
    """
    target = _node_of(node)
    is_async = is_coroutine_function(fake)
    if is_async and not target.is_async:
        raise TypeError(f"node {target.name!r} is made of a sync function: its fake must be a sync function, too")
    fits = _awaitable(fake) if target.is_async and not is_async else fake
    if target.origin is None:
        return _replaced(target, fits)
    method, owner = target.origin
    if not isinstance(owner, type):
        where = f"{type(owner).__name__}.{target.__name__}"
        raise TypeError(
            f"node {target.name!r} is the method of one instance, which is made anew each time it is asked for: replace"
            f" it on its class, replace_node({where}, fake), with a fake that takes self"
        )
    return _replaced(method, _of_class(fits))


@block_as("testing.replace_node(...)")
def _replaced(node: Node[..., object], fake: Callable[..., object]) -> Generator[None]:
    with node.running(fake):
        yield


def _node_of(given: object) -> Node[..., object]:
    """Return a node, or the node that an agent or a class method stands for.

    Raises:
        TypeError: If it is neither.
    """
    # From Python 3.13 on a class method is a method of Python's, around the node.
    is_given = is_node(given) or isinstance(given, MethodType) or hasattr(type(given), NODE_HOOK)
    found = node_under(given) if is_given else None
    if found is None:
        raise TypeError(f"only a node can be replaced, not {given!r}: make it one with @rt.function_node")
    return found


def _of_class(fake: Callable[..., object]) -> Callable[..., object]:
    def run(_cls: object, /, *args: object, **kwargs: object) -> object:
        return fake(*args, **kwargs)

    return run


def _awaitable(fake: Callable[..., Any]) -> Callable[..., Coroutine[object, Never, Any]]:
    @functools.wraps(fake)
    async def run(*args: Any, **kwargs: Any) -> Any:
        result = fake(*args, **kwargs)
        # A plain function may return a coroutine.
        return await result if inspect.isawaitable(result) else result

    return run
