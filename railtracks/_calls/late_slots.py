"""The slot of a call that a resume begins without one, and that is taken before anything in the call is done anew.

Made by `inputs` for batches and `as_completed`, and by `pending` for groups. The journal of a durable session takes it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from railtracks._calls.frames import Frame

if TYPE_CHECKING:
    from railtracks._calls.durable_protocol import SessionJournal


class LateSlot:
    """The slot of one call in the limiter of its fan-out, for a call that may begin before it has the slot.

    Args:
        limiter: The limiter of the fan-out.
        borrower: The pending call, which holds the slot.

    Attributes:
        is_held: Whether the slot is held.
    """

    __slots__ = ("_begun", "_borrower", "_limiter", "_taking", "is_held")

    def __init__(self, limiter: trio.CapacityLimiter, borrower: object) -> None:
        self._limiter = limiter
        self._borrower = borrower
        self._taking = trio.Lock()
        self.is_held = False
        # The journal that takes the slot, and the frame in which the call is made.
        self._begun: tuple[SessionJournal[Frame], Frame] | None = None

    def begin(self, journal: SessionJournal[Frame], start_frame: Frame) -> None:
        """Have the journal take the slot.

        Args:
            journal: The journal of the session.
            start_frame: The frame in which the call is made.
        """
        self._begun = (journal, start_frame)
        journal.begin_late(start_frame, self)

    @trio.lowlevel.enable_ki_protection
    def take_nowait(self) -> bool:
        """Take the slot, if it is not held and one is free; return whether it is held."""
        # A task inside the call that waits for it may have got it, and not gone on yet.
        if not self.is_held and not self._taking.locked():
            with suppress(trio.WouldBlock):
                self._limiter.acquire_on_behalf_of_nowait(self._borrower)
                self.is_held = True
        return self.is_held

    @trio.lowlevel.enable_ki_protection
    async def take(self) -> None:
        """Take the slot, unless it is held. A checkpoint."""
        # Two tasks inside the call may need it at once.
        async with self._taking:
            if self.is_held:
                return
            await self._limiter.acquire_on_behalf_of(self._borrower)
            self.is_held = True

    @trio.lowlevel.enable_ki_protection
    def end(self) -> None:
        """Give the slot back, if it is held: the call has ended, or was never made."""
        if self._begun is not None:
            journal, start_frame = self._begun
            journal.end_late(start_frame)
            self._begun = None
        if self.is_held:
            self.is_held = False
            self._limiter.release_on_behalf_of(self._borrower)
