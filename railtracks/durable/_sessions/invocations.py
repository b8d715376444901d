"""What the core asks the wing for, once it is imported: stores, runs of sessions, and what is recorded of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio

from railtracks._calls.frames import Frame, frame_here
from railtracks._nodes.node import Node, function_node
from railtracks._workers.threads import in_thread
from railtracks.durable._replay.calls import Call
from railtracks.durable._replay.journal import Journal
from railtracks.durable._replay.recorded import COMPLETED
from railtracks.durable._replay.strands import ROOT
from railtracks.durable._sessions.run import Run, raise_recorded
from railtracks.durable._sessions.store import access_of, store_of
from railtracks.durable._sessions.views import row_of
from railtracks.durable._sessions.wakeups import is_due
from railtracks.durable._store.access import Access
from railtracks.durable._store.database import now_of
from railtracks.durable._store.wanted import Taken, Wanted
from railtracks.durable._values.values import StandIn, shape_of
from railtracks.exceptions import SessionWaiting, StoreError

__all__ = [
    "InnerFlow",
    "Run",
    "Wanted",
    "access_of",
    "block_here",
    "journal_here",
    "outcome_of_final",
    "store_of",
]


def outcome_of_final(access: Access, taken: Taken, node: Node[..., Any]) -> Any:
    """Return the recorded result of a session that is over, or raise its recorded error."""
    row = taken.session
    raise_recorded(access, row)
    for call in reversed(taken.rows):
        # Whichever attempt it was.
        is_entry = (call.strand, call.position, call.place) == (ROOT, 0, -1)
        if is_entry and call.status == COMPLETED and call.outcome is not None:
            return access.values.load(call.outcome, shape_of(node.fn).result)
    raise StoreError(f"session {row.session_id} is {row.status}, and its result is not in the store")


def journal_here() -> Journal | None:
    """Return the journal of the durable session around this code, `None` if it is in none."""
    frame = frame_here()
    return None if frame is None else cast("Journal | None", frame.scope.journal)


def block_here(name: str) -> tuple[str, str, str] | None:
    """Return identifier, seed and parent of a session block that is opened in a durable session; `None` if in none."""
    if not trio.lowlevel.in_trio_task():
        return None
    journal = journal_here()
    return None if journal is None else (*journal.inner(cast("Frame", frame_here()), name), journal.session_id)


class InnerFlow(StandIn):
    """A durable flow that is invoked in a durable session: a call of it, which resumes a session of its own.

    Args:
        access: The store of the flow.
        node: Its entry point.
        run: Runs the session of an identifier, a seed and a parent.
    """

    def __init__(
        self, access: Access, node: Node[..., Any], run: Callable[[tuple[str, str, str]], Awaitable[Any]]
    ) -> None:
        self.stands_for = node.fn
        self._access = access
        self._run = run
        self._made: Call

    async def invoke(self, flow: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Invoke it as the next call of the task that does so, and return its result or the recorded one."""
        frame = cast("Frame", frame_here())
        journal = cast("Journal", frame.scope.journal)
        node: Node[..., Any] = function_node(self, name=f"flow {flow}")
        made = self._made = journal.enter(frame, node, args, kwargs)
        try:
            if made.is_replayed:
                await made.pass_checkpoint()
            result = await made.run(frame, args, kwargs)
        except BaseException as error:
            made.left(error)
            raise
        made.left(None)
        return result

    async def __call__(self, *_: object, **__: object) -> Any:
        """Run the session; while it is put aside this one waits with it."""
        made, journal = self._made, self._made.journal
        session_id, seed = journal.inside(made.spot.key or made.key)
        while True:
            try:
                return await self._run((session_id, seed, journal.session_id))
            except SessionWaiting:
                journal.waiting[made.key] = (None, True)
            try:
                while not await in_thread(self._is_due, session_id):
                    journal.park_if_idle()
                    await trio.sleep(self._access.patience.look)
            finally:
                del journal.waiting[made.key]

    def _is_due(self, session_id: str) -> bool:
        with self._access.reading() as (connection, _, _):
            return is_due(connection, row_of(connection, session_id, self._access), now_of(connection))
