"""What runs on a worker: sessions in Trio runs of their own, known by the ids of their jobs, which can be cancelled.

Called by engines, through what they carry: `run_job` in the thread of a task, `cancel_jobs` in any thread beside it.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any, Final, TypeAlias, cast

import trio
from attrs import define

from railtracks._forks import after_fork
from railtracks._nodes.variables import in_variable
from railtracks._options import FlowOptions
from railtracks._records.data import CallError
from railtracks._records.descriptions import known_description
from railtracks._records.errors import Caught, caught
from railtracks._records.events import CallEvent, Event, EventKind, SessionEvent
from railtracks._records.observers import EVERYWHERE, SESSION_AND_CALL_KINDS
from railtracks._sessions.event_loops import is_loop_running, run_from_sync
from railtracks._sessions.flow import Flow, flow_like
from railtracks._traces import WithTrace
from railtracks._workers.pickling import packed_value, run_packed
from railtracks.exceptions import SessionCancelledError
from railtracks.remote._logged import LineCatcher, LoggedLine
from railtracks.remote._wire import SECONDS, Feed, Line

# A flow, with its positional and its keyword arguments.
Bound: TypeAlias = tuple[Flow[..., object], tuple[object, ...], Mapping[str, object]]
# Sends a message to where the session was sent from.
Send = Callable[[dict[str, Any]], object]


@define(frozen=True)
class FlowName:
    """A flow by the variable that holds it, which is quicker to pickle than to find that each time."""

    module: str
    variable: str

    def found(self) -> object:
        """Return the flow in this process; imports its module.

        Raises:
            AttributeError: If the module has no such variable here.
        """
        return in_variable(self.module, self.variable)


@define(frozen=True)
class Job:
    """One session that is sent to a worker.

    Attributes:
        job_id: What it is called while it runs.
        name: The name of its node here, for errors.
        payload: The flow and its arguments: packed, or for a thread of this process as they are.
        session_id: The identifier of the session, of a durable flow.
        timeout: The timeout of the session in seconds, in place of that of the flow.
        batch: How many such jobs one task may run.
        cleanup_timeout: Seconds for which it is waited for once it is cancelled.
        longest: Seconds that the session takes at most with its cleanup, infinite if neither it nor its flow was given
            a timeout.
        trace: The trace that its session belongs to, if telemetry is used.
        home: The process that has sent it: what is logged there need not go there.
        is_heard: Whether its broadcasts are wanted there.
    """

    job_id: str
    name: str
    payload: bytes | Bound
    session_id: str | None
    timeout: float | None
    batch: int
    cleanup_timeout: float
    longest: float = math.inf
    trace: dict[str, str] | None = None
    home: str = ""
    is_heard: bool = False


@define(frozen=True)
class Reply:
    """How a session on a worker has ended.

    Attributes:
        session_id: Its identifier; empty if it was never opened.
        worker: The host and the process that ran it.
        count: How many records of its calls were sent.
        outcome: Its result or its error: packed, or from a thread of this process as it is.
        told: The error as text without the secrets that its session knows; `None` if there is none.
        rest: The message with the last records.
    """

    session_id: str
    worker: str
    count: int
    outcome: bytes | Caught[object]
    told: CallError | None
    rest: dict[str, Any]


class _Running:
    """A job that runs here.

    Attributes:
        feed: Takes the records of its calls.
        session_id: The identifier of its session, empty until that is open.
        told: The error that it has ended with, as text without secrets.
    """

    def __init__(self, job: Job, send: Send, *, is_taken: bool) -> None:
        self.job = job
        self.session_id = ""
        self.feed = Feed(lambda first, lines: send(self.message(first, lines)), is_taken=is_taken)
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self.told: CallError | None = None
        self.is_cancelled = False
        self.reason: str | None = None

    def message(self, first: int, lines: list[Line]) -> dict[str, Any]:
        """Return the message with some records, of which the first has a number."""
        return {
            "job": self.job.job_id,
            "session": self.session_id,
            "worker": _name(),
            "first": first,
            "lines": lines,
            "at": time.time(),
        }

    def run(self, flow: Flow[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """Run the session, and return its result.

        Raises:
            RuntimeError: If an event loop runs in this thread: it is that of an executor without workers.
        """
        if is_loop_running():
            raise RuntimeError(
                f"{self.job.name!r} was to run in a thread in which an event loop is running, and would hold that up:"
                " use an executor that has threads or processes of its own"
            )
        return run_from_sync(partial(self._main, flow, args, kwargs), None, in_thread=False)

    async def _main(self, flow: Flow[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        job = self.job
        options: FlowOptions = {} if job.timeout is None else {"timeout": job.timeout}
        if job.is_heard and not flow.is_heard:
            options["broadcast_callback"] = self._broadcast
        connection = (flow_like(flow, None, options) if options else flow).connect(session_id=job.session_id)
        self._token = trio.lowlevel.current_trio_token()
        # Ends with the Trio run. A nursery around the session would wrap its error.
        trio.lowlevel.spawn_system_task(self._flush_often)
        _job.set(self)
        # A cancel of another thread either has found the token, or is found here.
        if self.is_cancelled:
            raise SessionCancelledError(self.reason)
        with self._scope:
            return await connection.ainvoke(*args, **kwargs)
        raise SessionCancelledError(self.reason)

    async def _flush_often(self) -> None:
        while True:
            await trio.sleep(SECONDS)
            self.feed.flush()

    async def _broadcast(self, item: object) -> None:
        await self.feed.broadcast(packed_value(item) if isinstance(self.job.payload, bytes) else item)

    def take(self, position: int) -> None:
        """Note that all records before a number were taken, in any thread."""
        self.feed.take(position)
        self._soon(self.feed.wake)

    def cancel(self, reason: str | None) -> None:
        """Cancel the session, from any thread; one that has not begun is cancelled as it begins."""
        self.is_cancelled, self.reason = True, reason
        self._soon(self._scope.cancel, reason)

    def _soon(self, act: Callable[..., object], *args: object) -> None:
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(act, *args)


# The job whose session the running code is to open.
_job: ContextVar[_Running | None] = ContextVar("railtracks_job", default=None)


class _Reporter:
    """The observer that hands what happens in the sessions of jobs to their feeds."""

    def __init__(self) -> None:
        self.feeds: dict[str, Feed] = {}

    def on_event(self, event: Event) -> None:
        """Take an event of any session of this process."""
        if isinstance(event, CallEvent):
            feed = self.feeds.get(event.session_id)
            if feed is not None:
                feed.add(event)
        else:
            assert isinstance(event, SessionEvent)  # noqa: S101 - see `SESSION_AND_CALL_KINDS`
            self._take(event)

    def _take(self, event: SessionEvent) -> None:
        identifier, job = event.session.identifier, _job.get()
        if event.kind is EventKind.SESSION_CLOSED:
            self.feeds.pop(identifier, None)
        elif job is not None and not job.session_id and event.parent_session_id is None:
            job.session_id = identifier
            job.feed.begin(identifier, event.tree)
            self.feeds[identifier] = job.feed


# How many jobs that were cancelled before they began are remembered.
_MOST_CANCELLED: Final = 10_000


class _Jobs:
    """The jobs of this process. Tasks come and go in any of its threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[str, _Running] = {}
        # Jobs that were cancelled before they came.
        self._cancelled: dict[str, str | None] = {}
        self._reporter = _Reporter()
        # What catches the lines of the log of these jobs, while any run whose lines go to another process.
        self._catcher = LineCatcher(_take_here)
        self._caught = 0
        # A process that is forked from this one is another one.
        self.here = uuid.uuid4().hex

    @contextmanager
    def running(self, running: _Running) -> Generator[None]:
        """Keep a job as one that runs here, while the block runs."""
        job_id = running.job.job_id
        with self._lock:
            if job_id in self._cancelled:
                running.cancel(self._cancelled.pop(job_id))
            if not self._running:
                EVERYWHERE.add(self._reporter, SESSION_AND_CALL_KINDS)
            self._running[job_id] = running
        try:
            yield
        finally:
            with self._lock:
                del self._running[job_id]
                if not self._running:
                    EVERYWHERE.remove(self._reporter)

    @contextmanager
    def caught_lines(self, job: Job) -> Generator[None]:
        """Hand on what is logged in the session of a job, while the block runs."""
        if job.home == self.here:
            yield
            return
        with self._lock:
            self._caught += 1
            # Once; again, if the program has configured its logging anew meanwhile.
            logging.getLogger().addHandler(self._catcher)
        try:
            yield
        finally:
            with self._lock:
                self._caught -= 1
                if not self._caught:
                    self.catch_no_lines()

    def catch_no_lines(self) -> None:
        """Take the handler away."""
        logging.getLogger().removeHandler(self._catcher)

    def take(self, positions: Mapping[str, int]) -> None:
        """Note how much of the news of jobs was taken."""
        for job_id, position in positions.items():
            running = self._running.get(job_id)
            if running is not None:
                running.take(position)

    def cancel(self, job_ids: Iterable[str], reason: str | None) -> list[str]:
        """Cancel jobs, and return those that run here. The others never begin here."""
        found: list[str] = []
        with self._lock:
            for job_id in job_ids:
                running = self._running.get(job_id)
                if running is not None:
                    running.cancel(reason)
                    found.append(job_id)
                else:
                    # Of those that never come the oldest are forgotten first.
                    self._cancelled[job_id] = reason
                    if len(self._cancelled) > _MOST_CANCELLED:
                        del self._cancelled[next(iter(self._cancelled))]
        return found


def _take_here() -> Callable[[LoggedLine], object] | None:
    running = _job.get()
    return None if running is None or running.job.home == _jobs.here else running.feed.log


_jobs = _Jobs()


def _begin_anew() -> None:
    global _jobs  # noqa: PLW0603 - set at the start of a process only
    _jobs.catch_no_lines()
    _jobs = _Jobs()


after_fork(_begin_anew)


def run_job(job: Job, send: Send, *, is_taken: bool = True) -> Reply:
    """Run a session in this thread, and return how it has ended; raise nothing.

    Args:
        job: What to run.
        send: Sends records of its calls, and what else is told, while it runs.
        is_taken: Whether `take_news` will be called for it.
    """
    running = _Running(job, send, is_taken=is_taken)
    with _jobs.running(running):
        if isinstance(job.payload, bytes):
            outcome: bytes | Caught[object] = run_packed(job.payload, partial(_run, running))
        else:
            outcome = caught(partial(_run, running, *job.payload))
    rest = running.message(*running.feed.rest())
    return Reply(running.session_id, _name(), running.feed.count, outcome, running.told, rest)


def _name() -> str:
    return f"{platform.node()}-{os.getpid()}"


def _run(running: _Running, flow: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    found = flow.found() if isinstance(flow, FlowName) else flow
    run = partial(running.run, cast("Flow[..., object]", found), args, kwargs)
    try:
        # Not around the import of the flow's module: it may configure the logging, if nobody has done that.
        with _jobs.caught_lines(running.job):
            return WithTrace(run, running.job.trace)() if running.job.trace else run()
    except BaseException as error:
        running.told = known_description(error)
        raise


def cancel_jobs(job_ids: Iterable[str], reason: str | None = None) -> list[str]:
    """Cancel jobs of this process, and return those that run in it; the others will never begin in it."""
    return _jobs.cancel(job_ids, reason)


def take_news(positions: Mapping[str, int]) -> None:
    """Note how much of the news of jobs of this process was taken: all before a number, by the ids of the jobs."""
    _jobs.take(positions)


def this_process() -> str:
    """Return what tells this process from all others."""
    return _jobs.here


def run_alone(job: Job) -> tuple[Reply, list[dict[str, Any]]]:
    """Run a session, and return how it has ended with all records of its calls: for executors that carry no news."""
    news: list[dict[str, Any]] = []
    reply = run_job(job, news.append, is_taken=False)
    return reply, news
