"""Which owners live, and which sessions are free, as any process sees it.

Views and `recover` ask an `Onlooker`. `ProcessOwner` is one that runs sessions itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks.durable._store.database import now_of
from railtracks.durable._store.reading import owner_row
from railtracks.durable._store.schema import OwnerRow, SessionOutline, SessionRow, owners

# Seconds. Owners whose lease ended as long ago are forgotten.
LONGEST_LEASE: Final = 86_400


class _Locks(Protocol):
    def is_held(self, connection: Connection, token: str) -> bool | None: ...
    def tokens(self) -> Collection[str]: ...


class Onlooker:
    """Sees which owners live, by their leases and their locks.

    Attributes:
        own_token: The name of this process in the store, if it is an owner.
    """

    def __init__(self, locks: _Locks, token: str | None = None) -> None:
        self._locks = locks
        self.own_token = token

    def live_owners(self, connection: Connection) -> dict[str, OwnerRow]:
        """Return the other owners that live, by their tokens."""
        now = now_of(connection)
        others = [each for each in self._owners(connection) if each.token != self.own_token]
        return {each.token: each for each in others if self._lives(connection, each, now)}

    def unneeded_locks(self, connection: Connection) -> list[str]:
        """Return the owners of which nothing is left but their locks, by their tokens."""
        now = now_of(connection)
        # The lock of an owner that died is needed until its lease ends: it shows that the owner is dead.
        needed = {self.own_token, *(each.token for each in self._owners(connection) if each.lease_until > now)}
        others = [token for token in self._locks.tokens() if token not in needed]
        return [token for token in others if self._locks.is_held(connection, token) is not True]

    def is_free(self, found: SessionRow | SessionOutline, live: Collection[str]) -> bool:
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
