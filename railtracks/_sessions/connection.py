"""`rt.Connection`: one run of a flow, which is begun once, watched while it runs, and read after its end.

Made by `Flow.connect` for users, and by `Flow` itself for each `invoke`, `ainvoke`, `resume` and `aresume`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Never, ParamSpec, TypeVar, cast

from trio.lowlevel import enable_ki_protection

from railtracks._calls.call import call
from railtracks._calls.frames import Frame
from railtracks._calls.here import this_task
from railtracks._checks import check_grace
from railtracks._nodes.node import Node
from railtracks._options import SessionStore
from railtracks._records.context_view import ContextView
from railtracks._records.ends import Status
from railtracks._records.files import check_session_id
from railtracks._sessions.access import begin_in_new_task, drain_soon, is_open, result_of, was_entered
from railtracks._sessions.before_session import BeforeSession
from railtracks._sessions.durable import durable_wing
from railtracks._sessions.event_loops import run_from_sync
from railtracks._sessions.from_async import run_from_async
from railtracks._sessions.session import Session
from railtracks.exceptions import SessionCancelledError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableRun, EndedSession
    from railtracks._calls.durable_values import Args, DurableFlow, Kwargs
    from railtracks._records.data import ExecutionInfo

P = ParamSpec("P")
R = TypeVar("R")


class ConnectionPlan(NamedTuple):
    """What a connection needs of its flow.

    Attributes:
        name: The name of the flow.
        node: The entry point.
        store: The store of a durable flow's sessions, `None` if the flow is not durable.
        grace: The seconds of the drain after SIGTERM, `None` if SIGTERM is not handled.
        in_thread: Whether sync code runs it on the process's Trio thread.
        context: The context of the run. It belongs to the connection.
        new_session: Returns the session for the run, with this context; of a durable flow the one that was taken.
        durable: Returns what the durable package needs to know of the flow.
    """

    name: str
    node: Node[..., object]
    store: SessionStore | None
    grace: float | None
    in_thread: bool
    context: dict[str, object]
    new_session: Callable[[DurableRun[Frame] | None, dict[str, object]], Session]
    durable: Callable[[], DurableFlow]


class Connection(Generic[P, R]):
    """One run of a flow. Make it with `flow.connect()`, begin it once, and watch it from anywhere.

        connection = flow.connect()
        result = connection.invoke("Hello!")
        print(connection.status, connection.info.answer)

    `session_id`, `status`, `info` and `state_path` are `None` until the session of the run is open. They stay readable
    after its end, however it ended. All of them may be read in any thread; what they return is what held at a moment
    of the reading.

    Of a durable flow, the session may have ended in an earlier run. Then its recorded result or error comes back,
    nothing runs, and the connection tells what is recorded. It was never connected, and saved no state. Inside a
    durable session that is resumed, the store is read for that when a property is asked for, which blocks.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_first_use",
        "_is_in_new_task",
        "_is_stopping",
        "_plan",
        "_session",
        "_session_id",
        "_view",
        "_waiting",
    )

    def __init__(self, plan: ConnectionPlan, session_id: str | None = None) -> None:
        self._plan = plan
        if session_id is not None:
            self._check_durable()
            check_session_id(session_id)
        self._session_id = session_id
        # Never released: whoever gets it begins the run. Two threads may try.
        self._first_use = Lock()
        self._session: Session | None = None
        self._ended: EndedSession | None = None
        self._is_in_new_task = False
        self._is_stopping = False
        self._waiting: BeforeSession | None = None
        self._view: ContextView | None = None

    def invoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow from sync code, and return its result. Like `Flow.invoke`, but once.

        A start that is refused because an event loop is running in this thread does not count.

        Args:
            *args: Positional arguments of the entry point.
            **kwargs: Keyword arguments of the entry point.

        Raises:
            RuntimeError: If the connection was used before. Also as from `Flow.invoke`.
            TypeError: If the flow is durable and `session_id` is among the arguments: `flow.connect` takes it.
            BaseException: As from `Flow.invoke`.
        """
        return self._from_sync(self._invocation(args, kwargs))

    async def ainvoke(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow in Trio or asyncio, and return its result. Like `Flow.ainvoke`, but once. A checkpoint.

        Args:
            *args: Positional arguments of the entry point.
            **kwargs: Keyword arguments of the entry point.

        Raises:
            RuntimeError: If the connection was used before. Also as from `Flow.ainvoke`.
            TypeError: If the flow is durable and `session_id` is among the arguments: `flow.connect` takes it.
            BaseException: As from `Flow.ainvoke`.
        """
        return await run_from_async(partial(self._once, self._or_stopped(self._invocation(args, kwargs))))

    def resume(self, session_id: str, *, wait: float = 0.0) -> R:
        """Resume a durable session from sync code, and return its result. Like `Flow.resume`, but once.

        Args:
            session_id: The identifier of the session.
            wait: Seconds to wait, if another process owns the session, until it is free.

        Raises:
            RuntimeError: If the connection was used before. Also as from `Flow.invoke`.
            ValueError: If the connection was made for another session. Also as from `Flow.aresume`.
            BaseException: As from `Flow.aresume`.
        """
        self._check_resume(session_id, wait)
        return self._from_sync(partial(self._resumed, session_id, wait))

    async def aresume(self, session_id: str, *, wait: float = 0.0) -> R:
        """Resume a durable session in Trio or asyncio, and return its result. Like `Flow.aresume`, but once.

        A checkpoint.

        Args:
            session_id: The identifier of the session.
            wait: Seconds to wait, if another process owns the session, until it is free.

        Raises:
            RuntimeError: If the connection was used before.
            ValueError: If the connection was made for another session. Also as from `Flow.aresume`.
            BaseException: As from `Flow.aresume`.
        """
        self._check_resume(session_id, wait)
        return await run_from_async(partial(self._once, self._or_stopped(partial(self._resumed, session_id, wait))))

    @property
    def connected(self) -> bool:
        """Whether the run is going on: from the opening of its session to the end of all that the session does."""
        return self._session is not None and is_open(self._session)

    @property
    def session_id(self) -> str | None:
        """The identifier of the session."""
        if self._ended is not None:
            return self._ended.session_id
        return None if self._begun is None else self._begun.identifier

    @property
    def status(self) -> Status | None:
        """The status of the session."""
        if self._ended is not None:
            return self._ended.status
        return None if self._begun is None else self._begun.status

    @property
    def info(self) -> ExecutionInfo | None:
        """The session and its calls as they are now, as plain records. Takes longer the more calls there are.

        Of a durable session that had ended before, it is what `DurableStore.load` returned then.

        Raises:
            StoreError: If the record of a session that had ended before is damaged.
        """
        if self._ended is not None:
            return self._ended.info()
        return None if self._begun is None else self._begun.info

    @property
    def state_path(self) -> Path | None:
        """The file to which the state is saved at the end, `None` if it is not saved."""
        return None if self._begun is None else self._begun.state_path

    @property
    def context(self) -> Mapping[str, Any]:
        """The values of the session's context: live, read-only, and still there after the end.

        Before the start these are the values that the run begins with. Of a durable session that had ended before, they
        are those of its end.

        Raises:
            StoreError: If the record of a session that had ended before is damaged. Likewise `DurableValueError`.
        """
        if self._ended is not None:
            self._ended.restore(self._plan.context)
        if self._view is None:
            self._view = ContextView(self._plan.context)
        return self._view

    def __repr__(self) -> str:
        return f"<railtracks.Connection to {self._plan.name!r}: {self.status or 'not started'}>"

    @property
    def _begun(self) -> Session | None:
        """The session, once it was entered: before that, opening it may fail, and then there never was one."""
        session = self._session
        return session if session is not None and was_entered(session) else None

    def _check_durable(self) -> None:
        if self._plan.store is None:
            raise ValueError(not_durable(self._plan.name))

    def _check_resume(self, session_id: str, wait: float) -> None:
        self._check_durable()
        check_grace("wait", wait)
        check_session_id(session_id)
        if self._session_id is not None and session_id != self._session_id:
            raise ValueError(
                f"this connection was made for session {self._session_id!r}: for session {session_id!r} make another"
                " one with flow.connect()"
            )

    def _from_sync(self, work: Callable[[], Coroutine[object, Never, R]]) -> R:
        """Do the work from sync code; meanwhile SIGTERM in the main thread drains the session."""
        once = partial(self._once, self._or_stopped(work), is_in_new_task=True)
        on_sigterm = None if self._plan.grace is None else self._drain_soon
        return run_from_sync(once, on_sigterm, in_thread=self._plan.in_thread)

    def _or_stopped(self, work: Callable[[], Coroutine[object, Never, R]]) -> Callable[[], Coroutine[object, Never, R]]:
        """Return the work; of a durable flow so that SIGTERM or a shutdown ends it while there is no session to drain.

        It may wait for a session that another process owns, for as long as it was told to.
        """
        return work if self._plan.store is None else partial(self._from_wait_on, work)

    async def _from_wait_on(self, work: Callable[[], Coroutine[object, Never, R]]) -> R:
        self._waiting = waiting = BeforeSession(self._plan.name)
        try:
            with waiting.cancel_scope:
                return await work()
        finally:
            waiting.end()
        raise SessionCancelledError(waiting.reason)

    # No coroutines around that of the session: each one takes time. Protected, because Ctrl-C would leave one behind
    # that was made and not awaited.
    @enable_ki_protection
    def _once(
        self, work: Callable[[], Coroutine[object, Never, R]], *, is_in_new_task: bool = False
    ) -> Coroutine[object, Never, R]:
        """Begin the work if nothing was begun here yet. In Trio: a start that does not get as far does not count.

        Args:
            work: The work.
            is_in_new_task: Whether this task was started for it, or was waiting for the thread that asks for it.

        Raises:
            RuntimeError: If the connection was used before, or Trio is not running.
        """
        if not is_in_new_task:
            this_task()
        if not self._first_use.acquire(blocking=False):
            raise RuntimeError(
                f"this connection to flow {self._plan.name!r} was used before, and is one run: make a new one with"
                " flow.connect()"
            )
        self._is_in_new_task = is_in_new_task
        return work()

    def _invocation(self, args: Args, kwargs: Kwargs) -> Callable[[], Coroutine[object, Never, R]]:
        """Return the work of an invocation.

        Raises:
            TypeError: If the arguments name a durable session, which is done before: `Flow.invoke` may have both.
        """
        if self._plan.store is not None and "session_id" in kwargs:
            raise TypeError("session_id is given to flow.connect(session_id=...), not to the connection")
        taken = self._plan.node.passed(args, kwargs)
        return partial(self._run, None, *taken) if self._plan.store is None else partial(self._invoked, *taken)

    async def _invoked(self, args: Args, kwargs: Kwargs) -> R:
        plan = self._plan
        assert plan.store is not None  # noqa: S101 - checked before
        result = await durable_wing().run_flow(
            plan.store,
            plan.durable(),
            args,
            kwargs,
            session_id=self._session_id,
            start=self._run,
            ended=self._found_ended,
        )
        return cast("R", result)

    async def _resumed(self, session_id: str, wait: float) -> R:
        plan = self._plan
        assert plan.store is not None  # noqa: S101 - checked before
        result = await durable_wing().resume_flow(
            plan.store, plan.durable(), session_id, wait=wait, start=self._run, ended=self._found_ended
        )
        return cast("R", result)

    @enable_ki_protection
    def _run(self, run: DurableRun[Frame] | None, args: Args, kwargs: Kwargs) -> Coroutine[object, Never, R]:
        """Make the session, and run it. Called by the durable package with a run whose lease was taken."""
        self._session = session = self._plan.new_session(run, self._plan.context)
        if self._is_in_new_task:
            begin_in_new_task(session)
        if self._is_stopping:
            self._drain_soon()
        work = partial(_call, self._plan.node.core, *args, **kwargs)
        return cast(
            "Coroutine[object, Never, R]",
            result_of(session, work if self._waiting is None else partial(self._in_session, work)),
        )

    async def _in_session(self, work: Callable[[], Coroutine[object, Never, object]]) -> object:
        """Do the work in the block of the session, which a shutdown finds from now on."""
        assert self._waiting is not None  # noqa: S101 - checked before
        # Not earlier: a long record is prepared in a thread before the session is open.
        self._waiting.end()
        return await work()

    def _found_ended(self, ended: EndedSession) -> None:
        """Take note of a durable session that does not run, because it has ended. Called by the durable package."""
        self._ended = ended

    def _drain_soon(self) -> bool:
        """Begin to drain because of SIGTERM; return `False` if the session has already ended.

        The signal may come before the session exists; then it takes effect when the session does, or ends the wait for
        a durable session.
        """
        if self._session is None:
            self._is_stopping = True
            if self._waiting is not None:
                self._waiting.stop("SIGTERM")
            return True
        return drain_soon(self._session, self._plan.grace or 0.0)


def found_ended(connection: Connection[..., object]) -> bool:
    """Return whether the durable session of a connection had ended in an earlier run, or in another process.

    Called by `rt.recover`.
    """
    return connection._ended is not None  # noqa: SLF001 - for the package


def not_durable(name: str) -> str:
    """Return the text of the error for what only a durable flow can do."""
    return f"flow {name!r} is not durable: make it with durable=True, a path, a URL or a store"


# The same without its overloads: the parameter types of the entry point are not known here.
_call: Final = cast("Callable[..., Coroutine[object, Never, object]]", call)
