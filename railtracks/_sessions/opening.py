"""The opening of a session: what can fail comes first, then its scope and its nurseries are entered.

Called by `Session` when its block is entered. What comes of it, the `Lifetime`, leaves them again.
"""

from __future__ import annotations

import math

import trio

from railtracks._calls.frames import Frame, current_frame
from railtracks._calls.here import admit_session_in, enclosing_frame, nursery_of_main_task, this_task
from railtracks._extras import import_for_sessions
from railtracks._nodes.worker_modules import refuse_in_import
from railtracks._records.log import SessionLog
from railtracks._sessions.lifetime import Lifetime
from railtracks._sessions.outer_nursery import EnteredNursery, NurseryOfTrio, OuterNursery
from railtracks._sessions.plan import OpenNursery, SessionPlan
from railtracks._sessions.running import refuse_in_shutdown
from railtracks._sessions.stack_room import check_room


async def open_lifetime(plan: SessionPlan) -> Lifetime:
    """Open a session in this task. Not a checkpoint, unless the session is durable.

    Raises:
        RuntimeError: If Trio is not running.
        ContextError: If this is a worker process that imports the program's main module, or the session around drains.
        SessionCancelledError: If no session is around, and the process is shutting down.
        RecursionError: If Python's stack has no room for the end of the session, which takes more than the opening.
        OSError: If the log file cannot be opened.
        StoreError: If the session is durable and its store cannot be used. Other errors of its store also go on.
    """
    # Whatever can fail comes first, while nothing has to be closed again.
    check_room()
    task = this_task()
    refuse_in_import()
    import_for_sessions()
    of_trio = nursery_of_main_task(task)
    # A main task without a frame is in no session: `enclosing_frame` would find none either, but it takes longer.
    outer = None if of_trio is not None and current_frame.get() is None else enclosing_frame(task)
    _admit_in(outer)
    journal, timeout = None, plan.record.ending.timeout
    log: SessionLog | None = None
    try:
        log = SessionLog(plan.record, plan.settings)
        if plan.durable is not None:
            journal, remaining = await plan.durable.open()
            timeout = math.inf if remaining is None else remaining
            # The session around may have begun to drain meanwhile, or the process to shut down.
            _admit_in(outer)
    except BaseException:
        if log is not None:
            log.close()
        # Also on a cancel: the lease may have been taken already, and would keep other owners out until it runs out.
        if plan.durable is not None:
            await plan.durable.abandon()  # noqa: ASYNC102 - shielded in there, and with the deadline of a commit
        raise
    plan.record.open()
    # A durable session has a task in its outer nursery from the beginning.
    outer_nursery: OuterNursery = (
        EnteredNursery(await OpenNursery.enter())
        if of_trio is None or outer is not None or plan.durable is not None
        else NurseryOfTrio(of_trio, task, plan.cancellation.fail)
    )
    # Taken after the outer nursery was entered: only nurseries that are opened later belong to the session's root frame
    # (`Frame.holds`). A task in the outer nursery can outlive the session's calls, so it may not make calls.
    nursery_count = len(task.child_nurseries)
    now = trio.current_time()
    plan.record.ending.timeouts.begin(0, plan.cancellation.scope, now)
    if timeout != math.inf:
        plan.cancellation.scope.deadline = now + timeout
    # From here to the end of this function nothing waits: entering a scope or a nursery is no checkpoint.
    plan.cancellation.scope.__enter__()
    inner_nursery = await OpenNursery.enter()
    try:
        lifetime = Lifetime(plan, log, journal, outer_nursery, inner_nursery, outer, task, nursery_count)
    except BaseException as error:
        # Nothing has begun in there: leaving waits for nothing, and raises nothing.
        await inner_nursery.leave(None)  # noqa: ASYNC102 - as just said
        plan.cancellation.leave(None)
        await outer_nursery.finish(None)  # noqa: ASYNC102 - the same
        log.close()
        plan.record.ending.add(error, None)
        plan.record.close(None)
        plan.state_file.give_up()
        if plan.durable is not None:
            await plan.durable.abandon()  # noqa: ASYNC102 - shielded in there
        raise
    try:
        lifetime.begin()
    except BaseException as error:
        # As an error of the block: what was entered here has to be left again in its order.
        await lifetime.close(error)  # noqa: ASYNC102 - waits as a nursery does
        raise
    return lifetime


def _admit_in(outer: Frame | None) -> None:
    """Raise what `open_lifetime` does if no session may be opened in this frame now."""
    if outer is None:
        refuse_in_shutdown()
    else:
        admit_session_in(outer)
