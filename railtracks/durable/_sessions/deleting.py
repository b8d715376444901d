"""Sessions deleted from a store, with all inside them: one by its id, or all that ended some time ago.

`DurableStore` calls this for `delete` and `prune`. The rows of sessions go in one transaction, their calls and signals
after it in pieces: a store in SQLite has one writer, and live sessions commit between two pieces. A process that dies
in between leaves rows without a session, which the next `prune` deletes.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._checks import check_duration, check_text, is_text
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import backed_up_at, backup_refusal, now_of
from railtracks.durable._store.families import IS_OUTERMOST, inside, pieces, refuse_inner
from railtracks.durable._store.ownership import ProcessOwner
from railtracks.durable._store.reading import is_storable
from railtracks.durable._store.schema import FINAL, DurableStatus, sessions
from railtracks.durable._store.wiping import forget, left_behind, wipe
from railtracks.exceptions import SessionOwnedError, SessionUnavailableError

# How many sessions, and how many rows of calls and signals, are deleted in one transaction: some milliseconds of work.
_SESSIONS_AT_ONCE: Final = 100
_ROWS_AT_ONCE: Final = 2_000
# Seconds between two transactions, at least: a writer that waits asks again and again, and must find the store free.
_LEAST_PAUSE: Final = 0.005


def deleted(access: Access, session_id: str) -> None:
    """Delete a session and those inside it.

    Raises:
        SessionOwnedError: If a live owner has one of them.
        SessionUnavailableError: If there is no such session, or it is inside another one.
        TypeError: If the identifier is no text.
    """
    check_text("session_id", session_id)
    with access.writing() as (connection, _, owner):
        # Not as a checked row: a damaged one may be deleted, too.
        query = sa.select(sessions.c.session_id).where(sessions.c.session_id == session_id).with_for_update()
        found = connection.execute(query).first() if is_storable(session_id) else None
        if found is None:
            raise SessionUnavailableError(session_id, f"is not in the store {access}")
        refuse_inner(connection, session_id, "deleted")
        family = [session_id, *inside(connection, [session_id])]
        refusal = _refusal(connection, owner, family)
        if refusal is not None:
            raise refusal
        forget(connection, family)
    _wipe(access, family)


def pruned(access: Access, older_than: timedelta | float, status: DurableStatus | str | None, *, dry_run: bool) -> int:
    """Delete the sessions that ended some time ago and are inside no other one, and those inside them.

    Args:
        access: The store.
        older_than: How long ago they ended at least.
        status: Only sessions that ended like this.
        dry_run: Whether to count them only.

    Returns:
        How many, without those inside.

    Raises:
        TypeError: If `older_than` is no duration.
        ValueError: If it is less than 0, or `status` is not one of a session that is over.
    """
    seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    given: object = older_than
    if is_text(given):
        raise TypeError(f"older_than must be a duration, as in datetime.timedelta(days=30), or seconds, not {given!r}")
    check_duration("older_than", seconds)
    wanted = FINAL if status is None else frozenset([DurableStatus(status)])
    if not wanted <= FINAL:
        raise ValueError(
            f"prune() deletes sessions that are over ({', '.join(sorted(FINAL))}), and none that is {status}"
        )
    with access.reading() as (connection, _, _):
        if backed_up_at(connection) is not None:
            # Also if there is nothing to delete: somebody has taken it for the store itself.
            raise backup_refusal(str(access))
        until = now_of(connection) - seconds
        is_old = sessions.c.status.in_(wanted) & (sessions.c.ended_at < until)
        if dry_run:
            number = sa.select(sa.func.count()).select_from(sessions).where(is_old, IS_OUTERMOST)
            return int(connection.execute(number).scalar_one())
        old = _ids(connection.execute(sa.select(sessions.c.session_id).where(is_old)).scalars().all())
        behind = _ids([session_id for _, session_id in left_behind(connection)])
    _wipe(access, behind)
    count = 0
    for start in range(0, len(old), _SESSIONS_AT_ONCE):
        with _in_turn(access) as (connection, owner):
            some = sessions.c.session_id.in_(old[start : start + _SESSIONS_AT_ONCE])
            # Asked again, and locked: since the look somebody may have deleted one of them and begun it again.
            query = sa.select(sessions.c.session_id).where(some, is_old, IS_OUTERMOST).with_for_update()
            found = connection.execute(query).scalars().all()
            families = [[session_id, *inside(connection, [session_id])] for session_id in found]
            gone = [family for family in families if _refusal(connection, owner, family) is None]
            family = [each for family in gone for each in family]
            if family:
                forget(connection, family)
            count += len(gone)
        _wipe(access, family)
    return count


def _wipe(access: Access, session_ids: Sequence[str]) -> None:
    """Delete what sessions that are gone have left, piece by piece."""
    while session_ids:
        with _in_turn(access) as (connection, _):
            session_ids = wipe(connection, session_ids, _ROWS_AT_ONCE)


@contextmanager
def _in_turn(access: Access) -> Generator[tuple[Connection, ProcessOwner]]:
    """Open a transaction that is one of many, and afterwards leave the store to others for as long as it took."""
    begun = time.monotonic()
    with access.writing() as (connection, _, owner):
        yield connection, owner
    time.sleep(max(_LEAST_PAUSE, time.monotonic() - begun))


def _ids(found: Sequence[object]) -> list[str]:
    """Return those of some ids that a session can have; others are no rows of this library's."""
    return [each for each in dict.fromkeys(found) if isinstance(each, str) and is_storable(each)]


def _refusal(connection: Connection, owner: ProcessOwner, family: Sequence[str]) -> SessionOwnedError | None:
    """Return the error for a family of sessions of which a live owner has one, `None` if none has."""
    for some in pieces(family):
        owned = sa.select(sessions.c.session_id, sessions.c.owner).where(sessions.c.session_id.in_(some))
        for session_id, token in connection.execute(owned).all():
            refusal = owner.refusal_of(connection, session_id, token)
            if refusal is not None:
                return refusal
    return None
