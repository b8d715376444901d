"""Tools of MCP servers for agents, and nodes as an MCP server. The extra `mcp`.

The package `mcp` is imported on first use. Not supported, and answered so to a server that asks for it: sampling,
elicitation, roots. Not asked for: resources, prompts, tasks.
"""

from __future__ import annotations

from railtracks.agents._mcp.client import MCPClient, connect_mcp
from railtracks.agents._mcp.parameters import MCPHttpParams, MCPStdioParams
from railtracks.agents._mcp.server import MCPServer, create_mcp_server
from railtracks.agents._mcp.tools import MCPTool

__all__ = [
    "MCPClient",
    "MCPHttpParams",
    "MCPServer",
    "MCPStdioParams",
    "MCPTool",
    "connect_mcp",
    "create_mcp_server",
]
