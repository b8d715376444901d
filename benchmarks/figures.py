"""From samples to figures: medians with their spread, and ratios inside one run."""

import statistics
from collections.abc import Iterator, Sequence

import attrs

from benchmarks.measurements import OURS, SERIES

_IN_TURNS = frozenset((OURS, *SERIES.values()))


@attrs.frozen
class Spread:
    """The median of some samples, with the least and the greatest."""

    median: float
    least: float
    greatest: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Sum up samples, of which there is at least one."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@attrs.frozen
class Key:
    """Whose samples of what: the figure's name is "" where a measurement has one figure only."""

    measurement: str
    size: int
    who: str
    what: str


@attrs.define
class Figures:
    """Everything that one run has measured.

    Attributes:
        samples: The values, in the order in which they were taken.
        missing: Why a side has no samples, as a short text.
        notes: Sentences that belong under a measurement's table.
        versions: What was measured, by the name of the side.
    """

    samples: dict[Key, list[float]] = attrs.field(factory=dict)
    missing: dict[tuple[str, int, str], str] = attrs.field(factory=dict)
    notes: dict[str, list[str]] = attrs.field(factory=dict)
    versions: dict[str, str] = attrs.field(factory=dict)

    def add(self, key: Key, value: float) -> None:
        """Keep one more sample."""
        self.samples.setdefault(key, []).append(value)

    def spread(self, key: Key) -> Spread | None:
        """Return the median and the spread of one series, if it was measured."""
        values = self.samples.get(key)
        return Spread.of(values) if values else None

    def ratio(self, key: Key, base: Key) -> Spread | None:
        """Return how many times the base a figure is.

        Samples that were taken in turns are divided pair by pair, so that a disturbance of both falls out; else
        it is the ratio of the medians.
        """
        values, bases = self.samples.get(key), self.samples.get(base)
        if not values or not bases or min(bases) <= 0:
            return None
        if len(values) == len(bases) and base.who in _IN_TURNS and key.who in _IN_TURNS:
            return Spread.of([value / below for value, below in zip(values, bases, strict=True)])
        return Spread.of([statistics.median(values) / statistics.median(bases)])

    def series(self, measurement: str, size: int, what: str) -> Iterator[str]:
        """Go through the sides that have samples of a figure, in the order in which they were measured."""
        return (key.who for key in self.samples if (key.measurement, key.size, key.what) == (measurement, size, what))

    def sizes(self, measurement: str) -> list[int]:
        """Return every N that somebody measured or failed to measure, ascending."""
        measured = {key.size for key in self.samples if key.measurement == measurement}
        return sorted(measured | {size for name, size, _who in self.missing if name == measurement})


def number(value: float) -> str:
    """Write a figure with three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) < 10 else 1}f}" if abs(value) >= 1 else f"{value:.3g}"
