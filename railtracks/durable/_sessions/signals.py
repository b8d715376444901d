"""Words from outside to a durable session, and the wait for one: first in, first out, each heard once."""

from __future__ import annotations

import json
from typing import Any, TypeVar, overload

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from railtracks._calls.call import call
from railtracks._calls.here import frame_here
from railtracks._checks import check_name, check_timeout
from railtracks._nodes.node import Node, function_node
from railtracks._nodes.signature import TypedResult
from railtracks._workers.threads import in_thread
from railtracks.durable._replay.calls import Call, Special
from railtracks.durable._replay.journal import Journal
from railtracks.durable._replay.recorded import COMPLETED, FAILED
from railtracks.durable._sessions.store import StoreOption, access_of, store_of
from railtracks.durable._sessions.views import row_of
from railtracks.durable._sessions.wakeups import WAIT
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import now_of
from railtracks.durable._store.schema import FINAL, calls, signals
from railtracks.durable._store.signal_polling import SignalWaiter
from railtracks.durable._values.failures import dump_failure
from railtracks.exceptions import ContextError, SessionUnavailableError, SignalTimeoutError

T = TypeVar("T")


async def send_signal(
    session_id: str, name: str, value: Any = None, *, store: StoreOption, key: str | None = None
) -> None:
    """Send a signal to a durable session, whoever runs it, now or later. A checkpoint.

    Args:
        session_id: The session.
        name: Which of its waits it is for.
        value: What the wait returns; a value of JSON's own.
        store: The store that the session is in, as `durable` of a flow.
        key: A name for this signal: sent twice with the same key it is one signal.

    Raises:
        SessionUnavailableError: If there is no such session, or it is over.
        StoreError: If the store cannot be written.
        DurableValueError: If the value cannot be stored.
        TypeError: If something given is of the wrong type.
        ValueError: If a name is empty.
    """
    check_name("the name of a signal", name)
    if key is not None:
        check_name("the key of a signal", key)
    await in_thread(_send, access_of(store_of(store)), session_id, name, value, key)


def _send(access: Access, session_id: str, name: str, value: Any, key: str | None) -> None:
    data, _ = access.values.dump(value, Any, f"the value of signal {name!r}", name)
    with access.writing() as (connection, _, _):
        # Locked: it must not come to its end meanwhile, and another signal with this key must wait.
        row = row_of(connection, session_id, access, is_locked=True)
        if row.status in FINAL:
            raise SessionUnavailableError(session_id, f"is {row.status}: a signal would reach nobody")
        same = sa.select(signals.c.id).where(signals.c.session_id == session_id, signals.c.key == key)
        if key is not None and connection.execute(same).first() is not None:
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
async def wait_for_signal(name: str, kind: Any = Any, /, *, timeout: float | None = None, park: bool = False) -> Any:  # noqa: ASYNC109 - the same
    """Wait for a signal to this durable session, and return its value. A checkpoint.

    A call like any other: recorded in the same transaction that consumes the signal, so that each is heard once.

    Args:
        name: Which signal.
        kind: What its value is, for the check and for your type checker.
        timeout: Seconds from the first time that this was waited for, by the clock of the store; a session that is
            resumed gets what remains.
        park: When nothing but such waits is open in the session, put it aside: `SessionWaiting` is raised where it was
            invoked, and `recover` wakes it for a signal or when a timeout is over.

    Raises:
        SignalTimeoutError: If none came in time.
        ContextError: If no durable session is open here.
    """
    check_name("the name of a signal", name)
    if timeout is not None:
        check_timeout("timeout", timeout)
    if not isinstance(park, bool):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
        raise TypeError(f"park must be True or False, not {type(park).__name__}")
    frame = frame_here()
    if frame is None or frame.scope.journal is None:
        raise ContextError("wait_for_signal() is for durable sessions, and none is open here")
    node: Node[..., Any] = function_node(_Wait(name, kind), name=f"{WAIT}{name}")
    return await call(node, timeout, park)


class _Wait(Special, TypedResult):
    """The wait for one signal, as the function of a node."""

    def __init__(self, name: str, kind: Any) -> None:
        self._name = name
        self.result_kind = kind

    async def __call__(self, timeout: float | None, park: bool) -> Any:  # noqa: ARG002, ASYNC109, FBT001 - recorded as they are given
        raise ContextError(f"no signal {self._name!r} reaches a session that is being ended")

    async def durable_run(self, made: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - it has none
        """Wait as a call of a durable session."""
        timeout, park = args
        return await Waiting(made, self._name, self.result_kind, timeout).run(may_park=park)


class Waiting:
    """One wait, while it lasts."""

    def __init__(self, made: Call, name: str, kind: Any, timeout: float | None) -> None:
        self._made = made
        self._journal: Journal = made.journal
        self._name = name
        self._kind = kind
        self._timeout = timeout
        self._until: float | None = None
        self._row: dict[str, Any] = {}

    async def run(self, *, may_park: bool) -> Any:
        """Wait, consume and record."""
        journal, made = self._journal, self._made
        await self._begin()
        found = None
        # Another wait may be quicker.
        while found is None:
            journal.waiting[made.key] = (self._until, may_park)
            try:
                waiter = SignalWaiter(journal.session_id, self._name, self._until, journal.park_if_idle)
                await journal.ledger.signal_polling.until_due(waiter)
            finally:
                del journal.waiting[made.key]
            (self._row,) = journal.ledger.numbered([made.row(COMPLETED, None)])
            found = await journal.ledger.commit([], self.consume)
        made.settle_as_is()
        status, outcome = found
        if status == FAILED:
            raise SignalTimeoutError(self._name, self._timeout or 0.0)
        return journal.values.load(outcome, self._kind)

    async def _begin(self) -> None:
        """Have the store know of the wait, and since when: its timeout counts from there."""
        journal, made = self._journal, self._made
        if made.recorded is not None:
            self._until = json.loads(made.recorded.row.outcome)
            return
        if self._timeout is not None:
            self._until = await journal.ledger.peek(now_of) + self._timeout
        rows = made.openings()
        rows[-1]["outcome"] = json.dumps(self._until).encode()
        await journal.ledger.commit(rows)

    def _first(self) -> Any:
        session_id = self._journal.session_id
        return (
            sa.select(signals)
            .where(signals.c.session_id == session_id, signals.c.name == self._name, signals.c.consumed_by.is_(None))
            .order_by(signals.c.id)
            .limit(1)
        )

    def consume(self, connection: Connection) -> tuple[str, bytes] | None:
        """Consume the first signal, or find that the time is over, in one transaction with recording the outcome."""
        row = self._row
        there = sa.select(calls).where(calls.c.session_id == row["session_id"], calls.c.seq == row["seq"])
        mine = connection.execute(there).first()
        if mine is not None:
            # The answer to an earlier try was lost.
            return mine.status, mine.outcome
        found = connection.execute(self._first()).first()
        if found is not None:
            status, outcome = COMPLETED, found.value
            connection.execute(sa.update(signals).where(signals.c.id == found.id).values(consumed_by=row["key"]))
        elif self._until is not None and now_of(connection) >= self._until:
            error = SignalTimeoutError(self._name, self._timeout or 0.0)
            status, (outcome, _) = FAILED, dump_failure(error, self._journal.values)
        else:
            return None
        connection.execute(sa.insert(calls), [{**row, "status": status, "outcome": outcome}])
        return status, outcome
