"""What keeps the sessions that one Trio run has in one store: the renewal of their lease, the look for requests to end.

The writer has one, and each `Run` comes here with its session. One task does both for all of them: it is a task of one
of these sessions, and of another one when that session has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Final, TypeAlias

import sqlalchemy as sa
import trio
from attrs import define, field
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from railtracks._forks import generation
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
        nursery: A nursery of the session, which is open until the session is removed.
        lose: Called with the reason when it is lost, some time before another owner may take it.
        cancel: Called with the reason when somebody asks in the store for its end.
        context: The context of its tasks.
        is_asked: Whether `cancel` was called.
    """

    session_id: str
    nursery: trio.Nursery
    lose: Callable[[RailtracksError], object]
    cancel: Callable[[str | None], object]
    context: Context = field(factory=copy_context)
    is_asked: bool = False


@define(eq=False)
class _Keeper:
    """The task that keeps all sessions.

    Attributes:
        session_id: The session whose task it is.
        scope: Its cancel scope. A cancel around the session does not reach it: the session is kept until it has ended.
        is_over: Set when it has ended.
    """

    session_id: str
    scope: trio.CancelScope = field(factory=lambda: trio.CancelScope(shield=True))
    is_over: trio.Event = field(factory=trio.Event)


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
        self._keeper: _Keeper | None = None
        # That one, and those that were told to end and have not ended yet, by their sessions.
        self._keepers: dict[str, _Keeper] = {}
        # On Trio's clock. Whoever looks, the next look comes at its time.
        self._looked_at = 0.0
        self._made_in = generation()

    def add(self, session: KeptSession) -> None:
        """Keep a session from now on, until it is lost or removed."""
        if not self._kept:
            self._looked_at = trio.current_time()
        self._kept[session.session_id] = session
        self._go_on()

    async def remove(self, session_id: str) -> None:
        """Keep a session no longer; wait until no task of it is at work here."""
        self.forget(session_id)
        # At once: a look that is on its way in a thread holds up the end of its own session, and not the keeping of the
        # others (test_durable_keeping.py::test_a_look_that_hangs_as_its_session_ends_holds_up_no_renewal).
        self._go_on()
        # Also of a session that was lost: its task was told to end then
        # (test_durable_keeping.py::test_a_look_ends_before_the_store_is_closed_also_if_its_session_was_lost).
        keeper = self._keepers.get(session_id)
        if keeper is not None:
            await keeper.is_over.wait()

    def forget(self, session_id: str) -> None:
        """Keep a session no longer. In a forked process that is all: the others are those of the parent."""
        self._kept.pop(session_id, None)
        if self._keeper is not None and self._keeper.session_id == session_id:
            self._keeper.scope.cancel()
            self._keeper = None

    def _go_on(self) -> None:
        """Start the task that keeps the sessions, if there are any and none does."""
        if self._kept and self._keeper is None:
            # The youngest is likely to be the last to end: of sessions that end one after another few move the task.
            session = next(reversed(self._kept.values()))
            self._keeper = self._keepers[session.session_id] = keeper = _Keeper(session.session_id)
            work = partial(self._keep_all, keeper)
            session.context.run(partial(session.nursery.start_soon, work, name="railtracks: keep the lease"))

    @trio.lowlevel.enable_ki_protection
    async def _keep_all(self, keeper: _Keeper) -> None:
        lease = self._owner.lease
        try:
            with keeper.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._renew)
                    nursery.start_soon(self._look_for_requests)
                    # Each renewal, which is made in a thread, puts the loss off.
                    while seconds := lease.until_loss:  # noqa: ASYNC110 - the same
                        await trio.sleep(seconds)
                    await self._leave_to_parent()
                    self._lose_all(lambda each: SessionLostError(each, "its lease could not be renewed in time"))
        except Exception:
            # No thread could be started, for example. That ends its session, which may take its time, and no other one
            # (test_durable_keeping.py::test_the_others_stay_kept_when_the_task_that_keeps_all_fails).
            self.forget(keeper.session_id)
            self._go_on()
            raise
        finally:
            del self._keepers[keeper.session_id]
            keeper.is_over.set()

    def _lose_all(self, why: Callable[[str], RailtracksError]) -> None:
        """Give up all sessions, which have one lease. Each gets an error of its own.

        The task that keeps them ends. A session that is added before it has ended needs another one.
        """
        lost = list(self._kept.values())
        self._kept.clear()
        # Not always the task that calls this, which may have been told to end at the moment when it heard of the loss
        # (test_durable_keeping.py::test_a_loss_that_is_heard_of_as_the_task_moves_ends_the_task_that_goes_on).
        for keeper in self._keepers.values():
            keeper.scope.cancel()
        self._keeper = None
        for each in lost:
            each.lose(why(each.session_id))

    async def _leave_to_parent(self) -> None:
        """Do nothing for ever in a forked process: the sessions, and their store, are those of its parent."""
        if self._made_in != generation():
            await trio.sleep_forever()

    @trio.lowlevel.enable_ki_protection
    async def _renew(self) -> None:
        owner = self._owner
        while True:
            await trio.sleep(owner.lease.until_renewal)
            # Another Trio run of this process may have renewed it.
            if owner.lease.until_renewal:
                continue
            await self._leave_to_parent()
            try:
                problem = await in_thread(owner.renew, abandon_on_cancel=True)
            except StoreError as error:
                # Nothing that another try could change: the store was moved, for example.
                told = error.problem
                self._lose_all(lambda _: StoreError(told))  # noqa: B023 - called at once
                return
            except SQLAlchemyError:
                # There is time for another try, or there is none: then the lease ends the sessions.
                await trio.sleep(self._patience.look)
                continue
            if problem is not None:
                self._lose_all(lambda each: SessionLostError(each, problem))  # noqa: B023 - called at once
                return

    @trio.lowlevel.enable_ki_protection
    async def _look_for_requests(self) -> None:
        while True:
            await trio.sleep_until(self._looked_at + self._patience.request)
            await self._leave_to_parent()
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
