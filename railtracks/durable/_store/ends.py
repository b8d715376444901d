"""What the owner of a session writes last to its row: how it ended, or why it stopped. Called by `Run`."""

from __future__ import annotations

import functools
from typing import Final

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from railtracks.durable._store.database import clock_of
from railtracks.durable._store.histories import OUTCOME_NUMBER
from railtracks.durable._store.schema import FINAL, DurableStatus, sessions
from railtracks.durable._store.statements import changed, prepared

_OWN: Final = sessions.c.session_id == sa.bindparam("wanted")


@frozen(kw_only=True)
class End:
    """How a session ended.

    Attributes:
        status: Its status from now on.
        failure: The error that it has ended with, as it is stored.
        wakes_at: Of a session that waits: when the first timeout of its waits is over.
        cause: What ended or interrupted it, as JSON.
        has_outcome: Whether its entry point has an outcome in the record.
    """

    status: DurableStatus
    failure: bytes | None
    wakes_at: float | None
    cause: bytes | None
    has_outcome: bool

    def write(self, connection: Connection, session_id: str) -> bool:
        """Write the end of a session, unless somebody has asked for another one meanwhile; return whether it did.

        A request to cancel a session counts until the final status is committed.
        """
        statement = _statement(connection.dialect, self.status, has_outcome=self.has_outcome)
        values = {
            "wanted": session_id,
            "new_status": self.status.value,
            "new_failure": self.failure,
            "new_wakes_at": self.wakes_at,
            "new_cause": self.cause,
        }
        return changed(connection, prepared(statement, connection.dialect), values) == 1


# Made once of each kind: to put it together takes several times as long as to run it.
@functools.lru_cache(maxsize=32)
def _statement(dialect: sa.Dialect, status: DurableStatus, *, has_outcome: bool) -> sa.Update:
    is_cancelled = status is DurableStatus.CANCELLED
    own = sa.update(sessions).where(_OWN if is_cancelled else _OWN & sessions.c.cancel_asked_at.is_(None))
    return own.values(
        status=sa.bindparam("new_status"),
        owner=sa.null(),
        failure=sa.bindparam("new_failure"),
        ended_at=clock_of(dialect) if status in FINAL else sa.null(),
        wakes_at=sa.bindparam("new_wakes_at"),
        cause=sa.bindparam("new_cause"),
        outcome_seq=OUTCOME_NUMBER if has_outcome else sa.null(),
    )
