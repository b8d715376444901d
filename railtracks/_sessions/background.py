"""Background calls of a session: calls that its end awaits, and services, which its end cancels.

Called by `Session.start_soon` and `start_service`, and by the lifetime of the session.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from railtracks._calls.frames import Frame
from railtracks._calls.here import frame_in
from railtracks._calls.pending import PendingCall
from railtracks._nodes.node import Node
from railtracks._records.ends import Status
from railtracks._records.errors import raise_unchanged
from railtracks.exceptions import ContextError, NodeCreationError

if TYPE_CHECKING:
    from railtracks._calls.durable_values import Args, Kwargs

_REASON: Final = "the session ended"

_Fail: TypeAlias = Callable[[BaseException], object]
_RunPending: TypeAlias = Callable[[PendingCall[object], _Fail, Frame], Awaitable[None]]


class Background:
    """The background calls of one session. All are top-level calls of the session, whatever task starts them.

    Args:
        nursery: The inner nursery of the session, which the session's cancel reaches.
        root: The root frame of the session.
        fail: Ends the session with the error of a background call.
    """

    def __init__(self, nursery: trio.Nursery, root: Frame, fail: _Fail) -> None:
        self._nursery = nursery
        self._root = root
        self._fail = fail
        self._running: dict[PendingCall[object], None] = {}
        # Calls that are cancelled one by one. Services, because the end of the block cancels only them. And calls that
        # have not called `task_status.started()`: these are still in the cancel scopes of the task that starts them,
        # where the session's own cancel does not reach them.
        self._services: set[PendingCall[object]] = set()
        self._starting: set[PendingCall[object]] = set()
        self._takes_services = True
        self._takes_starts = True

    @trio.lowlevel.enable_ki_protection
    def start_soon(self, node: object, args: Args, kwargs: Kwargs, *, is_service: bool) -> PendingCall[object]:
        """Start a call or a service in a task of its own, and return at once.

        Raises:
            NodeCreationError: If a node cannot be made of `node`.
            ContextError: If the session drains.
        """
        self._root.admit()
        given = self._root.scope.node_of(node)
        # What is recorded of its start is what a resume will call.
        made, (args, kwargs) = given.core, given.passed(args, kwargs)
        start_frame = self._start_frame(made, args, kwargs, is_service=is_service)
        return self._start(made, args, kwargs, start_frame, is_service=is_service)

    def _start_frame(
        self, node: Node[..., object], args: Args, kwargs: Kwargs, *, is_service: bool = False, is_told: bool = False
    ) -> Frame:
        """Return the start frame of a new background call; in a durable session, record the start of the call."""
        scope = self._root.scope
        if scope.journal is None:
            return self._root.start_frame()
        frame, background = frame_in(scope), scope.journal.background
        strand = background.start(frame, node, args, kwargs, is_service=is_service, is_told=is_told)
        return self._root.start_frame(strand)

    def restart(self) -> None:
        """Start the background calls of an earlier run of a durable session which no replayed code starts again."""
        journal = self._root.scope.journal
        for each in () if journal is None else journal.background.restarts():
            start_frame = self._root.start_frame(each.strand)
            self._start(each.node, each.args, each.kwargs, start_frame, is_service=each.is_service)

    def _start(
        self, node: Node[..., object], args: Args, kwargs: Kwargs, start_frame: Frame, *, is_service: bool
    ) -> PendingCall[object]:
        pending = PendingCall(node, args, kwargs)
        self._nursery.start_soon(self._run, pending, self._fail, start_frame, name=pending.node_name)
        # Listed at once and not in the new task: a drain that looks before that task runs must see the call.
        self._running[pending] = None
        if is_service:
            self._services.add(pending)
            if not self._takes_services:
                pending.cancel(_REASON)
        return pending

    @trio.lowlevel.enable_ki_protection
    async def start(self, node: object, args: Args, kwargs: Kwargs) -> object:
        """Start a call in a task of its own, and wait until its node calls `task_status.started()`.

        Returns:
            The value that the node gave to `started()`.

        Raises:
            NodeCreationError: If a node cannot be made of `node`, or runs in another process.
            ContextError: If the session drains, or ends before the node has started.
            BaseException: What the node raises before it has started.
        """
        self._root.admit()
        scope = self._root.scope
        given = scope.node_of(node)
        made, (args, kwargs) = given.core, given.passed(args, kwargs)
        if made.run_in is not None:
            _refuse_elsewhere(made)
        if scope.journal is not None:
            frame = frame_in(scope)
            if frame is not None:
                scope.journal.refuse_resource(frame)
        start_frame = self._start_frame(made, args, kwargs, is_told=True)
        # The value given to `started()` is not recorded, so the node must run again in each run of the session.
        made = made if scope.journal is None else made.with_options(durable=False)
        starting = _Starting(self._fail, scope.token, is_tried_again=made.retry is not None)
        with_status = made.with_function(functools.partial(made.fn, task_status=starting))
        pending = PendingCall(with_status, args, kwargs)
        # In `_starting` until `started()`, and in `_running` from the first step of its task on.
        self._starting.add(pending)
        if not self._takes_starts:
            pending.cancel(_REASON)
        try:
            value = await self._nursery.start(starting.run, self._run, pending, start_frame, name=pending.node_name)
        finally:
            self._starting.discard(pending)
            self._root.scope.recheck_drain()
        refusal, starting.refusal = starting.refusal, None
        try:
            if refusal is not None:
                raise_unchanged(refusal)
            return value
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del refusal

    @property
    def is_busy(self) -> bool:
        """Whether any background call runs or is being started."""
        return bool(self._running or self._starting)

    def cancel_services(self) -> None:
        """Cancel all services; one that is started later is cancelled at once."""
        self._takes_services = False
        for service in self._services:
            service.cancel(_REASON)

    @property
    def services(self) -> frozenset[str]:
        """The names of the nodes whose calls are services and run."""
        return frozenset(service.node_name for service in self._services)

    async def wait_for_all(self) -> None:
        """Wait until no background call runs. A service ends only if it was cancelled before."""
        # While one call is awaited others may be started: so look again each time.
        while self._running or self._starting:
            await next(iter(self._running or self._starting)).wait()

    def cancel_starting(self) -> None:
        """Cancel the calls that have not called `started()`; one that is started later is cancelled at once."""
        self._takes_starts = False
        for pending in self._starting:
            pending.cancel(_REASON)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, pending: PendingCall[object], fail: _Fail, start_frame: Frame) -> None:
        self._running[pending] = None
        error: BaseException | None = None
        try:
            error = await pending.run(start_frame)
            if error is not None:
                fail(error)
        finally:
            del self._running[pending]
            self._services.discard(pending)
            self._root.scope.recheck_drain()
            # As in `Cancellation.end`: no reference cycle. The pending call holds the error, too.
            del error, pending


def _refuse_elsewhere(node: Node[..., object]) -> None:
    """Refuse to start a node that runs in another process."""
    from railtracks._workers.executors import shares_memory  # noqa: PLC0415 - few sessions come here

    if node.run_in == "process" or not (node.run_in is None or shares_memory(node.run_in)):
        raise NodeCreationError(
            f"{node.name!r} runs in another process, which cannot call task_status.started(): start a node that runs in"
            " this one"
        )


class _Starting:
    """The `task_status` of the node of a background call, until the node has called `started()`.

    It does not hold the call, whose node holds it: that would be a reference cycle.

    Attributes:
        refusal: The error to raise at the starter: that of the node, or that the session ended before the start.
    """

    def __init__(self, fail: _Fail, token: trio.lowlevel.TrioToken, *, is_tried_again: bool) -> None:
        self.refusal: BaseException | None = None
        self._fail = fail
        self._task_status: trio.TaskStatus[object]
        self._token = token
        self._has_started = False
        self._is_tried_again = is_tried_again

    @trio.lowlevel.enable_ki_protection
    def started(self, value: object = None) -> None:
        """Let the starter go on, and hand it a value, as Trio's `started` does. Also from the thread of a sync node.

        A further attempt of a node with `retry` calls this again; then no starter waits, and nothing happens.
        """
        if not (trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token):
            # Trio's own would leave the tree of nurseries half changed.
            trio.from_thread.run_sync(self.started, value, trio_token=self._token)
            return
        if self._has_started and self._is_tried_again:
            return
        self._task_status.started(value)
        self._has_started = True

    @trio.lowlevel.enable_ki_protection
    async def run(
        self,
        run: _RunPending,
        pending: PendingCall[object],
        start_frame: Frame,
        *,
        task_status: trio.TaskStatus[object],
    ) -> None:
        """Run the node in a task of `nursery.start`. An error before `started()` is kept in `refusal`."""
        self._task_status = task_status
        await run(pending, self._keep, start_frame)
        if not self._has_started and pending.status is Status.CANCELLED and self.refusal is None:
            # `pending.cancel` did this, at the end of the session. A cancel scope around the starter would have raised
            # its `Cancelled` in the starter too, and out of `run` here; Ctrl-C would be the refusal.
            self.refusal = ContextError(f"the session ended before {pending.node_name!r} had started")
        if self.refusal is not None:
            # `nursery.start` must return: its caller then raises the refusal, which no nursery wraps in a group.
            task_status.started()

    def _keep(self, error: BaseException) -> None:
        if self._has_started:
            self._fail(error)
        else:
            self.refusal = error
