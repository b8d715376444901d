"""The call tree as plain data: records, their legal transitions, and queries.

Nothing here awaits or knows of tasks, so that a record can be closed while a `Cancelled` is in flight. Records are
appended and closed in the thread that runs Trio; once a session is over they are only read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from time import time
from typing import Any, Final, NoReturn, Protocol

from attrs import define, field

class Status(StrEnum):
    """Where a call or a session stands. Only a session is ever `TIMED_OUT`."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


# To look a member up in its enum costs more than the store that follows.
_RUNNING: Final = Status.RUNNING
_COMPLETED: Final = Status.COMPLETED


@define(frozen=True)
class CallError:
    """An error as text.

    Attributes:
        type: The qualified name of its class.
        message: Its `str`.
        traceback: Where it came from, its causes included; the innermost frames only.
    """

    type: str
    message: str
    traceback: str = field(default="", repr=False)


@define(frozen=True)
class CallRecord:
    """One call of a node, as it stood when the record was asked for.

    Attributes:
        id: Unique in the session; calls are numbered from 1 in the order of their start.
        parent_id: The call this one was made in, `None` for a top-level call.
        node: The node's name.
        status: Where the call stands.
        attempt: Which attempt of the call this is, counted from 1.
        started_at: When the record was opened, in UTC.
        ended_at: When it was closed, in UTC; `None` while the call runs.
        args: The positional arguments.
        kwargs: The keyword arguments.
        result: What the node returned; `None` unless the call is completed.
        error: What the node raised, as text; `None` unless the call failed.
    """

    id: int
    parent_id: int | None
    node: str
    status: Status
    attempt: int
    started_at: datetime
    ended_at: datetime | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    error: CallError | None


@define(frozen=True)
class ExecutionInfo:
    """A session and its calls as plain data: a running one's as it stood, or a saved one's.

    Attributes:
        session_id: The session's identifier.
        session_name: Its name, if it has one.
        flow_name: The name of the flow it is a run of, if it is.
        flow_id: The id that was given for the flow, if one was.
        status: Where the session stands.
        started_at: When it was entered, in UTC; `None` before that.
        ended_at: When its block was left and everything in it had ended, in UTC.
        timeout: The seconds it was given, `None` for no timeout.
        error: What ended it, as text.
        context_keys: The keys of its context. The values are never saved.
        calls: The calls, in the order of their start.
    """

    session_id: str
    session_name: str | None
    flow_name: str | None
    flow_id: str | None
    status: Status
    started_at: datetime | None
    ended_at: datetime | None
    timeout: float | None
    error: CallError | None
    context_keys: tuple[str, ...]
    calls: tuple[CallRecord, ...] = field(repr=False)

    @property
    def answer(self) -> Any:
        """The result of the first top-level call, `None` if there is none."""
        return next((call.result for call in self.calls if call.parent_id is None), None)

    @property
    def roots(self) -> tuple[CallRecord, ...]:
        """The top-level calls, in the order of their start."""
        return self._by_parent[None]

    def children(self, call_id: int) -> tuple[CallRecord, ...]:
        """Return the calls made in a call, in the order of their start.

        Raises:
            KeyError: If there is no call with this id.
        """
        return self._by_parent[call_id]

    @cached_property
    def _by_parent(self) -> dict[int | None, tuple[CallRecord, ...]]:
        found: dict[int | None, list[CallRecord]] = {None: [], **{call.id: [] for call in self.calls}}
        for call in self.calls:
            found.setdefault(call.parent_id, []).append(call)
        return {parent_id: tuple(calls) for parent_id, calls in found.items()}


class NodeLike(Protocol):
    """What a record needs to know of its node."""

    @property
    def name(self) -> str: ...

    def argument_names(self, count: int) -> tuple[str | None, ...]: ...


NO_KWARGS: Final[dict[str, Any]] = {}


class Call:
    """The record of a call while it is being made: opened once, closed once."""

    __slots__ = (
        "args",
        "attempt",
        "ended_at",
        "error",
        "id",
        "kwargs",
        "node",
        "parent_id",
        "result",
        "started_at",
        "status",
    )

    def __init__(
        self,
        call_id: int,
        parent_id: int | None,
        node: NodeLike,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.id = call_id
        self.parent_id = parent_id
        self.node = node
        self.status = _RUNNING
        self.attempt = 1
        self.started_at = time()
        self.ended_at: float | None = None
        self.args = args
        # An empty dict of its own would be a sixth of what a finished call keeps.
        self.kwargs = kwargs or NO_KWARGS
        self.result: Any = None
        self.error: CallError | None = None

    def complete(self, result: Any) -> None:
        """Close the record with what the node returned."""
        # On the path of every call: the steps of _close, without its price.
        if self.status is not _RUNNING:
            self._refuse()
        self.status = _COMPLETED
        self.ended_at = time()
        self.result = result

    def fail(self, error: CallError) -> None:
        """Close the record with what the node raised."""
        self._close(Status.FAILED)
        self.error = error

    def cancel(self) -> None:
        """Close the record of a call that was cancelled."""
        self._close(Status.CANCELLED)

    def _close(self, status: Status) -> None:
        if self.status is not _RUNNING:
            self._refuse()
        self.status = status
        self.ended_at = time()

    def _refuse(self) -> NoReturn:
        raise RuntimeError(f"call {self.id} of {self.node.name!r} is already {self.status}")

    def named_values(self) -> list[tuple[str | None, Any]]:
        """Return arguments and result with the names that say whether they are secret."""
        names = self.node.argument_names(len(self.args))
        return [*zip(names, self.args, strict=True), *self.kwargs.items(), (None, self.result)]

    def record(self) -> CallRecord:
        """Return the record as it stands now."""
        return CallRecord(
            self.id,
            self.parent_id,
            self.node.name,
            self.status,
            self.attempt,
            utc(self.started_at),
            None if self.ended_at is None else utc(self.ended_at),
            self.args,
            dict(self.kwargs),
            self.result,
            self.error,
        )


def utc(seconds: float) -> datetime:
    """Return a wall time as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


class CallTree:
    """All calls of one session, in the order of their start."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def open(self, node: NodeLike, parent: Call | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Add a call, running from now on."""
        calls = self.calls
        call = Call(len(calls) + 1, None if parent is None else parent.id, node, args, kwargs)
        calls.append(call)
        return call

    def path(self, call: Call) -> tuple[str, ...]:
        """Return the names of the nodes from the top-level call down to `call`; the middle of a long way is left out."""
        names = [call.node.name]
        while call.parent_id is not None and len(names) < 8:
            call = self.calls[call.parent_id - 1]
            names.append(call.node.name)
        if call.parent_id is not None:
            names.append("...")
        return tuple(reversed(names))

    def close_what_is_open(self) -> None:
        """Close as cancelled what was left open: an interrupt can strike between any two steps of a call."""
        for call in self.calls:
            if call.status is Status.RUNNING:
                call.cancel()
