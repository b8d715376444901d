"""`rt.Flow`: an entry point with options, which can be invoked many times. Called by users only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Coroutine, Mapping
from inspect import Signature
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Never, ParamSpec, Self, TypeVar, Unpack, cast, overload

from railtracks._calls.frames import Frame
from railtracks._checks import check_indexed, check_name, check_storable, exact
from railtracks._config import configuration, configuration_mark, required, resolve
from railtracks._copying import copied
from railtracks._nodes.making import made_node
from railtracks._nodes.node import Node
from railtracks._nodes.signature import signature_of
from railtracks._option import check_options, documented, options_of, spelled_out
from railtracks._options import FlowOptions, FlowRunOptions, SessionStore
from railtracks._records.files import current_folder
from railtracks._sessions.access import session_of
from railtracks._sessions.connection import Connection, ConnectionPlan, not_durable
from railtracks._sessions.durable import durable_wing
from railtracks._sessions.given import Given, given_to_flow
from railtracks._sessions.session import Session

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableRun
    from railtracks._calls.durable_values import DurableFlow, Kwargs
    from railtracks._nodes.variables import Reduced

P = ParamSpec("P")
R = TypeVar("R")

# Seconds; the text of the option `stop_on_sigterm` gives the reason.
_GRACE: Final = 4.0


class Flow(Generic[P, R]):
    """A named entry point with the options of its sessions. Immutable; each invocation runs in a new session.

    Call `invoke` in sync code, and `await ainvoke` in Trio or asyncio. Both take the arguments of the entry point and
    return its result.

    The context is copied for each invocation: dicts, lists, tuples and sets at any depth. Other objects, such as a
    client or a lock, are shared by all invocations.

    Args:
        name: The name of the flow. Its states are saved as `<name>-<identifier>.json`.
        entry_point: A node, or a plain function, of which a node is made.
        {options}

    Raises:
        NodeCreationError: If a node cannot be made of the entry point.
        TypeError: If the name or an option is of the wrong type.
        ValueError: If the name is empty, or an option has an impossible value, or one that does not fit another option.
        ImportError: If `durable` is given and the extra `durable` is not installed.
    """

    __signature__: ClassVar[Signature] = spelled_out(FlowOptions, "name", "entry_point")
    __slots__ = (
        "_background",
        "_entry_point",
        "_folder",
        "_grace",
        "_name",
        "_node",
        "_options",
        "_resolved",
        "_run_options",
        "_session_name",
        "_store",
    )

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
        elif options.get("version") is not None or options.get("background"):
            option = "background" if options.get("version") is None else "version"
            raise ValueError(f"{option} is for durable flows: give durable=True, a path, a URL or a store as well")
        self._background = tuple(made_node(each).core for each in options.get("background") or ())
        # Where it was made: home is looked for from there, when a session of it is opened.
        self._folder = current_folder()
        self._name = exact(name)
        self._session_name: str | None = None
        self._entry_point = entry_point
        self._node: Node[P, R] = cast("Node[P, R]", made_node(entry_point))
        if self._store is not None and not self._node.is_durable:
            raise ValueError(
                f"the entry point {self._node.name!r} of durable flow {name!r} must be recorded: drop its durable=False"
            )
        if self._store is not None:
            check_indexed("the name of a durable flow", self._name)
            check_storable("version", options.get("version"))
            check_storable("the name of the entry point of a durable flow", self._node.name)
        self._options: FlowOptions = options
        # For the session of each run, without the context.
        run_options = {name: value for name, value in options.items() if name in _RUN_OPTIONS}
        self._run_options = cast("FlowRunOptions", run_options)
        self._grace = _grace_of(options.get("stop_on_sigterm"))
        # What each session is given, and the mark of the configuration that it was resolved with.
        self._resolved: tuple[object, Given | None] = None, None

    @property
    def name(self) -> str:
        """The name of the flow."""
        return self._name

    @property
    def entry_point(self) -> object:
        """The node or function that was given as the entry point."""
        return self._entry_point

    @property
    def version(self) -> str | None:
        """The version of a durable flow's code, `None` if none was given."""
        return self._options.get("version")

    @property
    def store(self) -> SessionStore | None:
        """The store of a durable flow's sessions, `None` if the flow is not durable."""
        return self._store

    def __repr__(self) -> str:
        return f"<railtracks.Flow {self.name!r}>"

    @overload
    def invoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def invoke(self, /, *args: Any, session_id: str, **kwargs: Any) -> R: ...
    def invoke(self, /, *args: Any, **kwargs: Any) -> R:
        """Run the flow from sync code, in a new session, and return its result.

        In a script this is a `trio.run` of its own, or with `in_thread` a run on the process's Trio thread. In the
        worker thread of a sync node, the flow runs inside the Trio run of that node. There it is cancelled with the
        task that waits for the thread.

        In the main thread SIGTERM drains the session (see `stop_on_sigterm` and `Session.drain`). If all calls end
        within the grace, the result is returned as usual. If not, they are cancelled, and `SessionCancelledError` is
        raised. A second SIGTERM cancels the session at once.

        The signal handler that was set before is set again at the end. A handler of the program's own is then called
        once, to decide what is next. Without one the process is stopping: each later `invoke` or `resume` in the main
        thread raises `SessionCancelledError` before it starts, so that a loop of short runs ends, too. A loop that
        catches `Exception` has to let this error pass. Between two runs the signal has its usual effect.

        In a durable flow `session_id=` may name the session. A session of this name, with the same flow and inputs, is
        resumed if it has not ended; if it has ended, its recorded result is returned, or its recorded error raised.

        Args:
            *args: Positional arguments of the entry point.
            **kwargs: Keyword arguments of the entry point; of a durable flow also `session_id`.

        Returns:
            What the entry point returns.

        Raises:
            RuntimeError: If Trio or asyncio is running in this thread: use `ainvoke` there.
            ContextError: If this is the thread of a node with `abandon_on_cancel=True`.
            SessionCancelledError: If the process is stopping: SIGTERM has come during an earlier run, or `rt.shutdown`
                is under way.
            BaseException: As from `ainvoke`.
        """
        return self._connected(kwargs).invoke(*args, **kwargs)

    @overload
    async def ainvoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def ainvoke(self, /, *args: Any, session_id: str, **kwargs: Any) -> R: ...
    async def ainvoke(self, /, *args: Any, **kwargs: Any) -> R:
        """Run the flow from Trio or asyncio, in a new session, and return its result.

        A checkpoint. If it is cancelled, the session is cancelled, its cleanup runs, and `Cancelled` goes on.

        In an asyncio task the flow runs in the one Trio thread of this process, with the context variables of the task.
        If the task is cancelled, the session is cancelled, and the task goes on when its cleanup is done and its state
        is saved. At the end of the interpreter, flows that still run are cancelled likewise.

        In asyncio code in the thread of a sync node, the flow belongs to no session either. While it runs, the thread
        does not count against `thread_limit`, and a cancel of the node cancels the flow.

        Args:
            *args: Positional arguments of the entry point.
            **kwargs: Keyword arguments of the entry point; of a durable flow also `session_id`, as for `invoke`.

        Returns:
            What the entry point returns.

        Raises:
            SessionTimeoutError: If the session took longer than its timeout.
            SessionCancelledError: If the session was cancelled by `Session.cancel`, a drain, `rt.shutdown` or SIGTERM.
            SessionWaiting: If a durable session was parked: it only waits for signals.
            RuntimeError: If neither Trio nor asyncio is running, or the interpreter is shutting down.
            ContextError: In asyncio, if this is the thread of a node with `abandon_on_cancel=True`.
            BaseException: Whatever the entry point raises, as the same object.
        """
        return await self._connected(kwargs).ainvoke(*args, **kwargs)

    def resume(self, session_id: str, *, wait: float = 0.0) -> R:
        """Resume a durable session from sync code, and return its result. `aresume` for sync code, like `invoke`.

        Args:
            session_id: The identifier of the session.
            wait: Seconds to wait, if another process owns the session, until it is free.

        Raises:
            RuntimeError: As from `invoke`.
            BaseException: As from `aresume`.
        """
        return self.connect().resume(session_id, wait=wait)

    async def aresume(self, session_id: str, *, wait: float = 0.0) -> R:
        """Resume a durable session from Trio or asyncio, as `ainvoke` runs one, and return its result. A checkpoint.

        The entry point runs again with the recorded inputs. A call whose outcome had reached its caller is not run
        again: it returns or raises its recorded outcome. A call that had begun and not returned is run again. If the
        session has ended, its recorded result is returned, or its recorded error raised.

        Args:
            session_id: The identifier of the session.
            wait: Seconds to wait, if another process owns the session, until it is free.

        Raises:
            ValueError: If the flow is not durable, or `session_id` or `wait` is impossible.
            TypeError: If `session_id` or `wait` is of the wrong type.
            SessionOwnedError: If another live process still owns the session.
            ReplayMismatchError: If the code, the flow or its version is not the one that began it.
            SessionUnavailableError: If there is no such session, or it is stuck.
            SessionLostError: If this process lost the session meanwhile: its lease ended, or another owner has it.
            StoreError: If the store cannot be used, or the record of the session is damaged.
            BaseException: As from `ainvoke`.
        """
        return await self.connect().aresume(session_id, wait=wait)

    def connect(self, *, session_id: str | None = None) -> Connection[P, R]:
        """Return one run of the flow, not begun yet, which can be held: watched while it runs, read after its end.

        The flow's context is copied for it by this call.

        Args:
            session_id: In a durable flow, the name of the session, as for `invoke`.

        Raises:
            ValueError: If `session_id` is given and the flow is not durable, or it is impossible.
            TypeError: If `session_id` is no string.
        """
        given = self._options.get("context")
        if given is None:
            given = configuration().get("context")
        context = {} if given is None else {exact(key): value for key, value in copied(given).items()}
        plan = ConnectionPlan(
            self._name,
            self._node,
            self._store,
            self._grace,
            self._given().in_thread,
            context,
            self._session,
            self._durable,
        )
        return Connection(plan, session_id)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> BoundFlow[R]:
        """Return the flow with the arguments of one run, which does not begin here: `rt.submit` sends it elsewhere.

        Args:
            *args: Positional arguments of the entry point.
            **kwargs: Keyword arguments of the entry point.

        Raises:
            TypeError: If the entry point does not take these arguments.
        """
        signature_of(self._node.fn).check(*self._node.passed(args, kwargs))
        return BoundFlow(self, args, kwargs)

    def _connected(self, kwargs: Kwargs) -> Connection[..., R]:
        """Return a connection for one invocation, and take the name of its session out of the arguments."""
        if self._store is not None:
            return self.connect(session_id=cast("str | None", kwargs.pop("session_id", None)))
        if "session_id" in kwargs and not signature_of(self._node.fn).takes_keyword("session_id"):
            raise ValueError(not_durable(self._name))
        return self.connect()

    def _given(self) -> Given:
        """Return what each session of the flow is given, as the configuration of the process is now."""
        mark, given = self._resolved
        if given is None or mark is not configuration_mark():
            # In this order: a `set_config` in another thread meanwhile is met by the next run.
            mark = configuration_mark()
            given = given_to_flow(self._session_name, self._name, self._run_options, self._options.get("in_thread"))
            self._resolved = mark, given
        return given

    def _session(self, run: DurableRun[Frame] | None, context: dict[str, object]) -> Session:
        return session_of(self._given(), context, self._folder, run)

    def _durable(self) -> DurableFlow:
        """Return what the durable package needs to know of this flow."""
        # The durable package has imported it: without that there is no such flow.
        from railtracks._calls.durable_values import DurableFlow  # noqa: PLC0415

        timeout = required(resolve(self._run_options).get("timeout"))
        return DurableFlow(
            name=self.name,
            version=self.version,
            node=self._node.core,
            timeout=timeout,
            background=self._background,
            session_name=self._session_name,
        )

    def update_context(self, values: Mapping[str, Any]) -> Flow[P, R]:
        """Return a new flow with these values merged into the context; this flow stays unchanged.

        Args:
            values: Values for the context, by key.

        Raises:
            TypeError: If a key is no string.
        """
        options = self._options.copy()
        options["context"] = {**(options.get("context") or {}), **values}
        # The store object itself: the path or URL that was given would open a second store.
        options["durable"] = self._store
        return self._like_this(options)

    def in_store(self, store: SessionStore) -> Flow[P, R]:
        """Return a flow like this one whose sessions are kept in `store`. Called by `rt.recover` and `testing`."""
        if self._store is store:
            return self
        options = self._options.copy()
        options["durable"] = store
        return self._like_this(options)

    @property
    def cleanup_timeout(self) -> float:
        """The seconds that the cleanup of each run may take, see the option."""
        return required(resolve(self._run_options).get("cleanup_timeout"))

    @property
    def is_heard(self) -> bool:
        """Whether the broadcasts of each run have a callback of the flow or of this process."""
        return resolve(self._run_options).get("broadcast_callback") is not None

    @property
    def entry(self) -> Node[..., R]:
        """The node that each run calls."""
        return cast("Node[..., R]", self._node.core)

    def _like_this(self, options: FlowOptions) -> Flow[P, R]:
        flow = Flow(self.name, cast("Node[P, R]", self._entry_point), **options)
        flow._folder = self._folder
        return flow

    # A flow is immutable, so a copy of it is the flow itself.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Reduced:
        from railtracks._nodes.variables import reduced  # noqa: PLC0415 - for pickles only

        node: object = self._node
        return reduced(self, f"flow {self.name!r}", str(getattr(node, "__module__", "")), "")

    def equality_hash(self) -> str:
        """Return the SHA-256 hash of the flow's name, in hexadecimal."""
        return hashlib.sha256(self.name.encode()).hexdigest()


def flow_like(flow: Flow[P, R], session_name: str | None, options: FlowOptions) -> Flow[P, R]:
    """Return a flow like another one with some options changed, and with a name for its sessions.

    Called by the command line, and on workers.

    Raises:
        ValueError: As from `Flow`.
        ImportError: If the option `durable` is given, and the extra `durable` is not installed.
    """
    # The store object itself, as in `update_context`.
    changed = flow._like_this({**flow._options, "durable": flow._store, **options})  # noqa: SLF001 - as said above
    changed._session_name = session_name  # noqa: SLF001 - the same
    return changed


def own_timeout_of(flow: Flow[..., object]) -> float:
    """Return the option `timeout` of a flow, infinite if it has none of its own.

    Called for flows that run in other processes, which have not what `set_config` has set in this one.
    """
    seconds = flow._run_options.get("timeout")  # noqa: SLF001 - as said above
    return math.inf if seconds is None else seconds


def _grace_of(given: bool | float | None) -> float | None:  # noqa: FBT001 - an option's value
    """Return the grace in seconds of a drain after SIGTERM, `None` if the signal is not handled."""
    if given is None or given is True:
        return _GRACE
    return None if given is False else given


class BoundFlow(Generic[R]):
    """A flow with the arguments of one run. Made by `Flow.bind`; `rt.submit` runs it on a worker.

    Attributes:
        flow: The flow.
        args: The positional arguments of its entry point.
        kwargs: The keyword arguments.
    """

    __slots__ = ("args", "flow", "kwargs")

    def __init__(self, flow: Flow[..., R], args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        self.flow: Flow[..., R] = flow
        self.args: tuple[object, ...] = args
        self.kwargs: dict[str, object] = dict(kwargs)

    def __repr__(self) -> str:
        # No arguments: they may hold secrets.
        return f"<railtracks.BoundFlow of {self.flow.name!r}>"


Flow.__doc__ = documented(Flow.__doc__ or "", FlowOptions)

_RUN_OPTIONS: Final = frozenset(options_of(FlowRunOptions))
