"""Long work in slices, so that no other thread has to wait long. Called by all that writes a session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic, sleep
from typing import Final, TypeVar

T = TypeVar("T")

# Seconds of work between two pauses. With less of it a busy event loop would keep the saving thread waiting.
_SLICE: Final = 0.002
# How many items or characters are handed to code in C at once. It lets no other thread run meanwhile.
ITEMS: Final = 1_000
CHARACTERS: Final = 2**20


class Pauses:
    """Lets other threads run between two pieces of work.

    Python itself switches threads only every 5 ms, and an event loop has to wait for that at each of its steps.
    """

    def __init__(self) -> None:
        self._due = monotonic() + _SLICE

    def pause(self) -> None:
        """Let other threads run, if this one has worked for a while."""
        if monotonic() > self._due:
            sleep(0)
            self._due = monotonic() + _SLICE

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """Return the items, and let other threads run in between."""
        for item in items:
            self.pause()
            yield item


class NoPauses(Pauses):
    """For work that is short, in a thread that others wait for."""

    def pause(self) -> None:
        """Go on at once."""


def slices(text: str) -> Iterator[str]:
    """Return a text in slices, each short enough to be handed to code in C, which lets no other thread run."""
    return (text[start : start + CHARACTERS] for start in range(0, len(text), CHARACTERS))
