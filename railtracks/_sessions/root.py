"""The root frame of a session: where its top-level calls are made, and the part of the session that all calls share.

Made by the lifetime of the session as it begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio.lowlevel import Task

from railtracks._calls.frames import Frame, SessionScope
from railtracks._records.log import SessionLog
from railtracks._records.recording import start_recording
from railtracks._sessions.plan import SessionPlan

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import SessionJournal
    from railtracks._calls.session_control import SessionControl


def root_frame(  # noqa: PLR0917 - what a session is opened with
    plan: SessionPlan,
    control: SessionControl,
    log: SessionLog,
    journal: SessionJournal[Frame] | None,
    outer: Frame | None,
    task: Task,
    nursery_count: int,
) -> Frame:
    """Return the root frame of a session: the parent of its top-level calls.

    Args:
        plan: The parts of the session that there are before it is opened.
        control: What its calls ask of it.
        log: Its log.
        journal: Its journal, if it is durable.
        outer: The frame that the session is opened in, if there is one.
        task: The task that opens it.
        nursery_count: How many nurseries that task had open before those of the session's calls.
    """
    observers = log.new_observers()
    start_recording(plan.settings.get("record_events") or False, plan.record, plan.state_file.folder, observers, log)
    scope = SessionScope(
        record=plan.record,
        end_on_error=bool(plan.settings.get("end_on_error")),
        session=plan.session,
        control=control,
        observers=observers,
        journal=journal,
    )
    depth = max(outer.depth, 0) if outer is not None and outer.task is task else -1 if plan.is_in_new_task else 0
    slot = None if outer is None else outer.slot
    root = Frame(scope, 0, outer, task, depth, nursery_count, 0, slot)
    if journal is not None:
        root.enter_strand(journal.strand)
    return root
