"""The place that a session takes among those that `recover` runs at once. It is given back while only waits are open.

`recover` makes the place of a session, and a call of an inner flow that of the session inside. `Parking` gives places
back, and calls that begin or go on take them again.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

import trio


class Place(Protocol):
    """What one session holds while code of it may run.

    Attributes:
        session_id: The session.
    """

    session_id: str

    def rest(self) -> None:
        """Give the place back: only waits are open. Called again while that is so."""
        ...

    async def go_on(self) -> None:
        """Take a place again. A checkpoint if there is none yet."""
        ...


# The place of the session that the code around this is about to open. A session with another identifier has none.
place_here: ContextVar[Place | None] = ContextVar("railtracks_place", default=None)


class LimitedPlace:
    """A place under a limit, for one session and those inside it."""

    def __init__(self, session_id: str, limiter: trio.CapacityLimiter) -> None:
        self.session_id = session_id
        self._limiter = limiter
        self._taking = trio.Lock()
        self._is_held = False

    async def go_on(self) -> None:
        """Take a place, unless one is held. A checkpoint."""
        # Two waits of the session may end at once.
        async with self._taking:
            if not self._is_held:
                await self._limiter.acquire_on_behalf_of(self)
            self._is_held = True

    def rest(self) -> None:
        """Give the place back, if one is held."""
        if self._is_held:
            self._is_held = False
            self._limiter.release_on_behalf_of(self)
