"""Where a task stands in the tree: a ContextVar, and the walk from a task to the call it belongs to.

A frame is the live side of a call, or of a session itself (its root). It keeps the task it was opened in and how many
nurseries that task held then, which is all that is needed to say which call a nursery, and so a task, belongs to. A
frame that is closed belongs to no task. What a frame's session offers to the rooms above is `SessionScope`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import BuiltinMethodType, MethodType
from typing import Any, Final, Protocol
from weakref import ref

import trio
from attrs import define, field
from trio.lowlevel import Task

from railtracks._calls.durable_protocol import SessionJournal
from railtracks._nodes.node import Node, made_node
from railtracks._records.events import CallEvent, Observers
from railtracks._records.tree import CallTree
from railtracks._workers.threads import WorkerSlot
from railtracks.exceptions import ContextError

NO_TRIO: Final = (
    "a node can only be called while Trio runs: start with Flow.invoke(...) in a script, or with trio.run(...)"
)


# How many plain functions a session knows the nodes of.
_MOST_NODES: Final = 1_000


def _nobody() -> None:
    """Hear nothing."""


class WorkerProcesses(Protocol):
    """Where process nodes run."""

    async def run(self, name: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
    async def close(self) -> None: ...


@define(eq=False)
class SessionScope:
    """A session as its calls see it.

    Attributes:
        identifier: The session's identifier.
        label: What errors call the session.
        values: Its context.
        tree: The records of its calls.
        end_on_error: Whether any call's failure ends it.
        face: The `Session` that users hold; only the room that makes it knows its type.
        end: Ends the session with an error, as the first cause if there is none yet. Says whether it did.
        watch: Makes sure that a worker thread which keeps the ending session waiting is named.
        observers: Who hears of its calls.
        broadcast: Hands an item to its broadcast callback.
        processes: Its worker processes, which are those of the outermost session.
        left_behind: The names of the nodes that were left running.
        workers: The names of the nodes that are in a worker now which cannot be stopped, by their frames.
        journal: What records its calls, if it is durable.
        token: The Trio run that it belongs to.
        is_over: Whether the block was left and nothing of the session runs any more.
        is_draining: Whether it takes no new top-level calls.
        promised: How many top-level calls were begun that need not have an open record: they wait for room, or pause
            between two attempts.
        stirred: Told when one of these is over; only a drain listens.
    """

    identifier: str
    label: str
    values: dict[str, Any]
    tree: CallTree
    end_on_error: bool
    face: Any
    end: Callable[[BaseException], bool]
    watch: Callable[[], None]
    broadcast: Callable[[Any], Awaitable[None]]
    observers: Observers
    processes: Callable[[], WorkerProcesses]
    left_behind: list[str]
    journal: SessionJournal | None = None
    workers: dict[Frame, str] = field(init=False)
    token: trio.lowlevel.TrioToken = field(factory=trio.lowlevel.current_trio_token)
    is_over: bool = False
    is_draining: bool = False
    promised: int = 0
    stirred: Callable[[], None] = field(default=_nobody)
    _nodes: dict[Any, Node[..., Any]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.workers = {}
        self._nodes = {}

    def node_of(self, fn: Any) -> Node[..., Any]:
        """Return the node for a node, or for a plain function, of which one is made once a session.

        Raises:
            NodeCreationError: If `fn` is nothing that a node can be made of.
        """
        if isinstance(fn, Node):
            # isinstance cannot tell a node's parameters.
            return fn  # pyright: ignore[reportUnknownVariableType]
        # A method is a new object at each access. Everything else is itself, and stays alive as long as its node.
        is_method = isinstance(fn, MethodType | BuiltinMethodType)
        key = (getattr(fn, "__func__", fn.__name__), id(fn.__self__)) if is_method else id(fn)
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= _MOST_NODES:
                # The oldest: a session that calls a new function each time would keep every one.
                del self._nodes[next(iter(self._nodes))]
            node = self._nodes[key] = made_node(fn)
        return node


# The depth of a frame in which any task may make its first call, and none a second.
LANDING: Final = -2


class Frame:
    """An open call, or the session itself: what the calls made in it need to know."""

    __slots__ = ("call_id", "depth", "nurseries", "outer", "run_id", "scope", "slot", "strand", "task")

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
        # As a run's id, 0 in the root of a session.
        self.call_id: int = call_id
        self.outer: Frame | None = outer
        # A frame that is closed belongs to no task.
        self.task: Task | None = task
        # Levels since the task's stack was fresh, as these cost Python frames; below 0 before the task's first call.
        self.depth: int = depth
        self.nurseries: int = nurseries
        # The top-level call that this frame is below.
        self.run_id: int = run_id
        # The worker thread that waits while calls are made in this frame, if one does.
        self.slot: WorkerSlot | None = slot
        # In a durable session, what the calls made here are known by.
        self.strand: Any = None

    def landing(self) -> Frame:
        """Return the same place in the tree for tasks that are started for one call each."""
        landing = Frame(self.scope, self.call_id, self, None, LANDING, 0, self.run_id, self.slot)
        landing.strand = self.strand
        return landing

    def landings(self) -> Landings:
        """Return what gives one landing after another, for the calls of a fan-out in the order of their start."""
        return Landings(self)

    def admit(self) -> None:
        """Refuse a new call in this frame if it would be a top-level call of a session that drains.

        Raises:
            ContextError: If it is refused.
        """
        if not self.call_id and self.scope.is_draining:
            raise ContextError(f"session {self.scope.label!r} is draining: it takes no new top-level calls")

    def in_task(self, task: Task) -> Frame:
        """Return the same place in the tree for a task that was started in this frame and has made no call yet."""
        # A task that stands in for this frame's own shares its context: the way up leads through here.
        return _TaskFrame(self.scope, self.call_id, self, task, -1, 0, self.run_id, self.slot)

    def holds(self, nursery: trio.Nursery) -> bool:
        """Say whether a nursery of a task was opened in this frame."""
        owner = nursery.parent_task
        return self.task is owner and nursery in owner.child_nurseries[self.nurseries :]

    def is_within(self, scope: SessionScope) -> bool:
        """Say whether this frame belongs to a session, or to one that was opened inside it."""
        frame: Frame | None = self
        while frame is not None and frame.scope is not scope:
            frame = frame.outer
        return frame is not None

    def is_in_call_of(self, scope: SessionScope) -> bool:
        """Say whether this frame is a call of a session, or below one."""
        frame: Frame | None = self
        while frame is not None and (frame.scope is not scope or not frame.call_id):
            frame = frame.outer
        return frame is not None

    @contextmanager
    def promise(self) -> Generator[None]:
        """Say that a call in this frame goes on although it may have no open record for a while."""
        self.scope.promised += not self.call_id
        try:
            yield
        finally:
            self.scope.promised -= not self.call_id
            self.scope.stirred()

    def event(self, call_id: int) -> CallEvent:
        """Describe, for observers, a call made in this frame."""
        tree = self.scope.tree
        return CallEvent(call_id, self.run_id or call_id, tree.name(call_id) or "", tree.name(self.call_id))


class Landings:
    """Where the calls of one fan-out land: all in one place, unless a durable session has to tell them apart."""

    __slots__ = ("_fan_out", "_frame", "_landing")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._landing = frame.landing()
        journal = frame.scope.journal
        self._fan_out = None if journal is None else journal.fan_out(frame)

    def next(self) -> Frame:
        """Return the landing of the next call."""
        if self._fan_out is None:
            return self._landing
        own = self._frame.landing()
        own.strand = self._fan_out.next()
        return own

    def close(self) -> None:
        """Say that there are no more calls.

        Raises:
            ReplayMismatchError: If the record of a durable session has more.
        """
        if self._fan_out is not None:
            self._fan_out.close()


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

# Gets every session that is opened where it is set: tests want to know them all.
opened: ContextVar[list[Any] | None] = ContextVar("railtracks_opened", default=None)


def current_scope() -> SessionScope | None:
    """Return the session that is open around this code, worker threads of its calls included."""
    frame = current_frame.get()
    if frame is None:
        return None
    if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is not frame.scope.token:
        # A thread of a session started a Trio run of its own: that is another world.
        return None
    return frame.scope


def open_scope() -> SessionScope:
    """Return the session that is open around this code.

    Raises:
        ContextError: If there is none, or it is over.
    """
    scope = current_scope()
    if scope is None:
        raise ContextError("no session is open here: use 'async with rt.Session()', '@rt.session' or a Flow")
    if scope.is_over:
        raise ContextError(f"session {scope.label!r} is over")
    return scope


def this_task() -> Task:
    """Return the task that runs this.

    Raises:
        RuntimeError: If Trio is not running here.
    """
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        raise RuntimeError(NO_TRIO) from None


def adopt(task: Task) -> Frame | None:
    """Find the call that a task belongs to, and let the task remember it.

    The parent is the innermost open call whose scope holds the nursery that started the task, whoever handed the
    nursery to whom. Looks at one task and its nurseries a step, up the tree.

    Returns:
        A frame of the task's own, or `None` if no session is around it.

    Raises:
        ContextError: If the task escaped its session, or is a system task of Trio's.
    """
    known = current_frame.get()
    if known is not None and known.scope.token is not trio.lowlevel.current_trio_token():
        known = None
    found = _holder_of(task)
    if found is None and is_system_task(task):
        raise ContextError(
            "a system task belongs to no session: open one in it with 'async with rt.Session()'"
            " (a node with abandon_on_cancel=True cannot make calls from its thread)"
        )
    if known is not None and (found is None or not found.is_within(known.scope)):
        label = known.scope.label
        raise ContextError(
            f"session {label!r} is over, and this task outlived it"
            if known.scope.is_over
            else f"this task runs outside session {label!r}: it was started in a nursery that is older than the session"
        )
    own = None if found is None else found.in_task(task)
    current_frame.set(own)
    return own


def frame_here() -> Frame | None:
    """Return the frame that calls made here belong to, or `None` if no session is around this task.

    Raises:
        ContextError: If the task escaped its session, or is a system task of Trio's.
        RuntimeError: If Trio is not running.
    """
    task = this_task()
    frame = current_frame.get()
    return adopt(task) if frame is None or frame.task is not task else frame


def enclosing_frame(task: Task) -> Frame | None:
    """Return the frame that a new session of this task is opened in; a task that escaped its session has none."""
    frame = current_frame.get()
    if frame is not None and frame.task is task:
        return frame
    try:
        return adopt(task)
    except ContextError:
        return None


def frame_in(scope: SessionScope) -> Frame | None:
    """Return the frame of a session that this code is in, through sessions inside it; `None` if it is in none."""
    frame = enclosing_frame(this_task())
    while frame is not None and frame.scope is not scope:
        frame = frame.outer
    return frame


def own_frame() -> Frame | None:
    """Return the frame that this code is in: that of its task, or in a worker thread that of its call."""
    return enclosing_frame(trio.lowlevel.current_task()) if trio.lowlevel.in_trio_task() else current_frame.get()


def _holder_of(task: Task) -> Frame | None:
    nursery = _nursery_of(task)
    while nursery is not None:
        owner = nursery.parent_task
        frame = owner.context.get(current_frame)
        while frame is not None:
            if frame.holds(nursery):
                return frame
            frame = frame.outer
        nursery = _nursery_of(owner)
    return None


def _nursery_of(task: Task) -> trio.Nursery | None:
    # While nursery.start() waits, only the eventual parent is the nursery that the task was started in.
    return task.eventual_parent_nursery or task.parent_nursery


def is_system_task(task: Task) -> bool:
    """Say whether a task is one of Trio's own, which no nursery of the program holds."""
    root = trio.lowlevel.current_root_task()
    nursery = _nursery_of(task)
    while nursery is not None and nursery.parent_task is not root:
        nursery = _nursery_of(nursery.parent_task)
    # Trio's root task opens a nursery for its own tasks, one for system tasks, and inside these one for the main task.
    return nursery is None or root is None or nursery not in root.child_nurseries[2:]
