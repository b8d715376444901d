"""The server of the viewer and of tools over HTTP: what strangers on the other side of a connection cost."""

from __future__ import annotations

import socket
import struct
import time

import h2.config
import h2.connection
import h2.settings
import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send
from trio.testing import MockClock

from railtracks._serving import listening_at, serve_at


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_an_answer_ends_with_the_http2_connection_that_takes_none_of_it(size: int) -> None:
    sending, ended = trio.Event(), trio.Event()

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            sending.set()
            await send({"type": "http.response.body", "body": b"x" * size})
        finally:
            ended.set()

    listening, address = listening_at("127.0.0.1", 0)
    host, _, port = address.removeprefix("http://").partition(":")
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.send_headers(
        1, [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", host)], end_stream=True
    )
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_at, listening, Starlette(routes=[Mount("/", app=answer)]))
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(client.data_to_send())
                await sending.wait()
                assert not ended.is_set()
            await ended.wait()
            nursery.cancel_scope.cancel()


async def test_a_client_that_reads_nothing_does_not_hold_up_the_end_of_the_server() -> None:
    sending, sent = trio.Event(), trio.Event()

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending.set()
        # Far more than the buffers of both sockets take.
        await send({"type": "http.response.body", "body": b"x" * 50_000_000})
        sent.set()

    listening, address = listening_at("127.0.0.1", 0)
    host, _, port = address.removeprefix("http://").partition(":")
    over, scope = trio.Event(), trio.CancelScope()

    async def serve(*, task_status: trio.TaskStatus[object]) -> None:
        with scope:
            await serve_at(listening, Starlette(routes=[Mount("/", app=answer)]), task_status=task_status)
        over.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await sending.wait()
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            with trio.move_on_after(30):
                await over.wait()
            assert over.is_set()
    assert not sent.is_set()


async def test_a_connection_that_its_client_has_reset_is_given_back_at_once(mock_clock: MockClock) -> None:
    # Time stands still: what waits for another request would wait for ever.
    assert mock_clock.rate == 0

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("found")(scope, receive, send)

    listening, address = listening_at("127.0.0.1", 0)
    host, _, port = address.removeprefix("http://").partition(":")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_at, listening, Starlette(routes=[Mount("/", app=answer)]))
        (serving,) = nursery.child_tasks
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while b"found" not in received:
                received += await stream.receive_some()
            assert connections(serving) == 1
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until = time.monotonic() + 10
        while connections(serving) and time.monotonic() < until:
            await trio.to_thread.run_sync(time.sleep, 0.01)
        assert connections(serving) == 0
        nursery.cancel_scope.cancel()


def connections(serving: trio.lowlevel.Task) -> int:
    """Return how many connections a server has: each has a task below the one that listens."""
    (listeners,) = serving.child_nurseries
    return len(listeners.child_tasks) - 1
