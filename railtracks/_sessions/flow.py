"""A flow: an entry point with its options, to be invoked again and again."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from railtracks._calls.call import call
from railtracks._calls.durable_protocol import durable_wing
from railtracks._nodes.node import Node, made_node
from railtracks._options import DurableOption, GivenOptions, Options, check_name, copied, resolve
from railtracks._records.files import is_safe_name
from railtracks._sessions.event_loops import run_from_sync
from railtracks._sessions.session import Session, result_of

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
    durable: DurableOption
    version: str | None


class Flow(Generic[P, R]):
    """A named entry point with the options of its runs. Immutable; each invocation is a fresh session.

    Args:
        name: What the flow is called. Its states are saved as `<name>-<identifier>.json`.
        entry_point: A node, or a plain function, which is made one.
        **options: The options of `Session`. The context is copied for each invocation: dicts, lists, tuples and sets at
            any depth; other objects, such as a client or a lock, are shared. And `stop_on_sigterm`: whether SIGTERM
            drains what `invoke` runs in the main thread (`Session.drain`), by default after 4 seconds of grace; a
            number gives other seconds, `False` leaves the signal alone. Docker kills 10 seconds after SIGTERM: 4 for
            the grace and 5 for `cleanup_timeout` leave one for the state. `durable`: record each invocation, so that
            one which was killed can be resumed; as of `Session`. `version`: what the code of a durable flow is called;
            a session is resumed by the version that began it.

    Raises:
        NodeCreationError: If a node cannot be made of the entry point.
        TypeError: If the name or an option is of the wrong type.
        ValueError: If the name is empty, or an option has a value that it cannot have.
    """

    __slots__ = ("_entry_point", "_grace", "_name", "_node", "_options", "_stop_on_sigterm", "_store", "_version")

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
        durable = kept.pop("durable", None)
        self._version = kept.pop("version", None)
        self._store = None if durable is None or durable is False else durable_wing().store_of(durable)
        if self._version is not None and not isinstance(self._version, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
            raise TypeError(f"version must be a string, not {type(self._version).__name__}")
        if self._version is not None and self._store is None:
            raise ValueError("version is for durable flows: give durable=True, a URL or a store")
        self._name = name
        self._entry_point = entry_point
        self._node: Node[P, R] = made_node(entry_point)
        if self._store is not None and not self._node.is_durable:
            raise ValueError(f"the entry point of durable flow {name!r} must be recorded: drop its durable=False")
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

    @property
    def version(self) -> str | None:
        """What the code of a durable flow is called."""
        return self._version

    @property
    def store(self) -> Any:
        """Where the sessions of a durable flow are kept, `None` for any other."""
        return self._store

    def __repr__(self) -> str:
        return f"<railtracks.Flow {self.name!r}>"

    @overload
    def invoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def invoke(self, /, *args: Any, session_id: str, **kwargs: Any) -> R: ...
    def invoke(self, /, *args: Any, **kwargs: Any) -> R:
        """Run the flow from sync code and return its result.

        In a script it is a `trio.run` of its own. In a worker thread of a running session, as a sync node is, it runs
        inside that Trio run, and is cancelled with it.

        In the main thread SIGTERM drains the session (`stop_on_sigterm`): what ends within the grace ends as ever, with
        its result; what does not is cancelled, and this raises `SessionCancelledError`. A second SIGTERM cancels at
        once, one that finds nothing left to end goes to the handler that was there before, which is back afterwards.

        Of a durable flow `session_id=` may name the session: one that is there already, of the same flow and inputs,
        is gone on with, and of one that is over this returns the recorded result.

        Raises:
            RuntimeError: If Trio or asyncio is running in this thread.
            BaseException: As from `ainvoke`.
        """
        if self._store is not None:
            return self._invoke_durable(_Invocation(self, args, kwargs))
        own = self._session()
        grace = self._grace
        stop = None if grace is None else functools.partial(own._drain_soon, grace)  # noqa: SLF001 - the session's other face
        return run_from_sync(functools.partial(self._run, own, args, kwargs), stop)

    @overload
    async def ainvoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def ainvoke(self, /, *args: Any, session_id: str, **kwargs: Any) -> R: ...
    async def ainvoke(self, /, *args: Any, **kwargs: Any) -> R:
        """Run the flow and return its result. A checkpoint.

        Raises:
            SessionTimeoutError: If it took longer than its timeout.
            SessionCancelledError: If it was ended by `Session.cancel`.
            BaseException: Whatever the entry point raises, as the same object.
        """
        if self._store is not None:
            result: R = await _Invocation(self, args, kwargs).run()
            return result
        return await self._run(self._session(), args, kwargs)

    def resume(self, session_id: str, *, wait: float = 0.0) -> R:
        """Go on with a durable session from sync code, as `invoke` runs one, and return its result.

        Args:
            session_id: Its identifier.
            wait: Seconds to wait for it if a live owner has it.

        Raises:
            RuntimeError: As from `invoke`.
            BaseException: As from `aresume`.
        """
        check_name("session_id", session_id)
        return self._invoke_durable(_Invocation(self, (), {}, session_id, wait))

    async def aresume(self, session_id: str, *, wait: float = 0.0) -> R:
        """Go on with a durable session, and return its result. A checkpoint.

        A call whose outcome had reached its caller does not run again; one that began and did not return does. Of a
        session that is over the recorded result is returned, or the recorded error raised.

        Args:
            session_id: Its identifier.
            wait: Seconds to wait for it if a live owner has it.

        Raises:
            ValueError: If the flow is not durable.
            SessionOwnedError: If a live owner has the session.
            ReplayMismatchError: If the code, the flow or its version is not the one that began it.
            StoreError: If there is no such session, it is stuck, or the store cannot be used.
            BaseException: As from `ainvoke`.
        """
        check_name("session_id", session_id)
        result: R = await _Invocation(self, (), {}, session_id, wait).run()
        return result

    def _invoke_durable(self, invocation: _Invocation) -> R:
        grace = self._grace
        stop = None if grace is None else functools.partial(invocation.drain_soon, grace)
        result: R = run_from_sync(invocation.run, stop)
        return result

    async def _run(self, session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        node = self._node

        async def work() -> R:
            return await call(node, *args, **kwargs)

        return await result_of(session, work)

    def _session(self, session_id: str | None = None, durable: DurableOption = None) -> Session:
        options = self._options.copy()
        options["context"] = copied(options.get("context"))
        return Session(flow_name=self.name, session_id=session_id, durable=durable, **options)

    def update_context(self, values: Mapping[str, Any]) -> Flow[P, R]:
        """Return a flow with these values merged into the context; this one stays as it is.

        Raises:
            TypeError: If a key is no string.
        """
        options = self._options.copy()
        options["context"] = {**(options.get("context") or {}), **values}
        return Flow(
            self.name,
            self.entry_point,
            stop_on_sigterm=self._stop_on_sigterm,
            durable=self._store,
            version=self._version,
            **options,
        )

    def in_store(self, store: Any) -> Flow[P, R]:
        """Return a flow like this one that keeps its sessions in a store."""
        if self._store is store:
            return self
        return Flow(
            self.name,
            self.entry_point,
            stop_on_sigterm=self._stop_on_sigterm,
            durable=store,
            version=self._version,
            **self._options,
        )

    @property
    def _timeout(self) -> float:
        """The seconds that count for an invocation."""
        return resolve(Options(timeout=self._options.get("timeout"))).timeout

    def equality_hash(self) -> str:
        """Return the SHA-256 of the name, in hexadecimal."""
        return hashlib.sha256(self.name.encode()).hexdigest()


class _Invocation:
    """One invocation of a durable flow: a new session, or one that is gone on with."""

    def __init__(
        self,
        flow: Flow[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        resumed: str | None = None,
        wait: float = 0.0,
    ) -> None:
        if flow.store is None:
            raise ValueError(f"flow {flow.name!r} is not durable: make it with durable=True, a URL or a store")
        if isinstance(wait, bool) or not isinstance(wait, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
            raise TypeError(f"wait must be a number of seconds, not {type(wait).__name__}")
        if not wait >= 0:
            raise ValueError(f"wait must be 0 seconds or more, not {wait!r}")
        self._flow = flow
        self._args = args
        self._kwargs = dict(kwargs)
        self._given = self._kwargs.pop("session_id", None) if resumed is None else resumed
        if self._given is not None:
            check_name("session_id", self._given)
            if not is_safe_name(self._given):
                raise ValueError(f"session_id must be a safe file name, not {self._given!r}")
        self._is_resumed = resumed is not None
        self._wait = wait
        self._session: Session | None = None
        self._stop_after: list[float] = []

    def drain_soon(self, grace: float) -> bool:
        """Begin to drain because of SIGTERM, which may come before there is a session."""
        if self._session is None:
            self._stop_after.append(grace)
            return True
        return self._session._drain_soon(grace)  # noqa: SLF001 - the session's other face

    async def run(self) -> Any:
        """Invoke the flow, as a call of the durable session around it if there is one; return the result."""
        flow, wing = self._flow, durable_wing()
        if self._given is not None or wing.journal_here() is None:
            return await self._run(None)
        inner = wing.InnerFlow(wing.access_of(flow.store), flow._node, self._run)  # noqa: SLF001 - the room's own
        return await inner.invoke(flow.name, self._args, self._kwargs)

    async def _run(self, inner: tuple[str, str, str] | None) -> Any:
        """Take the session, run it, and return its result, or the recorded one."""
        flow, wing = self._flow, durable_wing()
        access, node = wing.access_of(flow.store), flow._node  # noqa: SLF001 - the room's own
        inputs, fingerprint = None, None
        if not self._is_resumed:
            inputs, fingerprint = access.values.dump_arguments(node, self._args, self._kwargs)
        identifier, seed, parent = inner or (self._given or os.urandom(16).hex(), None, None)
        timeout = flow._timeout  # noqa: SLF001 - the same
        wanted = wing.Wanted(
            session_id=identifier,
            flow_name=flow.name,
            version=flow.version,
            entry_point=node.name,
            inputs=inputs,
            inputs_print=fingerprint,
            session_name=flow._options.get("name"),  # noqa: SLF001 - the same
            timeout=None if timeout == math.inf else timeout,
            may_be_new=not self._is_resumed,
            seed=seed,
            parent=parent,
        )
        run = wing.Run(access, wanted)
        # Who has the session of a call of ours ends it, or dies.
        taken = await run.take(self._wait if inner is None else math.inf)
        if taken.fence is None:
            return wing.outcome_of_final(access, taken, node)
        args, kwargs = self._args, self._kwargs
        try:
            if self._is_resumed:
                args, kwargs = access.values.load_arguments(node, taken.session.inputs)
            session = self._session = flow._session(identifier, run)  # noqa: SLF001 - the same
        except BaseException:
            await run.abandon()  # noqa: ASYNC102 - shielded in there, and with the deadline of a commit
            raise
        for grace in self._stop_after:
            session._drain_soon(grace)  # noqa: SLF001 - the session's other face
        return await result_of(session, functools.partial(call, node, *args, **kwargs))


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
