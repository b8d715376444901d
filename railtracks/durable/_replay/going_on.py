"""Which ends in a session's record the code went on from, as far as the record can tell.

`reopening` asks here. Calls of one task follow each other by their numbers. Between tasks of one body the record has no
order but that of the commits: what began after an end may depend on it. So what began in another strand counts as
going on, unless that strand was under way beside the end.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from functools import reduce
from itertools import accumulate
from typing import Final, TypeAlias

from attrs import define

# A moment by the number of the last row that there was, and by the wall clock.
Moment: TypeAlias = tuple[float, float]
NEVER: Final[Moment] = (math.inf, math.inf)
_BEFORE_ALL: Final[Moment] = (-math.inf, -math.inf)


@define(frozen=True)
class Begun:
    """Something that began in a session: a call, a broadcast, the start of a background call, or a session block.

    Attributes:
        body: The key of the recorded call around it, or of the session.
        strand: The key of its strand.
        number: Its number there.
        at: When it began. The number is that of the last row that had been handed over, or committed, by then.
        passed: Since when code may have gone on from it: the number of the row of its first outcome, and if it has no
            such row, the wall time of its end. Infinity where there is none.
        is_void: Whether it was cancelled, and nothing is recorded in it.
    """

    body: str
    strand: str
    number: int
    at: Moment
    passed: Moment
    is_void: bool = False


@define(frozen=True)
class End:
    """The end of a call or of a session block.

    Attributes:
        body: As of `Begun`.
        strand: As of `Begun`.
        number: As of `Begun`.
        seq: The number of its row. `None` if the clock has to tell: a session block has no row, and that of a cancelled
            call is committed some time after the cancel.
        at: The wall time.
    """

    body: str
    strand: str
    number: int
    seq: int | None
    at: float


def since(at: float) -> Moment:
    """Return the moment right after a wall time: what ends then did not end before what began then."""
    return math.inf, math.nextafter(at, math.inf)


def _earlier(one: Moment, other: Moment) -> Moment:
    return min(one[0], other[0]), min(one[1], other[1])


def _later(one: Moment, other: Moment) -> Moment:
    return max(one[0], other[0]), max(one[1], other[1])


def _is_after(moment: Moment, end: End) -> bool:
    return moment[1] >= end.at if end.seq is None else moment[0] >= end.seq


@define(eq=False)
class _Strip:
    """What is recorded of one strand.

    Attributes:
        end: The highest number in it.
        first: When it began.
        last: When the last thing in it began.
        last_around: The same as that for a strand around others. By the clock what is void does not count: a failure
            that cancels calls beside it also cancels the cleanup there.
        passed: Since when code may have gone on from the first thing in it.
        is_void: Whether all in it is void.
    """

    end: int = -1
    first: Moment = NEVER
    last: Moment = _BEFORE_ALL
    last_around: Moment = _BEFORE_ALL
    passed: Moment = NEVER
    is_void: bool = True

    def add(self, begun: Begun) -> None:
        self.end = max(self.end, begun.number)
        self.first = _earlier(self.first, begun.at)
        self.last = _later(self.last, begun.at)
        around = (begun.at[0], -math.inf) if begun.is_void else begun.at
        self.last_around = _later(self.last_around, around)
        self.passed = _earlier(self.passed, begun.passed)
        self.is_void = self.is_void and begun.is_void


class _Passed:
    """When the last thing began in those strands whose first thing was over at some moment, by one of the two clocks.

    Args:
        strips: The strands.
        clock: Which part of a moment it is.
    """

    def __init__(self, strips: Iterable[_Strip], clock: int) -> None:
        ordered = sorted((each.passed[clock], number, each.last_around) for number, each in enumerate(strips))
        self._times = [passed for passed, _, _ in ordered]
        self._last = [_BEFORE_ALL, *accumulate((last for _, _, last in ordered), _later)]
        self._clock = clock

    def last_begun(self, moment: Moment) -> Moment:
        """Return when the last thing began in the strands whose first thing was over at a moment."""
        return self._last[bisect_right(self._times, moment[self._clock])]


class _Body:
    """The strands in one call, or in the session.

    Attributes:
        strips: What is recorded of them, by their keys.
    """

    def __init__(self) -> None:
        self.strips: dict[str, _Strip] = {}
        self._newest = _BEFORE_ALL
        self._passed: list[_Passed] = []

    def close(self) -> None:
        """Make it ready to be asked, after all was added."""
        strips = self.strips.values()
        self._newest = reduce(_later, (each.first for each in strips if not each.is_void), _BEFORE_ALL)
        self._passed = [_Passed(strips, clock) for clock in range(2)]

    def has_new_strand(self, end: End) -> bool:
        """Return whether a strand began after an end."""
        return _is_after(self._newest, end)

    def went_on_around(self, strip: _Strip, end: End) -> bool:
        """Return whether a strand went on after an end that may be around the strand of the end.

        In a strand that opens a nursery, what came before was over when the tasks of the nursery began. That is never
        so of the strand of the end itself.
        """
        return any(_is_after(each.last_begun(strip.first), end) for each in self._passed)


class GoingOn:
    """What began in a session, by body and strand."""

    def __init__(self) -> None:
        self._bodies: dict[str, _Body] = {}

    def add(self, begun: Begun) -> None:
        """Take up something that began."""
        body = self._bodies.setdefault(begun.body, _Body())
        body.strips.setdefault(begun.strand, _Strip()).add(begun)

    def close(self) -> None:
        """Make it ready to be asked, after all was added."""
        for each in self._bodies.values():
            each.close()

    def strands(self, body: str) -> dict[str, int]:
        """Return the strands in a body, with the highest number in each."""
        found = self._bodies.get(body)
        return {} if found is None else {key: each.end for key, each in found.strips.items()}

    @property
    def last_at(self) -> float:
        """When the last thing began."""
        strips = (each for body in self._bodies.values() for each in body.strips.values())
        return max((each.last[1] for each in strips), default=-math.inf)

    def is_past(self, end: End) -> bool:
        """Return whether the code went on from an end, or may have."""
        body = self._bodies[end.body]
        strip = body.strips[end.strand]
        if strip.end > end.number or body.has_new_strand(end):
            return True
        if end.strand == end.body:
            # No other strand is around the one of the body's own code.
            return False
        own = body.strips.get(end.body)
        return (own is not None and _is_after(own.last, end)) or body.went_on_around(strip, end)
