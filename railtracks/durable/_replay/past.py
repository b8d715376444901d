"""What earlier runs have left of the calls of a session, for the record of the run that goes on.

Made by the journal and by calls, and read by the call tree of the core, which knows the protocol `PastCall`; the views
of a store share the functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from attrs import define

from railtracks._records.data import CallError, Status
from railtracks._records.past import PastCall
from railtracks._records.scrubbing import REDACTED, Scrubber
from railtracks.durable._replay.recorded import RecordedSession
from railtracks.durable._replay.recorded_calls import RecordedCall
from railtracks.durable._store.schema import CallRow, RowStatus
from railtracks.durable._values.failures import described_failure
from railtracks.durable._values.stored import parsed
from railtracks.durable._values.values import Values
from railtracks.exceptions import DurableValueError

# What the core calls the status of a call, by that of its last row.
STATUS: Final[dict[str, Status]] = {
    RowStatus.COMPLETED: Status.COMPLETED,
    RowStatus.FAILED: Status.FAILED,
    RowStatus.CANCELLED: Status.CANCELLED,
    RowStatus.OPENED: Status.RUNNING,
}
# What a record says in place of a value that its row does not have in a readable form.
_DAMAGED: Final = "[damaged]"


def error_in(data: bytes, values: Values, scrubber: Scrubber) -> CallError:
    """Return a stored failure as text, without secrets."""
    stored, message, traceback = described_failure(data, values)
    # As records name a class, and not as it is imported.
    kind = stored.replace(":", ".").removeprefix("builtins.")
    if values.sealer.has_key:
        # The message may quote a secret that is stored encrypted, and nothing here knows which texts those are.
        return CallError(kind, REDACTED, "")
    return CallError(kind, scrubber.text(message), scrubber.text(traceback))


def values_in(row: CallRow, values: Values) -> Iterator[tuple[str | None, object]]:
    """Return the values in a row, and its encrypted secrets that the key of the store opens, for a search."""
    for data in (row.arguments, row.outcome, row.context):
        if data:
            stored = parsed(data)
            yield None, stored
            yield from values.opened_secrets(stored)


@define(frozen=True, eq=False)
class Past:
    """The record of a session, as its call tree reads it."""

    recorded: RecordedSession
    values: Values

    def of(self, number: int) -> PastCall:
        """Return one recorded call."""
        return _RecordedPast(RecordedCall(self.recorded.calls, number), self)

    def began_at(self, number: int) -> float:
        """Return the wall time when a recorded call first began."""
        return self.recorded.calls.began_at(number)

    def inside(self, number: int) -> Iterator[int]:
        """Return the numbers of the calls that were made in one."""
        return self.recorded.inside(self.recorded.rows.calls.keys[number])

    def left(self) -> Iterator[int]:
        """Return the numbers of those that no code has asked for in this run, without those inside such calls."""
        calls = self.recorded.calls
        for number in calls.unclaimed():
            around = calls.around(number)
            if around is None or calls.is_claimed(around):
                yield number


@define(frozen=True, eq=False)
class _RecordedPast:
    """A recorded call in the form that the call tree knows."""

    _recorded: RecordedCall
    record: Past

    @property
    def number(self) -> int:
        return self._recorded.number

    @property
    def parent(self) -> int | None:
        return self.record.recorded.calls.around(self._recorded.number)

    @property
    def node(self) -> str:
        return self._recorded.node

    @property
    def attempt(self) -> int:
        return self._recorded.attempt

    @property
    def status(self) -> Status:
        return Status.RUNNING if self._recorded.is_under_way else STATUS.get(self._recorded.told_status, Status.RUNNING)

    @property
    def began_at(self) -> float:
        return self._recorded.began_at

    @property
    def ended_at(self) -> float | None:
        return self._recorded.told_end

    # What code does not ask for need not be readable for the session to go on, and costs its own record only.

    def arguments(self) -> tuple[tuple[object, ...], dict[str, object]]:
        with suppress(DurableValueError):
            return self.record.values.redacted_arguments(self._recorded.row.arguments, Scrubber())
        return (_DAMAGED,), {}

    def result(self) -> object:
        with suppress(DurableValueError):
            return self.record.values.redacted(self._recorded.told.outcome)
        return _DAMAGED

    def error(self) -> CallError:
        with suppress(DurableValueError):
            return error_in(self._recorded.told.outcome or b"", self.record.values, Scrubber())
        return CallError(_DAMAGED, "")

    def values(self) -> Iterator[tuple[str | None, object]]:
        with suppress(DurableValueError):
            yield from values_in(self._recorded.told, self.record.values)
