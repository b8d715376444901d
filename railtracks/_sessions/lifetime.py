"""The life of a session: a nursery inside a cancel scope, opened by `open_lifetime` and closed in a fixed order.

Called by `Session` as its block is entered and left. What exists only while the session is open is one object, a
`Lifetime`: it is made when the session opens, and dropped as a whole when the session is closed.
"""

from __future__ import annotations

import logging
import math
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Token
from functools import partial
from typing import TypeVar

import trio

from railtracks._calls.durable_protocol import Args, DurableRun, Kwargs, SessionJournal
from railtracks._calls.frames import Frame, SessionScope, WorkerProcesses, current_frame
from railtracks._calls.here import enclosing_frame, frame_in, this_task
from railtracks._records.errors import combined, is_fatal, members, raise_unchanged, without_cancelled
from railtracks._records.events import (
    EVERYWHERE,
    BroadcastEvent,
    EventKind,
    Observers,
    SessionEvent,
    now,
    tell,
)
from railtracks._records.log import SessionLog
from railtracks._records.tree import CauseKind, EndCause
from railtracks._sessions.background import Background
from railtracks._sessions.broadcast import Broadcaster, CallbackFailures
from railtracks._sessions.cancellation import CancelWatcher
from railtracks._sessions.drain import Drain
from railtracks._sessions.final_work import FinalWork
from railtracks._sessions.plan import OpenNursery, SessionPlan
from railtracks._sessions.resources import Resources
from railtracks.exceptions import FatalError

T = TypeVar("T")


async def open_lifetime(plan: SessionPlan) -> Lifetime:
    """Open a session in this task; not a checkpoint, unless it is durable."""
    task = this_task()
    outer = enclosing_frame(task)
    journal, timeout = None, plan.record.ending.timeout
    try:
        log = SessionLog(plan.record.identifier, plan.settings)
        if plan.durable is not None:
            journal, remaining = await plan.durable.open()
            timeout = math.inf if remaining is None else remaining
    except BaseException:
        if plan.durable is not None:
            await plan.durable.abandon()  # noqa: ASYNC102 - shielded in there, and with the deadline of a commit
        raise
    plan.record.open()
    outer_nursery = await OpenNursery.enter()
    # What is opened from here on belongs to the session: see `Frame.holds`.
    nursery_count = len(task.child_nurseries)
    if timeout != math.inf:
        plan.cancellation.scope.deadline = trio.current_time() + timeout
    plan.cancellation.scope.__enter__()
    inner_nursery = await OpenNursery.enter()
    lifetime = Lifetime(plan, log, journal, outer_nursery, inner_nursery, outer, nursery_count)
    lifetime.begin()
    return lifetime


class Lifetime:
    """What one session has while it is open.

    Two nurseries, one around the other. The outer one holds what outlives the calls: resources, broadcasts, the final
    work. The inner one holds background calls, and is inside of the scope that the session's end cancels.

    Attributes:
        is_open: Whether the session takes calls and resources.
        background: The background calls.
        resources: The resources.
    """

    def __init__(  # noqa: PLR0917 - what a session is opened with
        self,
        plan: SessionPlan,
        log: SessionLog,
        journal: SessionJournal[Frame] | None,
        outer_nursery: OpenNursery,
        inner_nursery: OpenNursery,
        outer: Frame | None,
        nursery_count: int,
    ) -> None:
        self.is_open = True
        self._plan = plan
        self._outer_nursery = outer_nursery
        self._inner_nursery = inner_nursery
        self._root = _root_frame(plan, self, log, journal, outer, nursery_count)
        self._token: Token[Frame | None] = current_frame.set(self._root)
        self.resources = Resources(outer_nursery.nursery, plan.cancellation.fail)
        self.background = Background(inner_nursery.nursery, self._root, plan.cancellation.fail)
        broadcaster: Broadcaster | None = None
        callback = plan.settings.get("broadcast_callback")
        if callback is not None:
            broadcaster = Broadcaster(callback, outer_nursery.nursery, CallbackFailures(plan.record, log), journal)
        self._final_work = FinalWork(
            plan.record, plan.settings, plan.path, log, self.resources, broadcaster, plan.durable
        )
        on_cancel = partial(_react_to_cancel, self.background, self._root.scope, log)
        self._watcher = CancelWatcher(plan.cancellation, inner_nursery.nursery, on_cancel)
        self._drain: Drain | None = None

    def begin(self) -> None:
        """Start what watches the session, and resume it if an earlier run of it has ended."""
        plan, observers = self._plan, self._root.scope.observers
        if plan.cancellation.scope.deadline != math.inf:
            self.watch()
        if plan.durable is not None:
            self._resume(plan.durable)
        if observers.session_opened:
            tell(observers.session_opened, SessionEvent(EventKind.SESSION_OPENED, plan.session, now()))

    def _resume(self, durable: DurableRun[Frame]) -> None:
        """Resume a durable session where an earlier run of it, if there was one, has ended."""
        cancellation, final_work = self._plan.cancellation, self._final_work
        self._outer_nursery.nursery.start_soon(durable.keep, cancellation.fail, name="railtracks: keep the lease")
        self._inner_nursery.nursery.start_soon(durable.watch, name="railtracks: watch the journal")
        try:
            durable.attach(self._plan.record.values, final_work.log.log, cancellation.end)
            self.background.restart()
        except FatalError as error:
            cancellation.fail(error)
        if final_work.broadcaster is not None:
            self._inner_nursery.nursery.start_soon(
                final_work.broadcaster.send_again, name="railtracks: broadcast again"
            )

    async def close(self, error: BaseException | None) -> bool:
        """Close the session whose block was left with an error, or with none; return whether the error is handled."""
        outside = await self._end_calls(error)
        self.is_open = False
        final_work, scope, outer = self._final_work, self._root.scope, self._root.outer
        final_work.note_drain(is_draining=scope.is_draining)
        if final_work.has_work:
            self._outer_nursery.nursery.start_soon(final_work.run, outside)
        else:
            final_work.decide(outside)
        rest = await self._outer_nursery.leave(None)
        interrupt = None if rest is None else without_cancelled(rest)
        raised = final_work.take_raised()
        if interrupt is not None:
            decided = [] if raised is None else [raised]
            raised = combined([*filter(without_cancelled, decided), *members(interrupt)])
            del decided
        self._mark_over()
        if raised is not None and outer is not None and not outer.call_id and is_fatal(raised):
            # No node stands between the two sessions that could catch it for the outer one.
            outer.scope.control.end(raised)
        try:
            if raised is not None and raised is not error:
                raise_unchanged(raised)
            return raised is None
        finally:
            # This frame is among those that the error holds.
            del raised, error, rest, interrupt, outside

    def _mark_over(self) -> None:
        """Let no code find the session open any more."""
        scope = self._root.scope
        if scope.observers.session_closed:
            tell(scope.observers.session_closed, SessionEvent(EventKind.SESSION_CLOSED, self._plan.session, now()))
        self._final_work.log.close()
        scope.close()
        # In another context than the one it was entered in, the variable was never set.
        with suppress(ValueError):
            self._root.close(self._token)

    async def _end_calls(self, error: BaseException | None) -> BaseException | None:
        """Wait until no call runs any more; return the `Cancelled` of a scope around the session, if there is one."""
        cancellation = self._plan.cancellation
        error = await self._drained() if error is None else error
        if error is None:
            # The body may have ended without passing a checkpoint since it was cancelled, or its time was over.
            cancellation.note_own_cancel()
            self.is_open = False
            cancellation.scope.deadline = math.inf
            self._watcher.stop()
            self._end_journal()
        elif (real := without_cancelled(error)) is None:
            cancellation.note_source()
        else:
            cancellation.fail(real)
            error = None
        rest = await self._inner_nursery.leave(error)
        interrupt = None if rest is None else without_cancelled(rest)
        if interrupt is not None:
            cancellation.fail(interrupt)
            rest = None
        return cancellation.leave(rest)

    def _end_journal(self) -> None:
        durable = self._plan.durable
        if durable is None:
            return
        durable.stop()
        if self._plan.record.ending.cause is None:
            try:
                durable.check_end()
            except FatalError as mismatch:
                self._plan.cancellation.fail(mismatch)

    async def _drained(self) -> BaseException | None:
        """Wait for the background calls; return what struck meanwhile: a `Cancelled`, or Ctrl-C in the main task."""
        try:
            await self.background.drain()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - ends the session like an error of the body
            return error  # noqa: ASYNC104 - the same
        return None

    # What the calls of the session, and the tasks beside them, ask of it.

    def end(self, error: BaseException) -> bool:
        """End the session with the error of a call; return whether that was of use."""
        return self._plan.cancellation.end(error)

    def watch(self) -> None:
        """See from now on at once when the session is cancelled: by what, and which node it waits for."""
        self._watcher.start()

    def worker_processes(self) -> WorkerProcesses:
        """Return the worker processes, which belong to the outermost session."""
        outer = self._root.outer
        if outer is not None and not outer.scope.is_over:
            return outer.scope.control.worker_processes()
        return self._final_work.open_processes()

    async def broadcast(self, item: object) -> None:
        """Hand an item to the broadcast callback."""
        observers = self._root.scope.observers
        if observers.broadcast:
            identifier = self._plan.record.identifier
            tell(observers.broadcast, BroadcastEvent(EventKind.BROADCAST, identifier, item, now()))
        broadcaster = self._final_work.broadcaster
        if broadcaster is None:
            await trio.lowlevel.checkpoint()
        else:
            await broadcaster.send(item)

    async def start(self, node: object, args: Args, kwargs: Kwargs) -> object:
        """Start a background call and wait until it has started."""
        # Until then the call is in its starter's scopes, and somebody has to tell it that the session is cancelled.
        self.watch()
        return await self.background.start(node, args, kwargs)

    async def drain(self, grace: float, kind: CauseKind) -> None:
        """Take no new top-level calls, wait for the ones that run, and cancel what is left after the grace."""
        if not self.is_open:
            await trio.lowlevel.checkpoint()
            return
        scope = self._root.scope
        frame = enclosing_frame(this_task())
        if frame is not None and frame.is_in_call_of(scope):
            raise RuntimeError(f"a node of session {scope.label!r} cannot drain it: it would wait for itself")
        if self._drain is None:
            self._drain = Drain(scope, self.background)
        drain = self._drain
        with trio.move_on_after(grace):
            await drain.wait()
            return
        why = "SIGTERM: calls" if kind is CauseKind.SIGTERM else "calls"
        reason = f"{why} were still running {grace:g} seconds after the session began to drain"
        self._plan.cancellation.cancel(EndCause(kind, reason))
        await drain.wait()

    def drain_soon(self, grace: float) -> bool:
        """Drain after SIGTERM, a second time cancel at once; return whether there was anything to end."""
        if not self.is_open:
            return False
        if self._drain is None:
            self._drain = Drain(self._root.scope, self.background)
            self._inner_nursery.nursery.start_soon(self.drain, grace, CauseKind.SIGTERM, name="railtracks: drain")
        else:
            self._plan.cancellation.cancel(EndCause(CauseKind.SIGTERM, "SIGTERM"))
        return True

    async def enter_resource(self, cm: AbstractAsyncContextManager[T]) -> T:
        """Open a resource, unless this code is inside a recorded call, which would not open it again.

        Raises:
            ContextError: If it is.
        """
        journal = self._root.scope.journal
        frame = None if journal is None else frame_in(self._root.scope)
        if journal is not None and frame is not None:
            journal.refuse_resource(frame)
        return await self.resources.enter(cm)


def _root_frame(  # noqa: PLR0917 - as above
    plan: SessionPlan,
    control: Lifetime,
    log: SessionLog,
    journal: SessionJournal[Frame] | None,
    outer: Frame | None,
    nursery_count: int,
) -> Frame:
    """Return the frame that the top-level calls of a session are made in."""
    task = this_task()
    observers = Observers(EVERYWHERE)
    log.observe(observers)
    scope = SessionScope(
        record=plan.record,
        tree=plan.record.tree,
        end_on_error=bool(plan.settings.get("end_on_error")),
        session=plan.session,
        control=control,
        observers=observers,
        journal=journal,
    )
    depth = outer.depth if outer is not None and outer.task is task else 0
    slot = None if outer is None else outer.slot
    root = Frame(scope, 0, outer, task, depth, nursery_count, 0, slot)
    root.enter_strand(None if journal is None else journal.strand)
    return root


def _react_to_cancel(background: Background, scope: SessionScope, log: SessionLog) -> None:
    """Cancel the calls that have not started yet, and name the nodes that keep the cancelled session waiting."""
    background.cancel_starting()
    for node in sorted(set(scope.workers.values())):
        what = f"session {scope.label!r} is ending and waits for node {node!r}"
        line = f"{what}: a worker thread cannot be stopped"
        log.log(logging.WARNING, line, logger="RT.Session")
