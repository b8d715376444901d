"""The look for requests to end sessions, which other processes write into the store: one for all of a Trio run.

The writer has one, and each `Run` waits by it while its session is open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import sqlalchemy as sa
import trio
from sqlalchemy.engine import Connection

from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import sessions
from railtracks.exceptions import StoreError

# Looks for what was asked of the sessions of one owner: reasons, by session.
Look: TypeAlias = Callable[[], Awaitable[dict[str, str | None]]]

# By an index that has only the few sessions whose end was asked for: it costs the same in a store of any size.
_ASKED: Final = sa.select(sessions.c.session_id, sessions.c.cancel_reason).where(
    sessions.c.owner == sa.bindparam("token"), sessions.c.cancel_asked_at.is_not(None)
)


def asked_of(connection: Connection, token: str) -> dict[str, str | None]:
    """Return the sessions of an owner whose end somebody has asked for, with the reasons."""
    found = connection.execute(_ASKED, {"token": token}).all()
    return {row.session_id: row.cancel_reason for row in found}


class CancelPolling:
    """Tells the sessions of one store and one Trio run of requests to end them; one of them looks for all.

    Args:
        look: Looks into the store.
        patience: How long to wait between two looks.
    """

    def __init__(self, look: Look, patience: Patience) -> None:
        self._look = look
        self._pause = patience.request
        self._cancels: dict[str, Callable[[str | None], object]] = {}
        # The session that holds it looks for all; the others wait for it, and one of them goes on when that one ends.
        self._looking = trio.Lock()
        # On Trio's clock. Whoever looks, the next look comes at its time.
        self._looked_at = 0.0

    async def watch(self, session_id: str, cancel: Callable[[str | None], object]) -> None:
        """Call `cancel` with the reason once somebody asks for the end of a session. A checkpoint.

        Returns when that has happened and no other session is left to look for; until then it is to be cancelled.
        """
        if not self._cancels:
            self._looked_at = trio.current_time()
        self._cancels[session_id] = cancel
        try:
            async with self._looking:
                while self._cancels:
                    await trio.sleep_until(self._looked_at + self._pause)
                    self._looked_at = trio.current_time()
                    await self._tell()
        finally:
            self._cancels.pop(session_id, None)

    async def _tell(self) -> None:
        try:
            asked = await self._look()
        except StoreError:
            # Commits and the lease find out for themselves whether the store is to be given up.
            return
        for session_id, reason in asked.items():
            cancel = self._cancels.pop(session_id, None)
            if cancel is not None:
                cancel(reason)
