"""`rt.create_mcp_server`: nodes as the tools of an MCP server. Called by users, and by the clients of the server."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

from railtracks._calls.call import call
from railtracks._calls.here import this_task
from railtracks._checks import check_name
from railtracks._sessions.access import session_id
from railtracks._sessions.session import Session
from railtracks.agents._mcp.loading import required
from railtracks.agents._told import Teller, failure
from railtracks.agents._toolbox import AgentTool, PreparedCall, Toolbox, given_tools
from railtracks.exceptions import NodeCreationError, RailtracksError
from railtracks.llm import ToolCall, ToolResponse

if TYPE_CHECKING:
    from mcp.server.lowlevel.server import Server
    from mcp_types import CallToolRequestParams, CallToolResult, ContentBlock, ListToolsResult
    from starlette.applications import Starlette

_TRANSPORTS: Final = ("streamable-http", "stdio")


class MCPServer:
    """An MCP server whose tools are nodes. Made by `create_mcp_server`.

    Each call of a tool is a call of its node: in the session around `run`, or in a session of its own if there is none.
    A cancel by the client, or the end of its connection, cancels the call. What a node raises is told to the client,
    without secrets.
    """

    def __init__(self, tools: Iterable[AgentTool], name: str) -> None:
        self._toolbox = Toolbox(tools)
        self._name = name

    def __repr__(self) -> str:
        return f"<railtracks.MCPServer {self._name!r}>"

    @functools.cached_property
    def server(self) -> Server[Any]:
        """The server as the package `mcp` knows it, a `mcp.server.lowlevel.Server`.

        Raises:
            ImportError: If the extra `mcp` is not installed.
        """
        made: Server[Any] = required("mcp.server.lowlevel.server").Server(
            self._name, on_list_tools=self._list, on_call_tool=self._answer
        )
        return made

    def app(self) -> Starlette:
        """Return an ASGI application that serves streamable HTTP at `/mcp`, for any ASGI server that runs on Trio.

        Raises:
            ImportError: If the extra `mcp` is not installed.
        """
        return self.server.streamable_http_app()

    async def run_stdio(self) -> None:
        """Serve one client over the standard input and output of this process, until the client ends. A checkpoint.

        A thread reads the standard input, and cannot be stopped. So a cancel ends the calls at once, and this function
        when the client sends a message or ends.

        Raises:
            ImportError: If the extra `mcp` is not installed.
            RuntimeError: If Trio is not running.
        """
        this_task()
        async with required("mcp.server.stdio").stdio_server() as (receive, send):
            await self.server.run(receive, send, self.server.create_initialization_options())

    async def run(
        self,
        transport: Literal["streamable-http", "stdio"] = "streamable-http",
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve clients until it is cancelled; over stdio until the client ends, see `run_stdio`. A checkpoint.

        A cancel closes the connections, and cancels the calls that run for their clients.

        Args:
            transport: `"streamable-http"`, at `/mcp`, or `"stdio"`.
            host: The address to listen at.
            port: The port to listen at; 0 for any.
            task_status: Started with the URL, once it listens.

        Raises:
            ValueError: If there is no such transport.
            OSError: If it cannot listen there.
            ImportError: If the extra `mcp` is not installed.
            RuntimeError: If Trio is not running.
        """
        if transport not in _TRANSPORTS:
            raise ValueError(f"transport must be 'streamable-http' or 'stdio', not {transport!r}")
        this_task()
        if transport == "stdio":
            await self.run_stdio()
            return
        serving, app = required("railtracks._serving"), self.app()
        listening, url = serving.listening_at(host, port)
        async with trio.open_nursery() as nursery:
            await nursery.start(functools.partial(serving.serve_at, listening, app))
            task_status.started(f"{url}/mcp")

    async def _list(self, _context: object, _params: object) -> ListToolsResult:
        types = required("mcp_types")
        tools = [
            types.Tool(
                name=each.name,
                description=each.detail,
                input_schema=copy.deepcopy(dict(each.parameters)),
            )
            for each in self._toolbox.tools
        ]
        listed: ListToolsResult = types.ListToolsResult(tools=tools)
        return listed

    async def _answer(self, _context: object, params: CallToolRequestParams) -> CallToolResult:
        asked = ToolCall("", params.name, params.arguments or {})
        prepared = self._toolbox.prepare(asked)
        if isinstance(prepared, ToolResponse):
            return _result(prepared)
        if session_id() is not None:
            return _result(await _called(asked, prepared))
        response = ToolResponse("", params.name, "cancelled: the session of the call has ended", is_error=True)
        try:
            async with Session():
                response = await _called(asked, prepared)
        # The timeout of the session, for example.
        except RailtracksError as error:
            response = ToolResponse("", params.name, f"{type(error).__name__}: {error}", is_error=True)
        return _result(response)


async def _called(asked: ToolCall, prepared: PreparedCall) -> ToolResponse:
    try:
        result = await call(prepared.node, *prepared.args, **prepared.kwargs)
    except Exception as error:  # noqa: BLE001 - told to the client, as its answer
        return failure(asked, error)
    return Teller(sys.maxsize).result(asked, result)


def _result(response: ToolResponse) -> CallToolResult:
    types = required("mcp_types")
    content: list[ContentBlock] = [types.TextContent(type="text", text=response.result)]
    content += [
        types.ImageContent(type="image", data=each.base64, mime_type=each.media_type)
        for each in response.attachments
        if each.is_image
    ]
    result: CallToolResult = types.CallToolResult(content=content, is_error=response.is_error)
    return result


def create_mcp_server(nodes: Iterable[object], server_name: str = "MCP Server") -> MCPServer:
    """Make an MCP server of nodes: each is a tool, told to clients as it would be told to a model.

        server = rt.create_mcp_server([weather, forecast])
        trio.run(server.run_stdio)

    Args:
        nodes: Nodes, agents and plain functions.
        server_name: The name of the server, for its clients.

    Raises:
        NodeCreationError: If a client cannot be told of one of them, or two have one name.
        ValueError: If the name is empty.
        TypeError: If the name is no text.
    """
    check_name("server_name", server_name)
    given = given_tools(nodes)
    if given.sources:
        raise NodeCreationError(f"an MCP server offers nodes, not the tools of another server: {given.sources[0]!r}")
    return MCPServer(given.tools, server_name)
