"""Nodes as an MCP server over stdio: waits in `slow`, and writes to the file in the argument how that ended."""

import sys
from pathlib import Path

import trio

import railtracks as rt


@rt.function_node
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    print("a node may print")
    return a + b


@rt.function_node
async def slow() -> str:
    """Wait."""
    place = Path(sys.argv[1])
    place.write_text("waiting", "ascii")
    try:
        await trio.sleep(60)
    finally:
        place.write_text("ended", "ascii")
    return "done"


trio.run(rt.create_mcp_server([add, slow]).run, "stdio")
