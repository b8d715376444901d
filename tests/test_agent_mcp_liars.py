"""Servers of MCP that say what they must not: each call has an answer at once, and the connection stays."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import railtracks as rt

SCRIPT = str(Path(__file__).parent / "scripts" / "mcp_liar.py")
TOOLS = str(Path(__file__).parent / "scripts" / "mcp_tools.py")
# With no limit: a call that waits for its answer would wait for ever.
FOREVER = float("inf")
DEEP = "[" * 10_000 + "]" * 10_000
TOOL = {"name": "say", "inputSchema": {"type": "object", "properties": {"line": {"type": "string"}}}}


def liar(tools: str = "", timeout: float = FOREVER) -> rt.MCPStdioParams:
    """Return a server whose tool `say` writes the line that it is given.

    In it stand the number of the call for `#`, and a byte that is no UTF-8 for `@`.
    """
    return rt.MCPStdioParams(sys.executable, [SCRIPT, tools or json.dumps([TOOL])], timeout=timeout)


def answer(**parts: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": "#"} | parts).replace('"#"', "#")


FINE = answer(result={"content": [{"type": "text", "text": "fine"}]})


@pytest.mark.parametrize(
    "line",
    [
        answer(result=None),
        answer(error={"code": "x", "message": 5}),
        answer(result={"content": [{"type": "text", "text": "\ud800"}]}),
        answer(result="DEEP").replace('"DEEP"', DEEP),
        answer(result="@"),
        json.dumps({"id": "#", "jsonrpc": "2.0"}).replace('"#"', "#"),
    ],
    ids=["null", "error", "half a character", "deep", "bytes", "nothing"],
)
async def test_an_answer_that_is_none_fails_its_call_at_once(line: str) -> None:
    with trio.fail_after(30):
        async with rt.connect_mcp(liar()) as server:
            (say,) = server.tools
            with pytest.raises(rt.MCPToolError, match="an answer that is none"):
                await rt.call(say, line=line)
            assert await rt.call(say, line=FINE) == "fine"


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[1]",
        '{"id": #}',
        '{"jsonrpc": "2.0", "id": "#", "no": 1}',
        '{"jsonrpc": "2.0", "method": 5, "id": #}',
    ],
)
async def test_a_line_that_answers_nothing_is_passed_over(line: str) -> None:
    with trio.fail_after(30):
        async with rt.connect_mcp(liar()) as server:
            assert await rt.call(server.tools[0], line=f"{line}\n{FINE}") == "fine"


async def test_an_error_of_a_server_with_the_code_of_a_lost_connection_is_one_of_its_tool() -> None:
    with trio.fail_after(30):
        async with rt.connect_mcp(liar()) as server:
            (say,) = server.tools
            process = await rt.call(say, line="pid")
            with pytest.raises(rt.MCPToolError, match="out of stock"):
                await rt.call(say, line=answer(error={"code": -32000, "message": "out of stock"}))
            # The server was not started again.
            assert await rt.call(say, line="pid") == process


async def test_tools_that_cannot_be_read_are_told_at_once() -> None:
    deep = json.dumps([TOOL | {"inputSchema": {"type": "object", "default": "DEEP"}}]).replace('"DEEP"', DEEP)
    with trio.fail_after(30):
        with pytest.raises(rt.MCPConnectionError, match="an answer that is none"):
            async with rt.connect_mcp(liar(deep)):
                pass


async def test_a_result_of_many_pieces_takes_no_longer_than_its_size() -> None:
    text = "x" * 20_000_000
    with trio.fail_after(60):
        async with rt.connect_mcp(liar()) as server:
            assert len(await rt.call(server.tools[0], line="large")) == len(text)


@pytest.mark.parametrize(
    "line", ["2026-01-02 INFO: added", "", "Traceback (most recent call last):", "[1, 2]", '{"level": "info"}', "{"]
)
async def test_a_server_that_works_may_write_other_lines_between_its_answers(line: str) -> None:
    # A line stands before the first answer, behind the last one, and between all of them.
    command = '"$0" "$1" good | while read -r answer; do printf "%s\\n%s\\n" "$2" "$answer"; done; echo "$2"'
    params = rt.MCPStdioParams("bash", ["-c", command, sys.executable, TOOLS, line], timeout=FOREVER)
    with trio.fail_after(60):
        async with rt.connect_mcp(params) as server:
            add, *_ = server.tools
            async with rt.open_group() as group:
                calls = [group.start_soon(add, a=number, b=0) for number in range(20)]
            assert [each.result() for each in calls] == [str(number) for number in range(20)]
            assert await rt.call(add, a=1, b=2) == "3"
