"""The lifetime of a session: its nurseries and its cancel scope, until the end.

Made by `opening` when the session's block is entered, and called by `Session` when it is left. All that exists only
while the session is open belongs to one object, the `Lifetime`. `Session` drops it when the session has ended.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Token
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from railtracks._calls.frames import Frame, SessionScope, current_frame
from railtracks._calls.here import frame_in, with_slot_lent
from railtracks._config import required
from railtracks._records.ends import CauseKind
from railtracks._records.errors import bare, combined, is_fatal, members, raise_unchanged, without_cancelled
from railtracks._records.events import BroadcastEvent, EventKind, SessionEvent, now
from railtracks._records.log import SessionLog
from railtracks._records.observers import Audience, tell
from railtracks._sessions.background import Background
from railtracks._sessions.broadcast import Broadcaster, CallbackFailures
from railtracks._sessions.cancellation import CancelWatcher
from railtracks._sessions.drain import Drain
from railtracks._sessions.final_work import FinalWork
from railtracks._sessions.outer_nursery import EnteredNursery, OuterNursery
from railtracks._sessions.plan import OpenNursery, SessionPlan
from railtracks._sessions.resources import Resources
from railtracks._sessions.root import root_frame
from railtracks._sessions.run_processes import processes_of_run
from railtracks.exceptions import FatalError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableRun, SessionJournal
    from railtracks._calls.durable_values import Args, Kwargs
    from railtracks._calls.session_control import InnerDrain, WorkerProcesses

T = TypeVar("T")


class Lifetime:
    """The nurseries, scopes and parts of one open session.

    There are two nurseries, and the session's cancel scope is between them. The outer nursery holds the tasks that
    outlive the calls: resources, broadcasts, the final work. In a main task Trio's own nursery takes its place
    (`NurseryOfTrio`). The inner nursery holds the background calls, and the session's cancel reaches it.

    Implements `SessionControl`, the part that calls use.

    Attributes:
        is_open: Whether the session takes background calls and resources.
        is_heard: Whether there is a callback for its broadcasts.
        background: The background calls.
        resources: The resources.
    """

    __slots__ = (
        "_drain",
        "_final_work",
        "_inner_nursery",
        "_outer_nursery",
        "_plan",
        "_root",
        "_token",
        "_watcher",
        "background",
        "is_heard",
        "is_open",
        "resources",
    )

    def __init__(  # noqa: PLR0917 - what a session is opened with
        self,
        plan: SessionPlan,
        log: SessionLog,
        journal: SessionJournal[Frame] | None,
        outer_nursery: OuterNursery,
        inner_nursery: OpenNursery,
        outer: Frame | None,
        task: trio.lowlevel.Task,
        nursery_count: int,
    ) -> None:
        self.is_open = True
        self._plan = plan
        self._outer_nursery = outer_nursery
        self._inner_nursery = inner_nursery
        self._root = root_frame(plan, self, log, journal, outer, task, nursery_count)
        self.resources = Resources(outer_nursery, plan.cancellation.fail)
        self.background = Background(inner_nursery.nursery, self._root, plan.cancellation.fail)
        broadcaster: Broadcaster | None = None
        callback = plan.settings.get("broadcast_callback")
        self.is_heard = callback is not None
        if callback is not None:
            failures = CallbackFailures(plan.record, log)
            broadcaster = Broadcaster(callback, outer_nursery, failures, journal, plan.cancellation.fail)
        self._final_work = FinalWork(
            plan.record, plan.settings, plan.state_file, log, self.resources, broadcaster, plan.durable
        )
        outer_nursery.clean_up_by(self._final_work.clean_up)
        # Made by the first `watch`.
        self._watcher: CancelWatcher | None = None
        cleanup_timeout = required(plan.settings.get("cleanup_timeout"))
        self._drain = Drain(self._root, self.background, plan.cancellation, inner_nursery.nursery, cleanup_timeout)
        # Last: nothing that raises comes after it.
        self._token: Token[Frame | None] = current_frame.set(self._root)

    def begin(self) -> None:
        """Start the tasks that serve the session, and report to observers that the session is open."""
        plan, observers = self._plan, self._root.scope.observers
        self._drain.enter()
        # Only with a deadline: the timeout must be noted as the cause before errors of cleanups are.
        if plan.cancellation.scope.deadline != math.inf:
            self.watch()
        journal = self._root.scope.journal
        if plan.durable is not None and journal is not None:
            self._resume(plan.durable, journal)
        if observers.session_opened:
            self._tell(EventKind.SESSION_OPENED, observers.session_opened)
        if plan.state_file.is_wanted:
            plan.state_file.warn_if_homeless(self._final_work.log)

    def _tell(self, kind: EventKind, audience: Audience) -> None:
        """Tell observers that the session was opened or closed."""
        outer = self._root.outer
        session_id, call_id = (None, None) if outer is None else (outer.scope.record.identifier, outer.call_id)
        record = self._plan.record
        parts = record.tree, record.ending.timeouts, record.head, self._plan.durable
        tell(audience, SessionEvent(kind, self._plan.session, now(), session_id, call_id or None, *parts))

    def _resume(self, durable: DurableRun[Frame], journal: SessionJournal[Frame]) -> None:
        """Start the tasks of a durable session, and go on with what an earlier run has left: calls and broadcasts."""
        # The lease is kept until the end is recorded, so in the outer nursery, which the session's cancel does not
        # reach.
        cancellation, final_work = self._plan.cancellation, self._final_work
        if durable.asked_end is not None:
            # Before any code of the session runs.
            cancellation.cancel(durable.asked_end)
        # That of a durable session is entered with it.
        assert isinstance(self._outer_nursery, EnteredNursery)  # noqa: S101 - as just said
        durable.keep(self._outer_nursery.nursery, cancellation.fail, cancellation.cancel)
        self._inner_nursery.nursery.start_soon(journal.watch, name="railtracks: watch the journal")
        try:
            journal.attach(self._plan.record, final_work.log.log, cancellation.end, cancellation.cancel)
            self.background.restart()
        except FatalError as error:
            cancellation.fail(error)
        if final_work.broadcaster is not None:
            self._inner_nursery.nursery.start_soon(
                final_work.broadcaster.send_again, name="railtracks: broadcast again"
            )

    async def close(self, error: BaseException | None) -> bool:
        """Close the session after its block was left. Waits for calls, cleanup and the saved state.

        The order is fixed. First all calls end. Then the final work runs, in the outer nursery. Then the session counts
        as over, and only after that its error is raised.

        Args:
            error: What the block raised, if anything.

        Returns:
            Whether `error` is handled, as from `__aexit__`: then nothing is raised out of the block.
        """
        try:
            # What ends may need a worker thread, also if the block is in one.
            is_in_thread = self._root.slot is not None
            raised = await (with_slot_lent(partial(self._unwind, error)) if is_in_thread else self._unwind(error))
        finally:
            self._mark_over()
        outer = self._root.outer
        if raised is not None and outer is not None and not outer.call_id and is_fatal(raised):
            # A fatal error ends the outer session, too, unless a node between the two catches it. There is none here:
            # this session was opened in the block of the outer one, outside of any call.
            outer.scope.control.end(raised)
            if outer.is_body:
                # The block of the outer session raises it here, and hears of it like that.
                outer.scope.record.ending.hear(0, raised)
        if raised is not None and outer is not None:
            # The sessions around this one tell of the error, too.
            outer.scope.record.secrets.see_those_of(self._plan.record.secrets)
        try:
            if raised is not None and raised is not error:
                raise_unchanged(raised)
            return raised is None
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del raised, error

    async def _unwind(self, error: BaseException | None) -> BaseException | None:
        """End the calls, do the final work, leave the nurseries and the scope, and return what the block raises."""
        outside = await self._end_calls(error)
        # From here on no call runs, and none can start: a task beside the session gets a `ContextError`.
        self.is_open = False
        self._drain.stop()
        # The final work makes no calls either, whatever nursery it runs in.
        self._root.hold_nothing()
        self.resources.is_closed = True
        final_work, scope = self._final_work, self._root.scope
        work: Callable[[], Awaitable[None]] | None = None
        try:
            scope.close_open_calls()
        except KeyboardInterrupt as of_observer:
            self._plan.cancellation.fail(of_observer)
        if scope.journal is not None:
            for _ in self._plan.record.tree.recall_rest(scope.journal.past):
                await trio.lowlevel.cancel_shielded_checkpoint()
        final_work.note_drain(is_draining=scope.is_draining)
        if self._plan.record.is_inherited:
            # A process that was forked inside the block leaves it: resources, state and store are those of the parent.
            final_work.leave_to_parent()
            self._outer_nursery.abandon()
            if self._plan.durable is not None:
                self._plan.durable.leave_to_parent()
            self._plan.state_file.give_up()
            final_work.close_record(outside)
        elif final_work.has_work:
            work = partial(final_work.run, outside)
        else:
            final_work.close_record(outside)
        # Waits for the final work, resources and broadcasts. Their tasks raise no errors: what comes out of the nursery
        # is `Cancelled`, or a Ctrl-C that struck this task as it waited.
        rest = await self._outer_nursery.finish(work)
        interrupt = None if rest is None else without_cancelled(rest)
        raised = final_work.take_raised()
        if interrupt is not None:
            # The record is closed, and its status stands; but Ctrl-C goes before any other error.
            decided = [] if raised is None or without_cancelled(raised) is None else [raised]
            raised = combined([*decided, *members(interrupt)])
        return raised

    def _mark_over(self) -> None:
        """Report the end to observers, close the log, and mark the session as over."""
        scope, log = self._root.scope, self._final_work.log
        try:
            audience = (*scope.observers.session_closed, log) if log.tells_end else scope.observers.session_closed
            if audience:
                self._tell(EventKind.SESSION_CLOSED, audience)
        finally:
            log.close()
            scope.record.ending.forget_heard()
            scope.close()
            self._drain.leave()
            # `reset` refuses a token of another context: an async generator or a fixture may have left the block in
            # another context than it was entered in. There the variable was never set.
            try:  # noqa: SIM105 - `suppress` takes longer, at the end of each session
                self._root.close(self._token)
            except ValueError:
                pass

    async def _end_calls(self, error: BaseException | None) -> BaseException | None:
        """Wait until no call of the session runs, cancelling the calls if the session fails or was cancelled.

        Args:
            error: What the block raised, if anything.

        Returns:
            The `Cancelled` of a scope around the session, if there is one.
        """
        cancellation = self._plan.cancellation
        real = None if error is None else without_cancelled(error)
        if error is None or real is not None:
            self._plan.record.ending.leave_to_body(real)
        if error is None and self._end_services():
            error = await self._wait_for_background()
        if error is None:
            # Body and background calls have ended without an error. But the session may have been cancelled, or its
            # deadline passed, since their last checkpoint: note that before the deadline is taken away.
            cancellation.note_own_cancel()
            self.is_open = False
            # The timeout stops counting here: the cleanup has `cleanup_timeout`.
            if cancellation.scope.deadline != math.inf:
                cancellation.scope.deadline = math.inf
            if self._watcher is not None:
                self._watcher.stop()
            if self._root.scope.journal is not None:
                self._end_journal(self._root.scope.journal)
        # Anything else cancels the scope, or comes from its cancel: leaving the inner nursery then waits for the calls.
        elif (real := without_cancelled(error)) is None:
            cancellation.note_source()
        else:
            cancellation.fail(real)
            error = None
        self._drain.end_grace()
        # Only a `Cancelled` passes through the nursery. Calls report their errors to `cancellation.fail`, so another
        # error from the nursery is a Ctrl-C that struck this task as it waited.
        rest = await self._inner_nursery.leave(bare(error))
        interrupt = None if rest is None else without_cancelled(rest)
        if interrupt is not None:
            cancellation.fail(interrupt)
            rest = None
        try:
            return cancellation.leave(rest)
        except RuntimeError as corrupted:
            # The block has left a nursery or scope of its own open. Trio says so, and the final work is done even so.
            cancellation.fail(corrupted)
            return None
        finally:
            # Their tracebacks hold this stack frame: without the `del` they and it would be reference cycles.
            del error, real, rest, interrupt

    def _end_journal(self, journal: SessionJournal[Frame]) -> None:
        journal.stop_watching()
        # A session that was cancelled or failed need not have repeated all recorded calls.
        if self._plan.record.ending.cause is None:
            try:
                journal.check_end()
            except FatalError as mismatch:
                self._plan.cancellation.fail(mismatch)

    def _end_services(self) -> bool:
        """Cancel the services, and return whether there is a background call to wait for."""
        self.background.cancel_services()
        return self.background.is_busy

    async def _wait_for_background(self) -> BaseException | None:
        """Wait for the background calls; return what ended the wait early: `Cancelled`, or Ctrl-C in the main task."""
        # Services that were cancelled only now: nobody else waits for them.
        _warn_of(self.background.services, self._root.scope, self._final_work.log)
        try:
            await self.background.wait_for_all()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - ends the session like an error of the body
            return error  # noqa: ASYNC104 - the same
        return None

    # Called by the session's calls (`SessionControl`), and by `Session` for users.

    @property
    def is_of_this_run(self) -> bool:
        """Whether this code is in the Trio run of the session, and not in another one or in a thread."""
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._root.scope.token

    def end(self, error: BaseException, run_id: int = 0) -> bool:
        """Cancel the session with the error of a call; return whether it did, see `SessionControl.end`."""
        try:
            return self._plan.cancellation.end(error, run_id)
        finally:
            # As in `Cancellation.end`: no reference cycle.
            del error

    def opened_inside(self, inner: InnerDrain) -> None:
        """Note that a session was opened inside this one, outside of its calls."""
        self._drain.add(inner)

    def closed_inside(self, inner: InnerDrain) -> None:
        """Note that such a session is over."""
        self._drain.remove(inner)

    @trio.lowlevel.enable_ki_protection
    def watch(self) -> None:
        """Start the task that reacts to the session's cancel, if it does not run yet."""
        if self._watcher is None:
            on_cancel = partial(_react_to_cancel, self.background, self._root.scope, self._final_work.log)
            self._watcher = CancelWatcher(self._plan.cancellation, self._inner_nursery.nursery, on_cancel)

    def worker_processes(self) -> WorkerProcesses:
        """Return the worker processes of this Trio run, which belong to its outermost session or to the run itself."""
        outer = self._root.outer
        if outer is not None and not outer.scope.is_over:
            return outer.scope.control.worker_processes()
        shared = processes_of_run()
        if shared is not None:
            return shared.pool()
        return self._final_work.open_processes(self._outer_nursery)

    async def broadcast(self, item: object) -> None:
        """Queue an item for the `broadcast_callback`; without a callback only pass a checkpoint."""
        observers = self._root.scope.observers
        if observers.broadcast:
            identifier = self._plan.record.identifier
            tell(observers.broadcast, BroadcastEvent(EventKind.BROADCAST, identifier, item, now()))
        broadcaster = self._final_work.broadcaster
        if broadcaster is None:
            await trio.lowlevel.checkpoint()
        else:
            await broadcaster.send(item)

    @trio.lowlevel.enable_ki_protection
    async def start(self, node: object, args: Args, kwargs: Kwargs) -> object:
        """Start a background call, and wait until its node calls `task_status.started()`."""
        # Until then the call runs in the cancel scopes of its starter, which the session's cancel may not reach: the
        # watching task cancels it.
        self.watch()
        return await with_slot_lent(partial(self.background.start, node, args, kwargs))

    @trio.lowlevel.enable_ki_protection
    async def drain(self, grace: float, kind: CauseKind) -> None:
        """Refuse new work, wait for what runs, and cancel the session when the grace is over. See `Drain.run`."""
        if self.is_open:
            await with_slot_lent(partial(self._drain.run, grace, kind))
        else:
            await trio.lowlevel.checkpoint()

    @trio.lowlevel.enable_ki_protection
    def drain_soon(self, grace: float) -> bool:
        """Begin to drain because of SIGTERM; the second time, cancel the session at once. Does not wait.

        Returns:
            Whether the session was open. If not, the signal is not for this session.
        """
        if self.is_open:
            self._drain.run_soon(grace)
        return self.is_open

    @trio.lowlevel.enable_ki_protection
    async def enter_resource(self, cm: AbstractAsyncContextManager[T]) -> T:
        """Open a resource of the session.

        Raises:
            ContextError: If the code is inside a recorded call of a durable session: a replay would not open it again.
        """
        journal = self._root.scope.journal
        frame = None if journal is None else frame_in(self._root.scope)
        if journal is not None and frame is not None:
            journal.refuse_resource(frame)
        return await self.resources.enter(cm)


def _react_to_cancel(background: Background, scope: SessionScope, log: SessionLog) -> None:
    """Cancel the calls that are being started, and log a warning for each node that delays the session's end.

    Runs in the watching task, as soon as the session is cancelled.
    """
    background.cancel_starting()
    _warn_of(frozenset(scope.workers.values()), scope, log)


def _warn_of(nodes: frozenset[str], scope: SessionScope, log: SessionLog) -> None:
    """Log a warning for each of these nodes that runs in a worker, and so delays the session's end."""
    for node in sorted(nodes.intersection(scope.workers.values())):
        line = f"session {scope.label!r} is ending and waits for node {node!r}: a worker thread cannot be stopped"
        log.log(logging.WARNING, line, logger="RT.Session")
