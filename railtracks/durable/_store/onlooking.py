"""Which owners live, and which sessions are free, as any process sees it.

Views and `recover` ask an `Onlooker`. `ProcessOwner` is one that runs sessions itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.database import now_of
from railtracks.durable._store.reading import owner_row
from railtracks.durable._store.schema import OwnerRow, SessionRow, owners

# Seconds. Owners whose lease ended as long ago are forgotten.
LONGEST_LEASE: Final = 86_400


class _Locks(Protocol):
    def is_held(self, connection: Connection, token: str) -> bool | None: ...


class Onlooker:
    """Sees which owners live, by their leases and their locks.

    Args:
        locks: The locks of the owners.
        token: The name of this process in the store, if it is an owner.
    """

    def __init__(self, locks: _Locks, token: str | None = None) -> None:
        self._locks = locks
        self._own_token = token

    def live_owners(self, connection: Connection) -> frozenset[str]:
        """Return the other owners that live, by their tokens."""
        now = now_of(connection)
        others = [each for each in self._owners(connection) if each.token != self._own_token]
        return frozenset(each.token for each in others if self._lives(connection, each, now))

    def is_free(self, found: SessionRow, live: frozenset[str]) -> bool:
        """Return whether no process runs a session, given the other owners that live."""
        return found.owner not in live

    def _owners(self, connection: Connection, token: str | None = None) -> Iterator[OwnerRow]:
        """Return the rows of the owners, or that of one. One that no process has written is left out."""
        query = sa.select(owners)
        found = connection.execute(query if token is None else query.where(owners.c.token == token))
        return (row for row in map(owner_row, found.all()) if row is not None)

    def _lives(self, connection: Connection, owner: OwnerRow, now: float) -> bool:
        """Return whether an owner lives: until its lease ends, unless its lock shows that it has died."""
        if owner.lease_until <= now:
            return False
        is_held = self._locks.is_held(connection, owner.token)
        # No process has such a long lease: the row was changed, and the lock alone tells.
        return is_held is True if owner.lease_until > now + LONGEST_LEASE else is_held is not False
