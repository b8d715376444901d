"""What runs in the background of a session: calls that its end awaits, and services that its end cancels.

Called by `Session.start_soon`, `start_service` and `start`, and by the lifetime of the session.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from railtracks._calls.durable_protocol import Args, Kwargs
from railtracks._calls.frames import Frame
from railtracks._calls.here import frame_in
from railtracks._calls.pending import PendingCall
from railtracks._nodes.node import Node
from railtracks._records.errors import raise_unchanged
from railtracks._records.tree import Status
from railtracks.exceptions import ContextError

_REASON: Final = "the session ended"

_Fail: TypeAlias = Callable[[BaseException], object]
_RunPending: TypeAlias = Callable[[PendingCall[object], _Fail, Frame], Awaitable[None]]


class Background:
    """The background calls of one session; all are top-level calls of it, whatever task starts them."""

    def __init__(self, nursery: trio.Nursery, root: Frame, fail: _Fail) -> None:
        self._nursery = nursery
        self._root = root
        self._fail = fail
        self._running: dict[PendingCall[object], None] = {}
        # The session's end cancels these one by one: services, and calls on their way to `started`, which until then
        # are in the cancel scopes of the task that starts them.
        self._services: set[PendingCall[object]] = set()
        self._starting: set[PendingCall[object]] = set()
        self._takes_services = True
        self._takes_starts = True

    def start_soon(self, node: object, args: Args, kwargs: Kwargs, *, is_service: bool) -> PendingCall[object]:
        """Start a call in a task of its own."""
        self._root.admit()
        made = self._root.scope.node_of(node)
        return self._start(made, args, kwargs, self._start_frame(made, args, kwargs, is_service), is_service=is_service)

    def _start_frame(self, node: Node[..., object], args: Args, kwargs: Kwargs, is_service: bool) -> Frame:  # noqa: FBT001 - handed on
        """Return where a new background call is made; its start is recorded if the session is durable."""
        scope = self._root.scope
        if scope.journal is None:
            return self._root.start_frame()
        started = scope.journal.background.start(frame_in(scope), node, args, kwargs, is_service=is_service)
        return self._root.start_frame(started)

    def restart(self) -> None:
        """Start the background calls of an earlier run of a durable session that no starter starts again."""
        journal = self._root.scope.journal
        for each in () if journal is None else journal.background.restarts():
            start_frame = self._root.start_frame(each.strand)
            self._start(each.node, each.args, each.kwargs, start_frame, is_service=each.is_service)

    def _start(
        self, node: Node[..., object], args: Args, kwargs: Kwargs, start_frame: Frame, *, is_service: bool
    ) -> PendingCall[object]:
        pending = PendingCall(node, args, kwargs)
        self._nursery.start_soon(self._run, pending, self._fail, start_frame, name=pending.node_name)
        self._running[pending] = None
        if is_service:
            self._services.add(pending)
            if not self._takes_services:
                pending.cancel(_REASON)
        return pending

    async def start(self, node: object, args: Args, kwargs: Kwargs) -> object:
        """Start a call in a task of its own and wait until it says that it has started."""
        self._root.admit()
        scope = self._root.scope
        made = scope.node_of(node)
        if scope.journal is not None:
            frame = frame_in(scope)
            if frame is not None:
                scope.journal.refuse_resource(frame)
            # What it says when it has started is not recorded: it starts again in each run.
            made = made.with_options(durable=False)
        start_frame = self._start_frame(made, args, kwargs, is_service=False)
        starting = _Starting(made, args, kwargs, self._fail, start_frame)
        pending = starting.pending
        self._starting.add(pending)
        if not self._takes_starts:
            pending.cancel(_REASON)
        try:
            value = await self._nursery.start(starting.run, self._run, name=pending.node_name)
        finally:
            self._starting.discard(pending)
            self._root.scope.recheck_drain()
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

    async def _run(self, pending: PendingCall[object], fail: _Fail, start_frame: Frame) -> None:
        self._running[pending] = None
        try:
            error = await pending.run(start_frame)
            if error is not None:
                fail(error)
        finally:
            del self._running[pending]
            self._services.discard(pending)
            self._root.scope.recheck_drain()


class _Starting:
    """A node on its way to `task_status.started()`, and the `task_status` that it gets."""

    def __init__(
        self,
        node: Node[..., object],
        args: Args,
        kwargs: Kwargs,
        fail: _Fail,
        start_frame: Frame,
    ) -> None:
        self._start_frame = start_frame
        with_status = node.with_function(functools.partial(node.fn, task_status=self))
        self.pending = PendingCall(with_status, args, kwargs)
        self.refusal: BaseException | None = None
        self._fail = fail
        self._task_status: trio.TaskStatus[object]
        self._has_started = False
        self._is_tried_again = node.retry is not None

    def started(self, value: object = None) -> None:
        """Let the starter go on, like Trio's `started`; after a later attempt no starter waits."""
        if self._has_started and self._is_tried_again:
            return
        self._task_status.started(value)
        self._has_started = True

    async def run(self, run: _RunPending, *, task_status: trio.TaskStatus[object]) -> None:
        """Run the node; an error before it has started is kept for the starter."""
        self._task_status = task_status
        await run(self.pending, self._keep, self._start_frame)
        if not self._has_started and self.pending.status is Status.CANCELLED:
            # Not by a scope of the starter: that cancel would have reached the starter, too.
            self.refusal = ContextError(f"the session ended before {self.pending.node_name!r} had started")
        if self.refusal is not None:
            task_status.started()

    def _keep(self, error: BaseException) -> None:
        if self._has_started:
            self._fail(error)
        else:
            self.refusal = error
