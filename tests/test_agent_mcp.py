"""Tools of MCP servers: for a block, and as tools of an agent. The servers are real, on loopback and over stdio."""

from __future__ import annotations

import base64
import contextlib
import inspect
import io
import math
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp
import mcp_types as types
import pytest
import trio
from mcp.server.lowlevel.server import Server
from mcp_listener import listening
from trio.testing import wait_all_tasks_blocked

import railtracks as rt
from railtracks.agents._mcp.connection import Connection
from railtracks.agents._mcp.link import open_link
from railtracks.testing import ScriptedModel

SCRIPT = str(Path(__file__).parent / "scripts" / "mcp_tools.py")
PNG = b"\x89PNG\r\n\x1a\nrest"


def stdio(behaviour: str = "good", **options: Any) -> rt.MCPStdioParams:
    return rt.MCPStdioParams(sys.executable, [SCRIPT, behaviour], **options)


def text(value: str) -> types.TextContent:
    return types.TextContent(type="text", text=value)


# What the tools of the server over HTTP give back.
RESULTS: dict[str, types.CallToolResult] = {
    "one": types.CallToolResult(content=[text("only text")]),
    "two": types.CallToolResult(content=[text("two"), text("texts")]),
    "fails": types.CallToolResult(content=[text("no luck")], is_error=True),
    "fails silently": types.CallToolResult(content=[], is_error=True),
    "structured": types.CallToolResult(content=[], structured_content={"a": 1}),
    "empty": types.CallToolResult(content=[]),
    "image": types.CallToolResult(
        content=[
            text("a picture"),
            types.ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png"),
        ]
    ),
    "others": types.CallToolResult(
        content=[
            types.ImageContent(type="image", data=base64.b64encode(b"BM").decode(), mime_type="image/bmp"),
            types.AudioContent(type="audio", data="", mime_type="audio/wav"),
            types.EmbeddedResource(
                type="resource", resource=types.TextResourceContents(uri="file:///a", text="of a file")
            ),
            types.EmbeddedResource(type="resource", resource=types.BlobResourceContents(uri="file:///b", blob="aGk=")),
            types.ResourceLink(type="resource_link", name="c", uri="file:///c"),
        ]
    ),
    "large": types.CallToolResult(content=[text("x" * 2_000_000)]),
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


class Seen:
    """What the server over HTTP has seen."""

    def __init__(self) -> None:
        self.slow = trio.Event()
        self.cancelled = trio.Event()
        self.lists = 0


def served(seen: Seen) -> Any:
    async def listed(_context: object, _params: object) -> types.ListToolsResult:
        seen.lists += 1
        names = [*RESULTS, "slow"]
        return types.ListToolsResult(tools=[types.Tool(name=name, input_schema=SCHEMA) for name in names])

    async def called(_context: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name == "slow":
            seen.slow.set()
            try:
                await trio.sleep_forever()
            finally:
                seen.cancelled.set()
        return RESULTS[params.name]

    return Server("results", on_list_tools=listed, on_call_tool=called).streamable_http_app()


def no_children() -> bool:
    return not Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()


async def test_tools_of_a_server_over_stdio_are_nodes() -> None:
    async with rt.Session() as session, rt.connect_mcp(stdio(), prefix="x_") as server:
        assert [each.name for each in server.tools] == ["x_add", "x_crash", "x_hang", "x_refuse", "x_pid"]
        add, refuse = server.tools[0], server.tools[3]
        assert repr(add) == "<railtracks.MCPTool 'x_add'>"
        assert rt.tool_schema(add) == {
            "name": "x_add",
            "description": "It will add.",
            "parameters": {"type": "object", "properties": {}},
        }
        assert await rt.call(add, a=1, b=2) == "3"
        assert await add(a=1, b=3) == "4"
        async with rt.open_group() as group:
            calls = [group.start_soon(add, a=i, b=0) for i in range(20)]
        assert [each.result() for each in calls] == [str(i) for i in range(20)]
        with pytest.raises(rt.MCPToolError, match="no such method"):
            await rt.call(refuse)
        first = session.info.calls[0]
        assert (first.node, first.kwargs, first.result) == ("x_add", {"a": 1, "b": 2}, "3")
    with pytest.raises(rt.MCPConnectionError, match="closed"):
        await add(a=1, b=2)
    assert no_children()


async def test_a_server_starts_where_stderr_is_no_file_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if `mcp` had been imported in a notebook, or while the output was captured: its default is the stderr of then.
    monkeypatch.setattr(inspect.unwrap(mcp.stdio_client), "__defaults__", (io.StringIO(),))
    with contextlib.redirect_stderr(io.StringIO()):
        async with rt.connect_mcp(stdio()) as server:
            assert await server.tools[0](a=1, b=2) == "3"


async def test_only_the_tools_that_are_wanted_are_taken() -> None:
    async with rt.connect_mcp(stdio(), tools=["pid"]) as server:
        assert [each.name for each in server.tools] == ["pid"]
    with pytest.raises(ValueError, match="no tool 'nope'; it has add, crash"):
        async with rt.connect_mcp(stdio(), tools=["nope"]):
            pass
    assert no_children()


async def test_a_call_can_be_cancelled_and_the_connection_goes_on() -> None:
    async with rt.connect_mcp(stdio(timeout=math.inf)) as server:
        add, _, hang, *_ = server.tools
        with trio.move_on_after(0.05) as scope:
            await rt.call(hang)
        assert scope.cancelled_caught
        assert await add(a=1, b=2) == "3"


async def test_a_call_has_the_timeout_of_its_server() -> None:
    async with rt.connect_mcp(stdio(timeout=0.7)) as server:
        with pytest.raises(rt.NodeTimeoutError, match="hang"):
            await rt.call(server.tools[2])


async def test_a_server_that_ends_costs_its_own_calls_only() -> None:
    async with rt.connect_mcp(stdio()) as server:
        add, crash, hang, *_ = server.tools
        async with rt.open_group(return_exceptions=True) as group:
            waiting = group.start_soon(hang)
            crashing = group.start_soon(crash)
        for each in (waiting, crashing):
            with pytest.raises(rt.MCPConnectionError, match=r"mcp_tools\.py cannot be used: it has ended"):
                each.result()
        # The next call starts the server again.
        assert await add(a=1, b=2) == "3"
    assert no_children()


async def test_a_server_that_is_killed_is_told() -> None:
    async with rt.connect_mcp(stdio()) as server:
        pid = int(await server.tools[4]())
        async with rt.open_group(return_exceptions=True) as group:
            waiting = group.start_soon(server.tools[2])
            await wait_all_tasks_blocked()
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(rt.MCPConnectionError, match="has ended"):
            waiting.result()


async def test_a_server_that_ends_at_once_or_is_not_there_is_told() -> None:
    for params, problem in [
        (stdio("exit"), "has ended"),
        (rt.MCPStdioParams("/no/such/command"), "FileNotFoundError"),
        (rt.MCPHttpParams("http://name:geheim@127.0.0.1:9/mcp?key=geheim"), "server 127.0.0.1:9/mcp .*ConnectError"),
    ]:
        with pytest.raises(rt.MCPConnectionError, match=problem) as caught:
            async with rt.connect_mcp(params):
                pass
        assert "geheim" not in str(caught.value)
        assert isinstance(caught.value, ConnectionError)
    assert no_children()


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    # Its input ends with the connection, and it with its input.
    with pytest.raises(rt.MCPConnectionError, match=r"did not answer within 0\.2 seconds"):
        async with rt.connect_mcp(rt.MCPStdioParams("sh", ["-c", "cat >/dev/null"], timeout=0.2)):
            pass
    assert no_children()


@pytest.mark.proof
@pytest.mark.parametrize("behaviour", ["rubbish", "silent", "stuck"])
async def test_a_server_that_tells_no_tools_is_given_up_and_killed_at_once(behaviour: str, tmp_path: Path) -> None:
    # Beside the server `cat` reads its input: where that ends before the server is killed, there is a farewell.
    said = tmp_path / "said"
    beside = f"exec 3<&0; {{ cat <&3; echo farewell > {said}; }} > /dev/null &"
    command = f'{beside} exec "$0" "$1" {behaviour} 3<&- < /dev/null'
    with pytest.raises(rt.MCPConnectionError, match=r"did not answer within 0\.3 seconds"):
        async with rt.connect_mcp(rt.MCPStdioParams("sh", ["-c", command, sys.executable, SCRIPT], timeout=0.3)):
            pass
    assert not said.exists()
    assert no_children()


async def test_errors_of_the_block_come_out_as_they_are() -> None:
    problem = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with rt.connect_mcp(stdio()):
            raise problem
    assert caught.value is problem
    with trio.CancelScope() as scope:
        async with rt.connect_mcp(stdio()):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert no_children()


async def test_a_cancel_while_connecting_leaves_nothing() -> None:
    with trio.move_on_after(0.2) as scope:
        async with rt.connect_mcp(stdio()), rt.connect_mcp(rt.MCPStdioParams("sleep", ["0.6"])):
            pass
    assert scope.cancelled_caught
    assert no_children()


async def test_results_of_a_tool_are_text_and_images() -> None:
    async with listening(served(Seen())) as url, rt.connect_mcp(rt.MCPHttpParams(url)) as server:
        tools = {each.name: each for each in server.tools}
        assert await tools["one"](a=1) == "only text"
        assert await tools["two"]() == "two\ntexts"
        assert await tools["structured"]() == '{"a": 1}'
        assert await tools["empty"]() == ""
        assert len(await tools["large"]()) == 2_000_000
        shown, image = await tools["image"]()
        assert (shown, image) == ("a picture", rt.llm.Attachment("image/png", data=PNG, name="image"))
        problem, audio, inside, blob, link = (await tools["others"]()).splitlines()
        assert problem.startswith("[an image that cannot be shown")
        assert "recording" in audio
        assert (inside, blob, link) == ("of a file", "[the resource file:///b]", "[c: file:///c]")
        with pytest.raises(rt.MCPToolError, match=r"^no luck$"):
            await tools["fails"]()
        with pytest.raises(rt.MCPToolError, match="does not say why"):
            await tools["fails silently"]()


async def test_a_cancel_reaches_the_tool_of_the_server() -> None:
    seen = Seen()
    async with listening(served(seen)) as url, rt.connect_mcp(rt.MCPHttpParams(url)) as server:
        slow = server.tools[-1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.call, slow)
            await seen.slow.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await seen.cancelled.wait()
        assert await server.tools[0]() == "only text"


async def test_an_agent_has_the_tools_of_servers_with_one_connection_a_session() -> None:
    seen = Seen()
    async with listening(served(seen)) as url:
        script: list[Any] = [[("one", {}), ("fails", {}), ("image", {})], "done"]
        params = rt.MCPHttpParams(url, headers={"X-Key": "k"})
        agent = rt.agent_node("A", llm=ScriptedModel(*script), tool_nodes=[params])
        other = rt.agent_node("B", llm=ScriptedModel(*script), tool_nodes=[rt.MCPHttpParams(url, {"X-Key": "k"})])
        async with rt.Session() as session:
            response = await rt.call(agent, "Hi")
            await rt.call(agent, "Hi")
            await rt.call(other, "Hi")
            assert seen.lists == 1
        told = [answer for _, answer in response.tool_invocations]
        assert [each.result for each in told[:2]] == ["only text", "MCPToolError: no luck"]
        assert [each.media_type for each in told[2].attachments] == ["image/png"]
        children = session.info.children(session.info.roots[0].id)
        assert {each.node for each in children} >= {"one", "fails", "image"}


async def test_an_agent_starts_a_server_and_the_session_ends_it() -> None:
    agent = rt.agent_node("A", llm=ScriptedModel(("add", {"a": 1, "b": 2}), "done"), tool_nodes=[stdio()])
    async with rt.Session():
        response = await rt.call(agent, "Hi")
    assert response.tool_invocations[0][1].result == "3"
    assert no_children()


async def test_an_agent_whose_server_is_not_there_fails_before_its_first_request() -> None:
    model = ScriptedModel("done")
    agent = rt.agent_node("A", llm=model, tool_nodes=[rt.MCPStdioParams("/no/such/command")])
    with pytest.raises(rt.MCPConnectionError):
        await rt.call(agent, "Hi")
    assert model.asked == ()


async def test_what_ends_the_program_is_no_problem_of_a_connection() -> None:
    @asynccontextmanager
    async def struck(_: Connection) -> AsyncGenerator[None]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        async with open_link(lambda: Connection("struck", 30, struck), is_patient=True) as link:
            await link.opened()


def test_parameters_tell_no_secrets_and_are_checked() -> None:
    params = rt.MCPStdioParams("run", ["--token", "geheim"], env={"TOKEN": "geheim2"})
    assert "geheim2" not in repr(params)
    assert "geheim" not in repr(rt.MCPHttpParams("http://x", headers={"a": "geheim"}, auth=("me", "geheim")))
    for wrong in (0, -1, "x", math.nan):
        with pytest.raises((TypeError, ValueError)):
            rt.MCPStdioParams("run", timeout=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"args must be a list of strings, not a string: write \['server.py'\]"):
        rt.MCPStdioParams("run", "server.py")


async def test_connect_mcp_refuses_what_is_no_parameters_of_a_server() -> None:
    with pytest.raises(TypeError, match=r"takes rt\.MCPStdioParams\(\.\.\.\) or .*, not 'npx'"):
        async with rt.connect_mcp("npx"):  # type: ignore[arg-type]
            pass


async def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ImportError, match=r"railtracks-trio\[mcp\]"):
        async with rt.connect_mcp(stdio()):
            pass
