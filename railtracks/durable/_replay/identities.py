"""What the calls of a session are known by outside of it: idempotency keys, random numbers, ids of inner sessions.

The journal asks here. All of it comes from keys, so it is the same in every run, and costs no commit.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from railtracks._calls.frames import Frame
from railtracks._calls.identity import drawn
from railtracks.durable._replay.strands import Strand, Strands, key_of
from railtracks.exceptions import ContextError

_UNKNOWN: Final = (
    "tasks of a nursery have no order in a durable session, and this one has made no recorded call yet, which would"
    " tell it from others: do this in the code that opened the nursery, or in a call that is recorded"
)


@define(eq=False)
class Draws:
    """The source of one strand's random numbers. The strand counts them, so each run draws the same ones."""

    _seed: str
    _strand: Strand

    def draw(self) -> bytes:
        """Return the next 16 random bytes."""
        return drawn(self._seed, self._strand.count_draw())


@define(frozen=True)
class Identities:
    """Derives idempotency keys, seeds and the ids of inner sessions from the keys of one session's calls.

    Attributes:
        name: The name of this life of the session, as from `name_of_life`.
        seed: The seed of its random numbers. A fork has another identifier and the same seed, and so have the sessions
            inside it.
        strands: The strands of the session.
    """

    name: str
    seed: str
    strands: Strands

    def of_block(self, frame: Frame, name: str) -> tuple[str, str]:
        """Return the identifier and the seed of a session block that is opened in a frame."""
        return self.of_place(*self.strands.of(frame).skip("session", name))

    def of_place(self, strand: str, number: int) -> tuple[str, str]:
        """Return the identifier and the seed of a session block that has a number in a strand."""
        return self._of_session(strand, number)

    def of_flow(self, key: str) -> tuple[str, str]:
        """Return the identifier and the seed of the session that a call of an inner flow runs.

        Args:
            key: The key of the call, which its attempts have in common.
        """
        return self._of_session(key)

    def _of_session(self, *parts: str | int) -> tuple[str, str]:
        return key_of(self.name, *parts, "session"), key_of(self.seed, *parts, "session")

    def idempotency_key(self, frame: Frame) -> str:
        """Return the idempotency key of the call of a frame, the same for all its attempts.

        Raises:
            ContextError: If the frame is in a nursery task that has made no recorded call yet, so that it has no
                identity.
        """
        strand = self.strands.of(frame)
        if frame.outer is not None and strand is frame.outer.strand:
            # An unrecorded call, in a nursery task that has made no recorded call yet, so that it has no identity.
            raise ContextError(_UNKNOWN)
        return f"{self.name}:{strand.body.identity}"

    def random_seed(self, frame: Frame) -> str:
        """Return the seed of the random numbers of a frame: the session's seed, and behind it the key of the strand.

        Raises:
            ContextError: If the frame is that of a nursery task that has made no recorded call yet, so that it has no
                identity.
        """
        strand = self.strands.of(frame)
        if strand.key is None:
            raise ContextError(_UNKNOWN)
        return f"{self.seed}:{strand.key}"

    def random_source(self, frame: Frame) -> Draws:
        """Return where the random numbers of a frame come from.

        Raises:
            ContextError: As from `random_seed`.
        """
        return Draws(self.random_seed(frame), self.strands.of(frame))
