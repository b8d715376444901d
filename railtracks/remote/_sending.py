"""One session sent to a worker, as a call of the session here.

Called by `submit` and `map_flow`. The call is recorded, retried, cancelled and awaited as every call is, and the calls
of the session on the worker are recorded below it as they happen.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import signature
from typing import Final, cast

import trio
from attrs import define

from railtracks._calls.frames import current_frame
from railtracks._nodes.making import function_node
from railtracks._nodes.node import Node
from railtracks._nodes.retry import Retry
from railtracks._records.descriptions import describe_once
from railtracks._sessions.flow import Flow, own_timeout_of
from railtracks._traces import carrier_here
from railtracks._workers.pickling import packed, unpacked
from railtracks.exceptions import WorkerLostError
from railtracks.remote._engine import Engine
from railtracks.remote._record import RemoteRecord
from railtracks.remote._worker import Bound, FlowName, Job, Reply, this_process

# How often a session is begun, if its workers go away: Dask's own limit, too (distributed.scheduler.allowed-failures).
_ATTEMPTS: Final = 4


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
        job = Job(
            f"railtracks-{uuid.uuid4().hex}",
            self.name,
            payload,
            session_id,
            self.timeout,
            self.batch,
            self.flow.cleanup_timeout,
            (own_timeout_of(self.flow) if self.timeout is None else self.timeout) + self.flow.cleanup_timeout,
            carrier_here(),
            this_process(),
            frame.scope.control.is_heard or bool(frame.scope.observers.broadcast),
        )
        record = RemoteRecord(frame, job, partial(engine.acknowledge, job))
        if job.is_heard:
            reply = (await record.broadcasts.delivered_beside(partial(_run, engine, job, record))).hand_over()
        else:
            reply = await _run(engine, job, record)
        outcome = reply.outcome
        try:
            return unpacked(self.name, outcome) if isinstance(outcome, bytes) else outcome.hand_over()
        except BaseException as error:
            told = reply.told
            if told is not None:
                # The secrets in it are known to its own session, and not here.
                describe_once(error, partial(frame.scope.tree.path, frame.call_id), lambda _: told)
            raise


async def _run(engine: Engine, job: Job, record: RemoteRecord) -> Reply:
    """Run a job, and have its record closed on every way out."""
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
    return reply
