"""A flow: an entry point with its options, to be invoked again and again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from railtracks._hosts import run_from_sync
from railtracks._invoke import call
from railtracks._nodes import Node, made_node
from railtracks._options import GivenOptions, check_name, copied
from railtracks._session import Session, result_of

P = ParamSpec("P")
R = TypeVar("R")

# Seconds; the docstring of Flow says why so many.
_GRACE: Final = 4.0


class RunOptions(GivenOptions, total=False):
    """The options of `Session` that a flow can have, as keyword arguments."""

    flow_id: str | None


class FlowOptions(RunOptions, total=False):
    """These and a flow's own."""

    stop_on_sigterm: float | bool | None


class Flow(Generic[P, R]):
    """A named entry point with the options of its runs. Immutable; each invocation is a fresh session.

    Args:
        name: What the flow is called. Its states are saved as `<name>-<identifier>.json`.
        entry_point: A node, or a plain function, which is made one.
        **options: The options of `Session`. The context is copied for each invocation: dicts, lists, tuples and sets at
            any depth; other objects, such as a client or a lock, are shared. And `stop_on_sigterm`: whether SIGTERM
            drains what `invoke` runs in the main thread (`Session.drain`), by default after 4 seconds of grace; a
            number gives other seconds, `False` leaves the signal alone. Docker kills 10 seconds after SIGTERM: 4 for
            the grace and 5 for `cleanup_timeout` leave one for the state.

    Raises:
        NodeCreationError: If a node cannot be made of the entry point.
        TypeError: If the name or an option is of the wrong type.
        ValueError: If the name is empty, or an option has a value that it cannot have.
    """

    __slots__ = ("_entry_point", "_grace", "_name", "_node", "_options", "_stop_on_sigterm")

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
        self._stop_on_sigterm = kept.pop("stop_on_sigterm", None)
        self._grace = _grace(self._stop_on_sigterm)
        self._name = name
        self._entry_point = entry_point
        self._node: Node[P, R] = made_node(entry_point)
        self._options = cast("RunOptions", kept)
        # An option is refused where it is given, not at the first invocation.
        self._session()

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

        In the main thread SIGTERM drains the session (`stop_on_sigterm`): what ends within the grace ends as ever, with
        its result; what does not is cancelled, and this raises `SessionCancelledError`. A second SIGTERM cancels at
        once, one that finds nothing left to end goes to the handler that was there before, which is back afterwards.

        Raises:
            RuntimeError: If Trio or asyncio is running in this thread.
            BaseException: As from `ainvoke`.
        """
        own = self._session()
        grace = self._grace
        stop = None if grace is None else functools.partial(own._drain_soon, grace)  # noqa: SLF001 - the session's other face
        return run_from_sync(functools.partial(self._run, own, args, kwargs), stop)

    async def ainvoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow and return its result. A checkpoint.

        Raises:
            SessionTimeoutError: If it took longer than its timeout.
            SessionCancelledError: If it was ended by `Session.cancel`.
            BaseException: Whatever the entry point raises, as the same object.
        """
        return await self._run(self._session(), args, kwargs)

    async def _run(self, session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        node = self._node

        async def work() -> R:
            return await call(node, *args, **kwargs)

        return await result_of(session, work)

    def _session(self) -> Session:
        options = self._options.copy()
        options["context"] = copied(options.get("context"))
        return Session(flow_name=self.name, **options)

    def update_context(self, values: Mapping[str, Any]) -> Flow[P, R]:
        """Return a flow with these values merged into the context; this one stays as it is.

        Raises:
            TypeError: If a key is no string.
        """
        options = self._options.copy()
        options["context"] = {**(options.get("context") or {}), **values}
        return Flow(self.name, self.entry_point, stop_on_sigterm=self._stop_on_sigterm, **options)

    def equality_hash(self) -> str:
        """Return the SHA-256 of the name, in hexadecimal."""
        return hashlib.sha256(self.name.encode()).hexdigest()


def _grace(given: object) -> float | None:
    """Return the seconds that SIGTERM leaves to what runs, `None` if it shall do nothing."""
    if given is None or given is True:
        return _GRACE
    if given is False:
        return None
    if not isinstance(given, int | float):
        raise TypeError(f"stop_on_sigterm must be True, False or a number of seconds, not {type(given).__name__}")
    if not given >= 0:
        raise ValueError(f"stop_on_sigterm must be 0 seconds or more, not {given!r}")
    return given
