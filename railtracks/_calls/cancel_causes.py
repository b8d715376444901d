"""The errors that cancel calls before they are recorded themselves: those of the budgets of agents.

Asked by the durable package where a call is cancelled or fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias


class CancelCause:
    """An error that cancels calls, and that the call which raises it records only after that.

    A replay that hands the error over cancels the calls again. So a record never has the cancelled calls without the
    error: a replay of that would wait for a cancel that nothing sets off.
    """

    __slots__ = ("_is_recorded", "_waiting")

    def __init__(self) -> None:
        self._is_recorded = False
        self._waiting: list[Callable[[], object]] = []

    def once_recorded(self, act: Callable[[], object]) -> None:
        """Have a function called as soon as a call is recorded as failed with the error, at once if one is.

        If none ever is, the function is not called.
        """
        if self._is_recorded:
            act()
        else:
            self._waiting.append(act)

    def recorded(self) -> None:
        """Note that a call is recorded as failed with the error."""
        self._is_recorded = True
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            act()


# Called with an error; returns its cause if it cancels the running code. With `None`: of whichever error does.
CauseFinder: TypeAlias = Callable[[BaseException | None], CancelCause | None]

_finders: list[CauseFinder] = []


def register_cause_finder(finder: CauseFinder) -> None:
    """Have a function asked for the causes of cancels. Called once, as a package is imported."""
    _finders.append(finder)


def cause_here(error: BaseException | None = None) -> CancelCause | None:
    """Return the cause by which the running code is cancelled; with an error, only if it is that of the error."""
    return next((found for each in _finders if (found := each(error)) is not None), None)
