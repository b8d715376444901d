"""The slots of the calls in fan-outs with a limit that a replay has begun without their slots.

The journal gets them from the core, and calls that run take them here.

What is replayed needs no slot. Outcomes are handed over in the recorded order, and after a retry, or a resume of that,
this is another order than that of slots: a call that runs again keeps its slot until all that is recorded was handed
over. Calls that waited for its slot before they hand over their outcomes would wait for ever.
"""

from __future__ import annotations

from railtracks._calls.durable_protocol import Slot
from railtracks._calls.frames import Frame


class LateSlots:
    """The slots that calls of one session do not have yet, by the frames in which these calls are made."""

    def __init__(self) -> None:
        self._slots: dict[Frame, Slot] = {}

    def __bool__(self) -> bool:
        return bool(self._slots)

    def add(self, start_frame: Frame, slot: Slot) -> None:
        """Keep the slot of a call until it is taken."""
        self._slots[start_frame] = slot

    def drop(self, start_frame: Frame) -> None:
        """Forget the slot of a call that has ended, if it was not taken."""
        self._slots.pop(start_frame, None)

    def take_nowait(self, frame: Frame) -> None:
        """Take the slots of the calls around a frame that are free, from the outermost inwards."""
        for each, slot in self._around(frame):
            if slot.take_nowait():
                self.drop(each)

    async def take(self, frame: Frame) -> None:
        """Take the slots of the calls around a frame, from the outermost inwards. A checkpoint if there are any."""
        for each, slot in self._around(frame):
            await slot.take()
            self.drop(each)

    def _around(self, frame: Frame | None) -> list[tuple[Frame, Slot]]:
        around: list[tuple[Frame, Slot]] = []
        while frame is not None:
            if frame in self._slots:
                around.append((frame, self._slots[frame]))
            frame = frame.outer
        return around[::-1]
