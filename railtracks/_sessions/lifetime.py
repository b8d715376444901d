"""The life of a session: a nursery inside a cancel scope, its deadline, its first cause, and the order of its end."""

from __future__ import annotations

import logging
import math
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Token
from pathlib import Path
from typing import Any

import trio

from railtracks._calls.durable_protocol import DurableRun, SessionJournal
from railtracks._calls.frames import (
    Frame,
    SessionScope,
    WorkerProcesses,
    current_frame,
    enclosing_frame,
    frame_in,
    opened,
    this_task,
)
from railtracks._calls.pending import leave
from railtracks._options import Settings
from railtracks._records.errors import (
    came_from_cleanup,
    combined,
    described,
    is_fatal,
    members,
    raise_unchanged,
    without_cancelled,
)
from railtracks._records.log import SessionLog
from railtracks._records.saved_state import safe_text
from railtracks._records.session import SessionRecord
from railtracks._records.tree import CauseKind, EndCause
from railtracks._sessions.background import Background
from railtracks._sessions.broadcast import Broadcaster
from railtracks._sessions.drain import Drain
from railtracks._sessions.final_work import FinalWork
from railtracks._sessions.resources import Resources
from railtracks._workers.threads import in_thread, saving_limiter
from railtracks.exceptions import FatalError


class Lifetime:
    """What one session has while it is open.

    Two nurseries, one around the other. The outer one holds what outlives the calls: resources, broadcasts, the final
    work. The inner one holds background calls, and is inside of the scope that the session's end cancels.

    Attributes:
        is_open: Whether the session takes calls and resources.
        cancel_scope: The scope around the calls.
        background: The background calls.
        resources: The resources.
    """

    background: Background
    resources: Resources

    _log: SessionLog
    _scope: SessionScope
    _root: Frame
    _token: Token[Frame | None]
    _around: AbstractAsyncContextManager[trio.Nursery]
    _around_nursery: trio.Nursery
    _inside: AbstractAsyncContextManager[trio.Nursery]
    _nursery: trio.Nursery
    _final_work: FinalWork

    def __init__(
        self,
        face: object,
        record: SessionRecord,
        options: Settings,
        path: Path | None,
        durable: DurableRun | None = None,
    ) -> None:
        self._durable = durable
        self._face = face
        self._record = record
        self._ending = record.ending
        self._options = options
        self._path = path
        self.is_open = False
        self.cancel_scope = trio.CancelScope()
        self._watching = trio.CancelScope()
        self._is_watched = False
        self._broadcaster: Broadcaster | None = None
        self._drain: Drain | None = None

    async def open(self) -> None:
        """Open the session in this task; not a checkpoint, unless it is durable."""
        ending, options = self._ending, self._options
        if self._record.started_at is not None:
            raise RuntimeError(f"session {ending.label!r} was entered before: make a new one for each run")
        task = this_task()
        outer = enclosing_frame(task)
        journal, timeout = None, ending.timeout
        try:
            self._log = SessionLog(self._record.identifier, options.logging_setting, options.log_file)
            if self._durable is not None:
                journal, remaining = await self._durable.open()
                timeout = math.inf if remaining is None else remaining
        except BaseException:
            if self._durable is not None:
                await self._durable.abandon()  # noqa: ASYNC102 - shielded in there, and with the deadline of a commit
            raise
        self._record.open()
        self._around = trio.open_nursery()
        self._around_nursery = around = await self._around.__aenter__()
        self.resources = Resources(around, self._fail)
        if options.broadcast_callback is not None:
            self._broadcaster = Broadcaster(options.broadcast_callback, around, self._report, journal)
        self._final_work = FinalWork(
            self._record, options, self._path, self._log, self.resources, self._broadcaster, self._report, self._durable
        )
        self._scope = SessionScope(
            identifier=self._record.identifier,
            label=ending.label,
            values=self._record.values,
            tree=self._record.tree,
            end_on_error=options.end_on_error,
            face=self._face,
            end=self._end,
            watch=self._watch,
            broadcast=self._broadcast,
            observers=self._log.observers(),
            processes=self._open_processes if outer is None or outer.scope.is_over else outer.scope.processes,
            left_behind=self._record.left_behind,
            journal=journal,
        )
        depth = outer.depth if outer is not None and outer.task is task else 0
        slot = None if outer is None else outer.slot
        self._root = Frame(self._scope, 0, outer, task, depth, len(task.child_nurseries), 0, slot)
        self._token = current_frame.set(self._root)
        if timeout != math.inf:
            self.cancel_scope.deadline = trio.current_time() + timeout
        self.cancel_scope.__enter__()
        self._inside = trio.open_nursery()
        self._nursery = await self._inside.__aenter__()
        self.background = Background(self._nursery, self._root, self._fail)
        self.is_open = True
        if timeout != math.inf:
            self._watch()
        if journal is not None and self._durable is not None:
            self._go_on(journal, self._durable)
        witnessed = opened.get()
        if witnessed is not None:
            witnessed.append(self._face)

    def _go_on(self, journal: SessionJournal, durable: DurableRun) -> None:
        """Go on where an earlier run of a durable session, if there was one, left off."""
        self._root.strand = journal.strand
        self._around_nursery.start_soon(durable.keep, self._fail, name="railtracks: keep the lease")
        self._nursery.start_soon(durable.watch, name="railtracks: watch the journal")
        try:
            durable.attach(self._record.values, self._log.log, self._end)
            self.background.restart()
        except FatalError as error:
            self._fail(error)
        if self._broadcaster is not None:
            self._nursery.start_soon(self._broadcaster.send_again, name="railtracks: broadcast again")

    async def close(self, error: BaseException | None) -> bool:
        """Close the session whose block was left with an error, or with none; say whether that error is dealt with."""
        outside = await self._end_calls(error)
        self.is_open = False
        final_work = self._final_work
        final_work.was_draining = self._scope.is_draining
        if final_work.takes_time:
            self._around_nursery.start_soon(final_work.run, outside)
        else:
            final_work.decide(outside)
        rest = await leave(self._around, None)
        interrupt = None if rest is None else without_cancelled(rest)
        raised = final_work.raised
        if interrupt is not None:
            decided = [] if raised is None else [raised]
            raised = combined([*filter(without_cancelled, decided), *members(interrupt)])
            del decided
        final_work.raised = None
        self._scope.is_over = True
        self._root.task = None
        self._log.close()
        # In another context than the one it was entered in, the variable was never set.
        with suppress(ValueError):
            current_frame.reset(self._token)
        outer = self._root.outer
        if raised is not None and outer is not None and not outer.call_id and is_fatal(raised):
            # No node stands between the two sessions that could catch it for the outer one.
            outer.scope.end(raised)
        self._forget()
        try:
            if raised is not None and raised is not error:
                raise_unchanged(raised)
            return raised is None
        finally:
            # This frame is among those that the error holds.
            del raised, error, rest, interrupt, outside

    def _forget(self) -> None:
        """Let go of everything that leads back here, or a session would stay in memory until cycles are collected."""
        del self.background, self.resources, self._final_work, self._scope, self._root, self._around, self._inside
        del self._around_nursery, self._nursery, self._token
        self._face = self._broadcaster = self._drain = None

    async def _end_calls(self, error: BaseException | None) -> BaseException | None:
        """Wait until no call runs any more; return the `Cancelled` of a scope around the session, if there is one."""
        error = await self._drained() if error is None else error
        if error is None:
            # The body may have ended without passing a checkpoint since it was cancelled, or its time was over.
            self._note_own_cancel()
            self.is_open = False
            self.cancel_scope.deadline = math.inf
            self._watching.cancel()
            self._end_journal()
        elif (real := without_cancelled(error)) is None:
            self._ending.note_cancel(self.cancel_scope)
        else:
            self._fail(real)
            error = None
        return await self._unwound(error)

    def _end_journal(self) -> None:
        if self._durable is None:
            return
        self._durable.stop()
        if self._ending.cause is None:
            try:
                self._durable.check_end()
            except FatalError as mismatch:
                self._fail(mismatch)

    async def _drained(self) -> BaseException | None:
        """Wait for the background calls; return what struck meanwhile: a `Cancelled`, or Ctrl-C in the main task."""
        try:
            await self.background.drain()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - ends the session like an error of the body
            return error  # noqa: ASYNC104 - the same
        return None

    async def _unwound(self, error: BaseException | None) -> BaseException | None:
        """Leave the inner nursery and the cancel scope with a `Cancelled`, or with nothing; return one from outside."""
        rest = await leave(self._inside, error)
        interrupt = None if rest is None else without_cancelled(rest)
        if interrupt is not None:
            self._fail(interrupt)
            rest = None
        is_caught = self.cancel_scope.__exit__(None if rest is None else type(rest), rest, None)
        if self.cancel_scope.cancelled_caught:
            self._ending.note_cancel(self.cancel_scope)
        return None if is_caught else rest

    # What the calls of the session, and the tasks beside them, reach it by.

    def _open_processes(self) -> WorkerProcesses:
        """Return the worker processes of the session, and of the sessions inside it."""
        if self._final_work.processes is None:
            # The extra "process" brings what it needs.
            from railtracks._workers.processes import WorkerPool  # noqa: PLC0415

            self._final_work.processes = WorkerPool()
        return self._final_work.processes

    async def start(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Start a background call and wait until it has started."""
        # Until then the call is in its starter's scopes, and somebody has to tell it that the session is cancelled.
        self._watch()
        return await self.background.start(node, args, kwargs)

    def cancel(self, cause: EndCause) -> None:
        """End the session quietly."""
        self._note_own_cancel()
        self._ending.note(cause)
        self.cancel_scope.cancel()

    async def drain(self, grace: float, kind: CauseKind) -> None:
        """Take no new top-level calls, wait for the ones that run, and cancel what is left after the grace."""
        if not self.is_open:
            await trio.lowlevel.checkpoint()
            return
        frame = enclosing_frame(this_task())
        if frame is not None and frame.is_in_call_of(self._scope):
            raise RuntimeError(f"a node of session {self._ending.label!r} cannot drain it: it would wait for itself")
        if self._drain is None:
            self._drain = Drain(self._scope, self.background)
        drain = self._drain
        with trio.move_on_after(grace):
            await drain.wait()
            return
        why = "SIGTERM: calls" if kind is CauseKind.SIGTERM else "calls"
        self.cancel(EndCause(kind, f"{why} were still running {grace:g} seconds after the session began to drain"))
        await drain.wait()

    def drain_soon(self, grace: float) -> bool:
        """Drain after SIGTERM, a second time cancel at once; say whether there was anything to end."""
        if not self.is_open and self._record.started_at is not None:
            return False
        if self._drain is None and self.is_open:
            self._drain = Drain(self._scope, self.background)
            self._nursery.start_soon(self.drain, grace, CauseKind.SIGTERM, name="railtracks: drain")
        else:
            self.cancel(EndCause(CauseKind.SIGTERM, "SIGTERM"))
        return True

    def _fail(self, error: BaseException) -> None:
        """End the session with an error that has left its task, and that nobody else will raise."""
        self._note_own_cancel()
        # Out here no scope is left but the session's and those around it.
        if came_from_cleanup(error) and trio.current_effective_deadline() == -math.inf:
            self._ending.note_cancel(self.cancel_scope)
        self._add(error)

    def _end(self, error: BaseException) -> bool:
        """End the session with a call's error, unless it is ending already and the error is an ordinary one."""
        self._note_own_cancel()
        if self._ending.cause is not None and not is_fatal(error):
            return False
        self._add(error)
        return True

    def _add(self, error: BaseException) -> None:
        self._ending.add(error, None if self._ending.cause is not None else self._record.call_of(error))
        self.cancel_scope.cancel()

    def _note_own_cancel(self) -> None:
        # The task that watches may not have had its turn: Trio wakes what a scope cancels in any order
        # (test_ending.py::test_timeout_is_the_first_cause_in_whatever_order_tasks_wake).
        if self.cancel_scope.cancel_called:
            self._ending.note_cancel(self.cancel_scope)

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
                    self._ending.note_cancel(self.cancel_scope)
                    self.background.cancel_starting()
                    self._name_who_keeps_waiting()
                raise

    def _name_who_keeps_waiting(self) -> None:
        for node in sorted(set(self._scope.workers.values())):
            text = f"session {self._ending.label!r} is ending and waits for node {node!r}: "
            self._log.log(logging.WARNING, f"{text}a worker thread cannot be stopped", logger="RT.Session")

    def refuse_resource(self) -> None:
        """Refuse to open something from a call of a durable session that would not open it again.

        Raises:
            ContextError: If this is one.
        """
        journal = self._scope.journal
        frame = None if journal is None else frame_in(self._scope)
        if journal is not None and frame is not None:
            journal.refuse_resource(frame)

    async def _broadcast(self, item: Any) -> None:
        if self._broadcaster is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._broadcaster.send(item)

    async def _report(self, what: str, error: BaseException, item: Any) -> None:
        """Log the failure of a callback; in a thread, because all that the session knows may have to be searched."""
        text, record = described(error).traceback, self._record
        safe = await in_thread(safe_text, text, record.tree, record.values, item, limiter=saving_limiter())
        self._log.log(logging.ERROR, f"{what}\n{safe}", logger="RT.Session")
