"""What wants to know of the outcomes that a replay hands over instead of running the calls: budgets of agents.

Asked by the durable package for each such outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

# Called with the result of a replayed call, or with its error, in the task of the caller.
ReplayObserver: TypeAlias = Callable[[object, BaseException | None], None]

_observers: list[ReplayObserver] = []


def register_replay_observer(observer: ReplayObserver) -> None:
    """Have a function called for each outcome that a replay hands over. Called once, as a package is imported."""
    _observers.append(observer)


def tell_replayed(result: object, error: BaseException | None = None) -> None:
    """Tell of an outcome that is about to be handed over."""
    for each in _observers:
        each(result, error)
