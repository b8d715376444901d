"""Forks: how code learns that this process was forked from another one, whose sessions and locks are not its own.

Called by every module that keeps something which a child process must not take for its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

# How many forks lie between the start of the program and this process. An object that remembers another number was
# made in a parent process. A process id does not tell as much: it is used again, and in a container it is often 1.
_generation = 0


def generation() -> int:
    """Return the number of this process: how many forks lie between the start of the program and this process."""
    return _generation


def count_fork() -> None:
    """Count one fork more. Python calls this in each forked process; tests call it to be in one."""
    global _generation  # noqa: PLW0603 - it is about this process as a whole
    _generation += 1


def after_fork(fn: Callable[[], None]) -> None:
    """Have a function called at the start of each forked process, in the thread that was forked."""
    # Windows has no forks.
    with suppress(AttributeError):
        os.register_at_fork(after_in_child=fn)


after_fork(count_fork)
