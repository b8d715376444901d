"""`rt.Session`: options, properties, background calls, and the block `async with`; and the functions that find it.

Called by users, by `Flow` and `@session`, and by calls that have no session around them. The work is done by the
`Lifetime`, which exists only while the block is open.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from inspect import Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Never, ParamSpec, Self, TypeVar, Unpack, overload

import trio

from railtracks._blocks import AsyncBlock
from railtracks._calls.frames import Frame
from railtracks._calls.pending import PendingCall
from railtracks._checks import check_count, check_grace, exact
from railtracks._extras import exports_package
from railtracks._nodes.node import Node
from railtracks._nodes.options import check_workers
from railtracks._option import documented, spelled_out
from railtracks._options import DecoratorOptions, SessionOptions
from railtracks._records.context_view import ContextView
from railtracks._records.ends import CauseKind, EndCause, Status
from railtracks._records.error_parts import text_of
from railtracks._records.files import current_folder
from railtracks._records.state_file import StateFile
from railtracks._sessions.cancellation import Cancellation
from railtracks._sessions.durable import durable_wing
from railtracks._sessions.given import Given, given_to_session
from railtracks._sessions.lifetime import Lifetime
from railtracks._sessions.opening import open_lifetime
from railtracks._sessions.plan import SessionPlan
from railtracks._traces import TraceParent, trace_parent_of
from railtracks.exceptions import ContextError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableRun
    from railtracks._records.data import Counts, ExecutionInfo

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Session(AsyncBlock):
    """A nursery for calls of nodes, with a cancel scope, a record, a context and a log of its own.

    Use it once, as `async with rt.Session(...) as session:`. To run a function in a new session at each call, use
    `@rt.session`; for an entry point that is invoked many times, a `Flow`.

    All calls made in the block, and all tasks that they started, end before the block is left. At its end services are
    cancelled and background calls are awaited; after an error, a timeout or a cancel all of them are cancelled and
    awaited. Then resources close and broadcasts are delivered, shielded, within `cleanup_timeout` seconds. Then the
    state is saved and `payload_callback` is called.

    The block raises the error that ended the session: one error bare, several as an `ExceptionGroup`. After a timeout
    it raises `SessionTimeoutError`. After `cancel` it raises nothing. The `Cancelled` of a scope around it goes on.

    The body of the block hears of an error that ends the session: if the error comes out of an `await rt.call(...)` of
    the body itself, that raises it, while everything else is cancelled. From then on each checkpoint of the body raises
    `Cancelled`. If the body ends without `Cancelled`, the block raises what the body raises, or nothing, and the status
    is `failed`. Errors of other tasks are raised all the same.

    Do not `yield` inside the block, except in an `asynccontextmanager`.

    Args:
        {options}

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If an option has an impossible value, or one that does not fit another option.
        ImportError: If `durable` is given and the extra `durable` is not installed.
    """

    __signature__: ClassVar[Signature] = spelled_out(DecoratorOptions, "context")
    _shown_as: ClassVar[str] = "rt.Session()"
    __slots__ = (
        "__weakref__",
        "_cancellation",
        "_given",
        "_is_in_new_task",
        "_kept",
        "_lifetime",
        "_record",
        "_run",
        "_state_file",
        "_trace",
    )

    def __init__(self, context: Mapping[str, Any] | None = None, **options: Unpack[SessionOptions]) -> None:
        given = given_to_session({"context": context, **options})
        values = {exact(key): value for key, value in (given.settings.get("context") or {}).items()}
        self._make(given, values, current_folder(), trace_parent_of(options.get("trace_parent")))

    def _make(
        self,
        given: Given,
        values: dict[str, object],
        folder: str | None,
        trace: TraceParent,
        run: DurableRun[Frame] | None = None,
    ) -> None:
        self._given = given
        self._record = record = given.new_record(values, None if run is None else run.session_id)
        self._cancellation = Cancellation(record)
        self._state_file = StateFile(record, bool(given.settings.get("save_state")), folder)
        self._trace = trace
        self._run = run
        self._lifetime: Lifetime | None = None
        self._is_in_new_task = False
        self._kept: dict[Hashable, object] = {}

    @classmethod
    def _of_flow(
        cls, given: Given, context: dict[str, object], folder: str | None, run: DurableRun[Frame] | None
    ) -> Self:
        """Return a session of a flow, see `session_of`."""
        session = cls.__new__(cls)
        session._make(given, context, folder, trace_parent_of(None), run)
        return session

    @property
    def identifier(self) -> str:
        """The unique identifier of the session.

        A durable session without the options `session_id` and `resume` gets its final identifier when it is entered.
        """
        return self._record.identifier

    @property
    def name(self) -> str | None:
        """The name that was given to the session, `None` if none was."""
        return self._record.name

    @property
    def flow_name(self) -> str | None:
        """The name of the flow that the session is a run of, `None` if there is none."""
        return self._record.flow_name

    @property
    def prompt_injection(self) -> bool:
        """Whether agents fill their prompts from the context."""
        return bool(self._given.settings.get("prompt_injection"))

    @property
    def status(self) -> Status:
        """The state of the session; if several causes ended it, the first one decides."""
        return self._record.ending.status

    @property
    def state_path(self) -> Path | None:
        """The file to which the session's state is saved at its end; `None` if it is not saved.

        It is `None`, too, once saving has failed: after the end a path stands for a file that was written.

        Raises:
            ValueError: Before the session is entered, if its state is to be saved, and `$RAILTRACKS_SAVE_STATE` says
                neither yes nor no.
        """
        return self._state_file.path

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The cancel scope around all calls of the session. Its deadline is that of the session's timeout.

        Resources, broadcasts and the other work at the end are outside of it.
        """
        return self._cancellation.scope

    @property
    def cancel_reason(self) -> str | None:
        """Why the session was cancelled: the reason given to `cancel`, or a text about SIGTERM or a drain."""
        cause = self._record.ending.cause
        return None if cause is None else cause.reason

    @property
    def info(self) -> ExecutionInfo:
        """The session and its calls as they are now, as plain records. Takes longer the more calls there are."""
        return self._record.info()

    @property
    def context(self) -> Mapping[str, Any]:
        """The values of the session's context: live, read-only, and still there after the end of the session.

        Before the session is entered these are the values that it was given. Nodes write with `rt.context.put`. Any
        thread may read it; `dict(session.context.items())` is a copy of one moment.
        """
        return ContextView(self._record.values)

    @property
    def counts(self) -> Counts:
        """How many calls there are by status and by node, and which calls are running.

        Quick at any size, as each look counts only the calls made since the last one. Right in any thread.
        """
        return self._record.tree.counts()

    def _repr_html_(self) -> str:
        """Return the session as a notebook shows it: static HTML, without scripts."""
        html: str = exports_package().cell_of(self)
        return html

    # Values are asked for their parts, and a `KeyboardInterrupt` that their code raises costs that value only. In Trio
    # the user's Ctrl-C comes at the next checkpoint (test_hostile_values.py::test_ctrl_c_is_not_taken_for_a_value's).
    @trio.lowlevel.enable_ki_protection
    def payload(self) -> dict[str, Any]:
        """Return the state as it would be saved now: plain data, without secrets. Blocks while it is made."""
        return self._record.payload()

    def cancel(self, reason: str | None = None) -> None:
        """Cancel all calls of the session and its block, and return at once.

        The block then ends without raising, even if its body ran to its end. A `Flow` and a decorated function have no
        result to return: they raise `SessionCancelledError`. Does nothing once the session has ended. From another
        thread use `trio.from_thread.run_sync(session.cancel)`.

        Args:
            reason: The text for `SessionCancelledError`.
        """
        self._check_run()
        self._cancellation.cancel(EndCause(CauseKind.CANCEL, None if reason is None else text_of(reason)))

    async def drain(self, grace: float) -> None:
        """Refuse new top-level calls from now on, and wait until the running calls of the session have ended.

        The running calls may go on making calls, further attempts and sessions. Services are cancelled. If calls still
        run after the grace, the session is cancelled, as by `cancel`, and they are awaited. The session's block goes
        on. Does nothing once the session has ended.

        Sessions inside this one, outside any of its calls, are drained with it: flows in tasks of its block, for
        example. The drain waits until they are over, but for those around the code that drains. New ones are refused.

        A checkpoint. If it is cancelled, the session still refuses new calls.

        Args:
            grace: Seconds, 0 or more; `math.inf` for no limit.

        Raises:
            RuntimeError: If it is called in a node of the session: it would wait for itself.
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
            self._check_run()
            await self._lifetime.drain(grace, CauseKind.CANCEL)

    def _drain_soon(self, grace: float) -> bool:
        """Begin to drain because of SIGTERM; the second time, cancel the session. Does not wait.

        A session that is not open yet is cancelled at once. Must be called in the Trio run: a signal handler uses
        `TrioToken.run_sync_soon`.

        Returns:
            Whether the signal was of use: `False` if the session had ended.
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
        """Start a call in the background, and return at once. The end of the block awaits the call. Not a checkpoint.

        It is a top-level call of this session, whatever task starts it. If it fails, the session fails: all other calls
        are cancelled, and the block raises the error.

        Args:
            node: A node, or a plain function.
            *args: Positional arguments of the node.
            **kwargs: Keyword arguments of the node.

        Raises:
            NodeCreationError: If a node cannot be made of `node`.
            ContextError: If the session was not entered, has ended or drains.
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
        """Start a service: a background call that the end of the block cancels. Otherwise like `start_soon`.

        Args:
            node: A node, or a plain function.
            *args: Positional arguments of the node.
            **kwargs: Keyword arguments of the node.

        Raises:
            NodeCreationError: If a node cannot be made of `node`.
            ContextError: If the session was not entered, has ended or drains.
        """
        return self._open().background.start_soon(node, args, kwargs, is_service=True)

    async def start(self, node: Callable[..., object], /, *args: object, **kwargs: object) -> Any:
        """Start a call in the background, and wait until its node calls `task_status.started()`.

        Like `trio.Nursery.start`: the node gets the keyword argument `task_status`. Until `started()` the call runs in
        the cancel scopes of the caller, and its error is raised here. Afterwards it is like a call of `start_soon`.

        A checkpoint. If it is cancelled before `started()`, so is the call.

        Args:
            node: A node, or a plain function, that takes `task_status`. A sync one may call `started()` in its thread.
            *args: Positional arguments of the node.
            **kwargs: Further keyword arguments of the node.

        Returns:
            The value that the node gave to `task_status.started`.

        Raises:
            RuntimeError: If the node returns without a call of `started()`.
            NodeCreationError: If a node cannot be made of `node`, or runs in another process.
            ContextError: If the session was not entered, has ended or drains, or ends before `started()`.
            BaseException: What the node raises before `started()`.
        """
        return await self._open().start(node, args, kwargs)

    async def start_workers(self, count: int) -> None:
        """Start worker processes before nodes with `run_in="process"` need them, and wait until they are ready.

        Worker processes belong to the outermost session of a Trio run, and sessions inside it use the same. Those of
        flows in asyncio belong to the process's Trio thread, and outlive the session. They import the modules in which
        such nodes were made until now.

        A checkpoint. If it is cancelled, the processes go on starting.

        Args:
            count: How many worker processes there shall be, at most `set_config(process_limit=...)`.

        Raises:
            TypeError: If `count` is no whole number.
            ValueError: If `count` is less than 1, or more than the limit.
            ImportError: If the extra `process` is not installed.
            RuntimeError: If this system has no worker processes: they need POSIX.
            ContextError: If the session was not entered or has ended.
            WorkerCrashedError: If a process ended as it started.
        """
        check_count("count", count)
        check_workers()
        await self._open().worker_processes().start(count)

    async def enter_async_context(self, cm: AbstractAsyncContextManager[T]) -> T:
        """Open a resource that any call of the session may use, and that the end of the session closes.

        The context manager is entered and left in a task of its own, which the session's cancel does not reach. So it
        may hold nurseries and cancel scopes. These, and context variables that it sets, have no effect in the caller.
        If it raises while the session is open, the session fails. Resources close in reverse order of their opening.

        A checkpoint. If it is cancelled while the resource opens, the resource is closed again.

        Args:
            cm: The asynchronous context manager.

        Returns:
            The value that `cm` gives when it is entered.

        Raises:
            ContextError: If the session was not entered or has ended, or ends before the resource is open. In a durable
                session also inside a recorded call other than the entry point of a flow.
            TypeError: If `cm` is no asynchronous context manager.
            BaseException: What `cm` raises while it is entered.
        """
        return await self._open().enter_resource(cm)

    async def shared_resource(self, key: Hashable, factory: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return a resource that only carries requests, such as a client: opened once, on first use, by any call.

        The end of the session closes it, as with `enter_async_context`. It is no part of a durable session's record. So
        it may also be asked for inside recorded calls, and a replay does not open it.

        A checkpoint. If the opening fails or is cancelled, the next caller tries again.

        Args:
            key: What tells resources of the session apart.
            factory: Makes the asynchronous context manager.

        Returns:
            The value that the context manager gave when it was entered.

        Raises:
            ContextError: If the session was not entered or has ended, or ends before the resource is open.
            BaseException: What `factory` raises, or the context manager while it is entered.
        """
        return await self._open().resources.share(key, factory)

    def _check_run(self) -> None:
        """Refuse code in another Trio run than the session's, or in a thread: Trio's objects belong to one run."""
        if self._lifetime is None or self._record.is_inherited or self._lifetime.is_of_this_run:
            return
        label = self._record.ending.label
        if trio.lowlevel.in_trio_run():
            raise ContextError(f"session {label!r} belongs to another Trio run than this code: open a session here")
        raise RuntimeError(
            f"session {label!r} belongs to a Trio run, and this code is not in it: in the thread of a sync node use"
            " trio.from_thread.run_sync(...) for its methods, and trio.from_thread.run(...) for those that are awaited"
        )

    def _open(self) -> Lifetime:
        self._check_run()
        if self._record.is_inherited:
            raise ContextError(
                f"session {self._record.ending.label!r} is one of the process that this one was forked from: open a"
                " session here, and pass it values as arguments"
            )
        if self._lifetime is None or not self._lifetime.is_open:
            problem = (
                "was not entered: use 'async with'"
                if self._record.started_at is None
                else "takes no more calls and resources: it is ending or has ended"
            )
            raise ContextError(f"session {self._record.ending.label!r} {problem}")
        return self._lifetime

    # Protected from Ctrl-C, which would otherwise strike between any two steps and leave a half-opened session behind.

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Self:
        """Open the session. Not a checkpoint, unless the session is durable."""
        record = self._record
        if record.started_at is not None:
            raise RuntimeError(
                f"session {record.ending.label!r} was entered before: make a new rt.Session for each run"
            )
        given = self._given
        if given.store is not None and self._run is None:
            self._run = durable_wing().run_of_block(
                given.store,
                given.session_id,
                name=record.name,
                flow_name=record.flow_name,
                timeout=record.ending.timeout,
                may_be_new=given.may_be_new,
            )
            record.identify(self._run.session_id)
        self._state_file.settle()
        plan = SessionPlan(
            self, record, given.settings, self._cancellation, self._state_file, self._run, self._is_in_new_task
        )
        self._trace.join()
        try:
            self._lifetime = await open_lifetime(plan)
        except BaseException:
            self._trace.leave()
            raise
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Close the session as the class describes. A cancellation point where it waits for calls."""
        lifetime = self._lifetime
        assert lifetime is not None  # noqa: S101 - the block was entered
        try:
            return await lifetime.close(error)  # noqa: ASYNC102 - waits as a nursery does
        finally:
            self._lifetime = None
            self._trace.leave()
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error


Session.__doc__ = documented(Session.__doc__ or "", DecoratorOptions)
