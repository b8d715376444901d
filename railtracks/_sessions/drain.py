"""The drain of a session: new top-level calls are refused, and the drain waits until the running calls have ended.

Called by the lifetime of the session, for `Session.drain` and for SIGTERM.
"""

from __future__ import annotations

from typing import Final

import trio

from railtracks._calls.frames import SessionScope
from railtracks._records.events import CallEvent, Event, EventKind
from railtracks._sessions.background import Background

_KINDS: Final = (
    EventKind.CALL_STARTED,
    EventKind.CALL_COMPLETED,
    EventKind.CALL_FAILED,
    EventKind.CALL_RETRIED,
    EventKind.CALL_CANCELLED,
)


class Drain:
    """The drain of one session. Making it begins the drain: new calls are refused and services are cancelled.

    It observes the calls only from then on, so a session that never drains pays nothing.
    """

    def __init__(self, scope: SessionScope, background: Background) -> None:
        self._scope = scope
        self._background = background
        self._at_rest = trio.Event()
        self._open = scope.tree.open_roots()
        scope.refuse_new_calls(self._look)
        scope.observers.add(self, _KINDS)
        background.cancel_services()

    async def wait(self) -> None:
        """Wait until no call of the session runs. A checkpoint."""
        # A task that was started just before the drain takes its first step meanwhile, in which it may begin a call.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        self._look()
        await self._at_rest.wait()

    def on_event(self, event: Event) -> None:
        """Keep the set of open top-level calls."""
        if not isinstance(event, CallEvent) or event.parent_id is not None:
            return
        if event.kind is EventKind.CALL_STARTED:
            self._open.add(event.call_id)
        else:
            self._open.discard(event.call_id)
            self._look()

    def _look(self) -> None:
        if not (self._open or self._scope.unrecorded_calls or self._background.is_busy):
            self._at_rest.set()
