"""Nodes as the tools of an MCP server, used by the client of the package `mcp`."""

from __future__ import annotations

import functools
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from mcp import Client, StdioServerParameters

import railtracks as rt
from railtracks.testing import ScriptedModel

SCRIPT = Path(__file__).parent / "scripts" / "mcp_of_nodes.py"
PNG = b"\x89PNG\r\n\x1a\nrest"
PDF = b"%PDF-1.7"


@rt.function_node
def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: The first.
    """
    return a + b


@rt.function_node
async def fail(password: str) -> None:
    raise ValueError(f"no {password}")


@rt.function_node
async def fatal() -> None:
    raise rt.FatalError("stop")


@rt.function_node
async def shown() -> Any:
    return ["a picture", rt.llm.Attachment("image/png", data=PNG), rt.llm.Attachment("application/pdf", data=PDF)]


async def asked(client: Client, name: str, **arguments: Any) -> tuple[bool, str]:
    result = await client.call_tool(name, arguments)
    return result.is_error, "\n".join(getattr(each, "text", each.type) for each in result.content)


async def test_a_client_is_told_of_nodes_as_a_model_is() -> None:
    server = rt.create_mcp_server([add])
    assert repr(server) == "<railtracks.MCPServer 'MCP Server'>"
    async with Client(server.server) as client:
        told = (await client.list_tools()).tools[0]
        assert told.model_dump(include={"name", "description", "input_schema"}) == {
            "name": "add",
            "description": "Add two numbers.",
            "input_schema": rt.tool_schema(add)["parameters"],
        }
        assert client.server_info is not None
        assert client.server_info.name == "MCP Server"


async def test_each_call_of_a_tool_is_a_call_of_its_node() -> None:
    agent = rt.agent_node("Helper", llm=ScriptedModel("of the model"))
    server = rt.create_mcp_server([add, shown, agent, lambda: {"a": 1}], "mine")
    async with Client(server.server) as client:
        assert await asked(client, "add", a="3") == (False, "5")
        assert await asked(client, "shown") == (False, "a picture\nimage")
        assert await asked(client, "Helper", user_input="Hi") == (False, "of the model")
        assert await asked(client, "_lambda_") == (False, '{"a":1}')


async def test_failures_are_told_without_secrets_and_are_no_errors_of_the_server() -> None:
    async with Client(rt.create_mcp_server([add, fail, fatal]).server) as client:
        assert await asked(client, "add", a="x") == (True, "Expected `int`, got `str` - at `$.a`")
        assert await asked(client, "nope") == (True, "there is no tool 'nope'; there are: add, fail, fatal")
        assert await asked(client, "fail", password="canary-12345") == (True, "ValueError: no [redacted]")
        assert await asked(client, "fatal") == (True, "FatalError: stop")
        assert await asked(client, "add", a=1) == (False, "3")


async def test_calls_belong_to_the_session_around_the_server() -> None:
    async with rt.Session() as session, Client(rt.create_mcp_server([add]).server) as client:
        await asked(client, "add", a=1)
        await asked(client, "add", a=2)
        assert [(each.node, each.result) for each in session.info.calls] == [("add", 3), ("add", 4)]


async def test_a_call_outside_of_a_session_has_one_with_its_options(autojump_clock: trio.abc.Clock) -> None:
    @rt.function_node
    async def end() -> None:
        rt.current_session().cancel("enough")
        await trio.sleep_forever()

    @rt.function_node
    async def wait() -> None:
        await trio.sleep(60)

    async with Client(rt.create_mcp_server([end, wait]).server) as client:
        assert await asked(client, "end") == (True, "cancelled: the session of the call has ended")
        rt.set_config(timeout=1)
        is_error, told = await asked(client, "wait")
        assert is_error
        assert told.startswith("SessionTimeoutError")


async def test_a_cancel_by_the_client_reaches_the_node() -> None:
    started, ended = trio.Event(), trio.Event()

    @rt.function_node
    async def slow() -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        url = await nursery.start(functools.partial(rt.create_mcp_server([slow, add]).run, port=0))
        async with Client(url) as client:
            async with trio.open_nursery() as calls:
                calls.start_soon(client.call_tool, "slow", {})
                await started.wait()
                calls.cancel_scope.cancel()
            with trio.fail_after(5):
                await ended.wait()
            assert await asked(client, "add", a=1) == (False, "3")
        nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_ends_no_other() -> None:
    upgrade = b"GET /mcp HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AAAA\r\n\r\n"
    async with trio.open_nursery() as nursery:
        url = await nursery.start(functools.partial(rt.create_mcp_server([add]).run, host="localhost", port=0))
        assert url.startswith("http://127.0.0.1:")
        async with await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0) as stream:
            await stream.send_all(upgrade)
            async for _ in stream:
                pass
        async with Client(url) as client:
            assert await asked(client, "add", a=1) == (False, "3")
        nursery.cancel_scope.cancel()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return socket.has_dualstack_ipv6()


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize(
    ("host", "reached"), [("::", ["127.0.0.1", "::1"]), ("::1", ["::1"]), ("[::1]", ["::1"])], ids=str
)
async def test_an_address_of_ipv6_may_have_brackets_and_the_one_that_stands_for_all_is_also_ipv4(
    host: str, reached: list[str]
) -> None:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(functools.partial(rt.create_mcp_server([add]).run, host=host, port=0))
        assert url.startswith(f"http://[{host.strip('[]')}]:")
        for each in reached:
            await (await trio.open_tcp_stream(each, urlsplit(url).port or 0)).aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.proof
async def test_a_server_over_stdio_ends_with_its_client(tmp_path: Path, measured_processes: None) -> None:
    place = tmp_path / "slow"
    params = StdioServerParameters(
        command=sys.executable,
        args=[str(SCRIPT), str(place)],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
        cwd=tmp_path,
    )
    async with Client(params) as client:
        assert await asked(client, "add", a=1) == (False, "3")
        async with trio.open_nursery() as calls:
            calls.start_soon(client.call_tool, "slow", {})
            while not place.exists():  # noqa: ASYNC110 - another process makes it
                await trio.sleep(0.01)
            calls.cancel_scope.cancel()
        with trio.fail_after(5):
            while place.read_text("ascii") != "ended":  # noqa: ASYNC110 - the same
                await trio.sleep(0.01)


async def test_what_cannot_be_a_server_is_refused() -> None:
    def odd(x: complex) -> None: ...

    for nodes, name, error, problem in [
        ([odd], "s", rt.ToolSchemaError, "'x'"),
        ([add, add.with_options(timeout=1)], "s", rt.NodeCreationError, "both the tool 'add'"),
        ([rt.MCPHttpParams("http://x")], "s", rt.NodeCreationError, "not the tools of another server"),
        ([add], "", ValueError, "server_name"),
        ([add], 3, TypeError, "server_name"),
    ]:
        with pytest.raises(error, match=problem):
            rt.create_mcp_server(nodes, name)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'sse'"):
        await rt.create_mcp_server([add]).run("sse")  # type: ignore[arg-type]
