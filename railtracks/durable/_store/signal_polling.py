"""The wait for signals in a store: one look at a time, for all sessions of a Trio run that wait.

`SignalWait` in `_sessions/signals` waits by this; the writer of the Trio run holds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, TypeVar

import sqlalchemy as sa
import trio
from attrs import define, field
from sqlalchemy.engine import Connection

from railtracks.durable._store.database import now_of
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import signals
from railtracks.exceptions import StoreError

T = TypeVar("T")

# How many signals nobody has consumed, by session and name.
Unheard: TypeAlias = Counter[tuple[str, str]]


class Peek(Protocol):
    """Reads something of the store, in a thread."""

    def __call__(self, look: Callable[[Connection], T]) -> Awaitable[T]: ...


@define(eq=False)
class SignalWaiter:
    """A task that waits for one signal, and what the last look has found for it.

    Attributes:
        session_id: The session that the signal is for.
        name: The name of the signal.
        until: When the wait times out, by the clock of the database; `None` for never.
        looked: Called after each look that found no signal.
        is_due: Whether there is a signal, or the wait has timed out.
        problem: Why the store cannot be read.
        woken: Set when the task is to go on.
    """

    session_id: str
    name: str
    until: float | None
    looked: Callable[[], None]
    is_due: bool = False
    problem: StoreError | None = None
    woken: trio.Event = field(factory=trio.Event)


class SignalPolling:
    """Looks for the signals of all that wait in one store and one Trio run; the first waiter does it for the others."""

    def __init__(self, peek: Peek, patience: Patience) -> None:
        self._peek = peek
        self._patience = patience
        # In the order of their coming: a dict is an ordered set.
        self._waiting: dict[SignalWaiter, None] = {}
        self._leader: SignalWaiter | None = None

    async def until_due(self, waiter: SignalWaiter) -> None:
        """Wait until there is a signal or the wait has timed out. A checkpoint.

        Another wait may still consume the signal first.

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

    async def _lead(self, waiter: SignalWaiter) -> None:
        """Look for all, until the signal of this waiter is there."""
        self._leader = waiter
        try:
            await self._look()
            while not waiter.is_due:
                await trio.sleep(self._patience.look)
                await self._look()
        except StoreError as error:
            # An error of its own for each waiter: an exception that several tasks raise gets the tracebacks of all.
            for each in self._waiting:
                each.problem = StoreError(error.problem)
                each.woken.set()
        finally:
            self._leader = None

    def _hand_on(self) -> None:
        """Wake a waiter to look for all, if none does any more."""
        if self._leader is None:
            for each in self._waiting:
                if not each.is_due:
                    each.woken.set()
                    return

    async def _look(self) -> None:
        waiting = list(self._waiting)
        ids = sorted({each.session_id for each in waiting})
        at_once = self._patience.sessions_per_query
        now, unheard = await self._peek(lambda connection: (now_of(connection), _unheard(connection, ids, at_once)))
        for each in waiting:
            signal = each.session_id, each.name
            if unheard[signal] > 0 or (each.until is not None and now >= each.until):
                # One signal ends one wait.
                unheard[signal] -= 1
                each.is_due = True
                each.woken.set()
            else:
                each.looked()


def _unheard(connection: Connection, session_ids: list[str], at_once: int) -> Unheard:
    """Return the numbers of signals of these sessions that nobody has consumed."""
    found: Unheard = Counter()
    columns = signals.c.session_id, signals.c.name
    for start in range(0, len(session_ids), at_once):
        among = signals.c.session_id.in_(session_ids[start : start + at_once])
        query = sa.select(*columns, sa.func.count()).where(among, signals.c.consumed_by.is_(None)).group_by(*columns)
        found.update({(session_id, name): count for session_id, name, count in connection.execute(query)})
    return found
