"""Sessions in any `concurrent.futures.Executor`, one after another in each of its workers.

A cancel reaches a session that has begun only in a pool of threads. Of other executors a session that has begun is
waited for: its own timeout ends it. The records of its calls come with its end.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor
from typing import Any

import trio

from railtracks._workers.executors import outcome_of, shares_memory
from railtracks.exceptions import WorkerLostError
from railtracks.remote._engine import JobRecord
from railtracks.remote._worker import Job, Reply, cancel_jobs, run_alone, run_job, take_news


class ExecutorEngine:
    """Runs jobs in an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def run(self, job: Job, record: JobRecord) -> Reply:
        """Run a job in the executor. See `Engine.run`."""
        try:
            if shares_memory(self._executor):
                return await self._run_in_thread(job, record)
            reply, messages = await outcome_of(self._executor.submit(run_alone, job), None)
        except BrokenExecutor as error:
            raise WorkerLostError(job.name, type(self._executor).__name__) from error
        for message in messages:
            record.take(message)
        return reply

    def acknowledge(self, job: Job, position: int) -> None:
        """Tell a session in a thread of this process. See `Engine.acknowledge`.

        A session in another process is told nothing: its lines and broadcasts come at its end, and wait for nobody.
        """
        take_news({job.job_id: position})

    async def _run_in_thread(self, job: Job, record: JobRecord) -> Reply:
        token = trio.lowlevel.current_trio_token()

        def send(message: dict[str, Any]) -> None:
            token.run_sync_soon(record.take, message)

        future = self._executor.submit(run_job, job, send)
        return await outcome_of(future, None, lambda: cancel_jobs([job.job_id]))
