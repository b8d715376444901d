"""What tools a server has, as data. Called by clients, and by runs of agents."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from railtracks._calls.call import call
from railtracks._calls.here import current_scope
from railtracks._nodes.making import function_node
from railtracks.agents._mcp.connection import Connection
from railtracks.agents._mcp.link import Link


class SeenTool(NamedTuple):
    """A tool of a server, as the server tells of it."""

    name: str
    description: str
    parameters: Mapping[str, Any]


def seen_tools(connection: Connection) -> list[SeenTool]:
    """Return the tools of an open connection."""
    return [SeenTool(each.name, each.description or "", each.input_schema) for each in connection.tools]


def wanted_tools(tools: Sequence[SeenTool], names: Iterable[str] | None) -> list[SeenTool]:
    """Return the tools with some names; without names all of them.

    Raises:
        ValueError: If the server does not have one of them.
    """
    if names is None:
        return [*tools]
    known = {each.name: each for each in tools}
    wanted = [*names]
    for name in wanted:
        if name not in known:
            raise ValueError(f"the MCP server has no tool {name!r}; it has {', '.join(known) or 'none'}")
    return [known[name] for name in wanted]


async def listed_tools(link: Callable[[], Awaitable[Link]], label: str, run_key: Callable[[], str]) -> list[SeenTool]:
    """Return the tools of a server for a run of an agent.

    In a durable session they are recorded. So a resume does not connect before a call is to be made, and it offers the
    model what the first run has: the server may have other tools by then.

    Args:
        link: Returns the link to the server.
        label: The name of the server, for the record.
        run_key: Returns what tells the run from others. Agents that tasks of a plain nursery await without calls of
            their own may have this server at once, and a resume has to tell which of them has listed its tools.

    Raises:
        MCPConnectionError: If the server cannot be reached, or does not tell its tools in time.
    """

    async def tools() -> str:
        # A text: the names of parameters in it are not those of values.
        return json.dumps(seen_tools(await (await link()).opened()))

    scope = current_scope()
    if scope is None or scope.journal is None:
        return seen_tools(await (await link()).opened())
    text = await call(function_node(tools, name=f"tools of {label}", key=run_key()))
    return [SeenTool(*each) for each in json.loads(text)]
