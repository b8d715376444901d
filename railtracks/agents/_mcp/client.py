"""`rt.connect_mcp`: the tools of an MCP server for a block. Called by users."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

from attrs import frozen

from railtracks._blocks import AsyncBlock
from railtracks._calls.here import this_task
from railtracks.agents._mcp.link import Link, open_link
from railtracks.agents._mcp.listing import seen_tools, wanted_tools
from railtracks.agents._mcp.parameters import MCPParams, check_params
from railtracks.agents._mcp.tools import MCPTool


@frozen(eq=False)
class MCPClient:
    """An open connection to an MCP server.

    Attributes:
        tools: Its tools, as nodes, in the server's order.
    """

    tools: tuple[MCPTool, ...]


def connect_mcp(
    params: MCPParams, tools: Iterable[str] | None = None, prefix: str | None = None
) -> AbstractAsyncContextManager[MCPClient]:
    """Connect to an MCP server for a block: `async with rt.connect_mcp(params) as server`, then `server.tools`.

    The tools are listed once. Leaving the block closes the connection, and ends a server that was started for it, with
    all of its processes; a server that does not want to end takes up to 2 seconds.

    If the server ends before, the block goes on. A call that was under way raises `MCPConnectionError`, since it may
    have had its effect; it is never made twice. The next call connects again, once, within the `timeout` of `params`.

    Args:
        params: Where the server is.
        tools: The names of the tools that are wanted; by default all of them.
        prefix: What is put before their names, where several servers have tools of one name.

    Raises:
        MCPConnectionError: If the server cannot be reached, or does not tell its tools in time.
        ValueError: If the server does not have one of the tools.
        TypeError: If `params` is something else.
        ImportError: If the extra `mcp` is not installed.
    """
    check_params(params)
    return _ClientBlock(_connected(params, tools, prefix))


@asynccontextmanager
async def _connected(params: MCPParams, tools: Iterable[str] | None, prefix: str | None) -> AsyncGenerator[MCPClient]:
    async with open_link(params.connection, is_patient=True) as link:

        async def same() -> Link:
            return link

        wanted = wanted_tools(seen_tools(await link.opened()), tools)
        yield MCPClient(tuple(MCPTool(same, each, prefix or "", params.timeout) for each in wanted))


class _ClientBlock(AsyncBlock, AbstractAsyncContextManager[MCPClient]):
    _shown_as = "rt.connect_mcp(...)"

    def __init__(self, connected: AbstractAsyncContextManager[MCPClient]) -> None:
        self._connected = connected

    async def __aenter__(self) -> MCPClient:
        this_task()
        return await self._connected.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await self._connected.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - closes the connection
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del error
