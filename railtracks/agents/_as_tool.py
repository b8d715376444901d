"""An agent as a tool of another one: what the model is told of it, and what its arguments become.

Called where an agent is given as a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from railtracks._nodes.node import Node
from railtracks.agents._schemas import ToolManifest, parameters_of
from railtracks.agents._told import result_text
from railtracks.agents._toolbox import AgentTool, Args, Kwargs
from railtracks.llm import Tool, UserMessage
from railtracks.llm._wire import name_to_send


def agent_tool(node: Node[..., object]) -> AgentTool:
    """Return an agent as a tool: one that takes a text, or what its manifest says.

    Args:
        node: The node of the agent.

    Raises:
        ToolSchemaError: If a model cannot be told of a parameter of the manifest.
    """
    manifest = node.manifest or ToolManifest(f"Ask the agent {node.name}.")
    takes_text = manifest.parameters is None
    parameters = parameters_of(_ask if takes_text else _ask_with, name=node.name, manifest=manifest)

    def bind(arguments: Mapping[str, Any]) -> tuple[Args, Kwargs]:
        args, kwargs = parameters.bind(arguments)
        return (args, kwargs) if takes_text else ((UserMessage(result_text(kwargs)),), {})

    return AgentTool(Tool(name_to_send(node.name), parameters.detail, parameters.schema), node, bind)


# The signatures that stand for those of agents. Nobody calls them.


def _ask(user_input: str) -> None:
    """Ask an agent.

    Args:
        user_input: What the agent is asked, with all that it has to know.
    """


def _ask_with(**arguments: Any) -> None:
    """Ask an agent with the parameters of its manifest."""
