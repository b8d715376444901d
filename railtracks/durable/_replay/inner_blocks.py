"""Where the session blocks inside a session stand: they have rows of their own, which do not say in which call.

`reopening` asks here, with the identifiers of all sessions inside. The identifier of a block comes from its place, so
it is looked for at the places that follow what is recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import Final

from attrs import define, field

from railtracks.durable._replay.identities import Identities
from railtracks.durable._replay.strands import block_label, key_of

# How many numbers a strand may have taken for what is in no row, before a session block that was opened there.
_UNRECORDED: Final = 16
# How deep nodes that are not recorded may call each other, and in how many of their calls a block is looked for.
_DEPTH: Final = 3
_MOST: Final = 5_000


@define(frozen=True)
class Place:
    """Where a session block stands.

    Attributes:
        body: The key of the recorded call around it, or of the session.
        strand: The key of its strand. A block that a task opened before its first call is a strand by itself.
        number: Its number there.
    """

    body: str
    strand: str
    number: int


@define(eq=False)
class InnerBlocks:
    """Finds the places of session blocks.

    Attributes:
        places: The places that were found, by the identifiers of the blocks.
    """

    _identities: Identities
    # The names of the sessions that are looked for, by their identifiers.
    _names: Mapping[str, str]
    places: dict[str, Place] = field(factory=dict[str, Place], init=False)

    def find(self, strands: Mapping[str, Mapping[str, int]]) -> None:
        """Look in some bodies.

        Args:
            strands: By body and strand, the highest number that is recorded there.
        """
        names = sorted(set(self._names.values()))
        # The shallow ones first: a strand, its body, what is recorded in it, and how many nodes are around it that are
        # not recorded.
        left = deque((key, body, end, 0) for body, its in strands.items() for key, end in {body: -1, **its}.items())
        unrecorded = 0
        while left and len(self.places) < len(self._names):
            strand, body, end, depth = left.popleft()
            unrecorded += depth > 0
            if unrecorded > _MOST:
                return
            self.places.update(self._of_tasks(strand, body, names))
            free = self._in_strand(strand, body, end)
            if depth < _DEPTH:
                inside = (key_of(strand, "call", number) for number in free)
                left.extend((key, body, -1, depth + 1) for key in inside if key not in strands[body])

    def _in_strand(self, strand: str, body: str, end: int) -> list[int]:
        """Look behind what is recorded in a strand; return the numbers at which there is no block."""
        free: list[int] = []
        last = number = end
        while number < last + _UNRECORDED:
            number += 1
            found, _ = self._identities.of_place(strand, number)
            if found in self._names:
                self.places[found] = Place(body, strand, number)
                last = number
            else:
                free.append(number)
        return free

    def _of_tasks(self, strand: str, body: str, names: list[str]) -> Iterator[tuple[str, Place]]:
        """Look for blocks that tasks opened before their first call, in the body that has the key of a strand."""
        for name in names:
            label = block_label(strand, name)
            opened = (self._identities.of_place(label, number)[0] for number in count())
            for number, each in enumerate(takewhile(self._names.__contains__, opened)):
                yield each, Place(body, f"{label} {number}", 0)
