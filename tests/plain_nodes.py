"""Nodes that the tests of several rooms call, inputs for them, and what became of their calls."""

from collections.abc import Iterator

import trio

import railtracks as rt


@rt.function_node
async def double(number: int) -> int:
    return 2 * number


@rt.function_node
async def nap(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


@rt.function_node
async def odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(number)
    return number


@rt.function_node
async def give(value: object) -> object:
    return value


@rt.function_node
async def fail(message: str) -> None:
    raise ValueError(message)


@rt.function_node
async def forever(*_: object) -> None:
    await trio.sleep_forever()


@rt.function_node
async def fail_in_cleanup(error: BaseException) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise error


@rt.function_node
async def which_session() -> str | None:
    return rt.session_id()


class IterableError(Exception):
    pass


def broken(count: int, error: BaseException) -> Iterator[int]:
    yield from range(count)
    raise error


class Crowd:
    """A node's function, which counts how many calls of it run at once.

    Attributes:
        most: How many there were at most.
    """

    def __init__(self) -> None:
        self.most = self._running = 0

    async def __call__(self, number: int) -> None:
        self._running += 1
        self.most = max(self.most, self._running)
        await trio.sleep(number % 3)
        self._running -= 1


def statuses(session: rt.Session) -> list[str]:
    """Return the statuses of all calls, in no order: side by side, any call may come first."""
    return sorted(call.status for call in session.info.calls)
