"""Two records for opening a session: the parts that exist before it opens, and a nursery entered by hand.

Called by `Session` and by the lifetime of the session.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NamedTuple, Never

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


class SessionPlan(NamedTuple):
    """The parts of a session that `Session` makes before the session is opened.

    Attributes:
        session: The `Session` object that users hold.
        record: The record of the session.
        settings: The options of the session, defaults filled in.
        cancellation: The session's cancel scope.
        state_file: The file that the state will be saved to.
        durable: The session's run in its store; `None` if it is not durable.
        is_in_new_task: Whether the task that enters the session was started for it, and has made no call.
    """

    session: ObservedSession
    record: SessionRecord
    settings: Settings
    cancellation: Cancellation
    state_file: StateFile
    durable: DurableRun[Frame] | None
    is_in_new_task: bool


class OpenNursery(NamedTuple):
    """A nursery that one function enters and another one leaves, in the same task."""

    manager: AbstractAsyncContextManager[trio.Nursery]
    nursery: trio.Nursery

    @classmethod
    async def enter(cls) -> OpenNursery:
        """Enter a new nursery. Not a checkpoint."""
        manager = trio.open_nursery()
        return cls(manager, await manager.__aenter__())

    def leave(self, error: BaseException | None) -> Coroutine[object, Never, BaseException | None]:
        """Leave the nursery with an error or with none, and return the error that comes out of it."""
        return leave(self.manager, error)
