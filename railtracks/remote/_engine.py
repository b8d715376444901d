"""What carries sessions to workers: the interface of an engine, and which engine serves which executor.

Called by `_sending`. The engines are `_executors` and `_cluster`.
"""

from __future__ import annotations

from typing import Any, Protocol

from railtracks.remote._worker import Job, Reply


class JobRecord(Protocol):
    """What an engine tells of a job. All of it in the task that runs Trio."""

    def took(self, worker: str) -> None:
        """Note which worker runs the session, before it has told anything."""
        ...

    def take(self, message: dict[str, Any]) -> None:
        """Add what a worker has told."""
        ...

    def lose(self, worker: str) -> None:
        """Note that nobody knows what becomes of the session."""
        ...


class Engine(Protocol):
    """Runs jobs on workers."""

    async def run(self, job: Job, record: JobRecord) -> Reply:
        """Run a job, and return how its session has ended.

        If it is cancelled, a job that has not begun never begins. How far a cancel reaches one that has begun, the
        engine says; it waits for that one's end.

        Raises:
            WorkerLostError: If the worker is gone.
        """
        ...

    def acknowledge(self, job: Job, position: int) -> None:
        """Have the worker of a job know that all records before a number were taken."""
        ...
