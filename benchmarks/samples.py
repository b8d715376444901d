"""What happens inside a measured process: take samples, print each as one line at once.

Standard library only, for this module also runs in the peers' virtual environments. A line that is printed at
once is what lets the other side bound each sample, and keep the finished ones when a later one takes too long.
"""

import gc
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "@sample "
"""How a line of ours is told from whatever else the process prints."""

Sampled = float | Mapping[str, float] | None
"""One value, several values by name, or None where a side cannot do this N."""

SUBJECT = "subject"
"""Stands for the name of whoever is measured; the other side knows that name."""


def emit(**fields: Any) -> None:
    """Print one line for the process that started this one."""
    # In one piece with its end: the processes of a measurement print into one pipe, and Python may not buffer.
    print(f"{PREFIX}{json.dumps(fields)}\n", end="", flush=True)


def progress(text: str) -> None:
    """Say that the process is alive: its time bound starts anew."""
    emit(progress=text)


def note(text: str) -> None:
    """Add a sentence that belongs under the table."""
    emit(note=text)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        sizes: The values of N, ascending.
        samples: How many samples of each series at least, if the budget allows.
        budget: Seconds to spend on one size; the sample that passes it is the last one.
    """

    sizes: Sequence[int]
    samples: int
    budget: float

    def count(self, size: int) -> int:
        """Return how many samples to take: small sizes are short, and noise hits them hardest."""
        return max(self.samples, min(15 * self.samples, 20_000 // size))


def take(plan: Plan, series: Mapping[str, Callable[[int], Sampled]], *, is_long: bool = False) -> None:
    """Sample the series in turns, so that what disturbs the machine disturbs all of them.

    Args:
        plan: How much to measure.
        series: Measured sides by name; each gets the N and gives its figure.
        is_long: Whether even the smallest N takes so long that the plan's own number of samples is enough.
    """
    names = list(series)
    for size in plan.sizes:
        emit(begin=size)
        started = time.perf_counter()
        for turn in range(plan.samples if is_long else plan.count(size)):
            # First and last place have their own advantages: they go round.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                gc.collect()
                _emit_sampled(name, size, series[name](size))
            if time.perf_counter() - started > plan.budget:
                break


def _emit_sampled(who: str, size: int, sampled: Sampled) -> None:
    values = sampled if isinstance(sampled, Mapping) else {"": sampled}
    for what, value in values.items():
        if value is not None:
            emit(size=size, who=who, what=what, value=value)


def fsyncs(folder: Path) -> Sequence[float]:
    """Return the microseconds to append 200 bytes to a file of the folder and have them on the disk, many times."""
    line, costs = b"x" * 200, []
    with (folder / "appended").open("ab", buffering=0) as file:
        for _ in range(100):
            start = time.perf_counter()
            file.write(line)
            os.fsync(file.fileno())
            costs.append(1e6 * (time.perf_counter() - start))
    return costs


def take_imports(plan: Plan, statements: Mapping[str, str]) -> None:
    """Time statements in fresh interpreters, beside one that does nothing, in turns.

    Args:
        plan: How much to measure.
        statements: What to run, by the name of its series.
    """
    # What pip installs it compiles, what is installed in place its first import does: where that is switched off, one
    # side would be compiled anew each time and the other not.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def milliseconds(statement: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True, stdout=subprocess.DEVNULL, env=environment)
        return 1e3 * (time.perf_counter() - start)

    def sampled(statement: str) -> Callable[[int], Sampled]:
        def both(_size: int) -> Sampled:
            bare = milliseconds("pass")
            whole = milliseconds(statement)
            return {"whole": whole, "beyond": whole - bare}

        return both

    for statement in statements.values():
        milliseconds(statement)
        emit(progress="the compiled files are there")
    take(plan, {who: sampled(statement) for who, statement in statements.items()}, is_long=True)


def main(measurements: Mapping[str, Callable[[Plan], None]], *, distribution: str) -> None:
    """Run the measurement that the command line names.

    Args:
        measurements: What this script can measure, by name.
        distribution: The measured distribution, whose version is told.
    """
    name, plan = sys.argv[1], Plan(**json.loads(sys.argv[2]))
    emit(version=importlib.metadata.version(distribution))
    measurements[name](plan)
