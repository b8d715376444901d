"""A listener on loopback, served by a task of this Trio run or by a thread of its own. Called by the fake provider."""

from __future__ import annotations

import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeAlias

import trio

Converse: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]


class Serving:
    """A listener, for the length of one block.

    Args:
        converse: Serves one connection.

    Attributes:
        in_thread: Whether it serves in a thread of its own.
    """

    def __init__(self, converse: Converse) -> None:
        self._converse = converse
        self._port: int | None = None
        self._task: _Task
        self._thread: _Thread
        self.in_thread = False

    @property
    def port(self) -> int:
        """The port.

        Raises:
            RuntimeError: Outside the block.
        """
        if self._port is None:
            raise RuntimeError("the fake provider is not open: use it as `with` or `async with`")
        return self._port

    async def open(self) -> None:
        """Begin to serve in a task of this Trio run."""
        self._check_closed()
        self._task = _Task()
        self._port = await self._task.open(self._converse)

    async def close(self) -> None:
        """End the task and all connections."""
        self._port = None
        await self._task.close()

    def open_thread(self) -> None:
        """Begin to serve in a thread."""
        self._check_closed()
        self._thread = _Thread(self._converse)
        self._port = self._thread.open()
        self.in_thread = True

    def close_thread(self) -> None:
        """End the thread and all connections."""
        self._port = None
        self.in_thread = False
        self._thread.close()

    def _check_closed(self) -> None:
        if self._port is not None:
            raise RuntimeError("the fake provider is open already")


class _Task:
    """A task of this Trio run, for a block whose errors must not pass through a nursery."""

    def __init__(self) -> None:
        self._manager: AbstractAsyncContextManager[trio.Nursery] = trio.open_nursery()
        self._ended = trio.Event()
        self._scope = trio.CancelScope()

    async def open(self, converse: Converse) -> int:
        nursery = await self._manager.__aenter__()
        try:
            port: int = await nursery.start(self._serve, converse)
        except BaseException:
            # A cancel, or there is no port. The nursery must not stay open.
            await self.close()  # noqa: ASYNC102 - it shields what it waits for
            raise
        return port

    async def _serve(self, converse: Converse, *, task_status: trio.TaskStatus[int]) -> None:  # noqa: ASYNC128 - in `serve`
        try:
            with self._scope:
                await serve(converse, task_status=task_status)
        finally:
            self._ended.set()

    async def close(self) -> None:
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        # Nothing runs in the nursery any more, so this waits for nothing, and no error of the block is handed to it.
        await self._manager.__aexit__(None, None, None)


class _Thread:
    """A thread with a Trio run of its own."""

    def __init__(self, converse: Converse) -> None:
        self._converse = converse
        self._opened: queue.SimpleQueue[tuple[trio.lowlevel.TrioToken, trio.CancelScope, int]] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=partial(trio.run, self._run), name="railtracks fake provider", daemon=True
        )

    def open(self) -> int:
        self._thread.start()
        self._token, self._scope, port = self._opened.get()
        return port

    def close(self) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve, self._converse)
            self._opened.put((trio.lowlevel.current_trio_token(), nursery.cancel_scope, port))


async def serve(converse: Converse, *, task_status: trio.TaskStatus[int]) -> None:
    """Serve a port of loopback until it is cancelled, and tell the port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, converse, listeners)
        task_status.started(listeners[0].socket.getsockname()[1])
