"""A session of a store that has ended, as a flow tells of it that asks for the session's outcome.

Made by `invocations`. The core knows it by the protocol `EndedSession`. It reads the rows that were taken from the
store, and asks the store for nothing more.
"""

from __future__ import annotations

from railtracks._records.data import ExecutionInfo, Status
from railtracks.durable._replay.context import newest_writes
from railtracks.durable._sessions.views import info_of, seen_status
from railtracks.durable._store.access import Access
from railtracks.durable._store.wanted import Taken
from railtracks.durable._values.values import as_own_error


class RecordedSessionEnd:
    """The record of a session that has ended.

    Args:
        access: The store.
        taken: The session as it was found there.
    """

    def __init__(self, access: Access, taken: Taken) -> None:
        self._access = access
        self._taken = taken

    @property
    def session_id(self) -> str:
        """The identifier of the session."""
        return self._taken.session.session_id

    @property
    def status(self) -> Status:
        """How the session has ended."""
        return seen_status(self._taken.session)

    def info(self) -> ExecutionInfo:
        """Return the session and its calls as `DurableStore.load` does."""
        return info_of(self._taken.session, self._taken.rows, self._access.values)

    def restore(self, context: dict[str, object]) -> None:
        """Write to a context what the calls of the session have written to theirs."""
        with as_own_error(self.session_id):
            for name, value in newest_writes(self._taken.rows, self._access.values, {}):
                if value:
                    context[name] = value[0]
                else:
                    context.pop(name, None)
