"""From a function to a node: what may become one, under which name, with which options.

Called by users as `rt.function_node`, and wherever a plain function is given as a node. This room knows nothing of
sessions: a node is run by `_calls.call`, and the function of a sync node by `_workers`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    Self,
    TypeGuard,
    TypeVar,
    Unpack,
    overload,
)

from railtracks._nodes.options import NodeOptions, RunIn, check_for_processes, check_options
from railtracks._nodes.retry import Retry
from railtracks._nodes.signature import Signature, signature_of
from railtracks.exceptions import NodeCreationError

if TYPE_CHECKING:
    from concurrent.futures import Executor

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Node(Generic[P, R_co]):
    """A function that can be called in a session: `await rt.call(node, ...)`.

    Made by `function_node`, and never changed after that but by `testing.replace_node`. It keeps the function's
    `__name__`, `__doc__`, `__wrapped__` and signature, and like a function it binds when it is a method. Called
    directly it is the function itself, untracked.

    Attributes:
        name: What the node is called in records, notes and logs.
        fn: The function.
        timeout: The seconds that an attempt may take, `None` for any.
        retry: How often a failed call is tried again, `None` for never.
        run_in: Where a sync function runs: `"process"`, an executor, or `None` for a thread.
        abandon_on_cancel: Whether a cancelled call leaves its worker thread behind instead of waiting for it.
        is_async: Whether the function is a coroutine function; any other runs in a worker.
        is_durable: Whether a durable session records its calls; one that does not runs them again when it is resumed.
        key: What tells calls of equal arguments apart in tasks that have no order.
        is_direct: Whether a call is nothing but an `await` of the function.
    """

    __name__: str
    __wrapped__: Callable[..., object]

    is_async: ClassVar[bool]

    def __init__(
        self,
        fn: Callable[..., object],
        *,
        name: str | None = None,
        timeout: float | None = None,
        retry: Retry | None = None,
        run_in: RunIn = None,
        abandon_on_cancel: bool = False,
        durable: bool = True,
        key: str | None = None,
    ) -> None:
        options = NodeOptions(
            name=name,
            timeout=timeout,
            retry=retry,
            run_in=run_in,
            abandon_on_cancel=abandon_on_cancel,
            durable=durable,
            key=key,
        )
        check_options(options)
        # First, because it copies the attributes of the function over ours.
        functools.update_wrapper(self, fn)
        self._options = options
        self.__name__ = _name_of(fn)
        if self.is_async and (run_in is not None or abandon_on_cancel):
            option = "abandon_on_cancel" if run_in is None else "run_in"
            raise NodeCreationError(
                f"{self.__name__} is a coroutine function: {option} is for functions run in a worker"
            )
        # Awaitable if the node is async, which no type says of a function that may be replaced.
        self.fn: Callable[..., Any] = fn
        self.name: str = self.__name__ if name is None else name
        self.timeout: float | None = None if timeout == math.inf else timeout
        self.retry: Retry | None = retry
        self.run_in: Literal["process"] | Executor | None = None if run_in == "thread" else run_in
        if run_in == "process":
            check_for_processes(self.__name__, _unwrapped(fn), abandon_on_cancel=abandon_on_cancel)
        self.abandon_on_cancel: bool = abandon_on_cancel
        self.is_durable: bool = durable
        self.key: str | None = key
        self.is_direct: bool = self.is_async and self.timeout is None

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> object:
        """Call the function itself: no session, no record, no timeout."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<railtracks.Node {self.name!r}>"

    def with_function(self, fn: Callable[..., object]) -> Self:
        """Return a copy that runs another function of the same kind under this node's name and options."""
        options = self._options.copy()
        options["name"] = self.name
        return type(self)(fn, **options)

    def with_options(self, **options: Unpack[NodeOptions]) -> Self:
        """Return a copy with other options; the ones that are not named stay as they are.

        Raises:
            NodeCreationError: If an option does not fit the function.
        """
        check_options(options)
        merged = self._options.copy()
        merged["name"] = self.name
        merged.update(options)
        return type(self)(self.fn, **merged)

    @contextmanager
    def running(self, fn: Callable[..., object]) -> Generator[None]:
        """Run another function of the same kind, wherever this node is called, while the block runs."""
        kept, self.fn = self.fn, fn
        # It need not be anything that can be pickled.
        place, self.run_in = self.run_in, None
        try:
            yield
        finally:
            self.fn, self.run_in = kept, place

    def argument_names(self, count: int) -> tuple[str | None, ...]:
        """Return the names of the parameters that take the first `count` positional arguments."""
        return self._signature.names(count)

    @functools.cached_property
    def _signature(self) -> Signature:
        return signature_of(self.__wrapped__)


class Attempt:
    """One attempt of a call of a node that is tried again. It is called in place of the node.

    Attributes:
        node: The node.
        number: Which attempt, counted from 1.
    """

    __slots__ = ("_retry", "node", "number")

    def __init__(self, node: Node[..., object], number: int, retry: Retry) -> None:
        self.node = node
        self.number = number
        self._retry = retry

    def is_worth_another(self, error: BaseException) -> bool:
        """Return whether another attempt follows after this one has failed with an error."""
        return self.number < self._retry.attempts and self._retry.is_worth(error)


class AsyncNode(Node[P, R]):
    """A node made of a coroutine function; it runs in its caller's task."""

    is_async = True

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, Never, R]:
        """Call the coroutine function itself: no session, no record, no timeout."""
        coroutine: Coroutine[object, Never, R] = self.fn(*args, **kwargs)
        return coroutine

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> AsyncNode[P, R]: ...
    @overload
    def __get__(
        self: AsyncNode[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> AsyncNode[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Node[..., object]:
        """Bind like a function."""
        return self if instance is None else self.with_function(MethodType(self.fn, instance))


class SyncNode(Node[P, R]):
    """A node made of a plain function; it runs in a worker."""

    is_async = False

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, in this thread: no session, no record, no timeout."""
        result: R = self.fn(*args, **kwargs)
        return result

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> SyncNode[P, R]: ...
    @overload
    def __get__(
        self: SyncNode[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> SyncNode[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Node[..., object]:
        """Bind like a function."""
        return self if instance is None else self.with_function(MethodType(self.fn, instance))


class NodeDecorator(Protocol):
    """What `function_node` is when it was given options only."""

    # A coroutine function is a function too; the first signature that fits is the one that counts.
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[P, Coroutine[object, Never, R]], /
    ) -> AsyncNode[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncNode[P, R]: ...


# As above: the first signature that fits counts.
@overload
def function_node(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    fn: Callable[P, Coroutine[object, Never, R]], /, **options: Unpack[NodeOptions]
) -> AsyncNode[P, R]: ...
@overload
def function_node(fn: Callable[P, R], /, **options: Unpack[NodeOptions]) -> SyncNode[P, R]: ...
@overload
def function_node(fn: None = None, /, **options: Unpack[NodeOptions]) -> NodeDecorator: ...
def function_node(fn: Callable[..., object] | None = None, /, **options: Unpack[NodeOptions]) -> object:
    """Make a node of a function: as a decorator, with or without options, or as a plain call.

    Args:
        fn: A coroutine function, or a function (it will run in a worker thread); also a method, a builtin, a
            `functools.partial` or an object with `__call__`. A node gives a copy with these options.
        **options: `name`, the name shown in records, by default the function's own; `timeout`, the seconds that an
            attempt may take, waiting for a worker included, after which a call raises `NodeTimeoutError`;
            `retry`, how often a failed call is tried again (`Retry`), by default never; `run_in`,
            where a sync function runs: `"thread"`, the default; `"process"`, in a worker process that is killed with
            its children when the call is cancelled (extra `process`; function, arguments and result are pickled); or
            any `concurrent.futures.Executor`, which stays yours; `abandon_on_cancel`, whether a cancelled call of a
            sync function leaves its thread behind, to end when it ends, instead of waiting for it; `durable`, whether
            a durable session records its calls, the default: `False` is for cheap pure functions, which may run again
            when it is resumed; `key`, what tells two calls with equal arguments apart that run in tasks of a nursery
            at the same time, in a durable session.

    Raises:
        NodeCreationError: If `fn` is a class, a generator function or not callable, or if an option does not fit it.
        ImportError: If `run_in` is `"process"` and what it needs is not installed.
        ValueError: If `timeout` is not more than 0.
        TypeError: If `timeout` is no number.
    """
    check_options(options)
    return functools.partial(made_node, **options) if fn is None else made_node(fn, **options)


def made_node(fn: object, /, **options: Unpack[NodeOptions]) -> Node[..., object]:
    """Return the node for anything that was given as one, or refuse it.

    Raises:
        NodeCreationError: As from `function_node`.
    """
    if is_node(fn):
        return fn.with_options(**options) if options else fn
    is_async = is_coroutine_function(fn)
    if not callable(fn):
        raise NodeCreationError(f"a node is made of a function, not of {fn!r}")
    return AsyncNode(fn, **options) if is_async else SyncNode(fn, **options)


def is_node(value: object) -> TypeGuard[Node[..., object]]:
    """Return whether a value is a node."""
    return isinstance(value, Node)


def is_coroutine_function(fn: object) -> bool:
    """Return whether calling `fn` gives a coroutine.

    Raises:
        NodeCreationError: If `fn` is no function at all: a class, a generator function, or not callable.
    """
    target: Any = _unwrapped(fn)
    if isinstance(target, Node):
        return target.is_async
    if inspect.isclass(target):
        raise NodeCreationError(f"a node is made of a function, not of the class {target.__qualname__}")
    if not callable(target):
        raise NodeCreationError(f"a node is made of a function, not of {target!r}")
    function = target if inspect.isroutine(target) else type(target).__call__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise NodeCreationError(
            f"a node gives back one result, but {_name_of(fn)} is a generator function: return a list, or use broadcast"
        )
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(target)


def _unwrapped(fn: object) -> object:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _name_of(fn: object) -> str:
    target = _unwrapped(fn)
    return str(getattr(target, "__name__", type(target).__name__))
