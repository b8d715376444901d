"""What earlier runs of a durable session have left of its calls, for the record of the run that goes on.

Implemented by the durable package, and read by the call tree. A call that is replayed does not run, and the calls that
were made in it are not made again: without this, the record of a resumed session would lack them and their times.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from attrs import evolve

from railtracks._records.ends import CallError, Status

if TYPE_CHECKING:
    from railtracks._records.data import CallRecord


class PastRecord(Protocol):
    """The attempts of calls that earlier runs have begun, by numbers from 0."""

    def of(self, number: int) -> PastCall:
        """Return one of them."""
        ...

    def began_at(self, number: int) -> float:
        """Return the wall time when one first began."""
        ...

    def inside(self, number: int) -> Iterator[int]:
        """Return the numbers of the calls that were made in one."""
        ...

    def left(self) -> Iterator[int]:
        """Return the numbers of those that no code has asked for in this run, without those inside such calls."""
        ...


class PastCall(Protocol):
    """One attempt of a call that an earlier run has begun."""

    @property
    def record(self) -> PastRecord:
        """The record that it is in."""
        ...

    @property
    def number(self) -> int:
        """Its number there."""
        ...

    @property
    def parent(self) -> int | None:
        """The number of the call that it was made in, `None` for a top-level call."""
        ...

    @property
    def node(self) -> str:
        """The name of its node."""
        ...

    @property
    def attempt(self) -> int:
        """Which attempt it was."""
        ...

    @property
    def status(self) -> Status:
        """How it ended; `RUNNING` if only its beginning is recorded."""
        ...

    @property
    def began_at(self) -> float:
        """The wall time when it first began."""
        ...

    @property
    def ended_at(self) -> float | None:
        """The wall time when it ended."""
        ...

    def arguments(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return its arguments as plain data without secrets."""
        ...

    def result(self) -> object:
        """Return its result as plain data without secrets."""
        ...

    def error(self) -> CallError:
        """Return its error, with the traceback of the run in which it was raised; without one if it is encrypted."""
        ...

    def values(self) -> Iterator[tuple[str | None, object]]:
        """Return its arguments and its result, each with the name that tells whether it is secret."""
        ...


class PastNode:
    """The node of a call that this run has not made: all that is known of it is its name."""

    __slots__ = ("name",)

    secret_parameters = None
    role = None

    def __init__(self, name: str) -> None:
        self.name = name

    def argument_names(self, count: int) -> tuple[str | None, ...]:
        """Return no names: the arguments come without their secrets."""
        return (None,) * count

    def keyword_name(self, name: str) -> str:
        """Return the name itself."""
        return name


class PastCalls:
    """Which calls of a session an earlier run has left, by their ids in the tree of this run.

    It holds numbers only: an object for each of many calls would be work for the garbage collector.
    """

    __slots__ = ("_began_at", "_ids", "_nodes", "_numbers", "_record")

    def __init__(self) -> None:
        self._record: PastRecord | None = None
        self._numbers: dict[int, int] = {}
        self._began_at: dict[int, float] = {}
        # By the number of a call in the record, its id in the tree; 0 if it was not taken up.
        self._ids: array[int] = array("q")
        self._nodes: dict[str, PastNode] = {}

    def add(self, call_id: int, parent_id: int, past: PastCall) -> None:
        """Take up a call."""
        self._record = past.record
        self._numbers[call_id] = past.number
        self._ids.extend(0 for _ in range(len(self._ids), past.number + 1))
        self._ids[past.number] = call_id
        # Other machines may have begun these calls, by clocks of their own: none begins before the call around it.
        self._began_at[call_id] = max(past.began_at, self._began_at.get(parent_id, past.began_at))

    def get(self, call_id: int) -> PastCall | None:
        """Return what an earlier run has left of a call, `None` if the call is of this run only."""
        number = self._numbers.get(call_id)
        return None if number is None or self._record is None else self._record.of(number)

    def began_at(self, call_id: int) -> float:
        """Return the wall time at which a call that an earlier run has left first began."""
        return self._began_at[call_id]

    def id_of(self, number: int | None) -> int:
        """Return the id of a call in the record, also of one that was forgotten; 0 if none was taken up."""
        return 0 if number is None or number >= len(self._ids) else self._ids[number]

    def node(self, name: str) -> PastNode:
        """Return the node of a call that this run has not made."""
        return self._nodes.setdefault(name, PastNode(name))

    def forget(self, call_id: int) -> None:
        """Drop what is known of a call but that it was taken up."""
        self._numbers.pop(call_id, None)
        self._began_at.pop(call_id, None)


def recalled(record: CallRecord, past: PastCall, began_at: float, *, is_unseen: bool) -> CallRecord:
    """Return the record of a call with what an earlier run has left of it.

    Args:
        record: The record of this run.
        past: What the earlier run has left.
        began_at: The wall time at which the call first began.
        is_unseen: Whether this run has not made the call.
    """
    from railtracks._records.data import utc  # noqa: PLC0415 - see there

    started_at = utc(began_at)
    args, kwargs = past.arguments() if is_unseen else (record.args, record.kwargs)
    record = evolve(record, started_at=started_at, args=args, kwargs=kwargs)
    if past.status is Status.RUNNING:
        return evolve(record, ended_at=record.ended_at and max(started_at, record.ended_at))
    is_completed, is_failed = past.status is Status.COMPLETED, past.status is Status.FAILED
    # This run may have ended before it has handed the outcome over.
    is_there = record.status is past.status and not is_unseen
    return evolve(
        record,
        status=past.status,
        ended_at=utc(max(began_at, past.ended_at or began_at)),
        result=record.result if is_there or not is_completed else past.result(),
        error=_more_telling(past.error(), record.error) if is_failed else None,
        is_replayed=True,
    )


def _more_telling(first: CallError, again: CallError | None) -> CallError:
    """Return the error as it was first raised, unless that is encrypted and a replay has raised it again."""
    return first if first.traceback or again is None else again
