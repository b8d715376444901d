"""The broadcasts of a durable session: each is recorded, and so is its delivery.

Called by the core for `rt.broadcast`. A broadcast that an earlier run delivered is skipped. One that it did not deliver
is broadcast again by the code that repeats it. If no code does, the core broadcasts it at the start of the session.
"""

from __future__ import annotations

from collections.abc import Iterator

from railtracks._calls.frames import Frame
from railtracks._nodes.signature import ANYTHING
from railtracks.durable._replay.commits import Commits
from railtracks.durable._replay.recorded import RecordedSession, outcome_of
from railtracks.durable._replay.rows import new_row
from railtracks.durable._replay.strands import Strands, key_of
from railtracks.durable._store.schema import ROOT, RowStatus
from railtracks.durable._values.values import Values, as_store_error


class Broadcasts:
    """Records one session's broadcasts and their deliveries, and finds those that a resume has to deliver."""

    def __init__(self, record: RecordedSession, strands: Strands, values: Values, commits: Commits) -> None:
        self._record = record
        self._strands = strands
        self._values = values
        self._commits = commits

    def record(self, frame: Frame, item: object) -> str | None:
        """Record a broadcast; return its key, or `None` if an earlier run has delivered it.

        Raises:
            DurableValueError: If the item cannot be stored.
        """
        commits, strand = self._commits, self._strands.of(frame)
        if commits.is_cut:
            # From here on nothing is part of the record, and a later run may broadcast something else at this point.
            return key_of(*strand.skip("broadcast"), "unrecorded", commits.fence)
        data, fingerprint = self._values.dump(item, ANYTHING, "what is broadcast")
        strand_key, number = strand.skip("broadcast", fingerprint)
        key = key_of(strand_key, "broadcast", number)
        known = self._record.broadcasts
        # A session that is over broadcasts nothing, delivered or not.
        if known.is_delivered(key) or (key in known and commits.is_over):
            return None
        if key not in known:
            parent, status = strand.body.parent.key, RowStatus.BROADCAST
            row = new_row(commits.session_id, key, parent, status, strand=strand_key, position=number, outcome=data)
            commits.submit([row])
        return key

    def undelivered(self) -> Iterator[tuple[str, object]]:
        """Return key and item of the broadcasts that no code repeats, and that were not delivered.

        Raises:
            StoreError: If an item cannot be read with this code.
        """
        for row in () if self._commits.is_over else self._record.to_broadcast_again():
            with as_store_error(self._commits.session_id):
                item = self._values.load(outcome_of(row), ANYTHING)
            yield row.key, item

    async def delivered(self, key: str) -> None:
        """Record that a broadcast has reached the callback, so that no resume delivers it again."""
        self._commits.submit([new_row(self._commits.session_id, key, ROOT, RowStatus.DELIVERED)])
        await self._commits.keep_short()
