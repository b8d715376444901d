"""What wants to know of the outcomes that a replay hands over instead of running the calls: budgets of agents.

Asked by the durable package for each such outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias


class InnerCall(NamedTuple):
    """One attempt of a call that was made inside a replayed one, and is not made again.

    Attributes:
        node: The name of its node.
        attempt: Which attempt it is, from 1.
        arguments: Its arguments, as JSON values in the form of the store.
        result: Its result likewise; `None` without one.
        has_result: Whether it has one, and has neither failed nor was cancelled.
    """

    node: str
    attempt: int
    arguments: object
    result: object
    has_result: bool


class Replayed(NamedTuple):
    """The outcome of a replayed call.

    Attributes:
        result: Its result, `None` without one.
        error: Its error, `None` without one. If it has neither, it was cancelled.
        inside: Returns the calls that were made in it, at any depth. Those in the sessions of flows are among them if
            these are in the same store, but not in a fork.
    """

    result: object
    error: BaseException | None
    inside: Callable[[], Iterable[InnerCall]]


# Called with the outcome of a replayed call, in the task of the caller.
ReplayObserver: TypeAlias = Callable[[Replayed], None]

_observers: list[tuple[ReplayObserver, Callable[[], bool]]] = []


def register_replay_observer(observer: ReplayObserver, is_interested: Callable[[], bool]) -> None:
    """Have a function called for each outcome that a replay hands over. Called once, as a package is imported.

    Args:
        observer: The function.
        is_interested: Returns whether it wants to know of the calls that the running code makes.
    """
    _observers.append((observer, is_interested))


def are_replays_watched() -> bool:
    """Return whether anybody wants to know of the calls that the running code makes."""
    return any(is_interested() for _, is_interested in _observers)


def tell_replayed(replayed: Replayed) -> None:
    """Tell of an outcome that is about to be handed over, or of a call that waits for its cancel."""
    for observer, _ in _observers:
        observer(replayed)
