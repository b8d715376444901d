"""A session: a nursery inside a cancel scope, its deadline, its tree, its resources, and the order of its end."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Token
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar, overload

import trio

from railtracks import _invoke
from railtracks._background import Background
from railtracks._broadcast import Broadcaster, call_back
from railtracks._ending import Cause, Ending
from railtracks._errors import came_from_cleanup, combined, described, is_fatal, raise_unchanged, without_cancelled
from railtracks._pending import PendingCall, close_nursery
from railtracks._logging import SessionLog
from railtracks._nodes import Node
from railtracks._options import BroadcastCallback, LoggingSetting, Options, PayloadCallback, resolve
from railtracks._resources import Resources
from railtracks._saved_state import chunks, payload, safe_text
from railtracks._scope import Frame, SessionScope, current_frame, current_scope, current_task, enclosing_frame, open_scope
from railtracks._store import state_path, write_whole
from railtracks._tree import CallError, CallTree, ExecutionInfo, Status, utc
from railtracks._workers import saving_limiter
from railtracks.exceptions import ContextError, SessionCancelledError

_LOGGER: Final = "RT.Session"

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Session:
    """A run: the calls made in its block, and everything they started, end before the block is left.

    Use it as `async with rt.Session(...) as session:`, once. For a function that is a run each time use `@rt.session`,
    for an entry point that is invoked again and again a `Flow`.

    When the block is left, services are cancelled and background calls awaited; on an error, a timeout or a cancel all of
    them are cancelled and awaited. Then resources close and broadcasts are delivered, then the state is saved.

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
        prompt_injection: Whether agents fill their prompts from the context; kept for them.
        save_state: Whether the session is written to `$RAILTRACKS_HOME` at its end; the default is that it is.
        payload_callback: Called with `payload()` after the state was saved, like `broadcast_callback`, and cancelled after
            `cleanup_timeout` seconds. Its failure is logged.
        cleanup_timeout: The seconds that resources and broadcasts together may take at the end, by default 5.

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
    ) -> None:
        for what, text in (("name", name), ("flow_name", flow_name), ("flow_id", flow_id)):
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{what} must be a string, not {type(text).__name__}")
        self._options = resolve(
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
            )
        )
        self._name, self._flow_name, self._flow_id = name, flow_name, flow_id
        self._identifier = os.urandom(16).hex()
        self._cancel_scope = trio.CancelScope()
        self._ending = Ending(name or flow_name or self._identifier, self._options.timeout or math.inf)
        self._tree = CallTree()
        self._values = dict(self._options.context or {})
        self._started_at: float | None = None
        self._ended_at: float | None = None
        self._error: CallError | None = None
        self._raised: BaseException | None = None
        self._background: Background | None = None
        self._broadcaster: Broadcaster | None = None
        self._watching = trio.CancelScope()
        self._is_watched = False
        self._log: SessionLog
        self._scope: SessionScope
        self._root: Frame
        self._token: Token[Frame | None]
        self._around: AbstractAsyncContextManager[trio.Nursery]
        self._around_nursery: trio.Nursery
        self._inside: AbstractAsyncContextManager[trio.Nursery]
        self._nursery: trio.Nursery
        self._resources: Resources
        self._state_path = state_path(self._identifier, name, flow_name) if self._options.save_state else None

    @property
    def identifier(self) -> str:
        """A string that no other session has."""
        return self._identifier

    @property
    def name(self) -> str | None:
        """The name it was given."""
        return self._name

    @property
    def flow_name(self) -> str | None:
        """The name of the flow it is a run of."""
        return self._flow_name

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
        return self._cancel_scope

    @property
    def cancel_reason(self) -> str | None:
        """What `cancel` was given, if that was what ended the session."""
        return self._ending.reason

    @property
    def info(self) -> ExecutionInfo:
        """The session and its calls as they stand now."""
        return self._head(tuple(call.record() for call in self._tree.calls))

    def payload(self) -> dict[str, Any]:
        """Return what the saved state says, as it stands now: plain data without secrets."""
        return payload(self._head(), self._tree.calls, self._values)

    def _head(self, calls: tuple[Any, ...] = ()) -> ExecutionInfo:
        return ExecutionInfo(
            session_id=self._identifier,
            session_name=self._name,
            flow_name=self._flow_name,
            flow_id=self._flow_id,
            status=self._ending.status,
            started_at=None if self._started_at is None else utc(self._started_at),
            ended_at=None if self._ended_at is None else utc(self._ended_at),
            timeout=None if self._ending.timeout == math.inf else self._ending.timeout,
            error=self._error,
            context_keys=tuple(self._values),
            calls=calls,
        )

    def cancel(self, reason: str | None = None) -> None:
        """End the session: everything in it is cancelled, and its block ends quietly.

        Where a result was due, from a `Flow` or a decorated function, `SessionCancelledError` is raised there. Does
        nothing once the session has ended. From another thread: `trio.from_thread.run_sync(session.cancel)`.

        Args:
            reason: What `SessionCancelledError` says.
        """
        if self._ending.note(Cause.CANCEL):
            self._ending.reason = reason
        self._cancel_scope.cancel()

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
            ContextError: If the session was not entered, or takes no more calls.
        """
        return self._open_background().start_soon(node, args, kwargs, is_service=False)

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
            ContextError: If the session was not entered, or takes no more calls.
        """
        return self._open_background().start_soon(node, args, kwargs, is_service=True)

    async def start(self, node: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a call in the background and wait until it says that it has started.

        Like `trio.Nursery.start`: the node gets a keyword argument `task_status` and must call `task_status.started()`.
        Until then it runs in the caller's scopes and its error is raised here; afterwards it is like a call that
        `start_soon` made. A checkpoint.

        Returns:
            What was given to `task_status.started`.

        Raises:
            RuntimeError: If the node returns without having started.
            ContextError: If the session was not entered, or takes no more calls.
        """
        return await self._open_background().start(node, args, kwargs)

    async def enter_async_context(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Open a resource of the session, which any of its calls may use, and which the session's end closes.

        It is entered and left in a task of its own, outside of what the session cancels, so it may hold nurseries and
        cancel scopes; these, and its context variables, do not reach the caller. If it fails later the session fails.
        Resources close in reverse order. A checkpoint; if it is cancelled while the resource opens, that is left again.

        Raises:
            ContextError: If the session was not entered, or takes no more resources.
        """
        self._open_background()
        return await self._resources.enter(manager)

    def _open_background(self) -> Background:
        if self._background is None:
            state = "is over" if self._ended_at is not None else "was not entered: use 'async with'"
            raise ContextError(f"session {self._ending.label!r} {state}")
        return self._background

    # The order of a session's life, from here on. Ctrl-C strikes between any two steps of unprotected code.

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Session:
        """Open the session; not a checkpoint."""
        if self._started_at is not None:
            raise RuntimeError(f"session {self._ending.label!r} was entered before: make a new one for each run")
        task = current_task()
        options = self._options
        outer = enclosing_frame(task)
        self._log = SessionLog(self._identifier, options.logging_setting, options.log_file)
        self._started_at = time.time()
        self._around = trio.open_nursery()
        self._around_nursery = await self._around.__aenter__()
        self._resources = Resources(self._around_nursery, self._fail)
        scope = SessionScope(
            identifier=self._identifier,
            label=self._ending.label,
            values=self._values,
            tree=self._tree,
            end_on_error=bool(options.end_on_error),
            face=self,
            end=self._end,
            watch=self._watch,
            broadcast=self._broadcast,
            observers=self._log.observers(),
        )
        self._scope = scope
        depth = outer.depth if outer is not None and outer.task is task else 0
        self._root = Frame(scope, None, outer, task, depth, len(task.child_nurseries))
        self._token = current_frame.set(self._root)
        if self._ending.timeout != math.inf:
            self._cancel_scope.deadline = trio.current_time() + self._ending.timeout
        self._cancel_scope.__enter__()
        self._inside = trio.open_nursery()
        self._nursery = await self._inside.__aenter__()
        self._background = Background(self._nursery, self._root, self._fail)
        if self._ending.timeout != math.inf:
            self._watch()
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Close the session, in the order that the class tells. A checkpoint."""
        outside = await self._end_calls(error)
        self._background = None
        if self._has_final_work():
            self._around_nursery.start_soon(self._do_final_work, outside)
        else:
            self._decide(outside)
        rest = await close_nursery(self._around, None)
        interrupt = None if rest is None else without_cancelled(rest)
        raised = self._raised if interrupt is None else combined([interrupt])
        self._scope.is_over = True
        self._root.task = None
        self._log.close()
        # In another context than the one it was entered in, the variable was never set.
        with suppress(ValueError):
            current_frame.reset(self._token)
        self._raised = None
        if raised is None or raised is error:
            return raised is None
        raise_unchanged(raised)

    async def _end_calls(self, error: BaseException | None) -> BaseException | None:
        """Wait until no call runs any more; return the `Cancelled` of a scope around the session, if there is one."""
        assert self._background is not None
        if error is None:
            try:
                await self._background.drain()
            except trio.Cancelled as cancelled:
                error = cancelled
        if error is not None:
            real = without_cancelled(error)
            if real is None or (came_from_cleanup(real) and trio.current_effective_deadline() == -math.inf):
                self._note_cancelled()
            if real is not None:
                self._fail(real)
                error = None
        else:
            self._cancel_scope.deadline = math.inf
            self._watching.cancel()
        rest = await close_nursery(self._inside, error)
        try:
            if self._cancel_scope.__exit__(None if rest is None else type(rest), rest, None):
                rest = None
        except BaseException as remaining:  # noqa: BLE001 - what is left of a group; decided on with everything else
            rest = remaining
        if self._cancel_scope.cancelled_caught:
            self._note_cancelled()
        interrupt = None if rest is None else without_cancelled(rest)
        if interrupt is not None:
            self._fail(interrupt)
        return rest if interrupt is None else None

    def _has_final_work(self) -> bool:
        options = self._options
        return bool(
            options.save_state or options.payload_callback or self._broadcaster is not None or not self._resources.are_none
        )

    @trio.lowlevel.enable_ki_protection
    async def _do_final_work(self, outside: BaseException | None) -> None:
        # In a task of its own: a Ctrl-C that struck the main task in here would otherwise cut the work short
        # (test_cancellation.py::test_ctrl_c_while_a_resource_closes_still_saves_the_state).
        with trio.CancelScope(shield=True):
            await self._release()
            self._decide(outside)
            if self._state_path is not None:
                await self._save(self._state_path)
            if self._options.payload_callback is not None:
                await self._hand_out_payload(self._options.payload_callback)

    async def _release(self) -> None:
        """Close resources and deliver broadcasts, within `cleanup_timeout`."""
        seconds = self._options.cleanup_timeout or math.inf
        with trio.move_on_after(seconds):
            await self._resources.close()
            if self._broadcaster is not None:
                await self._broadcaster.close()
            return
        resources = self._resources.abandon()
        items = 0 if self._broadcaster is None else self._broadcaster.abandon()
        self._log.log(
            logging.WARNING,
            f"cleanup did not finish within its {seconds:g} seconds (cleanup_timeout): "
            f"{resources} resources were cancelled while they closed, {items} broadcasts were not delivered",
            logger=_LOGGER,
        )
        await self._resources.wait_closed()
        if self._broadcaster is not None:
            await self._broadcaster.wait_done()

    def _decide(self, outside: BaseException | None) -> None:
        self._tree.close_what_is_open()
        self._raised = self._ending.decide(outside)
        self._ended_at = time.time()
        told = self._ending.told(self._raised)
        self._error = None if told is None else described(told)

    async def _save(self, path: Path) -> None:
        try:
            await trio.to_thread.run_sync(self._write, path, limiter=saving_limiter())
        except Exception as error:  # noqa: BLE001 - whatever went wrong must not replace the result of the run
            self._log.log(logging.ERROR, f"could not save the state to {path}: {error}", logger=_LOGGER)

    def _write(self, path: Path) -> None:
        if path.name == f"{self._identifier}.json" and (self._name is not None or self._flow_name is not None):
            called = self._flow_name if self._name is None else self._name
            text = f"{called!r} is no safe file name, saving to {path} instead"
            self._log.log(logging.WARNING, text, logger=_LOGGER)
        elif path.exists():
            self._log.log(logging.WARNING, f"File {path} already exists, overwriting...", logger=_LOGGER)
        write_whole(path, chunks(self._head(), self._tree.calls, self._values))

    async def _hand_out_payload(self, callback: PayloadCallback) -> None:
        seconds = self._options.cleanup_timeout or math.inf
        try:
            with trio.fail_after(seconds):
                await call_back(callback, await trio.to_thread.run_sync(self.payload, limiter=saving_limiter()))
        except Exception as error:  # noqa: BLE001 - a callback's failure is logged and changes nothing
            self._report("payload_callback failed", error, None)

    # What the calls of the session, and the tasks beside them, reach it by.

    def _fail(self, error: BaseException) -> None:
        """End the session with an error that nobody else will raise."""
        self._ending.add(error)
        self._cancel_scope.cancel()

    def _end(self, error: BaseException) -> bool:
        """End the session with a call's error, unless it is ending already and the error is an ordinary one."""
        if self._ending.cause is not None and not is_fatal(error):
            return False
        self._fail(error)
        return True

    def _note_cancelled(self) -> None:
        """Note, if nothing is known yet, whose cancel reached the session."""
        if not self._cancel_scope.cancel_called:
            self._ending.note(Cause.OUTSIDE)
        elif trio.current_time() >= self._cancel_scope.deadline:
            self._ending.note(Cause.TIMEOUT)
        else:
            self._ending.note(Cause.CANCEL)

    def _watch(self) -> None:
        """Have a task that sees at once when the session is cancelled: by what, and who keeps it waiting then."""
        if not self._is_watched:
            self._is_watched = True
            self._nursery.start_soon(self._watch_for_cancel, name="railtracks: watch for cancel")

    async def _watch_for_cancel(self) -> None:
        with self._watching:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                if not self._watching.cancel_called:
                    self._note_cancelled()
                    self._name_who_keeps_waiting()
                raise

    def _name_who_keeps_waiting(self) -> None:
        for node in sorted(set(self._scope.workers.values())):
            text = f"session {self._ending.label!r} is ending and waits for node {node!r}: a worker thread cannot be stopped"
            self._log.log(logging.WARNING, text, logger=_LOGGER)

    async def _broadcast(self, item: Any) -> None:
        callback = self._options.broadcast_callback
        if callback is None:
            await trio.lowlevel.checkpoint()
            return
        if self._broadcaster is None:
            self._broadcaster = Broadcaster(callback, self._report)
            self._around_nursery.start_soon(self._broadcaster.deliver, name="railtracks: broadcast")
        await self._broadcaster.send(item)

    def _report(self, what: str, error: BaseException, item: Any) -> None:
        text = safe_text(described(error).traceback, *self._values.items(), (None, item))
        self._log.log(logging.ERROR, f"{what}\n{text}", logger=_LOGGER)

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError("a session ends its tasks, which takes 'async with rt.Session()', not 'with'")

        def __exit__(self, *_: object) -> NoReturn:
            raise AssertionError("never called, because __enter__ raises")


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
