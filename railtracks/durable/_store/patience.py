"""How long the durable package waits where another process, or changed code, decides.

`Access` holds a `Patience` and hands it to the modules that wait; tests hand in a shorter one.
"""

from __future__ import annotations

import math

import trio
from attrs import define


@define(frozen=True, kw_only=True)
class Patience:
    """The waiting times and the limits of one store, in seconds where nothing else is said.

    Attributes:
        order: How long a replay without any progress insists on the recorded order. Code that has changed may wait for
            itself: a mismatch has to end that, and not silence.
        cancel: How long a call that is recorded as cancelled waits for its cancel, beyond the time that it took first.
        request: The pause between two looks for requests to end sessions. Within two seconds a session knows of one.
        look: The pause between two looks at something that another process decides.
        death: How long a session of a process that has ended is waited for. A server frees the lock of its owner when
            it reads from the connection again, which takes the longer the busier the machine is.
        sessions_per_query: How many sessions one query to the database names.
    """

    order: float = 10.0
    cancel: float = 10.0
    request: float = 1.0
    look: float = 0.1
    death: float = 5.0
    sessions_per_query: int = 500


class OwnerWait:
    """How long to wait for a session that another owner has: a given time, and longer if its process has just ended.

    Args:
        wait: That time, in seconds.
        death: Seconds from the look that first found no process of the owner.
    """

    def __init__(self, wait: float, death: float) -> None:
        self._until = trio.current_time() + wait
        self._death = death
        self._dies_until = -math.inf

    def is_over(self, *, has_ended: bool) -> bool:
        """Return whether to wait no longer.

        Args:
            has_ended: Whether the process of the owner seems to have ended.
        """
        now = trio.current_time()
        if not has_ended:
            self._dies_until = -math.inf
        elif self._dies_until == -math.inf:
            self._dies_until = now + self._death
        return now >= max(self._until, self._dies_until)
