"""What a person asks of one session and the sessions inside it: to end, or to be taken over again.

`DurableStore` calls this for `cancel` and `free`; a session that ends by a cancel ends those inside it by `end_inside`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._checks import exact, is_text
from railtracks._records.data import CauseKind
from railtracks.durable._sessions.views import row_of
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import clock_of
from railtracks.durable._store.families import inside, pieces, refuse_inner
from railtracks.durable._store.reading import is_storable
from railtracks.durable._store.schema import FINAL, DurableStatus, sessions
from railtracks.durable._values.failures import dump_failure
from railtracks.durable._values.values import Values
from railtracks.exceptions import SessionCancelledError, SessionUnavailableError


def cancelled(access: Access, session_id: str, reason: str | None) -> None:
    """Ask the owner of a session to end it; end it here if nobody runs it.

    Raises:
        SessionUnavailableError: If there is no such session, it is over, or it is inside another one.
        TypeError: If an argument is no text.
        ValueError: If a database cannot hold the reason.
    """
    reason = _checked(reason)
    with access.writing() as (connection, _, owner):
        # Locked first: from now on nobody takes the session, or commits its end.
        row = row_of(connection, session_id, access, is_locked=True)
        refuse_inner(connection, session_id, "cancelled")
        if row.status in FINAL:
            raise SessionUnavailableError(session_id, f"is {row.status}: there is nothing left to cancel")
        if owner.refusal_of(connection, session_id, row.owner) is None:
            # Where the first request was not obeyed yet, its reason stands.
            known = row.cancel_asked_at is not None
            end_from_outside(connection, [session_id], row.cancel_reason if known else reason, access.values)
            end_inside(connection, session_id, row.cancel_reason if known else reason, access.values)
        elif row.cancel_asked_at is None:
            own = sa.update(sessions).where(sessions.c.session_id == session_id)
            connection.execute(own.values(cancel_asked_at=clock_of(connection.dialect), cancel_reason=reason))


def end_inside(connection: Connection, session_id: str, reason: str | None, values: Values) -> None:
    """End the sessions inside one that is cancelled, in its transaction: nothing would ever resume them."""
    end_from_outside(connection, inside(connection, [session_id]), reason, values)


def end_from_outside(connection: Connection, session_ids: Sequence[str], reason: str | None, values: Values) -> None:
    """End sessions as cancelled without running them. An owner that is left cannot commit any more."""
    for some in pieces(session_ids):
        failure, _ = dump_failure(SessionCancelledError(reason), values)
        connection.execute(
            sa.update(sessions)
            .where(sessions.c.session_id.in_(some), sessions.c.status.not_in(FINAL))
            .values(
                status=DurableStatus.CANCELLED,
                owner=None,
                fence=sessions.c.fence + 1,
                failure=failure,
                ended_at=clock_of(connection.dialect),
                wakes_at=None,
                cause=json.dumps({"kind": CauseKind.CANCEL, "reason": reason}).encode(),
            )
        )


def freed(access: Access, session_id: str) -> None:
    """Let a stuck session, or those inside one that are stuck, be taken over again.

    Raises:
        SessionUnavailableError: If there is no such session, it is inside another one, or neither it nor one inside it
            is stuck.
    """
    with access.writing() as (connection, _, _):
        row = row_of(connection, session_id, access, is_locked=True)
        refuse_inner(connection, session_id, "freed")
        count = 0
        for some in pieces([session_id, *inside(connection, [session_id])]):
            stuck = sessions.c.session_id.in_(some), sessions.c.status == DurableStatus.STUCK
            freed = sa.update(sessions).where(*stuck).values(status=DurableStatus.INTERRUPTED, recoveries=0)
            count += connection.execute(freed).rowcount
        if not count:
            raise SessionUnavailableError(session_id, f"is {row.status}, and not stuck: there is nothing to free")


def _checked(reason: object) -> str | None:
    """Return a reason as a plain text that every database takes."""
    if reason is None:
        return None
    if not is_text(reason):
        raise TypeError(f"the reason of a cancel must be a string, not {type(reason).__name__}")
    text = exact(reason)
    if not is_storable(text):
        raise ValueError("the reason of a cancel must be text without NUL characters and lone surrogates")
    return text
