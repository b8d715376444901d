"""Records for opening a session: the parts that exist before it opens, what is around it, and its outer nursery.

Called by `Session` and by the lifetime of the session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import trio

from railtracks._calls.frames import Frame
from railtracks._calls.nursery import leave
from railtracks._options import Settings
from railtracks._records.events import ObservedSession
from railtracks._records.session import SessionRecord
from railtracks._records.state_file import StateFile
from railtracks._sessions.cancellation import Cancellation

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import DurableRun


class Around(Enum):
    """What is around a session in the task that enters it."""

    CODE = "code that may have opened scopes and made calls"
    TASK = "the task alone, which was started for the session or waits for the thread that asks for it"
    RUN = "a Trio run alone, which was begun for the session: nothing else is in its main task"


class SessionPlan(NamedTuple):
    """The parts of a session that `Session` makes before the session is opened.

    Attributes:
        session: The `Session` object that users hold.
        record: The record of the session.
        settings: The options of the session, defaults filled in.
        cancellation: The session's cancel scope.
        state_file: The file that the state will be saved to.
        durable: The session's run in its store; `None` if it is not durable.
        around: What is around it.
    """

    session: ObservedSession
    record: SessionRecord
    settings: Settings
    cancellation: Cancellation
    state_file: StateFile
    durable: DurableRun[Frame] | None
    around: Around


class OpenNursery(NamedTuple):
    """A nursery that one function enters and another one leaves, in the same task."""

    manager: AbstractAsyncContextManager[trio.Nursery]
    nursery: trio.Nursery

    @classmethod
    async def enter(cls) -> OpenNursery:
        """Enter a new nursery. Not a checkpoint."""
        manager = trio.open_nursery()
        return cls(manager, await manager.__aenter__())

    async def leave(self, error: BaseException | None) -> BaseException | None:
        """Leave the nursery with an error or with none, and return the error that comes out of it."""
        return await leave(self.manager, error)

    async def finish(self, work: Callable[[], Awaitable[object]] | None) -> BaseException | None:
        """Do the last work in a task of the nursery, leave it, and return the error that comes out of it.

        Args:
            work: An async function; `None` if there is nothing left to do but to wait for the other tasks.
        """
        if work is not None:
            self.nursery.start_soon(work)
        return await self.leave(None)


class NurseryOfRun(NamedTuple):
    """Trio's own nursery around the main task of a run, in place of one that is entered.

    It is outside of every scope that the task opens, and the run ends when its tasks have ended: for a session that
    has the run for itself that is all that an outer nursery has to be, and it costs nothing.
    """

    nursery: trio.Nursery

    async def finish(self, work: Callable[[], Awaitable[object]] | None) -> BaseException | None:
        """As `OpenNursery.finish`, but only the work is waited for. Not a checkpoint if there is none."""
        return None if work is None else await (await OpenNursery.enter()).finish(work)
