"""`rt.asgi`: flows end with the lifespan of an application, and when the client of a request leaves."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

import railtracks as rt

pytestmark = pytest.mark.usefixtures("no_trio_thread_afterwards")

WAIT = 10
Message = MutableMapping[str, Any]


class Hanging:
    """A flow that sleeps until it is cancelled, and cleans up."""

    def __init__(self) -> None:
        self.began, self.events = threading.Event(), list[str]()
        self.flow = rt.Flow("hanging", self._hang, save_state=False)

    async def _hang(self) -> None:
        self.began.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            self.events.append("cleaned up")


async def pause() -> None:
    """Let other tasks run, in either world."""
    if trio.lowlevel.in_trio_task():
        await trio.testing.wait_all_tasks_blocked()
    else:
        for _ in range(5):
            await asyncio.sleep(0)


class Client:
    """The client of one request, as its server tells of it in either world. It leaves when it is told to."""

    def __init__(self, *chunks: bytes, declared: int | None = None, has_left: bool = False) -> None:
        self._has_left = has_left
        self._wake: Callable[[], object] = lambda: None
        last = len(chunks) - 1
        self._messages: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": number < last} for number, chunk in enumerate(chunks)
        ]
        self.watchers = 0
        headers = [] if declared is None else [(b"content-length", str(declared).encode())]
        self.request = Request({"type": "http", "method": "POST", "headers": headers}, self._receive)

    def leave(self) -> None:
        """Leave; for all threads."""
        self._has_left = True
        self._wake()

    async def _receive(self) -> Message:
        if self._messages:
            return self._messages.pop(0)
        self.watchers += 1
        try:
            await (self._wait_in_trio if trio.lowlevel.in_trio_task() else self._wait_in_asyncio)()
        finally:
            self.watchers -= 1
        return {"type": "http.disconnect"}

    async def _wait_in_trio(self) -> None:
        left, token = trio.Event(), trio.lowlevel.current_trio_token()
        self._wake = partial(token.run_sync_soon, left.set)
        if not self._has_left:
            await left.wait()

    async def _wait_in_asyncio(self) -> None:
        left, loop = asyncio.Event(), asyncio.get_running_loop()
        self._wake = partial(loop.call_soon_threadsafe, left.set)
        if not self._has_left:
            await left.wait()


def in_both(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[Callable[..., object]], None]:
    """Run a test in asyncio and in Trio."""

    def run_it(run: Callable[..., object]) -> None:
        run(test) if run is trio.run else run(test())

    run_it.__name__ = test.__name__
    return pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])(run_it)


async def leave_when(began: threading.Event, client: Client) -> Any:
    """Have a client leave once a flow has begun, in a thread."""
    thread = threading.Thread(target=lambda: (began.wait(WAIT), client.leave()))
    thread.start()
    return thread


# The client of a request.


@in_both
async def test_the_result_comes_out_and_nothing_watches_any_more() -> None:
    client = Client(b"half", b"-whole")

    async def work() -> bytes:
        return await client.request.body()

    assert await rt.asgi.cancel_on_disconnect(client.request, work()) == b"half-whole"
    # The endpoint has the body, and may watch again.
    assert await client.request.body() == b"half-whole"
    assert await rt.asgi.cancel_on_disconnect(client.request, rt.Flow("n", lambda: 3, save_state=False).ainvoke()) == 3
    await pause()
    assert client.watchers == 0


@in_both
async def test_a_client_that_leaves_cancels_the_flow_and_the_endpoint_goes_on_when_it_is_cleaned_up() -> None:
    client, hanging = Client(b""), Hanging()
    thread = await leave_when(hanging.began, client)
    with pytest.raises(rt.ClientDisconnectedError, match="the client has left"):
        await rt.asgi.cancel_on_disconnect(client.request, hanging.flow.ainvoke())
    assert hanging.events == ["cleaned up"]
    thread.join()
    # The cancel is used up.
    await pause()


@in_both
async def test_if_the_client_has_left_already_nothing_begins() -> None:
    ran: list[str] = []

    async def work() -> None:
        ran.append("work")

    for client in (Client(b"", has_left=True), Client(has_left=True)):
        with pytest.raises(rt.ClientDisconnectedError):
            await rt.asgi.cancel_on_disconnect(client.request, work())
    assert ran == []


@in_both
async def test_an_error_is_the_same_object() -> None:
    error = ValueError("no")

    async def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        await rt.asgi.cancel_on_disconnect(Client(b"").request, rt.Flow("fail", fail, save_state=False).ainvoke())
    assert caught.value is error


@in_both
async def test_a_form_and_a_stream_that_were_read_whole_may_come_before() -> None:
    client = Client(b"a=", b"1", declared=3)
    assert [chunk async for chunk in client.request.stream()] == [b"a=", b"1", b""]
    assert await rt.asgi.cancel_on_disconnect(client.request, rt.Flow("n", lambda: 3, save_state=False).ainvoke()) == 3


@in_both
async def test_a_body_that_was_streamed_in_part_is_refused() -> None:
    client = Client(b"half", b"-whole", declared=10)
    stream = client.request.stream()
    assert await anext(stream) == b"half"
    flow = rt.Flow("n", lambda: 3, save_state=False)
    with pytest.raises(TypeError, match="a part of the body was streamed before"):
        await rt.asgi.cancel_on_disconnect(client.request, flow.ainvoke())
    await stream.aclose()


@in_both
async def test_a_request_has_one_watcher() -> None:
    client, hanging = Client(b""), Hanging()

    async def twice() -> None:
        await rt.asgi.cancel_on_disconnect(client.request, hanging.flow.ainvoke())

    with pytest.raises(RuntimeError, match="watched already"):
        await rt.asgi.cancel_on_disconnect(client.request, twice())
    assert hanging.events == []


@pytest.mark.parametrize("no_request", [WebSocket({"type": "websocket"}, Any, Any), object()])
async def test_what_is_no_request_is_refused(no_request: Any) -> None:
    flow = rt.Flow("n", lambda: 3, save_state=False)
    with pytest.raises(TypeError, match=rf"a request of Starlette or FastAPI, not {type(no_request).__name__}"):
        await rt.asgi.cancel_on_disconnect(no_request, flow.ainvoke())


@in_both
async def test_a_flow_that_was_not_called_says_how_to_write_it() -> None:
    client, flow = Client(b""), rt.Flow("n", lambda: 3, save_state=False)
    given: list[Any] = [flow.ainvoke, flow, 3]
    for no_awaitable in given:
        with pytest.raises(TypeError, match=r"write cancel_on_disconnect\(request, flow\.ainvoke\(\.\.\.\)\)"):
            await rt.asgi.cancel_on_disconnect(client.request, no_awaitable)
    # Nothing of it is left: the request can be given again.
    assert await rt.asgi.cancel_on_disconnect(client.request, flow.ainvoke()) == 3


async def test_a_cancel_from_outside_goes_on_in_trio() -> None:
    hanging = Hanging()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rt.asgi.cancel_on_disconnect, Client(b"").request, hanging.flow.ainvoke())
            assert await trio.to_thread.run_sync(hanging.began.wait, WAIT)
            scope.cancel()
    assert scope.cancelled_caught
    assert hanging.events == ["cleaned up"]


def test_a_cancel_from_outside_goes_before_that_of_the_client_in_asyncio() -> None:
    client, hanging = Client(b""), Hanging()

    async def main() -> None:
        work = rt.asgi.cancel_on_disconnect(client.request, hanging.flow.ainvoke())
        task = asyncio.create_task(work)
        await asyncio.to_thread(hanging.began.wait, WAIT)
        task.cancel("from outside")
        client.leave()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert hanging.events == ["cleaned up"]


def test_a_client_that_leaves_as_the_work_ends_cancels_nothing_else() -> None:
    # In the same step of the loop, in either order.
    async def main(order: int) -> str:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        left: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        messages: list[Message] = [{"type": "http.request", "body": b""}]

        async def receive() -> Message:
            return messages.pop() if messages else await asyncio.shield(left)

        async def end() -> str:
            return await ended

        def both() -> None:
            acts = [lambda: ended.set_result("result"), lambda: left.set_result({"type": "http.disconnect"})]
            for act in acts[::order]:
                act()

        asyncio.get_running_loop().call_later(0.01, both)
        request = Request({"type": "http", "headers": []}, receive)
        try:
            came = await rt.asgi.cancel_on_disconnect(request, end())
        except rt.ClientDisconnectedError:
            came = "left"
        # No cancel comes late.
        await pause()
        return came

    assert asyncio.run(main(1)) == "result"
    assert asyncio.run(main(-1)) in {"result", "left"}


# The lifespan.


def application(events: list[str]) -> Starlette:
    @asynccontextmanager
    async def own(app: Starlette) -> AsyncGenerator[None]:
        events.append("begins")
        yield
        events.append("ends")

    return Starlette(lifespan=own)


async def without_lifespan(scope: Message, receive: Any, send: Any) -> None:
    """Be an application that raises at once, as Django does."""
    raise ValueError("only HTTP")


async def with_broken_lifespan(scope: Message, receive: Any, send: Any) -> None:
    """Be an application that raises when it is to begin."""
    await receive()
    raise ValueError("only HTTP")


async def with_no_answer(scope: Message, receive: Any, send: Any) -> None:
    """Be an application that ignores its lifespan."""


def run_lifespan(app: Callable[..., Awaitable[None]], during: Callable[[], object]) -> list[str]:
    """Run the lifespan of an application as a server does, and return what the application has answered."""
    answers: list[str] = []

    async def main() -> None:
        messages = iter(["startup", "shutdown"])

        async def receive() -> Message:
            kind = next(messages)
            if kind == "shutdown":
                during()
            return {"type": f"lifespan.{kind}"}

        async def send(message: Message) -> None:
            answers.append(message["type"])

        await app({"type": "lifespan"}, receive, send)

    trio.run(main)
    return answers


COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("app", [without_lifespan, with_broken_lifespan, with_no_answer])
def test_an_application_without_a_lifespan_gets_one(app: Callable[..., Awaitable[None]]) -> None:
    before, during = signal.getsignal(signal.SIGTERM), list[object]()
    answers = run_lifespan(rt.asgi.with_lifespan(app), lambda: during.append(signal.getsignal(signal.SIGTERM)))
    assert answers == COMPLETE
    # SIGTERM was handled meanwhile.
    assert during != [before]
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_application_with_one_keeps_its_own_and_ends_after_the_flows() -> None:
    events: list[str] = []
    hanging = Hanging()

    def begin() -> None:
        thread = threading.Thread(target=run)
        thread.start()
        assert hanging.began.wait(WAIT)

    def run() -> None:
        with pytest.raises(rt.SessionCancelledError):
            hanging.flow.invoke()
        events.append("flow ends")

    assert run_lifespan(rt.asgi.with_lifespan(application(hanging.events), grace=0), begin) == COMPLETE
    assert hanging.events == ["begins", "cleaned up", "ends"]


def test_an_error_of_the_applications_own_lifespan_goes_on() -> None:
    @asynccontextmanager
    async def broken(app: Starlette) -> AsyncGenerator[None]:
        raise OSError("no database")
        yield

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(OSError, match="no database"):
        run_lifespan(rt.asgi.with_lifespan(Starlette(lifespan=broken)), list)
    assert signal.getsignal(signal.SIGTERM) is before


def test_requests_go_to_the_application() -> None:
    # The client runs the lifespan in a thread of its own, where nothing can be done about signals.
    with TestClient(rt.asgi.with_lifespan(application([]))) as client:
        assert client.get("/nothing").status_code == 404


async def test_the_lifespan_ends_the_flows_and_sigterm_begins_that() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    hanging = Hanging()

    def run() -> None:
        with pytest.raises(rt.SessionCancelledError, match="SIGTERM"):
            hanging.flow.invoke()

    async with rt.asgi.lifespan(None, grace=0):
        thread = threading.Thread(target=run)
        thread.start()
        await trio.to_thread.run_sync(hanging.began.wait, WAIT)
        signal.raise_signal(signal.SIGTERM)
        # The server's own handler: it waits for its requests now.
        assert received == [signal.SIGTERM]
        await trio.to_thread.run_sync(thread.join, WAIT)
    assert hanging.events == ["cleaned up"]
    signal.signal(signal.SIGTERM, before)


async def test_a_lifespan_leaves_a_handler_that_was_there_and_one_that_came_later() -> None:
    before = signal.getsignal(signal.SIGTERM)
    rt.shutdown_on_sigterm(0)
    async with rt.asgi.lifespan(None):
        pass
    assert signal.getsignal(signal.SIGTERM) is not before
    signal.signal(signal.SIGTERM, before)

    def later(*_: object) -> None:
        pass

    async with rt.asgi.lifespan(None):
        signal.signal(signal.SIGTERM, later)
    assert signal.signal(signal.SIGTERM, before) is later
