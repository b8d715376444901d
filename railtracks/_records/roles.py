"""What a call is to an agent: a run of one, a request to its model, or a tool call. Plain data, set on nodes.

Agents give it to the nodes that they call (`Node.with_role`), and observers ask an event for it (`CallEvent.role`). So
nobody has to guess it from a name.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class AgentRole(NamedTuple):
    """A run of an agent, whose name is that of the node.

    Attributes:
        tool_call_id: The identifier of the tool call that it answers, where the agent is a tool of another one.
    """

    tool_call_id: str | None = None


class ModelRole(NamedTuple):
    """A request to a model.

    Attributes:
        model: The name of the model, as its provider names it.
        provider: The name of the provider.
    """

    model: str
    provider: str


class ToolRole(NamedTuple):
    """A tool call that a model has asked for.

    Attributes:
        name: The name of the tool, as the model was told it.
        call_id: The identifier of the tool call.
    """

    name: str
    call_id: str


CallRole: TypeAlias = AgentRole | ModelRole | ToolRole
