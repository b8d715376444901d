"""Signals to a durable session, and the wait for one: first in, first out, each heard once.

Called by users as `rt.send_signal` and `rt.wait_for_signal`. A wait is a call like any other, of a node that is made
for it. The function of that node records its own outcome, in the transaction that consumes the signal.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, NamedTuple, TypeVar, overload

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._calls.call import call
from railtracks._calls.durable_values import Args, Kwargs
from railtracks._calls.here import IN_ANOTHER_PROCESS, frame_here, this_task
from railtracks._checks import check_flag, check_indexed, check_name, check_timeout
from railtracks._nodes.making import function_node
from railtracks._nodes.node import Node
from railtracks._nodes.signature import ANYTHING, Kind, TypedResult
from railtracks._workers.threads import in_thread
from railtracks.durable._replay.calls import LiveCall, SelfRecording
from railtracks.durable._replay.recorded import outcome_of
from railtracks.durable._replay.rows import NewRow
from railtracks.durable._sessions.store import StoreOption, access_of, store_of
from railtracks.durable._sessions.views import row_of
from railtracks.durable._sessions.waits import wanted_by
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import clock_of, now_of
from railtracks.durable._store.reading import LATEST, damaged, moment_after
from railtracks.durable._store.schema import FINAL, WAIT, RowStatus, calls, signals
from railtracks.durable._store.signal_polling import SignalWaiter
from railtracks.durable._values.alike import is_value
from railtracks.durable._values.failures import dump_failure
from railtracks.durable._values.stored import parsed, unreadable
from railtracks.durable._values.values import as_store_error
from railtracks.exceptions import ContextError, DurableValueError, SessionUnavailableError, SignalTimeoutError

T = TypeVar("T")


async def send_signal(
    session_id: str, name: str, value: object = None, *, store: StoreOption, key: str | None = None
) -> None:
    """Send a signal to a durable session, whichever process runs it, now or later. A checkpoint.

    Args:
        session_id: The session.
        name: Which of its waits it is for.
        value: What the wait returns; a JSON value.
        store: The store that the session is in, as `durable` of a flow.
        key: The signal key: sent twice with the same key, name and value it is one signal.

    Raises:
        SessionUnavailableError: If there is no such session, or it is over.
        StoreError: If the store cannot be written.
        DurableValueError: If the value cannot be stored.
        TypeError: If an argument is of the wrong type.
        ValueError: If the name or the key is empty, cannot be stored or has more than 1,000 bytes in UTF-8, or if the
            key is that of a signal with another name or value.
        RuntimeError: If Trio is not running.
    """
    check_name("the name of a signal", name)
    check_indexed("the name of a signal", name)
    if key is not None:
        check_name("the key of a signal", key)
        check_indexed("the key of a signal", key)
    this_task()
    await in_thread(_send, access_of(store_of(store)), session_id, name, value, key)


def _send(access: Access, session_id: str, name: str, value: object, key: str | None) -> None:
    data, _ = access.values.dump(value, ANYTHING, f"the value of signal {name!r}", name)
    with access.writing() as (connection, _, _):
        # Locked: meanwhile the session may not end, and another signal with this key has to wait.
        row = row_of(connection, session_id, access, is_locked=True)
        if row.status in FINAL:
            raise SessionUnavailableError(session_id, f"is {row.status}: a signal would reach nobody")
        same = sa.select(signals.c.name, signals.c.value).where(
            signals.c.session_id == session_id, signals.c.key == key
        )
        sent = None if key is None else connection.execute(same).first()
        if sent is not None:
            if not isinstance(sent.value, bytes):
                raise damaged(session_id, f"the value of signal {sent.name!r} is no bytes")
            if not (sent.name == name and is_value(access.values, sent.value, value, name)):
                raise ValueError(
                    f"session {session_id} has another signal with the key {key!r}, {sent.name!r}: the same key is for"
                    " the same name and value, to send one signal again"
                )
            return
        values = {"session_id": session_id, "name": name, "key": key, "value": data, "sent_at": now_of(connection)}
        connection.execute(sa.insert(signals).values(**values))


@overload
async def wait_for_signal(
    name: str,
    kind: type[T],
    /,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - by the clock of the store, and recorded
    park: bool = False,
) -> T: ...
@overload
async def wait_for_signal(name: str, /, *, timeout: float | None = None, park: bool = False) -> Any: ...  # noqa: ASYNC109 - the same
async def wait_for_signal(
    name: str,
    kind: Kind = ANYTHING,
    /,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - the same
    park: bool = False,
) -> object:
    """Wait for a signal to this durable session, and return its value. A checkpoint.

    A call like any other: recorded in the same transaction that consumes the signal, so that each is heard once.

    Args:
        name: Which signal.
        kind: The class of its value, for the check and for your type checker.
        timeout: Seconds from the first time that this was waited for, by the clock of the store; a session that is
            resumed gets what remains.
        park: Whether to park the session when nothing but such waits is open in it. `SessionWaiting` is raised where
            it was invoked, and `recover` wakes it for a signal or when a timeout is over.

    Raises:
        SignalTimeoutError: If none came in time.
        DurableValueError: If the value that came does not fit `kind`.
        ContextError: If no durable session is open here.
        TypeError: If an argument is of the wrong type.
        ValueError: If the name is empty, cannot be stored or has more than 1,000 bytes in UTF-8, or `timeout` is not
            more than 0.
    """
    check_name("the name of a signal", name)
    check_indexed("the name of a signal", name)
    if timeout is not None:
        check_timeout("timeout", timeout)
    check_flag("park", park)
    frame = frame_here()
    if frame is None or frame.scope.journal is None:
        raise ContextError(
            "wait_for_signal() works only in a durable session, and none is open here: give the session or flow"
            f" durable=...{IN_ANOTHER_PROCESS}"
        )
    node: Node[..., object] = function_node(SignalWaitFunction(name, kind), name=f"{WAIT}{name}")
    return await call(node, timeout, park)


class SignalWaitFunction(SelfRecording, TypedResult):
    """The function of the node that waits for one signal."""

    def __init__(self, name: str, kind: Kind) -> None:
        self._name = name
        self.result_kind = kind

    async def __call__(self, timeout: float | None, park: bool) -> object:  # noqa: ARG002, ASYNC109, FBT001 - recorded as they are given
        """Refuse to wait: only a call that is not recorded runs this."""
        raise ContextError(f"no signal {self._name!r} reaches a session that is being ended")

    async def run_recorded(self, made: LiveCall, args: Args, kwargs: Kwargs) -> object:  # noqa: ARG002 - it has none
        """Wait for the signal as a call of a durable session."""
        timeout, may_park = args
        seconds = timeout if isinstance(timeout, int | float) else None
        return await SignalWait(made, self._name, self.result_kind, seconds).run(may_park=bool(may_park))


class _Heard(NamedTuple):
    """How a wait ended: the status and the outcome that its transaction has written."""

    status: str
    outcome: bytes


class _Judged(NamedTuple):
    """The signal that comes next, and what the wait that consumes it returns or raises."""

    id: int
    heard: _Heard
    value: object = None
    misfit: DurableValueError | None = None


def _moment_in(outcome: bytes) -> float | None:
    """Return when a wait times out, as its first row says.

    Raises:
        DurableValueError: If the row has something else there.
    """
    until = parsed(outcome)
    if until is None or (isinstance(until, int | float) and 0 <= until <= LATEST):
        return until
    raise unreadable("the deadline of a wait", "the row has something else there")


class SignalWait:
    """Waits for one signal, consumes it, and records the outcome of the call that waits.

    Args:
        made: The call that waits.
        name: The name of the signal.
        kind: The annotation of its value.
        timeout: The seconds from the first time that this was waited for, `None` for no end.
    """

    def __init__(self, made: LiveCall, name: str, kind: Kind, timeout: float | None) -> None:
        self._call = made
        self._session_id = made.parts.commits.session_id
        self._name = name
        self._kind = kind
        self._timeout = timeout
        # When the wait times out, by the clock of the store.
        self._until: float | None = None

    async def run(self, *, may_park: bool) -> object:
        """Wait for the signal, consume it and record the outcome of the call.

        Args:
            may_park: Whether the session may be parked meanwhile.
        """
        made, parts = self._call, self._call.parts
        # First: a timeout that began in this process alone would begin anew in each resume
        # (test_durable_signals.py::test_a_timeout_counts_on_through_a_resume).
        await self._begin()
        heard: object = None
        judged: _Judged | None = None
        # A signal that was there at the look may be consumed by another wait.
        while not isinstance(heard, _Heard):
            with parts.parking.waits(made.key, self._until, may_park=may_park):
                waiter = SignalWaiter(self._session_id, self._name, self._until, parts.parking.park_if_idle)
                await parts.commits.signal_polling.until_due(waiter)
            await parts.parking.go_on()
            judged = self._judged(await parts.commits.peek(self._next_signal))
            # Not among the rows of the commit: which status the row gets is decided inside of the transaction.
            (row,) = parts.commits.numbered([made.row(RowStatus.COMPLETED, None)])
            heard = await parts.commits.commit([], partial(self._consume, row, judged))
        made.settled()
        if judged is None:
            raise self._timed_out()
        if judged.misfit is not None:
            try:
                raise judged.misfit
            finally:
                # The error holds this stack frame, which must not hold the error.
                del judged
        return judged.value

    def _judged(self, signal: tuple[int, bytes] | None) -> _Judged | None:
        """Return what becomes of a wait that consumes a signal, `None` if there is no signal.

        In the task that waits, as users' code may read the value; the transaction finds out whether the signal is still
        the next one.
        """
        if signal is None:
            return None
        identifier, data = signal
        parts = self._call.parts
        try:
            value = parts.values.load_as(data, self._kind, f"the value of signal {self._name!r}")
        except DurableValueError as error:
            # The same error now and in each resume: a recorded one quotes no secret.
            misfit = DurableValueError(error.place, parts.failures.safe_text(error.problem), error.action)
            failure, _ = parts.failures.dump(misfit)
            return _Judged(identifier, _Heard(RowStatus.FAILED.value, failure), misfit=misfit)
        return _Judged(identifier, _Heard(RowStatus.COMPLETED.value, data), value)

    async def _begin(self) -> None:
        """Record that the wait has begun, and when it times out: a resumed session reads that instead."""
        row = None if self._call.recorded is None else self._call.recorded.row
        # A wait in a later attempt, which a person had begin anew, has no deadline until code comes there.
        if row is not None and not (row.status == RowStatus.RETRIED and row.outcome is None):
            with as_store_error(self._session_id):
                self._until = _moment_in(outcome_of(row))
            return
        if self._timeout is not None:
            self._until = moment_after(await self._call.parts.commits.peek(now_of), self._timeout)
        wanted = wanted_by(self._name, self._kind, self._call.parts.values.sealer)
        await self._call.commit_opening(json.dumps(self._until).encode(), wanted)

    def _timed_out(self) -> SignalTimeoutError:
        return SignalTimeoutError(self._name, self._timeout or 0.0)

    def _consume(self, row: NewRow, judged: _Judged | None, connection: Connection) -> _Heard | None:
        """Consume the signal, or find that the wait has timed out, and record that in the same transaction.

        Args:
            row: The row of the outcome.
            judged: The signal, `None` if there was none.
            connection: The connection of the transaction.

        Returns:
            The outcome; `None` if another signal is the next one by now, and nothing is recorded.
        """
        columns = sa.select(calls.c.status, calls.c.outcome)
        known = connection.execute(columns.where(calls.c.session_id == self._session_id, calls.c.seq == row["seq"]))
        for status, outcome in known:
            # The commit is tried again because the answer to the first try was lost.
            return _Heard(status, outcome)
        # A signal that is there counts before a timeout that is over: the transaction decides their race
        # (test_durable_signals.py::test_a_signal_and_a_timeout_race_has_one_end).
        signal = self._next_signal(connection)
        heard: _Heard | None = None
        if signal is not None and judged is not None and signal[0] == judged.id:
            heard = judged.heard
            connection.execute(
                sa.update(signals)
                .where(signals.c.id == judged.id)
                .values(consumed_by=self._call.key, consumed_at=clock_of(connection.dialect))
            )
        if signal is None and judged is None and self._until is not None and now_of(connection) >= self._until:
            failure, _ = dump_failure(self._timed_out(), self._call.parts.values)
            heard = _Heard(RowStatus.FAILED.value, failure)
        if heard is not None:
            connection.execute(sa.insert(calls), [{**row, "status": heard.status, "outcome": heard.outcome}])
        return heard

    def _next_signal(self, connection: Connection) -> tuple[int, bytes] | None:
        """Return the oldest signal of this name that no wait has consumed, `None` if there is none."""
        query = (
            sa.select(signals.c.id, signals.c.value)
            .where(
                signals.c.session_id == self._session_id,
                signals.c.name == self._name,
                signals.c.consumed_by.is_(None),
            )
            .order_by(signals.c.id)
            .limit(1)
        )
        found = connection.execute(query).first()
        if found is None:
            return None
        if not isinstance(found.value, bytes):
            raise damaged(self._session_id, f"the value of signal {self._name!r} is no bytes")
        return found.id, found.value
