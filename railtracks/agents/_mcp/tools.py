"""The tools of an MCP server as nodes. Made by clients and by runs of agents, called by users and by agents."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from railtracks._nodes.making import function_node
from railtracks._nodes.node import Node
from railtracks.agents._mcp.connection import Connection
from railtracks.agents._schemas.manifests import JsonManifest
from railtracks.exceptions import MCPToolError
from railtracks.llm import Attachment
from railtracks.llm._attachments import attachment

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock, Tool


class MCPTool:
    """A tool of an MCP server, as a node: `await rt.call(tool, city="Oslo")`, or one of the `tool_nodes` of an agent.

    Its result is text; with images, a list of texts and `rt.llm.Attachment` objects. It is usable while the connection
    is open.

    Attributes:
        name: The name, with the prefix.
        description: What the tool does, in the words of the server.
        parameters: The JSON Schema of its arguments, which the server checks.
    """

    def __init__(self, connection: Connection, tool: Tool, prefix: str, timeout: float) -> None:
        self.name: str = prefix + tool.name
        self.description: str = tool.description or ""
        self.parameters: Mapping[str, Any] = {"type": "object", "properties": {}, **tool.input_schema}
        self._connection = connection
        self._own_name = tool.name
        self._node: Node[..., object] = function_node(
            self._call,
            name=self.name,
            timeout=None if timeout == math.inf else timeout,
            manifest=JsonManifest(self.description, self.parameters),
        )

    def __repr__(self) -> str:
        return f"<railtracks.MCPTool {self.name!r}>"

    async def __call__(self, /, **arguments: Any) -> Any:
        """Call the tool itself: no session, no record, no timeout.

        Raises:
            MCPToolError: If the tool fails, or the server refuses the arguments.
            MCPConnectionError: If the connection is not open any more.
        """
        return await self._call(**arguments)

    def __railtracks_node__(self) -> Node[..., object]:
        return self._node

    async def _call(self, /, **arguments: Any) -> Any:
        result = await self._connection.call(self._own_name, arguments)
        if result.is_error:
            raise MCPToolError("\n".join(map(str, _parts(result))) or "the tool has failed, and does not say why")
        parts = _parts(result)
        return "\n".join(map(str, parts)) if all(isinstance(each, str) for each in parts) else parts


def tools_of(
    connection: Connection, timeout: float, names: Iterable[str] | None = None, prefix: str | None = None
) -> tuple[MCPTool, ...]:
    """Return the tools of a server as nodes.

    Args:
        connection: The open connection.
        timeout: The seconds that a call may take.
        names: The tools that are wanted; by default all of them.
        prefix: What is put before their names.

    Raises:
        ValueError: If the server does not have one of them.
    """
    known = {each.name: each for each in connection.tools}
    wanted = [*known] if names is None else [*names]
    for name in wanted:
        if name not in known:
            raise ValueError(f"the MCP server has no tool {name!r}; it has {', '.join(known) or 'none'}")
    return tuple(MCPTool(connection, known[name], prefix or "", timeout) for name in wanted)


def _parts(result: CallToolResult) -> list[str | Attachment]:
    if not result.content and result.structured_content is not None:
        return [json.dumps(result.structured_content)]
    return [_part(each) for each in result.content]


def _part(block: ContentBlock) -> str | Attachment:
    match block.type:
        case "text":
            return block.text
        case "image":
            try:
                return attachment(base64.b64decode(block.data), "image")
            except ValueError as problem:
                return f"[an image that cannot be shown: {problem}]"
        case "audio":
            return "[a recording, which cannot be played]"
        case "resource":
            return getattr(block.resource, "text", f"[the resource {block.resource.uri}]")
        case _:
            return f"[{block.name}: {block.uri}]"
