"""What a session is opened with: its parts that exist before that, and a nursery that is entered and left apart.

Called by `Session` and by the lifetime of the session.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import trio

from railtracks._calls.durable_protocol import DurableRun
from railtracks._calls.frames import Frame
from railtracks._calls.pending import leave
from railtracks._options import Settings
from railtracks._records.events import ObservedSession
from railtracks._records.session import SessionRecord
from railtracks._sessions.cancellation import Cancellation


class SessionPlan(NamedTuple):
    """What a session is made of before it is opened.

    Attributes:
        face: The `Session` that users hold.
        record: What is known of the session as data.
        settings: The options that count.
        cancellation: Its cancel scope, and what cancels it.
        path: Where its state will be saved, `None` if it will not be.
        durable: Its run in a store, if it is durable.
    """

    face: ObservedSession
    record: SessionRecord
    settings: Settings
    cancellation: Cancellation
    path: Path | None
    durable: DurableRun[Frame] | None


class OpenNursery(NamedTuple):
    """A nursery that is entered in one function and left in another."""

    manager: AbstractAsyncContextManager[trio.Nursery]
    nursery: trio.Nursery

    @classmethod
    async def enter(cls) -> OpenNursery:
        """Enter a nursery; not a checkpoint."""
        manager = trio.open_nursery()
        return cls(manager, await manager.__aenter__())

    async def leave(self, error: BaseException | None) -> BaseException | None:
        """Leave the nursery with an error, or with none; return what comes out instead of raising it."""
        return await leave(self.manager, error)
