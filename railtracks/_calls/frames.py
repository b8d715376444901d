"""Frames and session scopes: the live objects behind each open call and each open session.

Called by every module that makes calls or opens sessions. A frame keeps the task that opened it, and how many nurseries
that task had open at that moment. From these two facts `railtracks._calls.here` finds the call that a task belongs to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextvars import ContextVar, Token
from functools import partial
from typing import TYPE_CHECKING, ClassVar
from weakref import ref

import trio
from trio.lowlevel import Task, enable_ki_protection

from railtracks._blocks import block
from railtracks._calls.made_nodes import MadeNodes
from railtracks._nodes.node import Attempt, Node
from railtracks._records.events import EventKind, ObservedSession, call_event
from railtracks._records.observers import NOBODY, Audience, Observers, tell
from railtracks._records.session import SessionRecord
from railtracks._records.tree import CallTree
from railtracks._workers.threads import WorkerSlot
from railtracks.exceptions import ContextError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import SessionJournal
    from railtracks._calls.durable_values import Args, CallStrand, Kwargs
    from railtracks._calls.session_control import SessionControl


def _no_drain() -> None:
    """Do nothing: the session is not draining."""


class SessionScope:
    """The part of an open session that its calls share. Made by `Lifetime`; every frame of the session leads to it.

    Attributes:
        record: The record of the session: its names, context, errors, and calls.
        tree: The records of its calls; part of `record`.
        end_on_error: Whether the failure of any call ends the session.
        session: The `Session` object that users hold.
        control: The functions of the session that its calls use, until `close`.
        observers: The objects that get the events of its calls.
        journal: The journal that its calls are recorded in; `None` if the session is not durable.
        token: The Trio run that the session belongs to.
        workers: For each frame that waits for a worker which cannot be stopped: the name of its node.
        is_over: Whether the block was left and nothing of the session runs any more.
        is_draining: Whether the session refuses new top-level calls, and new sessions outside of calls.
        unrecorded_calls: How many top-level calls have begun but may have no open record at this moment. They wait for
            a slot, or for the next attempt.
        node_of: Returns the node of a plain function, see `MadeNodes.of`. A field, as many calls begin with it.
    """

    __slots__ = (
        "_check_drain",
        "control",
        "end_on_error",
        "is_draining",
        "is_over",
        "journal",
        "node_of",
        "observers",
        "record",
        "session",
        "token",
        "tree",
        "unrecorded_calls",
        "workers",
    )

    def __init__(
        self,
        *,
        record: SessionRecord,
        end_on_error: bool,
        session: ObservedSession,
        control: SessionControl,
        observers: Observers,
        journal: SessionJournal[Frame] | None,
    ) -> None:
        self.record: SessionRecord = record
        self.tree: CallTree = record.tree
        self.end_on_error: bool = end_on_error
        self.session: ObservedSession = session
        self.control: SessionControl = control
        self.observers: Observers = observers
        self.journal: SessionJournal[Frame] | None = journal
        self.token: trio.lowlevel.TrioToken = trio.lowlevel.current_trio_token()
        self.workers: dict[Frame, str] = {}
        self.is_over: bool = False
        self.is_draining: bool = False
        self.unrecorded_calls: int = 0
        self._check_drain: Callable[[], None] = _no_drain
        self.node_of: Callable[[object], Node[..., object]] = MadeNodes().of

    @property
    def label(self) -> str:
        """The name of the session in error texts."""
        return self.record.ending.label

    @enable_ki_protection
    def tell(self, kind: EventKind, audience: Audience, parent: Frame, call_id: int) -> None:
        """Report an event of a call to the observers of that event.

        Args:
            kind: What happened to the call.
            audience: The observers of this kind of event; if there are none, nothing is done.
            parent: The frame in which the call was made.
            call_id: The call.
        """
        if audience:
            run_id = parent.run_id or call_id
            event = call_event(
                kind, self.record.identifier, self.tree, call_id, parent.call_id, run_id, is_kept=parent.keeps_failures
            )
            tell(audience, event)

    @enable_ki_protection
    def open_told(
        self, node: Node[..., object], parent: Frame, args: Args, kwargs: Kwargs, attempt: Attempt | None
    ) -> int:
        """Open the record of a call and tell observers, in one step that Ctrl-C cannot split; return the call's id."""
        call_id = self.tree.open(node, parent.call_id, args, kwargs, attempt)
        self.tell(EventKind.CALL_STARTED, self.observers.call_started, parent, call_id)
        return call_id

    @enable_ki_protection
    def complete_told(self, call_id: int, parent: Frame, result: object, observers: Observers) -> None:
        """Close the record of a call with its result and tell the observers that it has, likewise in one step."""
        self.tree.hold(call_id)
        self.tree.complete(call_id, result)
        self.tell(EventKind.CALL_COMPLETED, observers.call_completed, parent, call_id)
        self.tree.let_go()

    def close_open_calls(self) -> None:
        """Close the calls that Ctrl-C has left open, and tell observers. Called when no call can run any more."""
        if self.tree.has_open_calls:
            self.tree.cancel_what_is_open(partial(self.tell_of, EventKind.CALL_CANCELLED))

    def tell_of(self, kind: EventKind, call_id: int) -> None:
        """Report an event of a call that no frame here belongs to."""
        audience = self.observers.of(kind)
        if audience:
            place = self.tree.place(call_id)
            tell(audience, call_event(kind, self.record.identifier, self.tree, call_id, *place))

    def left_behind(self, frame: Frame, name: str) -> None:
        """Record that a call has ended while its worker thread still runs the node `name`."""
        self.record.left_behind.append(name)
        kind = EventKind.WORKER_LEFT_BEHIND
        self.tell(kind, self.observers.worker_left_behind, frame.outer or frame, frame.call_id)

    def overran(self, frame: Frame) -> None:
        """Report that an async node came back with a result after the timeout of its call."""
        self.tell(EventKind.CALL_OVERRAN, self.observers.call_overran, frame.outer or frame, frame.call_id)

    def refuse_new_calls(self, check_drain: Callable[[], None]) -> None:
        """Refuse new top-level calls, and new sessions outside of calls, from now on.

        Args:
            check_drain: Called whenever something has ended that no call record shows, see `unrecorded_calls`.
        """
        self.is_draining = True
        self._check_drain = check_drain

    def recheck_drain(self) -> None:
        """Have a drain, if there is one, look again whether anything still runs."""
        self._check_drain()

    @block
    @enable_ki_protection
    def unrecorded_call(self, parent: Frame) -> Generator[None]:
        """Count a call made in `parent` as running while the block runs, even if it has no open record.

        Without this a drain would take a pause between two attempts for the end of the call.
        """
        is_top_level = not parent.call_id
        self.unrecorded_calls += is_top_level
        try:
            yield
        finally:
            self.unrecorded_calls -= is_top_level
            self._check_drain()

    def close(self) -> None:
        """Mark the session as over, and drop the references that form cycles.

        With them the session would stay in memory until Python's garbage collector runs.
        """
        self.is_over = True
        self.observers = NOBODY
        self._check_drain = _no_drain
        del self.control


class Frame:
    """An open call, or an open session itself, as the parent of calls.

    The frame of the code that runs is in the context variable `current_frame`. A closed frame has no task.

    Attributes:
        scope: The session.
        call_id: The call, 0 for the session itself (its root frame).
        outer: The frame around this one; the root frame's `outer` is in the session around, if there is one.
        task: The task that opened the frame, `None` once it is closed, and always in a start frame.
        depth: How many calls deep the frame is in its task's stack: each one costs Python stack frames. -1 in a task
            that was just started and has made no call. The start was a schedule point, so its first call need not be.
        nursery_count: How many nurseries `task` had open when it opened the frame. Later nurseries belong to the frame.
        run_id: The top-level call that the frame belongs to, 0 in the root frame.
        slot: The slot of the nearest worker thread around this frame, which waits while calls are made here; `None` if
            there is no such thread.
        strand: The strand of the calls that are made here, if the session is durable.
    """

    __slots__ = ("call_id", "depth", "nursery_count", "outer", "run_id", "scope", "slot", "strand", "task")

    # Whether the frame is the shared starting point of tasks that make one call each. It belongs to none of them, so
    # `call` accepts it in any task.
    is_start_frame: ClassVar[bool] = False

    # Whether the failure of a call made here is a value to the code that made it: the log tells it as a warning.
    keeps_failures: ClassVar[bool] = False

    def __init__(  # noqa: PLR0917 - on the path of every call, where keywords cost
        self,
        scope: SessionScope,
        call_id: int,
        outer: Frame | None,
        task: Task | None,
        depth: int,
        nursery_count: int,
        run_id: int,
        slot: WorkerSlot | None,
    ) -> None:
        self.scope: SessionScope = scope
        self.call_id: int = call_id
        self.outer: Frame | None = outer
        self.task: Task | None = task
        self.depth: int = depth
        self.nursery_count: int = nursery_count
        self.run_id: int = run_id
        self.slot: WorkerSlot | None = slot
        self.strand: CallStrand | None = None

    # `task = None` alone closes a frame: the walk in `_calls.here` passes over it, also from tasks that keep it in
    # their contexts. The link `outer` stays, because that walk still needs it.

    @enable_ki_protection
    def close(self, token: Token[Frame | None]) -> None:
        """Close the frame, and make the frame around it current again. Called in the context that it was set in."""
        self.task = None
        current_frame.reset(token)

    def enter_strand(self, strand: CallStrand | None) -> None:
        """Set the strand of the calls that are made in this frame."""
        self.strand = strand

    def set_slot(self, slot: WorkerSlot | None) -> None:
        """Set the slot of the worker thread that runs the node: its calls, made in this frame, lend the slot."""
        self.slot = slot

    def deepen(self, levels: int) -> None:
        """Count more levels of the Python stack between this frame and the calls that are made in it."""
        self.depth += levels

    def mark_used(self) -> None:
        """Note that a call was made here, so that the next one needs a schedule point of its own.

        A start frame stays fresh: each of its tasks makes its first call there.
        """
        if not self.is_start_frame:
            self.depth = 0

    @property
    def is_body(self) -> bool:
        """Whether calls made here are made by the body of the session, in the task that has entered it."""
        # A root frame: around all others of its session there is one of the same session.
        return not self.call_id and (self.outer is None or self.outer.scope is not self.scope)

    def start_frame(self, strand: CallStrand | None = None, *, keeps_failures: bool = False) -> Frame:
        """Return a frame at the same position in the tree for tasks that are started to make one call each.

        Args:
            strand: The strand of these calls, by default this frame's own.
            keeps_failures: Whether the failure of such a call is a value to the code that makes it.
        """
        kind = _KeepingStartFrame if keeps_failures else _StartFrame
        start_frame = kind(self.scope, self.call_id, self, None, -1, 0, self.run_id, self.slot)
        start_frame.strand = self.strand if strand is None else strand
        return start_frame

    def fresh_stack_frame(self) -> Frame:
        """Return a frame at the same position in the tree for the task that makes one call in place of this one's."""
        frame = _FreshStackFrame(self.scope, self.call_id, self, None, -1, 0, self.run_id, self.slot)
        frame.strand = self.strand
        return frame

    def in_task(self, task: Task) -> Frame:
        """Return a frame at the same position in the tree for a task that a nursery of this frame has started."""
        # `outer` is this frame, not the one around it. Two tasks can share one context (`_call_on_a_fresh_stack`), and
        # then the walk up from `current_frame` must also find the frames of the other task.
        return _TaskFrame(self.scope, self.call_id, self, task, -1, 0, self.run_id, self.slot)

    def admit(self, what: str = "top-level calls") -> None:
        """Check that a new call may be made in this frame, or a new session opened.

        Args:
            what: What is new, for the error.

        Raises:
            ContextError: If the session drains, and this frame is in none of its calls.
        """
        if not self.call_id and self.scope.is_draining:
            raise ContextError(f"session {self.scope.label!r} is draining: it takes no new {what}")

    def holds(self, nursery: trio.Nursery) -> bool:
        """Return whether a nursery was opened in this frame, or below it in the same task."""
        # A task's nurseries are a stack: all above the mark were opened after this frame, and before it was closed.
        owner = nursery.parent_task
        return self.task is owner and nursery in owner.child_nurseries[self.nursery_count :]

    def hold_nothing(self) -> None:
        """Hold no nursery any more: the calls of the session have ended."""
        self.nursery_count = sys.maxsize

    def is_within(self, scope: SessionScope) -> bool:
        """Return whether this frame is in the session `scope`, or in a session that was opened inside that one."""
        frame: Frame | None = self
        while frame is not None and frame.scope is not scope:
            frame = frame.outer
        return frame is not None

    def sessions_around(self) -> dict[object, bool]:
        """Return the scopes of the sessions that this frame is in, and of each whether it is in one of its calls."""
        found: dict[object, bool] = {}
        frame: Frame | None = self
        while frame is not None:
            found[frame.scope] = found.get(frame.scope, False) or bool(frame.call_id)
            frame = frame.outer
        return found


class _StartFrame(Frame):
    """The frame in which tasks that are started for one call each make that call. It belongs to no single task."""

    __slots__ = ()

    is_start_frame = True


class _KeepingStartFrame(_StartFrame):
    """The start frame of calls whose failures are values to the code that makes them."""

    __slots__ = ()

    keeps_failures = True


class _FreshStackFrame(_StartFrame):
    """The start frame of a task that makes a call for the task which waits for it: the call is that task's."""

    __slots__ = ()

    @property
    def is_body(self) -> bool:
        return self.outer is not None and self.outer.is_body


class _TaskFrame(Frame):
    """A frame in the context of its own task. It holds the task weakly: otherwise each such task would be a cycle."""

    __slots__ = ("_task",)

    @property
    def task(self) -> Task | None:
        return None if self._task is None else self._task()

    @task.setter
    def task(self, task: Task | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._task = None if task is None else ref(task)


current_frame: ContextVar[Frame | None] = ContextVar("railtracks_frame", default=None)
