"""A server in a process of its own, talked to over its standard input and output. Called by `MCPStdioParams`.

This is in place of the transport that `mcp` has, which holds up a cancelled task for four seconds. Here a cancel kills.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio

from railtracks._checks import is_dict
from railtracks.agents._mcp.loading import required

# The seconds that a server has to end after the end of its input, and once more after SIGTERM.
_GRACE: Final = 0.9
# An answer to a request, as servers write one. The client gives requests numbers.
_ANSWER: Final = re.compile(rb'\s*\{"jsonrpc": *"2\.0", *"id": *(\d{1,18}), *"(?:result|error)"')


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
    anyio = required("anyio")
    assert process.stdout is not None  # noqa: S101 - a pipe
    begun: list[bytes] = []
    with incoming:
        async for chunk in process.stdout:
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                read = _message_in(b"".join([*begun, line]))
                begun.clear()
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await incoming.send(read)
            begun.append(bytes(rest))
        ended()


def _message_in(line: bytes) -> object:
    """Return the message in a line; where it is none, the error that says so, as the answer to a request if it is one.

    Without an answer the request would wait until its time is up, and without a limit for ever.
    """
    types, message = required("mcp_types"), required("mcp.shared.message").SessionMessage
    try:
        return message(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        answered = _answered(line)
        if answered is None:
            # It is for the client to say what it does with rubbish.
            return error
        told = types.ErrorData(code=types.PARSE_ERROR, message="the server has sent an answer that is none")
        return message(types.JSONRPCError(jsonrpc="2.0", id=answered, error=told))


def _answered(line: bytes) -> int | None:
    """Return the number of the request that a line answers, `None` if it is no answer, such as a line of a log."""
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        # It may be nested too deeply, or be no UTF-8.
        answer = _ANSWER.match(line)
        return None if answer is None else int(answer[1])
    if not is_dict(found) or "jsonrpc" not in found or "method" in found:
        return None
    number = found.get("id")
    return number if isinstance(number, int) else None


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
