"""`rt.submit`, `rt.map_flow` and `rt.args`: what users call."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, TypeVar, cast

import trio

from railtracks._calls.as_completed import as_completed
from railtracks._calls.here import frame_in, open_scope
from railtracks._calls.pending import PendingCall
from railtracks._checks import check_count, check_flag, check_timeout
from railtracks._nodes.worker_modules import MAIN
from railtracks._sessions.access import current_session
from railtracks._sessions.flow import BoundFlow, Flow
from railtracks._sessions.session import Session
from railtracks._workers.executors import shares_memory
from railtracks.exceptions import ContextError, NodeCreationError
from railtracks.remote._engine import Engine
from railtracks.remote._executors import ExecutorEngine
from railtracks.remote._sending import Sending
from railtracks.remote._worker import FlowName

if TYPE_CHECKING:
    from distributed import Client

    from railtracks.remote._dask_types import DaskClient

R = TypeVar("R")

# What runs sessions elsewhere.
Workers: TypeAlias = "Executor | Client"
# The modules of programs, which workers cannot import by that name.
_MAINS: Final = frozenset({MAIN, "__mp_main__"})


class args:  # noqa: N801 - it stands for a call's parentheses
    """The arguments of one session of `map_flow`, where its entry point takes more or others than one input.

        rt.map_flow(pool, flow, [rt.args("Ada", year=1815), rt.args("Alan", year=1912)])

    Attributes:
        args: The positional arguments.
        kwargs: The keyword arguments.
    """

    __slots__ = ("args", "kwargs")

    def __init__(self, /, *args: object, **kwargs: object) -> None:
        self.args: tuple[object, ...] = args
        self.kwargs: dict[str, object] = kwargs

    def __repr__(self) -> str:
        return f"<railtracks.args: {len(self.args)} by position, {len(self.kwargs)} by name>"


async def submit(
    workers: Workers,
    bound: BoundFlow[R],
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - that of the session
    session_id: str | None = None,
) -> PendingCall[R]:
    """Send a session of a flow to a worker, and return at once the call that stands for it.

        async with rt.Session():
            report = await rt.submit(client, survey.bind("Norway"))
            await report.wait()
            print(report.result())

    The session here awaits it or cancels it at its end, as what `Session.start_soon` starts. In the record it is one
    call, `flow NAME`, and the calls of its session stand below that. A checkpoint.

    A flow goes by the name of the variable that holds it, so the workers must be able to import its module. Arguments
    and results are pickled. If a worker goes away, the session is begun again elsewhere, four times at most: it may run
    more than once. Only a durable flow, in a store that all workers reach, resumes where it was.

    A cancel reaches a running session on a Dask cluster and in a pool of threads. Other executors only drop one that
    has not begun; one that runs is waited for, and its own timeout ends it. If its end is not told after twice that
    timeout and `cleanup_timeout`, it is given up with a WARNING.

    Args:
        workers: A `concurrent.futures.Executor`, or a Dask client.
        bound: The flow with its arguments: `flow.bind(...)`.
        timeout: Seconds for the session, from its own start on; by default that of the flow.
        session_id: The name of the session, of a durable flow.

    Returns:
        The call; its `result()` raises the error of the session, or a `TypeError` if an argument cannot be pickled.

    Raises:
        ContextError: If no session is open here, or it drains; or if it is durable, and this is in a call of it that is
            recorded, as all of a durable flow is: use `map_flow` there, which ends in that call.
        NodeCreationError: If the workers cannot import the flow: it is made in a program or a notebook.
        TypeError: If an argument of `submit` is of the wrong type, or the entry point does not take those of `bind`.
        ImportError: If the extra `retry` is not installed.
        ValueError: If `timeout` is impossible, or `session_id` is given and the flow is not durable.
    """
    if not isinstance(cast("object", bound), BoundFlow):
        raise TypeError(f"rt.submit takes flow.bind(...), not {type(bound).__name__}")
    session = current_session()
    if session_id is not None:
        bound.flow.connect(session_id=session_id)

    def name(*_: object, **__: object) -> str:
        return session_id or ""

    sending = _sending(session, workers, bound.flow, timeout, 1, None if session_id is None else name)
    _refuse_in_recorded_call(bound.flow)
    pending = session.start_soon(sending.node(), *bound.args, **bound.kwargs)
    await trio.lowlevel.checkpoint()
    return cast("PendingCall[R]", pending)


def map_flow(
    workers: Workers,
    flow: Flow[..., R],
    inputs: Iterable[object],
    *,
    limit: int | None = None,
    batch: int = 1,
    ordered: bool = False,
    timeout: float | None = None,
    session_ids: Callable[..., str] | None = None,
) -> AbstractAsyncContextManager[AsyncIterator[PendingCall[R]]]:
    """Send a session of a flow for each input, and hand out their calls as they end.

        async with rt.map_flow(client, survey, countries) as finished:
            async for pending in finished:
                print(pending.args, pending.result())

    A failed session cancels nothing. Leaving the block cancels the sessions that still run, and waits for them. All
    else is as for `submit`.

    Args:
        workers: A `concurrent.futures.Executor`, or a Dask client.
        flow: The flow.
        inputs: One argument for each session, or `rt.args(...)`; drawn as there is room for a session.
        limit: How many sessions may be under way at once; by default twice the threads of the workers.
        batch: How many sessions one task of the cluster runs, one after another: for sessions that take less than a few
            milliseconds. Of an executor each session is a task.
        ordered: Whether the calls are handed out in the order of the inputs.
        timeout: Seconds for each session, from its own start on; by default that of the flow.
        session_ids: Returns the name of a durable session, by its arguments, so that a second run resumes the first.

    Raises:
        ContextError: When the block is entered, if no session is open here, or it drains.
        NodeCreationError: As from `submit`.
        TypeError: If an argument is of the wrong type.
        ImportError: As from `submit`.
        ValueError: If `limit`, `batch` or `timeout` is impossible, or `session_ids` is given for a flow that is not
            durable.
    """
    if not isinstance(cast("object", flow), Flow):
        raise TypeError(f"rt.map_flow takes a Flow, not {type(flow).__name__}")
    check_count("batch", batch)
    if limit is not None:
        check_count("limit", limit)
    check_flag("ordered", ordered)
    if session_ids is not None and not callable(cast("object", session_ids)):
        raise TypeError(
            "session_ids must be a function from the arguments of a session to its identifier, not"
            f" {type(session_ids).__name__}"
        )
    if session_ids is not None and flow.store is None:
        flow.connect(session_id="x")
    return _mapped(workers, flow, inputs, limit, batch, timeout, session_ids, is_ordered=ordered)


@asynccontextmanager
async def _mapped(  # noqa: PLR0917 - handed on
    workers: Workers,
    flow: Flow[..., R],
    inputs: Iterable[object],
    limit: int | None,
    batch: int,
    timeout: float | None,  # noqa: ASYNC109 - that of the sessions
    session_ids: Callable[..., str] | None,
    *,
    is_ordered: bool,
) -> AsyncGenerator[AsyncIterator[PendingCall[R]]]:
    sending = _sending(current_session(), workers, flow, timeout, batch, session_ids)
    most = 2 * await _threads_of(workers) * batch if limit is None else limit
    # A fan-out hands on positional arguments only.
    node = sending.node().under(_unfolding)
    given = (each if isinstance(each, args) else args(each) for each in inputs)
    order = _Order(given) if is_ordered else None
    async with as_completed(node, given if order is None else order, limit=most) as finished:
        calls = finished if order is None else order.put_right(finished)
        yield cast("AsyncIterator[PendingCall[R]]", calls)


def _unfolding(fn: Callable[..., Any]) -> Callable[[args], Any]:
    return lambda each: fn(*each.args, **each.kwargs)


class _Order(Iterator[args]):
    """The inputs of a fan-out in the order in which they are drawn, and its calls in that order."""

    def __init__(self, inputs: Iterator[args]) -> None:
        self._inputs = inputs
        self._drawn: deque[args] = deque()

    def __next__(self) -> args:
        drawn = next(self._inputs)
        # The same object may come again as an input.
        own = args(*drawn.args, **drawn.kwargs)
        self._drawn.append(own)
        return own

    async def put_right(self, finished: AsyncIterator[PendingCall[object]]) -> AsyncIterator[PendingCall[object]]:
        """Hand out calls that have ended, each after those of all earlier inputs."""
        ended: dict[object, PendingCall[object]] = {}
        async for pending in finished:
            ended[pending.given[0]] = pending
            while self._drawn and self._drawn[0] in ended:
                yield ended.pop(self._drawn.popleft())


def _refuse_in_recorded_call(flow: Flow[..., Any]) -> None:
    """Raise the error of `submit` in a recorded call, which may end before what it has sent."""
    scope = open_scope()
    frame = None if scope.journal is None else frame_in(scope)
    node = None if scope.journal is None or frame is None else scope.journal.recorded_around(frame)
    if node is not None:
        raise ContextError(
            f"rt.submit cannot send {flow.name!r} from {node!r}, a recorded call of durable session {scope.label!r}: no"
            " resume could send it again if that call had ended before it. Use 'async with rt.map_flow(workers, flow,"
            " [rt.args(...)]) as finished' there, which ends in the call"
        )


def _sending(  # noqa: PLR0917 - handed on
    session: Session,
    workers: Workers,
    flow: Flow[..., Any],
    timeout: float | None,
    batch: int,
    session_ids: Callable[..., str] | None,
) -> Sending:
    """Return how sessions of a flow are sent to these workers, if they can be.

    Raises:
        NodeCreationError: As from `submit`.
        TypeError: If the workers are neither an executor nor a Dask client, or the timeout is no number.
        ValueError: If the timeout is impossible.
    """
    if timeout is not None:
        check_timeout("timeout", timeout)
    if isinstance(workers, Executor):
        advice = "put the flow into a module that they import"
        name = None if shares_memory(workers) else _name_of(flow, advice)
        return Sending(partial(_ready, ExecutorEngine(workers)), flow, timeout, 1, session_ids, name)
    if not _is_client(workers):
        raise TypeError(
            f"sessions are sent to a concurrent.futures.Executor or a Dask client, not {type(workers).__name__}"
        )
    name = _name_of(flow, "put the flow into a module, and give that to them with client.upload_file(...)")
    # Needs the extra `dask`, which is there if there is a client.
    from railtracks.remote._cluster import open_engine  # noqa: PLC0415

    opened = partial(
        session.shared_resource, ("railtracks: Dask", id(workers)), partial(open_engine, cast("DaskClient", workers))
    )
    return Sending(opened, flow, timeout, batch, session_ids, name)


async def _ready(engine: Engine) -> Engine:
    return engine


def _is_client(workers: object) -> TypeGuard[Client]:
    # Not by `isinstance`: who has no client has no Dask.
    return any(each.__module__.partition(".")[0] == "distributed" for each in type(workers).__mro__)


def _name_of(flow: Flow[..., object], advice: str) -> FlowName:
    """Return the name by which workers find a flow.

    Raises:
        NodeCreationError: If they cannot.
    """
    try:
        _, (module, variable) = flow.__reduce__()
    except Exception as error:
        raise NodeCreationError(f"flow {flow.name!r} cannot be sent to workers: {error}") from error
    if module in _MAINS:
        raise NodeCreationError(
            f"flow {flow.name!r} is made in the program or notebook itself, which workers cannot import: {advice}"
        )
    return FlowName(module, variable)


async def _threads_of(workers: Workers) -> int:
    """Return how many sessions the workers can run at a time."""
    if _is_client(workers):
        from railtracks.remote._scheduler import threads_of  # noqa: PLC0415 - as above

        return await threads_of(cast("DaskClient", workers))
    # The name that the executors of the standard library and those made after them have for it.
    count: object = getattr(workers, "_max_workers", None)
    return count if isinstance(count, int) and count > 0 else os.cpu_count() or 1
