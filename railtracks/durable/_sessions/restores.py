"""A backup made an ordinary store, and what is to be known of the sessions in it.

`DurableStore.restore` calls this.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from attrs import define
from sqlalchemy.engine import Connection

from railtracks.durable._store.access import Access
from railtracks.durable._store.backup import unmark
from railtracks.durable._store.reading import moment_in, session_row
from railtracks.durable._store.schema import FINAL, SESSION_HEAD, calls, sessions
from railtracks.exceptions import StoreError

_LOG: Final = logging.getLogger("RT.Session")
_MOST_NAMED: Final = 20


@define(frozen=True, kw_only=True)
class RestoredSession:
    """A session of a restored backup that has not ended: what its original may have done since is not known.

    Attributes:
        session_id: Its identifier.
        flow_name: The flow that it is a run of.
        last_call: The number of its last row: calls with higher ids are not in this store. 0 if it has none.
        last_commit_at: When that was written; else when the session was begun. In UTC.
        missing_from: The moment of the backup, by the clock of the original's database, in UTC. Calls that ended later
            are missing; they run again, with their idempotency keys.
    """

    session_id: str
    flow_name: str | None
    last_call: int
    last_commit_at: datetime
    missing_from: datetime


def restored(access: Access) -> tuple[RestoredSession, ...]:
    """Make a backup an ordinary store, and return its sessions that have not ended, the oldest first.

    Raises:
        StoreError: If the store is no backup, or cannot be written.
    """
    with access.writing("restore") as (connection, _, _):
        moment = datetime.fromtimestamp(unmark(connection, str(access)), UTC)
        found = _open_sessions(connection, moment)
    names = ", ".join(f"{each.session_id} (after row {each.last_call})" for each in found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    _LOG.warning(
        "store %s was restored from a backup of %s: calls that ended later are missing, and run again with their"
        " idempotency keys. Sessions that had not ended: %s%s",
        access,
        moment.isoformat(timespec="seconds"),
        names or "none",
        more,
    )
    return found


def _open_sessions(connection: Connection, moment: datetime) -> tuple[RestoredSession, ...]:
    """Return the sessions that have not ended. Those that cannot be read are left out: `sessions` tells of them."""
    last = sa.select(calls.c.session_id, sa.func.max(calls.c.seq).label("seq")).group_by(calls.c.session_id).subquery()
    query = (
        sa.select(*SESSION_HEAD, calls.c.seq, sa.func.coalesce(calls.c.ended_at, calls.c.began_at))
        .outerjoin(last, last.c.session_id == sessions.c.session_id)
        .outerjoin(calls, sa.and_(calls.c.session_id == last.c.session_id, calls.c.seq == last.c.seq))
        .where(sessions.c.status.not_in(FINAL))
        .order_by(sessions.c.created_at, sessions.c.session_id)
    )
    found: list[RestoredSession] = []
    for each in connection.execute(query):
        columns: tuple[object, ...] = tuple(each)
        seq, written_at = columns[-2:]
        with suppress(StoreError):
            row = session_row(columns[:-2])
            found.append(
                RestoredSession(
                    session_id=row.session_id,
                    flow_name=row.flow_name,
                    last_call=seq if isinstance(seq, int) else 0,
                    last_commit_at=datetime.fromtimestamp(moment_in(written_at) or row.created_at, UTC),
                    missing_from=moment,
                )
            )
    return tuple(found)
