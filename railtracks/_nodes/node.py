"""`rt.Node`: a function with a name and options that a session can call. `making` makes nodes.

Called by every module that has to do with nodes. This module knows nothing of sessions: `_calls.call` runs a node, and
`_workers` the function of a sync node.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Final,
    Generic,
    Literal,
    NamedTuple,
    Never,
    ParamSpec,
    Self,
    TypeAlias,
    TypeGuard,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from railtracks._blocks import block
from railtracks._checks import exact
from railtracks._nodes.middleware import Middleware, middleware_of
from railtracks._nodes.options import Manifest, NodeOptions, RunIn, check_for_processes, check_options
from railtracks._nodes.signature import (
    SecretParameters,
    Signature,
    secret_parameters_of,
    signature_of,
    without_partials,
)
from railtracks.exceptions import NodeCreationError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from railtracks._nodes.retry import Retry
    from railtracks._records.roles import CallRole

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# Puts a function under a wrapper that passes other arguments on, such as a `functools.partial`.
Wrap: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Within(NamedTuple):
    """The node inside of wrappers, and these wrappers."""

    node: Node[..., object]
    wrap: Wrap


class Origin(NamedTuple):
    """The node that a method was bound from, and what it was bound to: an instance, or a class."""

    node: Node[..., object]
    instance: object


class Node(Generic[P, R_co]):
    """A function with options that can be called in a session: `await rt.call(node, ...)`.

    Made by `function_node`. Treat it as immutable; only `testing.replace_node` changes one. It has the function's
    `__name__`, `__doc__`, `__wrapped__` and signature, and as a method it binds like a function. `node(...)` calls the
    plain function: without a session, a record, a timeout or a retry.

    It is pickled as the variable of a module that holds it. What `copy` makes of it is the node itself; of a method,
    that of the copied instance.

    Attributes:
        name: The name of the node in records, error notes and logs.
        fn: The function.
        timeout: The seconds that an attempt may take, `None` for no limit.
        retry: How often a failed call is tried again, `None` for never.
        run_in: Where a sync function runs: `"process"`, an executor, or `None` for a thread.
        is_async: Whether the function is a coroutine function; any other function runs in a worker.
        middleware: What runs around the function, the first outermost.
        is_direct: Whether a call only awaits the function: it is async, and has neither timeout nor middleware.
        is_plain: Whether a call can begin at once: the node has no `retry`, and is not under a `functools.partial`.
        secret_parameters: The parameters that may take secrets, `None` if there are none: most calls have nothing to
            look at.
        role: What its calls are to an agent, `None` if they are nothing special; see `with_role`.
    """

    __name__: str
    __wrapped__: Callable[..., object]

    is_async: ClassVar[bool]
    role: CallRole | None = None
    _within: _Within | None = None
    _origin: Origin | None = None
    # How it binds as an attribute of a class, if not like a function.
    _descriptor: type[object] | None = None

    def __init__(
        self,
        fn: Callable[..., object],
        *,
        name: str | None = None,
        timeout: float | None = None,
        retry: Retry | None = None,
        run_in: RunIn = None,
        abandon_on_cancel: bool = False,
        middleware: Sequence[Middleware[..., object]] = (),
        durable: bool = True,
        key: str | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        options = NodeOptions(
            name=name,
            timeout=timeout,
            retry=retry,
            run_in=run_in,
            abandon_on_cancel=abandon_on_cancel,
            middleware=middleware_of(middleware),
            durable=durable,
            key=key,
            manifest=manifest,
        )
        check_options(options)
        # Attributes of the function come along, but for those that would hide what a node has.
        own: Mapping[str, object] = getattr(fn, "__dict__", {})
        self.__dict__.update({name: value for name, value in own.items() if not hasattr(type(self), name)})
        functools.update_wrapper(self, fn, updated=())
        self._options = options
        self.__name__ = name_of(fn)
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
            check_for_processes(self.__name__, without_partials(fn), abandon_on_cancel=abandon_on_cancel)
        self.middleware: tuple[Middleware[..., object], ...] = tuple(middleware)
        self.is_direct: bool = self.is_async and self.timeout is None and not self.middleware
        self.is_plain: bool = retry is None
        self.secret_parameters: SecretParameters | None = secret_parameters_of(fn)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> object:
        """Call the function itself: no session, no record, no timeout. Each kind of node says what that returns."""

    def __repr__(self) -> str:
        return f"<railtracks.Node {self.name!r}>"

    @property
    def abandon_on_cancel(self) -> bool:
        """Whether a cancelled call leaves its worker thread running instead of waiting for it."""
        return self._options.get("abandon_on_cancel", False)

    @property
    def is_durable(self) -> bool:
        """Whether a durable session records the calls. Calls that are not recorded run again after a resume."""
        return self._options.get("durable", True)

    @property
    def key(self) -> str | None:
        """A text that tells calls with equal arguments apart, in a durable session, where their order is not fixed."""
        key = self._options.get("key")
        return None if key is None else exact(key)

    @property
    def manifest(self) -> Manifest | None:
        """What a model is told of the node as a tool, in place of its docstring and its signature."""
        return self._options.get("manifest")

    @property
    def core(self) -> Node[..., object]:
        """The node that a call runs: the one inside of a `functools.partial`, or else this one."""
        return self if self._within is None else self._within.node

    def passed(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the arguments of a call as the core gets them: with those that a `functools.partial` adds."""
        return (args, kwargs) if self._within is None else self._within.wrap(_arguments)(*args, **kwargs)

    def under(self, wrap: Wrap) -> Self:
        """Return this node under a wrapper: its calls are calls of this node, with the arguments passed on."""
        within = self._within

        def wrap_all(inner: Callable[..., Any]) -> Callable[..., Any]:
            return wrap(inner if within is None else within.wrap(inner))

        return self._like_this(wrap(self.fn), _within=_Within(self.core, wrap_all), is_plain=False)

    def bound_to(self, instance: object) -> Self:
        """Return this node as a method of an instance, or as a class method of a class."""
        if self._within is not None:
            return self.under(lambda inner: MethodType(inner, instance))
        made = self._like_this(MethodType(self.fn, instance), _origin=Origin(self, instance))
        for name in _OF_THE_ORIGIN:
            del made.__dict__[name]
        return made

    @property
    def origin(self) -> Origin | None:
        """What this node was bound from as a method, and to what; `None` if it is no method."""
        return self._origin

    @property
    def descriptor(self) -> type[object] | None:
        """`staticmethod` or `classmethod`, if it binds like one of these as an attribute of a class, else `None`."""
        return self._descriptor

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Return what a method has from the node that it was bound from, where `running` may have replaced it."""
            origin = self._origin
            if origin is None or name not in _OF_THE_ORIGIN:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            found = getattr(origin.node, name)
            return MethodType(found, origin.instance) if name == "fn" else found

    def __eq__(self, other: object) -> bool:
        # As methods of Python's do.
        if self is other or self._origin is None or not is_node(other) or other.origin is None:
            return self is other
        return self._origin.node == other.origin.node and self._origin.instance is other.origin.instance

    def __hash__(self) -> int:
        return id(self) if self._origin is None else hash((self._origin.node, id(self._origin.instance)))

    def binding_as(self, descriptor: type[object]) -> Self:
        """Return a copy that binds, as an attribute of a class, like a `staticmethod` or a `classmethod`."""
        return self._like_this(self.fn, _descriptor=descriptor, _within=self._within, is_plain=self.is_plain)

    def with_function(self, fn: Callable[..., object]) -> Self:
        """Return a copy with another function of the same kind (async or sync), and this node's name and options."""
        return self._like_this(fn)

    def _like_this(self, fn: Callable[..., object], **attributes: object) -> Self:
        own = {name: value for name, value in self.__dict__.items() if name not in _OF_ONE_FUNCTION}
        own |= {"fn": fn, "__wrapped__": fn, "run_in": self.run_in, "secret_parameters": secret_parameters_of(fn)}
        made = type(self).__new__(type(self))
        made.__dict__.update(own | {"is_plain": self.retry is None} | attributes)
        return made

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
        if self._origin is not None:
            made = cast("Self", self._origin.node.with_options(**options).bound_to(self._origin.instance))
        elif self._within is None:
            merged = self._options.copy()
            merged["name"] = self.name
            merged.update(options)
            made = type(self)(self.fn, **merged)
        else:
            made = cast("Self", self.core.with_options(**options)).under(self._within.wrap)
        made = made if self._descriptor is None else made.binding_as(self._descriptor)
        return made if self.role is None else made.with_role(self.role)

    def with_role(self, role: CallRole) -> Self:
        """Return a copy whose calls tell observers what they are to an agent. It changes nothing else."""
        if self._within is not None:
            made = cast("Self", self.core.with_role(role)).under(self._within.wrap)
            return made if self._descriptor is None else made.binding_as(self._descriptor)
        if self._origin is not None:
            return cast("Self", self._origin.node.with_role(role).bound_to(self._origin.instance))
        return self._like_this(self.fn, _descriptor=self._descriptor, role=role)

    @block
    def running(self, fn: Callable[..., object]) -> Generator[None]:
        """Replace the function of this node while the block runs. Called by `testing.replace_node`."""
        kept, self.fn = self.fn, fn
        # A fake for a process node runs in a thread: it need not be a function that can be pickled.
        kept_run_in, self.run_in = self.run_in, None
        # Under a `functools.partial` the fake takes the arguments of the call alone.
        within, self._within = self._within, None
        kept_is_plain, self.is_plain = self.is_plain, self.retry is None
        try:
            yield
        finally:
            self.fn, self.run_in = kept, kept_run_in
            self._within, self.is_plain = within, kept_is_plain

    def argument_names(self, count: int) -> tuple[str | None, ...]:
        """Return the names of the parameters that take the first `count` positional arguments."""
        return self._signature.names(count)

    def keyword_name(self, name: str) -> str:
        """Return the name that tells whether a keyword argument is secret."""
        return self._signature.keyword_name(name)

    def running_signature(self) -> Signature:
        """Return the signature of the function that a call runs now: `testing.replace_node` may have replaced it."""
        # Kept by the node itself. A weak table would keep each node whose function leads to it, as a bound method may.
        # That of a method is made anew each time that it is asked for.
        fn = self.fn if self._origin is None else self._origin.node.fn
        known: tuple[object, Signature] | None = self.__dict__.get("_running_signature")
        if known is None or known[0] is not fn:
            known = self.__dict__["_running_signature"] = fn, signature_of(self.fn)
        return known[1]

    @functools.cached_property
    def _signature(self) -> Signature:
        return signature_of(self.__wrapped__)

    def _attribute_of(self, instance: object, owner: type | None) -> Self:
        """Return what this node is as an attribute of a class, got from an instance or from the class itself."""
        kind = self._descriptor or object
        if issubclass(kind, classmethod):
            instance = type(instance) if owner is None else owner
        # Neither a static method nor a method that is bound already is bound.
        is_fixed = issubclass(kind, staticmethod) or isinstance(self.fn, MethodType)
        return self if instance is None or is_fixed else self.bound_to(instance)

    # Copies and pickles: those of a method lead to its instance, as those of Python's methods do.

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        if self._origin is not None:
            return _bound, self._origin
        from railtracks._nodes.variables import reduced  # noqa: PLC0415 - for pickles only

        module, qualname = getattr(self, "__module__", ""), getattr(self, "__qualname__", "")
        return reduced(self, f"node {self.name!r}", str(module), str(qualname))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if self._origin is None:
            return self
        node = self._origin.node
        # Methods of the same instance may be among it.
        middleware = copy.deepcopy(node.middleware, memo)
        if middleware is not node.middleware:
            node = node.with_options(middleware=middleware)
        return cast("Self", node.bound_to(copy.deepcopy(self._origin.instance, memo)))


# The attributes that a copy with another function does not have from the node.
_OF_ONE_FUNCTION: Final = frozenset(
    {"_signature", "_running_signature", "_within", "_origin", "_descriptor", "__signature__"}
)
# What `running` replaces, and a method does not keep for itself.
_OF_THE_ORIGIN: Final = ("fn", "run_in")


def _arguments(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs


def _bound(node: Node[..., object], instance: object) -> Node[..., object]:
    return node.bound_to(instance)


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
        return self._attribute_of(instance, owner)


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
        return self._attribute_of(instance, owner)


def is_node(value: object) -> TypeGuard[Node[..., object]]:
    """Return whether a value is a node."""
    # `isinstance` would ask the value for its `__class__`, which may be a property that raises.
    return issubclass(type(value), Node)


def name_of(fn: object) -> str:
    """Return the name of a function, or of the class of a callable object, as a plain string."""
    target = without_partials(fn)
    return exact(str(getattr(target, "__name__", type(target).__name__)))
