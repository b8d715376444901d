"""What runs in the background of a session: calls that its end awaits, and services that its end cancels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import trio

from railtracks._errors import raise_unchanged
from railtracks._pending import PendingCall
from railtracks._nodes import Node
from railtracks._scope import Frame


class Background:
    """The background calls of one session; all are top-level calls of it, whatever task starts them."""

    def __init__(self, nursery: trio.Nursery, root: Frame, fail: Callable[[BaseException], object]) -> None:
        self._nursery = nursery
        self._root = root
        self._fail = fail
        self._running: dict[PendingCall[Any], None] = {}
        self._services: set[PendingCall[Any]] = set()

    def start_soon(
        self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_service: bool
    ) -> PendingCall[Any]:
        """Start a call in a task of its own."""
        pending: PendingCall[Any] = PendingCall(self._root.scope.node_of(node))
        self._nursery.start_soon(self._run, pending, args, kwargs, self._fail, name=pending.node_name)
        self._running[pending] = None
        if is_service:
            self._services.add(pending)
        return pending

    async def start(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Start a call in a task of its own and wait until it says that it has started."""
        starting = _Starting(self._root.scope.node_of(node), self._fail)
        value = await self._nursery.start(starting.run, functools.partial(self._run, args=args, kwargs=kwargs))
        if starting.refusal is not None:
            raise_unchanged(starting.refusal)
        return value

    async def drain(self) -> None:
        """Cancel the services and wait until nothing runs."""
        for service in self._services:
            service.cancel("the session ended")
        while self._running:
            await next(iter(self._running)).wait()

    async def _run(
        self,
        pending: PendingCall[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        fail: Callable[[BaseException], object],
    ) -> None:
        self._running[pending] = None
        try:
            await pending.run(self._root, args, kwargs, fail)
        finally:
            del self._running[pending]
            self._services.discard(pending)


class _Starting:
    """A node on its way to `task_status.started()`, and the `task_status` that it gets."""

    def __init__(self, node: Node[..., Any], fail: Callable[[BaseException], object]) -> None:
        self._node: Node[..., Any] = node.with_function(functools.partial(node.fn, task_status=self))
        self._fail = fail
        self._task_status: trio.TaskStatus[Any]
        self._has_started = False
        self.refusal: BaseException | None = None

    def started(self, value: Any = None) -> None:
        """Let the one who waits go on, like Trio's `started`."""
        self._task_status.started(value)
        self._has_started = True

    async def run(self, run: Callable[..., Any], *, task_status: trio.TaskStatus[Any]) -> None:
        """Run the node; an error before it has started is kept for the one who waits."""
        self._task_status = task_status
        await run(PendingCall(self._node), fail=self._keep)
        if self.refusal is not None:
            task_status.started()

    def _keep(self, error: BaseException) -> None:
        if self._has_started:
            self._fail(error)
        else:
            self.refusal = error
