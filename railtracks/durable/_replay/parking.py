"""Which calls are open, and whether all of them wait for something that may take days: then the session is parked.

Calls report here when they begin and end, and the waits for signals and for inner flows when they wait. A parked
session ends with `SessionWaiting` and has the status `waiting`. It takes no process until `recover` wakes it. A session
that waits and may not be parked gives its place in the limit of `recover` back meanwhile.

A session block inside another session is code of that one. It is parked with that one, when nothing but waits is open
in both. A flow inside is parked by itself, and the call of it waits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeAlias

from attrs import define, field

from railtracks._blocks import block
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.commits import Commits
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.places import Place, place_here
from railtracks.durable._replay.strands import CallBody
from railtracks.exceptions import SessionWaiting

# Of a block inside another session: the parking of that one, and the inside of the call that the block stands in.
Around: TypeAlias = "tuple[Parking, CallBody]"


@define(eq=False)
class OpenCalls:
    """What is open in one session: its calls, and the blocks that stand in it.

    Attributes:
        inside: The inside of each open call, and what is open in each block; with the inside that it stands in.
        waits: By the key of the call that waits: when the wait times out, and whether the session may be parked for it.
        resting: The keys of calls of inner flows whose sessions rest.
        unlisted: How much else is open and not among these: retried calls between two attempts, calls whose arguments
            are being written, and blocks that are being opened.
    """

    inside: dict[CallBody | OpenCalls, CallBody | None] = field(factory=dict["CallBody | OpenCalls", "CallBody | None"])
    waits: dict[str, tuple[float | None, bool]] = field(factory=dict[str, "tuple[float | None, bool]"])
    resting: set[str] = field(factory=set[str])
    unlisted: int = 0

    def may_park(self, key: str) -> bool:
        """Return whether the call with a key waits, and the session may be parked for it."""
        return self.waits.get(key, (None, False))[1]

    def is_waiting(self, key: str) -> bool:
        """Return whether the call with a key waits."""
        return key in self.waits or key in self.resting

    def first_timeout(self) -> float | None:
        """Return when the first of the waits times out; `None` for never."""
        return min((until for until, _ in self.waits.values() if until is not None), default=None)

    def leaves(self) -> Iterator[tuple[OpenCalls, str]]:
        """Return the keys of the open calls in which nothing else is open; with what is open in their sessions.

        The code of a block in which nothing is open runs: it stands for a call without a key.
        """
        enclosing = set(self.inside.values())
        for each in self.inside:
            if each in enclosing:
                continue
            if isinstance(each, OpenCalls):
                yield from list(each.leaves()) or [(each, "")]
            else:
                yield self, each.key


class Parking:
    """Parks one session when nothing in it is open but waits, together with the blocks inside it.

    Args:
        session: The session.
        commits: Its commits.
        order: The order of its outcomes.
        around: Of a block inside another session: where it stands.

    Attributes:
        is_parked: Whether the session was parked.
        wakes_at: When the first of its waits times out, by the clock of the store; `None` for never.
        calls: What is open in the session.
        blocks: The blocks that are open inside this session, at any depth.
        place: The place of the session among those that `recover` runs at once, if it has one of its own.
        has_rested: Whether the session has given its place back.
    """

    def __init__(self, session: AttachedSession, commits: Commits, order: Order, around: Around | None = None) -> None:
        self.is_parked = False
        self.wakes_at: float | None = None
        self.calls = OpenCalls()
        # That of itself would be a cycle of references, which only the garbage collector ends.
        self._outer: Parking | None = None if around is None else around[0].outermost
        self.blocks: dict[Parking, None] = {}
        place = place_here.get()
        self.place: Place | None = place if place is not None and place.session_id == commits.session_id else None
        self.has_rested = False
        self._session = session
        self._commits = commits
        self._order = order
        self._around = around
        # In how many looks, one after another, all that was open waited, and could be parked.
        self._waiting_looks = 0
        self._idle_looks = 0

    @property
    def outermost(self) -> Parking:
        """The parking that decides: of a block that of the session around it, and that of that one in turn."""
        return self._outer or self

    @property
    def is_resting(self) -> bool:
        """Whether the place of the session was given back. Then a call that begins or goes on calls `go_on`."""
        return (self._outer or self).has_rested

    def begin(self) -> None:
        """Count a block as open in the session around it. Other sessions need not be counted."""
        if self._around is not None:
            outer, enclosing = self._around
            outer.calls.inside[self.calls] = enclosing
            self.outermost.blocks[self] = None

    def end(self) -> None:
        """Count a block as over, if it was open."""
        if self._around is not None:
            self._around[0].calls.inside.pop(self.calls, None)
            self.outermost.blocks.pop(self, None)

    def opened(self, body: CallBody, enclosing: CallBody | None) -> None:
        """Count a call as open.

        Args:
            body: Its inside.
            enclosing: The inside that it was made in; `None` if the call has no identity there.
        """
        self.calls.inside[body] = enclosing

    def closed(self, body: CallBody) -> None:
        """Count a call as over, if it was open."""
        self.calls.inside.pop(body, None)

    @block
    def waits(self, key: str, until: float | None, *, may_park: bool) -> Generator[None]:
        """Count a call as one that waits while the block runs.

        Args:
            key: The key of the call.
            until: When the wait times out, by the clock of the store; `None` for never.
            may_park: Whether the session may be parked for it.
        """
        self.calls.waits[key] = (until, may_park)
        try:
            yield
        finally:
            del self.calls.waits[key]

    @block
    def unlisted(self) -> Generator[None]:
        """Count something as open while the block runs that is not among the open calls: see `OpenCalls`."""
        self.calls.unlisted += 1
        try:
            yield
        finally:
            self.calls.unlisted -= 1

    def park_if_idle(self) -> None:
        """Park the session if nothing in it is open but waits that allow it. Each wait calls this after each look.

        A task that was just woken may be about to make a call. So the session has to be idle in a whole round of looks,
        of all its waits, and in one look more. While it is replayed it is not idle: what an earlier run has not done
        comes after that.
        """
        self.outermost.look()

    def look(self) -> None:
        """Do what `park_if_idle` says for this session and the blocks inside it."""
        if self.is_parked:
            # Another wait looks before the end has come to it.
            return
        leaves = list(self.calls.leaves())
        is_idle = bool(leaves) and all(each.may_park(key) for each, key in leaves)
        self._idle_looks = self._idle_looks + 1 if is_idle and not self._is_busy else 0
        if self._idle_looks > len(leaves):
            # It may be ending already, for another reason.
            is_parked = self._session.end(SessionWaiting(self._commits.session_id))
            for each in (self, *self.blocks):
                each.put_aside(is_parked=is_parked)
        elif self.place is not None:
            self.rest_if_waiting()

    def put_aside(self, *, is_parked: bool) -> None:
        """Record nothing any more, and take note of when to wake up."""
        self.wakes_at = self.calls.first_timeout()
        self.is_parked = is_parked
        self._commits.cut()

    @property
    def _is_busy(self) -> bool:
        """Whether something else than the open calls is under way, here or in a block."""
        return any(each.calls.unlisted or each._order.is_moving() for each in (self, *self.blocks))  # noqa: SLF001 - of this class

    # The place in the limit of `recover`.

    def rest_if_waiting(self) -> None:
        """Give the place of the session back if nothing in it is open but waits, in a whole round of looks and one."""
        leaves = list(self.calls.leaves())
        is_waiting = bool(leaves) and all(each.is_waiting(key) for each, key in leaves)
        self._waiting_looks = self._waiting_looks + 1 if is_waiting and not self._is_busy else 0
        if self._waiting_looks > len(leaves) and self.place is not None:
            self.has_rested = True
            self.place.rest()

    async def go_on(self) -> None:
        """Take a place again. A checkpoint if none is free."""
        await self.outermost.take_place()

    async def take_place(self) -> None:
        """Do what `go_on` says for this session and the blocks inside it."""
        while self.has_rested and self.place is not None:
            await self.place.go_on()
            self.has_rested = False
            self._waiting_looks = 0

    def place_inside(self, key: str, session_id: str) -> InnerPlace:
        """Return the place for the session that a call of an inner flow runs.

        Args:
            key: The key of the call.
            session_id: The session inside.
        """
        self.calls.resting.discard(key)
        return InnerPlace(self, key, session_id)

    def rests_inside(self, key: str) -> None:
        """Note that the session inside a call rests, and rest too if nothing else is open."""
        self.calls.resting.add(key)
        if self.outermost.place is not None:
            self.outermost.rest_if_waiting()

    async def goes_on_inside(self, key: str) -> None:
        """Note that the session inside a call goes on, and take the place that it needs."""
        self.calls.resting.discard(key)
        await self.go_on()


class InnerPlace:
    """The place of a session inside another one: it has its part in the place of that.

    Attributes:
        session_id: The session inside.
    """

    def __init__(self, outer: Parking, key: str, session_id: str) -> None:
        self.session_id = session_id
        self._outer = outer
        self._key = key

    def rest(self) -> None:
        """Note that only waits are open in the session inside."""
        self._outer.rests_inside(self._key)

    async def go_on(self) -> None:
        """Note that the session inside goes on. A checkpoint if the session around it has to wait for a place."""
        await self._outer.goes_on_inside(self._key)
