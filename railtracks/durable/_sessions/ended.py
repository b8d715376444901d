"""A session that had ended before, as its store tells of it to a flow that asks for the session's outcome.

Made by `invocations`. The core knows it by the protocol `EndedSession`.
"""

from __future__ import annotations

from attrs import define

from railtracks._records.data import ExecutionInfo, Status
from railtracks.durable._replay.context import newest_writes
from railtracks.durable._sessions.views import info_of, rows_in, seen_status
from railtracks.durable._store.access import Access
from railtracks.durable._store.schema import CallRow, SessionRow
from railtracks.durable._values.values import as_own_error
from railtracks.exceptions import SessionUnavailableError


@define(eq=False)
class RecordedEnd:
    """The record of a session that has ended.

    Attributes:
        session_id: The identifier of the session.
    """

    session_id: str
    _access: Access
    # Known where the session was taken from the store. A call that is replayed takes none: then the row is read when
    # it is asked for, like the rows of the calls. A fork has no inner sessions in the store, only their outcomes.
    _row: SessionRow | None = None
    _rows: tuple[SessionRow, list[CallRow]] | None = None

    @property
    def status(self) -> Status | None:
        """How the session has ended."""
        if self._row is not None:
            return seen_status(self._row)
        rows = self._found()
        return None if rows is None else seen_status(rows[0])

    def info(self) -> ExecutionInfo | None:
        """Return the session and its calls as `DurableStore.load` does."""
        rows = self._found()
        return None if rows is None else info_of(*rows, self._access.values)

    def restore(self, context: dict[str, object]) -> None:
        """Write to a context what the calls of the session have written to theirs."""
        rows = self._found()
        if rows is None:
            return
        with as_own_error(self.session_id):
            for name, value in newest_writes(rows[1], self._access.values, {}):
                if value:
                    context[name] = value[0]
                else:
                    context.pop(name, None)

    def _found(self) -> tuple[SessionRow, list[CallRow]] | None:
        if self._rows is None:
            try:
                self._rows = rows_in(self._access, self.session_id)
            except SessionUnavailableError:
                return None
        return self._rows
