"""A flow: an entry point with its options, to be invoked again and again: `rt.Flow`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, Generic, Never, ParamSpec, TypeVar, Unpack, cast, overload

from railtracks._calls.call import call
from railtracks._calls.durable_protocol import Args, DurableFlow, DurableRun, Kwargs
from railtracks._calls.frames import Frame
from railtracks._checks import check_grace, check_name
from railtracks._config import required, resolve
from railtracks._copying import copied
from railtracks._nodes.node import Node, made_node
from railtracks._option import check_options, documented, options_of, spelled_out
from railtracks._options import FlowOptions, FlowRunOptions, SessionStore
from railtracks._records.files import check_session_id
from railtracks._sessions.durable import durable_wing
from railtracks._sessions.event_loops import run_from_sync
from railtracks._sessions.session import Session, drain_soon, result_of, session_of

P = ParamSpec("P")
R = TypeVar("R")

# Seconds; the option `stop_on_sigterm` says why.
_GRACE: Final = 4.0


class Flow(Generic[P, R]):
    """A named entry point with the options of its runs. Immutable; each invocation is a fresh session.

    Args:
        name: What the flow is called. Its states are saved as `<name>-<identifier>.json`.
        entry_point: A node, or a plain function, which is made one.
        {options}

    The context is copied for each invocation: dicts, lists, tuples and sets at any depth; other objects, such as a
    client or a lock, are shared.

    Raises:
        NodeCreationError: If a node cannot be made of the entry point.
        TypeError: If the name or an option is of the wrong type.
        ValueError: If the name is empty, or an option has a value that it cannot have.
    """

    __signature__ = spelled_out(FlowOptions, "name", "entry_point")
    __slots__ = ("_entry_point", "_name", "_node", "_options", "_store")

    @overload
    def __init__(self, name: str, entry_point: Node[P, R], **options: Unpack[FlowOptions]) -> None: ...
    @overload
    def __init__(
        self, name: str, entry_point: Callable[P, Coroutine[object, Never, R]], **options: Unpack[FlowOptions]
    ) -> None: ...
    @overload
    def __init__(self, name: str, entry_point: Callable[P, R], **options: Unpack[FlowOptions]) -> None: ...
    def __init__(self, name: str, entry_point: object, **options: Unpack[FlowOptions]) -> None:
        check_name("the name of a flow", name)
        # An option is refused where it is given, not at the first invocation.
        check_options("Flow()", FlowOptions, options)
        options["context"] = copied(options.get("context"))
        durable = options.get("durable")
        self._store: SessionStore | None = None
        if durable is not None and durable is not False:
            self._store = durable_wing().store_of(durable)
        elif options.get("version") is not None:
            raise ValueError("version is for durable flows: give durable=True, a URL or a store")
        self._name = name
        self._entry_point = entry_point
        self._node: Node[P, R] = cast("Node[P, R]", made_node(entry_point))
        if self._store is not None and not self._node.is_durable:
            raise ValueError(f"the entry point of durable flow {name!r} must be recorded: drop its durable=False")
        self._options: FlowOptions = options

    @property
    def name(self) -> str:
        """What the flow is called."""
        return self._name

    @property
    def entry_point(self) -> object:
        """The node or function that it was made with."""
        return self._entry_point

    @property
    def version(self) -> str | None:
        """What the code of a durable flow is called."""
        return self._options.get("version")

    @property
    def store(self) -> SessionStore | None:
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
        return _Invocation(self._grace).run_from_sync(partial(self._invoked, args, kwargs))

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
        return await self._invoked(args, kwargs, _Invocation(self._grace))

    async def _invoked(self, args: Args, kwargs: Kwargs, invocation: _Invocation) -> R:
        if self._store is None:
            return await self._run(self._session(), args, kwargs, invocation)
        session_id = kwargs.pop("session_id", None)
        if session_id is not None:
            check_session_id(session_id)
        wing, start = durable_wing(), partial(self._start, invocation)
        result = await wing.run_flow(
            self._store, self._durable, args, kwargs, session_id=cast("str | None", session_id), start=start
        )
        return cast("R", result)

    def resume(self, session_id: str, *, wait: float = 0.0) -> R:
        """Go on with a durable session from sync code, as `invoke` runs one, and return its result.

        Args:
            session_id: Its identifier.
            wait: Seconds to wait for it if a live owner has it.

        Raises:
            RuntimeError: As from `invoke`.
            BaseException: As from `aresume`.
        """
        self._check_resume(session_id, wait)
        return _Invocation(self._grace).run_from_sync(partial(self._resumed, session_id, wait))

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
        self._check_resume(session_id, wait)
        return await self._resumed(session_id, wait, _Invocation(self._grace))

    def _check_resume(self, session_id: str, wait: float) -> None:
        if self._store is None:
            raise ValueError(f"flow {self.name!r} is not durable: make it with durable=True, a URL or a store")
        check_grace("wait", wait)
        check_session_id(session_id)

    async def _resumed(self, session_id: str, wait: float, invocation: _Invocation) -> R:
        assert self._store is not None  # noqa: S101 - checked before
        wing, start = durable_wing(), partial(self._start, invocation)
        result = await wing.resume_flow(self._store, self._durable, session_id, wait=wait, start=start)
        return cast("R", result)

    async def _start(self, invocation: _Invocation, run: DurableRun[Frame], args: Args, kwargs: Kwargs) -> R:
        """Run a session that was taken from the store."""
        return await self._run(self._session(run), args, kwargs, invocation)

    async def _run(self, session: Session, args: Args, kwargs: Kwargs, invocation: _Invocation) -> R:
        invocation.hold(session)
        return cast("R", await result_of(session, partial(_called, self._node, args, kwargs)))

    def _session(self, run: DurableRun[Frame] | None = None) -> Session:
        return session_of(run, flow_name=self.name, **self._run_options)

    @property
    def _run_options(self) -> FlowRunOptions:
        """The options of one invocation, with a context of its own."""
        chosen = {name: value for name, value in self._options.items() if name in _RUN_OPTIONS}
        chosen["context"] = copied(self._options.get("context"))
        return cast("FlowRunOptions", chosen)

    @property
    def _durable(self) -> DurableFlow:
        """The flow, as its store knows it."""
        timeout = required(resolve(self._run_options).get("timeout"))
        return DurableFlow(name=self.name, version=self.version, node=self._node, timeout=timeout)

    @property
    def _grace(self) -> float | None:
        """The seconds that SIGTERM leaves to what runs, `None` if the signal does nothing."""
        given = self._options.get("stop_on_sigterm")
        if given is None or given is True:
            return _GRACE
        return None if given is False else given

    def update_context(self, values: Mapping[str, Any]) -> Flow[P, R]:
        """Return a flow with these values merged into the context; this one stays as it is.

        Raises:
            TypeError: If a key is no string.
        """
        options = self._options.copy()
        options["context"] = {**(options.get("context") or {}), **values}
        # The same store, and not another one of the same place.
        options["durable"] = self._store
        return Flow(self.name, cast("Node[P, R]", self._entry_point), **options)

    def in_store(self, store: SessionStore) -> Flow[P, R]:
        """Return a flow like this one that keeps its sessions in a store."""
        if self._store is store:
            return self
        options = self._options.copy()
        options["durable"] = store
        return Flow(self.name, cast("Node[P, R]", self._entry_point), **options)

    def equality_hash(self) -> str:
        """Return the SHA-256 of the name, in hexadecimal."""
        return hashlib.sha256(self.name.encode()).hexdigest()


Flow.__doc__ = documented(Flow.__doc__ or "", FlowOptions)

_RUN_OPTIONS: Final = frozenset(options_of(FlowRunOptions))


async def _called(node: Node[..., object], args: Args, kwargs: Kwargs) -> object:
    """Call an entry point, whose parameters no type tells here."""
    return await call(node, *args, **kwargs)


class _Invocation:
    """One invocation of a flow, and SIGTERM meanwhile: the signal may come before there is a session."""

    def __init__(self, grace: float | None) -> None:
        self._grace = grace
        self._session: Session | None = None
        self._is_stopping = False

    def run_from_sync(self, work: Callable[[_Invocation], Coroutine[object, Never, R]]) -> R:
        """Run the invocation from sync code; SIGTERM in the main thread drains its session."""
        return run_from_sync(partial(work, self), None if self._grace is None else self._drain_soon)

    def hold(self, session: Session) -> None:
        """Drain this session by the signal, also if that came before."""
        self._session = session
        if self._is_stopping:
            self._drain_soon()

    def _drain_soon(self) -> bool:
        """Begin to drain because of SIGTERM; return whether that was of use."""
        if self._session is None:
            self._is_stopping = True
            return True
        return drain_soon(self._session, self._grace or 0.0)
