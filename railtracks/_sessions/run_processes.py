"""Worker processes that belong to a whole Trio run, and so outlive its sessions.

Called by the process's Trio thread, which has such processes, and by sessions, which use them. In every other Trio run
the outermost session has worker processes of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from railtracks._calls.session_control import WorkerProcesses
    from railtracks._workers.processes import StartsTasks


def new_worker_pool(nursery: StartsTasks) -> WorkerProcesses:
    """Return a new pool of worker processes; each one starts on first use.

    Args:
        nursery: The nursery for the tasks that look after them. It must end after the pool is closed.

    Raises:
        ImportError: If the extra `process` is not installed.
    """
    # Needs that extra.
    from railtracks._workers.processes import WorkerPool  # noqa: PLC0415

    return WorkerPool(nursery)


class RunProcesses:
    """The worker processes of one Trio run. Sessions find them once `share` was called in the run."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._pool: WorkerProcesses | None = None

    def share(self) -> None:
        """Have all sessions of this Trio run use these processes from now on."""
        _of_run.set(self)

    def pool(self) -> WorkerProcesses:
        """Return the pool, which is made on first use."""
        if self._pool is None:
            self._pool = new_worker_pool(self._nursery)
        return self._pool

    async def close(self) -> None:
        """End the processes, if there are any, and wait for their end."""
        if self._pool is not None:
            await self._pool.close()


_of_run: trio.lowlevel.RunVar[RunProcesses | None] = trio.lowlevel.RunVar("railtracks_processes", default=None)


def processes_of_run() -> RunProcesses | None:
    """Return the worker processes that all sessions of this Trio run share, `None` if its sessions have their own."""
    return _of_run.get()
