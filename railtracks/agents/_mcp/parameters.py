"""Where an MCP server is: a command that starts one, or an address. Made by users, for `connect_mcp` and for agents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from railtracks._checks import check_timeout
from railtracks._sessions.session import Session
from railtracks.agents._mcp.connection import Connection
from railtracks.agents._mcp.link import open_link
from railtracks.agents._mcp.listing import listed_tools
from railtracks.agents._mcp.loading import required
from railtracks.agents._mcp.stdio import stdio_transport
from railtracks.agents._mcp.tools import MCPTool
from railtracks.agents._toolbox import AgentTool, tool_of
from railtracks.llm._loading import tls

_NOT_FOUND: Final = 404


def _texts(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise TypeError(f"args must be a list of strings, not a string: write [{given!r}]")
    return tuple(given)


def _check_seconds(_params: object, _attribute: object, given: Any) -> None:
    check_timeout("timeout", given)


@frozen
class MCPStdioParams:
    """A command that starts an MCP server, which is talked to over its standard input and output.

    Among the `tool_nodes` of an agent it is started when a run first needs it, once a session, and ends with the
    session. What it writes to its standard error goes to that of this process.

    Attributes:
        command: The program.
        args: Its arguments.
        env: Environment variables for it, beside `HOME`, `LOGNAME`, `PATH`, `SHELL`, `TERM` and `USER` of this process.
        cwd: The folder that it runs in; by default the current one.
        timeout: The seconds that it may take to start and tell its tools, and that each call of a tool may take;
            `math.inf` for no limit.
    """

    command: str
    args: Sequence[str] = field(default=(), converter=_texts)
    env: Mapping[str, str] | None = field(default=None, repr=False)
    cwd: str | Path | None = None
    timeout: float = field(default=30.0, validator=_check_seconds)

    async def __railtracks_tools__(self, session: Session, run_key: Callable[[], str], /) -> Sequence[AgentTool]:
        """Return the tools of the server for a run."""
        key = (self.command, self.args, tuple(sorted((self.env or {}).items())), self.cwd, self.timeout)
        return await _shared_tools(self, session, key, run_key)

    def connection(self) -> Connection:
        """Return a new connection to the server, which is not open yet."""
        # Without options, whose values may be secrets: `npx` alone would say too little.
        named = next((each for each in self.args if not each.startswith("-")), "")
        return Connection(f"{self.command} {named}".rstrip(), self.timeout, self._transport, tells_of_end=True)

    def _transport(self, connection: Connection) -> AbstractAsyncContextManager[Any]:
        # What is safe to inherit, says `mcp`.
        inherited: dict[str, str] = required("mcp.client.stdio").get_default_environment()
        return stdio_transport((self.command, *self.args), inherited | dict(self.env or {}), self.cwd, connection.lost)


@frozen
class MCPHttpParams:
    """The address of an MCP server that speaks streamable HTTP.

    Among the `tool_nodes` of an agent it is connected to when a run first needs it, once a session.

    Attributes:
        url: The address.
        headers: Headers of each request.
        timeout: The seconds that it may take to connect and be told the tools, and that each call of a tool may take;
            `math.inf` for no limit.
        auth: What puts the authentication into each request: an `httpx2.Auth`, or a name and a password.
    """

    url: str
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    timeout: float = field(default=30.0, validator=_check_seconds)
    auth: Any = field(default=None, repr=False)

    async def __railtracks_tools__(self, session: Session, run_key: Callable[[], str], /) -> Sequence[AgentTool]:
        """Return the tools of the server for a run."""
        key = (self.url, tuple(sorted((self.headers or {}).items())), self.timeout, id(self.auth))
        return await _shared_tools(self, session, key, run_key)

    def connection(self) -> Connection:
        """Return a new connection to the server, which is not open yet."""
        # Without a name and a password in the address, and without its query.
        label = self.url.partition("?")[0].rpartition("@")[2]
        return Connection(label, self.timeout, self._transport)

    @asynccontextmanager
    async def _transport(self, connection: Connection) -> AsyncGenerator[Any]:
        httpx2 = required("httpx2")

        async def look(response: Any) -> None:
            # So says the protocol: the server has ended the session, or was restarted, and has done nothing.
            asked = response.request
            if response.status_code == _NOT_FOUND and asked.method == "POST" and "mcp-session-id" in asked.headers:
                connection.forgotten()

        http = required("mcp.client.streamable_http")
        # Reading has no limit here: the calls have one, and a server may be silent while a tool works.
        timeout = httpx2.Timeout(min(self.timeout, 600), read=None)
        async with (
            httpx2.AsyncClient(
                headers=self.headers, auth=self.auth, timeout=timeout, verify=tls(), event_hooks={"response": [look]}
            ) as client,
            http.streamable_http_client(self.url, http_client=client) as streams,
        ):
            yield streams


MCPParams: TypeAlias = MCPStdioParams | MCPHttpParams


def check_params(given: object) -> None:
    """Check the argument of `connect_mcp`.

    Raises:
        TypeError: If it does not say where a server is.
    """
    if not isinstance(given, MCPStdioParams | MCPHttpParams):
        raise TypeError(f"connect_mcp() takes rt.MCPStdioParams(...) or rt.MCPHttpParams(...), not {given!r}")


async def _shared_tools(
    params: MCPParams, session: Session, key: Hashable, run_key: Callable[[], str]
) -> Sequence[AgentTool]:
    # One link a session, and its resource: it is closed with that, and a cancel then comes when the time is up.
    opened = partial(open_link, params.connection, is_patient=False)
    link = partial(session.shared_resource, ("railtracks mcp", key), opened)
    tools = await listed_tools(link, params.connection().label, run_key)
    return [tool_of(MCPTool(link, each, "", params.timeout)) for each in tools]
