"""What a row of the record says, and the calls that rows are recorded under."""

from __future__ import annotations

import time
from typing import Any


def new_row(session_id: str, key: str, parent: str, status: str, **more: Any) -> dict[str, Any]:
    """Return a row without its number; what is not given is that of a row which is about no call."""
    now = time.time()
    return {
        "session_id": session_id,
        "key": key,
        "parent": parent,
        "strand": "",
        "position": 0,
        "place": -1,
        "attempt": 1,
        "node": "",
        "fingerprint": "",
        "arguments": None,
        "status": status,
        "outcome": None,
        "context": None,
        "began_after": 0,
        "began_at": now,
        "ended_at": now,
        **more,
    }


class Owned:
    """The call that outcomes and writes are recorded under: a recorded call, or the session itself.

    Attributes:
        key: The call.
        outer: The nearest recorded call around it; `None` of the session.
        is_opened: Whether the store knows that it began.
        writes: What was written to the context in it and is not recorded yet.
    """

    def __init__(self, key: str, outer: Owned | None) -> None:
        self.key = key
        self.outer = outer
        self.is_opened = False
        self.writes: dict[str, Any] = {}

    def opening(self) -> dict[str, Any] | None:
        """Return the row that says that it began; `None` if there is one, or is to be none: the session has its own."""
        return None

    def openings(self) -> list[dict[str, Any]]:
        """Return the rows of the calls around a new outcome that the store does not know yet, outermost first."""
        rows: list[dict[str, Any]] = []
        owned: Owned | None = self
        while owned is not None and not owned.is_opened:
            row = owned.opening()
            owned.is_opened = True
            if row is not None:
                rows.append(row)
            owned = owned.outer
        return rows[::-1]
