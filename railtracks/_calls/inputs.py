"""Inputs on their way to the calls of one node, and how many of these calls may run at once.

Called by `call_batch`, `as_completed` and `open_group`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar, cast

import trio

from railtracks._calls.durable_protocol import Args
from railtracks._calls.frames import Frame
from railtracks._calls.pending import PendingCall
from railtracks._checks import Number
from railtracks._nodes.node import Node
from railtracks.exceptions import ContextError

R = TypeVar("R")

# Between two checkpoints of a feeder nothing else can run, the calls that it has started included.
FEED: Final = 50


_check_limit: Final = Number(least=1, infinite="", beside="a trio.CapacityLimiter or ")


def limiter_of(limit: object) -> trio.CapacityLimiter | None:
    """Return the limiter for what was given as a `limit`.

    Raises:
        TypeError: If it is neither number nor limiter.
        ValueError: If it is less than 1.
    """
    if limit is None or isinstance(limit, trio.CapacityLimiter):
        return limit
    _check_limit("limit", limit)
    # Trio refuses a number that is neither an int nor infinite.
    return trio.CapacityLimiter(cast("float", limit))


def inputs_of(verb: str, iterables: tuple[Iterable[object], ...]) -> Iterator[Args]:
    """Return the positional arguments of one call after another, zipped as `map` does.

    Raises:
        TypeError: If there is no iterable, or one is none.
    """
    if not iterables:
        raise TypeError(f"{verb}() needs at least one iterable of inputs")
    return zip(*iterables, strict=False)


def refusal_of(parent: Frame) -> ContextError | None:
    """Return why a session that drains takes no new call in this frame, or `None` if it does."""
    try:
        parent.admit()
    except ContextError as refusal:
        return refusal
    return None


class Feed(Generic[R]):
    """The inputs of the calls of one node, drawn one by one, each when there is a slot for its call.

    Attributes:
        refusal: Why there is no call for the last input that was drawn. Nothing else ends a feed before its inputs do.
    """

    def __init__(
        self,
        parent: Frame,
        node: Node[..., R],
        inputs: Iterator[Args],
        limiter: trio.CapacityLimiter | None,
    ) -> None:
        self.refusal: ContextError | None = None
        self._parent = parent
        self._node = node
        self._inputs = inputs
        self._limiter = limiter
        self._drawn = 0

    async def draw(self) -> PendingCall[R] | None:
        """Wait for a slot and draw the next input then; return `None` if no call is to be made any more.

        The call keeps its slot until that is given back. A checkpoint; without a limit only every 50th time.
        """
        pending: PendingCall[R] = PendingCall(self._node, (), {})
        if self._limiter is not None:
            await self._limiter.acquire_on_behalf_of(pending)
        elif not self._drawn % FEED:
            await trio.lowlevel.checkpoint()
        self._drawn += 1
        args = None
        try:
            args = self._next_args()
        finally:
            if args is None:
                self.give_back(pending)
        if args is None:
            return None
        pending.take_args(args)
        return pending

    def give_back(self, pending: PendingCall[R]) -> None:
        """Give the slot of a call back."""
        if self._limiter is not None:
            self._limiter.release_on_behalf_of(pending)

    def _next_args(self) -> Args | None:
        args = next(self._inputs, None)
        if args is not None:
            self.refusal = refusal_of(self._parent)
        return None if self.refusal is not None else args
