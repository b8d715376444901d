"""A flow: an entry point with its options, to be invoked again and again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from railtracks._hosts import run_from_sync
from railtracks._invoke import call
from railtracks._nodes import Node, made_node
from railtracks._options import GivenOptions, check_name, copied
from railtracks._session import Session, result_of

P = ParamSpec("P")
R = TypeVar("R")


class FlowOptions(GivenOptions, total=False):
    """The options of `Session` that a flow can have, as keyword arguments."""

    flow_id: str | None


class Flow(Generic[P, R]):
    """A named entry point with the options of its runs. Immutable; each invocation is a fresh session.

    Args:
        name: What the flow is called. Its states are saved as `<name>-<identifier>.json`.
        entry_point: A node, or a plain function, which is made one.
        **options: The options of `Session`. The context is copied for each invocation: dicts, lists, tuples and sets at
            any depth; other objects, such as a client or a lock, are shared.

    Raises:
        NodeCreationError: If a node cannot be made of the entry point.
        TypeError: If the name or an option is of the wrong type.
        ValueError: If the name is empty, or an option has a value that it cannot have.
    """

    __slots__ = ("_entry_point", "_name", "_node", "_options")

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
        kept = options.copy()
        kept["context"] = copied(options.get("context"))
        # An option is refused where it is given, not at the first invocation.
        Session(flow_name=name, **kept)
        self._name = name
        self._entry_point = entry_point
        self._node: Node[P, R] = made_node(entry_point)
        self._options = kept

    @property
    def name(self) -> str:
        """What the flow is called."""
        return self._name

    @property
    def entry_point(self) -> Any:
        """The node or function that it was made with."""
        return self._entry_point

    def __repr__(self) -> str:
        return f"<railtracks.Flow {self.name!r}>"

    def invoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow from sync code and return its result.

        In a script it is a `trio.run` of its own. In a worker thread of a running session, as a sync node is, it runs
        inside that Trio run, and is cancelled with it.

        Raises:
            RuntimeError: If Trio or asyncio is running in this thread.
            BaseException: As from `ainvoke`.
        """
        return run_from_sync(functools.partial(self.ainvoke, *args, **kwargs))

    async def ainvoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow and return its result. A checkpoint.

        Raises:
            SessionTimeoutError: If it took longer than its timeout.
            SessionCancelledError: If it was ended by `Session.cancel`.
            BaseException: Whatever the entry point raises, as the same object.
        """
        options = self._options.copy()
        options["context"] = copied(options.get("context"))
        own = Session(flow_name=self.name, **options)

        async def work() -> R:
            return await call(self._node, *args, **kwargs)

        return await result_of(own, work)

    def update_context(self, values: Mapping[str, Any]) -> Flow[P, R]:
        """Return a flow with these values merged into the context; this one stays as it is.

        Raises:
            TypeError: If a key is no string.
        """
        options = self._options.copy()
        options["context"] = {**(options.get("context") or {}), **values}
        return Flow(self.name, self.entry_point, **options)

    def equality_hash(self) -> str:
        """Return the SHA-256 of the name, in hexadecimal."""
        return hashlib.sha256(self.name.encode()).hexdigest()
