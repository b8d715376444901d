"""A flow: an entry point with its options, to be invoked again and again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from attrs import define

from railtracks._invoke import call
from railtracks._hosts import run_from_sync
from railtracks._nodes import Node, function_node
from railtracks._options import GivenOptions, check_name, copied
from railtracks._session import Session, result_of

P = ParamSpec("P")
R = TypeVar("R")


class FlowOptions(GivenOptions, total=False):
    """The options of `Session` that a flow can have, as keyword arguments."""

    flow_id: str | None


@define(frozen=True, init=False, eq=False, repr=False)
class Flow(Generic[P, R]):
    """A named entry point with the options of its runs. Immutable; each invocation is a fresh session.

    Args:
        name: What the flow is called. Its states are saved as `<name>-<identifier>.json`.
        entry_point: A node, or a plain function, which is made one.
        **options: The options of `Session`. The context is copied for each invocation: dicts, lists, tuples and sets at
            any depth; other objects, such as a client or a lock, are shared.

    Attributes:
        name: The name.
        entry_point: What was given.

    Raises:
        NodeCreationError: If a node cannot be made of the entry point.
        TypeError: If the name or an option is of the wrong type.
        ValueError: If the name is empty, or an option has a value that it cannot have.
    """

    name: str
    entry_point: Any
    _node: Node[P, R]
    _options: FlowOptions

    @overload
    def __init__(self, name: str, entry_point: Node[P, R], **options: Unpack[FlowOptions]) -> None: ...
    @overload
    def __init__(
        self, name: str, entry_point: Callable[P, Coroutine[Any, Any, R]], **options: Unpack[FlowOptions]
    ) -> None: ...
    @overload
    def __init__(self, name: str, entry_point: Callable[P, R], **options: Unpack[FlowOptions]) -> None: ...
    def __init__(self, name: str, entry_point: Any, **options: Unpack[FlowOptions]) -> None:
        check_name("the name of a flow", name)
        kept = FlowOptions(**{**options, "context": copied(options.get("context"))})
        # An option is refused where it is given, not at the first invocation.
        Session(flow_name=name, **kept)
        node = entry_point if isinstance(entry_point, Node) else function_node(entry_point)
        self.__attrs_init__(name, entry_point, node, kept)  # type: ignore[attr-defined]  # attrs makes it

    def __repr__(self) -> str:
        return f"<railtracks.Flow {self.name!r}>"

    def invoke(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow from sync code and return its result.

        In a script it is a `trio.run` of its own. In a worker thread of a running session, as a sync node is, it runs
        inside that Trio run, and is cancelled with it.

        Raises:
            RuntimeError: If Trio or asyncio is running in this thread.
            BaseException: As from `ainvoke`.
        """
        return run_from_sync(functools.partial(self.ainvoke, *args, **kwargs))

    async def ainvoke(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow and return its result. A checkpoint.

        Raises:
            SessionTimeoutError: If it took longer than its timeout.
            SessionCancelledError: If it was ended by `Session.cancel`.
            BaseException: Whatever the entry point raises, as the same object.
        """
        options = {**self._options, "context": copied(self._options.get("context"))}
        own = Session(flow_name=self.name, **options)
        return await result_of(own, functools.partial(call, self._node, *args, **kwargs))

    def update_context(self, values: Mapping[str, Any]) -> Flow[P, R]:
        """Return a flow with these values merged into the context; this one stays as it is."""
        context = {**(self._options.get("context") or {}), **values}
        return Flow(self.name, self.entry_point, **{**self._options, "context": context})

    def equality_hash(self) -> str:
        """Return the SHA-256 of the name, in hexadecimal."""
        return hashlib.sha256(self.name.encode()).hexdigest()
