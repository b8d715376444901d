"""Resources of a session: context managers that are entered and left in a task of their own.

Each has a host task in a nursery around the session's. There it may hold nurseries and cancel scopes, which a stack
shared by several tasks would leave in the wrong order.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast

import trio
from attrs import define, field

from railtracks._errors import raise_unchanged, without_cancelled

T = TypeVar("T")


@define(eq=False)
class _Host:
    """One resource, and the task that holds it open."""

    manager: AbstractAsyncContextManager[Any]
    fail: Callable[[BaseException], object]
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    closing: trio.Event = field(factory=trio.Event)
    closed: trio.Event = field(factory=trio.Event)
    is_open: bool = False
    refusal: BaseException | None = None

    async def run(self, *, task_status: trio.TaskStatus[Any]) -> None:
        """Enter the resource, hold it until the session closes it, and leave it, all in this task."""
        try:
            with self.scope:
                async with self.manager as value:
                    # Whoever waits for the resource may have been cancelled meanwhile. Trio would then leave this task
                    # with them, and they would wait for a resource that waits for the end of the session.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    self.scope.shield = True
                    self.is_open = True
                    task_status.started(value)
                    await self.closing.wait()
        except BaseException as error:
            real = without_cancelled(error)
            if real is None:
                raise
            if self.is_open:
                self.fail(real)
            else:
                self.refusal = real
                task_status.started(None)
        finally:
            self.is_open = False
            self.closed.set()


class Resources:
    """The resources of one session, in the order in which they were entered."""

    def __init__(self, nursery: trio.Nursery, fail: Callable[[BaseException], object]) -> None:
        self._nursery = nursery
        self._fail = fail
        self._hosts: list[_Host] = []

    @property
    def are_none(self) -> bool:
        """Whether there is nothing to close."""
        return not self._hosts

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter a resource in a task of its own and return what it gives."""
        host = _Host(manager, self._fail)
        value = await self._nursery.start(host.run)
        if host.refusal is not None:
            raise_unchanged(host.refusal)
        self._hosts.append(host)
        return cast("T", value)

    async def close(self) -> None:
        """Leave all resources, the last one first."""
        while self._hosts:
            host = self._hosts[-1]
            host.closing.set()
            await host.closed.wait()
            self._hosts.pop()

    def abandon(self) -> int:
        """Cancel what is still leaving; return how many resources were not left in peace."""
        open_hosts = [host for host in self._hosts if not host.closed.is_set()]
        for host in open_hosts:
            host.scope.cancel()
        return len(open_hosts)

    async def wait_closed(self) -> None:
        """Wait until no resource is open any more."""
        while self._hosts:
            await self._hosts[-1].closed.wait()
            self._hosts.pop()
