"""Which call is this one: where it stands among the calls of its strand, said in a way that a later process can repeat.

Calls made one after another by one task inside one call form a strand. A fan-out takes one place in it and numbers its
own calls. Tasks of a plain nursery have no order: the first call of each is known by its node and its arguments.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attrs import define, field

from railtracks._calls.durable_protocol import CallStrand
from railtracks.exceptions import ContextError

ROOT: Final = "root"


def key_of(*parts: str | int) -> str:
    """Return the key for a place, which is what its parts are in their order."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()


# The call of a flow's entry point.
ENTRY: Final = key_of(ROOT, "call", 0)


@define(frozen=True, slots=True)
class Spot:
    """The place of one call.

    Attributes:
        key: What it is known by; the first attempt has it, and so has what stands for all attempts.
        strand: The strand that it belongs to.
        position: Its number there.
        place: Its number in a fan-out that has this position, -1 where there is none.
        label: What it is matched by, if that is its node and arguments.
    """

    key: str
    strand: str
    position: int
    place: int = -1
    label: str | None = None


@define(eq=False, slots=True)
class Body:
    """The inside of a call, or of the session: what the strands in it have in common.

    Attributes:
        key: The call.
        owner: The nearest call around it that is recorded, itself if it is.
        call: The call itself, `None` of the session.
    """

    key: str
    owner: object
    call: object = None
    _counts: dict[str, int] = field(factory=dict[str, int])
    _open: set[str] = field(factory=set[str])

    def claim(self, label: str, node: str) -> int:
        """Return how many equal calls there were before; two that are open at once cannot be told apart.

        Raises:
            ContextError: If one is.
        """
        if label in self._open:
            raise ContextError(
                f"two calls of {node!r} with equal arguments are open at once in tasks of a nursery, which have no"
                " order: a resume could not tell them apart. Give each a name: node.with_options(key=...)"
            )
        self._open.add(label)
        return self.count(label)

    def count(self, label: str) -> int:
        """Return how many equal ones there were before."""
        number = self._counts.get(label, 0)
        self._counts[label] = number + 1
        return number

    def release(self, label: str) -> None:
        """Say that such a call is over."""
        self._open.discard(label)


@define(eq=False, slots=True)
class Strand(CallStrand):
    """Calls one after another.

    Attributes:
        body: The call that they are made in.
        key: What the strand is known by, `None` while it is not known by anything.
        position: How many places are taken.
        draws: How many random numbers were drawn.
        last: The place that was taken last.
        attempt: Which attempt of a call there was made last.
        fixed: The one place that there is, if it is a strand of one call.
    """

    body: Body
    key: str | None
    position: int = 0
    draws: int = 0
    last: Spot | None = None
    attempt: int = 1
    fixed: Spot | None = None

    def count_draw(self) -> int:
        """Count one more random number; return its number, from 1."""
        self.draws += 1
        return self.draws

    @property
    def is_known(self) -> bool:
        """Whether its places are known by their numbers alone."""
        return self.key is not None or self.fixed is not None

    def next(self, node: str, fingerprint: str, own_key: str | None) -> Spot:
        """Take the place of one call."""
        if self.fixed is not None:
            self.last = self.fixed
        elif self.key is None:
            # The first call of a task: from here on the strand is known by it.
            label = key_of(self.body.key, "task", node, fingerprint, own_key or "")
            number = self.body.claim(label, node)
            self.key = key_of(label, number)
            self.position = 1
            self.last = Spot(key_of(self.key, "call", 0), self.key, 0, label=label)
        else:
            self.last = Spot(key_of(self.key, "call", self.position), self.key, self.position)
            self.position += 1
        return self.last

    def skip(self, *told: str) -> tuple[str, int]:
        """Take a place for something that is no call, and return the strand's name and the place's number.

        In a task that has made no call yet it is known by what is told of it: what is equal need not be told apart.
        """
        if self.key is None:
            label = key_of(self.body.key, "unnamed", *told)
            return label, self.body.count(label)
        self.position += 1
        return self.key, self.position - 1


class FanOut:
    """The numbered calls of one fan-out."""

    def __init__(self, strand: Strand) -> None:
        self._body = strand.body
        # In a task that has made no call yet the fan-out itself has no name: each of its calls is known by what it is.
        self._at = None if strand.key is None else strand.skip("fan-out")
        self._count = 0

    @property
    def known(self) -> tuple[str, int, int] | None:
        """The strand and the position that it has, and how many calls it has had; `None` if it has no place."""
        return None if self._at is None else (*self._at, self._count)

    def next(self) -> Strand:
        """Return the strand of its next call."""
        place, self._count = self._count, self._count + 1
        if self._at is None:
            return Strand(self._body, None)
        key, position = self._at
        return Strand(self._body, None, fixed=Spot(key_of(key, "fan", position, place), key, position, place))
