"""`rt.tool_schema`: what a model is told of a node. Called by users."""

from __future__ import annotations

import copy
from typing import Any

from railtracks.agents._toolbox import tool_of


def tool_schema(node: object, /) -> dict[str, Any]:
    """Return what a model is told of a node that is given to an agent as a tool.

    Args:
        node: Anything that `tool_nodes` takes, but the parameters of an MCP server.

    Returns:
        The `name` and the `description` of the tool, and its `parameters`, a JSON Schema (draft 2020-12) of an object
        with the arguments. A copy: changing it changes nothing.

    Raises:
        ToolSchemaError: If a model cannot be told of a parameter.
        NodeCreationError: If it is no node, and cannot be made one.
    """
    tool = tool_of(node).tool
    return {"name": tool.name, "description": tool.detail, "parameters": copy.deepcopy(dict(tool.parameters))}
