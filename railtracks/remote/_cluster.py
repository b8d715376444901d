"""Sessions on a Dask cluster: which worker gets which, what comes back while they run, and how a cancel gets there.

Called by `_flows`, for one client in one session. Each task is pinned to one worker: so its worker is known, and Dask
does not run it again elsewhere by itself when that worker dies. Dask calls back in a thread of its own, from where
everything goes on in Trio's.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

import trio
from attrs import define, field

from railtracks._records.data import CallError
from railtracks._records.json_values import writable
from railtracks.exceptions import WorkerLostError
from railtracks.remote._dask_types import DaskClient, DaskFuture
from railtracks.remote._engine import JobRecord
from railtracks.remote._scheduler import AWAY, Looks, asked, check_open, is_closed
from railtracks.remote._worker import Job, Reply, cancel_jobs, run_job, take_news

R = TypeVar("R")
T = TypeVar("T")

# Seconds in which a worker has to take note of a cancel, and of how much was taken.
_CANCEL: Final = 2.0
# How many looks find no worker before that is told: a worker that is started again is away for a second or two.
_DESERTED: Final = 5
# How many tasks for each thread a worker may have: one runs, and the next ones are there when that ends.
_AHEAD: Final = 4
# Bytes. A larger outcome is fetched from the worker: the scheduler keeps the last 1,000 messages of each topic.
_SMALL: Final = 2**12

_LOG: Final = logging.getLogger("RT")


@define(eq=False)
class _Worker:
    """A worker of the cluster.

    Attributes:
        address: Its address, which is its name in records.
        threads: How many tasks it runs at a time.
        tasks: Those that it has.
    """

    address: str
    threads: int
    tasks: set[_Task] = field(factory=set["_Task"])

    @property
    def room(self) -> int:
        """How many more tasks it may get."""
        return _AHEAD * self.threads - len(self.tasks)


@define(eq=False)
class _Sent:
    """A job, from its beginning to its end.

    Attributes:
        job: The job.
        record: What is told of it.
        task: The task that it is in, once it is in one.
        reply: How it has ended.
        problem: The error that has ended it.
        is_over: Set at its end.
    """

    job: Job
    record: JobRecord
    task: _Task | None = None
    reply: Reply | None = None
    problem: Exception | None = None
    is_over: trio.Event = field(factory=trio.Event)

    def end(self, reply: Reply | None, problem: Exception | None = None) -> None:
        """Note how it has ended, unless that is known."""
        if not self.is_over.is_set():
            self.reply, self.problem = reply, problem
            self.is_over.set()


@define(eq=False)
class _Task:
    """A task of Dask, which runs one job or more.

    Attributes:
        worker: The worker that it is pinned to.
        jobs: The jobs.
        future: Dask's future of it.
    """

    worker: _Worker
    jobs: list[_Sent]
    future: DaskFuture


class _Channel(NamedTuple, Generic[T]):
    """A channel by its two ends."""

    into: trio.MemorySendChannel[T]
    out: trio.MemoryReceiveChannel[T]


class ClusterEngine:
    """Runs jobs on the workers of a Dask cluster."""

    def __init__(self, client: DaskClient) -> None:
        self._client = client
        self._topic = f"railtracks-{uuid.uuid4().hex}"
        self._token = trio.lowlevel.current_trio_token()
        self._workers: dict[str, _Worker] = {}
        self._waiting: deque[_Sent] = deque()
        self._sent: dict[str, _Sent] = {}
        # Unbounded, but what goes through them is bounded by the room of the workers.
        self._done = _Channel(*trio.open_memory_channel[_Task](math.inf))
        self._stopped = _Channel(*trio.open_memory_channel[_Sent](math.inf))
        self._lost_tasks = _Channel(*trio.open_memory_channel[_Task](math.inf))
        # What threads of Dask's want to be done here, in the order in which it came.
        self._acts = _Channel(*trio.open_memory_channel[Callable[[], object]](math.inf))
        # By the addresses of workers, how much of the news of their jobs was taken.
        self._taken: dict[str, dict[str, int]] = {}
        self._has_taken = trio.Event()
        self._looks = Looks(client, self._take_workers)
        # How many looks have found that jobs wait, and no worker.
        self._deserted = 0

    async def run(self, job: Job, record: JobRecord) -> Reply:
        """Run a job on the worker with the most room. See `Engine.run`.

        A cancel reaches the session on its worker, and waits for its cleanup.
        """
        sent = self._sent[job.job_id] = _Sent(job, record)
        self._waiting.append(sent)
        # After the other jobs of this moment, which may go into the same task.
        self._token.run_sync_soon(self._assign, idempotent=True)
        try:
            await sent.is_over.wait()
        except trio.Cancelled:
            await self._stop(sent)  # noqa: ASYNC102 - shielded there, for some seconds at most
            raise
        finally:
            del self._sent[job.job_id]
            if sent.task is None:
                # Nobody waits for it any more.
                with suppress(ValueError):
                    self._waiting.remove(sent)
        if sent.problem is not None:
            raise sent.problem
        assert sent.reply is not None  # noqa: S101 - one of the two
        return sent.reply

    def acknowledge(self, job: Job, position: int) -> None:
        """Have a worker know how much of the news of a job was taken. See `Engine.acknowledge`."""
        sent = self._sent.get(job.job_id)
        if sent is not None and sent.task is not None:
            self._taken.setdefault(sent.task.worker.address, {})[job.job_id] = position
            self._has_taken.set()

    async def _acknowledge_often(self) -> None:
        """Tell workers how much was taken: one message at a time to each, and none waits for another worker."""
        being_told: set[str] = set()
        async with trio.open_nursery() as nursery:
            while True:
                await self._has_taken.wait()
                self._has_taken = trio.Event()
                for address in self._taken.keys() - being_told:
                    being_told.add(address)
                    nursery.start_soon(self._acknowledge_to, address, self._taken.pop(address), being_told)

    async def _acknowledge_to(self, address: str, positions: dict[str, int], being_told: set[str]) -> None:
        with trio.move_on_after(_CANCEL):
            await self._ask(partial(self._client.run, take_news, positions, workers=[address], on_error="return"))
        being_told.discard(address)
        # All that was taken meanwhile goes in one message.
        self._has_taken.set()

    async def _stop(self, sent: _Sent) -> None:
        """Have a job that was cancelled not begin, or end; wait until it has."""
        if sent.task is None:
            return
        self._stopped.into.send_nowait(sent)
        with trio.move_on_after(_CANCEL + sent.job.cleanup_timeout, shield=True):
            await sent.is_over.wait()
            return
        worker = sent.task.worker.address
        sent.record.lose(worker)
        _LOG.warning(
            "worker %s does not end the session of %r that was cancelled: it may run on", worker, sent.job.name
        )

    def _assign(self) -> None:
        """Give waiting jobs to the workers that have room, those with the most room first."""
        while self._waiting:
            free = [each for each in self._workers.values() if each.room > 0]
            if not free:
                return
            worker = max(free, key=lambda each: each.room)
            # As many as are to be in one task, but so that no free place stays empty.
            most = min(self._waiting[0].job.batch, math.ceil(len(self._waiting) / sum(each.room for each in free)))
            self._submit(worker, [self._waiting.popleft() for _ in range(most)])

    def _submit(self, worker: _Worker, jobs: list[_Sent]) -> None:
        # No argument stands in the key, which Dask logs.
        key = jobs[0].job.job_id
        try:
            future = self._client.submit(
                run_jobs,
                [each.job for each in jobs],
                self._topic,
                key=key,
                workers=[worker.address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
        except Exception as error:  # noqa: BLE001 - of a client that was closed, and raised in `run`
            for each in jobs:
                each.end(None, error)
            return
        task = _Task(worker, jobs, future)
        worker.tasks.add(task)
        for each in jobs:
            each.task = task
            each.record.took(worker.address)
        future.add_done_callback(lambda _: self.soon(self._done.into.send_nowait, task))

    def soon(self, act: Callable[..., object], *args: object) -> None:
        """Do something in the thread that runs Trio. Called in threads of Dask's."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._acts.into.send_nowait, partial(act, *args))

    async def _act_often(self) -> None:
        """Do what threads of Dask's want to be done, one thing in each turn.

        Trio would do all that has come in one turn, and hold up all tasks meanwhile: workers may send many messages.
        """
        async for act in self._acts.out:
            act()

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Do what belongs to no job, until it is cancelled."""
        self._client.subscribe_topic(self._topic, partial(self._heard, self._take))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._act_often)
                nursery.start_soon(self._gather_often)
                nursery.start_soon(self._cancel_on_workers)
                nursery.start_soon(self._looks.ask_often)
                nursery.start_soon(self._tell_if_gone)
                nursery.start_soon(self._forget_often)
                nursery.start_soon(self._acknowledge_often)
                # What is sent goes to all workers then, and not to the first one that is told.
                with trio.move_on_after(AWAY):
                    await self._looks.has_answer.wait()
                task_status.started()
        finally:
            for topic in (self._topic, *self._workers):
                # The connection may be closed.
                with suppress(Exception):
                    self._client.unsubscribe_topic(topic)

    def _heard(self, take: Callable[[Any], object], event: tuple[float, Any]) -> None:
        self.soon(take, event[1])

    def _take(self, message: dict[str, Any]) -> None:
        """Take a message of a worker: records of a job's calls, or how it has ended."""
        sent = self._sent.get(message["job"])
        if sent is None:
            return
        if "reply" in message:
            session_id, worker, count, outcome = message["reply"]
            told = message["told"]
            error = None if told is None else CallError(*told)
            sent.end(Reply(session_id, worker, count, outcome, error, message["rest"]))
        else:
            sent.record.take(message)

    async def _gather_often(self) -> None:
        """Let go of tasks that are done, and fetch the outcomes that were too large to be told."""
        async with trio.open_nursery() as nursery:
            async for task in self._done.out:
                task.worker.tasks.discard(task)
                self._token.run_sync_soon(self._assign, idempotent=True)
                if all(each.is_over.is_set() for each in task.jobs):
                    task.future.release()
                else:
                    nursery.start_soon(self._gather, task)

    async def _gather(self, task: _Task) -> None:
        # Dask waits for half a minute for a result whose worker has just died.
        replies = await self._ask(partial(_fetched, self._client, task.future)) or {}
        task.future.release()
        if isinstance(replies, Exception):
            for each in task.jobs:
                each.end(None, replies)
            return
        for each in task.jobs:
            if each.job.job_id in replies:
                each.end(replies[each.job.job_id])
        # The task was taken away, or what it has told got lost.
        await trio.sleep(_CANCEL)
        for each in task.jobs:
            self._fail(each, WorkerLostError(each.job.name, task.worker.address))

    async def _cancel_on_workers(self) -> None:
        """Tell workers of jobs that were cancelled: those of one moment in one message to each worker."""
        async with trio.open_nursery() as nursery:
            async for sent in self._stopped.out:
                await trio.lowlevel.checkpoint()
                found = [sent]
                with suppress(trio.WouldBlock):
                    while True:
                        found.append(self._stopped.out.receive_nowait())
                for address in {each.task.worker.address for each in found if each.task is not None}:
                    there = [each for each in found if each.task is not None and each.task.worker.address == address]
                    nursery.start_soon(self._cancel_on, address, there)

    async def _cancel_on(self, address: str, jobs: list[_Sent]) -> None:
        ids = [each.job.job_id for each in jobs]
        running: set[str] | None = None
        with trio.move_on_after(_CANCEL):
            told = partial(self._client.run, cancel_jobs, ids, workers=[address], on_error="return")
            answers = await self._ask(told) or {}
            answer: list[str] | Exception | None = answers.get(address)
            running = set(answer) if isinstance(answer, list) else None
        for each in jobs:
            # What was not running will not begin.
            if running is not None and each.job.job_id not in running:
                self._fail(each, WorkerLostError(each.job.name, address))

    async def _forget_often(self) -> None:
        """Have Dask forget the tasks of workers that are gone."""
        async for task in self._lost_tasks.out:
            forget = partial(self._client.cancel, [task.future], force=True)
            await self._ask(forget)

    async def _tell_if_gone(self) -> None:
        """Fail all that was sent, once the client is closed or the scheduler gone."""
        while True:
            await self._looks.until_gone()
            has_closed = is_closed(self._client)
            why = "the Dask client was closed before its session" if has_closed else "the scheduler is gone"
            for each in [*self._sent.values()]:
                problem = ConnectionError(f"{why}: {each.job.name!r} was sent there, and may run on")
                self._fail(each, problem)

    def _take_workers(self, threads: dict[str, int]) -> None:
        """Take note of workers that have come or gone."""
        for address in self._workers.keys() - threads.keys():
            self._lost(address)
        for address in threads.keys() - self._workers.keys():
            self._workers[address] = _Worker(address, threads[address])
            self._client.subscribe_topic(address, partial(self._heard, partial(self._heard_of, address)))
        self._assign()
        self._tell_if_deserted()

    def _tell_if_deserted(self) -> None:
        """Log, once until a worker comes, that jobs wait for one."""
        self._deserted = self._deserted + 1 if self._waiting and not self._workers else 0
        if self._deserted == _DESERTED:
            _LOG.warning(
                "the Dask cluster has no worker: %r, and whatever else is sent, waits until one comes",
                self._waiting[0].job.name,
            )

    async def _ask(self, ask: Callable[[], R]) -> R | None:
        return await asked(self._client, ask)

    def _heard_of(self, address: str, message: dict[str, Any]) -> None:
        if message.get("action") == "remove-worker":
            self._lost(address)

    def _lost(self, address: str) -> None:
        """Give no job to a worker any more that is gone, and give up those that it has."""
        worker = self._workers.pop(address, None)
        for task in [] if worker is None else [*worker.tasks]:
            for sent in task.jobs:
                self._fail(sent, WorkerLostError(sent.job.name, address))
            # Dask would begin it again if a worker with that address came back.
            self._lost_tasks.into.send_nowait(task)

    def _fail(self, sent: _Sent, problem: Exception) -> None:
        """End a job with an error, behind all that workers have told: its own end may be there."""
        self._acts.into.send_nowait(partial(sent.end, None, problem))


def _fetched(client: DaskClient, future: DaskFuture) -> dict[str, Reply] | Exception:
    """Return the replies in the result of a task that is done, by the ids of their jobs, or what has failed it."""
    if future.status == "error":
        return future.exception()
    found = client.gather([future], errors="skip") if future.status == "finished" else []
    return dict(found[0]) if found else {}


def run_jobs(jobs: list[Job], topic: str) -> list[tuple[str, Reply]]:
    """Run jobs one after another, as a task of Dask on a worker, and return how they have ended.

    The end of each is told at once, unless it is large: a worker that dies later does not take it along.
    """
    from distributed import get_worker  # noqa: PLC0415 - there on every worker

    send = partial(get_worker().log_event, topic)
    replies: list[tuple[str, Reply]] = []
    for job in jobs:
        reply = run_job(job, send)
        if isinstance(reply.outcome, bytes) and len(reply.outcome) < _SMALL:
            error = reply.told
            # Dask cannot send a lone surrogate, and closes the connection of a worker that tries to.
            told = None if error is None else [*map(writable, (error.type, error.message, error.traceback))]
            parts = [reply.session_id, reply.worker, reply.count, reply.outcome]
            send({"job": job.job_id, "reply": parts, "told": told, "rest": reply.rest})
        else:
            replies.append((job.job_id, reply))
    return replies


@asynccontextmanager
async def open_engine(client: DaskClient) -> AsyncGenerator[ClusterEngine]:
    """Open what carries sessions to the workers of a cluster."""
    check_open(client)
    engine = ClusterEngine(client)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.serve)
        yield engine
        nursery.cancel_scope.cancel()
