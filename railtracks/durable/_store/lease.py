"""The lease of one process: until when it owns the sessions that it runs.

`ProcessOwner` has one for all of its sessions, and `Run` waits by it for its renewal or its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# Shares of a lease: it is renewed after one third, and given up one sixth before its end.
_RENEWALS: Final = 3
_MARGIN: Final = 6


class Lease:
    """A lease that the database knows, counted here on a monotonic clock of this process, which nobody sets.

    Trio's clock would not do: Trio runs in several threads share the lease, and each has a clock of its own.

    Attributes:
        seconds: How long it is.
        now: The clock.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self.now = clock
        self._renewed_at = clock()

    @property
    def until_renewal(self) -> float:
        """The seconds until the lease is to be renewed."""
        return max(0.0, self._renewed_at + self.seconds / _RENEWALS - self.now())

    @property
    def until_loss(self) -> float:
        """The seconds until the sessions are to be given up: some time before the database sees the lease end."""
        return max(0.0, self._renewed_at + self.seconds - self.seconds / _MARGIN - self.now())

    def renewed(self, asked_at: float) -> None:
        """Note that the lease was renewed, and when the database was asked for that."""
        self._renewed_at = max(self._renewed_at, asked_at)
