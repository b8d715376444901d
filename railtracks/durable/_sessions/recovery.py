"""Sessions that no process runs any more, resumed by a process that has their flows.

Called by users as `rt.recover`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import sqlalchemy as sa
import trio
from attrs import define
from sqlalchemy.engine import Connection

from railtracks._calls.here import this_task
from railtracks._calls.inputs import limiter_of
from railtracks._sessions.flow import Flow
from railtracks._workers.threads import in_thread
from railtracks.durable._sessions.store import StoreOption, access_of, store_of
from railtracks.durable._sessions.wakeups import is_due
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import now_of
from railtracks.durable._store.ownership import ProcessOwner
from railtracks.durable._store.reading import session_row, shown_id
from railtracks.durable._store.schema import FINAL, SESSION_HEAD, DurableStatus, SessionRow, sessions
from railtracks.exceptions import SessionOwnedError, SessionUnavailableError, SessionWaiting, StoreError


class _Found(NamedTuple):
    """A session that is not over, as a look has found it.

    Attributes:
        session_id: Its identifier.
        row: Its row, `None` if that is damaged.
        why: Why it is left alone, `None` if it is to be resumed.
    """

    session_id: str
    row: SessionRow | None
    why: str | None


@define(frozen=True)
class Recovery:
    """Which sessions one call of `recover` resumed, which of these failed, and which it left alone.

    Attributes:
        resumed: The identifiers of the sessions that it resumed and that have ended: for good, or to wait again.
        failed: By identifier, the errors of the sessions that it resumed and that ended with an error.
        skipped: By identifier, the reasons why it left the other sessions alone.
    """

    resumed: tuple[str, ...]
    failed: dict[str, BaseException]
    skipped: dict[str, str]


@trio.lowlevel.enable_ki_protection
async def recover(
    store: StoreOption, flows: Sequence[Flow[..., Any]], limit: float | trio.CapacityLimiter | None = 10
) -> Recovery:
    """Resume the sessions of these flows that no process runs, and wait for them.

    Left alone are sessions of another version than the flow's own, and those that a live owner has. So are those that
    are stuck, and those that wait for a signal which has not come. A session inside another one is resumed by that
    one. The error of a session is returned and cancels nothing. A checkpoint; a cancellation interrupts what was
    resumed.

    Args:
        store: The store to look in, as `durable` of a flow.
        flows: The flows; nothing is imported because a store names it.
        limit: How many sessions may run at once: a number, or a `trio.CapacityLimiter`. `None`: all.

    Raises:
        ValueError: If two flows have the same name and version, or `limit` is less than 1.
        TypeError: If one of the flows is no flow, or `limit` is neither number nor limiter.
        StoreError: If the store cannot be read.
        RuntimeError: If Trio is not running.
    """
    known = _known(flows)
    limiter, opened = limiter_of(limit), store_of(store)
    done = _Recovering()
    this_task()
    await trio.lowlevel.checkpoint()
    found = await in_thread(_look, access_of(opened))
    async with trio.open_nursery() as nursery:
        for session_id, row, why in found:
            flow = None if row is None else known.get((row.flow_name, row.version))
            if row is not None and flow is None:
                is_known = any(name == row.flow_name for name, _ in known)
                done.skipped[session_id] = f"it is of version {row.version!r}" if is_known else "its flow was not given"
            elif flow is None or why is not None:
                done.skipped[session_id] = why or ""
            else:
                nursery.start_soon(done.resume, flow.in_store(opened), session_id, limiter)
    return Recovery(tuple(done.resumed), done.failed, done.skipped)


def _known(flows: Sequence[Flow[..., object]]) -> dict[tuple[str | None, str | None], Flow[..., object]]:
    """Return flows by their names and versions, which the row of a session has, too."""
    known: dict[tuple[str | None, str | None], Flow[..., object]] = {}
    for flow in flows:
        if not isinstance(flow, Flow):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all are checked
            raise TypeError(f"recover() resumes flows, not {type(flow).__name__}")
        if known.setdefault((flow.name, flow.version), flow) is not flow:
            raise ValueError(
                f"two flows are called {flow.name!r} in version {flow.version!r}: give each a name or a version of its"
                " own"
            )
    return known


class _Recovering:
    """The sessions that are being resumed, and what became of each so far."""

    def __init__(self) -> None:
        self.resumed: list[str] = []
        self.failed: dict[str, BaseException] = {}
        self.skipped: dict[str, str] = {}

    @trio.lowlevel.enable_ki_protection
    async def resume(self, flow: Flow[..., object], session_id: str, limiter: trio.CapacityLimiter | None) -> None:
        """Resume one session and note how it ended. Its error is noted, too, and not raised."""
        try:
            async with limiter or nullcontext():
                await flow.aresume(session_id)
        except SessionWaiting:
            self.resumed.append(session_id)
        except (SessionOwnedError, SessionUnavailableError, StoreError) as error:
            # Another process was quicker, or the session cannot be resumed now.
            self.skipped[session_id] = str(error)
        except Exception as error:  # noqa: BLE001 - a session's own error is its outcome, returned and not raised
            self.failed[session_id] = error
        else:
            self.resumed.append(session_id)


def _look(access: Access) -> list[_Found]:
    """Return the sessions that are not over, each with the reason to leave it alone, or with `None`."""
    with access.reading() as (connection, _, owner):
        now, live = now_of(connection), owner.live_owners(connection)
        # Not those that are over, for a status that this library does not know is a damage, and to be told of.
        query = sa.select(*SESSION_HEAD).where(sessions.c.status.not_in(FINAL)).order_by(sessions.c.created_at)
        rows: list[SessionRow] = []
        found: list[_Found] = []
        for each in connection.execute(query):
            try:
                rows.append(session_row(each))
            except StoreError as damage:
                found.append(_Found(shown_id(each[0]), None, damage.problem))
        open_ids = {row.session_id for row in rows}
        for row in rows:
            try:
                why = _reason_to_skip(connection, owner, row, open_ids, live, now)
            except StoreError as damage:
                why = damage.problem
            found.append(_Found(row.session_id, row, why))
    return found


def _reason_to_skip(  # noqa: PLR0917 - what one look has found
    connection: Connection,
    owner: ProcessOwner,
    row: SessionRow,
    open_ids: Collection[str],
    live: frozenset[str],
    now: float,
) -> str | None:
    """Return why a session that is not over is left alone, `None` if it is to be resumed."""
    # First, because no other reason matters then.
    if row.parent in open_ids:
        return f"session {row.parent} resumes it"
    if row.status == DurableStatus.STUCK:
        return f"it is stuck: it was taken over {row.recoveries} times without progress"
    if not owner.is_free(row, live):
        return "a live owner has it"
    if row.status == DurableStatus.WAITING and not is_due(connection, row, now):
        return "it waits for a signal"
    return None
