"""Resources of a session: context managers that are entered and left in a task of their own.

Called by `Session.enter_async_context`, and by the final work of the session. Each resource has a host task in a
nursery around the session's. There it may hold nurseries and cancel scopes, which a stack shared by several tasks
would leave in the wrong order.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar, cast

import trio
from attrs import define, field

from railtracks._records.errors import raise_unchanged, without_cancelled
from railtracks.exceptions import ContextError

T = TypeVar("T")


@define(eq=False)
class _Host:
    """One resource, and the task that holds it open."""

    cm: AbstractAsyncContextManager[object]
    fail: Callable[[BaseException], object]
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    closing: trio.Event = field(factory=trio.Event)
    closed: trio.Event = field(factory=trio.Event)
    was_opened: bool = False
    refusal: BaseException | None = None

    async def run(self, *, task_status: trio.TaskStatus[object]) -> None:
        """Enter the resource, hold it until the session closes it, and leave it, all in this task."""
        try:
            with self.scope:
                async with self.cm as value:
                    # The task that waits for the resource may have been cancelled meanwhile. Trio would then leave
                    # this task in that task's nursery: it would wait for a resource that waits for the session's end.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    if not self.closing.is_set():
                        self.scope.shield = True
                        self.was_opened = True
                        task_status.started(value)
                        await self.closing.wait()
            if not self.was_opened:
                self._refuse(ContextError("the session ended before the resource was open"), task_status)
        except BaseException as error:  # noqa: ASYNC103 - Cancelled goes on below, beside an error it is dropped
            real = without_cancelled(error)
            if real is None:
                raise
            if self.was_opened:
                self.fail(real)
            else:
                self._refuse(real, task_status)
        finally:
            self.closed.set()

    def _refuse(self, error: BaseException, task_status: trio.TaskStatus[object]) -> None:
        # A nursery that raised it would put it into a group.
        self.refusal = error
        task_status.started(None)


class Resources:
    """The resources of one session, in the order in which they were opened."""

    def __init__(self, nursery: trio.Nursery, fail: Callable[[BaseException], object]) -> None:
        self._nursery = nursery
        self._fail = fail
        self._hosts: dict[_Host, None] = {}
        self._is_abandoned = False

    @property
    def are_none(self) -> bool:
        """Whether there is nothing to close."""
        return not self._hosts

    async def enter(self, cm: AbstractAsyncContextManager[T]) -> T:
        """Enter a resource in a task of its own and return what it gives."""
        host = _Host(cm, self._fail)
        # From the start on: a task beside the session may enter one while the session ends.
        self._hosts[host] = None
        try:
            value = await self._nursery.start(host.run)
        finally:
            self._hosts.pop(host, None)
        if host.refusal is not None:
            raise_unchanged(host.refusal)
        self._hosts[host] = None
        return cast("T", value)

    async def close(self) -> None:
        """Leave all resources, the last one first."""
        while self._hosts:
            host = next(reversed(self._hosts))
            host.closing.set()
            if self._is_abandoned:
                host.scope.cancel()
            await host.closed.wait()
            self._hosts.pop(host, None)

    def abandon(self) -> list[str]:
        """Have `close` cancel each resource that it still closes; return their names, the one that closes now first."""
        self._is_abandoned = True
        return [_name_of(host.cm) for host in reversed(self._hosts) if not host.closed.is_set()]


def _name_of(cm: object) -> str:
    # What contextlib makes of a generator function is told by the function's name.
    return str(getattr(getattr(cm, "gen", None), "__name__", type(cm).__name__))
