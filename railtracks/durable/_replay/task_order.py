"""Which tasks of nurseries have an order: what a task does after another one has ended, it does after it in every run.

A strand asks here for what it cannot know by the arguments of a call.
"""

from __future__ import annotations

from collections.abc import Iterator

from trio.lowlevel import Task


def _line_of(task: Task) -> list[Task]:
    """Return the tasks around a task, from the outermost one to itself."""

    def upwards() -> Iterator[Task]:
        at: Task | None = task
        while at is not None:
            yield at
            at = None if at.parent_nursery is None else at.parent_nursery.parent_task

    return [*upwards()][::-1]


def comes_after(task: Task, other: Task) -> bool:
    """Return whether the code says that a running task does something after what another one has done.

    That is so if the nursery of the other task was closed before. Within one nursery Trio starts tasks in any order,
    and no task has an order to those inside of it.
    """
    for ours, theirs in zip(_line_of(task), _line_of(other), strict=False):
        if ours is not theirs:
            nursery = theirs.parent_nursery
            return nursery is not None and nursery not in nursery.parent_task.child_nurseries
    return False
