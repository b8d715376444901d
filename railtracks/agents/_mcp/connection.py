"""One connection to an MCP server, held open by a task of its own. Called by the link to the server.

What breaks the connection breaks nothing else: a call that was on its way fails with `MCPConnectionError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from railtracks._records.data import CallError
from railtracks._records.error_parts import each_in, is_group, text_of
from railtracks._records.errors import is_ordinary, raise_cancelled, raise_unchanged, without_cancelled
from railtracks.agents._mcp.loading import load, required
from railtracks.exceptions import MCPConnectionError, MCPToolError

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult, Tool

# The seconds for a farewell to a server that does not answer. Then the connection is cut, and its process killed.
_FAREWELL: Final = 2.0
_CLOSED: Final = "the connection is closed"
_ENDED: Final = "it has ended, or has closed the connection"
_FORGOTTEN: Final = "it does not know this session any more"


class NotTakenError(Exception):
    """A server has not taken a call, because it does not know the session: it can be made in another connection."""


class _Sent:
    """A call on its way to a server.

    Attributes:
        is_refused: Whether the server does not know the session of the call.
    """

    is_refused = False


# In the context of the request, which `mcp` makes in a task of its own.
_sent: ContextVar[_Sent | None] = ContextVar("railtracks_mcp_call", default=None)


class Connection:
    """A connection to an MCP server.

    Args:
        label: The name of the server, for errors.
        timeout: The seconds in which the server must have told its tools.
        transport: Takes this connection, and returns the transport to the server, of the package `mcp`.
        tells_of_end: Whether the transport calls `lost` before any call hears of the end.

    Attributes:
        label: The name of the server.
        tools: The tools of the server, once the connection is open.
        problem: Why the connection is not open.
    """

    def __init__(self, label: str, timeout: float, transport: Transport, *, tells_of_end: bool = False) -> None:
        self.label = label
        self.tools: Sequence[Tool] = ()
        self.problem: str = _CLOSED
        self._timeout = timeout
        self._transport = transport
        self._tells_of_end = tells_of_end
        self._client: Client | None = None
        self._closing = trio.Event()
        self._is_patient = False
        self._under_way = 0

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._client is not None

    @property
    def is_closing(self) -> bool:
        """Whether the task that holds it closes it, or has."""
        return self._closing.is_set()

    def error(self) -> MCPConnectionError:
        """Return the error that tells why the connection is not open."""
        return MCPConnectionError(self.label, self.problem)

    def close(self, *, is_patient: bool) -> None:
        """Have the connection closed by the task that holds it.

        Args:
            is_patient: Whether the server has 2 seconds to end, also where the task is cancelled.
        """
        self._client = None
        self._is_patient = is_patient
        self._closing.set()

    def lost(self) -> None:
        """Note that the server has ended. Called by the transport."""
        if not self._closing.is_set():
            self._end_calls(_ENDED)
            self.close(is_patient=True)

    def forgotten(self) -> None:
        """Note that the server does not know the session of a request, which it has not taken. Called in its task."""
        if (sent := _sent.get()) is not None:
            sent.is_refused = True
        self._end_calls(_FORGOTTEN)

    def _end_calls(self, problem: str) -> None:
        """Let no more calls begin. The connection is closed when those under way have ended: they may have answers."""
        if self._client is not None:
            self._client = None
            self.problem = problem
            if not self._under_way:
                self._closing.set()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        """Call a tool of the server. A cancel reaches the tool.

        Raises:
            MCPConnectionError: If the connection is not open any more.
            MCPToolError: If the server refuses the call.
            NotTakenError: If the server does not know the session any more.
        """
        client = self._client
        if client is None:
            raise self.error()
        sent = _Sent()
        token = _sent.set(sent)
        self._under_way += 1
        try:
            return await client.call_tool(name, dict(arguments))
        except required("mcp").MCPError as error:
            if sent.is_refused:
                raise NotTakenError from None
            # A server may give its own errors the same code.
            if _is_closed(error) and not (self._tells_of_end and self._client is client):
                self._end_calls(_ENDED)
                raise MCPConnectionError(self.label, _ENDED) from None
            raise MCPToolError(text_of(error)) from None
        finally:
            _sent.reset(token)
            self._under_way -= 1
            if self._client is None and not self._under_way:
                self._closing.set()

    async def hold(self, *, task_status: trio.TaskStatus[bool]) -> None:
        """Connect, and hold the connection open until `close` is called, or the server ends. For `nursery.start`.

        It starts with whether the connection is open. It raises nothing but cancellation and what ends the program.
        """
        await load()
        started = False
        with trio.CancelScope(deadline=trio.current_time() + self._timeout) as scope:
            try:
                async with required("mcp").Client(self._transport(self)) as client:
                    self.tools = await _listed(client)
                    scope.deadline = math.inf
                    # Trio does not take over a task whose starter is cancelled: the shield would hold up both for ever.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    # What is cancelled around it may use the connection in its cleanup; then it is closed.
                    scope.shield = True
                    self._client = client
                    started = True
                    task_status.started(started)
                    await self._closing.wait()
                    scope.shield = self._is_patient
                    scope.deadline = trio.current_time() + _FAREWELL
            except BaseException as error:  # noqa: ASYNC103, BLE001 - Cancelled goes on, beside an error it is dropped
                self._fail(error)
        self._client = None
        if not started:
            if scope.cancelled_caught:
                self.problem = f"it did not answer within {self._timeout:g} seconds"
            task_status.started(started)

    def _fail(self, error: BaseException) -> None:
        """Keep an error as the problem of the connection, or raise it if it is a cancel, or ends the program."""
        real = without_cancelled(error)
        try:
            if real is None:
                raise_cancelled(error)
            real = _innermost(real)
            if not is_ordinary(real):
                raise_unchanged(real)
            self.problem = _ENDED if _is_closed(real) else CallError(type(real).__name__, text_of(real)).line
        finally:
            # The error's traceback holds this stack frame: without the `del` the two would be a reference cycle.
            del real, error


Transport: TypeAlias = Callable[[Connection], AbstractAsyncContextManager[Any]]


def _is_closed(error: BaseException) -> bool:
    code: int = required("mcp_types").CONNECTION_CLOSED
    return getattr(error, "code", None) == code


def _innermost(error: BaseException) -> BaseException:
    """Return an error out of the groups that the nurseries of `mcp` put around it."""
    return next(each for each in each_in(error) if not is_group(each))


async def _listed(client: Client) -> list[Tool]:
    page = await client.list_tools()
    tools = [*page.tools]
    while page.next_cursor is not None:
        page = await client.list_tools(cursor=page.next_cursor)
        tools += page.tools
    return tools
