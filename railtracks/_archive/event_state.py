"""A session and its calls, put together from its events one by one.

Called by the reader of events.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Final

from railtracks._archive.documents import (
    Document,
    cause_in,
    error_in,
    number_in,
    optional_moment_in,
    optional_number_in,
    optional_text_in,
    status_in,
    text_in,
)
from railtracks._checks import is_dict, is_list
from railtracks._records.data import CallError, CallRecord, EndCause, ExecutionInfo, Status
from railtracks._records.events import EventKind

_ENDS: Final = {
    EventKind.CALL_COMPLETED: Status.COMPLETED,
    EventKind.CALL_FAILED: Status.FAILED,
    EventKind.CALL_RETRIED: Status.FAILED,
    EventKind.CALL_CANCELLED: Status.CANCELLED,
}
# Of a call that failed, where the line does not say how.
_UNKNOWN: Final = CallError("unknown", "")


def of_all(_: int) -> bool:
    """Have the values of all calls kept."""
    return True


def of_none(_: int) -> bool:
    """Have no values kept."""
    return False


class _Call:
    """One call, as its events tell of it until now."""

    __slots__ = (
        "args",
        "attempt",
        "ended_at",
        "error",
        "has_values",
        "kwargs",
        "node",
        "parent_id",
        "result",
        "started_at",
        "status",
    )

    def __init__(self, started_at: datetime, fields: Document, *, has_values: bool) -> None:
        """Begin with the first event of the call.

        Args:
            started_at: When that happened.
            fields: What its line says.
            has_values: Whether the arguments and the result are kept.

        Raises:
            ValueError: If it does not tell of a call.
        """
        args, kwargs = (fields.get("args"), fields.get("kwargs")) if has_values else (None, None)
        self.parent_id = optional_number_in(fields, "parent")
        self.node = text_in(fields, "node")
        self.attempt = number_in(fields, "attempt")
        self.started_at = started_at
        self.ended_at: datetime | None = None
        self.status = Status.RUNNING
        self.args: tuple[object, ...] = tuple(args) if is_list(args) else ()
        self.kwargs = {str(name): value for name, value in kwargs.items()} if is_dict(kwargs) else {}
        self.has_values = has_values
        self.result: object = None
        self.error: CallError | None = None

    def end(self, status: Status, at: datetime, fields: Document) -> None:
        """Take the event of its end.

        Raises:
            ValueError: If its error is none.
        """
        self.error = (error_in(fields) or _UNKNOWN) if status is Status.FAILED else None
        self.result = fields.get("result") if self.has_values and status is Status.COMPLETED else None
        self.status, self.ended_at = status, max(self.started_at, at)

    def record(self, call_id: int, parent_id: int | None, ended_at: datetime | None) -> CallRecord:
        """Return the record of the call.

        Args:
            call_id: Its id.
            parent_id: The call it was made in.
            ended_at: When the session ended: a call of which no end is known was cancelled then.
        """
        is_left = self.ended_at is None and ended_at is not None
        return CallRecord(
            id=call_id,
            parent_id=parent_id,
            node=self.node,
            status=Status.CANCELLED if is_left else self.status,
            attempt=self.attempt,
            started_at=self.started_at,
            ended_at=ended_at if is_left else self.ended_at,
            args=self.args,
            kwargs=self.kwargs,
            result=self.result,
            error=self.error,
        )


class EventState:
    """A session as its events tell of it until now.

    Args:
        session_id: Its identifier.
        values: Returns whether the arguments and the result of a call are kept, by its id.
        has_ended_calls: Whether calls that have ended are kept.
    """

    def __init__(self, session_id: str, values: Callable[[int], bool], *, has_ended_calls: bool) -> None:
        self._session_id = session_id
        self._values = values
        self._has_ended_calls = has_ended_calls
        self._names: tuple[str | None, str | None, str | None] = (None, None, None)
        self._timeout: float | None = None
        self._started_at: datetime | None = None
        self._last_at: datetime | None = None
        self._status = Status.RUNNING
        self._ended_at: datetime | None = None
        self._error: CallError | None = None
        self._cause: EndCause | None = None
        self._left_behind: list[str] = []
        # How many calls it has had, once it has ended.
        self._total: int | None = None
        self._calls: dict[int, _Call] = {}

    def begin(self, head: Document) -> None:
        """Take the first line of a file.

        Raises:
            ValueError: If something in it is of the wrong kind.
        """
        timeout = head.get("timeout")
        names = tuple(optional_text_in(head, name) for name in ("session_name", "flow_name", "flow_id"))
        self._names = (names[0], names[1], names[2])
        self._timeout = timeout if isinstance(timeout, int | float) and 0 < timeout < math.inf else None
        self._started_at = self._started_at or optional_moment_in(head, "started_at")
        if head.get("segment") == 1 and self._last_at is not None:
            # A new run: what the one before has left open ended with it.
            for call in self._calls.values():
                if call.ended_at is None:
                    call.end(Status.CANCELLED, self._last_at, {})

    def take(self, kind: str, at: datetime, fields: Document) -> None:
        """Take an event.

        Raises:
            ValueError: If something in it is of the wrong kind; then nothing of it counts.
        """
        self._last_at = at
        self._started_at = self._started_at or at
        if kind == EventKind.SESSION_OPENED:
            self._status, self._ended_at, self._error, self._cause = Status.RUNNING, None, None, None
            self._total = None
        elif kind == EventKind.SESSION_CLOSED:
            status, error, cause = status_in(fields), error_in(fields), cause_in(fields)
            ended_at = optional_moment_in(fields, "ended_at") or at
            self._total = optional_number_in(fields, "calls")
            self._status, self._error, self._cause, self._ended_at = status, error, cause, ended_at
        elif fields.get("call") is not None:
            self._take_call(EventKind(kind), at, fields)

    def _take_call(self, kind: EventKind, at: datetime, fields: Document) -> None:
        call_id = number_in(fields, "call")
        call = None if kind is EventKind.CALL_STARTED else self._calls.get(call_id)
        if call is None:
            # Of another call with this id only an earlier run can have told, or its beginning is missing.
            call = _Call(at, fields, has_values=self._values(call_id))
            # Each name once: every line has it anew.
            call.node = sys.intern(call.node)
        status = _ENDS.get(kind)
        if status is not None:
            call.end(status, at, fields)
        elif kind is EventKind.WORKER_LEFT_BEHIND:
            self._left_behind.append(call.node)
        if call.ended_at is None or self._has_ended_calls:
            self._calls[call_id] = call
        else:
            self._calls.pop(call_id, None)

    def info(self) -> ExecutionInfo:
        """Return the session and its calls as they stand."""
        calls, ended_at = self._calls, self._ended_at
        name, flow_name, flow_id = self._names
        return ExecutionInfo(
            session_id=self._session_id,
            session_name=name,
            flow_name=flow_name,
            flow_id=flow_id,
            status=self._status,
            started_at=self._started_at,
            ended_at=ended_at,
            timeout=self._timeout,
            error=self._error,
            context_keys=(),
            calls=tuple(
                # A parent whose events are missing cannot be shown.
                call.record(
                    call_id, call.parent_id if call.parent_id in calls and call.parent_id < call_id else None, ended_at
                )
                for call_id, call in sorted(calls.items())
            ),
            cause=self._cause,
            left_behind=tuple(self._left_behind),
            # A damaged line may tell of a call with any number.
            dropped_calls=max((max(calls, default=0) if self._total is None else self._total) - len(calls), 0),
        )
