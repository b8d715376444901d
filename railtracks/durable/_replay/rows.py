"""New rows of the journal, and the records that rows are filed under.

Called by everything here that writes: calls, background calls and broadcasts.
"""

from __future__ import annotations

import time
from typing import TypeAlias

from railtracks.durable._store.schema import RowStatus

# A row of `railtracks_calls` by the names of its columns; it gets its number `seq` when it is committed.
NewRow: TypeAlias = dict[str, object]


def new_row(session_id: str, key: str, parent: str, status: RowStatus, **more: object) -> NewRow:
    """Return a row without its number.

    Args:
        session_id: The session.
        key: The key of what the row is about.
        parent: The key of the parent record.
        status: What the row says.
        **more: Other columns. Those that are not given have the values of a row that is about no call.
    """
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
        # The plain string: not every driver takes the member of an enum for one.
        "status": status.value,
        "outcome": None,
        "context": None,
        "began_after": 0,
        "began_at": now,
        "ended_at": now,
        "wanted": None,
        **more,
    }


class RecordParent:
    """What rows are filed under: the session itself, or a recorded call, which is a subclass.

    Attributes:
        key: The key of the call; that of the session is `ROOT`.
        writes: What code in it wrote to the context since its last row, by name, in the form of `context`.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.writes: dict[str, list[object]] = {}

    def note_writes(self, writes: dict[str, list[object]]) -> None:
        """Note writes to the context, to be recorded with the outcome of the call."""
        self.writes.update(writes)

    def openings(self) -> list[NewRow]:
        """Return the rows that an outcome inside needs before it: the beginnings that are not in the store yet.

        Outermost first. The rows are to be committed at once: the next time these calls count as recorded.
        """
        rows: list[NewRow] = []
        # A loop, because calls may be nested deeper than Python's stack.
        record: RecordParent | None = self
        while record is not None:
            record = record.open(rows)
        return rows[::-1]

    def open(self, rows: list[NewRow]) -> RecordParent | None:  # noqa: ARG002 - the calls add theirs
        """Add the row of the beginning if the store needs one; return the parent record, `None` if it has its own.

        The session has a row of its own in another table.
        """
        return None
