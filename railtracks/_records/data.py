"""The records of sessions and calls as plain data: what users, files and observers read.

Called by everything that reads or makes a record. Nothing here knows how records are kept while a session is open.

Imported when the first session opens, and not with the package: classes of records take long to make.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from attrs import define, field

from railtracks._extras import exports_package
from railtracks._records.ends import CallError, CauseKind, EndCause, Status

__all__ = [
    "SCHEMA",
    "CallError",
    "CallRecord",
    "CauseKind",
    "Counts",
    "CurrentCall",
    "EndCause",
    "ExecutionInfo",
    "RemoteOrigin",
    "Status",
    "utc",
]

# The number of the format of saved states.
SCHEMA: Final = 1


@define(frozen=True)
class RemoteOrigin:
    """Where a call ran that `rt.submit` or `rt.map_flow` has sent to a worker, or a call inside of it.

    The times of the record are shifted to the clock of this program; here are those of the worker.

    Attributes:
        session_id: The identifier of the session on the worker.
        worker: The worker, as its engine names it; of executors the name of the host and the process id.
        call_id: The id that the call has in that session; `None` for the record of the flow itself.
        started_at: When it started by the clock of the worker, in UTC; `None` for the record of the flow itself.
        ended_at: When it ended by the clock of the worker, in UTC.
        missing: Of the flow's record: how many records of its calls have not arrived.
    """

    session_id: str
    worker: str
    call_id: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    missing: int = 0


@define(frozen=True)
class CallRecord:
    """One call of a node, as it stood when the record was asked for.

    Attributes:
        id: Unique in the session; calls are numbered from 1 in the order of their start.
        parent_id: The call this one was made in, `None` for a top-level call.
        node: The node's name.
        status: The status of the call.
        attempt: Which attempt of the call this is, counted from 1.
        started_at: When the record was opened, in UTC.
        ended_at: When it was closed, in UTC; `None` while the call runs.
        args: The positional arguments.
        kwargs: The keyword arguments.
        result: What the node returned; `None` unless the call is completed.
        error: What the node raised, as text, or how the call was lost; `None` unless the call failed or was lost.
        is_replayed: Whether the call got its outcome from an earlier run of a durable session; its node did not run.
        remote: Where the call ran, if that was in a session on a worker of another program.
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
    remote: RemoteOrigin | None = None


@define(frozen=True)
class CurrentCall:
    """The call around some code, as `current_call` found it.

    Attributes:
        id: Its number in its session, as in `CallRecord.id`.
        node: The node's name.
        attempt: Which attempt of the call this is, counted from 1.
        parent_id: The call it was made in, `None` for a top-level call.
        session_id: The identifier of its session.
    """

    id: int
    node: str
    attempt: int
    parent_id: int | None
    session_id: str


# Not slotted: the `__getattr__` that attrs gives a slotted class with a cached property breaks help() on Python 3.13.
@define(frozen=True, slots=False)
class ExecutionInfo:
    """A session and its calls as plain data: a running one's as it stood, or a saved one's.

    Attributes:
        session_id: The session's identifier.
        session_name: Its name, if it has one.
        flow_name: The name of the flow it is a run of, if it is.
        flow_id: The id that was given for the flow, if one was.
        status: The status of the session.
        started_at: When it was entered, in UTC; `None` before that.
        ended_at: When its block was left and everything in it had ended, in UTC; `None` while it runs.
        timeout: Its timeout in seconds, `None` if it has none.
        error: The error that ended it, as text; `None` if none did.
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
        """The result of the first top-level call, `None` if there is none, or its record was dropped."""
        first = next((call for call in self.calls if call.parent_id is None), None)
        # The first call of a session is a top-level one.
        is_first = first is not None and (first.id == 1 or not self.dropped_calls)
        return first.result if first is not None and is_first else None

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

    def _repr_html_(self) -> str:
        """Return the session as a notebook shows it: static HTML, without scripts."""
        html: str = exports_package().cell_of(self)
        return html

    @cached_property
    def _by_parent(self) -> dict[int | None, tuple[CallRecord, ...]]:
        found: dict[int | None, list[CallRecord]] = {None: [], **{call.id: [] for call in self.calls}}
        for call in self.calls:
            found.setdefault(call.parent_id, []).append(call)
        return {parent_id: tuple(calls) for parent_id, calls in found.items()}


@define(frozen=True)
class Counts:
    """How many calls a session has had until now; calls whose records were dropped count, too.

    Attributes:
        by_status: The number of calls by status: `RUNNING`, `COMPLETED`, `FAILED`, `CANCELLED`; and
            `LOST`, where there are any.
        by_node: The number of calls by the name of their node.
        running: The records of the running calls, in the order of their start: the first 100 at most.
    """

    by_status: dict[Status, int]
    by_node: dict[str, int]
    running: tuple[CallRecord, ...] = field(repr=False)


def utc(seconds: float) -> datetime:
    """Return a wall time as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)
