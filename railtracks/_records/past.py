"""What earlier runs of a durable session have left of its calls, for the record of the run that goes on.

Implemented by the durable package, and read by the call tree. A call that is replayed does not run, and the calls that
were made in it are not made again: without this, the record of a resumed session would lack them and their times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from attrs import define, field

from railtracks._records.data import CallError, Status


class PastCall(Protocol):
    """One attempt of a call that an earlier run has begun."""

    @property
    def key(self) -> str:
        """What tells it from all other attempts in its session."""
        ...

    @property
    def parent(self) -> str:
        """The key of the call that it was made in; of a top-level call, one that no call has."""
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

    def children(self) -> Iterable[PastCall]:
        """Return the calls that were made in it."""
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

    def __init__(self, name: str) -> None:
        self.name = name

    def argument_names(self, count: int) -> tuple[str | None, ...]:
        """Return no names: the arguments come without their secrets."""
        return (None,) * count

    def keyword_name(self, name: str) -> str:
        """Return the name itself."""
        return name


@define(eq=False)
class PastCalls:
    """Which calls of a session an earlier run has left, by their ids in the tree of this run."""

    _calls: dict[int, PastCall] = field(factory=dict[int, PastCall])
    _ids: dict[str, int] = field(factory=dict[str, int])
    _began_at: dict[int, float] = field(factory=dict[int, float])

    def add(self, call_id: int, parent_id: int, past: PastCall) -> None:
        """Take up a call."""
        self._calls[call_id] = past
        self._ids[past.key] = call_id
        # Other machines may have begun these calls, by clocks of their own: none begins before the call around it.
        self._began_at[call_id] = max(past.began_at, self._began_at.get(parent_id, past.began_at))

    def get(self, call_id: int) -> PastCall | None:
        """Return what an earlier run has left of a call, `None` if the call is of this run only."""
        return self._calls.get(call_id)

    def began_at(self, call_id: int) -> float:
        """Return the wall time at which a call that an earlier run has left first began."""
        return self._began_at[call_id]

    def id_of(self, key: str) -> int | None:
        """Return the id of the call with a key, also of one that was forgotten; `None` if it was not taken up."""
        return self._ids.get(key)

    def forget(self, call_id: int) -> None:
        """Drop what is known of a call but that it was taken up."""
        self._calls.pop(call_id, None)
        self._began_at.pop(call_id, None)
