"""The tools of an MCP server as nodes. Made by clients and by runs of agents, called by users and by agents."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from railtracks._nodes.making import function_node
from railtracks._nodes.node import Node
from railtracks.agents._mcp.link import Link
from railtracks.agents._mcp.listing import SeenTool
from railtracks.agents._schemas.manifests import JsonManifest
from railtracks.exceptions import MCPToolError
from railtracks.llm import Attachment
from railtracks.llm._attachments import attachment

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock


class MCPTool:
    """A tool of an MCP server, as a node: `await rt.call(tool, city="Oslo")`, or one of the `tool_nodes` of an agent.

    Its result is text; with images, a list of texts and `rt.llm.Attachment` objects. It is usable until the block of
    the connection is left, or the session of the agent ends. If the connection was lost, a call makes another one.

    Attributes:
        name: The name, with the prefix.
        description: What the tool does, in the words of the server.
        parameters: The JSON Schema of its arguments, which the server checks.
    """

    def __init__(self, link: Callable[[], Awaitable[Link]], tool: SeenTool, prefix: str, timeout: float) -> None:
        self.name: str = prefix + tool.name
        self.description: str = tool.description
        self.parameters: Mapping[str, Any] = {"type": "object", "properties": {}, **tool.parameters}
        self._link = link
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
            MCPConnectionError: If there is no connection, or it is lost while the call is made.
        """
        return await self._call(**arguments)

    def __railtracks_node__(self) -> Node[..., object]:
        return self._node

    async def _call(self, /, **arguments: Any) -> Any:
        link = await self._link()
        result = await link.call(self._own_name, arguments)
        if result.is_error:
            raise MCPToolError("\n".join(map(str, _parts(result))) or "the tool has failed, and does not say why")
        parts = _parts(result)
        return "\n".join(map(str, parts)) if all(isinstance(each, str) for each in parts) else parts


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
