"""`rt.function_node` and `rt.couple`: how nodes are made of functions, and of other nodes.

Called by users, and by the other modules wherever a plain function is given as a node.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from types import CoroutineType
from typing import Any, Never, ParamSpec, Protocol, TypeVar, Unpack, overload

from railtracks._nodes.middleware import Middleware, kind_of, middleware_of
from railtracks._nodes.node import AsyncNode, Node, SyncNode, name_of
from railtracks._nodes.options import NodeOptions, check_options
from railtracks._nodes.signature import without_partials
from railtracks._nodes.wrappers import check_readable, is_descriptor, node_under, refuse_wrapped, shown
from railtracks.exceptions import NodeCreationError

P = ParamSpec("P")
R = TypeVar("R")
# The result of a function that never returns, or that is said to return `Any`.
N = TypeVar("N", bound=Never)


class NodeDecorator(Protocol):
    """The decorator that `function_node(...)` returns when it is given options and no function."""

    # A coroutine function fits the last two signatures, and the type checkers report that. The first that fits counts.
    # A sync function that is said to return `Any` or `NoReturn` fits all: without the first, pyright takes it as async.
    @overload
    def __call__(self, fn: Callable[P, N], /) -> SyncNode[P, N]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[P, Coroutine[object, Never, R]], /
    ) -> AsyncNode[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncNode[P, R]: ...


# As above: the first signature that fits counts.
@overload
def function_node(  # type: ignore[overload-overlap]
    fn: Callable[P, N], /, **options: Unpack[NodeOptions]
) -> SyncNode[P, N]: ...
@overload
def function_node(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    fn: Callable[P, Coroutine[object, Never, R]], /, **options: Unpack[NodeOptions]
) -> AsyncNode[P, R]: ...
@overload
def function_node(fn: Callable[P, R], /, **options: Unpack[NodeOptions]) -> SyncNode[P, R]: ...
@overload
def function_node(fn: None = None, /, **options: Unpack[NodeOptions]) -> NodeDecorator: ...
def function_node(fn: Callable[..., object] | None = None, /, **options: Unpack[NodeOptions]) -> object:
    """Make a node of a function. Use it as a decorator, with or without options, or call it with a function.

    Args:
        fn: A coroutine function, or a plain function, which will run in a worker. Also a method, a builtin, a
            `functools.partial`, a static or class method, or an object with `__call__`. Of a node a copy with these
            options is made, also where it is under a `functools.partial`.
        **options: All are optional.

            - `name`: The name shown in records; by default that of the function.
            - `timeout`: The seconds that an attempt may take, waiting for a worker included. After that the attempt is
              cancelled, and the call raises `NodeTimeoutError`. A worker thread cannot be stopped: it is waited for.
            - `retry`: How often a failed call is tried again, an `rt.Retry`; by default never.
            - `run_in`: Where a sync function runs. `"thread"` is the default. `"process"` is a worker process, killed
              with its children when the call is cancelled; function, arguments and result are pickled (extra
              `process`). Or any `concurrent.futures.Executor`, which the caller must shut down.
            - `abandon_on_cancel`: Whether a cancelled call of a sync function leaves its thread running, instead of
              waiting for it. Such a function cannot make calls from its thread.
            - `middleware`: What runs around the function, made by `wrap_node` and `after_node`; the first is outermost.
            - `durable`: Whether a durable session records the calls; by default it does. `False` is for cheap functions
              without effects, which may run again when the session is resumed.
            - `key`: A text that tells calls with equal arguments apart in a durable session. Needed where several tasks
              of one nursery make them, because such tasks have no fixed order.
            - `manifest`: What a model is told of the node as a tool, an `rt.ToolManifest`, in place of what its
              docstring and its signature say.

    Raises:
        NodeCreationError: If `fn` is a class, a generator function or not callable, or a decorated function around a
            node; or if an option does not fit it.
        ImportError: If `run_in` is `"process"` and the extra `process` is not installed.
        TypeError: If an option is unknown or of the wrong type.
        ValueError: If an option has an impossible value, for example a `timeout` of 0.
    """
    check_options(options)
    return functools.partial(made_node, **options) if fn is None else made_node(fn, **options)


def made_node(fn: object, /, **options: Unpack[NodeOptions]) -> Node[..., object]:
    """Return the node for a value that was given as one: the node itself, or a new node of a function.

    Args:
        fn: A node or a function.
        **options: As for `function_node`; a node is then copied.

    Raises:
        NodeCreationError: As from `function_node`.
    """
    check_readable(fn)
    node = node_under(fn)
    if node is None:
        node = _node_of(fn.__func__ if is_descriptor(fn) else fn, options)
    elif options:
        node = node.with_options(**options)
    # In the body of a class, under `@function_node`.
    return node.binding_as(type(fn)) if is_descriptor(fn) else node


def _node_of(fn: object, options: NodeOptions) -> Node[..., object]:
    if isinstance(fn, CoroutineType):
        # Nobody will await it: without this Python would warn of that, too.
        fn.close()
        raise NodeCreationError(
            f"a node is made of a function, not of a coroutine: pass {fn.__name__} itself in place of"
            f" {fn.__name__}(...), and its arguments separately"
        )
    if not callable(fn):
        raise NodeCreationError(f"a node is made of a function, not of {shown(fn)}{_advice_on(fn)}")
    # Again, for the function of a static method.
    check_readable(fn)
    refuse_wrapped(fn)
    return AsyncNode(fn, **options) if is_coroutine_function(fn) else SyncNode(fn, **options)


def _advice_on(thing: object) -> str:
    if hasattr(type(thing), "ainvoke"):
        # A flow, or what another library runs in that way.
        return ": await its ainvoke(...), here or in a function that is made a node"
    # A property, say, or the method of a class that `functools.singledispatchmethod` made.
    return ": put @rt.function_node above a plain method that uses it" if hasattr(type(thing), "__get__") else ""


# As for `function_node`: the first signature that fits counts.
@overload
def couple(  # type: ignore[overload-overlap]
    node: SyncNode[P, R], /, *, middleware: Sequence[Middleware[..., object]]
) -> SyncNode[P, R]: ...
@overload
def couple(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    node: Callable[P, Coroutine[object, Never, R]], /, *, middleware: Sequence[Middleware[..., object]]
) -> AsyncNode[P, R]: ...
@overload
def couple(node: Callable[P, R], /, *, middleware: Sequence[Middleware[..., object]]) -> SyncNode[P, R]: ...
def couple(node: object, /, *, middleware: Sequence[Middleware[..., object]]) -> object:
    """Return a copy of a node with more middleware around it, outside of what it has.

    Args:
        node: A node, or a plain function.
        middleware: What `wrap_node` and `after_node` made; the first is outermost.

    Raises:
        NodeCreationError: If a node cannot be made of `node`, or anything in `middleware` is something else.
    """
    more, made = middleware_of(middleware), made_node(node)
    return made.with_options(middleware=[*more, *made.middleware])


def wrap_node(fn: Callable[P, Coroutine[object, Never, R]], /) -> Middleware[P, Coroutine[object, Never, R]]:
    """Make middleware of a coroutine function that runs around a node: `async def m(call, *args, **kwargs)`.

        @rt.wrap_node
        async def timed(call, *args, **kwargs):
            start = trio.current_time()
            try:
                return await call(*args, **kwargs)
            finally:
                print(trio.current_time() - start)

    What it returns is the result of the call. It may await `call` any number of times, with any arguments, in its own
    task and until it returns: each runs the node once, with the middleware further inside. It runs in Trio, also around
    the worker of a sync node, within the timeout and in each attempt of the call. Calls that it makes are children of
    the call. The record keeps the arguments of the call itself.

    Neither a direct `node(...)` nor the replay of a durable session runs it.

    Raises:
        NodeCreationError: If `fn` is no coroutine function.
    """
    check_readable(fn)
    if node_under(fn) is not None or not _is_async(fn):
        raise NodeCreationError(
            f"rt.wrap_node is for 'async def m(call, *args, **kwargs)', which {kind_of(fn)} is not; for a function of"
            " the result there is rt.after_node"
        )
    return Middleware(fn, is_after=False)


def after_node(fn: Callable[P, R], /) -> Middleware[P, R]:
    """Make middleware of a plain function that runs after a node: `def m(result)` returns what the call returns.

        @rt.after_node
        def stripped(result):
            return result.strip()

    It runs in Trio's thread, also after a sync node, and not after a failure. What it raises is the failure of the
    attempt. Neither a direct `node(...)` nor the replay of a durable session runs it.

    Raises:
        NodeCreationError: If `fn` is no plain function.
    """
    check_readable(fn)
    if node_under(fn) is not None or _is_async(fn) is not False:
        raise NodeCreationError(
            f"rt.after_node is for a plain 'def m(result)', which {kind_of(fn)} is not; for a coroutine function there"
            " is rt.wrap_node"
        )
    return Middleware(fn, is_after=True)


def _is_async(fn: object) -> bool | None:
    """Return whether a function is a coroutine function, `None` if it is no function at all."""
    try:
        return is_coroutine_function(fn)
    except NodeCreationError:
        return None


def is_coroutine_function(fn: object) -> bool:
    """Return whether calling `fn` gives a coroutine.

    Raises:
        NodeCreationError: If no node can be made of `fn`: a class, a generator function, or not callable.
    """
    node = node_under(fn)
    if node is not None:
        return node.is_async
    target: Any = without_partials(fn)
    if inspect.isclass(target):
        raise NodeCreationError(
            f"a node is made of a function, not of the class {target.__qualname__}: pass a function, or a method of an"
            " instance"
        )
    if not callable(target):
        raise NodeCreationError(f"a node is made of a function, not of {shown(target)}")
    function = target if inspect.isroutine(target) else type(target).__call__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise NodeCreationError(
            f"a node returns one result, but {name_of(fn)} is a generator function: return a list, or use rt.broadcast"
        )
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(target)
