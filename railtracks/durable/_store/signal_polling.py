"""What sessions wait for in their store: one look at a time, for all that wait in a Trio run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import sqlalchemy as sa
import trio
from attrs import define, field
from sqlalchemy.engine import Connection

from railtracks.durable._store.database import LOOK, now_of
from railtracks.durable._store.schema import signals
from railtracks.exceptions import StoreError

# How many sessions one question to a database may name.
_AT_ONCE: Final = 500


@define(eq=False)
class Waiter:
    """Somebody who waits for a signal.

    Attributes:
        session_id: The session that it is for.
        name: Its name.
        until: When the time is over, by the clock of the database; `None` for never.
        looked: Called when there was nothing.
        is_due: Whether there is a signal, or the time is over.
        problem: Why nobody can say.
    """

    session_id: str
    name: str
    until: float | None
    looked: Callable[[], None]
    is_due: bool = False
    problem: StoreError | None = None
    woken: trio.Event = field(factory=trio.Event)


class Lookout:
    """Looks for all that wait in one store and one Trio run; whoever comes first does it for the others."""

    def __init__(self, peek: Callable[[Callable[[Connection], Any]], Awaitable[Any]]) -> None:
        self._peek = peek
        self._waiting: dict[Waiter, None] = {}
        self._leader: Waiter | None = None

    async def until_due(self, waiter: Waiter) -> None:
        """Wait until there is a signal or the time is over; another wait may still be quicker. A checkpoint.

        Raises:
            StoreError: If the store cannot be read.
        """
        self._waiting[waiter] = None
        try:
            while not waiter.is_due:
                if self._leader is None:
                    await self._lead(waiter)
                else:
                    await waiter.woken.wait()
                    waiter.woken = trio.Event()
                if waiter.problem is not None:
                    raise waiter.problem
        finally:
            del self._waiting[waiter]
            self._hand_on()

    async def _lead(self, waiter: Waiter) -> None:
        self._leader = waiter
        try:
            await self._look()
            while not waiter.is_due:
                await trio.sleep(LOOK)
                await self._look()
        except StoreError as error:
            for each in self._waiting:
                each.problem = StoreError(error.problem)
                each.woken.set()
        finally:
            self._leader = None

    def _hand_on(self) -> None:
        """Have somebody else look, if nobody does any more."""
        if self._leader is None:
            for each in self._waiting:
                if not each.is_due:
                    each.woken.set()
                    return

    async def _look(self) -> None:
        waiting = list(self._waiting)
        ids = sorted({each.session_id for each in waiting})
        now, there = await self._peek(lambda connection: (now_of(connection), _found(connection, ids)))
        for each in waiting:
            signal = each.session_id, each.name
            if there[signal] > 0 or (each.until is not None and now >= each.until):
                # One signal ends one wait.
                there[signal] -= 1
                each.is_due = True
                each.woken.set()
            else:
                each.looked()


def _found(connection: Connection, session_ids: list[str]) -> Counter[tuple[str, str]]:
    """Return how many signals of which sessions, and of which names, nobody has consumed."""
    found: Counter[tuple[str, str]] = Counter()
    columns = signals.c.session_id, signals.c.name
    for some in range(0, len(session_ids), _AT_ONCE):
        among = signals.c.session_id.in_(session_ids[some : some + _AT_ONCE])
        query = sa.select(*columns, sa.func.count()).where(among, signals.c.consumed_by.is_(None)).group_by(*columns)
        found.update({(session_id, name): count for session_id, name, count in connection.execute(query)})
    return found
