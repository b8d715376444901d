"""Calls of ours beside plain Trio: one after another, side by side, nested; and how long feeding makes others wait."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

import railtracks as rt
from benchmarks.probe import watching
from benchmarks.samples import SUBJECT, Plan, Sampled, main, note, take

PLAIN = "plain"
BY_AWAIT = "plain, an await a level"
FULL_CHECKPOINT = "plain, a full checkpoint a task"
ONE_AFTER_ANOTHER = "ours, one after another"
WITHOUT_ARGUMENTS = "ours, without arguments"

_AWAITS_END = 900
"""Deeper than this Python's default recursion limit ends nested awaits."""


async def node(item: int) -> int:
    return item


async def empty_node() -> None:
    pass


async def rows_node(rows: Sequence[Mapping[str, object]]) -> None:
    pass


async def descend(levels: int) -> int:
    return await rt.call(tracked_descend, levels - 1) if levels else 0


tracked = rt.function_node(node)
tracked_empty = rt.function_node(empty_node)
tracked_rows = rt.function_node(rows_node)
tracked_descend = rt.function_node(descend)

# As a query of a database or a page of an API gives them.
ROWS = [
    {"id": number, "name": f"customer {number}", "email": f"{number}@example.org", "total": number / 4, "tags": ["a"]}
    for number in range(30)
]


async def _seconds(work: Callable[[int], Awaitable[object]], size: int) -> float:
    start = time.perf_counter()
    await work(size)
    return time.perf_counter() - start


def _plain(work: Callable[[int], Awaitable[object]]) -> Callable[[int], float]:
    """Make a sample of work in a Trio run of its own: microseconds for each of N."""
    return lambda size: 1e6 * trio.run(_seconds, work, size) / size


def _in_session(work: Callable[[int], Awaitable[object]]) -> Callable[[int], float]:
    """Make the same sample inside a session, whose own beginning and end are not part of it."""

    async def whole(size: int) -> float:
        async with rt.Session(save_state=False):
            seconds = await _seconds(work, size)
        return 1e6 * seconds / size

    return lambda size: trio.run(whole, size)


async def _calls(size: int) -> None:
    for item in range(size):
        await rt.call(tracked, item)


async def _empty_calls(size: int) -> None:
    for _ in range(size):
        await rt.call(tracked_empty)


async def _rows_calls(size: int) -> None:
    for _ in range(size):
        await rt.call(tracked_rows, ROWS)


async def _checkpoints(size: int) -> None:
    for _ in range(size):
        await trio.lowlevel.checkpoint()


async def _batch(size: int) -> list[int]:
    return [result for result in await rt.call_batch(tracked, range(size)) if not isinstance(result, BaseException)]


async def _nursery(size: int) -> list[int]:
    results = [0] * size

    async def task(index: int) -> None:
        # What rt.call does in a fresh task: a cancellation point, and no second turn of the scheduler.
        await trio.lowlevel.checkpoint_if_cancelled()
        results[index] = await node(index)

    async with trio.open_nursery() as nursery:
        for index in range(size):
            nursery.start_soon(task, index)
    return results


async def _group(size: int) -> list[int]:
    async with rt.open_group() as group:
        pending = [group.start_soon(tracked, item) for item in range(size)]
    return [call.result() for call in pending]


async def _completed(size: int) -> list[int]:
    async with rt.as_completed(tracked, range(size)) as finished:
        return [pending.result() async for pending in finished]


async def _channel(size: int) -> list[int]:
    send, receive = trio.open_memory_channel[int](size)

    async def task(send: trio.MemorySendChannel[int], index: int) -> None:
        with send:
            await trio.lowlevel.checkpoint_if_cancelled()
            send.send_nowait(await node(index))

    async with trio.open_nursery() as nursery:
        with send:
            for index in range(size):
                nursery.start_soon(task, send.clone(), index)
        return [result async for result in receive]  # noqa: ASYNC121 - every task has sent by then


async def _nursery_of_checkpoints(size: int) -> list[int]:
    results = [0] * size

    async def task(index: int) -> None:
        await trio.lowlevel.checkpoint()
        results[index] = await node(index)

    async with trio.open_nursery() as nursery:
        for index in range(size):
            nursery.start_soon(task, index)
    return results


async def _awaits(levels: int) -> int:
    return await _awaits(levels - 1) if levels else 0


async def _nurseries(levels: int) -> None:
    async with trio.open_nursery() as nursery:
        if levels:
            nursery.start_soon(_nurseries, levels - 1)


def sequential(plan: Plan) -> None:
    note("Plain Trio one after another: await trio.lowlevel.checkpoint(), nothing else.")
    take(plan, {SUBJECT: _in_session(_calls), PLAIN: _plain(_checkpoints)})


def rows(plan: Plan) -> None:
    note("One argument, a list of 30 dicts. Plain Trio: await trio.lowlevel.checkpoint(), nothing else.")
    series = {
        SUBJECT: _in_session(_rows_calls),
        WITHOUT_ARGUMENTS: _in_session(_empty_calls),
        PLAIN: _plain(_checkpoints),
    }
    take(plan, series)


def side_by_side(plan: Plan) -> None:
    note(
        "Plain Trio side by side: a nursery; each task is a cancellation point (checkpoint_if_cancelled), awaits the "
        "same coroutine function and puts its result into a list. A second figure has a full checkpoint in each task."
    )
    series = {
        SUBJECT: _in_session(_batch),
        PLAIN: _plain(_nursery),
        FULL_CHECKPOINT: _plain(_nursery_of_checkpoints),
    }
    take(plan, series)


def groups(plan: Plan) -> None:
    note("Plain Trio in groups: the nursery of the calls side by side.")
    take(plan, {SUBJECT: _in_session(_group), PLAIN: _plain(_nursery)})


def completed(plan: Plan) -> None:
    note("Plain Trio as completed: that nursery, whose tasks send their results through a memory channel.")
    take(plan, {SUBJECT: _in_session(_completed), PLAIN: _plain(_channel)})


def nested(plan: Plan) -> None:
    by_await = _plain(_awaits)
    note(
        "Plain Trio nested: a nursery with one task a level; an await a level is not tracked, and ends at about 1,000."
    )
    series: Mapping[str, Callable[[int], Sampled]] = {
        SUBJECT: _in_session(descend),
        ONE_AFTER_ANOTHER: _in_session(_calls),
        PLAIN: _plain(_nurseries),
        BY_AWAIT: lambda size: by_await(size) if size <= _AWAITS_END else None,
    }
    take(plan, series)


def feed(plan: Plan) -> None:
    async def batch_in_session(size: int) -> None:
        async with rt.Session(save_state=False):
            await _batch(size)

    async def watched(work: Callable[[int], Awaitable[object]], size: int) -> Mapping[str, float]:
        async with watching() as probe:
            seconds = await _seconds(work, size)
        return {"wait": 1e3 * probe.longest, "seconds": seconds}

    note("Plain Trio feeding: start_soon for each input in a row.")
    series = {
        SUBJECT: lambda size: trio.run(watched, batch_in_session, size),
        PLAIN: lambda size: trio.run(watched, _nursery, size),
    }
    take(plan, series, is_long=True)


if __name__ == "__main__":
    main(
        {
            "sequential": sequential,
            "rows": rows,
            "side-by-side": side_by_side,
            "groups": groups,
            "as-completed": completed,
            "nested": nested,
            "feed": feed,
        },
        distribution="trio",
    )
