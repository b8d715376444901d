"""Outcomes of calls that are recorded together with that of another call, in one transaction.

The journal joins the two calls of a stream; each call asks here when it has its outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import define, field

from railtracks.durable._replay.rows import NewRow

# Returns the rows of an outcome, and those of beginnings that the store does not have yet.
Rows: TypeAlias = Callable[[], list[NewRow]]


@define(eq=False)
class _Held:
    """The outcomes that wait for one call: those of each attempt of another one.

    Attributes:
        rows: Their rows, in order.
        recorded: What is to be called when they are recorded.
    """

    rows: list[Rows] = field(factory=list[Rows])
    recorded: list[Callable[[], None]] = field(factory=list[Callable[[], None]])


class Together:
    """Which outcomes wait for which, by the keys of the calls' positions.

    Attributes:
        has_any: Whether any outcome may wait for another.
    """

    def __init__(self) -> None:
        self.has_any = False
        self._held: dict[str, _Held] = {}
        self._after: dict[str, _Held] = {}

    def join(self, first: str, second: str) -> None:
        """Have the outcome of the first call recorded with that of the second one, behind it."""
        self._held[first] = self._after[second] = _Held()
        self.has_any = True

    def hold(self, key: str, rows: Rows, recorded: Callable[[], None] | None) -> bool:
        """Keep the outcome of a call if it is to wait for another one; return whether it is.

        Args:
            key: The key of its position.
            rows: Returns its rows.
            recorded: Called when it is recorded, if anything is to be.
        """
        held = self._held.get(key)
        if held is None:
            return False
        held.rows.append(rows)
        if recorded is not None:
            held.recorded.append(recorded)
        return True

    def rows_after(self, key: str) -> list[NewRow]:
        """Return the rows of what has waited for the outcome of a call."""
        held = self._after.get(key)
        return [] if held is None else [row for rows in held.rows for row in rows()]

    def recorded(self, key: str) -> None:
        """Note that the outcome of a call is recorded, with what has waited for it."""
        held = self._after.pop(key, None)
        if held is None:
            return
        # A long session must not keep the values of all its streams.
        self._held = {first: each for first, each in self._held.items() if each is not held}
        self.has_any = bool(self._held)
        for each in held.recorded:
            each()
