"""The signals of a session as plain data, heard and unheard, with secrets left out.

`DurableStore.signals` calls this.
"""

from __future__ import annotations

from datetime import UTC, datetime

from attrs import define

from railtracks.durable._sessions.views import call_ids, row_of, scrubber_of
from railtracks.durable._store.access import Access
from railtracks.durable._store.reading import rows_of, signals_of
from railtracks.durable._values.values import as_store_error


@define(frozen=True, kw_only=True)
class StoredSignal:
    """What a store has of one signal to a session.

    Attributes:
        session_id: The session.
        name: The name of the signal.
        key: The signal key that its sender gave.
        value: Its value, as plain data without secrets.
        sent_at: When it was sent, by the clock of the database, in UTC.
        consumed_at: When a wait heard it; `None` if none has. Also `None` if a version of the library heard it that
            did not record that.
        consumed_by: The call that heard it, by its id in `DurableStore.load`; `None` if none has.
    """

    session_id: str
    name: str
    key: str | None
    value: object
    sent_at: datetime
    consumed_at: datetime | None
    consumed_by: int | None


def signals_in(access: Access, session_id: str) -> tuple[StoredSignal, ...]:
    """Return the signals of a session, in the order in which they were sent.

    Raises:
        SessionUnavailableError: If there is no such session.
        StoreError: If a row is damaged.
    """
    with access.reading() as (connection, _, _):
        row_of(connection, session_id, access)
        rows, sent = rows_of(connection, session_id), signals_of(connection, session_id)
    ids = call_ids(rows)
    with as_store_error(session_id):
        scrubber = scrubber_of(rows, access.values, [each.value for each in sent])
        return tuple(
            StoredSignal(
                session_id=session_id,
                name=each.name,
                key=each.key,
                value=access.values.redacted(each.value, scrubber),
                sent_at=datetime.fromtimestamp(each.sent_at, UTC),
                consumed_at=None if each.consumed_at is None else datetime.fromtimestamp(each.consumed_at, UTC),
                consumed_by=None if each.consumed_by is None else ids.get(each.consumed_by),
            )
            for each in sent
        )
