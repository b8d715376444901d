"""What keeps the sessions that one Trio run has in one store: the renewal of their lease, the look for requests to end.

The writer has one, and each `Run` comes here with its session. One of their tasks does both for all of them, and the
others wait behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final, TypeAlias

import sqlalchemy as sa
import trio
from attrs import define
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from railtracks._workers.threads import in_thread
from railtracks.durable._store.ownership import ProcessOwner
from railtracks.durable._store.patience import Patience
from railtracks.durable._store.schema import sessions
from railtracks.exceptions import RailtracksError, SessionLostError, StoreError

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


@define(eq=False)
class KeptSession:
    """A session that is kept.

    Attributes:
        session_id: The session.
        lose: Called with the reason when it is lost, some time before another owner may take it.
        cancel: Called with the reason when somebody asks in the store for its end.
        is_asked: Whether that was called.
    """

    session_id: str
    lose: Callable[[RailtracksError], object]
    cancel: Callable[[str | None], object]
    is_asked: bool = False


class Keeping:
    """Keeps the sessions that one Trio run has in one store.

    Args:
        owner: This process as their owner.
        look: Looks into the store for requests.
        patience: How long to wait between two looks, and between two tries.
    """

    def __init__(self, owner: ProcessOwner, look: Look, patience: Patience) -> None:
        self._owner = owner
        self._look = look
        self._patience = patience
        self._kept: dict[str, KeptSession] = {}
        # The task that holds it keeps all; the others wait for it, and one of them goes on when that one ends.
        self._turn = trio.Lock()
        # On Trio's clock. Whoever looks, the next look comes at its time.
        self._looked_at = 0.0

    @trio.lowlevel.enable_ki_protection
    async def keep(self, session: KeptSession) -> None:
        """Keep a session until it is lost, or this is cancelled. A checkpoint."""
        if not self._kept:
            self._looked_at = trio.current_time()
        self._kept[session.session_id] = session
        with ExitStack() as leaving:
            leaving.callback(self._kept.pop, session.session_id, None)
            await self._turn.acquire()
            leaving.callback(self._turn.release)
            if session.session_id in self._kept:
                async with trio.open_nursery() as nursery:
                    # Left before the nursery: a look that is on its way in a thread holds up the end of this task, and
                    # not the one that keeps all after it
                    # (test_durable_keeping.py::test_a_look_that_hangs_as_its_session_ends_holds_up_no_renewal).
                    with leaving.pop_all():
                        await self._keep_all(nursery)

    async def _keep_all(self, nursery: trio.Nursery) -> None:
        lease = self._owner.lease
        nursery.start_soon(self._renew, nursery.cancel_scope)
        nursery.start_soon(self._look_for_requests)
        # Each renewal, which is made in a thread, puts the loss off.
        while seconds := lease.until_loss:  # noqa: ASYNC110 - the same
            await trio.sleep(seconds)
        self._lose_all(lambda each: SessionLostError(each, "its lease could not be renewed in time"))
        nursery.cancel_scope.cancel()

    def _lose_all(self, why: Callable[[str], RailtracksError]) -> None:
        """Give up all sessions, which have one lease. Each gets an error of its own."""
        lost = list(self._kept.values())
        self._kept.clear()
        for each in lost:
            each.lose(why(each.session_id))

    @trio.lowlevel.enable_ki_protection
    async def _renew(self, keeping: trio.CancelScope) -> None:
        owner = self._owner
        while True:
            await trio.sleep(owner.lease.until_renewal)
            # Another Trio run of this process may have renewed it.
            if owner.lease.until_renewal:
                continue
            try:
                problem = await in_thread(owner.renew, abandon_on_cancel=True)
            except StoreError as error:
                # Nothing that another try could change: the store was moved, for example.
                told = error.problem
                self._lose_all(lambda _: StoreError(told))  # noqa: B023 - called at once
                break
            except SQLAlchemyError:
                # There is time for another try, or there is none: then the lease ends the sessions.
                await trio.sleep(self._patience.look)
                continue
            if problem is not None:
                self._lose_all(lambda each: SessionLostError(each, problem))  # noqa: B023 - called at once
                break
        keeping.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _look_for_requests(self) -> None:
        while True:
            await trio.sleep_until(self._looked_at + self._patience.request)
            self._looked_at = trio.current_time()
            try:
                asked = await self._look()
            except StoreError:
                # Commits and the lease find out for themselves whether the store is to be given up.
                continue
            for session_id, reason in asked.items():
                session = self._kept.get(session_id)
                if session is not None and not session.is_asked:
                    session.is_asked = True
                    session.cancel(reason)
