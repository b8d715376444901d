"""A session as users hold it: its options, what it tells of itself, and what may be started in it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypeVar, overload

import trio

from railtracks._calls import call as _invoke
from railtracks._calls.durable_protocol import DurableRun, durable_wing
from railtracks._calls.frames import current_scope, open_scope
from railtracks._calls.pending import PendingCall
from railtracks._nodes.node import Node
from railtracks._options import BroadcastCallback, DurableOption, LoggingSetting, Options, PayloadCallback, resolve
from railtracks._records.ending import Ending
from railtracks._records.files import is_safe_name, state_path
from railtracks._records.history import BoundedCallTree
from railtracks._records.session import SessionRecord
from railtracks._records.tree import CallTree, CauseKind, EndCause, ExecutionInfo, Status
from railtracks._sessions.lifetime import Lifetime
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
        context: Values for `rt.context`, which all nodes of the session share.
        name: What the session is called; also the name of its state file. A later session of the same name overwrites
            it.
        flow_name: The flow that it is a run of.
        flow_id: An id for that flow, only recorded.
        timeout: The seconds until everything in the session is cancelled and `SessionTimeoutError` is raised. They stop
            counting when the block is left and background calls have ended. `math.inf`: none, the default.
        end_on_error: Whether the failure of any call ends the session with that error, whoever would have caught it.
        logging_setting: Show this session's log records from this level on, on stderr. `NONE`: show none.
        log_file: Append this session's log records to a file, from `INFO` on or from the level of `logging_setting`.
        broadcast_callback: Where `rt.broadcast` hands its items: an async function, or a sync one that is run in a
            thread. Its errors are logged and change nothing.
        prompt_injection: Whether agents fill their prompts from the context; they read it off the session.
        save_state: Whether the session is written to `$RAILTRACKS_HOME` at its end; the default is that it is.
        payload_callback: Called with `payload()` after the state was saved, like `broadcast_callback`, and cancelled
            after `cleanup_timeout` seconds. Its failure is logged.
        cleanup_timeout: The seconds that resources and broadcasts together may take at the end, by default 5.
        history_limit: How many finished calls the record keeps, the last ones, besides all that run. The others are
            counted. `math.inf`: all of them, the default.
        durable: Record the calls, so that a session which was killed can be resumed: `True` for the default store, a
            path or a URL, or an `rt.DurableStore`. Needs the extra `durable`. Its end then waits for the store.
        resume: The identifier of a durable session to go on with. The block is run again, and calls that are recorded
            hand their outcomes over instead of running.
        session_id: The identifier of a new durable session, by default a fresh one. If there is one already, as
            `resume`.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If an option has a value that it cannot have.
    """

    def __init__(
        self,
        context: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        flow_name: str | None = None,
        flow_id: str | None = None,
        timeout: float | None = None,
        end_on_error: bool | None = None,
        logging_setting: LoggingSetting | None = None,
        log_file: str | os.PathLike[str] | None = None,
        broadcast_callback: BroadcastCallback | None = None,
        prompt_injection: bool | None = None,
        save_state: bool | None = None,
        payload_callback: PayloadCallback | None = None,
        cleanup_timeout: float | None = None,
        history_limit: float | None = None,
        durable: DurableOption = None,
        resume: str | None = None,
        session_id: str | None = None,
    ) -> None:
        names: dict[str, object] = {
            "name": name,
            "flow_name": flow_name,
            "flow_id": flow_id,
            "resume": resume,
            "session_id": session_id,
        }
        for what, text in names.items():
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{what} must be a string, not {type(text).__name__}")
        options = resolve(
            Options(
                context=context,
                timeout=timeout,
                end_on_error=end_on_error,
                logging_setting=logging_setting,
                log_file=log_file,
                broadcast_callback=broadcast_callback,
                prompt_injection=prompt_injection,
                save_state=save_state,
                payload_callback=payload_callback,
                cleanup_timeout=cleanup_timeout,
                history_limit=history_limit,
            )
        )
        self._prompt_injection = options.prompt_injection
        if resume is not None and session_id is not None and resume != session_id:
            raise ValueError("resume and session_id name two sessions: give one of them")
        given = session_id if resume is None else resume
        identifier = os.urandom(16).hex() if given is None else given
        run: DurableRun | None = None
        if durable is None or durable is False:
            if given is not None:
                raise ValueError("resume and session_id are for durable sessions: give durable=True, a URL or a store")
        elif isinstance(durable, DurableRun):
            # A flow has taken it already.
            run = durable
        else:
            run = self._durable_run(durable, given, name, flow_name, options.timeout, may_be_new=resume is None)
            identifier = run.session_id
        self._ending = Ending(name or flow_name or identifier, options.timeout)
        values = dict(options.context or {})
        limit = options.history_limit
        tree = CallTree() if limit == math.inf else BoundedCallTree(int(limit))
        self._record = SessionRecord(identifier, name, flow_name, flow_id, self._ending, values, tree)
        self._state_path = state_path(identifier, name, flow_name) if options.save_state else None
        self._lifetime = Lifetime(self, self._record, options, self._state_path, run)

    @staticmethod
    def _durable_run(
        durable: DurableOption,
        given: str | None,
        name: str | None,
        flow_name: str | None,
        timeout: float,
        *,
        may_be_new: bool,
    ) -> DurableRun:
        """Return what is to take the session that was asked for; inside a durable one each block has its own."""
        if given is not None and not is_safe_name(given):
            raise ValueError(f"the identifier of a session must be a safe file name, not {given!r}")
        wing = durable_wing()
        inside = wing.block_here(name or flow_name or "") if given is None else None
        identifier, seed, parent = inside or (given or os.urandom(16).hex(), None, None)
        wanted = wing.Wanted(
            session_id=identifier,
            flow_name=flow_name,
            version=None,
            entry_point=None,
            inputs=None,
            inputs_print=None,
            session_name=name,
            timeout=None if timeout == math.inf else timeout,
            may_be_new=may_be_new,
            seed=seed,
            parent=parent,
        )
        run: DurableRun = wing.Run(wing.access_of(wing.store_of(durable)), wanted)
        return run

    @property
    def identifier(self) -> str:
        """A string that no other session has."""
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
        return self._prompt_injection

    @property
    def status(self) -> Status:
        """Where the session stands; by the first cause, if several things ended it."""
        return self._ending.status

    @property
    def state_path(self) -> Path | None:
        """The file its state is saved to at its end, `None` if it is not saved."""
        return self._state_path

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around everything in the session but its final work. Its deadline is the session's."""
        return self._lifetime.cancel_scope

    @property
    def cancel_reason(self) -> str | None:
        """What `cancel` was given, if that was what ended the session."""
        return None if self._ending.cause is None else self._ending.cause.reason

    @property
    def info(self) -> ExecutionInfo:
        """The session and its calls as they stand now."""
        return self._record.info()

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
        self._lifetime.cancel(EndCause(CauseKind.CANCEL, reason))

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
        if isinstance(grace, bool) or not isinstance(grace, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
            raise TypeError(f"grace must be a number of seconds, not {type(grace).__name__}")
        if not grace >= 0:
            raise ValueError(f"grace must be 0 seconds or more, not {grace!r}")
        if self._record.started_at is None:
            raise ContextError(f"session {self._ending.label!r} was not entered: use 'async with'")
        await self._lifetime.drain(grace, CauseKind.CANCEL)

    def _drain_soon(self, grace: float) -> bool:
        """Begin to drain because of SIGTERM; a second time, cancel. Says whether there was anything to end.

        For signal handlers, through `TrioToken.run_sync_soon`: it returns at once.
        """
        return self._lifetime.drain_soon(grace)

    @overload
    def start_soon(self, node: Node[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    @overload
    def start_soon(
        self, node: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> PendingCall[R]: ...
    @overload
    def start_soon(self, node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    def start_soon(self, node: Any, /, *args: Any, **kwargs: Any) -> PendingCall[Any]:
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
        self, node: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> PendingCall[R]: ...
    @overload
    def start_service(self, node: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PendingCall[R]: ...
    def start_service(self, node: Any, /, *args: Any, **kwargs: Any) -> PendingCall[Any]:
        """Start a call in the background and return at once; the end of the block cancels it.

        Otherwise like `start_soon`.

        Raises:
            NodeCreationError: If a node cannot be made of what was given.
            ContextError: If the session was not entered, or takes no more calls.
        """
        return self._open().background.start_soon(node, args, kwargs, is_service=True)

    async def start(self, node: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
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
        lifetime = self._open()
        lifetime.refuse_resource()
        return await lifetime.resources.enter(cm)

    def _open(self) -> Lifetime:
        if not self._lifetime.is_open:
            problem = "was not entered: use 'async with'" if self._record.started_at is None else "takes no more calls"
            raise ContextError(f"session {self._ending.label!r} {problem}")
        return self._lifetime

    # Ctrl-C strikes between any two steps of unprotected code.

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Self:
        """Open the session; not a checkpoint."""
        await self._lifetime.open()
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Close the session, in the order that the class tells; a cancellation point where it waits for calls."""
        return await self._lifetime.close(error)  # noqa: ASYNC102 - waits as a nursery does

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError("a session ends its tasks, which takes 'async with rt.Session()', not 'with'")

        __exit__ = __enter__


# A call with no session around it opens one; the room of calls lies below this one.
_invoke.default_session = Session


def current_session() -> Session:
    """Return the session that is open around this code, worker threads of its calls included.

    Raises:
        ContextError: If there is none, or it is over.
    """
    session: Session = open_scope().face
    return session


def session_id() -> str | None:
    """Return the identifier of the session that is open around this code, `None` outside one."""
    scope = current_scope()
    return None if scope is None or scope.is_over else scope.identifier


async def result_of(session: Session, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
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
