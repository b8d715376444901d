"""The current session and the current call: how the running code finds the frame that it belongs to.

Called by every module that makes calls, opens sessions or needs the current session.

The rule: the parent of a call is the innermost open call that opened the nursery of the calling task. It does not
matter through which hands that nursery was passed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import trio
from trio.lowlevel import Task

from railtracks._calls.frames import Frame, SessionScope, current_frame
from railtracks._calls.no_trio import is_asyncio_running, no_trio
from railtracks._records.secrets import Secret
from railtracks.exceptions import ContextError

if TYPE_CHECKING:
    from railtracks._records.data import CurrentCall

T = TypeVar("T")

# The end of an error that no session, or no durable session, is here.
IN_ANOTHER_PROCESS: Final = "; in another process the sessions of its parent do not exist: pass values as arguments"


def context_frame() -> Frame | None:
    """Return the frame in this context. `None` also if a parent process set it: its sessions do not exist in this one.

    The context variable itself comes along with a fork. `call` needs no such check: it goes by tasks, and those of the
    parent process run in no Trio run of this one.
    """
    return _of_this_process(current_frame.get())


def _of_this_process(frame: Frame | None) -> Frame | None:
    return None if frame is None or frame.scope.record.is_inherited else frame


def current_scope() -> SessionScope | None:
    """Return the session around this code, or `None`. Works in worker threads of its calls; the session may be over."""
    frame = context_frame()
    if frame is None:
        return None
    if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is not frame.scope.token:
        # A worker thread of the session has started a Trio run of its own and copied the context variable into it.
        # The session's nursery and scopes belong to the first run, so the session does not exist in this one.
        return None
    return frame.scope


def open_scope() -> SessionScope:
    """Return the open session around this code.

    Raises:
        ContextError: If there is no session, or it is over.
    """
    scope = current_scope()
    if scope is None:
        how = "'async with rt.Session()', '@rt.session' or a Flow"
        if is_asyncio_running():
            how = "a Flow with this code in it, and 'await flow.ainvoke(...)'"
        raise ContextError(f"no session is open here: use {how}{IN_ANOTHER_PROCESS}")
    if scope.is_over:
        raise ContextError(
            f"session {scope.label!r} is over: do this before its block is left, or open a session of its own in this"
            " task"
        )
    return scope


def see_revealed(secret: Secret[object]) -> None:
    """Have the session around this code, if there is one, know a secret that code has asked for."""
    scope = current_scope()
    if scope is not None:
        scope.record.secrets.see(None, secret)


def this_task() -> Task:
    """Return the task that runs this code.

    Raises:
        RuntimeError: If Trio is not running here.
    """
    try:
        return trio.lowlevel.current_task()
    except RuntimeError as error:
        # A full stack is a RuntimeError, too.
        raise error if isinstance(error, RecursionError) else no_trio() from None


def find_frame(task: Task) -> Frame | None:
    """Find the call that a task belongs to, and store a frame for it in the task's context.

    The walk goes up from task to parent task, so it costs more in deep trees. Later calls of the task find the stored
    frame at once.

    Returns:
        A frame of the task's own, or `None` if no session is around the task.

    Raises:
        ContextError: If the task escaped its session, or is a system task of Trio's.
    """
    # The frame that was current where the task was started. It tells the session that the task came from. It is not
    # always the parent: a nursery that was handed down starts tasks in the context of the code that calls start_soon.
    inherited = current_frame.get()
    if inherited is not None and inherited.scope.token is not trio.lowlevel.current_trio_token():
        inherited = None
    found, outermost = _frame_around(task)
    if found is None and _holds_system_tasks(outermost):
        raise ContextError(
            "a system task belongs to no session: open one in it with 'async with rt.Session()'"
            " (a node with abandon_on_cancel=True cannot make calls from its thread)"
        )
    # The nursery lies outside the session that the task came from: the task can outlive that session, so a call would
    # be free of its cancel scope.
    if inherited is not None and (found is None or not found.is_within(inherited.scope)):
        label = inherited.scope.label
        raise ContextError(
            f"session {label!r} is over, and this task outlived it: open a session of its own in this task"
            if inherited.scope.is_over
            else f"this task runs outside session {label!r}, in a nursery that is older than the session: start it"
            " in a nursery that was opened in the session, or with session.start_soon"
        )
    own = None if found is None else found.in_task(task)
    current_frame.set(own)
    return own


def frame_here() -> Frame | None:
    """Return the frame that is the parent of calls made here, or `None` if no session is around this task.

    Raises:
        ContextError: If the task escaped its session, or is a system task of Trio's.
        RuntimeError: If Trio is not running.
    """
    task = this_task()
    frame = current_frame.get()
    return find_frame(task) if frame is None or frame.task is not task else frame


@trio.lowlevel.enable_ki_protection
async def with_slot_lent(wait: Callable[[], Awaitable[T]]) -> T:
    """Await something that may need a worker thread; if one waits for it here, it lends its slot meanwhile.

    As a call that the thread makes does: else threads could hold every slot, and wait for what needs one more.
    """
    frame = enclosing_frame(this_task())
    slot = None if frame is None else frame.slot
    if slot is None:
        return await wait()
    slot.lend()
    try:
        return await wait()
    finally:
        await slot.take_back()  # noqa: ASYNC102 - shielded in there


def enclosing_frame(task: Task) -> Frame | None:
    """Return the frame that is the parent of a session which the running task opens.

    `None` if no session is around the task, or if the task escaped its session: then the new session is a root.
    """
    frame = current_frame.get()
    if frame is not None and frame.task is task:
        return frame
    try:
        return find_frame(task)
    except ContextError:
        return None


def admit_session() -> None:
    """Check that the running task may open a session.

    Raises:
        ContextError: If it would be opened in a session that drains, outside of any call.
        RuntimeError: If Trio is not running.
    """
    frame = enclosing_frame(this_task())
    if frame is not None:
        admit_session_in(frame)


def admit_session_in(frame: Frame) -> None:
    """Check that a session may be opened in this frame.

    Raises:
        ContextError: If it is in a session that drains, outside of any call.
    """
    frame.admit("sessions outside of its calls")


def frame_in(scope: SessionScope) -> Frame | None:
    """Return the innermost frame of the session `scope` around this code, `None` if the code is outside of it.

    The code may be in a session that was opened inside `scope`: the walk goes up through that session.
    """
    frame = enclosing_frame(this_task())
    while frame is not None and frame.scope is not scope:
        frame = frame.outer
    return frame


def own_frame() -> Frame | None:
    """Return the frame that this code runs in: in Trio that of its task, in a worker thread that of its call."""
    # In a process that was forked in a task Trio still takes this code for that task.
    return _of_this_process(
        enclosing_frame(trio.lowlevel.current_task()) if trio.lowlevel.in_trio_task() else current_frame.get()
    )


def current_call() -> CurrentCall:
    """Return the innermost open call around this code: the call of the node that runs it. Not a checkpoint.

    Each attempt of a retried node is a call of its own. In a task that a nursery has started, the call is the one that
    opened the nursery. A sync node is in its call in a worker thread, too, and in a `ThreadPoolExecutor` given as
    `run_in`. A session that was opened inside a call has that call around its block.

    Raises:
        ContextError: If no call is open here: outside of nodes, in a process other than the session's, in an executor
            that is no `ThreadPoolExecutor`, or in a task or thread that outlived its call and all calls around it. Also
            if this task runs outside its session, or is a system task of Trio's.
    """
    # In a process that was forked in a task Trio still takes this code for that task.
    frame = _of_this_process(frame_here() if trio.lowlevel.in_trio_task() else current_frame.get())
    while frame is not None:
        if frame.call_id and frame.task is not None:
            # In a thread that outlives its call: the record may be dropped at this moment (`history_limit`).
            with suppress(KeyError):
                from railtracks._records.data import CurrentCall  # noqa: PLC0415 - see there

                tree, call_id = frame.scope.tree, frame.call_id
                node, parent = tree.name(call_id) or "", tree.parent(call_id) or None
                return CurrentCall(call_id, node, tree.attempt(call_id), parent, frame.scope.record.identifier)
        frame = frame.outer
    raise ContextError(
        "no call is open here: use current_call() in a node that 'await rt.call(node)' or a Flow runs"
        f"{IN_ANOTHER_PROCESS}"
    )


def leave_calls() -> None:
    """Let the code of this context belong to no call of its session, until it makes one. Called for callbacks."""
    frame = current_frame.get()
    while frame is not None and frame.call_id:
        frame = frame.outer
    current_frame.set(frame)


def _frame_around(task: Task) -> tuple[Frame | None, trio.Nursery | None]:
    """Return the innermost open frame that holds the nursery of a task, or of one of the task's ancestors.

    Beside it stands the nursery where the walk has ended: if no frame was found, one of Trio's root task, or `None` for
    that task itself.
    """
    last, nursery = None, _nursery_of(task)
    while nursery is not None:
        last = nursery
        owner = nursery.parent_task
        # The owner has one frame for each call that it is in, the innermost first. A frame holds the nurseries that
        # were opened after it; an older nursery belongs to a frame further out. Closed frames hold nothing.
        frame = owner.context.get(current_frame)
        while frame is not None:
            if frame.holds(nursery):
                return frame, nursery
            frame = frame.outer
        nursery = _nursery_of(owner)
    return None, last


def _nursery_of(task: Task) -> trio.Nursery | None:
    # While nursery.start() waits, `parent_nursery` is a temporary one of Trio's own. `eventual_parent_nursery` is the
    # nursery whose start() was called.
    return task.eventual_parent_nursery or task.parent_nursery


def nursery_of_main_task(task: Task) -> trio.Nursery | None:
    """Return Trio's own nursery around the main task, if a task is directly in it, else `None`."""
    nursery = task.parent_nursery
    if nursery is None or nursery.parent_task.parent_nursery is not None:
        return None
    return nursery if nursery in _for_main_task(nursery.parent_task) else None


def is_system_task(task: Task) -> bool:
    """Return whether a task is a system task, or below one: no nursery of the main task holds it."""
    last, nursery = None, _nursery_of(task)
    while nursery is not None:
        last, nursery = nursery, _nursery_of(nursery.parent_task)
    return _holds_system_tasks(last)


def _holds_system_tasks(nursery: trio.Nursery | None) -> bool:
    """Return whether a nursery of Trio's root task is for system tasks; `None` stands for the root task itself."""
    return nursery is None or nursery not in _for_main_task(nursery.parent_task)


def _for_main_task(root: Task) -> list[trio.Nursery]:
    # The root task opens three nurseries, in this order: for its own tasks, for system tasks, for the main task.
    return root.child_nurseries[2:]
