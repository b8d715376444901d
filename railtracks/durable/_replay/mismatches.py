"""What makes a mismatch: every comparison of what the code asks for with what an earlier run recorded.

The journal compares each call before its node runs, and each start of a background call. When a call, a fan-out or the
session ends, calls in it must not be left over in the record.
"""

from __future__ import annotations

import json
from typing import Final

from railtracks.durable._replay.asked import AskedCall
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.recorded import RecordedCall, RecordedSession
from railtracks.durable._store.schema import ROOT, CallRow
from railtracks.durable._values.values import Values
from railtracks.exceptions import ReplayMismatchError

_LONGEST_SHOWN: Final = 200


class Mismatches:
    """Compares the calls of one session with its record."""

    def __init__(
        self, session_id: str, record: RecordedSession, order: Order, values: Values, session: AttachedSession
    ) -> None:
        self._session_id = session_id
        self._record = record
        self._order = order
        self._values = values
        self._session = session

    def match(self, asked: AskedCall) -> RecordedCall | ReplayMismatchError | None:
        """Return what is recorded of a call, and claim it; `None` if nothing is.

        The key of a call says where it stands. What stands there in the record must be a call of the same node with the
        same arguments. If nothing has the key, no call of another kind may stand there, and the strand must not go on
        in the record.

        Returns:
            The error instead, if the code asks for another call than the record has. It is raised where the call would
            run, so that it ends the session from inside the call.
        """
        record, position = self._record, asked.position
        # The first call of a task cannot mismatch here: its node and its arguments are part of its key.
        recorded = record.calls.get(asked.key)
        if recorded is not None:
            row = recorded.row
            if row.node != asked.node.name or row.fingerprint != asked.fingerprint:
                return self._error(self._named_row(row), self.named_call(asked))
            self._order.claimed(recorded)
            return recorded
        there = record.at(position.strand, position.number)
        if there is not None and (there.row.place >= 0) != (position.place >= 0):
            # A single call there, and a fan-out here, or the other way round.
            return self._error(self._named_row(there.row), self.named_call(asked))
        is_single = position.place < 0 and asked.attempt == 1
        if is_single and record.goes_on(position.strand, position.number):
            # Something that is no call of its own stood there: an unrecorded call, a broadcast, a start.
            return self._error("another call at this place, and more after it", self.named_call(asked))
        return None

    def match_start(self, asked: AskedCall) -> bool:
        """Return whether the start of a background call is recorded, and claim it.

        Raises:
            ReplayMismatchError: If the start of another call is recorded there. The session ends with this error.
        """
        row = self._record.starts.claim(asked.key)
        if row is not None and (row.node, row.fingerprint) != (asked.node.name, asked.fingerprint):
            self._end(f"the start of {self._named_row(row)}", f"the start of {self.named_call(asked)}")
        return row is not None

    def check_call_end(self, key: str, name: str) -> None:
        """Refuse the end of a call in which more is recorded than the code has asked for.

        Args:
            key: The key of the call.
            name: What an error calls it.

        Raises:
            ReplayMismatchError: If there is more.
        """
        row = self._record.unclaimed(key)
        if row is not None:
            raise self._error(f"{self._named_row(row)} in {name}", "nothing more")

    def check_session_end(self) -> None:
        """Refuse the end of the session in whose block more is recorded than the code has asked for.

        Raises:
            ReplayMismatchError: If there is more.
        """
        self.check_call_end(ROOT, "the session")

    def check_fan_out_end(self, strand: str, number: int, count: int) -> None:
        """Refuse the end of a fan-out of which more calls are recorded than it has had.

        Args:
            strand: The key of the strand that the fan-out is in.
            number: The number of the fan-out there.
            count: How many calls it has had.

        Raises:
            ReplayMismatchError: If there are more. The session ends with this error.
        """
        recorded = self._record.beyond(strand, number, count)
        if recorded is not None:
            self._end(f"{self._named_row(recorded.row)} beside the others", "nothing more")

    def _end(self, recorded: str, asked: str) -> None:
        # No call is around this code whose error would end the session.
        error = self._error(recorded, asked)
        self._session.end(error)
        raise error

    def _error(self, recorded: str, asked: str) -> ReplayMismatchError:
        return ReplayMismatchError(self._session_id, recorded, asked)

    def named_call(self, asked: AskedCall) -> str:
        """Return how an error names a call that the code asks for."""
        return self._named(asked.node.name, asked.arguments)

    def _named_row(self, row: CallRow) -> str:
        return self._named(row.node, row.arguments)

    def _named(self, node: str, arguments: bytes | None) -> str:
        return f"{node!r} with arguments {json.dumps(self._values.redacted(arguments))[:_LONGEST_SHOWN]}"
