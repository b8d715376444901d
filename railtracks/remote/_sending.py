"""One session sent to a worker, as a call of the session here.

Called by `submit` and `map_flow`. The call is recorded, retried, cancelled and awaited as every call is, and the calls
of the session on the worker are recorded below it as they happen.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import signature
from typing import Any, Final, cast

import trio
from attrs import define

from railtracks._calls.frames import Frame, current_frame
from railtracks._nodes.making import function_node
from railtracks._nodes.node import Node
from railtracks._nodes.retry import Retry
from railtracks._records.data import RemoteOrigin, Status
from railtracks._records.descriptions import describe_once, described
from railtracks._records.events import EventKind
from railtracks._records.remote_calls import RemoteCalls, RemoteStart
from railtracks._sessions.flow import Flow
from railtracks._traces import carrier_here
from railtracks._workers.pickling import packed, unpacked
from railtracks.exceptions import WorkerLostError
from railtracks.remote._engine import Engine
from railtracks.remote._wire import read
from railtracks.remote._worker import Bound, FlowName, Job, Reply

# How often a session is begun, if its workers go away: Dask's own limit, too (distributed.scheduler.allowed-failures).
_ATTEMPTS: Final = 4
# Seconds for which records that are on their way are waited for, after the end of the session.
_LATE: Final = 2.0
_KINDS: Final = {
    Status.RUNNING: EventKind.CALL_STARTED,
    Status.COMPLETED: EventKind.CALL_COMPLETED,
    Status.CANCELLED: EventKind.CALL_CANCELLED,
}


@define(frozen=True)
class Sending:
    """How the sessions of a flow are sent.

    Attributes:
        engine: Returns what carries them to workers.
        flow: The flow.
        timeout: The timeout of each session, `None` for that of the flow.
        batch: How many of them one task of a cluster may run.
        session_id: Returns the name of a durable session, by the arguments; `None` if it gets a name of its own.
        flow_name: The flow by its name; `None` if the workers are threads of this process.
    """

    engine: Callable[[], Awaitable[Engine]]
    flow: Flow[..., object]
    timeout: float | None
    batch: int
    session_id: Callable[..., str] | None
    flow_name: FlowName | None

    def node(self) -> Node[..., object]:
        """Return the node whose calls send a session each: `flow NAME`."""

        async def send(*args: object, **kwargs: object) -> object:
            return await self._send(args, kwargs)

        # The arguments are those of the entry point, and their names tell which of them are secrets.
        send.__signature__ = signature(self.flow.entry.fn)  # type: ignore[attr-defined]
        retry = Retry(_ATTEMPTS, on=WorkerLostError, wait_initial=0.01, jitter=0.0)
        return function_node(send, name=self.name, retry=retry)

    @property
    def name(self) -> str:
        """The name of the node."""
        return f"flow {self.flow.name}"

    async def _send(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        engine = await self.engine()
        frame = current_frame.get()
        assert frame is not None  # noqa: S101 - the call of this node
        payload: bytes | Bound = (self.flow, args, kwargs)
        if self.flow_name is not None:
            payload = packed(self.name, cast("Callable[..., object]", self.flow_name), args, kwargs)
        session_id = None if self.session_id is None else self.session_id(*args, **kwargs)
        # Random, not counted: a forked process has the counters of its parent, and sends to the same workers.
        job_id = f"railtracks-{uuid.uuid4().hex}"
        cleanup, trace = self.flow.cleanup_timeout, carrier_here()
        job = Job(job_id, self.name, payload, session_id, self.timeout, self.batch, cleanup, trace)
        record = _RemoteRecord(frame, job)
        try:
            reply = await engine.run(job, record)
            if reply.session_id:
                record.take(reply.rest)
            # The engine may have waited for the end of a session that was cancelled.
            await trio.lowlevel.checkpoint_if_cancelled()
            await record.complete(reply)
        except WorkerLostError as error:
            record.lose(error.worker)
            raise
        finally:
            record.close()
        outcome = reply.outcome
        try:
            return unpacked(self.name, outcome) if isinstance(outcome, bytes) else outcome.hand_over()
        except BaseException as error:
            told = reply.told
            if told is not None:
                # The secrets in it are known to its own session, and not here.
                describe_once(error, partial(frame.scope.tree.path, frame.call_id), lambda _: told)
            raise


class _RemoteRecord:
    """The record of one session on a worker, as it grows below the call that has sent it.

    Messages come in the order in which the worker sent them, but some may be missing, and the last may come after the
    end of the session.
    """

    def __init__(self, frame: Frame, job: Job) -> None:
        self._scope = frame.scope
        self._call_id = frame.call_id
        self._name = job.name
        self._worker = ""
        self._calls: RemoteCalls | None = None
        self._arrived = 0
        # By so much at most the clock of the worker is ahead: the smallest delay of a message until now.
        self._shift = math.inf
        self._came = trio.Event()

    def took(self, worker: str) -> None:
        """Note which worker runs the session, before it has told anything."""
        self._worker = worker

    def take(self, message: dict[str, Any]) -> None:
        """Add what a worker has told."""
        self._shift = min(self._shift, time.time() - message["at"])
        self._worker = self._worker or message["worker"]
        calls = self._calls_of(message["session"])
        self._arrived += len(message["lines"])
        for each in read(message["lines"]):
            if isinstance(each, RemoteStart):
                calls.start(each, self._shift)
            else:
                calls.end(each, self._shift)
        self._came.set()

    async def complete(self, reply: Reply) -> None:
        """Wait for the records that are on their way, and note how many have not come. The session has ended."""
        with trio.move_on_after(_LATE):
            while self._arrived < reply.count:
                self._came = trio.Event()
                await self._came.wait()
        if reply.session_id:
            self._calls_of(reply.session_id).finish(max(0, reply.count - self._arrived))

    def lose(self, worker: str) -> None:
        """Close the calls that are open as lost: nobody knows what becomes of them."""
        if self._calls is not None:
            self._calls.lose(described(WorkerLostError(self._name, worker)))

    def close(self) -> None:
        """Close the calls that are open: the call around them ends."""
        if self._calls is not None:
            self._calls.cancel()

    def _calls_of(self, session_id: str) -> RemoteCalls:
        if self._calls is None:
            origin = RemoteOrigin(session_id, self._worker)
            self._calls = RemoteCalls(self._scope.tree, self._call_id, origin, self._tell)
        return self._calls

    def _tell(self, status: Status, call_id: int) -> None:
        self._scope.tell_of(_KINDS.get(status, EventKind.CALL_FAILED), call_id)
