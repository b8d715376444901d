"""Streams and clients leave nothing behind, however they end: no warning, no task, no socket, no thread."""

import gc
import sys
import threading
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from llm_wires import Make, asked, both, ignore, keep, openai, sdks  # noqa: F401 - a fixture
from proof_rounds import rounds

import railtracks as rt
from railtracks import testing
from railtracks.llm import Piece


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def nothing_left() -> Generator[None]:
    """Fail if the block leaves a warning, a descriptor or a thread behind."""
    complaints: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda each: complaints.append(each.exc_value)
    descriptors, threads = count_descriptors(), threading.active_count()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert complaints == []
    assert count_descriptors() <= descriptors
    # Trio keeps a thread that was idle for a few seconds only.
    assert [each.name for each in threading.enumerate()[threads:] if not each.name.startswith("Trio thread")] == []


async def to_the_end(connection: Any, leaves: list[float]) -> None:
    response = await connection.respond(asked("end"), ignore)
    assert response.message.content == "one two three"


async def left_early(connection: Any, leaves: list[float]) -> None:
    class LeftError(Exception):
        pass

    async def leave(piece: Piece) -> None:
        leaves.append(time.monotonic())
        raise LeftError

    with pytest.raises(LeftError):
        await connection.respond(asked("slow"), leave)


async def cancelled(connection: Any, leaves: list[float]) -> None:
    with trio.CancelScope() as scope:

        async def cancel(piece: Piece) -> None:
            leaves.append(time.monotonic())
            scope.cancel()

        await connection.respond(asked("slow"), cancel)
    assert scope.cancelled_caught


async def cancelled_while_it_waits(connection: Any, leaves: list[float]) -> None:
    async with trio.open_nursery() as nursery:
        arrived = trio.Event()

        async def tell(piece: Piece) -> None:
            arrived.set()

        nursery.start_soon(connection.respond, asked("slow"), tell)
        await arrived.wait()
        await trio.testing.wait_all_tasks_blocked()
        leaves.append(time.monotonic())
        nursery.cancel_scope.cancel()


async def cut(connection: Any, leaves: list[float]) -> None:
    with pytest.raises(rt.LLMError):
        await connection.respond(asked("cut"), ignore)


def entry_for(request: rt.llm.ModelRequest) -> Any:
    """Return what the provider has for the last words of a user."""
    entries = {
        "end": testing.Stream("one ", "two ", "three"),
        "slow": testing.Stream("one ", "two ", "three", pause=1000),
        "cut": testing.Cut(after=1),
    }
    last = request.messages[-1]
    assert isinstance(last, rt.llm.UserMessage)
    return entries[last.content]


# Each ends a stream; those that leave it note when they do.
ENDS = [to_the_end, left_early, cancelled, cancelled_while_it_waits, cut]


@both
@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_leaves_nothing_behind_however_it_ends(make: Make, end: Any) -> None:
    with nothing_left():
        async with testing.FakeProvider(entry_for) as provider, make(provider).open() as connection:
            await end(connection, [])
            await end(connection, [])


@both
@pytest.mark.proof
async def test_a_thousand_streams_leave_nothing_behind_and_each_leave_is_seen_at_once(make: Make) -> None:
    count = rounds(full=1000, handful=40)
    with nothing_left():
        # The bound is for the library. On a busy machine another try may be needed.
        for _ in range(3):
            seconds = await seconds_until_leaves_are_seen(make, count)
            if seconds[19 * len(seconds) // 20] < 0.1:
                return
    pytest.fail("in each of three tries the server has seen more than one of twenty leaves later")


async def seconds_until_leaves_are_seen(make: Make, count: int) -> list[float]:
    """End streams in all ways; return the seconds until the server has seen the clients that left, in their order."""
    leaves: list[float] = []
    # Of the requests, by their number, those that were left.
    left: dict[int, float] = {}
    async with testing.FakeProvider(entry_for) as provider:
        async with make(provider).open() as connection:
            for number in range(count):
                known = len(leaves)
                await ENDS[number % len(ENDS)](connection, leaves)
                left.update((number, moment) for moment in leaves[known:])
        with trio.fail_after(10):
            # Three of five leave.
            await provider.wait_left(3 * count // 5)
        assert len(provider.requests) == count
        seen = {provider.requests.index(each.request): each.monotonic for each in provider.left}
        assert seen.keys() == left.keys()
    return sorted(seen[number] - moment for number, moment in left.items())


@both
async def test_a_stream_that_was_read_to_its_end_leaves_its_connection_for_the_next_one(make: Make) -> None:
    async with testing.FakeProvider(entry_for) as provider, make(provider).open() as connection:
        for _ in range(3):
            await connection.respond(asked("end"), ignore)
        before = count_descriptors()
        for _ in range(5):
            await connection.respond(asked("end"), ignore)
        assert count_descriptors() == before


@both
async def test_a_slow_reader_gets_every_piece_in_order(make: Make) -> None:
    words = [f"word{number} " for number in range(50)]
    pieces: list[Piece] = []
    add = keep(pieces)

    async def slowly(piece: Piece) -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        await add(piece)

    async with testing.FakeProvider(testing.Stream(*words)) as provider, make(provider).open() as connection:
        response = await connection.respond(asked(), slowly)
    assert [str(each) for each in pieces] == words
    assert response.message.content == "".join(words)


@both
def test_one_model_serves_many_threads_and_sessions_at_once(make: Make) -> None:
    check_many_threads(make, threads=3, flows=3)


@both
@pytest.mark.proof
def test_one_model_serves_six_threads_with_two_hundred_flows_each(make: Make) -> None:
    check_many_threads(make, threads=6, flows=rounds(full=200, handful=5))


def check_many_threads(make: Make, *, threads: int, flows: int) -> None:
    """Run flows of five requests at once each in threads, all with one model that has two connections a session."""
    with nothing_left(), testing.FakeProvider("Here.") as provider:
        model = make(provider, max_connections=2, timeout=600)

        @rt.function_node
        async def ask(number: int) -> str:
            return (await model.achat(f"Where is {number}?")).message.content

        @rt.function_node
        async def ask_five() -> list[str]:
            return await rt.call_batch(ask, range(5), return_exceptions=False)

        answers: list[list[str]] = []

        def serve() -> None:
            answers.extend(rt.Flow("five", ask_five).invoke() for _ in range(flows))

        workers = [threading.Thread(target=serve) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert answers == [["Here."] * 5] * (threads * flows)
        assert len(provider.requests) == 5 * threads * flows


@both
def test_a_model_is_asked_from_asyncio(make: Make) -> None:
    import asyncio  # noqa: PLC0415 - for this test alone

    with testing.FakeProvider("Here.") as provider:
        model = make(provider)

        @rt.function_node
        async def ask() -> str:
            return (await model.achat("Where?")).message.content

        assert asyncio.run(rt.Flow("ask", ask).ainvoke()) == "Here."


async def test_one_session_has_one_client_of_a_model() -> None:
    async with testing.FakeProvider("Here.") as provider:
        model = openai(provider)
        before = count_descriptors()
        async with rt.Session():
            for _ in range(3):
                await model.achat("Where?")
            # One connection: an end here, and an end at the provider.
            assert count_descriptors() == before + 2
