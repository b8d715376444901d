"""Where this code stands: the walk from a task to the call it belongs to.

Called by everything that makes calls, opens sessions or asks for the current one. The parent of a call is the innermost
open call whose scope holds the nursery that started the calling task, whoever handed that nursery to whom.
"""

from __future__ import annotations

from typing import Final

import trio
from trio.lowlevel import Task

from railtracks._calls.frames import Frame, SessionScope, current_frame
from railtracks.exceptions import ContextError

NO_TRIO: Final = (
    "a node can only be called while Trio runs: start with Flow.invoke(...) in a script, or with trio.run(...)"
)


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
    """Return the task that runs this code.

    Raises:
        RuntimeError: If Trio is not running here.
    """
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        raise RuntimeError(NO_TRIO) from None


def adopt(task: Task) -> Frame | None:
    """Find the call that a task belongs to, and let the task remember it.

    Looks at one task and its nurseries a step, up the tree.

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
    """Return the frame of a session that this code is in, also through sessions inside it; `None` if it is in none."""
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
    """Return whether a task is one of Trio's own, which no nursery of the program holds."""
    root = trio.lowlevel.current_root_task()
    nursery = _nursery_of(task)
    while nursery is not None and nursery.parent_task is not root:
        nursery = _nursery_of(nursery.parent_task)
    # Trio's root task opens a nursery for its own tasks, one for system tasks, and inside these one for the main task.
    return nursery is None or root is None or nursery not in root.child_nurseries[2:]
