"""The live side of the tree: the frame of each open call and of each open session, and what a session offers its calls.

Called by everything that makes calls. A frame keeps the task it was opened in and how many nurseries that task held
then: that is all it takes to say which call a nursery, and so a task, belongs to (`railtracks._calls.here`). A closed
frame belongs to no task.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import BuiltinMethodType, MethodType
from typing import ClassVar, Final, Protocol
from weakref import ref

import trio
from attrs import define, field
from trio.lowlevel import Task

from railtracks._calls.durable_protocol import Args, CallStrand, DurableFanOut, Kwargs, SessionJournal
from railtracks._nodes.node import Node, is_node, made_node
from railtracks._records.events import EventKind, ObservedSession, call_event
from railtracks._records.observers import Audience, Observers, tell
from railtracks._records.session import SessionRecord
from railtracks._records.tree import CallTree
from railtracks._workers.threads import WorkerSlot
from railtracks.exceptions import ContextError

# How many plain functions a session keeps the nodes of.
_MOST_NODES: Final = 1_000


class WorkerProcesses(Protocol):
    """Where process nodes run: the worker processes of the outermost session."""

    async def run(self, name: str, fn: Callable[..., object], args: Args, kwargs: Kwargs) -> object:
        """Run a function in a worker process."""
        ...

    async def close(self) -> None:
        """End the workers."""
        ...


class SessionControl(Protocol):
    """What calls ask of their session while it is open."""

    def end(self, error: BaseException) -> bool:
        """End the session with an error, as the first cause if there is none yet; return whether it did."""
        ...

    def watch(self) -> None:
        """Make sure that a worker thread that keeps the ending session waiting is named in the log."""
        ...

    async def broadcast(self, item: object) -> None:
        """Hand an item to the broadcast callback."""
        ...

    def worker_processes(self) -> WorkerProcesses:
        """Return the worker processes, which belong to the outermost session."""
        ...


def _nobody() -> None:
    """Hear nothing: no drain is going on."""


@define(eq=False)
class SessionScope:
    """A session as its calls see it.

    Attributes:
        record: What is known of the session as data.
        tree: The records of its calls, which are part of that.
        end_on_error: Whether the failure of any call ends the session.
        face: The `Session` that users hold.
        control: What its calls ask of it.
        observers: Who hears of its calls.
        journal: The journal that its calls are recorded in, if it is durable.
        token: The Trio run that it belongs to.
        workers: The names of the nodes that are in a worker now that cannot be stopped, by their frames.
        is_over: Whether the block was left and nothing of the session runs any more.
        is_draining: Whether the session takes no new top-level calls.
        promised: How many top-level calls have begun and may have no open record now: they wait for a slot, or pause
            between two attempts.
    """

    record: SessionRecord
    tree: CallTree
    end_on_error: bool
    face: ObservedSession
    control: SessionControl
    observers: Observers
    journal: SessionJournal[Frame] | None
    token: trio.lowlevel.TrioToken = field(factory=trio.lowlevel.current_trio_token)
    workers: dict[Frame, str] = field(init=False)
    is_over: bool = False
    is_draining: bool = False
    promised: int = 0
    _stirred: Callable[[], None] = field(default=_nobody)
    _nodes: dict[object, Node[..., object]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.workers = {}
        self._nodes = {}

    @property
    def label(self) -> str:
        """What errors call the session."""
        return self.record.ending.label

    def node_of(self, fn: object) -> Node[..., object]:
        """Return a node itself, or the node for a plain function, which is made once a session.

        Raises:
            NodeCreationError: If `fn` is nothing that a node can be made of.
        """
        if is_node(fn):
            return fn
        # A method is a new object at each access. Everything else is itself, and stays alive as long as its node.
        key: object = id(fn)
        if isinstance(fn, MethodType | BuiltinMethodType):
            key = (getattr(fn, "__func__", fn.__name__), id(fn.__self__))
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= _MOST_NODES:
                # The oldest: a session that calls a new function each time would keep every one.
                del self._nodes[next(iter(self._nodes))]
            node = self._nodes[key] = made_node(fn)
        return node

    def tell(self, kind: EventKind, audience: Audience, parent: Frame, call_id: int) -> None:
        """Tell observers, if there are any, what happened to a call that was made in a frame."""
        if audience:
            run_id = parent.run_id or call_id
            tell(audience, call_event(kind, self.record.identifier, self.tree, call_id, parent.call_id, run_id))

    def left_behind(self, frame: Frame, name: str) -> None:
        """Record that the worker thread of a call goes on without the call."""
        self.record.left_behind.append(name)
        kind = EventKind.WORKER_LEFT_BEHIND
        self.tell(kind, self.observers.worker_left_behind, frame.outer or frame, frame.call_id)

    def drain(self, stirred: Callable[[], None]) -> None:
        """Take no new top-level calls from now on; call `stirred` whenever something that was promised is over."""
        self.is_draining = True
        self._stirred = stirred

    def stir(self) -> None:
        """Tell a drain that something in the session is over that may have no record."""
        self._stirred()

    @contextmanager
    def promise(self, parent: Frame) -> Generator[None]:
        """Count a call that is made in a frame as one that goes on although it may have no open record for a while."""
        is_top_level = not parent.call_id
        self.promised += is_top_level
        try:
            yield
        finally:
            self.promised -= is_top_level
            self._stirred()

    def close(self) -> None:
        """Mark the session as over, and drop what leads back to it.

        Otherwise it would stay in memory until Python collects cycles.
        """
        self.is_over = True
        self.observers = Observers()
        self._stirred = _nobody
        del self.control


class Frame:
    """An open call, or the session itself: what the calls made in it need to know."""

    __slots__ = ("call_id", "depth", "is_fresh", "nurseries", "outer", "run_id", "scope", "slot", "strand", "task")

    # Whether this frame is for tasks that are started for one call each: any task may make its first call here.
    is_landing: ClassVar[bool] = False

    def __init__(  # noqa: PLR0917 - on the path of every call, where keywords cost
        self,
        scope: SessionScope,
        call_id: int,
        outer: Frame | None,
        task: Task | None,
        depth: int,
        nurseries: int,
        run_id: int,
        slot: WorkerSlot | None,
    ) -> None:
        self.scope: SessionScope = scope
        # 0 in the root of a session, like a run's id.
        self.call_id: int = call_id
        self.outer: Frame | None = outer
        # A frame that is closed belongs to no task.
        self.task: Task | None = task
        # Levels since the task's stack was fresh: these cost Python's stack frames.
        self.depth: int = depth
        self.nurseries: int = nurseries
        # The top-level call that this frame is below.
        self.run_id: int = run_id
        # The slot of the worker thread that waits while calls are made in this frame, if one does.
        self.slot: WorkerSlot | None = slot
        # In a durable session, the strand of the calls that are made here.
        self.strand: CallStrand | None = None
        # Whether no call was made here since the task was started: its start was a schedule point.
        self.is_fresh: bool = False

    def close(self, token: Token[Frame | None]) -> None:
        """Close the frame in the context that it was entered in."""
        self.task = None
        current_frame.reset(token)

    def enter_strand(self, strand: CallStrand | None) -> None:
        """Have the calls made here belong to a strand of a durable session."""
        self.strand = strand

    def occupy(self, slot: WorkerSlot | None) -> None:
        """Have a worker thread, which has this slot, wait while calls are made in this frame."""
        self.slot = slot

    def lose_freshness(self) -> None:
        """Remember that a call was made here. A landing stays fresh: each task comes there for its first call."""
        self.is_fresh = self.is_landing

    def landing(self, strand: CallStrand | None = None) -> Frame:
        """Return the same place in the tree for tasks that are started for one call each.

        Args:
            strand: The strand of the calls that are made there, by default the frame's own.
        """
        landing = _Landing(self.scope, self.call_id, self, None, 0, 0, self.run_id, self.slot)
        landing.is_fresh = True
        landing.strand = self.strand if strand is None else strand
        return landing

    def in_task(self, task: Task) -> Frame:
        """Return the same place in the tree for a task that was started in this frame and has made no call yet."""
        # A task that stands in for this frame's own shares its context: the way up leads through here.
        own = _TaskFrame(self.scope, self.call_id, self, task, 0, 0, self.run_id, self.slot)
        own.is_fresh = True
        return own

    def admit(self) -> None:
        """Refuse a new call in this frame if it would be a top-level call of a session that drains.

        Raises:
            ContextError: If it is refused.
        """
        if not self.call_id and self.scope.is_draining:
            raise ContextError(f"session {self.scope.label!r} is draining: it takes no new top-level calls")

    def holds(self, nursery: trio.Nursery) -> bool:
        """Return whether a nursery was opened in this frame."""
        owner = nursery.parent_task
        return self.task is owner and nursery in owner.child_nurseries[self.nurseries :]

    def is_within(self, scope: SessionScope) -> bool:
        """Return whether this frame belongs to a session, or to one that was opened inside it."""
        frame: Frame | None = self
        while frame is not None and frame.scope is not scope:
            frame = frame.outer
        return frame is not None

    def is_in_call_of(self, scope: SessionScope) -> bool:
        """Return whether this frame is a call of a session, or below one."""
        frame: Frame | None = self
        while frame is not None and (frame.scope is not scope or not frame.call_id):
            frame = frame.outer
        return frame is not None


class _Landing(Frame):
    """A frame that belongs to no task: each of the tasks that are started for one call makes that call here."""

    __slots__ = ()

    is_landing = True


class _TaskFrame(Frame):
    """A frame that a task keeps in its context: it must not keep the task, which would be a cycle for every task."""

    __slots__ = ("_task",)

    @property
    def task(self) -> Task | None:
        return None if self._task is None else self._task()

    @task.setter
    def task(self, task: Task | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._task = None if task is None else ref(task)


current_frame: ContextVar[Frame | None] = ContextVar("railtracks_frame", default=None)


class FanOutSlots:
    """The landings of the calls of one fan-out: one for all, unless a durable session has to tell the calls apart."""

    __slots__ = ("_fan_out", "_frame", "_landing")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._landing = frame.landing()
        journal = frame.scope.journal
        self._fan_out: DurableFanOut | None = None if journal is None else journal.fan_out(frame)

    def next(self) -> Frame:
        """Return the landing of the next call."""
        return self._landing if self._fan_out is None else self._frame.landing(self._fan_out.next())

    def close(self) -> None:
        """Mark the fan-out as complete.

        Raises:
            ReplayMismatchError: If the journal of a durable session has more calls of it.
        """
        if self._fan_out is not None:
            self._fan_out.close()
