"""The call tree as plain data: the records of calls, how they change, and queries.

Called by each call of a node, which opens and closes its record here, and by everything that reads a session.

Nothing here awaits or knows of tasks, so that a record can be closed while a `Cancelled` is in flight. Records are
appended and closed in the thread that runs Trio; once a session is over they are only read.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from time import time
from typing import Any, Final, NoReturn, Protocol, TypeVar

from attrs import define, field

T = TypeVar("T")


class Status(StrEnum):
    """Where a call or a session stands. Only a session is ever `TIMED_OUT`."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class CauseKind(StrEnum):
    """What can end a session before its time."""

    ERROR = "error"
    DEADLINE = "deadline"
    CANCEL = "cancel"
    OUTER_SCOPE = "outer_scope"
    CTRL_C = "ctrl_c"
    SIGTERM = "sigterm"


@define(frozen=True)
class EndCause:
    """What ended a session before its time: the first cause, if there were several.

    Attributes:
        kind: What it was.
        reason: Of a cancel, why: what `Session.cancel` was given, or what a drain says.
        call_id: Of an error, the innermost call that it came out of, `None` if it came from the body of the session.
    """

    kind: CauseKind
    reason: str | None = None
    call_id: int | None = None


# How many names of a long path are told.
_LONGEST_PATH: Final = 8


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
        is_replayed: Whether its outcome is that of an earlier run of a durable session, and the node did not run.
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
    is_replayed: bool = False


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
        cause: What ended it before its time, `None` if nothing did.
        left_behind: The nodes with `abandon_on_cancel=True` that were cancelled and left running, by name.
        dropped_calls: How many finished calls are not among `calls`, because of `history_limit`.
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
    cause: EndCause | None = None
    left_behind: tuple[str, ...] = ()
    dropped_calls: int = 0

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


@define(frozen=True)
class Counts:
    """How many calls of a session there are, records that were dropped included.

    Attributes:
        by_status: Their number by status.
        by_node: Their number by the name of the node.
        running: The records of those that run, in the order of their start, at most 100.
    """

    by_status: dict[Status, int]
    by_node: dict[str, int]
    running: tuple[CallRecord, ...] = field(repr=False)


# The statuses that a call can have.
CALL_STATUSES: Final = (Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELLED)
_MOST_RUNNING: Final = 100


@define(eq=False)
class _Census:
    """What was counted of the calls of a tree, so that no call is counted twice.

    Attributes:
        counted: The last call that was counted.
        nodes: The number of calls by node.
        unlucky: The number of calls that ended otherwise than with a result, by status.
        open: Those that ran when it was counted last.
    """

    counted: int = 0
    nodes: Counter[str] = field(factory=Counter[str])
    unlucky: Counter[Status] = field(factory=Counter[Status])
    open: list[int] = field(factory=list[int])


class Column(Protocol[T]):
    """What is known of each call under one head; a list, an array, or a window of one that forgets."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T: ...
    def __setitem__(self, index: int, value: T, /) -> None: ...
    def append(self, value: T, /) -> None: ...


class NodeLike(Protocol):
    """What a record needs to know of its node."""

    @property
    def name(self) -> str: ...

    def argument_names(self, count: int) -> tuple[str | None, ...]: ...


class AttemptLike(Protocol):
    """What a record needs to know of an attempt."""

    @property
    def number(self) -> int: ...


def utc(seconds: float) -> datetime:
    """Return a wall time as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


class CallTree:
    """All calls of one session, in the order of their start.

    A table with a column for each thing that is known of a call, and the call's id as its row: an object a call would
    cost twice the memory, and keep the garbage collector busy on the path of every call. Row 0 stands for the session.
    """

    __slots__ = (
        "_args",
        "_attempts",
        "_census",
        "_ended_at",
        "_kwargs",
        "_nodes",
        "_outcomes",
        "_parents",
        "_replayed",
        "_started_at",
        "_unlucky",
    )

    def __init__(self) -> None:
        self._nodes: Column[NodeLike | None] = [None]
        self._parents: Column[int] = array("q", [0])
        self._args: Column[tuple[Any, ...]] = [()]
        self._kwargs: dict[int, dict[str, Any]] = {}
        self._started_at: Column[float] = array("d", [0.0])
        # 0.0 while the call runs.
        self._ended_at: Column[float] = array("d", [0.0])
        self._outcomes: Column[Any] = [None]
        # The calls that ended otherwise than with a result.
        self._unlucky: dict[int, Status] = {}
        self._replayed: set[int] = set()
        # Numbers of attempts, where a call is not the first and only one.
        self._attempts: dict[int, int] = {}
        self._census = _Census()

    def __len__(self) -> int:
        return len(self._nodes) - 1

    @property
    def dropped(self) -> int:
        """How many calls it has had and no longer knows."""
        return 0

    def _ids(self) -> Collection[int]:
        """Return the calls that it knows, in the order of their start."""
        return range(1, len(self._nodes))

    def open(
        self,
        node: NodeLike,
        parent_id: int,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        attempt: AttemptLike | None = None,
    ) -> int:
        """Add a call, running from now on, and return its id.

        Args:
            node: Its node.
            parent_id: The call that it is made in, 0 for a top-level call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            attempt: Which attempt it is, where the node is tried again.
        """
        nodes = self._nodes
        call_id = len(nodes)
        nodes.append(node)
        self._parents.append(parent_id)
        self._args.append(args)
        if kwargs:
            self._kwargs[call_id] = kwargs
        if attempt is not None:
            self._attempts[call_id] = attempt.number
        self._outcomes.append(None)
        self._ended_at.append(0.0)
        self._started_at.append(time())
        return call_id

    def mark_replayed(self, call_id: int) -> None:
        """Mark a call as replayed: its outcome is that of an earlier run."""
        self._replayed.add(call_id)

    def complete(self, call_id: int, result: Any) -> None:
        """Close a call with what its node returned."""
        # On the path of every call: _close without its price.
        if self._ended_at[call_id]:
            self._refuse(call_id)
        self._outcomes[call_id] = result
        self._ended_at[call_id] = time()

    def fail(self, call_id: int, error: CallError) -> None:
        """Close a call with what its node raised."""
        self._close(call_id, Status.FAILED, error)

    def cancel(self, call_id: int) -> None:
        """Close a call that was cancelled."""
        self._close(call_id, Status.CANCELLED, None)

    def cancel_what_is_open(self) -> None:
        """Close what was left open: an interrupt can strike between any two steps of a call."""
        # Children first, as ever.
        for call_id in sorted((each for each in self._ids() if not self._ended_at[each]), reverse=True):
            self.cancel(call_id)

    def _close(self, call_id: int, status: Status, outcome: CallError | None) -> None:
        if self._ended_at[call_id]:
            self._refuse(call_id)
        self._unlucky[call_id] = status
        self._census.unlucky[status] += 1
        self._outcomes[call_id] = outcome
        self._ended_at[call_id] = time()

    def _refuse(self, call_id: int) -> NoReturn:
        raise RuntimeError(f"call {call_id} of {self.name(call_id)!r} is already {self.status(call_id)}")

    def name(self, call_id: int) -> str | None:
        """Return the name of a call's node, `None` for the session."""
        node = self._nodes[call_id]
        return None if node is None else node.name

    def status(self, call_id: int) -> Status:
        """Return where a call stands."""
        return self._unlucky.get(call_id, Status.COMPLETED) if self._ended_at[call_id] else Status.RUNNING

    def attempt(self, call_id: int) -> int:
        """Return which attempt a call is, counted from 1."""
        return self._attempts.get(call_id, 1)

    def times(self, call_id: int) -> tuple[datetime, datetime | None]:
        """Return when a call started, and when it ended if it has."""
        ended_at = self._ended_at[call_id]
        return utc(self._started_at[call_id]), utc(ended_at) if ended_at else None

    def counts(self) -> Counts:
        """Return how many calls there are by status and by node; costs what was opened since it was asked for last."""
        self._count_new_calls()
        census = self._census
        census.open = [call_id for call_id in census.open if not self._ended_at[call_id]]
        by_status = {Status.RUNNING: len(census.open), **census.unlucky}
        by_status[Status.COMPLETED] = len(self) - sum(by_status.values())
        return Counts(
            {status: by_status.get(status, 0) for status in CALL_STATUSES},
            dict(census.nodes),
            tuple(map(self.record, census.open[:_MOST_RUNNING])),
        )

    def _count_new_calls(self) -> None:
        census = self._census
        for call_id in range(census.counted + 1, len(self._nodes)):
            census.nodes[self.name(call_id) or ""] += 1
            if not self._ended_at[call_id]:
                census.open.append(call_id)
        census.counted = len(self)

    def path(self, call_id: int) -> tuple[str, ...]:
        """Return the names of the nodes from the top-level call down to a call; of a long way the lower end."""
        names: list[str] = []
        while call_id and len(names) < _LONGEST_PATH:
            names.append(self.name(call_id) or "")
            call_id = self._parents[call_id]
        if call_id:
            names.append("...")
        return tuple(reversed(names))

    def argument_names(self, call_id: int) -> tuple[str | None, ...]:
        """Return the names of the parameters that take a call's positional arguments."""
        node = self._nodes[call_id]
        return () if node is None else node.argument_names(len(self._args[call_id]))

    def failed_with(self, error: CallError) -> int | None:
        """Return the innermost call that failed with an error, which the calls around it share."""
        outcomes = self._outcomes
        return max((call_id for call_id in self._unlucky if outcomes[call_id] is error), default=None)

    def open_roots(self) -> set[int]:
        """Return the top-level calls that run."""
        return {call_id for call_id in self._ids() if not (self._parents[call_id] or self._ended_at[call_id])}

    def record(self, call_id: int) -> CallRecord:
        """Return the record of a call as it stands now."""
        status = self.status(call_id)
        outcome = self._outcomes[call_id]
        node = self._nodes[call_id]
        return CallRecord(
            id=call_id,
            parent_id=self._parents[call_id] or None,
            node="" if node is None else node.name,
            status=status,
            attempt=self.attempt(call_id),
            started_at=utc(self._started_at[call_id]),
            ended_at=None if status is Status.RUNNING else utc(self._ended_at[call_id]),
            args=self._args[call_id],
            kwargs=dict(self._kwargs.get(call_id, ())),
            result=outcome if status is Status.COMPLETED else None,
            error=outcome if status is Status.FAILED else None,
            is_replayed=call_id in self._replayed,
        )

    def records(self) -> Iterator[CallRecord]:
        """Return the records of all calls, one at a time."""
        return map(self.record, self._ids())

    def named_values(self) -> Iterator[tuple[str | None, Any]]:
        """Return all arguments and results, with the names that say whether they are secret."""
        for call_id in self._ids():
            yield from zip(self.argument_names(call_id), self._args[call_id], strict=True)
            yield from self._kwargs.get(call_id, {}).items()
            if call_id not in self._unlucky:
                yield None, self._outcomes[call_id]
