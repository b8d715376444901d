"""How many rounds a long proof takes: all under `make prove`, a share in CI, a handful where nothing is said.

`make cover` leaves out the proofs of files that take rounds: these reach nothing that the others do not.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest


def share() -> float | None:
    """Return the share of the full rounds that this run takes, from `$RAILTRACKS_PROOF`; `None` if nothing is said."""
    said = os.environ.get("RAILTRACKS_PROOF")
    return float(said) if said else None


def rounds(full: int, handful: int) -> int:
    """Return the rounds for this run, at least a handful."""
    return max(handful, round(full * (share() or 0)))


def is_full() -> bool:
    """Return whether each proof takes all of its rounds: then the machine is there for the proofs alone."""
    return (share() or 0) >= 1


def held_to(most: float, measure: Callable[[], float]) -> float:
    """Measure once, and return the figure; in the full proof hold the best of three to a bound.

    A bound in time is for a machine that does nothing else: a slow and busy one says nothing of the code.
    """
    figures = [measure()]
    if is_full():
        while figures[-1] > most and len(figures) < 3:
            figures.append(measure())
        assert min(figures) <= most, figures
    return min(figures)


def proved(*cases: Any) -> list[Any]:
    """Return the cases of a parametrized test that are left to `make prove`, and to `make cover` if it takes the file.

    They are for a test of which each case starts a process of its own, and that has a case of each kind beside them.
    """
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.proof) for case in cases]
