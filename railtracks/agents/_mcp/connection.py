"""An open connection to an MCP server, held by a task of its own. Called by `connect_mcp`, and by runs of agents.

What breaks the connection breaks nothing else: from then on calls of its tools raise `MCPConnectionError`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from railtracks._records.error_parts import each_in, is_group, text_of
from railtracks._records.errors import is_ordinary, raise_cancelled, raise_unchanged, without_cancelled
from railtracks.agents._mcp.loading import load, required
from railtracks.exceptions import MCPConnectionError, MCPToolError

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult, Tool

# The seconds for a farewell to a server that does not answer. Then the connection is cut.
_FAREWELL: Final = 2.0
_ENDED: Final = "it has ended, or has closed the connection"


class Connection:
    """A connection to an MCP server.

    Args:
        label: The name of the server, for errors.
        timeout: The seconds in which the server must have told its tools.
        transport: Returns the transport to the server, of the package `mcp`.

    Attributes:
        tools: The tools of the server, once the connection is open.
        problem: Why the connection is not open.
    """

    def __init__(self, label: str, timeout: float, transport: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self.tools: Sequence[Tool] = ()
        self.problem: str = "the connection is closed"
        self._label = label
        self._timeout = timeout
        self._transport = transport
        self._client: Client | None = None
        self._closing = trio.Event()

    def close(self) -> None:
        """Have the connection closed by the task that holds it."""
        self._client = None
        self._closing.set()

    def error(self) -> MCPConnectionError:
        """Return the error that tells why the connection is not open."""
        return MCPConnectionError(self._label, self.problem)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        """Call a tool of the server. A cancel reaches the tool.

        Raises:
            MCPConnectionError: If the connection is not open any more.
            MCPToolError: If the server refuses the call.
        """
        if self._client is None:
            raise self.error()
        try:
            return await self._client.call_tool(name, dict(arguments))
        except required("mcp").MCPError as error:
            if _is_closed(error):
                self.problem = _ENDED
                raise self.error() from None
            raise MCPToolError(text_of(error)) from None

    async def hold(self, *, task_status: trio.TaskStatus[bool]) -> None:
        """Connect, and hold the connection open until `close` is called. Started with `nursery.start`.

        It starts with whether the connection is open. It raises nothing but cancellation and what ends the program.
        """
        await load()
        started = False
        with trio.CancelScope(deadline=trio.current_time() + self._timeout) as scope:
            try:
                async with required("mcp").Client(self._transport()) as client:
                    self.tools = await _listed(client)
                    scope.deadline = math.inf
                    self._client = client
                    started = True
                    task_status.started(started)
                    await self._closing.wait()
                    scope.deadline = trio.current_time() + _FAREWELL
            except BaseException as error:  # noqa: ASYNC103, BLE001 - Cancelled goes on, beside an error it is dropped
                self._fail(error)
        self._client = None
        if not started:
            if scope.cancelled_caught:
                self.problem = f"it did not answer within {self._timeout:g} seconds"
            task_status.started(started)

    def _fail(self, error: BaseException) -> None:
        """Keep an error as the problem of the connection, or raise it if it is a cancel, or ends the program."""
        real = without_cancelled(error)
        try:
            if real is None:
                raise_cancelled(error)
            real = _innermost(real)
            if not is_ordinary(real):
                raise_unchanged(real)
            self.problem = _ENDED if _is_closed(real) else f"{type(real).__name__}: {text_of(real)}"
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del real, error


def _is_closed(error: BaseException) -> bool:
    code: int = required("mcp_types").CONNECTION_CLOSED
    return getattr(error, "code", None) == code


def _innermost(error: BaseException) -> BaseException:
    """Return an error out of the groups that the nurseries of `mcp` put around it."""
    return next(each for each in each_in(error) if not is_group(each))


async def _listed(client: Client) -> list[Tool]:
    page = await client.list_tools()
    tools = [*page.tools]
    while page.next_cursor is not None:
        page = await client.list_tools(cursor=page.next_cursor)
        tools += page.tools
    return tools


@asynccontextmanager
async def open_connection(connection: Connection) -> AsyncGenerator[Connection]:
    """Open a connection for a block. Errors of the block come out as they are.

    Raises:
        MCPConnectionError: If the server cannot be reached, or does not answer in time.
        ImportError: If the extra `mcp` is not installed.
    """
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            if await nursery.start(connection.hold):
                yield connection
            else:
                error = connection.error()
        except BaseException as raised:  # noqa: ASYNC103, BLE001 - raised below: the nursery would put it into a group
            error = raised
        connection.close()
    try:
        if error is not None:
            raise_unchanged(error)
    finally:
        del error
