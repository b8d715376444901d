"""What makes a mismatch: every comparison of what the code asks for with what an earlier run recorded.

The journal compares each call before its node runs, and each start of a background call. When a call, a fan-out or the
session ends, calls in it must not be left over in the record.
"""

from __future__ import annotations

import json
from typing import Final

from railtracks._calls.durable_values import Args, Kwargs
from railtracks._nodes.node import Node
from railtracks.durable._replay.asked import AskedCall
from railtracks.durable._replay.attachment import AttachedSession
from railtracks.durable._replay.context import RecordedContext
from railtracks.durable._replay.order import Order
from railtracks.durable._replay.recorded import RecordedSession
from railtracks.durable._replay.recorded_calls import RecordedCall
from railtracks.durable._replay.strands import Position, Strand
from railtracks.durable._store.schema import ROOT, CallRow
from railtracks.durable._values.alike import Given
from railtracks.durable._values.values import Values, as_store_error
from railtracks.exceptions import ReplayMismatchError, StoreError

_LONGEST_SHOWN: Final = 200


class Mismatches:
    """Compares the calls of one session with its record."""

    def __init__(
        self,
        session_id: str,
        *,
        prints: int | None,
        record: RecordedSession,
        order: Order,
        values: Values,
        context: RecordedContext,
        session: AttachedSession,
    ) -> None:
        self._session_id = session_id
        self._record = record
        # Nothing can mismatch then.
        self._is_new = not len(record.rows)
        self._order = order
        self._values = values
        self._context = context
        self._prints = prints
        self._session = session

    def match(self, asked: AskedCall, args: Args, kwargs: Kwargs) -> RecordedCall | Exception | None:
        """Return what is recorded of a call, and claim it; `None` if nothing is.

        The key of a call says where it stands. What stands there in the record must be a call of the same node with the
        same arguments. If nothing has the key, no call of another kind may stand there, and the strand must not go on
        in the record.

        Args:
            asked: The call.
            args: Its arguments by position.
            kwargs: Its arguments by name.

        Returns:
            The error instead, if the code asks for another call than the record has. It is raised where the call would
            run, so that it ends the session from inside the call.
        """
        return None if self._is_new else self._matched(asked, args, kwargs)

    def _matched(self, asked: AskedCall, args: Args, kwargs: Kwargs) -> RecordedCall | Exception | None:
        record, position = self._record, asked.position
        # The first call of a task cannot mismatch here: its node and its arguments are part of its key.
        recorded = record.calls.get(asked.key)
        if recorded is not None:
            try:
                # Its row is put together only if more than this has to be compared.
                if recorded.node != asked.node.name or (
                    recorded.fingerprint != asked.fingerprint
                    and not self._is_recorded(asked, recorded.row, args, kwargs)
                ):
                    return self._error(*self._named_both(asked, recorded.row, args, kwargs))
            except StoreError as error:
                return error
            self._order.claimed(recorded)
            return recorded
        there = record.at(position.strand, position.number)
        if there is not None and (there.place >= 0) != (position.place >= 0):
            # A single call there, and a fan-out here, or the other way round.
            return self._error(self._named_row(there.row), self.named_call(asked))
        is_single = position.place < 0 and asked.attempt == 1
        if is_single and record.goes_on(position.strand, position.number):
            # Something that is no call of its own stood there: an unrecorded call, a broadcast, a start.
            return self._error("another call at this place, and more after it", self.named_call(asked))
        return None

    def _is_recorded(self, asked: AskedCall, row: CallRow, args: Args, kwargs: Kwargs) -> bool:
        """Return whether a call is the one of a row, and give it the fingerprint of the row."""
        if row.node != asked.node.name:
            return False
        if row.fingerprint == asked.fingerprint:
            return True
        with as_store_error(self._session_id):
            if self._prints is None or not self._given(asked, args, kwargs).is_alike(row.arguments, row.fingerprint):
                return False
        # All rows of one call have one fingerprint.
        asked.fingerprint = row.fingerprint
        return True

    def _given(self, asked: AskedCall, args: Args, kwargs: Kwargs) -> Given:
        return Given(self._values, asked.node, args, kwargs)

    def _named_both(self, asked: AskedCall, row: CallRow, args: Args, kwargs: Kwargs) -> tuple[str, str]:
        """Return how an error names a recorded call, and the other one that the code asks for in its place."""
        if row.node == asked.node.name:
            secrets = self._context.secrets
            secrets.see_all(self._context.held.items())
            with as_store_error(self._session_id):
                then, now = self._given(asked, args, kwargs).difference(asked.arguments, row.arguments, secrets)
            if then:
                return f"{row.node!r} with arguments {then}", f"{row.node!r} with arguments {now}"
            return f"{self._named_row(row)} of parameters with other names or annotations", self.named_call(asked)
        return self._named_row(row), self.named_call(asked)

    def fingerprint(self, strand: Strand, node: Node[..., object], fingerprint: str, args: Args, kwargs: Kwargs) -> str:
        """Return the fingerprint by which the first call of a task is to be found in the record.

        It is part of the key of that call. If nothing has this key, another call of the node that is recorded as the
        first one of a task may be this one, with its defaults given in another way.
        """
        if self._prints is None or strand.first_key(node.name, fingerprint, node.key) in self._record.calls:
            return fingerprint
        given = Given(self._values, node, args, kwargs)
        for row in self._record.left_first_calls(strand.body.parent.key, node.name):
            # The key tells whether it is one of this very body, and has the node's own key.
            is_here = strand.first_key(node.name, row.fingerprint, node.key) == row.key
            with as_store_error(self._session_id):
                if is_here and given.is_alike(row.arguments, row.fingerprint):
                    return row.fingerprint
        return fingerprint

    def match_unrecorded(self, position: Position, node: str) -> ReplayMismatchError | None:
        """Return the error that a call is recorded where the code makes one that is not; `None` if none is.

        Args:
            position: Where the code makes it.
            node: The name of its node.
        """
        if self._is_new:
            return None
        is_single = position.place < 0
        there = self._record.at(position.strand, position.number) if is_single else self._record.calls.get(position.key)
        return None if there is None else self._error(self._named_row(there.row), f"{node!r} with durable=False")

    def match_start(self, asked: AskedCall, args: Args, kwargs: Kwargs) -> bool:
        """Return whether the start of a background call is recorded, and claim it. Arguments: as of `match`.

        Raises:
            ReplayMismatchError: If the start of another call is recorded there. The session ends with this error.
        """
        row = self._record.starts.claim(asked.key)
        if row is not None and not self._is_recorded(asked, row, args, kwargs):
            then, now = self._named_both(asked, row, args, kwargs)
            self._end(f"the start of {then}", f"the start of {now}")
        return row is not None

    def check_call_end(self, key: str, name: str) -> None:
        """Refuse the end of a call in which more is recorded than the code has asked for.

        Args:
            key: The key of the call.
            name: What an error calls it.

        Raises:
            ReplayMismatchError: If there is more.
        """
        row = None if self._is_new else self._record.unclaimed(key)
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
