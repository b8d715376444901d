"""What all fan-outs share: limits, zipped inputs, the feed that draws them, and the start frames of their calls.

Called by `call_batch`, `as_completed` and `open_group`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

import trio

from railtracks._calls.frames import Frame
from railtracks._calls.late_slots import LateSlot
from railtracks._calls.pending import PendingCall
from railtracks._checks import Number
from railtracks._nodes.node import Node
from railtracks.exceptions import ContextError

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableFanOut
    from railtracks._calls.durable_values import Args

R = TypeVar("R")

# A feeder without a limit passes a checkpoint each time it has started this many calls. Until then no other task runs,
# not even the calls that it has started.
CHECKPOINT_EVERY: Final = 50


_check_limit: Final = Number(least=1, infinite="", beside="a trio.CapacityLimiter or ")


def limiter_of(limit: object) -> trio.CapacityLimiter | None:
    """Return the limiter for the value of an option `limit`, `None` for no limit.

    Raises:
        TypeError: If the value is neither a number nor a `trio.CapacityLimiter`.
        ValueError: If the number is less than 1.
    """
    if limit is None or isinstance(limit, trio.CapacityLimiter):
        return limit
    _check_limit("limit", limit)
    if isinstance(limit, float) and limit != math.inf:
        raise TypeError(f"limit must be a whole number or math.inf, not {limit!r}")
    return trio.CapacityLimiter(cast("float", limit))


def inputs_of(verb: str, iterables: tuple[Iterable[object], ...]) -> Iterator[Args]:
    """Return an iterator over the positional arguments of each call: the iterables zipped, as `map` does.

    Args:
        verb: The public function that was called, for the error.
        iterables: One for each positional argument of the node.

    Raises:
        TypeError: If there is no iterable, or one of them is not iterable.
    """
    if not iterables:
        raise TypeError(f"{verb}() needs at least one iterable of inputs")
    for each in cast("tuple[object, ...]", iterables):
        # What has only a `__getitem__` is an iterable, too, though not by its class.
        if not (isinstance(each, Iterable) or hasattr(type(each), "__getitem__")):
            raise TypeError(
                f"rt.{verb} takes an iterable of inputs for each argument of the node, and {type(each).__name__} is not"
                f" iterable: write rt.{verb}(node, [...])"
            )
    return zip(*iterables, strict=False)


# The iterators are users' code, which Ctrl-C strikes at once, also where protected code draws the inputs.
@trio.lowlevel.disable_ki_protection
def next_of(inputs: Iterator[Args]) -> Args | None:
    """Return the next input, `None` if there are no more."""
    return next(inputs, None)


def refusal_of(parent: Frame) -> ContextError | None:
    """Return the error with which a draining session refuses a new call in a frame, `None` if it takes the call."""
    try:
        parent.admit()
    except ContextError as refusal:
        return refusal
    return None


class Feed(Generic[R]):
    """The inputs of one fan-out, drawn one by one, each when there is a slot for its call.

    Attributes:
        refusal: The error with which a draining session refused the call of the last input, `None` if it did not. A
            refusal ends the feed, although it may have more inputs.
    """

    def __init__(
        self,
        slots: FanOutSlots,
        node: Node[..., R],
        inputs: Iterator[Args],
        limiter: trio.CapacityLimiter | None,
    ) -> None:
        self.refusal: ContextError | None = None
        self._slots = slots
        self._node = node
        self._inputs = inputs
        self._limiter = limiter
        self._drawn = 0
        # The slots of the calls that a resume begins before they have them.
        self._late: dict[PendingCall[R], LateSlot] = {}

    async def draw(self, until_room: Callable[[], Awaitable[None]] | None = None) -> PendingCall[R] | None:
        """Wait for a slot, then draw the next input.

        A checkpoint; without a limit only every 50th time. The call keeps its slot until `give_back`.

        Args:
            until_room: What is waited for before the slot.

        Returns:
            The call to be run, `None` if there are no more inputs or the call was refused.
        """
        pending: PendingCall[R] = PendingCall(self._node, (), {})
        limiter = self._limiter
        if limiter is not None:

            async def until_slot() -> None:
                if until_room is not None:
                    await until_room()
                await limiter.acquire_on_behalf_of(pending)

            if not await self._slots.wait_for_next(until_slot):
                slot = self._late[pending] = LateSlot(limiter, pending)
                # The next input is drawn no earlier than it was in the recorded run, if that is possible.
                slot.take_nowait()
        elif not self._drawn % CHECKPOINT_EVERY:
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

    def start_frame(self, pending: PendingCall[R]) -> Frame:
        """Return the frame in which the call is made that was drawn last."""
        start_frame, slot = self._slots.next(), self._late.get(pending)
        journal = start_frame.scope.journal
        if slot is not None and journal is not None and not slot.is_held:
            slot.begin(journal, start_frame)
        return start_frame

    def give_back(self, pending: PendingCall[R]) -> None:
        """Release the slot of a call that has ended."""
        slot = self._late.pop(pending, None)
        if slot is not None:
            slot.end()
        elif self._limiter is not None:
            self._limiter.release_on_behalf_of(pending)

    def _next_args(self) -> Args | None:
        args = next_of(self._inputs)
        if args is not None:
            self.refusal = refusal_of(self._slots.frame)
        return None if self.refusal is not None else args


class FanOutSlots:
    """The start frames of the calls of one fan-out.

    All calls share one start frame, unless the session is durable: there each call needs a strand of its own.

    Attributes:
        frame: The frame in which the fan-out is made.
    """

    __slots__ = ("_fan_out", "_start_frame", "frame")

    def __init__(self, frame: Frame, *, keeps_failures: bool = False) -> None:
        self.frame = frame
        self._start_frame = frame.start_frame(keeps_failures=keeps_failures)
        journal = frame.scope.journal
        self._fan_out: DurableFanOut | None = None if journal is None else journal.fan_out(frame)

    def next(self) -> Frame:
        """Return the start frame of the next call."""
        if self._fan_out is None:
            return self._start_frame
        return self.frame.start_frame(self._fan_out.next(), keeps_failures=self._start_frame.keeps_failures)

    async def wait_for_next(self, wait: Callable[[], Awaitable[None]]) -> bool:
        """Wait for what the next call needs, in a replay no longer than until the call had begun in the recorded run.

        A retry changes which calls have their slots when. So a slot may come after outcomes that wait for this call.

        Returns:
            Whether the wait came to its end.
        """
        scope = trio.CancelScope()
        if self._fan_out is None or not self._fan_out.call_when_begun(scope.cancel):
            await wait()
            return True
        with scope:
            await wait()
        return not scope.cancelled_caught

    def close(self) -> None:
        """Mark the fan-out as complete.

        Raises:
            ReplayMismatchError: If the journal of a durable session has more calls of this fan-out.
        """
        if self._fan_out is not None:
            self._fan_out.close()
