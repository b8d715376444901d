"""What runs in the background of a session: calls that its end awaits, and services that its end cancels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import trio

from railtracks._calls.frames import Frame, frame_in
from railtracks._calls.pending import PendingCall
from railtracks._nodes.node import Node
from railtracks._records.errors import raise_unchanged
from railtracks._records.tree import Status
from railtracks.exceptions import ContextError

_REASON: Final = "the session ended"


class Background:
    """The background calls of one session; all are top-level calls of it, whatever task starts them."""

    def __init__(self, nursery: trio.Nursery, root: Frame, fail: Callable[[BaseException], object]) -> None:
        self._nursery = nursery
        self._root = root
        self._fail = fail
        self._running: dict[PendingCall[Any], None] = {}
        # What the session's end has to cancel by itself: services, and calls on their way to `started`, which are in
        # the scopes of whoever starts them until then.
        self._services: set[PendingCall[Any]] = set()
        self._starting: set[PendingCall[Any]] = set()
        self._takes_services = True
        self._takes_starts = True

    def start_soon(
        self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_service: bool
    ) -> PendingCall[Any]:
        """Start a call in a task of its own."""
        self._root.admit()
        made = self._root.scope.node_of(node)
        landing = self._root.landing()
        journal = self._root.scope.journal
        if journal is not None:
            frame = frame_in(self._root.scope)
            landing.strand = journal.loose_ends.start(frame, made, args, kwargs, is_service=is_service)
        return self._start(made, args, kwargs, landing, is_service=is_service)

    def restart(self) -> None:
        """Start again what an earlier run of a durable session had started, and nobody will start anew."""
        journal = self._root.scope.journal
        for node, args, kwargs, is_service, strand in () if journal is None else journal.loose_ends.restarts():
            landing = self._root.landing()
            landing.strand = strand
            self._start(node, args, kwargs, landing, is_service=is_service)

    def _start(
        self, node: Node[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], landing: Frame, *, is_service: bool
    ) -> PendingCall[Any]:
        pending: PendingCall[Any] = PendingCall(node, args, kwargs)
        self._nursery.start_soon(self._run, pending, self._fail, landing, name=pending.node_name)
        self._running[pending] = None
        if is_service:
            self._services.add(pending)
            if not self._takes_services:
                pending.cancel(_REASON)
        return pending

    async def start(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Start a call in a task of its own and wait until it says that it has started."""
        self._root.admit()
        made = self._root.scope.node_of(node)
        landing = self._root.landing()
        journal = self._root.scope.journal
        if journal is not None:
            frame = frame_in(self._root.scope)
            if frame is not None:
                journal.refuse_resource(frame)
            # What it says when it has started is in no record: it starts again each time.
            made = made.unrecorded()
            landing.strand = journal.loose_ends.start(frame, made, args, kwargs, is_service=False)
        starting = _Starting(made, args, kwargs, self._fail, landing)
        pending = starting.pending
        self._starting.add(pending)
        if not self._takes_starts:
            pending.cancel(_REASON)
        try:
            value = await self._nursery.start(starting.run, self._run, name=pending.node_name)
        finally:
            self._starting.discard(pending)
            self._root.scope.stirred()
        if starting.refusal is not None:
            raise_unchanged(starting.refusal)
        return value

    @property
    def is_busy(self) -> bool:
        """Whether anything runs, or is on its way to."""
        return bool(self._running or self._starting)

    def cancel_services(self) -> None:
        """Cancel the services, and from now on each that is started."""
        self._takes_services = False
        for service in self._services:
            service.cancel(_REASON)

    async def drain(self) -> None:
        """Cancel the services and wait until nothing runs."""
        self.cancel_services()
        while self._running or self._starting:
            await next(iter(self._running or self._starting)).wait()

    def cancel_starting(self) -> None:
        """Cancel the calls that have not started yet, now that the session is cancelled."""
        self._takes_starts = False
        for pending in self._starting:
            pending.cancel(_REASON)

    async def _run(self, pending: PendingCall[Any], fail: Callable[[BaseException], object], landing: Frame) -> None:
        self._running[pending] = None
        try:
            error = await pending.run(landing)
            if error is not None:
                fail(error)
        finally:
            del self._running[pending]
            self._services.discard(pending)
            self._root.scope.stirred()


class _Starting:
    """A node on its way to `task_status.started()`, and the `task_status` that it gets."""

    def __init__(
        self,
        node: Node[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        fail: Callable[[BaseException], object],
        landing: Frame,
    ) -> None:
        self._landing = landing
        telling = node.with_function(functools.partial(node.fn, task_status=self))
        self.pending: PendingCall[Any] = PendingCall(telling, args, kwargs)
        self.refusal: BaseException | None = None
        self._fail = fail
        self._task_status: trio.TaskStatus[Any]
        self._has_started = False
        self._is_tried_again = node.retry is not None

    def started(self, value: Any = None) -> None:
        """Let the one who waits go on, like Trio's `started`; a later attempt has nobody to tell."""
        if self._has_started and self._is_tried_again:
            return
        self._task_status.started(value)
        self._has_started = True

    async def run(self, run: Callable[..., Any], *, task_status: trio.TaskStatus[Any]) -> None:
        """Run the node; an error before it has started is kept for the one who waits."""
        self._task_status = task_status
        await run(self.pending, self._keep, self._landing)
        if not self._has_started and self.pending.status is Status.CANCELLED:
            # Not by a scope of the one who waits: that cancel would have gone on to them.
            self.refusal = ContextError(f"the session ended before {self.pending.node_name!r} had started")
        if self.refusal is not None:
            task_status.started()

    def _keep(self, error: BaseException) -> None:
        if self._has_started:
            self._fail(error)
        else:
            self.refusal = error
