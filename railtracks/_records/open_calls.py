"""The calls that were open when a timeout expired: the innermost of them, in words for the error of the timeout.

Called by `_calls.expiry`, which notes calls as an expired timeout cancels them, and by what makes the errors of
timeouts. Nothing is noted unless a timeout has expired.
"""

from __future__ import annotations

from bisect import insort
from time import time
from typing import Final, Protocol

# How many calls an error names; it counts the others.
_MOST_NAMED: Final = 5


class HasDeadline(Protocol):
    """The cancel scope of a timeout."""

    @property
    def deadline(self) -> float: ...


class Expiry:
    """One timeout, and the innermost calls that were open when it expired.

    Attributes:
        scope: Its cancel scope.
    """

    __slots__ = ("_began", "_began_at", "_oldest", "_others", "scope")

    def __init__(self, scope: HasDeadline, began: float) -> None:
        self.scope: HasDeadline = scope
        # When it began, by Trio's clock, and as wall time: calls have wall times only.
        self._began = began
        self._began_at = time()
        # When each of them started, and the call in words.
        self._oldest: list[tuple[float, str]] = []
        self._others = 0

    @property
    def expired_at(self) -> float:
        """When it expired, as wall time. Under a mock clock this may be in the future, and says nothing."""
        return self._began_at + self.scope.deadline - self._began

    def add(self, started_at: float, words: str) -> None:
        """Add a call, in words. Those that have been open longest are named, the others counted."""
        insort(self._oldest, (started_at, words))
        if len(self._oldest) > _MOST_NAMED:
            self._oldest.pop()
            self._others += 1

    @property
    def open_calls(self) -> tuple[str, ...]:
        """The calls in words, for `NodeTimeoutError` and `SessionTimeoutError`."""
        return (*(words for _, words in self._oldest), *((f"and {self._others} more",) if self._others else ()))


class Timeouts:
    """The timeouts of one session and of its calls.

    Attributes:
        running: The timeouts, by call; 0 stands for the session itself.
        waits: What calls wait for before their nodes run, in words, by call.
    """

    __slots__ = ("_outer", "running", "waits")

    def __init__(self) -> None:
        self.running: dict[int, Expiry] = {}
        self.waits: dict[int, str] = {}
        # Calls in which another call was noted, and which are about to end: they are not the innermost ones.
        self._outer: set[int] = set()

    def begin(self, call_id: int, scope: HasDeadline, now: float) -> Expiry:
        """Begin the timeout of a call, or of the session (0).

        Args:
            call_id: The call.
            scope: The cancel scope of the timeout.
            now: The time on Trio's clock.
        """
        expiry = self.running[call_id] = Expiry(scope, now)
        return expiry

    def has_expired(self, call_id: int, now: float) -> bool:
        """Return whether the timeout of a call, or of the session (0), has expired at a time on Trio's clock."""
        expiry = self.running.get(call_id)
        return expiry is not None and expiry.scope.deadline <= now

    def note_inside(self, call_id: int) -> None:
        """Remember that a call inside this one was noted."""
        self._outer.add(call_id)

    def forget(self, call_id: int) -> bool:
        """Forget a call that ends, and return whether a call inside it was noted."""
        is_outer = call_id in self._outer
        self._outer.discard(call_id)
        return is_outer
