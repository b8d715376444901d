"""The link to an MCP server: a connection, and another one once that is lost. Called by clients, and by tools."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from railtracks._records.errors import raise_unchanged
from railtracks.agents._mcp.connection import Connection, NotTakenError

if TYPE_CHECKING:
    from mcp_types import CallToolResult


class Link:
    """The link to an MCP server. Made by `open_link`.

    Args:
        connect: Returns a new connection, which is not open yet.
        nursery: Where the tasks run that hold connections open.
    """

    def __init__(self, connect: Callable[[], Connection], nursery: trio.Nursery) -> None:
        self._connect = connect
        self._nursery = nursery
        self._lock = trio.Lock()
        self._connection: Connection | None = None
        # Also those that were replaced while calls were under way in them.
        self._connections: list[Connection] = []
        self._is_closed = False
        self._is_patient = False

    async def opened(self) -> Connection:
        """Return the open connection, and make one first if there is none; one attempt. A checkpoint.

        Raises:
            MCPConnectionError: If the server cannot be reached, or does not answer in time, or the link is closed.
            ImportError: If the extra `mcp` is not installed.
        """
        async with self._lock:
            if self._connection is not None and (self._connection.is_open or self._is_closed):
                return self._connection
            connection = self._connect()
            is_open = not self._is_closed and await self._nursery.start(connection.hold)
            if not is_open:
                raise connection.error()
            if self._is_closed:
                # While it was made. Nobody else would close it.
                connection.close(is_patient=self._is_patient)
            self._connection = connection
            self._connections = [each for each in self._connections if not each.is_closing] + [connection]
            return connection

    async def call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        """Call a tool of the server. A cancel reaches the tool.

        Where the connection was lost before, this makes another one. A call that was sent is never sent again, but for
        one that the server has not taken, since it has forgotten the session.

        Raises:
            MCPConnectionError: If there is no connection, or it is lost while the call is made.
            MCPToolError: If the server refuses the call.
        """
        try:
            return await (await self.opened()).call(name, arguments)
        except NotTakenError:
            pass
        connection = await self.opened()
        try:
            return await connection.call(name, arguments)
        except NotTakenError:
            raise connection.error() from None

    def close(self, *, is_patient: bool) -> None:
        """Have all connections closed. From now on there is no other one."""
        self._is_closed, self._is_patient = True, is_patient
        for each in self._connections:
            each.close(is_patient=is_patient)


@asynccontextmanager
async def open_link(connect: Callable[[], Connection], *, is_patient: bool) -> AsyncGenerator[Link]:
    """Hold the link to a server open for a block. Errors of the block come out as they are.

    Nothing is connected to before somebody asks for the connection.

    Args:
        connect: Returns a new connection, which is not open yet.
        is_patient: Whether the server has time to end also where the block is cancelled. Otherwise it is killed then.
    """
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        link = Link(connect, nursery)
        try:
            yield link
        except BaseException as raised:  # noqa: ASYNC103, BLE001 - raised below: the nursery would put it into a group
            error = raised
        link.close(is_patient=is_patient)
    try:
        if error is not None:
            raise_unchanged(error)
    finally:
        del error
