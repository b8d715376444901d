"""Which calls are open, and whether all of them wait for something that may take days: then the session is parked.

Calls report here when they begin and end, and the waits for signals and for inner flows when they wait. A parked
session ends with `SessionWaiting` and has the status `waiting`. It takes no process until `recover` wakes it.
"""

from __future__ import annotations

from collections.abc import Generator

from railtracks._blocks import block
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.commits import Commits
from railtracks.durable._replay.strands import CallBody
from railtracks.exceptions import SessionWaiting


class Parking:
    """Counts the open calls of one session and their waits, and parks the session when nothing else is open.

    Attributes:
        is_parked: Whether the session was parked.
        wakes_at: When the first of its waits times out, by the clock of the store; `None` for never.
    """

    def __init__(self, session: AttachedSession, commits: Commits) -> None:
        self.is_parked = False
        self.wakes_at: float | None = None
        self._session = session
        self._commits = commits
        # The inside of each open call, and the inside that the call was made in.
        self._open: dict[CallBody, CallBody | None] = {}
        # By the key of the call that waits: when the wait times out, and whether the session may be parked for it.
        self._waits: dict[str, tuple[float | None, bool]] = {}
        # How many retried calls pause between two attempts: they have no open call meanwhile.
        self._pausing = 0
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
        enclosing = set(self._open.values())
        leaves = [body for body in self._open if body not in enclosing]
        is_idle = bool(leaves) and all(self._waits.get(body.key, (None, False))[1] for body in leaves)
        self._idle_looks = self._idle_looks + 1 if is_idle and not self._pausing else 0
        if self._idle_looks > len(leaves):
            self.wakes_at = min((until for until, _ in self._waits.values() if until is not None), default=None)
            # It may be ending already, for another reason.
            self.is_parked = self._session.end(SessionWaiting(self._commits.session_id))
            self._commits.cut()
