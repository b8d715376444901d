"""Nodes as an MCP server over HTTP, in a process that a test can kill. It prints its address."""

import trio

import railtracks as rt


@rt.function_node
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@rt.function_node
async def hang() -> None:
    """Never end."""
    await trio.sleep_forever()


async def main() -> None:
    server = rt.create_mcp_server([add, hang])
    async with trio.open_nursery() as nursery:
        url = await nursery.start(lambda task_status: server.run("streamable-http", port=0, task_status=task_status))
        print(url, flush=True)


trio.run(main)
