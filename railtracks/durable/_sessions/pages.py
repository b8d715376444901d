"""Which sessions of a store a look is for: by status, flow and time of their beginning, and page by page.

`DurableStore.sessions` makes a `Page`, and `views` reads the rows of its query.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from attrs import define
from sqlalchemy.engine import Connection

from railtracks._checks import check_count, check_text, is_text
from railtracks.durable._store.access import Access
from railtracks.durable._store.reading import LATEST, is_storable
from railtracks.durable._store.schema import SESSION_HEAD, DurableStatus, sessions
from railtracks.exceptions import SessionUnavailableError

# What a view says of a session, and its row does not: the rows that may turn out to be that.
_DECIDED_LATER: Final = {
    DurableStatus.RUNNING: [DurableStatus.RUNNING],
    DurableStatus.INTERRUPTED: [DurableStatus.RUNNING, DurableStatus.INTERRUPTED],
}
# Seconds since 1970, before any session was begun.
_EARLIEST: Final = 1e6
# How many rows are in memory at once.
_AT_ONCE: Final = 500


@define(frozen=True, kw_only=True)
class Page:
    """A part of the sessions of a store, in the order in which they were begun.

    Attributes:
        status: Only sessions with this status.
        flow_name: Only runs of this flow.
        since: Only sessions begun then or later, in seconds since 1970.
        before: Only sessions begun earlier than that.
        limit: How many sessions at most.
        after: The last session of the page before.
    """

    status: DurableStatus | None
    flow_name: str | None
    since: float | None
    before: float | None
    limit: int | None
    after: str | None

    def query(self, connection: Connection, access: Access) -> sa.Select[tuple[object, ...]]:
        """Return the query for the rows; some may turn out to have another status, and then are not of the page.

        Raises:
            SessionUnavailableError: If the session that the page comes after is not there.
        """
        begun = sessions.c.created_at
        query = sa.select(*SESSION_HEAD).order_by(begun, sessions.c.session_id)
        query = query.execution_options(yield_per=_AT_ONCE)
        if self.flow_name is not None:
            # No session has a name that a database cannot hold, and not every database takes the question.
            is_it = sessions.c.flow_name == self.flow_name
            query = query.where(is_it if is_storable(self.flow_name) else sa.false())
        if self.since is not None:
            query = query.where(begun >= self.since)
        if self.before is not None:
            query = query.where(begun < self.before)
        if self.status is not None and self.status is not DurableStatus.DAMAGED:
            query = query.where(sessions.c.status.in_(_DECIDED_LATER.get(self.status, [self.status])))
        if self.limit is not None and self.status is None:
            query = query.limit(self.limit)
        if self.after is not None:
            last = sa.select(begun).where(sessions.c.session_id == self.after)
            if not is_storable(self.after) or connection.execute(last).first() is None:
                raise SessionUnavailableError(
                    self.after, f"is not in the store {access}: there is no page that comes after it"
                )
            moment = last.scalar_subquery()
            # The first condition alone says where the index is to be entered.
            query = query.where(begun >= moment, (begun > moment) | (sessions.c.session_id > self.after))
        return query


def page_of(  # noqa: PLR0917 - the parameters of `DurableStore.sessions`
    status: object, flow_name: object, since: object, before: object, limit: object, after: object
) -> Page:
    """Return the page that a user asks for.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If there is no such status, a time has no zone, or `limit` is less than 1.
    """
    for name, text in (("flow_name", flow_name), ("after", after)):
        if text is not None:
            check_text(name, text)
    if limit is not None:
        check_count("limit", limit)
    return Page(
        status=None if status is None else DurableStatus(str(status)),
        flow_name=flow_name if is_text(flow_name) else None,
        since=_moment("since", since),
        before=_moment("before", before),
        limit=limit if isinstance(limit, int) else None,
        after=after if is_text(after) else None,
    )


def _moment(name: str, value: object) -> float | None:
    """Return the earliest time of a row, in seconds since 1970, that a view shows as this datetime or a later one."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise ValueError(f"{name} must be a datetime with a zone, as in datetime.now(UTC), not {value!r}")
    # Views round to microseconds.
    seconds = value.timestamp()
    if not _EARLIEST <= seconds <= LATEST:
        # No session was begun then. Before, numbers lie too close to try one after another.
        return seconds
    while datetime.fromtimestamp(seconds, UTC) >= value:
        seconds = math.nextafter(seconds, -math.inf)
    return math.nextafter(seconds, math.inf)
