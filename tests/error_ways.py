"""The ways that an error can take out of a session: from a call, a thread, a fan-out, a resource, a callback, ..."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import trio

import railtracks as rt

# Runs in the block of a session. It lets the error out, or returns it if the library hands it out as a value.
Way = Callable[[rt.Session, BaseException], Awaitable[object]]


def raiser(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise error

    return fail


def sync_raiser(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


async def a_call(_: rt.Session, error: BaseException) -> None:
    await rt.call(raiser(error))


async def nested_calls(_: rt.Session, error: BaseException) -> None:
    # Deep enough for a task of its own.
    async def outer(levels: int) -> None:
        await (rt.call(outer, levels - 1) if levels else rt.call(raiser(error)))

    await rt.call(outer, 35)


async def a_thread(_: rt.Session, error: BaseException) -> None:
    await rt.call(sync_raiser(error))


async def an_abandonable_thread(_: rt.Session, error: BaseException) -> None:
    await rt.call(rt.function_node(sync_raiser(error), abandon_on_cancel=True))


async def an_executor(_: rt.Session, error: BaseException) -> None:
    executor = ThreadPoolExecutor(1)
    try:
        await rt.call(rt.function_node(sync_raiser(error), run_in=executor))
    finally:
        executor.shutdown()


async def a_timeout(_: rt.Session, error: BaseException) -> None:
    await rt.call(rt.function_node(raiser(error), timeout=60))


async def a_timeout_around_a_thread(_: rt.Session, error: BaseException) -> None:
    await rt.call(rt.function_node(sync_raiser(error), timeout=60))


async def attempts(_: rt.Session, error: BaseException) -> None:
    retry = rt.Retry(attempts=2, wait_initial=0, jitter=0)
    await rt.call(rt.function_node(raiser(error), retry=retry))


async def a_batch(_: rt.Session, error: BaseException) -> object:
    node = rt.function_node(lambda _: sync_raiser(error)())
    return (await rt.call_batch(node, [1]))[0]


async def a_batch_that_raises(_: rt.Session, error: BaseException) -> None:
    async def fail(_: int) -> None:
        raise error

    await rt.call_batch(fail, [1, 2], return_exceptions=False, limit=1)


async def a_group(_: rt.Session, error: BaseException) -> None:
    async with rt.open_group() as group:
        group.start_soon(raiser(error))


async def the_block_of_a_group(_: rt.Session, error: BaseException) -> None:
    async with rt.open_group():
        raise error


async def as_completed(_: rt.Session, error: BaseException) -> None:
    async def fail(_: int) -> None:
        raise error

    async with rt.as_completed(fail, [1]) as finished:
        async for pending in finished:
            pending.result()


async def a_background_call(session: rt.Session, error: BaseException) -> None:
    session.start_soon(raiser(error))


async def a_service(session: rt.Session, error: BaseException) -> None:
    await session.start_service(raiser(error)).wait()


async def a_start(session: rt.Session, error: BaseException) -> None:
    async def fail(*, task_status: object) -> None:
        raise error

    await session.start(fail)


async def a_start_that_fails_later(session: rt.Session, error: BaseException) -> None:
    async def fail(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise error

    await session.start(fail)


def broken_iterable(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


async def an_iterable(_: rt.Session, error: BaseException) -> None:
    await rt.call_batch(lambda _: None, broken_iterable(error), limit=1)


async def an_iterable_of_as_completed(_: rt.Session, error: BaseException) -> None:
    async with rt.as_completed(lambda _: None, broken_iterable(error)) as finished:
        async for pending in finished:
            pending.result()


async def a_resource_that_opens(session: rt.Session, error: BaseException) -> None:
    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        raise error
        yield

    await session.enter_async_context(resource())


async def a_resource_that_closes(session: rt.Session, error: BaseException) -> None:
    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        yield
        raise error

    await session.enter_async_context(resource())


async def the_block(_: rt.Session, error: BaseException) -> None:
    raise error


async def an_inner_session(_: rt.Session, error: BaseException) -> None:
    async with rt.Session(save_state=False):
        await rt.call(raiser(error))


async def an_inner_flow(_: rt.Session, error: BaseException) -> None:
    await rt.Flow("inner", raiser(error), save_state=False).ainvoke()


async def a_flow_in_a_thread(_: rt.Session, error: BaseException) -> None:
    await rt.call(rt.Flow("inner", raiser(error), save_state=False).invoke)


async def a_decorated_function(_: rt.Session, error: BaseException) -> None:
    await rt.session(save_state=False)(raiser(error))()


WAYS: tuple[Way, ...] = (
    a_call,
    nested_calls,
    a_thread,
    an_abandonable_thread,
    an_executor,
    a_timeout,
    a_timeout_around_a_thread,
    attempts,
    a_batch,
    a_batch_that_raises,
    a_group,
    the_block_of_a_group,
    as_completed,
    a_background_call,
    a_service,
    a_start,
    a_start_that_fails_later,
    an_iterable,
    an_iterable_of_as_completed,
    a_resource_that_opens,
    a_resource_that_closes,
    the_block,
    an_inner_session,
    an_inner_flow,
    a_flow_in_a_thread,
    a_decorated_function,
)
# In these the error comes out of no call of the session itself, so that none is recorded as failed.
WITHOUT_A_CALL = frozenset(
    (
        the_block_of_a_group,
        an_iterable,
        an_iterable_of_as_completed,
        a_resource_that_opens,
        a_resource_that_closes,
        the_block,
        an_inner_session,
        an_inner_flow,
        a_decorated_function,
    )
)


async def outcome(session: rt.Session, way: Way, error: BaseException) -> object:
    """Return what comes out of a session: the error that its block raises, or what the way returned.

    Caught here: the end of a Trio run would ask the error for its attributes.
    """
    try:
        async with session:
            returned = await way(session, error)
    except BaseException as raised:  # noqa: BLE001 - compared by the caller
        return raised
    return returned
