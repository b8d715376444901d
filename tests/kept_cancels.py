"""A node that keeps a `Cancelled`, and raises it later, when nothing cancels it."""

from collections.abc import Callable, Coroutine
from typing import Any

import trio


async def node_with_a_kept_cancelled() -> Callable[[int], Coroutine[Any, Any, int]]:
    """Return a function that raises a `Cancelled` that it has kept from a scope that is over."""
    kept: list[BaseException] = []

    async def memo(number: int) -> int:
        if kept:
            raise kept[0]
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept.append(error)
            raise
        return number

    with trio.CancelScope() as scope:
        scope.cancel()
        await memo(1)
    return memo
