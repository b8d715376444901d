"""What a fake provider has seen: requests, and clients that left. Read by tests, in any thread and any Trio run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import trio
from attrs import frozen

from railtracks.llm._data import ModelRequest


@frozen(eq=False)
class FakeRequest:
    """A request that a fake provider has got.

    Attributes:
        provider: The provider whose interface was spoken: `"openai"`, `"anthropic"`, `"google"`, `"groq"`.
        path: The path, with the query.
        headers: The headers; their names are in lower case.
        body: The JSON.
        model_request: What the model was asked, read from the JSON; `None` if that was not possible.
        refused: Why it was answered 400, 401 or 404; `None` if it was not.
    """

    provider: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    model_request: ModelRequest | None
    refused: str | None


@frozen(eq=False)
class ClientLeft:
    """A client that left before its answer was complete.

    Attributes:
        request: Its request.
        monotonic: When, by `time.monotonic()`.
        trio_time: When, by the clock of the Trio run of `async with`; `None` if the provider has a thread of its own.
    """

    request: FakeRequest
    monotonic: float
    trio_time: float | None


class Seen:
    """The lists, and the tasks that wait for them to grow."""

    def __init__(self) -> None:
        self.requests: list[FakeRequest] = []
        self.left: list[ClientLeft] = []
        self._waiting: list[tuple[trio.lowlevel.TrioToken, trio.lowlevel.ParkingLot]] = []

    def add(self, request: FakeRequest) -> None:
        """Add a request."""
        self.requests.append(request)
        self._wake()

    def leave(self, request: FakeRequest, *, with_trio_time: bool) -> None:
        """Add a client that has left."""
        self.left.append(ClientLeft(request, time.monotonic(), trio.current_time() if with_trio_time else None))
        self._wake()

    async def until(self, is_reached: Callable[[], bool]) -> None:
        """Wait until something holds of the lists."""
        waiter = trio.lowlevel.current_trio_token(), trio.lowlevel.ParkingLot()
        self._waiting.append(waiter)
        try:
            # What the thread of the server adds after the look wakes this task after it has parked.
            while not is_reached():
                await waiter[1].park()
        finally:
            self._waiting.remove(waiter)
        await trio.lowlevel.checkpoint()

    def _wake(self) -> None:
        for token, parked in tuple(self._waiting):
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(parked.unpark_all)


def parsed_body(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request; an empty one where it is none."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
