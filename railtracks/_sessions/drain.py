"""When a session that takes no new top-level calls has come to rest."""

from __future__ import annotations

from collections.abc import Callable

import trio

from railtracks._calls.frames import SessionScope
from railtracks._records.events import CallEvent, Observer
from railtracks._sessions.background import Background


class Drain:
    """The drain of one session: from now on a new top-level call is refused, and services are cancelled.

    It looks on only from here: a session that never drains pays nothing for it.
    """

    def __init__(self, scope: SessionScope, background: Background) -> None:
        self._scope = scope
        self._background = background
        self._at_rest = trio.Event()
        scope.is_draining = True
        self._open = scope.tree.open_roots()
        scope.stirred = self._look
        observers = scope.observers
        observers.started += (self._on_top(self._open.add),)
        for closed in ("completed", "failed", "retried", "cancelled"):
            audience: tuple[Observer, ...] = getattr(observers, closed)
            setattr(observers, closed, (*audience, self._on_top(self._close)))
        background.cancel_services()

    async def wait(self) -> None:
        """Wait until no call runs."""
        # What was started just before has its first step by then.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        self._look()
        await self._at_rest.wait()

    def _on_top(self, act: Callable[[int], None]) -> Observer:
        def observe(event: CallEvent) -> None:
            if event.parent is None:
                act(event.call_id)

        return observe

    def _close(self, call_id: int) -> None:
        self._open.discard(call_id)
        self._look()

    def _look(self) -> None:
        if not (self._open or self._scope.promised or self._background.is_busy):
            self._at_rest.set()
