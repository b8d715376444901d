"""A server in a process of its own, talked to over its standard input and output. Called by `MCPStdioParams`.

This is in place of the transport that `mcp` has, which holds up a cancelled task for four seconds. Here a cancel kills.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio

from railtracks.agents._mcp.loading import required

# The seconds that a server has to end after the end of its input, and once more after SIGTERM.
_GRACE: Final = 0.9


@asynccontextmanager
async def stdio_transport(
    command: Sequence[str], env: Mapping[str, str], cwd: str | Path | None, ended: Callable[[], None]
) -> AsyncGenerator[tuple[Any, Any]]:
    """Start a server, and yield the streams of its messages. Leaving the block ends it, with all of its processes.

    Its input ends, then it gets SIGTERM, then it is killed, each about a second after the other. A cancel kills it at
    once.

    Args:
        command: The program and its arguments.
        env: Its environment.
        cwd: The folder that it runs in; `None` for the current one.
        ended: Called when its output has ended, or it does not read its input any more.

    Raises:
        OSError: If it cannot be started.
    """
    process = await trio.lowlevel.open_process(
        [*command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
        cwd=cwd,
        # Ctrl-C in a terminal does not strike it, and it can be killed with what it has started.
        start_new_session=True,
    )
    streams = required("anyio").create_memory_object_stream
    # `mcp` waits for what comes in streams of anyio, and knows their errors.
    incoming, received = streams(0)
    sent, outgoing = streams(0)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, process, incoming, ended)
            nursery.start_soon(_write, process, outgoing, ended)
            yield received, sent
            # The reader goes on, and drops what it reads: a server that waits until it is read would not end.
            received.close()
            await _end(process)
            nursery.cancel_scope.cancel()
    finally:
        # Not the server alone: what it has started and left, too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
        for stream in (incoming, received, sent, outgoing):
            stream.close()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None  # noqa: S101 - both are pipes
            await trio.aclose_forcefully(pipe)


async def _read(process: trio.Process, incoming: Any, ended: Callable[[], None]) -> None:
    """Hand on the messages that a server writes, each in a line, until its output ends."""
    anyio, types = required("anyio"), required("mcp_types")
    message = required("mcp.shared.message").SessionMessage
    assert process.stdout is not None  # noqa: S101 - a pipe
    rest = b""
    with incoming:
        async for chunk in process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                try:
                    read: object = message(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
                except ValueError as error:
                    # It is for the client to say what it does with rubbish.
                    read = error
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await incoming.send(read)
        ended()


async def _write(process: trio.Process, outgoing: Any, ended: Callable[[], None]) -> None:
    """Write the messages to a server, each in a line, until there are no more, or it does not read them any more."""
    assert process.stdin is not None  # noqa: S101 - a pipe
    with outgoing:
        async for sent in outgoing:
            line = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
            try:
                await process.stdin.send_all(f"{line}\n".encode())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                ended()
                return


async def _end(process: trio.Process) -> None:
    """End a server that may do so by itself; return when it has ended, or did not want to."""
    assert process.stdin is not None  # noqa: S101 - a pipe
    await process.stdin.aclose()
    with trio.move_on_after(_GRACE):
        await process.wait()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with trio.move_on_after(_GRACE):
            await process.wait()
