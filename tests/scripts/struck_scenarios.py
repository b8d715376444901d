"""What `struck.py` strikes: sessions of every kind, each in a scenario of its own. Imported by it alone."""

from __future__ import annotations

import asyncio
import functools
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import trio

import railtracks as rt

sys.path.insert(0, str(Path(__file__).parent.parent))

import worker_functions

HOME = tempfile.TemporaryDirectory()


@rt.function_node
async def leaf(n: int = 0, *, more: int = 0) -> int:
    await trio.lowlevel.checkpoint()
    return n + more


@rt.function_node
async def branch(n: int) -> int:
    return await rt.call(leaf, n) + await rt.call(leaf, n, more=1)


@rt.function_node
async def fails(n: int = 0) -> int:
    await trio.lowlevel.checkpoint()
    raise ValueError(n)


@rt.function_node(retry=rt.Retry(2, wait_initial=1e-6, jitter=0.0))
async def tried_again() -> int:
    if rt.session_id() is None:
        raise NotImplementedError
    raise ValueError


@rt.function_node
async def fatal() -> None:
    raise rt.FatalError("enough")


@rt.function_node(timeout=60)
async def in_time() -> int:
    return await rt.call(leaf, 1)


@rt.function_node(timeout=1e-6)
async def too_late() -> None:
    await trio.sleep_forever()


@rt.function_node
def in_a_thread(n: int) -> int:
    return trio.from_thread.run(rt.call, leaf, n)


@rt.function_node
async def deep(levels: int) -> int:
    return await rt.call(deep, levels - 1) if levels else 0


async def plain(n: int) -> int:
    return n


async def caught(work: Awaitable[object]) -> None:
    try:
        await work
    except (ValueError, TimeoutError):
        return


@asynccontextmanager
async def resource() -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        yield 1
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


# The scenarios, each with the sessions that it opens.


async def calls() -> None:
    async with rt.Session(name="calls"):
        await rt.call(leaf, 1, more=2)
        await rt.call(branch, 1)
        await rt.call(plain, 1)
        await caught(rt.call(fails))


async def attempts() -> None:
    async with rt.Session(history_limit=2):
        await caught(rt.call(tried_again))
        await rt.call(in_time)
        await caught(rt.call(too_late))
        for n in range(4):
            await rt.call(leaf, n)


async def threads() -> None:
    async with rt.Session(timeout=60):
        await rt.call(in_a_thread, 1)


async def deep_stack() -> None:
    async with rt.Session():
        await rt.call(deep, 34)


async def default_sessions() -> None:
    await rt.call(branch, 1)
    await rt.call_batch(leaf, [1])
    async with rt.open_group() as group:
        group.start_soon(leaf)


def inputs() -> Iterator[int]:
    yield from range(3)


async def fan_outs() -> None:
    async with rt.Session():
        await rt.call_batch(leaf, inputs())
        await rt.call_batch(branch, inputs(), limit=2)
        await rt.call_batch(fails, inputs(), limit=2)
        async with rt.as_completed(leaf, inputs(), limit=2) as finished:
            async for pending in finished:
                pending.result()


async def groups() -> None:
    async with rt.Session():
        async with rt.open_group(limit=1) as group:
            group.start_soon(leaf, 1)
            pending = group.start_soon(branch, 2)
            await pending.wait()
        async with rt.open_group() as group:
            group.start_soon(trio.sleep_forever).cancel("not needed")


async def announces(task_status: trio.TaskStatus[int]) -> None:
    task_status.started(1)
    await rt.call(leaf)


async def background() -> None:
    async with rt.Session() as session:
        session.start_soon(branch, 1)
        session.start_service(trio.sleep_forever)
        await session.start(announces)
        await rt.call(leaf)


async def drained() -> None:
    async with rt.Session() as session:
        session.start_soon(branch, 1)
        session.start_service(trio.sleep_forever)
        await session.drain(1)
    async with rt.Session() as session:
        session.start_soon(trio.sleep_forever)
        await session.drain(0)


async def resources() -> None:
    async with rt.Session() as session:
        await session.enter_async_context(resource())
        await session.enter_async_context(resource())
        await rt.call(leaf)
        async with rt.Session() as inner:
            await inner.enter_async_context(resource())


async def heard(item: object) -> None:
    await trio.lowlevel.checkpoint()


async def broadcasts() -> None:
    async with rt.Session(broadcast_callback=heard, payload_callback=heard):
        await rt.broadcast(1)
        await rt.broadcast(2)


async def ends() -> None:
    for how in ("error", "cancel", "timeout", "fatal"):
        try:
            async with rt.Session(timeout=0.001 if how == "timeout" else 60, end_on_error=how == "error") as session:
                if how == "cancel":
                    session.cancel("enough")
                elif how == "fatal":
                    async with rt.Session():
                        await rt.call(fatal)
                elif how == "error":
                    await rt.call(fails)
                await trio.sleep_forever()
        except (ValueError, rt.SessionTimeoutError, rt.FatalError):
            continue


@rt.session(log_file=Path(HOME.name, "log.txt"), logging_setting="NONE", context={"a": 1})
async def decorated() -> None:
    rt.context.put("b", 2)
    await rt.call(leaf)


async def decorators() -> None:
    await decorated()


async def with_a_resource(n: int) -> int:
    await rt.current_session().enter_async_context(resource())
    await rt.broadcast(n)
    return await rt.call(leaf, n)


def invoked() -> None:
    rt.Flow("invoked", entry_point=branch).invoke(1)
    rt.Flow("invoked", entry_point=with_a_resource, broadcast_callback=heard, payload_callback=heard).invoke(1)


async def durable() -> None:
    store = rt.DurableStore(Path(HOME.name, "store.db"), durability="process")
    flow = rt.Flow("durable", entry_point=branch, durable=store)
    await flow.ainvoke(1)
    async with rt.Session(durable=store, broadcast_callback=heard) as session:
        rt.context.put("b", 2)
        await rt.call(leaf)
        await rt.broadcast(1)
        session.start_soon(leaf)
        await rt.call_batch(leaf, [1, 2])
        await caught(rt.call(tried_again))


# What further lines of calls and sessions wait for.


@rt.wrap_node
async def around(call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    return await call(*args, **kwargs)


@rt.after_node
def unchanged(result: Any) -> Any:
    return result


@rt.function_node(middleware=[around, unchanged])
async def wrapped(n: int) -> int:
    return await rt.call(leaf, n)


@rt.function_node(middleware=[around])
def wrapped_in_a_thread(n: int) -> int:
    return n


async def middleware() -> None:
    async with rt.Session():
        await rt.call(wrapped, 1)
        await rt.call(wrapped_in_a_thread, 1)


EXECUTOR = ThreadPoolExecutor(1)


@rt.function_node(run_in=EXECUTOR)
def in_an_executor(n: int) -> int:
    return n


@rt.function_node(run_in=EXECUTOR, abandon_on_cancel=True)
def left_in_an_executor(n: int) -> int:
    return n


@rt.function_node(run_in=EXECUTOR)
def invokes_in_an_executor(n: int) -> int:
    return rt.Flow("in an executor", entry_point=branch).invoke(n)


@rt.function_node(abandon_on_cancel=True)
def left_in_a_thread(n: int) -> int:
    return n


async def executors() -> None:
    async with rt.Session():
        await rt.call(in_an_executor, 1)
        await rt.call(invokes_in_an_executor, 1)
        await rt.call(left_in_an_executor, 1)
        await rt.call(left_in_a_thread, 1)


@rt.function_node(timeout=1e-6)
async def late(scope: trio.CancelScope | None) -> int:
    """Come back with a result after the timeout, and after a cancel from outside if there is a scope."""
    with trio.CancelScope(shield=True):
        await trio.sleep(0.001)
    if scope is not None:
        scope.cancel()
    return 1


@rt.function_node(retry=rt.Retry(2, wait_initial=1e-6, jitter=0.0))
async def tried(n: int) -> int:
    return n


@rt.function_node
async def gives_up() -> None:
    await rt.call(fatal)


async def late_and_partial() -> None:
    async with rt.Session():
        await caught(rt.call(late, None))
        with trio.CancelScope() as scope:
            await rt.call(late, scope)
        await rt.call(functools.partial(tried, 1))
        await rt.call(functools.partial(functools.partial(leaf, more=1), 1))
    async with rt.Session() as session:
        await session.drain(1)
    await session.drain(1)
    with suppress(rt.FatalError):
        async with rt.Session(), trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, gives_up)
            await trio.sleep_forever()


@rt.function_node
def calls_from_a_thread() -> int:
    with suppress(ValueError):
        trio.from_thread.run(rt.call, fails)
    with suppress(ValueError):
        trio.from_thread.run(rt.call, tried_again)
    trio.from_thread.run(rt.current_session().enter_async_context, resource())
    return INSIDE.invoke(1)


INSIDE = rt.Flow("inside", entry_point=plain)


async def from_threads() -> None:
    async with rt.Session():
        await rt.call(calls_from_a_thread)


async def many() -> None:
    async with rt.Session():
        await rt.call_batch(plain, range(51))
        async with rt.as_completed(plain, range(51)) as finished:
            async for pending in finished:
                await pending.wait()


async def refused() -> None:
    """Open groups in a session that refuses calls, because it drains."""
    async with rt.Session(name="refused") as session:

        async def ends() -> None:
            async with rt.open_group() as group:
                group.start_soon(leaf)

        session.start_service(trio.sleep_forever)
        await session.drain(1)
        with suppress(rt.RailtracksError):
            await ends()
        with suppress(rt.RailtracksError):
            await rt.call_batch(leaf, [1])
        await trio.lowlevel.checkpoint()


async def broken(item: object) -> None:
    await trio.lowlevel.checkpoint()
    raise ValueError(item)


def heard_in_a_thread(item: object) -> object:
    return heard(item)


@asynccontextmanager
async def slow_to_close(session: rt.Session) -> AsyncIterator[None]:
    yield
    await session.drain(0)
    await trio.sleep_forever()


async def callbacks() -> None:
    async with rt.Session(broadcast_callback=heard_in_a_thread, payload_callback=broken):
        await rt.broadcast(1)
    async with rt.Session(broadcast_callback=broken):
        await rt.broadcast(1)
    async with rt.Session(cleanup_timeout=0.001) as session:
        await rt.broadcast(1)
        await session.enter_async_context(slow_to_close(session))
    async with rt.Session() as session:
        for _ in range(2):
            await session.shared_resource("key", resource)


async def shut_down() -> None:
    async def serve(task_status: trio.TaskStatus[None]) -> None:
        with suppress(rt.SessionCancelledError):
            async with rt.Session():
                task_status.started()
                await trio.sleep_forever()

    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            await rt.ashutdown(0)
    except BaseExceptionGroup as group:
        # Of this nursery, which is no session's.
        if group.split(KeyboardInterrupt)[1] is None:
            raise KeyboardInterrupt from None
        raise


def bridged() -> None:
    """Run a flow from asyncio, in the main thread: the flow itself runs in another one."""
    asyncio.run(rt.Flow("bridged", entry_point=branch).ainvoke(1))


async def processes() -> None:
    async with rt.Session() as session:
        await session.start_workers(1)
        async with rt.Session():
            assert await rt.call(worker_functions.double, 2) == 4


async def unavailable() -> None:
    """Open a durable session that is open already."""
    async with rt.Session(durable=STORE) as session:
        with suppress(rt.SessionOwnedError):
            async with rt.Session(durable=STORE, session_id=session.identifier):
                pass


STORE = rt.DurableStore(Path(HOME.name, "resumed.db"), durability="process")
LIVES: dict[str, int] = {}


@rt.function_node
async def tells(n: int) -> int:
    await rt.broadcast(n)
    return await rt.call(branch, n)


async def lives(session_id: str, *, fails_at_last: bool) -> int:
    """Do some work and be interrupted; the second time do all of it, or fail before any."""
    LIVES[session_id] = LIVES.get(session_id, 0) + 1
    if LIVES[session_id] == 2 and fails_at_last:
        raise ValueError
    await rt.broadcast("first")
    await rt.call(tells, 1)
    await rt.broadcast("item")
    async with rt.open_group(limit=1) as group:
        group.start_soon(leaf, 1)
        group.start_soon(leaf, 2)
    await rt.call_batch(leaf, [1, 2], limit=1)
    if LIVES[session_id] == 1:
        raise KeyboardInterrupt
    return await rt.call(leaf)


async def heard_in_the_second_life(item: object) -> None:
    if LIVES[str(rt.session_id())] == 1 and item != "first":
        await trio.sleep_forever()


LIVING = rt.Flow(
    "lives", entry_point=lives, durable=STORE, broadcast_callback=heard_in_the_second_life, cleanup_timeout=0.001
)


async def resumed() -> None:
    for fails_at_last in (False, True):
        session_id = uuid4().hex
        # A strike at the end of the resume before is raised by the next checkpoint: here, not in the next first life.
        await trio.lowlevel.checkpoint()
        # What is struck is the resume.
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            await LIVING.ainvoke(session_id, fails_at_last=fails_at_last, session_id=session_id)
        except KeyboardInterrupt:
            sys.settrace(tracer)
        # A failure before any of what was recorded.
        with suppress(rt.ReplayMismatchError):
            await LIVING.aresume(session_id)


# These run no Trio of their own in the main thread.
NOT_IN_TRIO = frozenset(["invoked", "bridged"])
# The share of their lines that is struck in the whole proof, beside each line that waits.
COSTLY = {"callbacks": 0.3, "many": 0.02, "processes": 0.05, "resumed": 0.03, "unavailable": 0.1}
SCENARIOS: dict[str, Callable[[], Any]] = {
    each.__name__: each
    for each in (
        calls,
        attempts,
        threads,
        deep_stack,
        default_sessions,
        fan_outs,
        groups,
        background,
        drained,
        resources,
        broadcasts,
        ends,
        decorators,
        invoked,
        durable,
        middleware,
        executors,
        late_and_partial,
        from_threads,
        many,
        refused,
        callbacks,
        shut_down,
        bridged,
        processes,
        unavailable,
        resumed,
    )
}
