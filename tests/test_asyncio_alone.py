"""What needs Trio says so in asyncio, and what to do there, in place of an error from inside of Trio."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import railtracks as rt
from railtracks import dask, testing, viewer


async def connected() -> None:
    async with rt.connect_mcp(rt.MCPStdioParams("cat", [])):
        pass


async def provided() -> None:
    async with testing.FakeProvider("answer"):
        pass


async def served() -> None:
    await rt.create_mcp_server([len], "tools").run(port=0)


async def served_stdio() -> None:
    await rt.create_mcp_server([len], "tools").run_stdio()


async def shown() -> None:
    await viewer.serve(Path())


async def clustered() -> None:
    async with dask.open_cluster(1):
        pass


async def client_connected() -> None:
    async with dask.open_client("tcp://127.0.0.1:1"):
        pass


@pytest.mark.parametrize(
    "use", [connected, provided, served, served_stdio, shown, clustered, client_connected], ids=lambda use: use.__name__
)
def test_in_asyncio_it_says_what_to_use(use: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"'await flow\.ainvoke"):
            await use()

    asyncio.run(main())
