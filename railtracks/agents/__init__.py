"""Agents: nodes that ask a language model, and call the tools that it asks for. The extra `agents`.

Imported by `rt` when one of the names below is first asked for.
"""

from __future__ import annotations

from railtracks._sessions.durable import when_durable
from railtracks.agents._budgets import Budget
from railtracks.agents._codec import register
from railtracks.agents._mcp import (
    MCPClient,
    MCPHttpParams,
    MCPServer,
    MCPStdioParams,
    MCPTool,
    connect_mcp,
    create_mcp_server,
)
from railtracks.agents._middleware import ContextInjection, after_llm, before_llm, wrap_llm
from railtracks.agents._node import AgentNode, agent_node
from railtracks.agents._prompts import escape_braces
from railtracks.agents._response import AgentResponse
from railtracks.agents._schemas import ToolManifest
from railtracks.agents._streams import AgentStream, astream
from railtracks.agents._tool_schema import tool_schema

__all__ = [
    "AgentNode",
    "AgentResponse",
    "AgentStream",
    "Budget",
    "ContextInjection",
    "MCPClient",
    "MCPHttpParams",
    "MCPServer",
    "MCPStdioParams",
    "MCPTool",
    "ToolManifest",
    "after_llm",
    "agent_node",
    "astream",
    "before_llm",
    "connect_mcp",
    "create_mcp_server",
    "escape_braces",
    "tool_schema",
    "wrap_llm",
]

when_durable(register)
del register, when_durable
