"""Which calls are open, and whether all of them wait for something that may take days: then the session is parked.

Calls report here when they begin and end, and the waits for signals and for inner flows when they wait. A parked
session ends with `SessionWaiting` and has the status `waiting`. It takes no process until `recover` wakes it. A session
that waits and may not be parked gives its place in the limit of `recover` back meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator

from railtracks._blocks import block
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.commits import Commits
from railtracks.durable._replay.places import place_here
from railtracks.durable._replay.strands import CallBody
from railtracks.exceptions import SessionWaiting


class Parking:
    """Counts the open calls of one session and their waits, and parks the session when nothing else is open.

    Attributes:
        is_parked: Whether the session was parked.
        wakes_at: When the first of its waits times out, by the clock of the store; `None` for never.
        is_resting: Whether the session has given its place back. Then a call that begins or goes on calls `go_on`.
    """

    def __init__(self, session: AttachedSession, commits: Commits) -> None:
        self.is_parked = False
        self.wakes_at: float | None = None
        self.is_resting = False
        self._session = session
        self._commits = commits
        # The inside of each open call, and the inside that the call was made in.
        self._open: dict[CallBody, CallBody | None] = {}
        # By the key of the call that waits: when the wait times out, and whether the session may be parked for it.
        self._waits: dict[str, tuple[float | None, bool]] = {}
        # How many retried calls pause between two attempts: they have no open call meanwhile.
        self._pausing = 0
        # The keys of calls of inner flows whose sessions rest.
        self._resting: set[str] = set()
        place = place_here.get()
        self._place = place if place is not None and place.session_id == commits.session_id else None
        # In how many looks, one after another, all that was open waited, and could be parked.
        self._waiting_looks = 0
        self._idle_looks = 0

    def opened(self, body: CallBody, enclosing: CallBody | None) -> None:
        """Count a call as open.

        Args:
            body: Its inside.
            enclosing: The inside that it was made in; `None` if the call has no identity there.
        """
        self._open[body] = enclosing

    def closed(self, body: CallBody) -> None:
        """Count a call as over, if it was open."""
        self._open.pop(body, None)

    @block
    def waits(self, key: str, until: float | None, *, may_park: bool) -> Generator[None]:
        """Count a call as one that waits while the block runs.

        Args:
            key: The key of the call.
            until: When the wait times out, by the clock of the store; `None` for never.
            may_park: Whether the session may be parked for it.
        """
        self._waits[key] = (until, may_park)
        try:
            yield
        finally:
            del self._waits[key]

    @block
    def pauses(self) -> Generator[None]:
        """Count a retried call as one that pauses between two attempts while the block runs."""
        self._pausing += 1
        try:
            yield
        finally:
            self._pausing -= 1

    def park_if_idle(self) -> None:
        """Park the session if nothing in it is open but waits that allow it. Each wait calls this after each look.

        A task that was just woken may be about to make a call. So the session has to be idle in a whole round of looks,
        of all its waits, and in one look more.
        """
        leaves = self._leaves()
        is_idle = bool(leaves) and all(self._waits.get(key, (None, False))[1] for key in leaves)
        self._idle_looks = self._idle_looks + 1 if is_idle and not self._pausing else 0
        if self._idle_looks > len(leaves):
            self.wakes_at = min((until for until, _ in self._waits.values() if until is not None), default=None)
            # It may be ending already, for another reason.
            self.is_parked = self._session.end(SessionWaiting(self._commits.session_id))
            self._commits.cut()
        elif self._place is not None:
            self._rest_if_waiting(leaves)

    def _leaves(self) -> list[str]:
        """Return the keys of the open calls in which no other call is open."""
        enclosing = set(self._open.values())
        return [body.key for body in self._open if body not in enclosing]

    # The place in the limit of `recover`.

    def _rest_if_waiting(self, leaves: list[str]) -> None:
        """Give the place of the session back if nothing in it is open but waits, in a whole round of looks and one."""
        assert self._place is not None  # noqa: S101 - the callers have asked
        is_waiting = bool(leaves) and all(key in self._waits or key in self._resting for key in leaves)
        self._waiting_looks = self._waiting_looks + 1 if is_waiting and not self._pausing else 0
        if self._waiting_looks > len(leaves):
            self.is_resting = True
            self._place.rest()

    async def go_on(self) -> None:
        """Take a place again. A checkpoint if none is free."""
        while self.is_resting and self._place is not None:
            await self._place.go_on()
            self.is_resting = False
            self._waiting_looks = 0

    def place_inside(self, key: str, session_id: str) -> InnerPlace:
        """Return the place for the session that a call of an inner flow runs.

        Args:
            key: The key of the call.
            session_id: The session inside.
        """
        self._resting.discard(key)
        return InnerPlace(self, key, session_id)

    def rests_inside(self, key: str) -> None:
        """Note that the session inside a call rests, and rest too if nothing else is open."""
        self._resting.add(key)
        if self._place is not None:
            self._rest_if_waiting(self._leaves())

    async def goes_on_inside(self, key: str) -> None:
        """Note that the session inside a call goes on, and take the place that it needs."""
        self._resting.discard(key)
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
