"""The tools of one agent: what the model is told of them, and which call a tool call of the model becomes.

Called where an agent is made, and by its run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec
from attrs import frozen

from railtracks._calls.group import CallGroup
from railtracks._calls.pending import PendingCall
from railtracks._checks import is_list, is_mapping
from railtracks._nodes.making import made_node
from railtracks._nodes.node import Node
from railtracks._records.roles import AgentRole, ToolRole
from railtracks._records.secret_names import is_secret_name
from railtracks._sessions.session import Session
from railtracks.agents._schemas import MisfitError, parameters_of
from railtracks.agents._told import refusal
from railtracks.exceptions import NodeCreationError
from railtracks.llm import Tool, ToolCall, ToolResponse
from railtracks.llm._wire import MOST_LEVELS, arguments_in, name_to_send

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

# An object with this method stands for a tool: an agent, for example. The method returns the `AgentTool`.
TOOL_HOOK: Final = "__railtracks_tool__"


@frozen(eq=False)
class AgentTool:
    """A tool of an agent.

    Attributes:
        tool: What the model is told.
        node: The node that a call of the tool calls.
        bind: Turns the arguments of the model into those of the node, or raises `MisfitError`.
    """

    tool: Tool
    node: Node[..., object]
    bind: Callable[[Mapping[str, Any]], tuple[Args, Kwargs]]


@runtime_checkable
class ToolSource(Protocol):
    """What is given as a tool and stands for tools that are only known once a session is open, such as a server."""

    async def __railtracks_tools__(self, session: Session, run_key: Callable[[], str], /) -> Sequence[AgentTool]:
        """Return the tools, at the first turn of each run, which `run_key` tells from others."""
        ...


class PreparedCall(NamedTuple):
    """A tool call of the model as a call of a node."""

    call: ToolCall
    node: Node[..., object]
    args: Args
    kwargs: Kwargs

    @property
    def is_of_agent(self) -> bool:
        """Whether the node is an agent."""
        return isinstance(self.node.role, AgentRole)

    def start(self, group: CallGroup, timeout: float | None) -> PendingCall[object]:
        """Start the call in a group. The timeout is for nodes that have none of their own."""
        node = (
            self.node if timeout is None or self.node.timeout is not None else self.node.with_options(timeout=timeout)
        )
        call = self.call
        role = AgentRole(call.identifier) if self.is_of_agent else ToolRole(call.name, call.identifier)
        return group.start_soon(node.with_role(role), *self.args, **self.kwargs)


class Toolbox:
    """The tools of one agent, by the names that the model knows.

    Args:
        tools: The tools.

    Raises:
        NodeCreationError: If two tools have one name.
    """

    def __init__(self, tools: Iterable[AgentTool]) -> None:
        self._tools: dict[str, AgentTool] = {}
        for tool in tools:
            other = self._tools.setdefault(tool.tool.name, tool)
            if other is not tool:
                raise NodeCreationError(
                    f"the nodes {other.node.name!r} and {tool.node.name!r} are both the tool {tool.tool.name!r}: give"
                    " one another name, with_options(name=...)"
                )

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the model is told of the tools."""
        return tuple(each.tool for each in self._tools.values())

    def secret_parameter(self) -> tuple[str, str] | None:
        """Return the tool and the name of a parameter under the name of a secret, `None` if there is none."""
        found = ((each.name, name) for each in self.tools for name in _names_in(each.parameters))
        return next(((tool, name) for tool, name in found if is_secret_name(name)), None)

    def prepare(self, call: ToolCall) -> PreparedCall | ToolResponse:
        """Return the call of a node that a tool call becomes, or the answer to a tool call that cannot be made."""
        tool = self._tools.get(call.name)
        if tool is None:
            return refusal(call, f"there is no tool {call.name!r}; there are: {', '.join(self._tools) or 'none'}")
        # A model of a user's may hand over the text that it was sent.
        given = arguments_in(call.arguments) if isinstance(call.arguments, str) else call.arguments
        if isinstance(given, str):
            return refusal(call, _problem_of(given))
        try:
            return PreparedCall(call, tool.node, *tool.bind(given))
        except MisfitError as error:
            return refusal(call, str(error))


def _problem_of(text: str) -> str:
    found: object = {}
    # Python's parser tells more, and takes what is no JSON.
    for parse in (json.loads, msgspec.json.decode):
        try:
            found = parse(text)
        except ValueError as error:
            return f"the arguments are no JSON object: {error}"
        except RecursionError:
            break
    if is_mapping(found):
        return f"the arguments have more than {MOST_LEVELS} levels"
    return "the arguments are no JSON object: they are another JSON value"


def _names_in(schema: object) -> Iterator[str]:
    """Return the names of all properties in a JSON Schema, at any depth."""
    waiting: list[object] = [schema]
    while waiting:
        each = waiting.pop()
        if is_mapping(each):
            properties = each.get("properties")
            if is_mapping(properties):
                yield from map(str, properties)
            waiting += each.values()
        elif is_list(each):
            waiting += each


@frozen
class GivenTools:
    """What was given as `tool_nodes`.

    Attributes:
        tools: The tools that are known where the agent is made.
        sources: What further tools come from.
    """

    tools: tuple[AgentTool, ...]
    sources: tuple[ToolSource, ...]

    async def toolbox(self, session: Session, run_key: Callable[[], str]) -> Toolbox:
        """Return the tools for a run.

        Args:
            session: The session.
            run_key: Returns a text that tells the run from others: equal ones have the same agent and input.

        Raises:
            NodeCreationError: If two tools have one name.
        """
        tools = [*self.tools]
        for source in self.sources:
            tools += await source.__railtracks_tools__(session, run_key)
        return Toolbox(tools)


def given_tools(given: Any) -> GivenTools:
    """Return the value of the option `tool_nodes`, checked.

    Raises:
        NodeCreationError: If something in it cannot be a tool, or two tools have one name.
    """
    if isinstance(given, str):
        raise NodeCreationError("tool_nodes must be a list of nodes and functions, not a string")
    if callable(given) or isinstance(given, ToolSource):
        raise NodeCreationError(f"tool_nodes must be a list, also of one tool: write [...] around {given!r}")
    try:
        items: list[object] = list(given)
    except TypeError as error:
        raise NodeCreationError(f"tool_nodes must be a list of nodes and functions: {error}") from None
    sources = tuple(each for each in items if isinstance(each, ToolSource))
    tools = tuple(tool_of(each) for each in items if not isinstance(each, ToolSource))
    Toolbox(tools)
    return GivenTools(tools, sources)


def tool_of(given: object) -> AgentTool:
    """Return a node, an agent or a plain function as a tool.

    Raises:
        NodeCreationError: If it cannot be a tool.
    """
    if isinstance(given, AgentTool):
        return given
    node = made_node(given)
    hook: object = getattr(type(node.core.fn), TOOL_HOOK, None)
    if callable(hook):
        tool: object = hook(node.core.fn, node)
        assert isinstance(tool, AgentTool)  # noqa: S101 - what the method is there for
        return tool
    parameters = parameters_of(node.fn, name=node.name, manifest=node.manifest)
    return AgentTool(Tool(name_to_send(node.name), parameters.detail, parameters.schema), node, parameters.bind)
