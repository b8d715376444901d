"""The records of a session's calls, made of its rows, with secrets left out.

The views call this. The rows are gone through twice, and none is kept: first for what tells calls and secrets apart,
then for one record each. So a look at a long record takes little more memory than what it returns.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from datetime import UTC, datetime

from railtracks._records.data import CallError, CallRecord
from railtracks._records.scrubbing import Scrubber
from railtracks._records.slices import Pauses
from railtracks.durable._replay.past import STATUS, error_in
from railtracks.durable._store.schema import CallRow, RowStatus
from railtracks.durable._values.slices import sorted_in_slices
from railtracks.durable._values.values import Values


class Runs:
    """The runs of a session's calls, numbered in the order in which they began: a person may have had a call run again.

    Each run has a record, whose id is the number of its first row.
    """

    def __init__(self) -> None:
        # By key, the last run of the call. Of a call with several, also all of them, without the last one.
        self._last_runs: dict[str, int] = {}
        self._earlier: dict[str, list[int]] = {}
        self._retried = set[str]()
        # By run: the keys of the calls around, the numbers of the first and of the last row, and when it began.
        self._parents: list[str] = []
        self._first = array("i")
        self._last = array("i")
        self._began_at = array("d")

    def __len__(self) -> int:
        return len(self._first)

    def add(self, row: CallRow) -> None:
        """Take up a row, in the order of the commits."""
        if row.status == RowStatus.RETRIED:
            self._retried.add(row.key)
        elif row.status in STATUS:
            known = self._last_runs.get(row.key)
            if known is not None and row.key not in self._retried:
                self._last[known] = row.seq
                return
            self._retried.discard(row.key)
            if known is not None:
                self._earlier.setdefault(row.key, []).append(known)
            self._last_runs[row.key] = len(self._first)
            self._parents.append(row.parent)
            self._first.append(row.seq)
            self._last.append(row.seq)
            self._began_at.append(row.began_at)

    def ids(self) -> dict[str, int]:
        """Return the ids by which users know calls, by their keys: of a call that was run again, the last one."""
        return {key: self._first[run] for key, run in self._last_runs.items()}

    def records(
        self, rows: Iterable[CallRow], values: Values, scrubber: Scrubber, pauses: Pauses
    ) -> tuple[CallRecord, ...]:
        """Return the records of all runs, in the order of their beginnings.

        Args:
            rows: The rows that were added, once more.
            values: What reads them.
            scrubber: What removes secrets from arguments, results and errors.
            pauses: Lets other threads run meanwhile.
        """
        around = [self._id_around(run) for run in pauses.between(range(len(self)))]
        began_at = self._beginnings(around, pauses)
        places = array("i", [0]) * len(self)
        for place, run in enumerate(pauses.between(sorted_in_slices([*range(len(self))], began_at.__getitem__))):
            places[run] = place
        made: list[CallRecord | None] = [None] * len(self)
        # By key, of the calls that have not ended yet.
        begun: dict[str, bytes | None] = {}
        for row in pauses.between(rows):
            before = begun.pop(row.key, None)
            arguments = before if row.arguments is None else row.arguments
            if row.status == RowStatus.OPENED:
                begun[row.key] = arguments
            ended = self._ended_by(row)
            if ended is not None:
                made[places[ended]] = _record(
                    row._replace(arguments=arguments),
                    self._first[ended],
                    around[ended],
                    began_at[ended],
                    values,
                    scrubber,
                )
        return tuple(each for each in made if each is not None)

    def _ended_by(self, row: CallRow) -> int | None:
        """Return the run of which a row is the last one, `None` if it is none's."""
        last = self._last_runs.get(row.key)
        if row.status not in STATUS or last is None:
            return None
        runs = (last, *self._earlier.get(row.key, ()))
        return next((run for run in runs if self._last[run] == row.seq), None)

    def _id_around(self, run: int) -> int | None:
        """Return the id of the run around another one when that began; `None` if there is none."""
        parent, began = self._parents[run], self._first[run]
        last = self._last_runs.get(parent)
        if last is None:
            return None
        ids: list[int] = [self._first[each] for each in (*self._earlier.get(parent, ()), last)]
        # How a cancelled call ended may stand before the call around it.
        before = [each for each in ids if each < began]
        return max(before) if before else min(ids)

    def _beginnings(self, around: list[int | None], pauses: Pauses) -> array[float]:
        """Return when the runs began, none before the one around it: other machines have clocks of their own."""
        began_at, by_id = array("d", self._began_at), dict[int, float]()
        for run, first in enumerate(pauses.between(self._first)):
            began_at[run] = by_id[first] = max(began_at[run], by_id.get(around[run] or 0, 0.0))
        return began_at


def _record(  # noqa: PLR0917 - what a record is made of
    row: CallRow, call_id: int, around: int | None, began_at: float, values: Values, scrubber: Scrubber
) -> CallRecord:
    """Return the record of a run, by its last row."""
    args, kwargs = values.redacted_arguments(row.arguments, scrubber)
    return CallRecord(
        id=call_id,
        parent_id=around,
        node=row.node,
        status=STATUS[row.status],
        attempt=row.attempt,
        started_at=datetime.fromtimestamp(began_at, UTC),
        ended_at=moment(None if row.ended_at is None else max(began_at, row.ended_at)),
        args=args,
        kwargs=kwargs,
        result=values.redacted(row.outcome, scrubber) if row.status == RowStatus.COMPLETED else None,
        error=told_error(row.outcome, values, scrubber) if row.status == RowStatus.FAILED else None,
    )


def told_error(data: bytes | None, values: Values, scrubber: Scrubber) -> CallError | None:
    """Return a stored failure as text, without secrets; `None` if there is none."""
    return None if data is None else error_in(data, values, scrubber)


def moment(seconds: float | None) -> datetime | None:
    """Return a time of a row as a datetime, `None` if there is none."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
