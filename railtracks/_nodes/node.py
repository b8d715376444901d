"""`rt.function_node` and `rt.Node`: functions with a name and options that a session can call.

Called by users, and by the other modules wherever a plain function is given as a node. This module knows nothing of
sessions: `_calls.call` runs a node, and `_workers` the function of a sync node.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Coroutine, Generator
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

from railtracks._blocks import block
from railtracks._checks import exact
from railtracks._nodes.options import NodeOptions, RunIn, check_for_processes, check_options
from railtracks._nodes.retry import Retry
from railtracks._nodes.signature import SecretParameters, Signature, secret_parameters_of, signature_of
from railtracks._records.scrubbing import Scrubber
from railtracks.exceptions import NodeCreationError

if TYPE_CHECKING:
    from concurrent.futures import Executor

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Node(Generic[P, R_co]):
    """A function with options that can be called in a session: `await rt.call(node, ...)`.

    Made by `function_node`. Treat it as immutable; only `testing.replace_node` changes one. It has the function's
    `__name__`, `__doc__`, `__wrapped__` and signature, and as a method it binds like a function. `node(...)` calls the
    plain function: without a session, a record, a timeout or a retry.

    Attributes:
        name: The name of the node in records, error notes and logs.
        fn: The function.
        timeout: The seconds that an attempt may take, `None` for no limit.
        retry: How often a failed call is tried again, `None` for never.
        run_in: Where a sync function runs: `"process"`, an executor, or `None` for a thread.
        abandon_on_cancel: Whether a cancelled call leaves its worker thread running instead of waiting for it.
        is_async: Whether the function is a coroutine function; any other function runs in a worker.
        is_durable: Whether a durable session records the calls. Calls that are not recorded run again after a resume.
        key: A text that tells calls with equal arguments apart, in a durable session, where their order is not fixed.
        is_direct: Whether a call only awaits the function: it is async, and has no timeout.
        secret_parameters: The parameters that may take secrets, `None` if there are none: most calls have nothing to
            look at.
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
        # Before the attributes of the node are set: it copies the function's own attributes, which could replace them.
        functools.update_wrapper(self, fn)
        self._options = options
        self.__name__ = _name_of(fn)
        if self.is_async and (run_in is not None or abandon_on_cancel):
            option = "abandon_on_cancel" if run_in is None else "run_in"
            raise NodeCreationError(
                f"{self.__name__} is a coroutine function: {option} is for functions that run in a worker, leave it out"
            )
        # `Any`, because the result is awaited where the node is async, and `running` may replace the function.
        self.fn: Callable[..., Any] = fn
        self.name: str = self.__name__ if name is None else exact(name)
        self.timeout: float | None = None if timeout == math.inf else timeout
        self.retry: Retry | None = retry
        self.run_in: Literal["process"] | Executor | None = None if run_in == "thread" else run_in
        if run_in == "process":
            check_for_processes(self.__name__, _unwrapped(fn), abandon_on_cancel=abandon_on_cancel)
        self.abandon_on_cancel: bool = abandon_on_cancel
        self.is_durable: bool = durable
        self.key: str | None = None if key is None else exact(key)
        self.is_direct: bool = self.is_async and self.timeout is None
        self.secret_parameters: SecretParameters | None = secret_parameters_of(fn)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> object:
        """Call the function itself: no session, no record, no timeout. Each kind of node says what that returns."""

    def __repr__(self) -> str:
        return f"<railtracks.Node {self.name!r}>"

    def with_function(self, fn: Callable[..., object]) -> Self:
        """Return a copy with another function of the same kind (async or sync), and this node's name and options."""
        options = self._options.copy()
        options["name"] = self.name
        return type(self)(fn, **options)

    def with_options(self, **options: Unpack[NodeOptions]) -> Self:
        """Return a copy with other options; those that are not given stay as they are.

        Args:
            **options: As for `function_node`.

        Raises:
            NodeCreationError: If an option does not fit the function.
            TypeError: If an option is unknown or of the wrong type.
            ValueError: If an option has an impossible value.
        """
        check_options(options)
        merged = self._options.copy()
        merged["name"] = self.name
        merged.update(options)
        return type(self)(self.fn, **merged)

    @block
    def running(self, fn: Callable[..., object]) -> Generator[None]:
        """Replace the function of this node while the block runs. Called by `testing.replace_node`."""
        kept, self.fn = self.fn, fn
        # A fake for a process node runs in a thread: it need not be a function that can be pickled.
        kept_run_in, self.run_in = self.run_in, None
        try:
            yield
        finally:
            self.fn, self.run_in = kept, kept_run_in

    def argument_names(self, count: int) -> tuple[str | None, ...]:
        """Return the names of the parameters that take the first `count` positional arguments."""
        return self._signature.names(count)

    def keyword_name(self, name: str) -> str:
        """Return the name that tells whether a keyword argument is secret."""
        return self._signature.keyword_name(name)

    @functools.cached_property
    def _signature(self) -> Signature:
        return signature_of(self.__wrapped__)


class Attempt:
    """One attempt of a call of a node with `retry`. `_calls.call` calls it in place of the node.

    Attributes:
        node: The node.
        number: The number of the attempt, counted from 1.
    """

    __slots__ = ("_retry", "node", "number")

    def __init__(self, node: Node[..., object], number: int, retry: Retry) -> None:
        self.node: Node[..., object] = node
        self.number: int = number
        self._retry = retry

    def is_worth_another(self, error: BaseException) -> bool:
        """Return whether another attempt follows this one, which has failed with an error."""
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
    """The decorator that `function_node(...)` returns when it is given options and no function."""

    # A coroutine function fits both signatures, and the type checkers report that. The first one that fits counts.
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
    """Make a node of a function. Use it as a decorator, with or without options, or call it with a function.

    Args:
        fn: A coroutine function, or a plain function, which will run in a worker. Also a method, a builtin, a
            `functools.partial` or an object with `__call__`. Of a node a copy with these options is made.
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
            - `durable`: Whether a durable session records the calls; by default it does. `False` is for cheap functions
              without effects, which may run again when the session is resumed.
            - `key`: A text that tells calls with equal arguments apart in a durable session. Needed where several tasks
              of one nursery make them, because such tasks have no fixed order.

    Raises:
        NodeCreationError: If `fn` is a class, a generator function or not callable, or if an option does not fit it.
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
    if is_node(fn):
        return fn.with_options(**options) if options else fn
    if not callable(fn):
        raise NodeCreationError(f"a node is made of a function, not of {_shown(fn)}")
    return AsyncNode(fn, **options) if is_coroutine_function(fn) else SyncNode(fn, **options)


def is_node(value: object) -> TypeGuard[Node[..., object]]:
    """Return whether a value is a node."""
    return isinstance(value, Node)


def is_coroutine_function(fn: object) -> bool:
    """Return whether calling `fn` gives a coroutine.

    Raises:
        NodeCreationError: If no node can be made of `fn`: a class, a generator function, or not callable.
    """
    target: Any = _unwrapped(fn)
    if isinstance(target, Node):
        return target.is_async
    if inspect.isclass(target):
        raise NodeCreationError(f"a node is made of a function, not of the class {target.__qualname__}")
    if not callable(target):
        raise NodeCreationError(f"a node is made of a function, not of {_shown(target)}")
    function = target if inspect.isroutine(target) else type(target).__call__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise NodeCreationError(
            f"a node returns one result, but {_name_of(fn)} is a generator function: return a list, or use rt.broadcast"
        )
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(target)


def _shown(value: object) -> str:
    """Return the repr of what was given in place of a function, for an error: it may be an argument with secrets."""
    return Scrubber().text(repr(value))


def _unwrapped(fn: object) -> object:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _name_of(fn: object) -> str:
    target = _unwrapped(fn)
    return exact(str(getattr(target, "__name__", type(target).__name__)))
