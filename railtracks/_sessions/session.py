"""A session as users hold it: its options, what it tells of itself, and what may be started in it.

Called by users as `rt.Session`, by `Flow` and `@session`, and by calls that have no session around them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, NoReturn, ParamSpec, Self, TypeVar, Unpack, overload

import trio

from railtracks._calls.durable_protocol import DurableRun
from railtracks._calls.frames import Frame
from railtracks._calls.here import current_scope, open_scope
from railtracks._calls.pending import PendingCall
from railtracks._checks import check_grace
from railtracks._config import required, resolve
from railtracks._nodes.node import Node
from railtracks._options import DecoratorOptions, SessionOptions, SessionStore, check_options, documented, spelled_out
from railtracks._records.ending import Ending
from railtracks._records.files import check_session_id, state_path
from railtracks._records.history import BoundedCallTree
from railtracks._records.session import SessionRecord
from railtracks._records.tree import CallTree, CauseKind, Counts, EndCause, ExecutionInfo, Status
from railtracks._sessions.cancellation import Cancellation
from railtracks._sessions.durable import durable_wing
from railtracks._sessions.lifetime import Lifetime, open_lifetime
from railtracks._sessions.plan import SessionPlan
from railtracks.exceptions import ContextError, SessionCancelledError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Session:
    """A run: the calls made in its block, and everything they started, end before the block is left.

    Use it as `async with rt.Session(...) as session:`, once. For a function that is a run each time use `@rt.session`,
    for an entry point that is invoked again and again a `Flow`.

    When the block is left, services are cancelled and background calls awaited; on an error, a timeout or a cancel all
    of them are cancelled and awaited. Then resources close and broadcasts are delivered, then the state is saved.

    Args:
        {options}

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If an option has a value that it cannot have.
    """

    __signature__ = spelled_out(DecoratorOptions, "context")
    __slots__ = (
        "__weakref__",
        "_cancellation",
        "_lifetime",
        "_may_be_new",
        "_record",
        "_run",
        "_session_id",
        "_settings",
        "_state_path",
        "_store",
    )

    def __init__(self, context: Mapping[str, Any] | None = None, **options: Unpack[SessionOptions]) -> None:
        given: DecoratorOptions = {"context": context, **options}
        check_options("Session()", DecoratorOptions, given)
        self._settings = settings = resolve(given)
        self._session_id = _given_identifier(options)
        self._may_be_new = options.get("resume") is None
        self._store = _store(options, self._session_id)
        name, flow_name = options.get("name"), options.get("flow_name")
        identifier = self._session_id or os.urandom(16).hex()
        ending = Ending(name or flow_name or identifier, required(settings.get("timeout")))
        limit = required(settings.get("history_limit"))
        tree = CallTree() if limit == math.inf else BoundedCallTree(int(limit))
        values = dict(settings.get("context") or {})
        self._record = SessionRecord(identifier, name, flow_name, options.get("flow_id"), ending, values, tree)
        self._cancellation = Cancellation(self._record)
        self._state_path = self._find_state_path()
        self._run: DurableRun[Frame] | None = None
        self._lifetime: Lifetime | None = None

    @classmethod
    def _of_run(cls, run: DurableRun[Frame], **options: Unpack[DecoratorOptions]) -> Self:
        """Return the session of a run that a flow has taken from its store."""
        session = cls(**options)
        session._begin_with(run)
        return session

    def _begin_with(self, run: DurableRun[Frame]) -> None:
        self._run = run
        self._record.identify(run.session_id)
        self._state_path = self._find_state_path()

    def _find_state_path(self) -> Path | None:
        record = self._record
        is_saved = self._settings.get("save_state")
        return state_path(record.identifier, record.name, record.flow_name) if is_saved else None

    @property
    def identifier(self) -> str:
        """A string that no other session has. A block inside a durable session gets its own as it is entered."""
        return self._record.identifier

    @property
    def name(self) -> str | None:
        """The name it was given."""
        return self._record.name

    @property
    def flow_name(self) -> str | None:
        """The name of the flow it is a run of."""
        return self._record.flow_name

    @property
    def prompt_injection(self) -> bool:
        """Whether agents fill their prompts from the context."""
        return bool(self._settings.get("prompt_injection"))

    @property
    def status(self) -> Status:
        """Where the session stands; by the first cause, if several things ended it."""
        return self._record.ending.status

    @property
    def state_path(self) -> Path | None:
        """The file its state is saved to at its end, `None` if it is not saved."""
        return self._state_path

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around everything in the session but its final work. Its deadline is the session's."""
        return self._cancellation.scope

    @property
    def cancel_reason(self) -> str | None:
        """What `cancel` was given, if that was what ended the session."""
        cause = self._record.ending.cause
        return None if cause is None else cause.reason

    @property
    def info(self) -> ExecutionInfo:
        """The session and its calls as they stand now."""
        return self._record.info()

    @property
    def counts(self) -> Counts:
        """How many calls there are by status and by node; at any size it costs what was called since the last look."""
        return self._record.tree.counts()

    def payload(self) -> dict[str, Any]:
        """Return what the saved state says, as it stands now: plain data without secrets. Blocks until it is made."""
        return self._record.payload()

    def cancel(self, reason: str | None = None) -> None:
        """End the session: everything in it is cancelled, and its block ends quietly.

        Where a result was due, from a `Flow` or a decorated function, `SessionCancelledError` is raised there. Does
        nothing once the session has ended. From another thread: `trio.from_thread.run_sync(session.cancel)`.

        Args:
            reason: What `SessionCancelledError` says.
        """
        self._cancellation.cancel(EndCause(CauseKind.CANCEL, reason))

    async def drain(self, grace: float) -> None:
        """Let the session come to rest: new top-level calls are refused, the ones that run go on.

        So do calls made by running calls, and further attempts of a call. Services are cancelled, as the end of the
        block would do. What is left after the grace is cancelled, and the session ends as `cancel` ends it. Returns
        when no call of the session runs; its block goes on. A checkpoint; if it is cancelled the session stays closed
        to new calls. Does nothing once the session has ended.

        Args:
            grace: Seconds, 0 or more; `math.inf` to wait for as long as it takes.

        Raises:
            RuntimeError: If it is called in a node of the session, which would wait for itself.
            ContextError: If the session was not entered.
            TypeError: If `grace` is no number.
            ValueError: If `grace` is negative or NaN.
        """
        check_grace("grace", grace)
        if self._record.started_at is None:
            raise ContextError(f"session {self._record.ending.label!r} was not entered: use 'async with'")
        if self._lifetime is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._lifetime.drain(grace, CauseKind.CANCEL)

    def _drain_soon(self, grace: float) -> bool:
        """Begin to drain because of SIGTERM; a second time, cancel. Return whether there was anything to end.

        For signal handlers, through `TrioToken.run_sync_soon`: it returns at once.
        """
        if self._lifetime is not None:
            return self._lifetime.drain_soon(grace)
        if self._record.started_at is not None:
            return False
        self._cancellation.cancel(EndCause(CauseKind.SIGTERM, "SIGTERM"))
        return True

    @overload
    def start_soon(self, node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    @overload
    def start_soon(
        self, node: Callable[P, Coroutine[object, Never, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> PendingCall[R]: ...
    @overload
    def start_soon(self, node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    def start_soon(self, node: object, /, *args: object, **kwargs: object) -> PendingCall[object]:
        """Start a call in the background and return at once; the end of the block awaits it.

        It is a top-level call of this session, whatever task starts it. Its failure ends the session.

        Raises:
            NodeCreationError: If a node cannot be made of what was given.
            ContextError: If the session was not entered, or takes no more calls.
        """
        return self._open().background.start_soon(node, args, kwargs, is_service=False)

    @overload
    def start_service(self, node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    @overload
    def start_service(
        self, node: Callable[P, Coroutine[object, Never, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> PendingCall[R]: ...
    @overload
    def start_service(self, node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    def start_service(self, node: object, /, *args: object, **kwargs: object) -> PendingCall[object]:
        """Start a call in the background and return at once; the end of the block cancels it.

        Otherwise like `start_soon`.

        Raises:
            NodeCreationError: If a node cannot be made of what was given.
            ContextError: If the session was not entered, or takes no more calls.
        """
        return self._open().background.start_soon(node, args, kwargs, is_service=True)

    async def start(self, node: Callable[..., object], /, *args: object, **kwargs: object) -> Any:
        """Start a call in the background and wait until it says that it has started.

        Like `trio.Nursery.start`: the node gets a keyword argument `task_status` and must call `task_status.started()`.
        Until then it runs in the caller's scopes and its error is raised here; afterwards it is like a call that
        `start_soon` made. A checkpoint.

        Returns:
            What was given to `task_status.started`.

        Raises:
            RuntimeError: If the node returns without having started.
            NodeCreationError: If a node cannot be made of what was given.
            ContextError: If the session was not entered, or takes no more calls.
        """
        return await self._open().start(node, args, kwargs)

    async def enter_async_context(self, cm: AbstractAsyncContextManager[T]) -> T:
        """Open a resource of the session, which any of its calls may use, and which the session's end closes.

        It is entered and left in a task of its own, outside of what the session cancels, so it may hold nurseries and
        cancel scopes; these, and its context variables, do not reach the caller. If it fails later the session fails.
        Resources close in reverse order. A checkpoint; if it is cancelled while the resource opens, that is left again.

        Raises:
            ContextError: If the session was not entered, or takes no more resources; or if it is durable and this is
                a call that it records, below the entry point.
        """
        return await self._open().enter_resource(cm)

    def _open(self) -> Lifetime:
        if self._lifetime is None or not self._lifetime.is_open:
            problem = "was not entered: use 'async with'" if self._record.started_at is None else "takes no more calls"
            raise ContextError(f"session {self._record.ending.label!r} {problem}")
        return self._lifetime

    # Ctrl-C strikes between any two steps of unprotected code.

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Self:
        """Open the session; not a checkpoint, unless it is durable."""
        record = self._record
        if record.started_at is not None:
            raise RuntimeError(f"session {record.ending.label!r} was entered before: make a new one for each run")
        if self._store is not None and self._run is None:
            run = durable_wing().run_of_block(
                self._store,
                self._session_id,
                name=record.name,
                flow_name=record.flow_name,
                timeout=record.ending.timeout,
                may_be_new=self._may_be_new,
            )
            self._begin_with(run)
        plan = SessionPlan(self, record, self._settings, self._cancellation, self._state_path, self._run)
        self._lifetime = await open_lifetime(plan)
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Close the session, in the order that the class tells; a cancellation point where it waits for calls."""
        lifetime = self._lifetime
        assert lifetime is not None  # noqa: S101 - the block was entered
        try:
            return await lifetime.close(error)  # noqa: ASYNC102 - waits as a nursery does
        finally:
            self._lifetime = None
            # This frame is among those that the error holds.
            del error

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError("a session ends its tasks, which takes 'async with rt.Session()', not 'with'")

        __exit__ = __enter__


Session.__doc__ = documented(Session.__doc__ or "", DecoratorOptions)


def _given_identifier(options: SessionOptions) -> str | None:
    """Return the identifier of the durable session that is asked for, `None` if none is."""
    session_id, resume = options.get("session_id"), options.get("resume")
    if resume is not None and session_id is not None and resume != session_id:
        raise ValueError("resume and session_id name two sessions: give one of them")
    return session_id if resume is None else resume


def _store(options: SessionOptions, session_id: str | None) -> SessionStore | None:
    """Return the store of a durable session, `None` for any other."""
    durable = options.get("durable")
    if durable is None or durable is False:
        if session_id is not None:
            raise ValueError("resume and session_id are for durable sessions: give durable=True, a URL or a store")
        return None
    if session_id is not None:
        check_session_id(session_id)
    return durable_wing().store_of(durable)


# What flows need of a session, and users do not.


def session_of(run: DurableRun[Frame] | None, **options: Unpack[DecoratorOptions]) -> Session:
    """Return a session with these options, for a run that was taken from a store if there is one."""
    return Session(**options) if run is None else Session._of_run(run, **options)  # noqa: SLF001 - as said above


def drain_soon(session: Session, grace: float) -> bool:
    """Begin to drain a session because of SIGTERM; return whether there was anything to end."""
    return session._drain_soon(grace)  # noqa: SLF001 - the same


def current_session() -> Session:
    """Return the session that is open around this code, worker threads of its calls included.

    Raises:
        ContextError: If there is none, or it is over.
    """
    session = open_scope().session
    assert isinstance(session, Session)  # noqa: S101 - no other class opens sessions
    return session


def session_id() -> str | None:
    """Return the identifier of the session that is open around this code, `None` outside one."""
    scope = current_scope()
    return None if scope is None or scope.is_over else scope.record.identifier


async def result_of(session: Session, work: Callable[[], Coroutine[object, Never, R]]) -> R:
    """Run a session for the sake of one result.

    Raises:
        SessionCancelledError: If the session was ended by `Session.cancel`, so that there is none.
    """
    results: list[R] = []
    async with session:
        results.append(await work())
    if session.status is not Status.COMPLETED:
        raise SessionCancelledError(session.cancel_reason)
    return results[0]
