"""The rows of one session's calls, read in pieces for a replay, and checked as they are read.

`Run` reads a long history before it takes the session, in transactions of its own. `ProcessOwner.take` reads what is
left in its own transaction: other writers wait for that.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._records.slices import Pauses
from railtracks.durable._store.reading import CallRows, RecordChecks, RowsInStore, damaged
from railtracks.durable._store.schema import CALL_COLUMNS, ROOT, CallRow, RowStatus, SessionRow, calls
from railtracks.durable._store.table import RowTable

# How many rows one piece has at first, and at most; and how many bytes of results and arguments, about.
_FEWEST: Final = 16
_MOST: Final = 2_000
_BYTES: Final = 1_000_000

# Made once: to put a statement together costs more than to run it.
_FIRST: Final = (
    sa.select(*CALL_COLUMNS)
    .where(calls.c.session_id == sa.bindparam("wanted"))
    .order_by(calls.c.seq)
    .limit(sa.bindparam("most"))
)
_PIECE: Final = _FIRST.where(calls.c.seq > sa.bindparam("last"))
_ENTRY: Final = (
    sa.select(*CALL_COLUMNS)
    .where(
        calls.c.session_id == sa.bindparam("wanted"),
        # By its position, which all attempts have in common.
        calls.c.strand == ROOT,
        calls.c.position == 0,
        calls.c.place == -1,
        # No `in_`: this is a part of a statement that the driver gets as it is.
        sa.or_(*(calls.c.status == each.value for each in (RowStatus.COMPLETED, RowStatus.FAILED))),
    )
    .order_by(calls.c.seq.desc())
    .limit(1)
)
# The number of that row as a part of a statement that has the parameter `wanted`; null if there is no such row.
OUTCOME_NUMBER: Final = _ENTRY.with_only_columns(calls.c.seq).scalar_subquery()
_NUMBERED: Final = _ENTRY.where(calls.c.seq == sa.bindparam("number"))


class History:
    """What was read so far of the calls of one session.

    Attributes:
        rows: The rows, in the order of the commits; there once `read_on` was called.
    """

    rows: RowTable

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        # A session that was deleted may have been begun again with the same identifier.
        self._life: tuple[object, ...] | None = None
        self._checks: RecordChecks
        self._checked = CallRows(session_id)
        self._size = _FEWEST

    def read_on(self, connection: Connection, session: SessionRow) -> bool:
        """Read one piece more, in about 20 ms; return whether that was the last one. Blocks.

        Raises:
            StoreError: If a row is damaged, or if two contradict each other.
        """
        life = (session.life, session.seed, session.created_at)
        if life != self._life:
            self._checks = RecordChecks()
            self.rows = RowTable(self._session_id, calls=self._checks.calls)
            self._life = life
        asked: dict[str, object] = {"wanted": self._session_id, "most": self._size}
        if self.rows:
            asked["last"] = self.rows.last_seq
        found = connection.execute(_PIECE if self.rows else _FIRST, asked)
        count = size = 0
        for each in Pauses().between(found):
            row = self._checked.row(each)
            _add(self._checks, row)
            self.rows.append(row)
            count += 1
            size += len(row.outcome or b"") + len(row.arguments or b"") + len(row.context or b"")
        is_last = count < self._size
        self._size = min(_MOST, 2 * self._size) if size < _BYTES else max(_FEWEST, self._size // 4)
        return is_last


def check_history(connection: Connection, session_id: str) -> None:
    """Read the rows of a session as for a replay, and keep none. Blocks.

    Raises:
        StoreError: If one is damaged, or if two contradict each other.
    """
    checks = RecordChecks()
    for row in RowsInStore(connection, session_id):
        _add(checks, row)


def _add(checks: RecordChecks, row: CallRow) -> None:
    problem = checks.add(row)
    if problem is not None:
        raise damaged(row.session_id, f"of call row {row.seq}, {problem}")


def outcome_rows(connection: Connection, session: SessionRow) -> RowTable:
    """Return the row with the outcome of a flow's entry point, if there is one, as a table.

    Large arguments are in the row of its beginning, and with the session as its inputs.

    Raises:
        StoreError: If it is damaged.
    """
    wanted: dict[str, object] = {"wanted": session.session_id}
    found = (
        connection.execute(_ENTRY, wanted)
        if session.outcome_seq is None
        else connection.execute(_NUMBERED, {**wanted, "number": session.outcome_seq})
    )
    checked = CallRows(session.session_id)
    rows = map(checked.row, found)
    inputs = session.inputs
    return RowTable(session.session_id, (each._replace(arguments=each.arguments or inputs) for each in rows))
