"""New rows of the journal, and the records that rows are filed under.

Called by everything here that writes: calls, background calls and broadcasts.
"""

from __future__ import annotations

import time
from typing import TypeAlias

from railtracks.durable._store.schema import RowStatus

# A row of `railtracks_calls` by the names of its columns; it gets its number `seq` when it is committed.
NewRow: TypeAlias = dict[str, object]


def new_row(
    session_id: str,
    key: str,
    parent: str,
    status: RowStatus,
    *,
    strand: str = "",
    position: int = 0,
    place: int = -1,
    attempt: int = 1,
    node: str = "",
    fingerprint: str = "",
    arguments: bytes | None = None,
    outcome: bytes | None = None,
    context: bytes | None = None,
    began_after: int = 0,
    began_at: float | None = None,
    is_open: bool = False,
) -> NewRow:
    """Return a row without its number; each argument is the column of its name.

    What is not given is as in a row that is about no call.

    Args:
        session_id: The session.
        key: The key of what the row is about.
        parent: The key of the parent record.
        status: What the row says.
        strand: The key of the strand.
        position: The number in the strand.
        place: The number in the fan-out.
        attempt: Which attempt of a call it is about.
        node: The name of the node.
        fingerprint: The fingerprint of the arguments.
        arguments: The arguments.
        outcome: The result or the failure.
        context: What was written to the context.
        began_after: The number of the last commit whose outcome had been handed over then.
        began_at: The wall time at which the call began; by default now.
        is_open: Whether what the row is about has not ended.
    """
    now = time.time()
    return {
        "session_id": session_id,
        "key": key,
        "parent": parent,
        "strand": strand,
        "position": position,
        "place": place,
        "attempt": attempt,
        "node": node,
        "fingerprint": fingerprint,
        "arguments": arguments,
        # The plain string: not every driver takes the member of an enum for one.
        "status": str(status),
        "outcome": outcome,
        "context": context,
        "began_after": began_after,
        "began_at": now if began_at is None else began_at,
        "ended_at": None if is_open else now,
        "wanted": None,
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
