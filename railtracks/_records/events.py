"""What happens in a session, as frozen records: the events that observers are told of.

Made by the core where something happens, if an observer listens (`observers`).
"""

# No "from __future__ import annotations": it makes texts of the annotations, and each of a NamedTuple would be compiled
# by every import of the package.

from collections.abc import Callable
from enum import StrEnum
from time import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from railtracks._records.ends import Status
from railtracks._records.open_calls import Timeouts
from railtracks._records.tree import CallTree

if TYPE_CHECKING:
    from railtracks._records.data import CallRecord, Counts, ExecutionInfo
    from railtracks._records.roles import CallRole


class EventKind(StrEnum):
    """What an event tells of."""

    SESSION_OPENED = "session_opened"
    SESSION_CLOSED = "session_closed"
    CALL_STARTED = "call_started"
    CALL_COMPLETED = "call_completed"
    CALL_FAILED = "call_failed"
    CALL_RETRIED = "call_retried"
    CALL_CANCELLED = "call_cancelled"
    CALL_OVERRAN = "call_overran"
    WORKER_LEFT_BEHIND = "worker_left_behind"
    BROADCAST = "broadcast"
    LOGGED = "logged"


class SessionEvent(NamedTuple):
    """A session was opened or closed.

    Attributes:
        kind: `SESSION_OPENED` or `SESSION_CLOSED`.
        session: The session.
        at: When it happened, in seconds since the epoch.
        parent_session_id: The identifier of the session that it was opened in, `None` if it was opened in none.
        parent_call_id: The call of that session that it was opened in, `None` if it was opened in no call.
        tree: The calls of the session, and the secrets that it has seen.
        timeouts: The timeouts of the session and of its calls.
        head: Returns what is known of the session now, without its calls: quick at any size.
        run: Its run in a store, `None` if it is not durable.
    """

    kind: EventKind
    session: "ObservedSession"
    at: float
    parent_session_id: str | None
    parent_call_id: int | None
    tree: CallTree
    timeouts: Timeouts
    head: "Callable[[], ExecutionInfo]"
    run: "TracedRun | None"


class CallEvent(NamedTuple):
    """Something happened to a call. Of a replayed call of a durable session no event is made.

    It is handed over in the task of the call, with the context variables of its caller. So an observer that sets a
    context variable when a call starts can reset it when the call ends.

    Attributes:
        kind: What happened. `CALL_RETRIED`: an attempt failed, and another attempt follows, which is a call of its
            own. `CALL_OVERRAN`: an async node came back with a result after its timeout, and so the attempt fails.
            `WORKER_LEFT_BEHIND`: the call is being cancelled, and its worker thread goes on running.
        at: When it happened, in seconds since the epoch.
        session_id: The identifier of the session of the call.
        call_id: The call.
        parent_id: The call it was made in, `None` for a top-level call.
        run_id: The top-level call that it belongs to; its own id for a top-level call.
        node: The name of its node.
        parent: The name of the node it was made in, `None` for a top-level call.
        attempt: Which attempt of the call this is, counted from 1.
        status: Where the call stands.
        started_at: When it started, in seconds since the epoch.
        ended_at: When it ended, likewise; `None` while it runs.
        tree: The calls of the session, for `record` and `path`.
        is_kept: Whether a failure of the call is a value to the code that made it, as in a group that keeps errors.
    """

    kind: EventKind
    at: float
    session_id: str
    call_id: int
    parent_id: int | None
    run_id: int
    node: str
    parent: str | None
    attempt: int
    status: Status
    started_at: float
    ended_at: float | None
    tree: CallTree
    is_kept: bool = False

    def record(self) -> "CallRecord":
        """Return the record of the call as it stands now, with its arguments, result and error.

        Call this while the event is handed over: with `history_limit` the record may be dropped when the next call
        starts.

        Raises:
            KeyError: If the record was dropped.
        """
        return self.tree.record(self.call_id)

    @property
    def role(self) -> "CallRole | None":
        """What the call is to an agent: a run of one, a request to its model, or a tool call.

        Raises:
            KeyError: If the record was dropped, as for `record`.
        """
        return self.tree.role(self.call_id)

    def path(self) -> tuple[str, ...]:
        """Return the names of the nodes from the top-level call down to the call; of a long path the lower end.

        Raises:
            KeyError: If the record was dropped, as for `record`.
        """
        return self.tree.path(self.call_id)


class BroadcastEvent(NamedTuple):
    """An item was broadcast, whether the session has a `broadcast_callback` or not.

    Attributes:
        kind: `BROADCAST`.
        session_id: The identifier of the session.
        item: The item itself, not a copy.
        at: When it happened, in seconds since the epoch.
    """

    kind: EventKind
    session_id: str
    item: object
    at: float


class LogEvent(NamedTuple):
    """A line was logged.

    Lines below WARNING are only logged where something shows them: a logger of the process, or the session itself.

    Attributes:
        kind: `LOGGED`.
        session_id: The identifier of the session.
        logger: The name of the logger, `RT` or one below it.
        level: The level, as of `logging`.
        text: The line, without secrets.
        call_id: The call that it is about, `None` if it is about the session.
        at: When it happened, in seconds since the epoch.
    """

    kind: EventKind
    session_id: str
    logger: str
    level: int
    text: str
    call_id: int | None
    at: float


Event: TypeAlias = SessionEvent | CallEvent | BroadcastEvent | LogEvent


class ObservedSession(Protocol):
    """A session as an observer sees it: an `rt.Session`."""

    @property
    def identifier(self) -> str:
        """The identifier of the session."""
        ...

    @property
    def name(self) -> str | None:
        """The name it was given."""
        ...

    @property
    def flow_name(self) -> str | None:
        """The name of the flow that it is a run of."""
        ...

    @property
    def status(self) -> Status:
        """Where the session stands."""
        ...

    @property
    def info(self) -> "ExecutionInfo":
        """The session and all its calls; the time it takes grows with their number."""
        ...

    @property
    def counts(self) -> "Counts":
        """How many calls there are, and which run; quick at any size."""
        ...


class TracedRun(Protocol):
    """A run of a durable session, as an observer sees it that makes traces. Each run of a session has its own trace."""

    @property
    def former_trace(self) -> str | None:
        """The trace of the last run of the session, as W3C's `traceparent`; `None` if that is not known."""
        ...

    def note_trace(self, trace: str) -> None:
        """Note the trace of this run, for a run that goes on with the session later."""
        ...


def call_event(  # noqa: PLR0917 - made for each call that somebody observes
    kind: EventKind,
    session_id: str,
    tree: CallTree,
    call_id: int,
    parent_id: int,
    run_id: int,
    *,
    is_kept: bool = False,
) -> CallEvent:
    """Return the event that tells what happened to a call just now."""
    started_at, ended_at = tree.times(call_id)
    at = started_at if kind is EventKind.CALL_STARTED else ended_at or now()
    return CallEvent(
        kind,
        at,
        session_id,
        call_id,
        parent_id or None,
        run_id,
        tree.name(call_id) or "",
        tree.name(parent_id),
        tree.attempt(call_id),
        tree.status(call_id),
        started_at,
        ended_at,
        tree,
        is_kept,
    )


def now() -> float:
    """Return the wall time, in seconds since the epoch."""
    return time()
