"""Sessions in any `concurrent.futures.Executor`, one after another in each of its workers.

A cancel reaches a session that has begun only in a pool of threads. Of other executors a session that has begun is
waited for: its own timeout ends it. It is given up if the executor fails, or if it has a timeout and its end is not
told long after that. The records of its calls come with its end.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from typing import Any, Final

import trio

from railtracks._records.error_parts import class_name
from railtracks._records.errors import Caught, is_ordinary
from railtracks._sessions.trio_thread import caught_in_scope
from railtracks._workers.executors import outcome_of, shares_memory
from railtracks.exceptions import SessionCancelledError, WorkerLostError
from railtracks.remote._engine import JobRecord
from railtracks.remote._worker import Job, Reply, cancel_jobs, run_alone, run_job, take_news

# Seconds that an executor has to begin a worker, and to tell of an end.
_LATE: Final = 5.0

_LOG: Final = logging.getLogger("RT")


class ExecutorEngine:
    """Runs jobs in an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._name = type(executor).__name__

    async def run(self, job: Job, record: JobRecord) -> Reply:
        """Run a job in the executor. See `Engine.run`."""
        try:
            if shares_memory(self._executor):
                return await self._run_in_thread(job, record)
            return await self._run_elsewhere(job, record)
        except BrokenExecutor as error:
            raise WorkerLostError(job.name, self._name) from error
        except CancelledError as error:
            # As `shutdown(cancel_futures=True)` does. Its own error has no text.
            raise SessionCancelledError(f"{self._name} has cancelled {job.name!r} before it began") from error  # noqa: ASYNC104 - of a future

    async def _run_elsewhere(self, job: Job, record: JobRecord) -> Reply:
        future = self._executor.submit(run_alone, job)
        try:
            reply, messages = await outcome_of(future, _go_on)
        except trio.Cancelled:
            if not future.cancelled():
                await self._await_end(job, record, future)  # noqa: ASYNC102 - shielded there
            raise
        await _take(record, messages)
        return reply

    async def _await_end(self, job: Job, record: JobRecord, future: Future[tuple[Reply, list[dict[str, Any]]]]) -> None:
        """Wait for a session that was cancelled after it had begun; give it up if it ought to have ended long ago.

        It is given up at once if the executor fails. The error does not go before the cancel: nobody waits for it.
        """
        # The executor may count it as begun while it runs another one, which may take as long.
        longest = 2 * job.longest + _LATE
        # The error of the executor is a value here.
        ended = partial(caught_in_scope, partial(outcome_of, future, _go_on))
        came: Caught[tuple[Reply, list[dict[str, Any]]]] | None = None
        with trio.move_on_after(longest, shield=True):
            with trio.move_on_after(job.cleanup_timeout + _LATE):
                came = await ended()
            if came is None:
                bound = "a timeout of its flow would bound that" if math.isinf(longest) else f"{longest:g} s at most"
                _LOG.warning(
                    "the session of %r was cancelled, and no cancel reaches it in %s: its end is waited for, %s",
                    job.name,
                    self._name,
                    bound,
                )
                came = await ended()
            if not is_ordinary(came.error):
                reply, messages = came.hand_over()
                await _take(record, [*messages, reply.rest] if reply.session_id else messages)
                return
        record.lose(self._name)
        why = "" if came is None or came.error is None else f" ({class_name(came.error)})"
        _LOG.warning(
            "%s does not tell how the session of %r that was cancelled has ended%s: it may run on",
            self._name,
            job.name,
            why,
        )

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


def _go_on() -> None:
    """Do nothing: what was left behind is waited for once more."""


async def _take(record: JobRecord, messages: list[dict[str, Any]]) -> None:
    """Take what a worker has told, one message in each turn: all at once would hold up all other tasks."""
    for message in messages:
        record.take(message)
        # The session has ended: a cancel loses none of them.
        await trio.lowlevel.cancel_shielded_checkpoint()
